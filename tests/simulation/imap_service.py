"""A simulated node's front door for IMAP: the real `ReadPath` and `Watch`, and what carries calls
between nodes in place of the router.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from raftmail.cluster.read_path import Calling, ReadPath
from raftmail.cluster.rpc import CallKind
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.changes import Change, Missed
from raftmail.mail.codec import decode_query, encode_answer, encode_request
from raftmail.mail.failures import Failure, Unavailable
from raftmail.service.login import LoggedIn, LogInOutcome, Origin, PasswordShown, Shown
from raftmail.service.watching import Watch
from raftmail.shard.replica import Replica
from tests.simulation.disk import PowerCut
from tests.simulation.imap_loop import SimLoop
from tests.simulation.network import Network
from tests.simulation.node import SHARD, SimNode

ATTEMPT_S = 1.0
"""How long an answer of another node is waited for before it is asked again."""
AGAIN_S = 0.05
WIRE_S = (0.0002, 0.002)


@dataclass(slots=True)
class _GuardedReplica:
    """The node's replica, whose power may go in the middle of a read. That ends the node, and is
    not for the session to see."""

    replica: Replica
    loop: SimLoop

    def __getattr__(self, name: str) -> Any:
        return getattr(self.replica, name)

    @property
    def shard(self) -> int:
        return SHARD

    def query(self, query: q.Query) -> q.Answer:
        try:
            return self.replica.query(query)
        except PowerCut as e:
            self.loop.fault = e
            raise Unavailable(Failure("the power went")) from None

    def body(self, digest: bytes) -> bytes:
        try:
            return self.replica.body(digest)
        except PowerCut as e:
            self.loop.fault = e
            raise Unavailable(Failure("the power went")) from None


@dataclass(slots=True)
class _Links:
    node: SimNode

    def wake(self, shard: int) -> None:
        self.node._wake()


@dataclass(slots=True, eq=False)
class _Source:
    """A watch of the node's own replica."""

    replica: Replica
    user: str
    hear: Callable[[Change], None]

    def close(self) -> None:
        self.replica.unwatch(self.user, self.hear)


