"""Has filters learn from what users move into Junk, and out of it.

A move is noted when its result is there, and never waits for what follows. Only then it is looked
which of the mailboxes are Junk; the bodies are read one by one, when a program is free for them.

Each move teaches at most once: what waits is in the memory of one node, and a program that fails is
not called again.

Invariants:

1. At most `moves_max` moves wait to be looked at, and `waiting_max` messages to be learnt. What
   comes beyond that is dropped, and counted.
2. At most `at_once_max` programs run, each with one body of at most `message_bytes_max`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from raftmail.mail.commands import Blob, Command, Copy, GuestCommand, MailboxRef, Save
from raftmail.mail.failures import Unavailable
from raftmail.mail.queries import (
    Answer,
    FetchBody,
    FetchMessages,
    GetMailbox,
    MailboxInfo,
    MessagePage,
    Query,
    ReadPoint,
)
from raftmail.mail.results import CopyResult, Executed, Result, SaveResult
from raftmail.mail.uidset import UidSet
from raftmail.net.errors import start_task, tell
from raftmail.service.learning_program import LearningProgram

logger = logging.getLogger(__name__)

JUNK: Final = "\\Junk"
TRASH: Final = "\\Trash"
READ_S: Final = 20.0
SAY_AGAIN_S: Final = 60.0
"""A program that fails is told of at most so often; all failures are counted."""


class ReadableMail(Protocol):
    """What this reads."""

    async def query(
        self, query: Query, *, deadline_s: float, point: ReadPoint | None = None
    ) -> Answer: ...
    @property
    def clock(self) -> Callable[[], float]: ...


class Execute(Protocol):
    """`service.Commands.execute`."""

    def __call__(
        self, command: Command, *, blobs: Sequence[Blob] = (), deadline_s: float
    ) -> Coroutine[Any, Any, Executed]: ...


@dataclass(frozen=True, slots=True)
class TeachingLimits:
    """See the module's invariants."""

    at_once_max: int = 2
    waiting_max: int = 1000
    message_bytes_max: int = 1 << 20
    moves_max: int = 1000


@dataclass(slots=True)
class Taught:
    """Messages, since the start. `failed` are those that the program failed at, or that could not
    be read. `dropped` are those that were too long, or too many."""

    learnt: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class _Move:
    """Messages that came into a mailbox, and the mailbox that they came from (None: none)."""

    user: str
    mailbox: int
    uids: UidSet
    source: tuple[str, MailboxRef] | None


@dataclass(frozen=True, slots=True)
class _Lesson:
    user: str
    mailbox: int
    uid: int
    program: LearningProgram


@dataclass(slots=True, repr=False)
class JunkTeacher:
    """Of one node. Without a program for spam, or for what is none, nobody learns that."""

    mail: ReadableMail
    spam: LearningProgram | None
    ham: LearningProgram | None
    limits: TeachingLimits = field(default_factory=TeachingLimits)
    taught: Taught = field(default_factory=Taught)
    _moves: deque[_Move] = field(default_factory=deque)
    _lessons: deque[_Lesson] = field(default_factory=deque)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _looking: bool = False
    _teaching: int = 0
    _said_at: float = -1e18
    _closed: bool = False

    @property
    def waiting(self) -> int:
        """Messages that wait to be learnt."""
        return len(self._lessons)

    def watching(self, execute: Execute) -> Execute:
        """The same, with what it moves noted."""

        async def noted(
            command: Command, *, blobs: Sequence[Blob] = (), deadline_s: float
        ) -> Executed:
            executed = await execute(command, blobs=blobs, deadline_s=deadline_s)
            self.note(command, executed.result)
            return executed

        return noted

    def note(self, command: Command, result: Result) -> None:
        """A command has this result. Returns at once, and raises nothing."""
        if self._closed:
            return
        if isinstance(command, GuestCommand):
            command = command.command
        if isinstance(command, Copy) and isinstance(result, CopyResult):
            uids, source = result.target_uids, (command.user, command.mailbox)
            if uids:
                self._note(_Move(command.target.user, result.target, uids, source))
        elif isinstance(command, Save) and isinstance(result, SaveResult):
            by_place: dict[tuple[str, int], list[int]] = {}
            for one in result.saved:
                by_place.setdefault((one.user, one.mailbox), []).append(one.uid)
            for (user, mailbox), saved in by_place.items():
                self._note(_Move(user, mailbox, UidSet.from_uids(saved), None))

    def _note(self, move: _Move) -> None:
        if len(self._moves) >= self.limits.moves_max:
            self.taught.dropped += len(move.uids)
            return
        self._moves.append(move)
        if not self._looking:
            self._looking = True
            self._start(self._look())

    async def close(self) -> None:
        """Stop: what waits is forgotten, and programs that run are killed."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = start_task(asyncio.get_running_loop(), work, self._broke)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _broke(self, error: Exception) -> None:
        tell(logger, "a filter is not taught what was moved", error)

    async def _look(self) -> None:
        """Find out which moves were into Junk, or out of it."""
        try:
            while self._moves:
                move = self._moves.popleft()
                try:
                    program = await self._program_for(move)
                except Unavailable:
                    self.taught.failed += len(move.uids)
                    continue
                if program is not None:
                    self._queue(move, program)
        finally:
            self._looking = False

    async def _program_for(self, move: _Move) -> LearningProgram | None:
        """Raises `Unavailable`."""
        into = await self._use_of(move.user, move.mailbox)
        from_ = "" if move.source is None else await self._use_of(*move.source)
        if into == JUNK:
            return None if from_ == JUNK else self.spam
        return self.ham if from_ == JUNK and into not in (TRASH, None) else None

    async def _use_of(self, user: str, mailbox: MailboxRef) -> str | None:
        """None: the mailbox is gone."""
        found = await self.mail.query(GetMailbox(user, mailbox), deadline_s=READ_S)
        return found.special_use if isinstance(found, MailboxInfo) else None

    def _queue(self, move: _Move, program: LearningProgram) -> None:
        room = self.limits.waiting_max - len(self._lessons)
        uids = list(move.uids)
        self.taught.dropped += max(0, len(uids) - room)
        self._lessons.extend(_Lesson(move.user, move.mailbox, uid, program) for uid in uids[:room])
        while self._teaching < min(self.limits.at_once_max, len(self._lessons)):
            self._teaching += 1
            self._start(self._teach())

    async def _teach(self) -> None:
        try:
            while self._lessons:
                await self._learn(self._lessons.popleft())
        finally:
            self._teaching -= 1

    async def _learn(self, lesson: _Lesson) -> None:
        user, mailbox, uid = lesson.user, lesson.mailbox, lesson.uid
        try:
            only = FetchMessages(user, mailbox, UidSet.single(uid), limit=1)
            page = await self.mail.query(only, deadline_s=READ_S)
            if not isinstance(page, MessagePage) or not page.messages:
                return  # it has gone meanwhile
            if page.messages[0].size_bytes > self.limits.message_bytes_max:
                self.taught.dropped += 1
                return
            body = await self.mail.query(FetchBody(user, mailbox, uid), deadline_s=READ_S)
        except Unavailable as e:
            self._failed(user, str(e))
            return
        if not isinstance(body, bytes):
            return
        if wrong := await lesson.program.learn(user, body):
            self._failed(user, wrong)
        else:
            self.taught.learnt += 1

    def _failed(self, user: str, why: str) -> None:
        self.taught.failed += 1
        now = self.mail.clock()
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            logger.warning(
                "a message of %s was not learnt: %s (%d were not since the start)",
                user,
                why,
                self.taught.failed,
            )
