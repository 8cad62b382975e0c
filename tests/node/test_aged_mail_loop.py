"""Rounds that expunge what is too old."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.admin.api.between_nodes import NodeObservation
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.results import Executed
from raftmail.node import aged_mail_loop
from raftmail.node.aged_mail_loop import AgedMailLoop
from raftmail.shard import aged_mail
from tests.shard.machines import Feeder, message, new_machine

NOW_S = 1_800_000_000
DAY_US = 86_400_000_000
AGES = {"\\Trash": 30 * DAY_US}


class OneShard:
    """A cluster of three nodes with one shard, which this node leads; and a clock for each node."""

    def __init__(self, **clocks: float) -> None:
        self.clocks = clocks
        self.feeder = Feeder(new_machine())
        self.expunges: list[c.Expunge] = []
        self.fails = False
        self.accepts = True
        machine = self.feeder.machine
        replica = SimpleNamespace(
            shard=1, accepts=True, may=lambda capability: True, aged=machine.aged
        )
        self.replicas = {1: replica}
        self.view = SimpleNamespace(members=lambda shard: ("n1", "n2", "n3"))
        self.links = SimpleNamespace(wake=lambda shard: None)

    async def ask(self, node: str, call: object, wait_s: float) -> NodeObservation:
        if node not in self.clocks:
            raise Unavailable(Failure("it is down"))
        return NodeObservation(1, {}, {}, self.clocks[node])

    async def execute(self, command: c.Expunge, *, deadline_s: float) -> Executed:
        self.expunges.append(command)
        if self.fails:
            raise Unavailable(Failure("nobody leads"))
        return Executed(self.feeder.do(command), 1, 1, "n1")

    def fill(self, user: str, days: int, count: int = 1) -> None:
        """A Trash with messages that came so many days before `NOW_S`."""
        self.feeder.do(c.CreateMailbox(user, "Trash", 1, bytes(16), "\\Trash"))
        received_us = NOW_S * 1_000_000 - days * DAY_US
        for _ in range(count):
            new = replace(message("x", c.Target(user, "Trash")), received_us=received_us)
            self.feeder.do(c.Save(user, (new,), 1))
        self.feeder.machine.index.flush()

    def left(self, user: str) -> int:
        found = self.feeder.machine.query(q.GetMailbox(user, "Trash"))
        assert isinstance(found, q.MailboxInfo)
        return found.messages


def run_round(shard: OneShard, monkeypatch: pytest.MonkeyPatch) -> AgedMailLoop:
    monkeypatch.setattr(aged_mail_loop, "LOOK_REST_S", 0.0)
    monkeypatch.setattr(aged_mail_loop, "EXPUNGE_REST_S", 0.0)

    async def run() -> AgedMailLoop:
        loop = asyncio.get_running_loop()
        aged = AgedMailLoop(loop, cast(Any, shard), cast(Any, shard), AGES, 60.0)
        await aged._round()
        return aged

    return asyncio.run(run())


def test_a_round_expunges_in_bounded_entries_and_keeps_what_is_young(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = OneShard(n1=NOW_S, n2=NOW_S, n3=NOW_S)
    shard.fill("a", 31, aged_mail.MESSAGES_MAX + 3)
    shard.fill("b", 29)
    shard.fill("c", 300)
    aged = run_round(shard, monkeypatch)
    assert [len(one.uids) for one in shard.expunges] == [aged_mail.MESSAGES_MAX, 3, 1]
    assert (shard.left("a"), shard.left("b"), shard.left("c")) == (0, 1, 0)
    assert aged.expunged == aged_mail.MESSAGES_MAX + 4


def test_a_leader_whose_clock_is_years_ahead_expunges_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = OneShard(n1=NOW_S + 10 * 366 * 86_400, n2=NOW_S)
    shard.fill("a", 29)
    run_round(shard, monkeypatch)
    assert not shard.expunges


def test_without_the_clocks_of_a_majority_nothing_is_expunged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shard = OneShard(n1=NOW_S)
    shard.fill("a", 300)
    run_round(shard, monkeypatch)
    assert not shard.expunges


def test_what_cannot_be_expunged_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = OneShard(n1=NOW_S, n2=NOW_S, n3=NOW_S)
    shard.fails = True
    shard.fill("a", 300)
    shard.fill("b", 300)
    run_round(shard, monkeypatch)
    assert [one.user for one in shard.expunges] == ["a", "b"]
