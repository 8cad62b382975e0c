"""Bodies that other replicas have asked for: which is given next, and when.

Many replicas of a node may be asked for much at once. Another node comes back, and lacks what all
of them stored meanwhile. So nothing is read that cannot be sent. A long body is read when its asker
has acknowledged what it was sent before, a short one while the link has little to send. Meanwhile
who asked is told that it comes (`FrameKind.SOON`), and asks nobody else.

Invariants:

1. A node has a body on this list once, and at most `ASKED_MAX` short and long ones each.
2. A long body is read once each time that it is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from raftmail.shard.bodies import DIGEST_BYTES, BadBodies, Bodies
from raftmail.shard.frames import Frame, FrameKind
from raftmail.shard.streams import Streams
from raftmail.storage.blobs import BlobDamaged, BlobMissing
from raftmail.storage.longread import LongRead

ASKED_MAX: Final = 4096
"""Bodies that one node waits for, of one shard; more are not noted, and asked for again."""

_INDEX_BYTES: Final = 8


@dataclass(slots=True, repr=False)
class Lending:
    """`_short` and `_long` are what is to be given, by node and in the order of asking, with the
    lengths in bytes."""

    bodies: Bodies
    streams: Streams
    _short: dict[str, dict[bytes, int]] = field(default_factory=dict)
    _long: dict[str, dict[bytes, int]] = field(default_factory=dict)
    _reading: tuple[str, LongRead] | None = None

    def __bool__(self) -> bool:
        return bool(self._short or self._long)

    @property
    def has_short(self) -> bool:
        """Whether `give` has something to do, once links have room."""
        return bool(self._short)

    def ask(self, now: float, node: str, payload: bytes, applied_index: int) -> list[Frame]:
        """Answer a replica that asks for bodies: with short ones that are here, and with the names
        of those that come later. Also with those of bodies that no message has any more at
        `applied_index` (0: the index here does not tell). Raises `BadBodies`."""
        hashes_max = self.bodies.limits.want_hashes_max
        if len(payload) % DIGEST_BYTES or len(payload) > DIGEST_BYTES * hashes_max:
            raise BadBodies("a request for bodies of the wrong length")
        hashes = [payload[at : at + DIGEST_BYTES] for at in range(0, len(payload), DIGEST_BYTES)]
        on_their_way = {digest for digest in hashes if self.streams.is_sending(now, node, digest)}
        gone = [h for h in hashes if h not in on_their_way and not self._note(node, h)]
        frames = self.give()
        soon = [h for h in hashes if h in on_their_way or self._has(node, h)]
        if soon:
            frames.append((node, FrameKind.SOON, tuple(soon)))
        if gone and applied_index:
            told = (applied_index.to_bytes(_INDEX_BYTES, "big"), *gone)
            frames.append((node, FrameKind.GONE, told))
        return frames

    def _note(self, node: str, digest: bytes) -> bool:
        """A node asks for a body. False: no message has it any more."""
        bodies = self.bodies
        try:
            size = bodies.store.size_of(digest)
        except (BlobMissing, BlobDamaged) as e:
            return bodies.cannot_give(digest, e)
        long = size >= bodies.limits.long_bytes_min
        asked = (self._long if long else self._short).setdefault(node, {})
        if len(asked) < ASKED_MAX:
            asked[digest] = size
        return True

    def _has(self, node: str, digest: bytes) -> bool:
        return digest in self._short.get(node, ()) or digest in self._long.get(node, ())

    def give(self) -> list[Frame]:
        """Of the short bodies that were asked for, so many as may be given in one step."""
        frames: list[Frame] = []
        for node, digest in self._next_short():
            try:
                body = self.bodies.store.get(digest)
            except (BlobMissing, BlobDamaged) as e:
                self.bodies.cannot_give(digest, e)
            else:
                frames.append((node, FrameKind.BLOB, (digest, body)))
        return frames

    def _next_short(self) -> Iterator[tuple[str, bytes]]:
        """Take short bodies off the list, of nodes whose links have room."""
        left = self.bodies.limits.give_bytes_max
        for node, asked in list(self._short.items()):
            while asked and left > 0 and self.streams.memory.has_room(node):
                digest = next(iter(asked))
                left -= asked.pop(digest)
                yield node, digest
            if not asked:
                del self._short[node]

    def begin_read(self, now: float) -> LongRead | None:
        """To be called after each `Replica.advance`: a long body to be read for who asked for it,
        whose `run` may be called in another thread; `end_read` then."""
        while self._reading is None:
            found = self._next_long(now)
            if found is None:
                return None
            node, digest = found
            try:
                self._reading = node, self.bodies.store.begin_read(digest)
            except (BlobMissing, BlobDamaged) as e:
                self._not_read(node, digest, e)
            else:
                return self._reading[1]
        return None

    def _next_long(self, now: float) -> tuple[str, bytes] | None:
        """Take a long body off the list whose node has room for it."""
        for node, asked in self._long.items():
            digest, size = next(iter(asked.items()))
            if self.streams.begin_sending(now, node, digest, size):
                self.drop(node, digest)
                return node, digest
        return None

    def end_read(self, now: float) -> list[Frame]:
        """The call from `begin_read` has returned: the body, if its node still waits for it."""
        assert self._reading is not None
        (node, job), self._reading = self._reading, None
        digest = job.header.digest
        if not self.streams.is_sending(now, node, digest):
            return []
        try:
            body = self.bodies.store.end_read(job)
        except BlobDamaged as e:
            self._not_read(node, digest, e)
            return []
        return [(node, FrameKind.BODY, (digest, body))]

    def _not_read(self, node: str, digest: bytes, error: BlobMissing | BlobDamaged) -> None:
        self.streams.not_sent(node, digest)
        self.bodies.cannot_give(digest, error)

    def drop(self, node: str, digest: bytes) -> None:
        """A node needs a body no more."""
        for lists in (self._short, self._long):
            asked = lists.get(node)
            if asked is not None:
                asked.pop(digest, None)
                if not asked:
                    del lists[node]

    def disconnected(self, node: str) -> None:
        """It asks again when there is a link."""
        self._short.pop(node, None)
        self._long.pop(node, None)
