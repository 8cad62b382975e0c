"""What syncs of this node's disk take: whether it is slow, or hangs, and telling so.

Syncs are made by the loop and by several threads; `note` is told when one begins and ends. A thread
of its own looks every half second. So a hang is in the log also while the loop itself waits for the
disk. All replicas of a node share the disk: `ReplicaTable` marks them when it is slow, and those
that lead hand over (`shard.status`).
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from raftmail.admin.api.status import DiskStatus

logger = logging.getLogger(__name__)

HANG_S = 0.8
"""A sync that takes longer than the longest election timeout makes the disk a slow one at once."""

SLOW_S = 0.25
"""So does a median of the last syncs above this."""

RECENT = 16
"""The last syncs, by which the disk is called slow or not."""

KEPT = 512
"""Syncs that percentiles are made of."""

CALM_S = 30.0
"""How long nothing must have been slow before the disk is one like any other again."""

LOOK_S = 0.5


@dataclass(slots=True, repr=False)
class DiskWatch:
    """`what` names the disk in the log; `clock` gives seconds."""

    what: str
    clock: Callable[[], float]
    slow: bool = False
    _took: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=KEPT))
    """When each of the last syncs ended, and what it took."""

    _under_way: dict[int, float] = field(default_factory=dict)
    _next: int = 0
    _told: int = -1
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> int:
        """A sync begins; the number to tell its end by. From any thread."""
        self._next = number = self._next + 1
        self._under_way[number] = self.clock()
        return number

    def end(self, number: int) -> None:
        """A sync has ended, well or not."""
        began = self._under_way.pop(number, None)
        if began is not None:
            now = self.clock()
            self._took.append((now, now - began))

    def hangs_s(self) -> float:
        """How long the oldest sync is under way; 0.0: none is."""
        began = min(list(self._under_way.values()), default=None)
        return 0.0 if began is None else self.clock() - began

    def look(self) -> bool:
        """Whether the disk is slow now: something hangs, or has lately, or the median of the last
        syncs is too long."""
        now = self.clock()
        lately = sorted(s for at, s in list(self._took)[-RECENT:] if now - at < CALM_S)
        slow = self.hangs_s() >= HANG_S
        if lately:
            slow = slow or lately[-1] >= HANG_S or lately[len(lately) // 2] >= SLOW_S
        if slow and not self.slow:
            logger.error(
                "%s is slow: %s; no replica here leads while another can", self.what, self.text()
            )
        elif self.slow and not slow:
            logger.warning("%s is not slow any more", self.what)
        self.slow = slow
        return slow

    def status(self) -> DiskStatus:
        """Milliseconds of the last syncs: median, 99th percentile, the last one; and of the one
        that is under way."""
        latest = [took_s for _, took_s in list(self._took)]
        took = sorted(latest)
        last_s = latest[-1] if took else 0.0
        return DiskStatus(
            slow=self.slow,
            sync_p50_ms=_ms(took[len(took) // 2]) if took else 0.0,
            sync_p99_ms=_ms(took[len(took) * 99 // 100]) if took else 0.0,
            sync_last_ms=_ms(last_s),
            sync_under_way_ms=_ms(self.hangs_s()),
        )

    def text(self) -> str:
        """The same in words."""
        found = self.status()
        hangs = f"a sync has been under way for {found.sync_under_way_ms:.0f} ms; "
        return (hangs if found.sync_under_way_ms >= 1000 * HANG_S else "") + (
            f"syncs take {found.sync_p50_ms:.0f} ms (median), {found.sync_p99_ms:.0f} ms (99 %), "
            f"the last one took {found.sync_last_ms:.0f} ms"
        )

    # -- the thread --------------------------------------------------------------------------------

    def start(self) -> None:
        """Look at hangs from a thread of its own, too."""
        self._thread = threading.Thread(target=self._watch, name="disk", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            oldest = min(list(self._under_way), default=-1)
            if oldest >= 0 and oldest != self._told and self.hangs_s() >= HANG_S:
                self._told = oldest
                logger.error(
                    "%s hangs: a sync has been under way for %.1f s", self.what, self.hangs_s()
                )


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
