"""Fetching the bodies that are missing: what somebody waits for first, then the newest.

A body stays in the list of missing ones until it is on stable storage.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from hashlib import sha256

from raftmail.resync import requests as r
from raftmail.resync.limits import ResyncLimits
from raftmail.resync.missing import AWAITED_US, Missing
from raftmail.resync.requests import HASHES_MAX, RequestKind
from raftmail.resync.source import BodySource
from raftmail.resync.survey import BLOCKED, WORKED, NotAsAsked, SurveyRequest, Task
from raftmail.storage.blobs import BlobError
from raftmail.storage.index import Index

AWAITED_MAX = 4096
UNAVAILABLE_MAX = 65_536
"""Bodies that a peer does not have; with more it is no source."""

_PAGE = 256


class BodyFetch:
    """Of one sink. `unavailable` takes what the source of the session does not have;
    `received_bytes` counts from the start."""

    def __init__(
        self,
        index: Index,
        bodies: BodySource,
        missing: Missing,
        unavailable: set[bytes],
        limits: ResyncLimits,
    ) -> None:
        self.received_bytes = 0
        self._index = index
        self._bodies = bodies
        self._missing = missing
        self._unavailable = unavailable
        self._limits = limits
        self._awaited: deque[bytes] = deque()
        self._ready: deque[tuple[bytes, int]] = deque()
        self._arrived: deque[tuple[bytes, int]] = deque()
        self.unsynced_bytes = 0
        self._in_flight: set[bytes] = set()
        self._in_flight_bytes = 0
        self._cursor = b""
        self._added = -1
        self._dirty = False

    def want(self, digest: bytes, size_bytes: int) -> None:
        """Fetch this one before all others."""
        self._missing.add(digest, size_bytes, AWAITED_US)
        if len(self._awaited) < AWAITED_MAX and digest not in self._awaited:
            self._awaited.append(digest)

    def begin(self) -> list[Task]:
        """The tasks of a session."""
        self.end()
        return [self._fetch() for _ in range(self._limits.bodies_parallel)]

    def end(self) -> None:
        """The session is over."""
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._ready.clear()
        self._cursor = b""

    def settle(self) -> None:
        """Take what is on stable storage by now from the list. A body that is gone before it was is
        looked at again instead of being waited for. (It was given back, since no message has it any
        more, or damaged.)
        """
        settled = []
        bodies = self._bodies
        while self._arrived:
            digest, size = self._arrived[0]
            if bodies.durable(digest):
                settled.append(digest)
            elif bodies.has(digest):
                break
            else:
                self._added = -1
            self._arrived.popleft()
            self.unsynced_bytes -= size
        if settled:
            self._missing.remove_many(settled)
            self._dirty = True

    def take_dirty(self) -> bool:
        """Whether the open transaction has changes of the list."""
        dirty, self._dirty = self._dirty, False
        return dirty

    def _fetch(self) -> Task:
        limits = self._limits
        while True:
            while (
                self.unsynced_bytes > limits.bodies_unsynced_bytes_max
                or self._in_flight_bytes >= limits.bodies_in_flight_bytes_max
            ):
                yield BLOCKED
            batch = self._batch()
            if not batch:
                if not self._in_flight and not self._arrived:
                    return
                yield BLOCKED
                continue
            yield WORKED
            hashes = [digest for digest, _ in batch]
            answer: tuple[bytes | None, ...] = yield SurveyRequest(
                RequestKind.BODIES,
                r.encode_hashes(hashes),
                partial(r.decode_bodies, most=len(batch)),
            )
            self._in_flight.difference_update(hashes)
            self._in_flight_bytes -= sum(size for _, size in batch)
            for (digest, size), body in zip(batch, answer, strict=False):
                self._take(digest, size, body)
            self._ready.extendleft(reversed(batch[len(answer) :]))
            yield WORKED

    def _take(self, digest: bytes, size: int, body: bytes | None) -> None:
        if body is None:
            self._unavailable.add(digest)
            if len(self._unavailable) > UNAVAILABLE_MAX:
                raise NotAsAsked("the source lacks too many bodies itself")
            return
        if len(body) != size or sha256(body).digest() != digest:
            raise NotAsAsked(f"a body is not the one of {digest.hex()} that was asked for")
        try:
            self._bodies.append(digest, body)
        except BlobError as e:
            raise NotAsAsked(str(e)) from e
        self.received_bytes += size
        self.unsynced_bytes += size
        self._arrived.append((digest, size))

    def _batch(self) -> list[tuple[bytes, int]]:
        """The next to ask for, of about `body_request_bytes`."""
        batch: list[tuple[bytes, int]] = []
        size = 0
        while len(batch) < HASHES_MAX and size < self._limits.body_request_bytes:
            found = self._next()
            if found is None:
                break
            batch.append(found)
            size += found[1]
            self._in_flight.add(found[0])
            self._in_flight_bytes += found[1]
        return batch

    def _next(self) -> tuple[bytes, int] | None:
        while self._awaited:
            digest = self._awaited.popleft()
            if self._is_free(digest) and self._missing.has(digest) and not self._bodies.has(digest):
                return digest, self._missing.size_of(digest)
        if self._added != self._missing.added:
            # Newer ones may stand before those that were looked at last.
            self._added = self._missing.added
            self._cursor = b""
            self._ready.clear()
        while True:
            while self._ready:
                digest, size = self._ready.popleft()
                if self._is_free(digest):
                    return digest, size
            page = self._missing.page(self._cursor, _PAGE)
            if not page:
                return None
            self._cursor = page[-1].rank
            for item in page:
                if self._bodies.has(item.digest):
                    self._arrived.append((item.digest, 0))  # it came another way
                elif self._is_free(item.digest) and not self._is_over(item.digest):
                    self._ready.append((item.digest, item.size_bytes))

    def _is_free(self, digest: bytes) -> bool:
        return digest not in self._in_flight and digest not in self._unavailable

    def _is_over(self, digest: bytes) -> bool:
        """No message has this body any more."""
        if self._index.references(digest):
            return False
        self._missing.remove(digest)
        self._dirty = True
        return True
