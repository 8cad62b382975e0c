"""A replica and its group that tell a judge what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from raftmail.consensus.group import Group
from raftmail.consensus.membership import Membership
from raftmail.consensus.messages import Message
from raftmail.shard.replica import Replica

if TYPE_CHECKING:
    from tests.simulation.node import SimNode


class Watcher(Protocol):
    """Who looks at what replicas do; raises when a promise is broken."""

    def applied(self, node: SimNode, index: int, term: int, payload: bytes) -> None: ...
    def stepped(self, node: SimNode) -> None: ...
    def voted(self, node: SimNode, message: Message) -> None: ...
    def started(self, node: SimNode) -> None: ...
    def disk_lost(self, node: SimNode) -> None: ...
    def stands_at(self, node: SimNode, index: int) -> None: ...
    def stopped(self, node: SimNode, error: BaseException) -> None: ...


class WatchedGroup(Group):
    """Tells the judge when the state machine stands somewhere else than after the entry that it applied last."""

    owner: SimNode

    def restate(self, membership: tuple[int, Membership]) -> None:
        super().restate(membership)
        self.owner.watcher.stands_at(self.owner, self.applied_index)

    def rewind_applied(self, index: int) -> None:
        super().rewind_applied(index)
        self.owner.watcher.stands_at(self.owner, self.applied_index)

    def jump(self, index: int, term: int, membership: tuple[int, Membership]) -> None:
        super().jump(index, term, membership)
        self.owner.world.reached["jumps of the log"] += 1
        self.owner.watcher.stands_at(self.owner, index)


class Watched(Replica):
    """A replica whose applies are told to the watcher."""

    owner: SimNode

    def apply(self, index: int, term: int, payload: bytes) -> None:
        if self.owner.fail_apply is None:
            Replica.apply(self, index, term, payload)
        else:
            self._apply_on_full_disk(index, term, payload)
        self.owner.watcher.applied(self.owner, index, term, payload)

    def _apply_on_full_disk(self, index: int, term: int, payload: bytes) -> None:
        """The first put of it fails; when there was none, one of the next apply that makes any."""
        engine = self.owner.engine
        engine.fail_put = self.owner.fail_apply
        try:
            Replica.apply(self, index, term, payload)
        finally:
            if engine.fail_put is None:
                self.owner.fail_apply = None
                self.owner.world.reached["applies that found no space"] += 1
            engine.fail_put = None

    def _commit_index(self, now: float) -> None:
        before = self.counters.index_commits
        super()._commit_index(now)
        self.owner.world.reached["commits of the index"] += self.counters.index_commits - before

    def _trim_log(self) -> None:
        before = self.group.journal.first_index
        super()._trim_log()
        self.owner.world.reached["trims of the log"] += self.group.journal.first_index > before
