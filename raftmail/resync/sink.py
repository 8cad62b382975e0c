"""The end that lacks something: asks a source, compares, and writes what it is given.

Invariants:

1. From `start` on until the records are whole, nothing else may change the index (`holds`). What is
   written goes in with the mark, and only the transaction that takes the mark away sets the applied
   index. A commit by somebody else between two steps does no harm.
2. That transaction is written only when every mailbox that differed, and the shard, have the
   digest that the source has at that index.
3. A session that fails before anything was committed leaves the index as it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from raftmail.mail.packing import CodecError
from raftmail.resync import requests as r
from raftmail.resync.bodies import BodyFetch
from raftmail.resync.frames import Decoder, Encoder, Link, session_of
from raftmail.resync.limits import ResyncError, ResyncLimits
from raftmail.resync.missing import Missing
from raftmail.resync.pace import Backoff, Meter
from raftmail.resync.records import DigestDiffers, RecordsJob
from raftmail.resync.requests import ANSWER, RequestKind
from raftmail.resync.source import BodySource
from raftmail.resync.state import Mark, Suspects, write_jump
from raftmail.resync.survey import BLOCKED, Pause, SurveyRequest, Task
from raftmail.storage.disk import DiskError, SyncFailed
from raftmail.storage.index import Index
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged, seal_packed

_ASIDE = frozenset((ANSWER + RequestKind.REFUSED, ANSWER + RequestKind.PROBE))

_ADVANCE_ROWS = 512
"""What one turn of a task takes of a step's rows, at least."""


class SinkPhase(StrEnum):
    """What a sink does."""

    IDLE = "idle"
    GREETING = "greeting"
    SURVEY = "survey"
    RECORDS = "records"
    VERIFY = "verify"
    BODIES = "bodies"
    WAITING = "waiting"


_AT_REST = (SinkPhase.IDLE, SinkPhase.WAITING)


@dataclass(frozen=True, slots=True)
class Progress:
    """For status. Totals are what is known so far; bytes are those that came in."""

    phase: SinkPhase
    peer: str
    target_index: int
    mailboxes_done: int
    mailboxes_total: int
    messages_done: int
    messages_total: int
    bodies_left: int
    body_bytes_left: int
    body_bytes_done: int
    received_bytes: int
    rate_bytes_s: float
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class ResyncDone:
    """A session that ended well: seconds until the records were whole (None: it was for bodies
    alone) and in all, and bytes either way."""

    peer: str
    records_s: float | None
    all_s: float
    received_bytes: int
    sent_bytes: int


@dataclass(slots=True)
class _Running:
    task: Task
    value: Any = None
    waits: bool = False


@dataclass(slots=True, repr=False)
class _Asked:
    request: SurveyRequest
    running: _Running


