"""Simulated time: events in order, one source of chance, and a trace that is the same for the same
seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from zlib import crc32

Event = Callable[[], None]


class World:
    """`now` is seconds. What is random in a run comes from `rng`, or from generators seeded by
    it."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.now = 0.0
        self.rng = random.Random(seed)
        self.events = 0
        self.reached: Counter[str] = Counter()
        """How often what runs are made for came about: a simulator that stops reaching something
        must not go on looking well."""
        self._crc = 0
        self._verbose = verbose
        self._heap: list[tuple[float, int, Event]] = []
        self._count = 0

    def at(self, when: float, event: Event) -> None:
        """Have something happen at `when`; what was asked for first comes first."""
        self._count += 1
        heappush(self._heap, (when, self._count, event))

    def after(self, delay: float, event: Event) -> None:
        self._count += 1
        heappush(self._heap, (self.now + delay, self._count, event))

    def run_until(self, end: float) -> None:
        heap = self._heap
        events = 0
        try:
            while heap and heap[0][0] <= end:
                self.now, _, event = heappop(heap)
                events += 1
                event()
        finally:
            self.events += events
        self.now = end

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    # -- the trace

    def log(self, what: object) -> None:
        """Something worth reading when a failure is replayed: only then it is made a text, and its
        moment alone belongs to the trace."""
        self._crc = crc32(repr(self.now).encode(), self._crc)
        if self._verbose:
            print(f"{self.now:9.4f}  {what}")

    def note(self, data: bytes) -> None:
        """Something that belongs to the trace, and is not worth a line."""
        self._crc = crc32(data, self._crc)

    @property
    def trace(self) -> str:
        """Changes when anything in the run does."""
        return f"{self._crc:08x}-{self.events}-{self._count}"
