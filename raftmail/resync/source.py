"""The end that has what the other lacks: answers the requests of one sink from a snapshot.

Invariants: answers leave in the order of the requests. Nothing that was asked is remembered but the
snapshot and the requests that wait. A request that is not as it should be ends the session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Protocol

from raftmail.mail.packing import CodecError
from raftmail.mail.uidset import STAR
from raftmail.resync import requests as r
from raftmail.resync.frames import Decoder, Encoder, Link
from raftmail.resync.limits import ResyncError, ResyncLimits
from raftmail.resync.pace import TokenBucket
from raftmail.resync.ranges import cut, digest_of, rows_in
from raftmail.resync.requests import ANSWER, RequestKind
from raftmail.storage.blobs import BlobDamaged, BlobMissing
from raftmail.storage.disk import DiskError
from raftmail.storage.index import Index, digested, membership_in
from raftmail.storage.kv import PAGE_ROWS, Row, Snapshot, Tables
from raftmail.storage.records import (
    CHANGE_KEY,
    EXPUNGE_KEY,
    MESSAGE_BODY,
    MESSAGE_KEY,
    IndexDamaged,
    unpack_message,
    unseal,
    unseal_packed,
)

SMALL = (
    "subscriptions",
    "acls",
    "sharers",
    "seen",
    "annotations",
    "scripts",
    "users",
    "config",
    "clients",
    "deliveries",
    "delivered",
    "dates",
)
"""Tables that every resync compares and carries, row by row."""

COMPARED = ("mailboxes", *SMALL, "messages", "blobrefs")
"""Tables that can be asked for by ranges."""

_REQUEST_BYTES_MAX = 1 << 20
_ASIDE = frozenset((RequestKind.PROBE,))


class BodySource(Protocol):
    """The blob store, as a resync sees it."""

    @property
    def total_bytes(self) -> int: ...
    def has(self, digest: bytes) -> bool: ...
    def durable(self, digest: bytes) -> bool: ...
    def get(self, digest: bytes) -> bytes: ...
    def append(self, digest: bytes, body: bytes) -> bool: ...


class ShardDigest:
    """`Index.digest` of a view, in steps."""

    def __init__(self, tables: Tables, state: tuple[int, int, int, int]) -> None:
        applied, _, next_mailbox, last_uidvalidity = state
        self._hash = blake2b(digest_size=16)
        self._hash.update(b"%d %d %d" % (applied, next_mailbox, last_uidvalidity))
        self._rows = digested(tables)

    def step(self, rows: int) -> bytes | None:
        """Look at so many rows more; the digest, when there are no more."""
        update = self._hash.update
        for key, record in self._rows:
            update(b"%d %d " % (len(key), len(record)))
            update(key)
            update(record)
            rows -= 1
            if rows <= 0:
                return None
        return self._hash.digest()


def state_of(tables: Tables) -> tuple[int, int, int, int]:
    """Applied index, applied term, next mailbox, last UIDVALIDITY. Raises `IndexDamaged`."""
    record = tables.table("meta").get(b"state")
    if record is None:
        return 0, 0, 1, 0
    try:
        applied, term, following, uidvalidity = unseal_packed("meta", b"state", record)
    except (TypeError, ValueError) as e:
        raise IndexDamaged("meta", b"state", str(e)) from None
    return applied, term, following, uidvalidity


class Source:
    """One session with one sink. The caller gives it the sink's frames and takes its own; frames
    leave at the rate that `bucket` allows."""

    def __init__(
        self,
        index: Index,
        bodies: BodySource,
        link: Link,
        session: int,
        bucket: TokenBucket,
        unfit: Callable[[bool], str],
        now: float,
        limits: ResyncLimits | None = None,
    ) -> None:
        """`unfit` tells why this replica is no source of records; "": it is.

        It is asked of a sink that one serves that lacks bodies, or of one that it does not.
        """
        self.link = link
        self.session = session
        self.closed = False
        self.sent_bytes = 0
        self.damaged: list[bytes] = []
        self._index = index
        self._bodies = bodies
        self._limits = limits or ResyncLimits()
        self._unfit = unfit
        self._bucket = bucket
        self._decoder = Decoder(link, session, _REQUEST_BYTES_MAX, _ASIDE)
        self._encoder = Encoder(link, session)
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._sending: Iterator[bytes] = iter(())
        self._frames: list[bytes] = []
        self._snapshot: Snapshot | None = None
        self._state = (0, 0, 1, 0)
        self._digest: ShardDigest | None = None
        self._greeted = False
        self._heard = now

    # -- the caller's side ----------------------------------------------------------------------

    def receive(self, now: float, frame: bytes) -> None:
        """Take a frame of the sink. Raises `ResyncError`, having told the sink and closed the
        session."""
        if self.closed:
            return
        self._heard = now
        try:
            message = self._decoder.feed(frame)
            if message is None:
                return
            if message[0] == RequestKind.PROBE:
                self._frames.append(self._encoder.aside(ANSWER + RequestKind.PROBE, b""))
                return
            if len(self._waiting) >= self._limits.requests_max:
                raise self.link.error(f"more than {self._limits.requests_max} requests wait")
            if (message[0] == RequestKind.HELLO) == self._greeted:
                raise self.link.error("a session begins with one greeting")
            self._greeted = True
            self._waiting.append(message)
        except ResyncError as e:
            self.refuse(e.what, elsewhere=False)
            raise

    def step(self, now: float, room_bytes: int) -> bool:
        """Answer, until about `room_bytes` of frames, or a step's bound, are made. Whether there is
        more to do as soon as there is room. Raises `ResyncError`, having told the sink and closed
        the session."""
        if self.closed:
            return False
        if now - self._heard > self._limits.silence_s:
            error = self.link.error(f"the sink said nothing for {self._limits.silence_s} s")
            self.refuse(error.what)
            raise error
        room = min(room_bytes, self._limits.step_bytes)
        while room > 0:
            if not self._bucket.ready(now):
                return True
            frame = next(self._sending, None)
            if frame is not None:
                self._bucket.take(len(frame))
                self.sent_bytes += len(frame)
                room -= len(frame)
                self._frames.append(frame)
                continue
            if self.closed or not self._waiting:
                return False
            room -= self._answer_first()
        return True

    def take_frames(self) -> list[bytes]:
        frames, self._frames = self._frames, []
        return frames

    def refuse(self, why: str, *, elsewhere: bool = True) -> None:
        """Tell the sink why there can be no session (any more), and whether another source may do;
        end it."""
        payload = r.encode_refusal(why, elsewhere=elsewhere)
        self._frames.append(self._encoder.aside(ANSWER + RequestKind.REFUSED, payload))
        self.close()

    @property
    def applied_index(self) -> int:
        """Of the snapshot; 0 when there is none."""
        return self._state[0] if self._snapshot is not None else 0

    def close(self) -> None:
        """Give the snapshot back. Frames that were made may still be taken."""
        self.closed = True
        self._waiting.clear()
        self._sending = iter(())
        self._release()

    # -- answers --------------------------------------------------------------------------------

    def _answer_first(self) -> int:
        """Answer the first request; what it took of the step's bytes beside what it sends."""
        kind, payload = self._waiting[0]
        try:
            answer = self._answer(kind, payload)
        except CodecError as e:
            error = self.link.error(f"a request of kind {kind} cannot be decoded: {e}")
            self.refuse(error.what, elsewhere=False)
            raise error from None
        except _Refused as e:
            self.refuse(str(e))
            return 0
        except DiskError as e:
            self.refuse(f"the source cannot read: {e}")
            raise self.link.error(str(e)) from e
        if answer is None:
            return self._limits.step_bytes // 4
        self._waiting.popleft()
        self._sending = self._encoder.frames(ANSWER + kind, answer)
        if kind == RequestKind.BYE:
            self._frames.extend(self._sending)
            self.close()
        return len(answer) // 8

    def _answer(self, kind: int, payload: bytes) -> bytes | None:
        if kind == RequestKind.HELLO:
            return self._hello(r.decode_hello(payload))
        if kind == RequestKind.BODIES:
            return self._give_bodies(r.decode_hashes(payload))
        if kind == RequestKind.BYE:
            return b""
        tables = self._snapshot
        if tables is None:
            raise CodecError("records are asked for in a session without a snapshot")
        if kind == RequestKind.CUT:
            return self._cut(tables, r.decode_cut(payload))
        if kind == RequestKind.ROWS:
            return self._rows(tables, r.decode_fetch(payload))
        if kind == RequestKind.EXPUNGES:
            return self._expunges(tables, r.decode_expunges(payload))
        if kind == RequestKind.CHANGES:
            return self._changes(tables, r.decode_changes(payload))
        if kind == RequestKind.SUMMARIES:
            return self._summaries(tables, r.decode_summaries(payload))
        if kind == RequestKind.DIGEST:
            if self._digest is None:
                self._digest = ShardDigest(tables, self._state)
            return self._digest.step(self._limits.step_rows)
        if kind == RequestKind.RELEASE:
            self._release()
            return b""
        raise CodecError(f"{kind} is no kind of request")

    def _hello(self, hello: r.ResyncHello) -> bytes:
        if not hello.records:
            return r.encode_accepted(r.Accepted(0, 0, 1, 0, 0, 0))
        why = self._unfit(hello.lacking_serves)
        if why:
            raise _Refused(f"this replica is no source: {why}")
        if self._index.committed_index < hello.applied_index <= self._index.applied_index:
            self._index.commit(sync=False)  # what is read is what was committed
        self._snapshot = self._index.engine.snapshot()
        self._state = state = state_of(self._snapshot)
        if state[0] < hello.applied_index:
            raise _Refused(
                f"this replica stands at {state[0]}, behind the {hello.applied_index} of the one "
                "that asks"
            )
        if state[0] == hello.applied_index and not hello.equal_serves:
            raise _Refused(f"both replicas stand at {state[0]}")
        mailboxes, messages = (
            self._snapshot.table(name).count() for name in ("mailboxes", "messages")
        )
        at, membership = membership_in(self._snapshot) or (0, b"")
        return r.encode_accepted(r.Accepted(*state, mailboxes, messages, at, membership))

    def _cut(self, tables: Tables, cut_: r.Cut) -> bytes:
        table = tables.table(_compared(cut_.table))
        pieces, whole, at = cut(table, cut_.ranges, cut_.piece_rows, self._limits.step_rows)
        return r.encode_pieces(r.Pieces(tuple(pieces), whole, at))

    def _rows(self, tables: Tables, fetch: r.Fetch) -> bytes:
        name = _compared(fetch.table)
        table = tables.table(name)
        found: list[Row] = []
        size = 0
        limits = self._limits
        for number, (start, end) in enumerate(fetch.ranges):
            at = b""
            for row in rows_in(table, start, end, 64):
                if size >= limits.answer_bytes or len(found) >= limits.answer_rows_max:
                    return r.encode_rows(r.Rows(tuple(found), number, at and row[0]))
                at = row[0]
                found.append(row)
                size += len(row[0]) + len(row[1])
        return r.encode_rows(r.Rows(tuple(found), len(fetch.ranges), b""))

    def _expunges(self, tables: Tables, asked: r.Expunges) -> bytes:
        table = tables.table("expunges")
        first, following = EXPUNGE_KEY.pack(asked.number, 0), (asked.number + 1).to_bytes(8, "big")
        after = asked.after
        all_rows = False
        if not after:
            behind = EXPUNGE_KEY.pack(asked.number, min(asked.since + 1, 2**64 - 1))
            all_rows = digest_of(table, first, behind) != asked.digest
            after = 0 if all_rows else asked.since
        start = EXPUNGE_KEY.pack(asked.number, min(after + 1, 2**64 - 1))
        found: list[Row] = []
        size = 0
        for key, record in rows_in(table, start, following, 64):
            if size >= self._limits.answer_bytes:
                return r.encode_expunge_rows(r.ExpungeRows(all_rows, True, tuple(found)))
            unseal("expunges", key, record)
            found.append((key, record))
            size += len(record)
        return r.encode_expunge_rows(r.ExpungeRows(all_rows, False, tuple(found)))

    def _changes(self, tables: Tables, asked: r.Changes) -> bytes:
        number = asked.number
        records, summaries = tables.table("messages"), tables.table("summaries")
        start = CHANGE_KEY.pack(number, asked.modseq, asked.uid) + b"\0"
        end = CHANGE_KEY.pack(number, 2**64 - 1, STAR)
        bodies: list[bytes] = []
        added: list[bytes] = []
        size = 0
        rows_max = min(self._limits.answer_rows_max, PAGE_ROWS)
        page = tables.table("changes").page(start, end, rows_max + 1)
        for key, _ in page[:rows_max]:
            _, modseq, uid = CHANGE_KEY.unpack(key)
            message_key = MESSAGE_KEY.pack(number, uid)
            record = records.get(message_key)
            if record is None or unpack_message(message_key, record)[1] != modseq:
                raise IndexDamaged("changes", key, "no message has changed in this step")
            bodies.append(record[: MESSAGE_BODY.size])
            size += MESSAGE_BODY.size
            if uid >= asked.unknown_from:
                sealed = summaries.get(message_key)
                if sealed is None:
                    raise IndexDamaged("summaries", message_key, "it is missing")
                summary = unseal("summaries", message_key, sealed)
                added.append(summary)
                size += len(summary)
            if size >= self._limits.answer_bytes:
                break
        more = len(bodies) < len(page)
        return r.encode_changed(r.Changed(more, b"".join(bodies), tuple(added)))

    def _summaries(self, tables: Tables, asked: r.Summaries) -> bytes:
        table = tables.table("summaries")
        found: list[bytes | None] = []
        size = 0
        for uid in asked.uids:
            key = MESSAGE_KEY.pack(asked.number, uid)
            sealed = table.get(key)
            if sealed is None:
                raise CodecError(f"there is no UID {uid} in mailbox {asked.number}")
            found.append(unseal("summaries", key, sealed))
            size += len(sealed)
            if size >= self._limits.answer_bytes:
                break
        return r.encode_parts(found)

    def _give_bodies(self, hashes: list[bytes]) -> bytes:
        found: list[bytes | None] = []
        size = 0
        for digest in hashes:
            try:
                body = self._bodies.get(digest)
                found.append(body)
                size += len(body)
            except BlobMissing:
                found.append(None)
            except BlobDamaged:
                found.append(None)
                self.damaged.append(digest)
            if size >= self._limits.body_request_bytes:
                break
        return r.encode_parts(found)

    def _release(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None
        self._digest = None


class _Refused(Exception):
    """The session cannot be: why."""


def _compared(name: str) -> str:
    if name not in COMPARED:
        raise CodecError(f"table {name[:20]!r} is not to be had")
    return name
