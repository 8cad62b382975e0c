"""One run: a cluster, clients, faults, and the judgement."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from raftmail.consensus.membership import Membership
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.storage.check import check as fsck
from raftmail_chaos.checker import BrokenRule, examine
from raftmail_chaos.history import Fate, History
from tests.simulation.clients import (
    EVERYTHING,
    MAILBOXES,
    MOVED,
    SCRIPTS,
    SEED,
    USER,
    Client,
    Crowd,
    Knowledge,
)
from tests.simulation.corners import Corners
from tests.simulation.imap_client import MailPerson
from tests.simulation.judge import Judge
from tests.simulation.kinds import draw
from tests.simulation.members import Operator
from tests.simulation.network import Network
from tests.simulation.node import Broken, SimNode
from tests.simulation.swarm import ANNOTATIONS_SHARE
from tests.simulation.world import World

FAULTY_S = 40.0
CALM_S_MAX = 30.0
STEP_S = 0.5
SPARES = 2
"""Machines without a replica in the beginning, where members change."""
MEMBERS_CHANGE = frozenset(
    (
        "members",
        "members_at_odds",
        "eager_operator",
        "crossed_changes",
        "master_among_learners",
        "lost_voter",
    )
)
"""Faults with which they do."""
ANNOTATED_EVERY, ANNOTATED = 8, 6
"""Of eight seeds, the one whose clients set and read annotations too. Others are what they were."""
PEOPLE = (1, 1, 2, 3)
"""How many mail programs read over IMAP, where some do."""
LMDB_SEEDS = frozenset(range(60, 64))
"""Of 64 seeds, those that have LMDB itself for their indices, and not LMDB's twin."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`problem` is "" when everything held. `trace` is the same for the same seed and code."""

    seed: int
    nodes: int
    problem: str
    trace: str
    seconds: float
    operations: int
    answered: int
    entries: int
    reached: Mapping[str, int]


