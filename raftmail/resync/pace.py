"""Rates: how fast to send, how long to wait before the next try, how fast it goes."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp


class TokenBucket:
    """Lets `rate` bytes a second through, and `burst` at once. What is taken may go beyond what is
    there: then nothing is let through until that is paid."""

    def __init__(self, rate_bytes_s: int, burst_bytes: int) -> None:
        self.rate_bytes_s = rate_bytes_s
        self._burst = float(burst_bytes)
        self._tokens = float(burst_bytes)
        self._filled = 0.0

    def ready(self, now: float) -> bool:
        """Whether something may be taken now."""
        if self.rate_bytes_s <= 0:
            return True
        if now == self._filled:
            return self._tokens > 0
        passed = max(now - self._filled, 0.0)
        self._filled = now
        self._tokens = min(self._burst, self._tokens + passed * self.rate_bytes_s)
        return self._tokens > 0

    def take(self, size_bytes: int) -> None:
        self._tokens -= size_bytes

    def wait_s(self) -> float:
        """How long after the last `ready` it will be so again."""
        if self.rate_bytes_s <= 0 or self._tokens > 0:
            return 0.0
        return (1.0 - self._tokens) / self.rate_bytes_s


@dataclass(slots=True, repr=False)
class Schedule:
    """Evenly through so many rows within a period: how many are to be done by when."""

    period_s: float
    began: float
    rows: int
    done: int = 0

    def due_at(self) -> float:
        """When the next row is late. All are to be done when the period ends, also those that came
        in the meantime."""
        part = self.done / self.rows if self.done < self.rows else 1.0
        return self.began + self.period_s * part


class Backoff:
    """Twice as long after every failure in a row, up to a limit."""

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._next_s = self._before_s = first_s

    def failed(self, now: float) -> float:
        """When to try again."""
        at = now + self._next_s
        self._before_s = self._next_s
        self._next_s = min(self._next_s * 2, self._max_s)
        return at

    def shorten(self, most_s: float) -> None:
        """Do not let the next wait be longer than this."""
        self._next_s = min(self._next_s, most_s)

    def take_back(self) -> None:
        """The last failure was none."""
        self._next_s = self._before_s

    def succeeded(self) -> None:
        self._next_s = self._first_s


class Meter:
    """A rate that forgets what is older than some ten seconds."""

    _FORGET_S = 10.0

    def __init__(self, now: float) -> None:
        self._began = self._at = now
        self._weighted = 0.0

    def add(self, now: float, amount: float) -> None:
        self._weighted = self._weighted * exp(-max(now - self._at, 0.0) / self._FORGET_S) + amount
        self._at = now

    def rate(self, now: float) -> float:
        """Per second."""
        age_s = max(now - self._began, 0.0)
        weight = self._FORGET_S * (1.0 - exp(-age_s / self._FORGET_S))
        decayed = self._weighted * exp(-max(now - self._at, 0.0) / self._FORGET_S)
        return decayed / weight if weight > 0 else 0.0
