"""The service over one real state machine in memory: what a node keeps, without the cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.changes import Change
from raftmail.mail.failures import Unavailable
from raftmail.service.watching import Watch
from raftmail.shard.watchers import Watchers
from tests.frontends.twin_service import TwinService
from tests.shard.machines import Feeder, new_machine


@dataclass(slots=True)
class _Source:
    watchers: Watchers
    user: str
    hear: Callable[[Change], None]

    closed: Callable[[], None]

    def close(self) -> None:
        self.watchers.remove(self.user, self.hear)
        self.closed()


class MachineService(TwinService):
    """`quotas` are bytes by user. Users are the twin's."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = new_machine()
        self.feeder = Feeder(self.machine)
        self.watchers = Watchers(self.machine.index)
        self.quotas: dict[str, int] = {}
        self._open: set[Watch] = set()

    def watch(self, user: str, wake: Callable[[], None]) -> Watch:
        made = Watch(wake)
        made.source = _Source(self.watchers, user, made.hear, lambda: self._open.discard(made))
        self.watchers.add(user, made.hear)
        self._open.add(made)
        return made

    @property
    def watching(self) -> int:
        """How many sessions watch."""
        return len(self._open)

    def quota_of(self, user: str) -> int:
        return self.quotas.get(user, 0)

    async def execute(
        self, command: c.Command, *, blobs: Sequence[c.Blob] = (), deadline_s: float
    ) -> r.Executed:
        if self.failures:
            raise Unavailable(self.failures.pop(0))
        return await super().execute(command, blobs=blobs, deadline_s=deadline_s)

    def _execute(self, command: c.Command) -> r.Result:
        self.executions += 1
        result = self.feeder.do(command)
        self.watchers.tell()
        return result

    def _query(self, query: q.Query) -> q.Answer:
        if isinstance(query, q.FetchBody):
            digest = self.machine.body_of(query)
            return None if digest is None else self.bodies[digest]
        if isinstance(query, q.FetchBodies):
            named = self.machine.bodies_of(query)
            if named is None:
                return None
            return q.MessageBodies(tuple((uid, self.bodies[digest]) for uid, digest in named))
        if isinstance(query, q.GetUser):
            return super()._query(query)
        return self.machine.query(query)