class Sink:
    """One for the life of a replica; sessions come and go. The caller gives it frames and time,
    and takes its frames. `mark` is there while the index is none of a whole replica."""

    def __init__(
        self,
        index: Index,
        bodies: BodySource,
        cluster: str,
        shard: int,
        reopen: Callable[[], None],
        limits: ResyncLimits | None = None,
    ) -> None:
        """`reopen` makes the state machine forget the open transaction and whatever it holds of
        the index in memory (`Machine.abort`)."""
        self.limits = limits = limits or ResyncLimits()
        self.missing = Missing(index)
        self.mark = Mark.read(index)
        self.phase = SinkPhase.IDLE
        self.link = Link(cluster, shard, "nobody")
        self.error: ResyncError | None = None
        self.last: ResyncDone | None = None
        self.retry_at = 0.0
        self.dirty = False
        self.records_done = 0
        """How often the records became whole."""
        self.unavailable: set[bytes] = set()
        self._index = index
        self._bodies = bodies
        self._reopen = reopen
        self.unsaved = Suspects()
        """What was noted since the last commit: an abort takes it out of the index."""
        self._backoff = Backoff(limits.retry_first_s, limits.retry_max_s)
        self._finished: tuple[int, int] | None = None
        self._frames: list[bytes] = []
        self._job: RecordsJob | None = None
        self._fetch = BodyFetch(index, bodies, self.missing, self.unavailable, limits)
        self._clear(0.0)

    def _clear(self, now: float) -> None:
        self._tasks: list[_Running] = []
        self._asked: deque[_Asked] = deque()
        self._to_ask: deque[_Asked] = deque()
        self._heard = self._answered = self._told = now
        self._session = 0
        self._accepted: r.Accepted | None = None
        self._records = False

    # -- the caller's side ----------------------------------------------------------------------

    @property
    def holds(self) -> bool:
        """Nothing may be applied, committed, served or voted for by this replica."""
        return self._records or self.mark is not None

    @property
    def frozen(self) -> bool:
        """It `holds`, or what it holds for is not taken yet (`has_finished`)."""
        return self._records or self.mark is not None or self._finished is not None

    @property
    def active(self) -> bool:
        """Whether a session is under way."""
        return self.phase not in _AT_REST

    @property
    def busy(self) -> bool:
        """It is `active`, or `has_finished`."""
        return self.phase not in _AT_REST or self._finished is not None

    @property
    def unsynced_bytes(self) -> int:
        """Of bodies that came, and wait for the blob store's sync."""
        return self._fetch.unsynced_bytes

    def start(
        self,
        now: float,
        peer: str,
        session: int,
        *,
        records: bool,
        full: bool,
        at_least: int = 0,
        lacking_serves: bool = False,
    ) -> None:
        """Begin a session with `peer`, under a number that was not used with it before. Without
        `records` it is for missing bodies alone. `full` compares every record. A source of records
        must have applied the entry `at_least`, and have every body unless `lacking_serves`. Raises
        RuntimeError when one is under way, `DiskError` when the index cannot be committed.
        """
        if self.active:
            raise RuntimeError("a resync is under way already")
        index = self._index
        records = records or self.mark is not None
        equal_serves = self.mark is not None
        if records:
            index.commit()
            self.unsaved = Suspects()
            suspects = Suspects.read(index)
            suspects.everything = suspects.everything or full
            equal_serves = equal_serves or bool(suspects)
        self._clear(now)
        self.link = Link(self.link.cluster, self.link.shard, peer)
        self.error = None
        self._records = records
        self._session = session
        self._encoder = Encoder(self.link, session)
        self._decoder = Decoder(self.link, session, self.limits.message_bytes_max, _ASIDE)
        self._meter = Meter(now)
        self._received_bytes = self._sent_bytes = 0
        self._began = now
        self._records_s: float | None = None
        self.unavailable.clear()
        self._frames.clear()
        if records:
            self._job = RecordsJob(index, self._bodies, self.missing, suspects, self.limits)
        self.phase = SinkPhase.GREETING
        stands_at = max(index.applied_index, at_least) if records else 0
        hello = r.ResyncHello(stands_at, records, equal_serves, lacking_serves)
        self._tasks.append(_Running(self._greet(hello)))

    def receive(self, now: float, frame: bytes) -> None:
        """Take a frame of the source. What is wrong with it ends the session: see `error`."""
        if not self.active:
            return
        if self._accepted is None and session_of(frame) != self._session:
            return  # still of a session before this one
        try:
            message = self._decoder.feed(frame)
            self._heard = now
            self._received_bytes += len(frame)
            self._meter.add(now, len(frame))
            if message is None or message[0] not in _ASIDE:
                self._answered = now
            if message is not None:
                self._take(*message)
        except ResyncError as e:
            self._fail(now, e)

    def step(self, now: float) -> bool:
        """Do a bounded piece of work. Whether there is more to do at once. Raises `SyncFailed`,
        `TableDamaged`, and `IndexDamaged` of a table of this replica's own."""
        if not self.active:
            return False
        self._fetch.settle()
        self.dirty = self._fetch.take_dirty() or self.dirty
        limits = self.limits
        if self._asked and now - self._heard > limits.silence_s:
            self._fail(now, self.link.error(f"not a word for {limits.silence_s} s"))
            return False
        if self._asked and now - self._answered > limits.stall_s:
            self._fail(now, self.link.error(f"no answer for {limits.stall_s} s"))
            return False
        if now - self._told > limits.probe_s:
            self._told = now
            self._frames.append(self._encoder.aside(RequestKind.PROBE, b""))
        try:
            asked = len(self._frames)
            more = self._run_tasks(now)
            if len(self._frames) > asked:
                self._told = now
            return more
        except (SyncFailed, TableDamaged):
            raise
        except (CodecError, DiskError) as e:
            ours = isinstance(e, DiskError | DigestDiffers)
            error = self.link.error(str(e), elsewhere=not ours)
            error.__cause__ = e
            self._fail(now, error)
            if isinstance(e, IndexDamaged):
                if e.is_local:
                    raise  # no source has it: every session would end here
                self.suspect(e)
            elif isinstance(e, DigestDiffers):
                self.suspect_all()
        return False

    def take_frames(self) -> list[bytes]:
        frames, self._frames = self._frames, []
        self._sent_bytes += sum(map(len, frames))
        return frames

    @property
    def has_finished(self) -> bool:
        """Whether `take_finished` would give anything."""
        return self._finished is not None

    def take_finished(self) -> tuple[int, int] | None:
        """Once after the records became whole: the index and term where the state machine stands
        now."""
        finished, self._finished = self._finished, None
        return finished

    def retry_now(self) -> None:
        """Of a session that just failed: another source may be asked without waiting, and it counts
        as no failure yet."""
        self.retry_at = 0.0
        self._backoff.take_back()

    def retry_within(self, now: float) -> None:
        """Of a session that failed because of its source, as did all others: they may do soon, and
        to ask them costs little."""
        most_s = self.limits.refused_max_s
        self.retry_at = min(self.retry_at, now + most_s)
        self._backoff.shorten(most_s)

    def hurry(self) -> None:
        """Do not wait for the next try any longer."""
        self.retry_at = 0.0
        self._backoff.succeeded()

    def lost(self, now: float, why: str) -> None:
        """The link to the source is gone."""
        if self.active:
            self._fail(now, self.link.error(why))

    def suspect(self, damage: IndexDamaged) -> bool:
        """Have a damaged record fetched again in the next session; False: nothing to be done."""
        found = Suspects()
        noted = found.note(damage)
        if noted:
            self.note(found)
        return noted

    def suspect_all(self) -> None:
        """Compare every record in the next session."""
        self.note(Suspects(everything=True))

    def note(self, more: Suspects) -> None:
        """Have these compared in the next session, also when the transaction is aborted that this
        is written in."""
        self.unsaved.merge(more)
        suspects = Suspects.read(self._index)
        suspects.merge(more)
        suspects.write(self._index)
        self.dirty = True

    def note_again(self) -> None:
        """After an abort."""
        known = Suspects.read(self._index)
        before = (*known.flags(), set(known.mailboxes))
        known.merge(self.unsaved)
        if (*known.flags(), known.mailboxes) != before:
            self.note(self.unsaved)

    def want(self, digest: bytes, size_bytes: int) -> None:
        """Somebody waits for a body: ask for it before all others."""
        self._fetch.want(digest, size_bytes)
        self.dirty = True

    def progress(self, now: float) -> Progress:
        left, bytes_left = self.missing.total()
        job = self._job
        rate = self._meter.rate(now) if self.active else 0.0
        return Progress(
            self.phase,
            self.link.peer,
            self._accepted.applied_index if self._accepted is not None else 0,
            job.mailboxes_done if job is not None else 0,
            job.mailboxes_total if job is not None else 0,
            job.messages_done if job is not None else 0,
            job.messages_total if job is not None else 0,
            left,
            bytes_left,
            self._fetch.received_bytes,
            self._received_bytes if self.active else 0,
            rate,
            bytes_left / rate if rate > 0 and self.phase == SinkPhase.BODIES else None,
        )

    # -- answers --------------------------------------------------------------------------------

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == ANSWER + RequestKind.REFUSED:
            why, elsewhere = r.decode_refusal(payload)
            raise self.link.error(why, elsewhere=elsewhere)
        if kind == ANSWER + RequestKind.PROBE:
            return
        if not self._asked or kind != ANSWER + self._asked[0].request.kind:
            raise self.link.error(f"an answer of kind {kind} to what was not asked")
        asked = self._asked.popleft()
        try:
            asked.running.value = asked.request.decode(payload)
        except CodecError as e:
            raise self.link.error(f"an answer of kind {kind}: {e}") from None
        asked.running.waits = False

    # -- tasks ----------------------------------------------------------------------------------

    def _run_tasks(self, now: float) -> bool:
        budget = self.limits.step_rows
        job = self._job
        while self.active:
            moved = False
            self._ask()
            if job is not None and self._records:
                while job.queue and len(self._tasks) < self.limits.mailboxes_parallel + 4:
                    self._tasks.append(_Running(job.queue.popleft()))
            if not self._tasks:
                self._next_phase(now)
                continue
            for running in [one for one in self._tasks if not one.waits]:
                rows = job.writer.rows if job is not None else 0
                moved = self._advance(running) or moved
                budget -= _ADVANCE_ROWS
                if job is not None and self._records:
                    job.writer.settle()
                    budget -= max(job.writer.rows - rows, 0)
                    job.commit_if_large(self._mark_now())
                    self.mark = self.mark or job.committed
            self._ask()
            if not moved:
                return False
            if budget <= 0:
                # Those that wait go on when their answers come.
                return not self._tasks or not all(one.waits for one in self._tasks)
        return False

    def _advance(self, running: _Running) -> bool:
        """Let a task run to where it asks, pauses or ends; False: it waits for others."""
        value, running.value = running.value, None
        try:
            asks = running.task.send(value)
        except StopIteration:
            self._tasks.remove(running)
            return True
        if isinstance(asks, Pause):
            return asks is not BLOCKED
        running.waits = True
        self._to_ask.append(_Asked(asks, running))
        return True

    def _ask(self) -> None:
        while self._to_ask and len(self._asked) < self.limits.requests_max:
            asked = self._to_ask.popleft()
            request = asked.request
            self._frames.extend(self._encoder.frames(request.kind, request.payload))
            self._asked.append(asked)

    def _mark_now(self) -> Mark:
        accepted = self._accepted
        index, term = (
            (accepted.applied_index, accepted.applied_term) if accepted is not None else (0, 0)
        )
        return Mark(self.link.peer, self._session, index, term)

    # -- phases ---------------------------------------------------------------------------------

    def _greet(self, hello: r.ResyncHello) -> Task:
        accepted: r.Accepted = yield SurveyRequest(
            RequestKind.HELLO, r.encode_hello(hello), r.decode_accepted
        )
        if hello.records and (
            accepted.applied_index < hello.applied_index
            or (accepted.applied_index == hello.applied_index and not hello.equal_serves)
        ):
            raise CodecError(
                f"the source stands at {accepted.applied_index}, which is not ahead of "
                f"{hello.applied_index}"
            )
        self._accepted = accepted

    def _next_phase(self, now: float) -> None:
        job, accepted = self._job, self._accepted
        if accepted is None:
            raise CodecError("a session without a greeting")
        if self.phase == SinkPhase.BODIES:
            self._frames.extend(self._encoder.frames(RequestKind.BYE, b""))
            self.phase = SinkPhase.IDLE
            self._backoff.succeeded()
            self.last = ResyncDone(
                self.link.peer,
                self._records_s,
                now - self._began,
                self._received_bytes,
                self._sent_bytes,
            )
            return
        if not self._records or job is None:
            self._begin_bodies([])
            return
        if self.phase == SinkPhase.GREETING:
            self.phase = SinkPhase.SURVEY
            tasks = job.survey(accepted)
        elif self.phase == SinkPhase.SURVEY:
            self.phase = SinkPhase.RECORDS
            job.begin(self._mark_now())
            tasks = job.records(accepted)
        elif self.phase == SinkPhase.RECORDS:
            self.phase = SinkPhase.VERIFY
            tasks = [job.verify(accepted)]
        else:
            self._finish(job, accepted)
            self._records_s = now - self._began
            return
        self._tasks = [_Running(task) for task in tasks]

    def _finish(self, job: RecordsJob, accepted: r.Accepted) -> None:
        """The records are whole and proved: let the index stand where the source's does."""
        index = self._index
        state = (
            accepted.applied_index,
            accepted.applied_term,
            accepted.next_mailbox,
            accepted.last_uidvalidity,
        )
        index.engine.table("meta").put(b"state", seal_packed(b"state", state))
        if accepted.membership:
            index.put_membership(accepted.membership_index, accepted.membership)
        write_jump(index, accepted.applied_index, accepted.applied_term)
        job.finish()
        self._records = False
        self.mark = None
        self.records_done += 1
        self._reopen()
        index.durable_index = index.committed_index = index.applied_index
        self._finished = (accepted.applied_index, accepted.applied_term)
        self._backoff.succeeded()
        self._begin_bodies([_release()])

    def _begin_bodies(self, first: list[Task]) -> None:
        self.phase = SinkPhase.BODIES
        self._tasks = [_Running(task) for task in [*first, *self._fetch.begin()]]

    def _fail(self, now: float, error: ResyncError) -> None:
        for running in self._tasks:
            running.task.close()
        self._fetch.end()
        if self._records:
            self._reopen()
            self.mark = Mark.read(self._index)
        self._clear(now)
        self._frames.clear()
        self.error = error
        self.phase = SinkPhase.WAITING
        self.retry_at = self._backoff.failed(now)


def _release() -> Task:
    yield SurveyRequest(RequestKind.RELEASE, b"", bytes)
