"""What a node does of itself with mail that is there, besides serving it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from raftmail.admin.admin_calls import AdminCalls
from raftmail.admin.api.status import BackgroundReport
from raftmail.cluster.router import Router
from raftmail.node.aged_mail_loop import AgedMailLoop
from raftmail.node.config import Config


@dataclass(slots=True, repr=False)
class BackgroundWork:
    """All of it at one node, wired together."""

    aged: AgedMailLoop

    @staticmethod
    def of(
        config: Config, loop: asyncio.AbstractEventLoop, router: Router, calls: AdminCalls
    ) -> BackgroundWork:
        """Wire it together."""
        expire = config.expire
        return BackgroundWork(
            AgedMailLoop(loop, router, calls, expire.ages_us, float(expire.period_s))
        )

    def report(self) -> BackgroundReport:
        """What `raftmail status` shows of it."""
        return BackgroundReport(expunged=self.aged.expunged if self.aged.ages_us else None)

    def tick(self, now: float) -> None:
        """With every tick of the node."""
        self.aged.tick(now)

    async def close(self) -> None:
        """Stop all of it."""
        await self.aged.close()
