"""What a node does of itself with mail that is there, besides serving it."""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass

from raftmail.admin.admin_calls import AdminCalls
from raftmail.admin.api.status import BackgroundReport, WorkReport
from raftmail.cluster.router import Router
from raftmail.node.aged_mail_loop import AgedMailLoop
from raftmail.node.config import Config, JunkSection
from raftmail.service.junk_teacher import JunkTeacher, TeachingLimits
from raftmail.service.learning_program import LearningProgram


@dataclass(slots=True, repr=False)
class BackgroundWork:
    """All of it at one node, wired together."""

    aged: AgedMailLoop
    teacher: JunkTeacher | None

    @staticmethod
    def of(
        config: Config, loop: asyncio.AbstractEventLoop, router: Router, calls: AdminCalls
    ) -> BackgroundWork:
        """Wire it together."""
        expire = config.expire
        return BackgroundWork(
            AgedMailLoop(loop, router, calls, expire.ages_us, float(expire.period_s)),
            _teacher_of(config.junk, router),
        )

    def report(self) -> BackgroundReport:
        """What `raftmail status` shows of it."""
        return BackgroundReport(
            expunged=self.aged.expunged if self.aged.ages_us else None,
            learning=None if self.teacher is None else _learning(self.teacher),
        )

    def tick(self, now: float) -> None:
        """With every tick of the node."""
        self.aged.tick(now)

    async def close(self) -> None:
        """Stop all of it."""
        await self.aged.close()
        if self.teacher is not None:
            await self.teacher.close()


def _teacher_of(junk: JunkSection, router: Router) -> JunkTeacher | None:
    spam, ham = (
        LearningProgram(tuple(shlex.split(command)), float(junk.timeout_s)) if command else None
        for command in (junk.learn_spam, junk.learn_ham)
    )
    if spam is None and ham is None:
        return None
    limits = TeachingLimits(
        at_once_max=junk.at_once_max,
        waiting_max=junk.waiting_max,
        message_bytes_max=junk.message_bytes_max,
    )
    return JunkTeacher(router, spam, ham, limits)


def _learning(teacher: JunkTeacher) -> WorkReport:
    taught = teacher.taught
    return WorkReport(teacher.waiting, taught.learnt, taught.failed, taught.dropped)