class Simulation:
    """One seed. Everything that the run depends on comes from it."""

    def __init__(
        self,
        seed: int,
        nodes: int,
        *,
        lmdb: bool | None = None,
        imap: bool = False,
        verbose: bool = False,
    ) -> None:
        self.world = world = World(seed, verbose=verbose)
        self.conditions = conditions = draw(random.Random(world.rng.getrandbits(32)), nodes)
        if seed % ANNOTATED_EVERY == ANNOTATED:
            calls = {**conditions.habits.calls, "annotations": ANNOTATIONS_SHARE}
            habits = replace(conditions.habits, calls=calls)
            self.conditions = conditions = replace(conditions, habits=habits)
        on_lmdb = seed % 64 in LMDB_SEEDS if lmdb is None else lmdb
        spares = SPARES if conditions.faults.keys() & MEMBERS_CHANGE else 0
        names = [f"n{i}" for i in range(1, nodes + spares + 1)]
        founding = Membership.founding(dict(enumerate(names[:nodes], 1)))
        self.network = Network(world, names)
        self.judge = Judge(world, founding, durability_share=0.02)
        self.nodes = [
            SimNode(
                world,
                self.network,
                self.judge,
                name,
                number if number in founding else 0,
                founding,
                conditions,
                on_lmdb=on_lmdb,
            )
            for number, name in enumerate(names, 1)
        ]
        self.judge.nodes = {node.name: node for node in self.nodes}
        self.history = History()
        knowledge = Knowledge()
        self.clients = [
            Client(
                f"c{i}",
                world,
                self.network,
                self.judge.nodes,
                self.history,
                knowledge,
                conditions.habits,
            )
            for i in range(conditions.habits.clients)
        ]
        # From a stream of their own: without them a seed is the run that it always was.
        rng = random.Random(f"mail programs of {seed}")
        self.people = [
            MailPerson(i, self.network, self.judge.nodes, self.history, random.Random(rng.random()))
            for i in range(rng.choice(PEOPLE) if imap else 0)
        ]
        self.operator = Operator(world, self.nodes, self.judge)
        self.injector = Corners(world, self.network, self.nodes, self.operator, conditions)
        self.injector.crowd = Crowd(world, self.history, knowledge, conditions.habits)

    def run(self) -> Outcome:
        world = self.world
        problem = ""
        try:
            self._run()
            verdict = examine(self._told())
            world.reached["what nobody can tell of a history"] += len(verdict.passed_over)
            if verdict.problems:
                problem = _as_text(verdict.problems)
        except Broken as e:
            problem = f"broken: {e}"
        except Exception as e:
            problem = f"error: {type(e).__name__}: {e}"
            if world._verbose:
                raise
        finally:
            for node in self.nodes:
                node.engine.close()
        if problem:
            world.log(problem)
        return Outcome(
            world.seed,
            self.operator.voters_wanted,
            problem,
            world.trace,
            world.now,
            len(self.history.operations),
            sum(o.fate is Fate.ANSWERED for o in self.history.operations),
            max(self.judge.entries, default=0),
            dict(world.reached),
        )

    def _run(self) -> None:
        world = self.world
        for node in self.nodes:
            node.start()
        world.run_until(world.now + 2.0)
        first = self.clients[0]
        for name in MAILBOXES[1:]:
            first.ask(c.CreateMailbox(USER, name, SEED, name.encode().rjust(16)))
            self._until(lambda: not first.busy, "a mailbox is not made")
        for client in self.clients:
            client.start()
        for person in self.people:
            person.start()
        self.injector.start()
        self._run_for(FAULTY_S)
        world.log("the faults end")
        self.injector.stop()
        self._run_for(2.0)
        for client in self.clients:
            client.stop()
        self._until(
            lambda: not any(client.busy for client in self.clients), "the clients are not answered"
        )
        for person in self.people:
            person.finish()
        self._until(
            lambda: all(person.finished for person in self.people), "mail cannot be read by IMAP"
        )
        self._until(self.operator.settle, "the members do not become what they should be")
        self._until(self._converged, "the nodes do not converge")
        reader = self.clients[0]
        reader.loss, reader.patience_s = 0.0, (CALM_S_MAX, CALM_S_MAX)
        last: list[q.Query] = [q.FetchMessages(USER, n, EVERYTHING) for n in (*MAILBOXES, *MOVED)]
        if self.conditions.habits.calls.get("annotations"):
            last += [q.GetAnnotations(USER, name) for name in (None, *MAILBOXES)]
            last += [q.ActiveScript(USER), *(q.GetScript(USER, name) for name in SCRIPTS)]
        for query in (*last, q.ListMailboxes(USER)):
            reader.ask(query)
            self._until(lambda: not reader.busy, "a read is not answered")
            if reader.operation.fate is not Fate.ANSWERED:
                raise Broken(f"{reader.operation} is not answered")
        self._until(lambda: not any(n.has_rot for n in self._members()), "rot is not mended")
        self._until(self._converged, "the nodes do not converge")  # a request may have come late
        digests = {node.name: node.index.digest() for node in self._members()}
        for (a, x), (b, y) in pairwise(digests.items()):
            if x != y:
                raise Broken(f"{a} and {b} end with different digests")
        for node in self._members():
            wrong = fsck(node.index)
            if wrong:
                raise Broken(f"the index of {node.name}: {'; '.join(map(str, wrong[:5]))}")
        self._until(
            lambda: all(map(self.judge.has_bodies, self._members())), "bodies are not mended"
        )

    def _told(self) -> History:
        """What mail programs were told comes into the history when it is known."""
        operations = sorted(self.history.operations, key=lambda o: o.invoked)
        for number, operation in enumerate(operations):
            operation.number = number
        reached = self.world.reached
        for person in self.people:
            reached["looks at mailboxes over IMAP"] += person.reader.looks
            reached["mailboxes opened with QRESYNC"] += person.reader.resyncs
            mirrors = person.reader.mirrors.values()
            reached["messages that IMAP told to be gone"] += sum(m.vanished for m in mirrors)
        return History(operations)

    def _members(self) -> list[SimNode]:
        return [node for node in self.nodes if node.number]

    def _run_for(self, seconds: float) -> None:
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.run_until(min(end, self.world.now + STEP_S))

    def _until(self, done: object, otherwise: str) -> None:
        assert callable(done)
        end = self.world.now + CALM_S_MAX
        while not done():
            if self.world.now >= end:
                raise Broken(
                    f"{otherwise} within {CALM_S_MAX} s without faults: {self._standing()}"
                )
            self.world.run_until(self.world.now + STEP_S)

    def _converged(self) -> bool:
        members = self._members()
        groups = [node.group for node in members if node.running]
        return (
            len(groups) == len(members)
            and all(node.replica.recovery.manager.whole for node in members)
            and sum(g.is_leader for g in groups) == 1
            and len({(g.applied_index, g.last_index, g.commit_index) for g in groups}) == 1
        )

    def _standing(self) -> str:
        told = []
        for node in self.nodes:
            if not node.running:
                told.append(f"{node.name} down" if node.number else f"{node.name} spare")
                continue
            g = node.group
            what = "leads" if g.is_leader else f"follows {g.leader}"
            told.append(
                f"{node.name} {what} term {g.term} log {g.journal.first_index}-{g.last_index} "
                f"synced {g.journal.synced_index} commit {g.commit_index} applied "
                f"{g.applied_index} "
                f"parked {g.has_parked} full {node.replica.disk_full} "
                f"whole {node.replica.recovery.manager.whole} ({g.membership})"
            )
        return "; ".join(told)


def _as_text(problems: Sequence[BrokenRule]) -> str:
    return "history: " + "\n".join(map(str, problems[:5]))


def simulate(
    seed: int,
    nodes: int,
    *,
    lmdb: bool | None = None,
    imap: bool = False,
    verbose: bool = False,
) -> Outcome:
    """Run one seed. Without `lmdb` the seed decides what the indices are kept in; it is the same
    run either way. With `imap` mail programs read and write besides the other clients.

    Nothing outside of the run is touched but the engine's clock and the logging level."""
    logging.disable(logging.CRITICAL)
    try:
        return Simulation(seed, nodes, lmdb=lmdb, imap=imap, verbose=verbose).run()
    finally:
        logging.disable(logging.NOTSET)


__all__ = ["Outcome", "Simulation", "simulate"]