class SimService:
    """What one session asks of its node. `Calling` and the parts of `Service` that IMAP needs."""

    def __init__(
        self,
        node: SimNode,
        nodes: Mapping[str, SimNode],
        network: Network,
        loop: SimLoop,
        client: bytes,
        rng: random.Random,
    ) -> None:
        self._node = node
        self._nodes = nodes
        self._network = network
        self._loop = loop
        self._client = client
        self._rng = rng
        self._seq = 0
        self._open: dict[int, None] = {}
        self.node = node.name
        self.links = _Links(node)
        self.replicas = {SHARD: _GuardedReplica(node.replica, loop)}
        self._reads = ReadPath(cast(Calling, self))

    # -- Calling ----------

    def clock(self) -> float:
        return self._node.now

    def shard_of(self, user: str) -> int:
        return SHARD

    def leader_of(self, shard: int) -> str | None:
        return self._node.replica.leader_node

    def own(self, shard: int) -> _GuardedReplica | None:
        return self.replicas.get(shard)

    def start(
        self,
        kind: CallKind,
        shard: int,
        deadline_s: float,
        data: tuple[Any, ...],
        done: Callable[[Any], None],
    ) -> None:
        """A barrier, at whoever leads."""
        assert kind is CallKind.BARRIER

        def ask(master: SimNode, answered: Callable[[object], None]) -> None:
            master.barrier(answered)

        self._insist(ask, deadline_s, done)

    async def call(
        self,
        kind: CallKind,
        shard: int,
        deadline_s: float,
        data: tuple[Any, ...],
        *,
        target: str = "",
    ) -> Any:
        """A query, at whoever leads, behind a barrier there."""
        assert kind is CallKind.QUERY
        query = decode_query(data[0])

        def ask(master: SimNode, answered: Callable[[object], None]) -> None:
            def passed(index: int | None) -> None:
                if index is None:
                    answered(None)
                else:
                    self._node.world.after(0.0, lambda: master.read(index, query, read))

            def read(answer: tuple[object] | None) -> None:
                is_bad = answer is None or isinstance(answer[0], Exception)
                answered(None if is_bad else encode_answer(cast(Any, answer)[0]))

            master.barrier(passed)

        return await self._awaited(partial(self._insist, ask, deadline_s))

    # -- Commands ----------

    async def execute(
        self, command: c.Command, *, blobs: Sequence[c.Blob] = (), deadline_s: float
    ) -> r.Executed:
        """As `cluster.router` does: under one number until it is answered."""
        command = self._named(command)
        self._seq = seq = self._seq + 1
        self._open[seq] = None
        floor = next(iter(self._open)) - 1
        request = encode_request(self._client, seq, floor, command)
        doubtful = False

        def ask(master: SimNode, answered: Callable[[object], None]) -> None:
            nonlocal doubtful
            before, doubtful = doubtful, True

            def told(answer: r.Executed | Failure) -> None:
                nonlocal doubtful
                if isinstance(answer, Failure) and not (answer.final or answer.full):
                    doubtful = before or answer.unknown
                    answered(None)
                else:
                    answered(answer)

            master.submit(request, blobs, told)

        try:
            done = await self._awaited(partial(self._insist, ask, deadline_s))
        except Unavailable as e:
            raise Unavailable(replace(e.failure, unknown=doubtful)) from None
        finally:
            self._open.pop(seq, None)
        assert isinstance(done, r.Executed)
        return done

    def _named(self, command: c.Command) -> c.Command:
        """GUIDs of the seed's own, for the run to be the same again."""
        if isinstance(command, c.Save):
            named = tuple(replace(m, guid=self._rng.randbytes(16)) for m in command.messages)
            return replace(command, messages=named)
        if isinstance(command, c.CreateMailbox):
            return replace(command, guid=self._rng.randbytes(16))
        return command

    def quota_of(self, user: str) -> int:
        return 0

    # -- Reads ----------

    async def query(
        self, query: q.Query, *, deadline_s: float, point: q.ReadPoint | None = None
    ) -> q.Answer:
        return await self._reads.answer(query, deadline_s, point)

    def watch(self, user: str, wake: Callable[[], None]) -> Watch:
        watch = Watch(wake)
        replica = self._node.replica
        watch.source = _Source(replica, user, watch.hear)
        replica.watch(user, watch.hear)
        watch.hear(Missed(user))
        return watch

    # -- Accounts ----------

    takes_tokens = False

    async def log_in(self, shown: Shown, origin: Origin, *, deadline_s: float) -> LogInOutcome:
        assert isinstance(shown, PasswordShown)
        return LoggedIn(shown.user)

    def enter_user(self, user: str) -> bool:
        return True

    def leave_user(self, user: str) -> None:
        pass

    # -- between nodes ----------

    async def _awaited(self, begin: Callable[[Callable[[Any], None]], None]) -> Any:
        future = self._loop.create_future()
        begin(lambda outcome: None if future.done() else future.set_result(outcome))
        outcome = await future
        if isinstance(outcome, Failure):
            raise Unavailable(outcome)
        return outcome

    def _insist(
        self,
        ask: Callable[[SimNode, Callable[[object], None]], None],
        deadline_s: float,
        done: Callable[[Any], None],
    ) -> None:
        """Ask whoever leads until one answers with something, or the time is over."""
        node = self._node
        until = node.now + deadline_s
        attempt = 0
        is_over = False

        def again(of: int) -> None:
            if not is_over and of == attempt:
                node._later(AGAIN_S, attend)

        def heard(of: int, answer: object) -> None:
            nonlocal is_over
            if is_over:
                return
            if answer is None:
                again(of)
            else:
                is_over = True
                done(answer)

        def attend() -> None:
            nonlocal attempt, is_over
            if is_over:
                return
            if node.now >= until:
                is_over = True
                done(Failure("nobody answered within the deadline"))
                return
            attempt += 1
            of = attempt
            leader = node.replica.leader_node
            if leader is None or not self._network.reaches(self.node, leader):
                again(of)
                return
            node._later(ATTEMPT_S, lambda: attend() if of == attempt else None)
            master = self._nodes[leader]
            self._carry(self.node, leader, lambda: ask(master, partial(answer, of, leader)))

        def answer(of: int, leader: str, outcome: object) -> None:
            self._carry(leader, self.node, lambda: node._later(0.0, partial(heard, of, outcome)))

        attend()

    def _carry(self, source: str, target: str, then: Callable[[], None]) -> None:
        """Some time later, if the way is open then."""

        def arrive() -> None:
            if self._network.reaches(source, target) and self._nodes[target].running:
                then()

        delay = 0.0 if source == target else self._rng.uniform(*WIRE_S)
        self._node.world.after(delay, arrive)
