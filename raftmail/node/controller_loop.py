"""What the root's master does for the cluster: it writes down what the cluster begins with, and
carries out what operators asked for.

Each round it looks at all nodes and has `controller.next_steps` say what to do now. It keeps
nothing that matters: whoever leads the root next begins with what the root's records and the groups
say. A step that fails is decided anew in the next round.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raftmail.admin.admin_calls import AdminCalls
from raftmail.admin.api.between_nodes import NodeObservation
from raftmail.admin.api.calls import ChangeHere, ObserveHere, TransferHere
from raftmail.admin.group_reports import LastHeard, observed_shards
from raftmail.cluster.controller import next_steps
from raftmail.cluster.records import ReplicaRecord, ReplicaState, RuleRecord, RuleState, ShardRecord
from raftmail.cluster.router import Router
from raftmail.cluster.rules import FORGOTTEN_S, to_pin, waits_for
from raftmail.cluster.state import ClusterState, genesis_command
from raftmail.cluster.steps import (
    AddLearner,
    Observed,
    ObservedShard,
    Promote,
    RemoveReplica,
    Step,
    StepLimits,
    Transfer,
    WriteRecords,
)
from raftmail.cluster.view import ROOT_SHARD
from raftmail.consensus.membership import BadMembership
from raftmail.mail.failures import Unavailable
from raftmail.mail.queries import ListUsers
from raftmail.mail.results import Refused
from raftmail.net.errors import start_task, tell
from raftmail.node.config_follower import ConfigFollower

logger = logging.getLogger(__name__)

BUSY_S = 0.2
"""Between two rounds while there is something to do."""
CALM_S = 2.0
"""Between two rounds while everything is as it should be."""
GENESIS_S = 5.0
STEP_S = 5.0
OBSERVE_S = 2.0
UNREACHED_S = 0.5
"""How long a node is waited for to which there is no link: it may answer through another one."""


@dataclass(slots=True, repr=False)
class ControllerLoop:
    """Works while this node leads the root, one round at a time."""

    loop: asyncio.AbstractEventLoop
    router: Router
    config_source: ConfigFollower
    calls: AdminCalls
    observed: Observed | None = None
    """What the last round saw; None while this node does not lead the root."""
    _hearing: LastHeard | None = None
    _task: asyncio.Task[None] | None = None
    _next: float = 0.0
    _calm: bool = False
    _said: dict[str, str] = field(default_factory=dict)

    def tick(self, now: float) -> None:
        """Begin a round when it is time to."""
        root = self.router.replicas.get(ROOT_SHARD)
        if root is None or not root.accepts:
            self._hearing = self.observed = None
            return
        if self._task is None and now >= self._next:
            work = self._round(root.config_revision)
            self._task = start_task(self.loop, work, self._failed)
            self._task.add_done_callback(self._done)

    def changed(self) -> None:
        """The cluster's state has changed: there may be something to do."""
        self._next = 0.0

    async def close(self) -> None:
        """Stop; what is under way is told by the root's records to whoever goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._next = self.loop.time() + (CALM_S if self._calm else BUSY_S)

    def _failed(self, error: Exception) -> None:
        tell(logger, "a round of the root's master failed, and is begun again", error)

    async def _round(self, revision: int) -> None:
        self._calm = False
        try:
            if not revision:
                await self._write_genesis()
                return
            state = await self.config_source.newest(OBSERVE_S)
        except Unavailable as e:
            logger.info("the root's master goes on later: %s", e)
            return
        try:
            observed = await self._observe(state)
        except Unavailable as e:
            logger.info("the root's master goes on later: %s", e)
            return
        if self._hearing is None:
            return  # another leads the root by now, and looks for itself
        self.observed = observed
        steps = next_steps(state, observed, self.loop.time())
        await asyncio.gather(*[self._carry_out(step, observed) for step in steps])
        self._calm = not steps and not _unsettled(state) and not to_pin(state)

    async def _write_genesis(self) -> None:
        """The first records of a new cluster. Refused when somebody else has written them
        meanwhile."""
        command = genesis_command(self.config_source.state)
        executed = await self.router.execute(command, deadline_s=GENESIS_S)
        if not isinstance(executed.result, Refused):
            logger.info("wrote down what the cluster begins with, %d records", len(command.puts))

    # -- telling -----------------------------------------------------------------------------------

    def waits(self) -> dict[str, str]:
        """What each replica that comes or goes (`SHARD ID`), and each rule that is being changed
        (`rule DOMAIN`), waits for.

        It is as the last round saw it. Nothing when this node does not lead the root.
        """
        observed, state = self.observed, self.config_source.state
        if observed is None:
            return {}
        waits = {
            f"{shard.number} {replica.id}": _replica_waits_for(shard, replica, observed)
            for shard in state.every_shard.values()
            for replica in shard.replicas
            if replica.state is not ReplicaState.VOTER
        }
        for rule in state.table(RuleRecord).values():
            if rule.state is RuleState.PINNING:
                waits[f"rule {rule.domain}"] = "its users are being pinned to where their mail is"
            elif rule.state is RuleState.SPREADING:
                names = waits_for(state, rule, observed.nodes)
                waits[f"rule {rule.domain}"] = ", ".join(
                    f"{name} ({_silence(observed, name, FORGOTTEN_S)})" for name in names
                )
        return waits

    # -- looking -----------------------------------------------------------------------------------

    async def _observe(self, state: ClusterState) -> Observed:
        if self._hearing is None:
            self._hearing = LastHeard(self.loop.time(), {})
        hearing = self._hearing  # when this node leads no more, it is let go of meanwhile
        nodes = state.nodes
        answers = await asyncio.gather(*[self._ask(node) for node in nodes])
        shards: dict[int, ObservedShard] = {}
        commands: dict[int, Counter[str]] = {}
        heard = {}
        for node, answer in zip(nodes, answers, strict=True):
            try:
                led = {} if answer is None else observed_shards(node, answer)
                heard[node] = hearing.note(node, self.loop.time(), answer)
            except BadMembership as e:
                logger.warning("what %s answers cannot be understood: %s", node, e)
                heard[node] = hearing.note(node, self.loop.time(), None)
                continue
            shards |= led
            for number, counts in {} if answer is None else answer.commands.items():
                commands.setdefault(number, Counter()).update(counts)
        return Observed(shards, heard, commands, await self._users(to_pin(state)))

    async def _users(self, domains: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """All users of domains, as the root has them now. Raises `Unavailable`."""
        found: dict[str, list[str]] = {domain: [] for domain in domains}
        after = ""
        while domains:
            page = await self.router.query(ListUsers(after), deadline_s=OBSERVE_S)
            assert isinstance(page, tuple)
            names = [name for name in page if isinstance(name, str)]
            for name in names:
                if (domain := name.rpartition("@")[2]) in found:
                    found[domain].append(name)
            if not names:
                break
            after = names[-1]
        return {domain: tuple(names) for domain, names in found.items()}

    async def _ask(self, node: str) -> NodeObservation | None:
        is_near = node == self.router.node or self.router.links.is_up(node)
        try:
            wait_s = OBSERVE_S if is_near else UNREACHED_S
            return await self.calls.ask(node, ObserveHere(), wait_s)
        except Unavailable:
            return None

    # -- doing -------------------------------------------------------------------------------------

    async def _carry_out(self, step: Step, observed: Observed) -> None:
        try:
            if isinstance(step, WriteRecords):
                await self._configure(step)
            else:
                await self._have_done(step, observed)
        except (Unavailable, ValueError) as e:
            what = f"{type(step).__name__} {getattr(step, 'shard', '')}"
            if self._said.get(what) != str(e):
                self._said[what] = str(e)
                logger.info("%s: not yet: %s", what, e)

    async def _configure(self, step: WriteRecords) -> None:
        executed = await self.router.execute(step.change.command, deadline_s=STEP_S)
        if not isinstance(executed.result, Refused):
            logger.info("%s", step.why or "wrote down a change of the cluster")

    async def _have_done(
        self, step: AddLearner | Promote | RemoveReplica | Transfer, observed: Observed
    ) -> None:
        master = observed.shards[step.shard].master
        call: TransferHere | ChangeHere
        if isinstance(step, Transfer):
            call = TransferHere(step.shard, step.node)
            text = f"master to {step.node} ({step.why})" if step.why else f"master to {step.node}"
        else:
            action, (voters, learners) = _ACTIONS[type(step)], step.seen
            node = step.node if isinstance(step, AddLearner) else ""
            call = ChangeHere(step.shard, step.id, action, voters, learners, node)
            text = f"{action} replica {step.id}" + (f" on {node}" if node else "")
        await self.calls.ask(master, call, STEP_S)
        logger.info("shard %d: %s", step.shard, text)


_ACTIONS: dict[type[Any], str] = {AddLearner: "add", Promote: "promote", RemoveReplica: "remove"}


def _silence(observed: Observed, node: str, patience_s: float) -> str:
    """What is known of a node that is waited for."""
    found = observed.nodes.get(node)
    if found is None or found.alive:
        return "it is being told"
    left_s = max(0.0, patience_s - found.silent_s)
    return (
        f"silent for {found.silent_s:.0f} s; not waited for in {left_s:.0f} s, or when it is "
        f"removed"
    )


def _replica_waits_for(shard: ShardRecord, replica: ReplicaRecord, observed: Observed) -> str:
    seen = observed.shards.get(shard.number)
    if seen is None:
        return "the shard has no master: a majority of its replicas does not answer"
    if replica.state is ReplicaState.LEAVING:
        if replica.id not in seen.membership.voters:
            return ""
        return "it goes when all that stay are voters, and enough of them are whole"
    if not observed.alive(replica.node) and replica.id not in seen.membership.voters:
        return f"{replica.node} ({_silence(observed, replica.node, StepLimits().give_up_s)})"
    if replica.id in seen.membership.learners and replica.id not in seen.whole:
        return "it is being filled"
    return ""


def _unsettled(state: ClusterState) -> bool:
    """Whether some replica is about to come or to go."""
    return any(
        replica.state != "voter"
        for shard in state.every_shard.values()
        for replica in shard.replicas
    )
