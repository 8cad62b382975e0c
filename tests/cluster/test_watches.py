"""A session on any node hears of changes to its user's mail, whichever node has the replicas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

from raftmail.cluster import watches as watches_module
from raftmail.cluster.rpc import BadCall, RpcFrameKind
from raftmail.cluster.rpc_server import NodeLinks
from raftmail.cluster.view import ClusterView
from raftmail.cluster.watches import RENEW_S, SWEEP_S, Watches
from raftmail.mail.changes import Change, MailboxChanged, MailboxesChanged, Missed
from raftmail.shard.replica import Replica
from raftmail.storage.records import IndexDamaged
from tests.cluster.test_router import View as TestView
from tests.shard.test_members import Shard
from tests.shard.test_watchers import USER, make

SHARD = 1


class Net:
    """Nodes n1 to n3 with replicas, and `far` without one. Frames arrive when `settle` is
    called."""

    def __init__(self) -> None:
        self.shard = Shard()
        self.now = 100.0
        self.down: set[frozenset[str]] = set()
        self.frames: list[tuple[str, str, str, bytes]] = []
        self.nodes = {name: Node(self, name) for name in ("n1", "n2", "n3", "far")}

    def is_up(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self.down

    def cut(self, one: str, other: str) -> None:
        self.down.add(frozenset((one, other)))
        self.nodes[one].watches.disconnected(other)
        self.nodes[other].watches.disconnected(one)

    def settle(self) -> None:
        while True:
            for node in self.nodes.values():
                node.watches.flush()
            frames, self.frames = self.frames, []
            if not frames:
                return
            for source, target, kind, payload in frames:
                if self.is_up(source, target):
                    self.nodes[target].watches.receive(source, kind, payload)

    def sweep(self) -> None:
        self.now += SWEEP_S
        for node in self.nodes.values():
            node.watches.tick(self.now)
        self.settle()


class Node:
    """The router and the links of one node."""

    def __init__(self, net: Net, name: str) -> None:
        self.net = net
        self.node = name
        self.view = cast(ClusterView, _View())
        self.links: NodeLinks = self
        self.watches = Watches(self)

    @property
    def clock(self) -> Callable[[], float]:
        return lambda: self.net.now

    @property
    def replicas(self) -> Mapping[int, Replica]:
        found = [one.replica for one in self.net.shard.all.values() if one.node == self.node]
        return {SHARD: found[0]} if found else {}

    def own(self, shard: int) -> Replica | None:
        return self.replicas.get(shard)

    def send(self, node: str, shard: int, kind: str, parts: Sequence[bytes | memoryview]) -> bool:
        self.net.frames.append((self.node, node, kind, b"".join(parts)))
        return True

    def has_room(self, node: str, size_bytes: int, *, long: bool) -> bool:
        return True

    def is_up(self, node: str) -> bool:
        return self.net.is_up(self.node, node)

    def wake(self, shard: int) -> None:
        pass

    def submitted(self, shard: int) -> None:
        pass


class _View(TestView):
    nodes: Sequence[str] = ("far", "n1", "n2", "n3")

    def members(self, shard: int) -> Sequence[str]:
        return ("n1", "n2", "n3")


def listen(net: Net, node: str) -> list[Change]:
    heard: list[Change] = []
    net.nodes[node].watches.begin(USER, heard.append)
    net.settle()
    return heard


@pytest.mark.parametrize("node", ["n1", "n2", "n3", "far"])
def test_a_session_on_any_node_hears_of_a_change(node: str) -> None:
    net = Net()
    heard = listen(net, node)
    assert heard == [Missed(USER)]
    make(net.shard, "Work")
    net.settle()
    assert MailboxesChanged(USER) in heard


def test_two_sessions_of_a_user_hear_the_same_and_one_that_ends_hears_no_more() -> None:
    net = Net()
    first: list[Change] = []
    watch = net.nodes["far"].watches.begin(USER, first.append)
    second = listen(net, "far")
    watch.close()
    watch.close()
    make(net.shard, "Work")
    net.settle()
    assert MailboxesChanged(USER) in second
    assert MailboxesChanged(USER) not in first


def test_the_last_session_that_ends_leaves_nothing_at_the_replica() -> None:
    net = Net()
    watches = net.nodes["far"].watches
    watch = watches.begin(USER, lambda change: None)
    net.settle()
    assert any(one.replica.watchers for one in net.shard.all.values())
    watch.close()
    net.settle()
    assert not any(one.replica.watchers for one in net.shard.all.values())


def test_a_lost_link_is_made_good_at_another_node_and_told() -> None:
    net = Net()
    heard = listen(net, "far")
    net.cut("far", "n1")
    heard.clear()
    net.sweep()
    assert heard == [Missed(USER)]
    make(net.shard, "Work")
    net.settle()
    assert MailboxesChanged(USER) in heard
    assert not net.shard.all[1].replica.watchers


def test_a_replica_that_closes_is_made_good_at_another_node_and_told() -> None:
    net = Net()
    heard = listen(net, "n1")
    net.shard.end(1)
    heard.clear()
    net.sweep()
    assert heard == [Missed(USER)]
    make(net.shard, "Work")
    net.settle()
    assert MailboxesChanged(USER) in heard


def test_a_watch_that_the_other_end_forgot_is_asked_for_again() -> None:
    net = Net()
    heard = listen(net, "far")
    net.nodes["n1"].watches.disconnected("far")
    net.now += RENEW_S
    net.sweep()
    make(net.shard, "Work")
    net.settle()
    assert MailboxesChanged(USER) in heard


def test_without_any_source_a_watch_waits_for_one() -> None:
    net = Net()
    for node in ("n1", "n2", "n3"):
        net.cut("far", node)
    heard = listen(net, "far")
    assert heard == []
    net.down.clear()
    net.sweep()
    assert heard == [Missed(USER)]


@pytest.mark.parametrize("kind", [RpcFrameKind.WATCH, RpcFrameKind.CHANGES])
@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x01", b"\x93\x01\x02\x03", b"\x91\x01"])
def test_frames_that_make_no_sense_are_refused(kind: RpcFrameKind, payload: bytes) -> None:
    with pytest.raises(BadCall):
        Net().nodes["n1"].watches.receive("far", kind, payload)


def test_a_change_of_leader_costs_a_watch_nothing() -> None:
    net = Net()
    make(net.shard, "Work")
    old = net.shard.master
    assert old is not None
    follower = next(one for one in net.shard.all.values() if one is not old)
    heard = listen(net, follower.node)
    heard.clear()
    net.shard.end(old.number)
    net.shard.until(lambda: net.shard.master is not None)
    make(net.shard, "Play")
    net.settle()
    assert MailboxesChanged(USER) in heard and Missed(USER) not in heard


@pytest.mark.parametrize("node", ["n1", "far"])
def test_a_source_that_is_set_aside_is_made_good_at_another_node_and_told(node: str) -> None:
    net = Net()
    heard = listen(net, node)
    source = net.nodes["n1"].replicas[SHARD]
    assert source.watchers
    source.index_damaged(IndexDamaged("messages", bytes(12)))
    heard.clear()
    net.sweep()
    net.sweep()
    assert Missed(USER) in heard
    assert not source.watchers
    assert any(one.replica.watchers for one in net.shard.all.values())


def test_what_waits_for_another_node_is_bounded_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watches_module, "CHANGES_PER_TURN_MAX", 10)
    net = Net()
    heard = listen(net, "far")
    (hear,) = net.nodes["n1"].replicas[SHARD].watchers._by_user[USER]
    heard.clear()
    for modseq in range(100):
        hear(MailboxChanged(USER, 7, 1, 1, modseq, 1))
    net.settle()
    assert heard == [MailboxChanged(USER, 7, 1, 1, 99, 1)]
    heard.clear()
    for mailbox in range(11):
        hear(MailboxChanged(USER, mailbox, 1, 1, 1, 1))
    net.settle()
    assert heard == [Missed(USER)]
