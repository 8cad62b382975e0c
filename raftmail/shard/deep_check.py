"""Reading everything of a replica as it stood at one entry of the log, while it goes on."""

from __future__ import annotations

from collections.abc import Callable

from raftmail.resync.verify import DeepDigest, DeepVerify, Listing, listing
from raftmail.storage.index import Index

STEP_ROWS = 2048
STEP_BYTES = 1 << 20
FORGOTTEN_S = 120.0
"""When nobody has asked for so long, the reading is given up: it keeps the index from using space
again."""


class _Reader:
    """The bodies, for `DeepVerify`; a bad one is noted as missing by whoever reads it here."""

    def __init__(self, read: Callable[[bytes], bytes]) -> None:
        self.get = read


class DeepReading:
    """One for each deep mark. `index` is its place in the log, at which the index was just
    committed. `failed` tells why the reading has no result and never will: a record that it needs
    is damaged; "": it has, or may have."""

    def __init__(
        self, source: Index, index: int, read: Callable[[bytes], bytes], now: float
    ) -> None:
        self.index = index
        self.asked_at = now
        self.closed = False
        self.failed = ""
        self._source = source
        self._snapshot = source.engine.snapshot()
        self._work = DeepVerify(self._snapshot, _Reader(read))
        self._done = False

    @property
    def reads(self) -> bool:
        """Whether there is more to read."""
        return not (self.closed or self._done)

    def step(self, now: float) -> None:
        """Read a bounded part. Raises `DiskError`, with which the reading ends."""
        if self.closed:
            return
        if now - self.asked_at > FORGOTTEN_S:
            self.close()
        elif not self._done:
            try:
                self._done = self._work.step(STEP_ROWS, STEP_BYTES)
            except Exception as e:
                self.failed = str(e)
                self.close()
                raise

    def result(self, now: float) -> DeepDigest | None:
        """None while it is read. Bodies that no message has any more are not missed."""
        self.asked_at = now
        found = self._work.result
        if found is None or not found.bad_bodies:
            return found
        bad = tuple(d for d in found.bad_bodies if self._source.references(d))
        return DeepDigest(
            found.applied_index,
            found.digest,
            found.tables,
            found.mailboxes,
            found.bodies,
            found.body_bytes,
            bad,
        )

    def listing(self, now: float, number: int, from_uid: int) -> Listing:
        """A page of what was in a mailbox. Raises RuntimeError when the reading was given up."""
        if self.closed:
            raise RuntimeError("the deep reading was given up")
        self.asked_at = now
        return listing(self._snapshot, number, from_uid)

    def close(self) -> None:
        """Give the snapshot back."""
        if not self.closed:
            self.closed = True
            self._snapshot.close()
