"""The bodies of a replica: which are missing, asked for, or needed by no one any more. (`lending`
gives them to others.)

Invariants:

1. An entry is said to be held only when every body that it names is in the store and pinned until
   the entry is applied. Or the body is known to have lost its last message by an entry that comes
   later. Where the index was lost, an entry of the log may lack one that it never had: it is kept,
   and `withheld`.
2. What other replicas send is verified against its hash before it is stored (P8).
3. A body that is stored and not yet on the disk in the store is in the journal, before every entry
   that names it. Or it is longer than `BodyLimits.journal_bytes_max`, and then the store is synced
   before any such entry is acknowledged.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import TypeAlias
from zlib import crc32

from raftmail.consensus.appends import Log
from raftmail.consensus.journal import Journal
from raftmail.mail.budget import Budget
from raftmail.mail.codec import CodecError, entry_blobs
from raftmail.shard.frames import Frame, FrameKind
from raftmail.storage.blobs import (
    BlobDamaged,
    BlobMissing,
    BlobStore,
    BlobSyncJob,
    ReclaimProgress,
)
from raftmail.storage.index import Index
from raftmail.storage.longbody import LongBody

logger = logging.getLogger(__name__)

DIGEST_BYTES = 32
LATE_MAX = 65_536
"""Bodies remembered that did not come from the first that was asked."""

_INDEX_BYTES = 8
_NEVER = 1e18
_NOTE_BYTES = _INDEX_BYTES + DIGEST_BYTES
_GONE = b"bodies that are gone"


@unique
class BodyState(Enum):
    """Where a body is that an entry names. It is in one state at a time, the first that holds;
    `Bodies.state_of` is the one function that tells.

    ```
              want            asked            came, verified
     ABSENT ───────▶ TO_ASK ───────▶ ASKED ──────────────────▶ HERE ──▶ ABSENT, when it is
        ▲               ▲              │ │                      ▲        reclaimed, or found damaged
        │ nobody waits  │ an entry     │ │ a long one           │
        │               │ waits        │ └──────▶ ARRIVED ───────┘ stored
        └───────────────┴──────────────┘
           no answer came in time              GONE: a source said so, until that entry is applied
    ```

    Why a body is needed is another matter, and there may be several reasons: an entry is not taken
    without it (`missing`), was in the log at the start without it (`unheld`), or does not count
    without it (`withheld`)."""

    HERE = "here"
    """In the store, which can read it."""
    GONE = "gone"
    """Not here, and needed by no message any more once an entry that comes later is applied."""
    ARRIVED = "arrived"
    """A long one that came, and waits in memory to be stored."""
    TO_ASK = "to be asked for"
    """Not here. The next step asks the leader, or everybody when somebody was asked in vain."""
    ASKED = "asked for"
    """Not here. Others were asked, and may still answer."""
    ABSENT = "absent"
    """Not here, and nobody is asked."""


class BadBodies(Exception):
    """A frame about bodies that cannot be what it says it is."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much is asked for and given at once, how long an answer is waited for, and how reclaiming
    is paced."""

    journal_bytes_max: int = 16 << 10
    """Bodies up to this length are written to the journal as well, so that one sync makes them and
    their entry durable.

    The store follows in the background. Longer ones cost more to write twice than a sync.
    """
    long_bytes_min: int = 2 << 20
    """Bodies from this length on have a segment of their own, which another thread writes and
    syncs."""
    long_rest_s: float = 60.0
    """So long a long body is kept that no message has yet, for its entry may come."""
    sync_s: float = 2.0
    """So long the journal alone keeps a body, at the least ..."""
    sync_bytes_max: int = 4 << 20
    """... unless it keeps more than this."""
    want_hashes_max: int = 256
    give_bytes_max: int = 512 << 10
    """Of short bodies, in one step: they are read where the replica is stepped."""
    answer_s: float = 2.0
    reclaim_bytes: int = 1 << 20
    reclaim_look_bytes: int = 16 << 10
    reclaim_look_s: float = 0.5
    reclaim_pause_s: float = 0.1
    reclaim_rest_s: float = 60.0


def restore_bodies(journal: Journal, store: BlobStore) -> None:
    """At start: put into the store, and there on the disk, what the journal alone kept. Raises
    DiskError."""
    for digest, body in journal.bodies():
        if not store.has(digest) and hashlib.sha256(body).digest() == digest:
            store.append(digest, body)
    _sync_store(journal, store)


def _sync_store(journal: Journal, store: BlobStore) -> None:
    journal.mark_bodies()
    job = store.begin_sync()
    if job is not None:
        job.run()
        store.end_sync(job)
    journal.release_bodies()


WhenStored: TypeAlias = Callable[[bool], None]
"""Called with whether a long body is stored; if not, there is no space for it, or it is damaged."""


@dataclass(slots=True, repr=False)
class _Arrival:
    digest: bytes
    body: bytes | memoryview
    done: WhenStored
    taken_bytes: int
    """Of the budget: none for a body of a request, which counts as that."""


@dataclass(slots=True, repr=False)
class Bodies:
    """`missing` are bodies that entries of the log wait for.

    `unheld` are those that entries lacked that were in the log at the start. `withheld` are entries
    that must not be acknowledged before their bodies are on the disk, with their terms and bodies.
    """

    store: BlobStore
    index: Index
    limits: BodyLimits = field(default_factory=BodyLimits)
    journal: Journal = field(init=False)
    received: int = 0
    wanted: int = 0
    missing: set[bytes] = field(default_factory=set)
    unheld: set[bytes] = field(default_factory=set)
    withheld: dict[int, tuple[int, Sequence[bytes]]] = field(default_factory=dict)
    found_lost: set[bytes] = field(default_factory=set)
    """Bodies that entries of the log name, and that could not be given to another replica."""
    _pinned: set[int] = field(default_factory=set)
    _asked: dict[bytes, float | None] = field(default_factory=dict)
    _late: set[bytes] = field(default_factory=set)
    _promised: dict[bytes, str] = field(default_factory=dict)
    """Who said that it sends a body, since it was asked last."""
    _gone: dict[bytes, int] = field(default_factory=dict)
    _reclaim_at: float = 0.0
    _reclaim_busy: bool = False
    _sync_at: float = 0.0
    _kept_bytes: int = 0
    """Of bodies that the journal keeps, added since a sync of the store began."""
    _job: BlobSyncJob | None = None
    arrived: Budget = field(default_factory=lambda: Budget(160 << 20))
    """What long bodies from other nodes hold that wait to be stored, here and in the other replicas
    of the node."""
    _arrived: deque[_Arrival] = field(default_factory=deque)
    _resting: dict[bytes, float | None] = field(default_factory=dict)
    """Long bodies that were stored lately, and until when they are kept; None: it is to be said."""
    _long: LongBody | None = None

    def __post_init__(self) -> None:
        self.reload()

    def reload(self) -> None:
        """The index was opened, or went back to its last commit: believe its notes alone."""
        noted = self.index.get_local(_GONE) or b""
        self._gone = {
            noted[at + _INDEX_BYTES : at + _NOTE_BYTES]: int.from_bytes(
                noted[at : at + _INDEX_BYTES], "big"
            )
            for at in range(0, len(noted), _NOTE_BYTES)
        }

    def add(self, digest: bytes, body: bytes) -> bool:
        """Store a body that was verified to be the one of `digest`; False: it was there. It is safe
        when the next sync of the journal is done, and of the store, if that is `pressing`. Raises
        DiskFull, having stored nothing."""
        store = self.store
        if store.has(digest):
            return False
        if len(body) > self.limits.journal_bytes_max:
            return store.append(digest, body)
        crc = crc32(body)
        self.journal.add_body(digest, body, crc)
        store.append_kept(digest, body, crc)
        self._kept_bytes += len(body)
        return True

    def store_long(self, digest: bytes, body: bytes | memoryview, done: WhenStored) -> None:
        """Have a long body of a request stored, on the disk, by the jobs of `begin_long`, which
        verify it."""
        self._arrived.append(_Arrival(digest, body, done, 0))

    def take_long(self, digest: bytes, body: bytes | memoryview, done: WhenStored) -> bool:
        """As `store_long`, for a body that another node sent. False: there is no room for it. One
        that waits already, since it was taken for lost and sent again, is told of once."""
        if any(one.digest == digest and one.taken_bytes for one in self._arrived):
            return True
        if not self.arrived.take(len(body)):
            return False
        self._arrived.append(_Arrival(digest, body, done, len(body)))
        return True

    def drop_arrived(self) -> None:
        """The replica is closed: what waits to be stored never will be. Nothing may be under
        way."""
        for arrival in self._arrived:
            self.arrived.give(arrival.taken_bytes)
        self._arrived.clear()

    def begin_long(self) -> LongBody | None:
        """To be called after each `Replica.advance`: a body to be stored, whose `run` may be called
        in another thread, for as long as it takes; `end_long` then."""
        while self._long is None and self._arrived:
            arrival = self._arrived[0]
            if self.store.durable(arrival.digest):
                self._end_long(stored=True)
                continue
            self._long = self.store.begin_long(arrival.digest, arrival.body)
            return self._long
        return None

    def end_long(self) -> None:
        """The call from `begin_long` has returned."""
        assert self._long is not None
        job, self._long = self._long, None
        stored = self.store.end_long(job)
        if job.full is not None:
            logger.warning("a body of %d bytes has no space: %s", len(job.body), job.full)
        self._end_long(stored=stored)

    def _end_long(self, *, stored: bool) -> None:
        arrival = self._arrived.popleft()
        self.arrived.give(arrival.taken_bytes)
        digest = arrival.digest
        if stored:
            self._resting[digest] = None
            self._came(digest)
            self.missing.discard(digest)
        elif self._is_waited_for(digest):
            self.want(digest)
        arrival.done(stored)

    def state_of(self, digest: bytes, index: int = 0) -> BodyState:
        """Where a body is, as far as the entry at `index` is concerned (0: any)."""
        if self.store.has(digest):
            return BodyState.HERE
        if self._gone.get(digest, -1) >= index:
            return BodyState.GONE
        if any(arrival.digest == digest for arrival in self._arrived):
            return BodyState.ARRIVED
        if digest not in self._asked:
            return BodyState.ABSENT
        return BodyState.TO_ASK if self._asked[digest] is None else BodyState.ASKED

    @property
    def asking(self) -> bool:
        """Whether bodies are asked for, or to be."""
        return bool(self._asked)

    def wants_sync(self, now: float) -> bool:
        """Whether `begin_sync` has something to do."""
        return self._job is None and self._is_due(now) and self.store.dirty()

    def _is_due(self, now: float) -> bool:
        return now >= self._sync_at or self._kept_bytes > self.limits.sync_bytes_max

    def has_to_do(self, now: float) -> bool:
        """Whether bodies are asked for, or to be, or wait for a sync of the store that is to begin,
        here or with the journal's."""
        if self._asked or (self._arrived and self._long is None):
            return True
        return self.store.dirty() and (self.store.pressing() or self.wants_sync(now))

    def next_deadline(self) -> float:
        """When there is something to do again, if nothing comes in before."""
        sync_at = self._sync_at if self._job is None and self.store.dirty() else _NEVER
        return min(sync_at, self._reclaim_at) if self._reclaim_busy else sync_at

    @property
    def syncing(self) -> bool:
        """Whether a sync of the store is under way in the background."""
        return self._job is not None

    def begin_sync(self, now: float) -> Callable[[], None] | None:
        """To be called after each `Replica.advance`. Every `sync_s`, and when the journal
        keeps much, it gives a sync. After it the journal need not keep the bodies that are in the
        store now. Nothing waits for it, so it may run in another thread for as long as it takes;
        `end_sync` then."""
        if self._job is not None or not self._is_due(now) or self.store.pressing():
            return None
        self._sync_at = now + self.limits.sync_s
        self._kept_bytes = 0
        self._job = self.store.begin_sync()
        if self._job is None:
            return None
        self.journal.mark_bodies()
        return self._job.run

    def end_sync(self) -> None:
        """The call from `begin_sync` has returned."""
        assert self._job is not None
        self.store.end_sync(self._job)
        self._job = None
        self.journal.release_bodies()

    def sync_now(self) -> None:
        """Have the journal keep nothing any more. Not while `syncing`. Raises SyncFailed."""
        _sync_store(self.journal, self.store)

    def hold(self, payload: bytes, index: int) -> bool:
        """Whether the entry for `index` may be acknowledged; if not, what it lacks is asked for."""
        try:
            hashes = entry_blobs(payload)
        except CodecError:
            return True  # the apply refuses it, on every replica alike
        if not hashes:
            return True
        missing = self._lacking(hashes, index)
        if missing:
            self._want_missing(missing, index)
            return False
        self.pin(hashes, index)
        return True

    def _lacking(self, hashes: Iterable[bytes], index: int) -> list[bytes]:
        has = self.store.has
        return [h for h in hashes if not has(h) and not self._is_gone(h, index)]

    def _is_gone(self, digest: bytes, index: int) -> bool:
        return self.state_of(digest, index) is BodyState.GONE

    def _want_missing(self, missing: Sequence[bytes], index: int = 0) -> None:
        """The entry at `index` waits for bodies: ask for those that have not arrived yet."""
        self.missing.update(missing)
        for digest in missing:
            if self.state_of(digest, index) is not BodyState.ARRIVED:
                self.want(digest)

    def pin(self, hashes: Iterable[bytes], index: int) -> None:
        """Keep bodies until the entry at `index` is applied."""
        self.store.pin(hashes, index)
        self._pinned.add(index)

    def unpin(self, index: int) -> None:
        """The entry at `index` was applied."""
        if index in self._pinned:
            self._pinned.discard(index)
            self.store.unpin(index)

    def unpin_to(self, index: int) -> None:
        """Everything up to `index` came by a resync."""
        for pinned in [p for p in self._pinned if p <= index]:
            self.unpin(pinned)

    def want_all(self, payload: bytes) -> None:
        """Ask for what an entry lacks that will be looked at later."""
        settled = (BodyState.HERE, BodyState.GONE)
        self._want_missing([d for d in _named(payload) if self.state_of(d) not in settled])

    def pin_log(
        self,
        entries: Iterable[tuple[int, int, bytes]],
        committed: int,
        keep_to: int,
        *,
        may_cut: bool,
    ) -> int:
        """Pin what the entries of the log (index, term, payload) name. At the start the log `may`
        be `cut`: returns the first entry with a body that never was on the disk, or 0. It and what
        follows must go.

        A loss of power between the syncs of the journal and of the blobs may keep an entry and lose
        its body. Such an entry was never acknowledged, and must not be now (P1): what follows the
        last sync is forgotten, and comes again from the leader. Up to `keep_to` (see
        `index_recovery`) that cannot be told from an entry that was acknowledged and whose body was
        lost later: bodies are read to find those that are damaged. Entries that lack some and may
        have been acknowledged are kept, and withheld until others have given them. Of those that
        are known to be `committed` nobody counts any more who has them. What the kept ones lack is
        missing, wherever the log is cut.
        """
        self.withheld.clear()
        kept = max(keep_to, committed)
        cut = 0
        for index, term, payload in entries:
            if index <= keep_to:
                self._look(payload)
            if may_cut and index > kept and self._never_had(payload, index):
                cut = index
                break
            held = self.hold(payload, index)
            if not held:
                self.pin(_named(payload), index)
            if index > committed and not (held and (index > keep_to or self._are_durable(payload))):
                self.withheld[index] = (term, _named(payload))
        self.unheld = set(self.missing)
        return cut

    def _are_durable(self, payload: bytes) -> bool:
        return all(map(self.store.durable, _named(payload)))

    def withhold_lost(self, entries: Iterable[tuple[int, int, bytes]]) -> None:
        """Withhold those of some entries (index, term, payload) that name a body that was found
        lost."""
        for index, term, payload in entries:
            if not self.found_lost.isdisjoint(_named(payload)):
                self.withheld[index] = (term, _named(payload))
        self.withheld = dict(sorted(self.withheld.items()))
        self.found_lost.clear()

    def first_withheld(self, log: Log, applied_index: int) -> int:
        """The first entry of the log that must not be acknowledged yet, or 0. Those before it are
        withheld no more: their bodies have come and are on the disk, or are needed by no message
        any more, or they were applied or cut off."""
        for index, (term, named) in list(self.withheld.items()):
            stands = applied_index < index <= log.last_index and log.term_of(index) == term
            if stands and not all(
                self.store.durable(h) or self._gone.get(h, -1) >= index for h in named
            ):
                return index
            del self.withheld[index]
        return 0

    def _look(self, payload: bytes) -> None:
        """Read the bodies that an entry names: those that are damaged count as missing from now
        on."""
        for digest in _named(payload):
            try:
                self.store.get(digest)
            except (BlobMissing, BlobDamaged):
                continue

    def _never_had(self, payload: bytes, index: int) -> bool:
        """Whether an entry names a body that is missing, and whose place is not known either."""
        place = self.index.get_place
        return any(place(d) is None for d in self._lacking(_named(payload), index))

    def take_unheld(self, payload: bytes) -> list[bytes]:
        """Of the bodies that an entry names, those that were not here at the start, and are not
        now."""
        named = self.unheld.intersection(_named(payload))
        self.unheld -= named
        return [digest for digest in named if self.state_of(digest) is not BodyState.HERE]

    def want(self, digest: bytes) -> None:
        """Ask for a body with the next `requests`."""
        self._asked.setdefault(digest, None)

    def tick(self, now: float, applied_index: int, *, waiting: bool) -> None:
        """Ask again for what did not come. `waiting` tells whether entries still wait for
        bodies."""
        if not waiting:
            self.missing.clear()
        if self._gone:
            self._gone = {h: i for h, i in self._gone.items() if i > applied_index}
        for digest, asked in list(self._asked.items()):
            if asked is not None and now - asked > self.limits.answer_s:
                del self._asked[digest]
                if digest not in self._promised and len(self._late) < LATE_MAX:
                    self._late.add(digest)
                if self._is_waited_for(digest):
                    self.want(digest)
                else:
                    self._promised.pop(digest, None)

    def _is_waited_for(self, digest: bytes) -> bool:
        """Whether entries wait for a body, to be taken or to count again."""
        return digest in self.missing or any(digest in named for _, named in self.withheld.values())

    def wants(self, now: float, leader: str | None, linked: Sequence[str]) -> list[Frame]:
        """Frames that ask for bodies: the leader, if there is a link to it; who said that it sends
        them; all, for those that did not come."""
        fresh = [d for d, asked in self._asked.items() if asked is None]
        self.wanted += len(fresh)
        first = (leader,) if leader in linked and leader is not None else tuple(linked)
        of_whom: dict[tuple[str, ...], list[bytes]] = {}
        for digest in fresh:
            self._asked[digest] = now
            promised = self._promised.pop(digest, None)
            if promised in linked and promised is not None:
                names: tuple[str, ...] = (promised,)
            elif promised is not None or digest in self._late:
                names = tuple(linked)
            else:
                names = first
            of_whom.setdefault(names, []).append(digest)
        frames: list[Frame] = []
        most = self.limits.want_hashes_max
        for names, digests in of_whom.items():
            for at in range(0, len(digests), most):
                hashes = b"".join(digests[at : at + most])
                frames += [(name, FrameKind.WANT, (hashes,)) for name in names]
        return frames

    def is_late(self, digest: bytes) -> bool:
        """Whether all others were asked for a body."""
        return digest in self._late

    def _came(self, digest: bytes) -> None:
        """Nobody need send a body any more."""
        self._asked.pop(digest, None)
        self._late.discard(digest)
        self._promised.pop(digest, None)

    def take(self, payload: bytes) -> bool:
        """Store a body that came: hash, bytes. True when nothing that entries wait for is missing
        any more.

        Raises `BadBodies`, DiskFull."""
        digest, body = payload[:DIGEST_BYTES], payload[DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != digest:
            raise BadBodies("a body that does not have the hash it was sent under")
        self.add(digest, body)
        self.received += 1
        self._came(digest)
        if digest not in self.missing:
            return False
        self.missing.discard(digest)
        return not self.missing

    def cannot_give(self, digest: bytes, error: BlobMissing | BlobDamaged) -> bool:
        """A body that another replica asks for is missing or damaged: ask for it. False: no message
        has it any more."""
        pinned = self.store.is_pinned(digest)
        if not pinned and not self.index.references(digest):
            return False
        logger.warning("another replica asks for a body: %s", error)
        self.want(digest)
        if pinned:
            self.found_lost.add(digest)
        return True

    def note_soon(self, now: float, node: str, payload: bytes) -> None:
        """A node has bodies that it was asked for, and they will come: nobody else is asked, as
        long as it says so again. Raises `BadBodies`."""
        if len(payload) % DIGEST_BYTES:
            raise BadBodies("a list of bodies that come soon, of the wrong length")
        for at in range(0, len(payload), DIGEST_BYTES):
            digest = payload[at : at + DIGEST_BYTES]
            if self._asked.get(digest) is not None:
                self._asked[digest] = now
                self._promised[digest] = node

    def note_gone(self, payload: bytes) -> bool:
        """No message has these bodies any more once an entry that comes later is applied. Entries
        up to there need not wait for them: nothing is read here before that entry is applied (P5),
        and one that names them again brings them along. Returns as `take`.

        What is noted is in the index's transaction, which is to be committed before those entries
        are acknowledged."""
        if len(payload) < _INDEX_BYTES or (len(payload) - _INDEX_BYTES) % DIGEST_BYTES:
            raise BadBodies("a list of bodies that are gone, of the wrong length")
        index = int.from_bytes(payload[:_INDEX_BYTES], "big")
        for at in range(_INDEX_BYTES, len(payload), DIGEST_BYTES):
            digest = payload[at : at + DIGEST_BYTES]
            if self._is_waited_for(digest):
                self._gone[digest] = index
                self.missing.discard(digest)
                self._came(digest)
        noted = [until.to_bytes(_INDEX_BYTES, "big") + h for h, until in self._gone.items()]
        self.index.put_local(_GONE, b"".join(noted))
        return not self.missing

    def reclaim(self, now: float, unreferenced: list[bytes]) -> ReclaimProgress:
        """One bounded step towards giving back the space of bodies that nothing needs.

        `unreferenced` are bodies that lost their last message since the last step; it is cleared.
        Raises DiskFull."""
        if now < self._reclaim_at or self.store.pressing():
            return ReclaimProgress(True)
        for digest in unreferenced:
            self.store.note_dead(digest)
        unreferenced.clear()
        limits = self.limits
        budget = limits.reclaim_bytes if self._reclaim_busy else limits.reclaim_look_bytes
        self._reclaim_at = now + limits.reclaim_rest_s
        self._rest(now)
        progress = self.store.reclaim(self._references, budget)
        self._reclaim_busy = bool(progress.copied_bytes) or progress.waits_for_sync
        if progress.more:
            pause_s = limits.reclaim_pause_s if self._reclaim_busy else limits.reclaim_look_s
            self._reclaim_at = now + pause_s
        return progress

    def _rest(self, now: float) -> None:
        """Give those long bodies their time that came since the last step, and forget those whose
        time is over."""
        for digest, until in list(self._resting.items()):
            if until is None:
                self._resting[digest] = now + self.limits.long_rest_s
            elif now >= until:
                del self._resting[digest]

    def _references(self, digest: bytes) -> int:
        """As `Index.references`; a body that rests counts as one that a message has."""
        return self.index.references(digest) or int(digest in self._resting)


def _named(payload: bytes) -> Sequence[bytes]:
    """The bodies that an entry names; none of one that cannot be decoded, and is refused when it is
    applied."""
    try:
        return entry_blobs(payload)
    except CodecError:
        return ()
