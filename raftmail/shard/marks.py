"""What a replica does at a mark of the log: note its digest, and at a deep one begin to read
everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raftmail.shard.deep_check import DeepReading
from raftmail.shard.frames import DEEP_MARK
from raftmail.shard.machine import Machine
from raftmail.storage.blobs import BlobStore

MARKS_MAX = 16


@dataclass(slots=True, repr=False)
class Marks:
    """`digests` are those at the last marks, by index; `deep` is the last deep reading. Marks up to
    `begun_at`, which the log had at the start already, begin none: nobody waits for it."""

    machine: Machine
    blobs: BlobStore
    read: Callable[[bytes], bytes]
    begun_at: int = 0
    digests: dict[int, bytes] = field(default_factory=dict)
    deep: DeepReading | None = None

    def applied(self, now: float, index: int, payload: bytes) -> None:
        """The state is that of a mark. Raises `DiskError`."""
        digests = self.digests
        digests[index] = self.machine.index.digest()
        while len(digests) > MARKS_MAX:
            del digests[next(iter(digests))]
        if payload == DEEP_MARK and index > self.begun_at:
            self.close()
            # What is read is what was committed.
            self.blobs.place_pending()
            self.machine.commit(sync=False)
            self.deep = DeepReading(self.machine.index, index, self.read, now)

    @property
    def reads(self) -> bool:
        """Whether `step` has something to do."""
        return self.deep is not None and self.deep.reads

    def step(self, now: float) -> None:
        """Read a bounded part, if there is something to read. Raises `DiskError`."""
        if self.deep is not None:
            self.deep.step(now)

    def close(self) -> None:
        """End the reading."""
        if self.deep is not None:
            self.deep.close()
            self.deep = None
