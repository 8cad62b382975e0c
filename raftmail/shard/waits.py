"""Those who wait for an entry to be applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Done = Callable[[bool], None]


@dataclass(slots=True, repr=False)
class Waits:
    """Each is called once: `True` when it is so far, `False` when it is given up."""

    _waiting: list[tuple[int, Done]] = field(default_factory=list)

    def add(self, index: int, done: Done) -> None:
        self._waiting.append((index, done))

    def forget(self, done: Done) -> None:
        """Whoever waited gave up; `done` is not called."""
        self._waiting = [wait for wait in self._waiting if wait[1] is not done]

    def give_up(self) -> None:
        """`done(False)` for all."""
        waits, self._waiting = self._waiting, []
        for _, done in waits:
            done(False)

    def release(self, applied: int) -> None:
        """`done(True)` for all whose entry is applied."""
        if not self._waiting:
            return
        ready = [done for index, done in self._waiting if index <= applied]
        if ready:
            self._waiting = [wait for wait in self._waiting if wait[0] > applied]
            for done in ready:
                done(True)
