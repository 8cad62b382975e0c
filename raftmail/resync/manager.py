"""All that a replica has to do with resyncs, in one place: its sink, the sinks it serves, scrub.

The replica that owns it feeds frames and time, and tells what is needed and who is there. It asks
`holds` before it applies, commits, serves or votes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from raftmail.resync.frames import Encoder, Link, kind_of, session_of
from raftmail.resync.holders import LostReport
from raftmail.resync.limits import ResyncError, ResyncLimits
from raftmail.resync.missing import AWAITED_US, body_size
from raftmail.resync.pace import TokenBucket
from raftmail.resync.requests import ANSWER, RequestKind, encode_refusal
from raftmail.resync.scrub import Scrub, ScrubLimits
from raftmail.resync.sink import Sink, SinkPhase
from raftmail.resync.source import BodySource, Source
from raftmail.resync.state import Suspects
from raftmail.resync.status import ResyncStatus, ScrubStatus
from raftmail.storage.disk import DiskFull
from raftmail.storage.index import Index
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged

logger = logging.getLogger(__name__)

LOST_RETRY_S = 3600.0
"""How often peers are asked again for bodies that none of them had."""

_LACKING_MAX = 65_536
_ALONE_PAGE = 256


def turn_away(cluster: str, shard: int, peer: str, frame: bytes, why: str) -> bytes | None:
    """The answer to a frame of a sink for which there is no session, nor will be one: that it is
    refused, so that it asks another source. None: it is no frame of a sink."""
    if kind_of(frame) >= ANSWER:
        return None
    encoder = Encoder(Link(cluster, shard, peer), session_of(frame))
    return encoder.aside(ANSWER + RequestKind.REFUSED, encode_refusal(why, elsewhere=True))


class ResyncManager:
    """`dirty` tells that the open transaction of the index has something of a resync: commit it
    soon, and call `committed`. `full_disk`: the last session failed for want of space."""

    def __init__(
        self,
        index: Index,
        bodies: BodySource,
        cluster: str,
        shard: int,
        reopen: Callable[[], None],
        new_session: Callable[[], int],
        limits: ResyncLimits | None = None,
        scrub_limits: ScrubLimits | None = None,
    ) -> None:
        """`reopen` is `Machine.abort`; `new_session` gives numbers below 2^64 that do not come
        again."""
        self.limits = limits = limits or ResyncLimits()
        self.sink = Sink(index, bodies, cluster, shard, reopen, limits)
        self.missing = self.sink.missing
        self.scrub = Scrub(index, bodies, self.missing, self.sink.suspect, scrub_limits)
        self.lost_report = LostReport(index, self.missing)
        self.refused_frames = 0
        self.at_least = 0
        """Where a source of records must stand: an older state could not be joined to the own
        log."""
        self.full_disk = False
        self._index = index
        self._bodies = bodies
        self._cluster = cluster
        self._shard = shard
        self._new_session = new_session
        self._bucket = TokenBucket(limits.rate_bytes_s, limits.rate_burst_bytes)
        self._writes_go_on = False
        self._sources: dict[str, Source] = {}
        self._frames: list[tuple[str, bytes]] = []
        self._needed = False
        self._full = False
        self._only = Suspects.read(index).only
        self._session_is_full = False
        self._dirty = False
        self._last_peer = ""
        self._connected: Sequence[str] = ()
        self._tried: set[str] = set()
        """The sources that were asked since the last pause, or success."""
        self._next_at_once = False
        self._lacking_serves = False
        """Every source was asked, and none gave the records: those that lack bodies do as well, for
        they may have the last records that there are. Bodies come from any replica, later."""
        self._lacking: dict[bytes, set[str]] = {}
        self._asked_again_at = LOST_RETRY_S

    # -- state ----------------------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Nothing may be applied, committed, served, voted for, acknowledged or led now."""
        return self.sink.holds

    @property
    def whole(self) -> bool:
        """Records and bodies are complete, but for bodies that no replica has."""
        return not self.sink.holds and self.missing.total()[0] == 0

    @property
    def busy(self) -> bool:
        """A resync is under way here, or has ended and is to be taken, or is being served.

        Or another source is to be asked at once.
        """
        return bool(self._sources or self._frames) or self._next_at_once or self.sink.busy

    @property
    def unsynced_bytes(self) -> int:
        """Of bodies that came by a resync, and wait for the blob store's sync."""
        return self.sink.unsynced_bytes

    @property
    def dirty(self) -> bool:
        return self._dirty or self.sink.dirty or self.scrub.dirty

    def committed(self) -> None:
        """The index was committed."""
        self._dirty = self.sink.dirty = self.scrub.dirty = False
        if self.sink.unsaved:
            self.sink.unsaved = Suspects()

    @property
    def needs_records(self) -> bool:
        """A session for records is needed: leave mastership to another."""
        noted = bool(self.sink.unsaved) or Suspects.are_noted(self._index)
        return self._needed or self.sink.mark is not None or noted

    def lost(self) -> list[bytes]:
        """Bodies that no peer has. `lost_report` tells whose they are."""
        return self.missing.lost()

    def served(self) -> list[tuple[str, int]]:
        """The nodes that are being brought back from here, and how many bytes each was sent."""
        return [(peer, one.sent_bytes) for peer, one in self._sources.items() if not one.closed]

    def why_incomplete(self) -> str:
        """What keeps records or bodies from being complete, as the end of a sentence that begins
        with the node."""
        sink = self.sink
        if sink.holds and sink.active:
            return f"is being resynced from {sink.link.peer}"
        if sink.holds:
            return "is half resynced and waits for a source"
        if self.needs_records:
            return "is to be resynced, and has not begun yet"
        missing = self.missing.total()[0]
        return f"lacks {missing} bodies" if missing else "is being repaired"

    def status(self, now: float) -> ResyncStatus:
        """What is told to operators."""
        sink, scrub = self.sink, self.scrub
        missing_bodies, missing_bytes = self.missing.total()
        failed = sink.error is not None
        return ResyncStatus(
            missing_bodies,
            missing_bytes,
            len(self.lost()),
            self.lost_report.holders,
            self.served(),
            ScrubStatus(
                scrub.rounds,
                scrub.progress(),
                scrub.read_bytes,
                scrub.round_s,
                scrub.is_late(now),
                scrub.limits.rate_bytes_s,
                scrub.needed_bytes_s,
                tuple(scrub.findings),
            ),
            sink.last,
            is_wanted=sink.active or failed or self.needs_records,
            progress=sink.progress(now),
            error=str(sink.error) if failed else None,
            retry_s=max(0.0, sink.retry_at - now) if failed else None,
        )

    # -- orders ---------------------------------------------------------------------------------

    def need(self, *, full: bool = False) -> None:
        """Have the records brought up to a source's: the log of the others does not reach back, or
        somebody said so. `full`: compare every record."""
        self._needed = True
        self._full = self._full or full

    def need_no_more(self) -> None:
        """The log led there after all. What was ordered in full is still to be done."""
        if not self._full:
            self._needed = False

    def compare(self, mailboxes: Sequence[int]) -> None:
        """Have these mailboxes compared record by record."""
        suspects = Suspects()
        suspects.add(mailboxes)
        self.sink.note(suspects)
        self._needed = True

    def order(
        self, mailboxes: Sequence[int] = (), *, full: bool = False, only: Sequence[str] = ()
    ) -> None:
        """Somebody wants a resync, also when nothing is known to differ: of these mailboxes record
        by record, or with `full` of everything. `only`: no other nodes are good sources for it, or
        for what was ordered before and is not done."""
        self._only = frozenset(only) or self._only
        suspects = Suspects(everything=full, others=True, only=self._only)
        suspects.add(mailboxes)
        self.sink.note(suspects)
        self.need(full=full)
        self.sink.hurry()

    def damaged(self, damage: IndexDamaged) -> None:
        """A read met a damaged record."""
        if self.sink.suspect(damage):
            self._needed = True

    def want(self, digest: bytes, size_bytes: int) -> None:
        """A read met a body that is missing or damaged: fetch it before all others."""
        self.sink.want(digest, size_bytes)

    # -- stepping -------------------------------------------------------------------------------

    def tick(
        self, now: float, replicas: Sequence[str], connected: Sequence[str], *, may_hold: bool
    ) -> None:
        """Begin what is to be begun. `replicas` are all others of the shard, `connected` those that
        can be asked, the best source first; `may_hold`: this replica does not lead, and can do
        without its index for a while. Raises `DiskError` when the index cannot be committed, after
        which it has to be aborted, as after any failed commit."""
        for closed in [peer for peer, source in self._sources.items() if source.closed]:
            del self._sources[closed]
        sink = self.sink
        if sink.unsaved and not sink.active:
            sink.note_again()
        if self._only and not self._only.intersection(replicas):
            logger.warning(
                "shard %d: %s left: any other replica is a source", self._shard, sorted(self._only)
            )
            self._only = frozenset()
        self._connected = connected
        self._next_at_once = False
        if sink.active:
            if sink.link.peer not in connected:
                sink.lost(now, "the link to it is lost")
                self._after(now)
            return
        if now >= self._asked_again_at and not sink.holds:
            self._ask_again(now)
        # A leader that needs records gets its bodies first: others may be able to take over only
        # when they got records from it.
        records = self.needs_records and may_hold
        if not records and (sink.mark is not None or self.missing.total()[0] == 0):
            return
        self._give_up_lost(replicas)
        peer = self._next_peer(self._sources_of(connected))
        if peer is None or (sink.phase == SinkPhase.WAITING and now < sink.retry_at):
            return
        self._last_peer = peer
        self._tried.add(peer)
        logger.info("shard %d: resync with %s begins", self._shard, peer)
        self._session_is_full = records and self._full
        sink.start(
            now,
            peer,
            self._new_session(),
            records=records,
            full=self._session_is_full,
            at_least=self.at_least,
            lacking_serves=self._lacking_serves,
        )

    def step(self, now: float, room_bytes: Callable[[str], int]) -> bool:
        """A bounded piece of work; `room_bytes` tells how much may be queued for a node. Whether
        there is more to do at once. Raises `storage.disk.SyncFailed`, `storage.kv.TableDamaged`,
        and `storage.records.IndexDamaged` of a table of this replica's own."""
        sink = self.sink
        more = False
        if sink.active:
            done = sink.records_done
            more = sink.step(now)
            if sink.records_done > done:
                # Whatever becomes of the bodies: they are fetched by sessions of their own.
                self._needed = self._full = self._full and not self._session_is_full
                if self._full:  # ordered in the middle of the session, which took it off the disk
                    Suspects(everything=True, others=True, only=self._only).write(self._index)
                    self._dirty = True
                else:
                    self._only = frozenset()
            peer = sink.link.peer
            self._frames.extend((peer, frame) for frame in sink.take_frames())
            if not sink.active:
                self._after(now)
        for peer, source in self._sources.items():
            if source.closed:
                continue
            try:
                room = room_bytes(peer)
                if room > 0:
                    more = source.step(now, room) or more
            except ResyncError as e:
                logger.warning("resync of shard %d to %s: %s", e.shard, e.peer, e.what)
                cause = e.__cause__
                if isinstance(cause, TableDamaged) or (
                    isinstance(cause, IndexDamaged) and cause.is_local
                ):
                    raise cause from None
            self._take_from(peer, source)
        if not sink.holds:
            if not sink.active:
                self.scrub.step(now)
                warning = self.scrub.take_warning()
                if warning:
                    logger.warning("shard %d: %s", self._shard, warning)
            for holder in self.lost_report.step():
                logger.error("shard %d: no replica has the body of %s", self._shard, holder)
        return more

    def writes_go_on(self, *, busy: bool) -> None:
        """Whether clients write to the shard now: sources go slower then."""
        if busy == self._writes_go_on:
            return
        self._writes_go_on = busy
        limits = self.limits
        rates = [limits.rate_bytes_s, limits.busy_rate_bytes_s if busy else 0]
        self._bucket.rate_bytes_s = min(filter(None, rates), default=0)

    def wait_s(self) -> float:
        """How long the rate limit holds the sources back."""
        return self._bucket.wait_s()

    def receive(self, now: float, peer: str, frame: bytes) -> None:
        """Take a frame from a node. Bad ones end their session, and are logged."""
        kind = kind_of(frame)
        if kind >= ANSWER:
            if self.sink.active and peer == self.sink.link.peer:
                self.sink.receive(now, frame)
                if not self.sink.active:
                    self._after(now)
            else:
                self.refused_frames += 1
            return
        source = self._sources.get(peer)
        if kind == RequestKind.HELLO and (source is None or source.session != session_of(frame)):
            if source is not None:
                source.close()
            source = self._open_source(now, peer, session_of(frame))
        if source is None or source.closed or source.session != session_of(frame):
            if kind != RequestKind.HELLO:
                self.turn_away(peer, frame, "it knows of no such session")
            return
        try:
            source.receive(now, frame)
        except ResyncError as e:
            self.refused_frames += 1
            logger.warning("%s", e)
            self._take_from(peer, source)

    def turn_away(self, peer: str, frame: bytes, why: str) -> None:
        """Have a sink that can be given nothing here, or not any more, ask another source: were a
        frame dropped without a word, its session would wait for the answer."""
        self.refused_frames += 1
        source = self._sources.get(peer)
        if source is not None and source.session == session_of(frame):
            source.close()
        answer = turn_away(self._cluster, self._shard, peer, frame, why)
        if answer is not None:
            self._frames.append((peer, answer))

    def disconnected(self, now: float, peer: str) -> None:
        source = self._sources.pop(peer, None)
        if source is not None:
            source.close()
        if self.sink.active and self.sink.link.peer == peer:
            self.sink.lost(now, "the link to it is lost")
            self._after(now)

    def take_frames(self) -> list[tuple[str, bytes]]:
        """Frames to send, with the node they are for."""
        frames, self._frames = self._frames, []
        return frames

    @property
    def has_finished(self) -> bool:
        """Whether `take_finished` would give anything."""
        return self.sink.has_finished

    def take_finished(self) -> tuple[int, int] | None:
        """Once after the records became whole: index and term to let the Raft group jump to."""
        return self.sink.take_finished()

    def close(self) -> None:
        """Give back every snapshot."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()

    # -- inside ---------------------------------------------------------------------------------

    def _unfit(self, lacking_serves: bool) -> str:
        if self.sink.holds:
            return "it is being resynced itself"
        count = 0 if lacking_serves else self.missing.total()[0]
        return f"it lacks {count} bodies itself" if count else ""

    def _open_source(self, now: float, peer: str, session: int) -> Source:
        link = Link(self._cluster, self._shard, peer)
        source = Source(
            self._index,
            self._bodies,
            link,
            session,
            self._bucket,
            self._unfit,
            now,
            self.limits,
        )
        open_ = [p for p, one in self._sources.items() if not one.closed and p != peer]
        self._sources[peer] = source
        if len(open_) >= self.limits.sources_max:
            source.refuse(f"{len(open_)} others are being served")
            self._take_from(peer, source)
        return source

    def _take_from(self, peer: str, source: Source) -> None:
        self._frames.extend((peer, frame) for frame in source.take_frames())
        for digest in source.damaged:
            size = body_size(self._index, digest)
            if size is not None:
                self.missing.add(digest, size, AWAITED_US)
                self._dirty = True
        source.damaged.clear()

    def _after(self, now: float) -> None:
        """A session is over."""
        sink = self.sink
        if sink.error is not None:
            cause = sink.error.__cause__
            self.full_disk = isinstance(cause, DiskFull)
            left = set(self._sources_of(self._connected)) - self._tried
            if sink.error.elsewhere and left:
                sink.retry_now()
                self._next_at_once = True
                logger.warning("%s; another one is asked", sink.error)
            else:
                self._tried.clear()
                if sink.error.elsewhere:
                    self._lacking_serves = True
                    sink.retry_within(now)
                logger.warning("%s; tried again in %.1f s", sink.error, sink.retry_at - now)
            return
        self.full_disk = self._lacking_serves = False
        self._tried.clear()
        for digest in sink.unavailable:
            if len(self._lacking) < _LACKING_MAX or digest in self._lacking:
                self._lacking.setdefault(digest, set()).add(sink.link.peer)
        logger.info("shard %d: resync with %s is done", self._shard, sink.link.peer)

    def _sources_of(self, connected: Sequence[str]) -> Sequence[str]:
        """Those that may be a source of what is needed now."""
        if self._only and self.needs_records:
            return [name for name in connected if name in self._only]
        return connected

    def _next_peer(self, sources: Sequence[str]) -> str | None:
        """The best; after a session that did not do it, the next after the last that was not tried
        since the last pause."""
        if not sources:
            return None
        if self.sink.error is None and not self._lacking:
            return sources[0]
        at = sources.index(self._last_peer) + 1 if self._last_peer in sources else 0
        following = [*sources[at:], *sources[:at]]
        return next((name for name in following if name not in self._tried), following[0])

    def _give_up_lost(self, replicas: Sequence[str]) -> None:
        everyone = set(replicas)
        for digest, peers in list(self._lacking.items()):
            if not self.missing.has(digest):
                del self._lacking[digest]
            elif everyone and everyone <= peers:
                del self._lacking[digest]
                self._lose(digest)
        if not everyone:
            for item in self.missing.page(b"", _ALONE_PAGE):
                self._lose(item.digest)

    def _lose(self, digest: bytes) -> None:
        self.missing.lose(digest)
        self._dirty = True
        logger.error("shard %d: no replica has the body %s", self._shard, digest.hex())

    def _ask_again(self, now: float) -> None:
        self._asked_again_at = now + LOST_RETRY_S
        for digest in self.missing.lost():
            size = body_size(self._index, digest)
            if size is None:
                self.missing.forget_lost(digest)
            else:
                self.missing.add(digest, size, 0)
            self._dirty = True
