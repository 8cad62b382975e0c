"""What a node does of itself with mail that is there, besides serving it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from raftmail.admin.admin_calls import AdminCalls
from raftmail.admin.api.status import BackgroundReport, RulesReport, WorkReport
from raftmail.cluster.router import Router
from raftmail.node.aged_mail_loop import AgedMailLoop
from raftmail.node.config import Config, ConfigError, JunkSection
from raftmail.service.delivery_rules import DeliveryRules, RuleCounts
from raftmail.service.junk_teacher import JunkTeacher, TeachingLimits
from raftmail.service.learning_program import LearningProgram
from raftmail.service.web_hooks import HookLimits, WebHooks

SECRET_BYTES_MIN: Final = 16


@dataclass(slots=True, repr=False)
class BackgroundWork:
    """All of it at one node, wired together."""

    aged: AgedMailLoop
    teacher: JunkTeacher | None
    hooks: WebHooks | None
    rules: DeliveryRules

    @staticmethod
    def of(
        config: Config,
        loop: asyncio.AbstractEventLoop,
        router: Router,
        calls: AdminCalls,
        wall: Callable[[], float],
    ) -> BackgroundWork:
        """Wire it together; `wall` is Unix time. Raises `ConfigError`."""
        expire = config.expire
        return BackgroundWork(
            AgedMailLoop(loop, router, calls, expire.ages_us, float(expire.period_s)),
            _teacher_of(config.junk, router),
            _hooks_of(config, router, wall),
            DeliveryRules.of(router),
        )

    def report(self) -> BackgroundReport:
        """What `raftmail status` shows of it."""
        return BackgroundReport(
            expunged=self.aged.expunged if self.aged.ages_us else None,
            learning=None if self.teacher is None else _learning(self.teacher),
            push=None if self.hooks is None else _push(self.hooks),
            rules=_judged(self.rules.counts),
        )

    def alarms(self) -> Sequence[str]:
        """What of it operators have to hear of."""
        return self.rules.alarms()

    def tick(self, now: float) -> None:
        """With every tick of the node."""
        self.aged.tick(now)

    async def close(self) -> None:
        """Stop all of it."""
        await self.aged.close()
        if self.teacher is not None:
            await self.teacher.close()
        if self.hooks is not None:
            await self.hooks.close()


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


def _judged(counts: RuleCounts) -> RulesReport | None:
    if not counts.judged:
        return None
    return RulesReport(counts.judged, counts.failed, counts.redirects_kept, counts.unanswered)


def _learning(teacher: JunkTeacher) -> WorkReport:
    taught = teacher.taught
    return WorkReport(teacher.waiting, taught.learnt, taught.failed, taught.dropped)


def _hooks_of(config: Config, router: Router, wall: Callable[[], float]) -> WebHooks | None:
    """Raises `ConfigError` for a secret that cannot be used."""
    push = config.push
    if not config.hooks:
        return None
    path = config.folder / push.secret_file
    try:
        secret = path.read_bytes().strip()
    except OSError as e:
        raise ConfigError(f"{path}: the secret of [push] cannot be read: {e}") from None
    if len(secret) < SECRET_BYTES_MIN:
        raise ConfigError(
            f"{path}: the secret of [push] has {len(secret)} bytes; it must have "
            f"{SECRET_BYTES_MIN} or more"
        )
    limits = HookLimits(
        timeout_s=float(push.timeout_s),
        waiting_max=push.waiting_max,
        keep_s=float(push.keep_s),
        details=push.details,
    )
    return WebHooks(router, config.hooks, secret, limits, wall)


def _push(hooks: WebHooks) -> WorkReport:
    counts = hooks.counts
    return WorkReport(hooks.waiting, counts.told, counts.failed, counts.dropped)
