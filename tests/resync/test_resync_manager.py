"""A replica's manager finds sources, serves others, and has damage repaired without being asked."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from itertools import count

import pytest

from raftmail.resync.frames import Encoder, Link, kind_of
from raftmail.resync.limits import ResyncLimits
from raftmail.resync.manager import ResyncManager
from raftmail.resync.requests import ANSWER, RequestKind
from raftmail.resync.scrub import ScrubLimits
from raftmail.resync.sink import SinkPhase
from raftmail.resync.state import Mark
from raftmail.storage.records import MESSAGE_KEY, IndexDamaged
from tests.resync.ends import CLUSTER, SMALL, BodyTwin, Node, assert_equal, body_of
from tests.resync.test_resync_resume import long_history

FAST = ScrubLimits(rate_bytes_s=1 << 30, burst_bytes=1 << 30, step_bytes=1, period_s=1000.0)


class Shard:
    """Replicas with managers, joined by links that can be cut."""

    def __init__(self, *cuts: int | None, limits: ResyncLimits = SMALL) -> None:
        log, behind = long_history()
        self.now = 0.0
        self.numbers = count(1)
        self.nodes: list[Node] = []
        self.managers: dict[str, ResyncManager] = {}
        self.cut: set[str] = set()
        self.leader = ""
        for number, at in enumerate(cuts):
            node = Node(f"n{number}", limits)
            node.apply(log.entries if at is None else log.entries[: behind if at < 0 else at])
            self.nodes.append(node)
            self.join(node)
        self.log = log

    def join(self, node: Node) -> None:
        self.managers[node.name] = manager = ResyncManager(
            node.index,
            node.bodies,
            CLUSTER,
            node.shard,
            node.machine.abort,
            lambda: next(self.numbers),
            node.limits,
            FAST,
        )
        node.sink = manager.sink

    def turn(self, seconds: float = 0.01) -> None:
        self.now += seconds
        for name, manager in self.managers.items():
            others = [n for n in self.managers if n != name]
            there = [] if name in self.cut else [n for n in others if n not in self.cut]
            manager.tick(self.now, others, there, may_hold=name != self.leader)
            manager.step(self.now, lambda node: 1 << 20)
            for to, frame in manager.take_frames():
                if to not in self.cut and name not in self.cut:
                    self.managers[to].receive(self.now, name, frame)

    def run(self, turns: int = 1500) -> None:
        for _ in range(turns):
            self.turn()

    def whole(self) -> bool:
        return all(
            manager.whole and not manager.needs_records for manager in self.managers.values()
        )


class PlacesRotten(BodyTwin):
    """Where a body is stands in a table of the replica's own, of which a record has rotted."""

    def has(self, digest: bytes) -> bool:
        raise IndexDamaged("places", digest)

    durable = has

    def get(self, digest: bytes) -> bytes:
        raise IndexDamaged("places", digest)


@pytest.mark.parametrize("behind", ["sink", "source"])
def test_damage_of_a_replicas_own_tables_ends_no_session_quietly(behind: str) -> None:
    """No source has such records: every session would end there, and the replica never be whole.
    It is opened anew instead, to make the table again."""
    shard = Shard(None, -1) if behind == "source" else Shard(-1, None)
    shard.nodes[0].bodies.__class__ = PlacesRotten
    shard.managers["n1" if behind == "source" else "n0"].need()
    with pytest.raises(IndexDamaged, match="places"):
        shard.run()


def test_a_replica_that_needs_it_is_brought_up_by_itself() -> None:
    shard = Shard(None, -1, None)
    shard.managers["n1"].need()
    shard.run()
    assert shard.managers["n1"].take_finished() == (shard.nodes[0].index.applied_index, 3)
    assert shard.whole()
    assert_equal(shard.nodes[1], shard.nodes[0])


def test_a_new_replica_is_served_by_one_while_the_other_needs_it_too() -> None:
    shard = Shard(None, 0, -1, limits=SMALL)
    shard.managers["n1"].need()
    shard.managers["n2"].need()
    shard.run(4000)
    assert shard.whole()
    assert_equal(shard.nodes[1], shard.nodes[0])
    assert_equal(shard.nodes[2], shard.nodes[0])


def test_a_source_that_dies_in_the_middle_is_replaced_by_another() -> None:
    shard = Shard(None, 0, None)
    manager = shard.managers["n1"]
    manager.need()
    while manager.sink.mark is None:
        shard.turn()
    first = manager.sink.link.peer
    shard.cut.add(first)
    shard.managers[first].disconnected(shard.now, "n1")
    shard.run()
    assert manager.whole
    assert manager.sink.link.peer != first
    assert_equal(shard.nodes[1], shard.nodes[0])


def _refused_by_n0(shard: Shard) -> None:
    """n1 asks n0, which refuses, and n2 at once."""
    manager = shard.managers["n1"]
    manager.need()
    while not (manager.sink.active and manager.sink.link.peer == "n2"):
        shard.turn()
    assert shard.now < shard.nodes[1].limits.retry_first_s / 2
    shard.run()
    assert manager.whole and manager.sink.last is not None and manager.sink.last.peer == "n2"
    assert_equal(shard.nodes[1], shard.nodes[2])


def test_a_source_that_serves_enough_others_says_so_and_another_is_asked_at_once() -> None:
    shard = Shard(None, 0, None)
    shard.managers["n0"].limits = replace(SMALL, sources_max=0)
    _refused_by_n0(shard)


def test_a_source_that_is_half_itself_says_so_and_another_is_asked_at_once() -> None:
    shard = Shard(None, 0, None)
    half = shard.managers["n0"]
    half.sink.mark = Mark("n9", 1, 1, 1)
    half.tick = lambda *_, **__: None  # type: ignore[method-assign]  # it finds no source itself
    _refused_by_n0(shard)


def _takes_a_body_away(shard: Shard, name: str) -> bytes:
    body = body_of("x3")
    digest = hashlib.sha256(body).digest()
    node = shard.nodes[int(name[1])]
    del node.bodies.bodies[digest]
    shard.managers[name].want(digest, len(body))
    return digest


def test_a_source_that_lacks_a_body_says_so_and_another_is_asked_at_once() -> None:
    shard = Shard(None, 0, None)
    _takes_a_body_away(shard, "n0")
    shard.managers["n0"].tick = lambda *_, **__: None  # type: ignore[method-assign]
    _refused_by_n0(shard)


def test_the_last_source_there_is_gives_its_records_though_it_lacks_a_body() -> None:
    """Else a body that only a dead machine has would keep the shard standing for ever (P6)."""
    shard = Shard(None, 0, None)
    digest = _takes_a_body_away(shard, "n0")
    shard.cut.add("n2")
    manager = shard.managers["n1"]
    manager.need()
    shard.run()
    assert manager.sink.records_done == 1 and not manager.needs_records
    assert list(manager.missing.all()) == [digest], "it waits for the one that may have it"
    shard.cut.clear()
    shard.run()
    assert shard.whole()
    assert_equal(shard.nodes[1], shard.nodes[0])


def test_a_source_that_knows_no_replica_there_says_so_and_another_is_asked_at_once() -> None:
    shard = Shard(None, 0, None)
    manager = shard.managers["n0"]
    manager.receive = (  # type: ignore[method-assign]
        lambda now, peer, frame: manager.turn_away(peer, frame, "it knows of no replica there")
    )
    _refused_by_n0(shard)


def test_a_source_that_does_not_know_the_replica_for_a_moment_is_replaced_at_once() -> None:
    """A change of the members may reach it later than the replica."""
    shard = Shard(None, 0, None)
    manager = shard.managers["n1"]
    manager.need()
    while manager.sink.mark is None:
        shard.turn()
    first = manager.sink.link.peer
    source = shard.managers[first]
    take = source.receive

    def once(now: float, peer: str, frame: bytes) -> None:
        source.receive = take  # type: ignore[method-assign]
        source.turn_away(peer, frame, "it knows of no replica there")

    source.receive = once  # type: ignore[method-assign]
    turned = shard.now
    while manager.sink.link.peer == first:
        shard.turn()
    assert shard.now - turned < 0.1
    shard.run()
    assert manager.whole
    assert_equal(shard.nodes[1], shard.nodes[0])


def test_a_source_that_was_opened_anew_in_the_middle_is_replaced_within_seconds() -> None:
    shard = Shard(None, 0, None)
    manager = shard.managers["n1"]
    manager.need()
    while manager.sink.mark is None:
        shard.turn()
    first = manager.sink.link.peer
    node = shard.nodes[int(first[1])]
    shard.managers[first].close()
    shard.join(node)  # the link stays, and so nothing tells of it
    died = shard.now
    while manager.sink.link.peer == first:
        shard.turn()
    assert shard.now - died < 2 * SMALL.probe_s
    shard.run()
    assert manager.whole
    assert_equal(shard.nodes[1], node)


def test_a_leader_that_needs_records_gets_its_bodies_all_the_same() -> None:
    """Else it would be no source for those who can take over only when they got records from it.

    And each would wait for the other.
    """
    shard = Shard(None, 0)
    manager, node = shard.managers["n1"], shard.nodes[1]
    manager.need()
    while manager.sink.phase != SinkPhase.BODIES:
        shard.turn()
    shard.cut.add("n1")
    shard.turn()
    shard.cut.clear()
    shard.leader = "n1"
    manager.need(full=True)
    done = manager.sink.records_done
    assert not manager.whole
    shard.run()
    assert manager.whole and manager.needs_records and manager.sink.records_done == done
    shard.leader = "n0"
    shard.run()
    assert manager.sink.records_done == done + 1 and not manager.needs_records
    assert_equal(node, shard.nodes[0])


def test_where_all_sources_refuse_they_are_asked_again_ever_more_seldom() -> None:
    shard = Shard(None, 0, None)
    for name in ("n0", "n2"):
        shard.managers[name].limits = replace(SMALL, sources_max=0)
    manager = shard.managers["n1"]
    manager.need()
    asked: list[tuple[float, str]] = []
    frozen = 0
    for _ in range(1600):
        before = manager.sink.phase
        shard.turn(0.02)
        frozen += manager.holds
        if (
            manager.sink.phase == SinkPhase.GREETING != before
            or manager.sink.link.peer != asked[-1][1]
        ):
            asked.append((shard.now, manager.sink.link.peer))
    rounds = [at for at, peer in asked if peer == "n0"]
    assert len(asked) == 2 * len(rounds)
    pauses = [later - earlier for earlier, later in itertools.pairwise(rounds)]
    assert pauses[0] < 1.0 and pauses[2] > 1.5 * pauses[1] > 2 * pauses[0]
    assert SMALL.refused_max_s < pauses[-1] < SMALL.refused_max_s + 1.0
    assert frozen < 5 * len(asked), "it takes no part while nobody gives it anything"
    for name in ("n0", "n2"):
        shard.managers[name].limits = SMALL
    shard.run(6000)
    assert manager.whole


def test_a_request_that_makes_no_sense_is_answered_before_its_session_ends() -> None:
    shard = Shard(None, None)
    manager = shard.managers["n0"]
    encoder = Encoder(Link(CLUSTER, 7, "n0"), 5)
    for kind in (RequestKind.HELLO, RequestKind.CUT):
        for frame in encoder.frames(kind, b"nonsense"):
            manager.receive(0.0, "n1", frame)
    manager.step(0.0, lambda node: 1 << 20)
    assert [kind_of(frame) for to, frame in manager.take_frames()] == [ANSWER + RequestKind.REFUSED]
    assert not manager.served()


def test_a_sink_that_says_nothing_any_more_is_dropped() -> None:
    shard = Shard(None, 0)
    manager = shard.managers["n1"]
    manager.need()
    while manager.sink.mark is None:
        shard.turn()
    shard.cut.add("n1")
    while shard.managers["n0"].served():
        shard.turn(0.5)
    assert shard.now < 2 * SMALL.silence_s


def test_records_are_not_needed_again_when_their_session_ends_before_the_bodies_came() -> None:
    shard = Shard(None, 0, None)
    manager = shard.managers["n1"]
    manager.need()
    while manager.take_finished() is None:
        shard.turn()
    assert manager.missing.total()[0]
    shard.cut.add("n1")
    manager.disconnected(shard.now, manager.sink.link.peer)
    assert not manager.needs_records
    shard.cut.clear()
    shard.run()
    assert shard.whole()


def test_an_order_to_compare_everything_outlives_a_session_that_was_under_way() -> None:
    shard = Shard(None, -1, None)
    manager = shard.managers["n1"]
    manager.need()
    while manager.sink.mark is None:
        shard.turn()
    manager.need(full=True)
    while manager.take_finished() is None:
        shard.turn()
    assert manager.needs_records
    shard.run()
    assert manager.take_finished() is not None
    assert shard.whole()


def test_a_state_that_the_log_led_to_is_not_asked_for_any_more() -> None:
    shard = Shard(None, None, None)
    manager = shard.managers["n1"]
    manager.need()
    shard.run(20)
    assert manager.needs_records
    manager.need_no_more()
    assert not manager.needs_records


@pytest.mark.parametrize(
    "table",
    [
        "mailboxes",
        "names",
        "messages",
        "summaries",
        "dates",
        "changes",
        "expunges",
        "blobrefs",
        "clients",
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_planted_damage_is_found_by_scrub_and_repaired_from_a_peer(table: str, gone: bool) -> None:
    if gone and table in ("expunges", "clients", "dates"):
        pytest.skip("a row of these that is gone is found by comparing replicas alone")
    shard = Shard(None, None)
    node = shard.nodes[1]
    rows = node.rows()[table]
    key, record = rows[len(rows) // 2]
    if gone:
        node.engine.table(table).delete(key)
    else:
        node.engine.table(table).put(key, record[:-1] + bytes([record[-1] ^ 1]))
    node.engine.commit()
    if table != "clients":  # with a damaged client, a start would refuse the whole index
        node.open()
        shard.join(node)
    manager = shard.managers["n1"]
    for _ in range(3000):
        shard.turn()
        if manager.scrub.findings and shard.whole():
            break
    assert manager.scrub.findings, "it was not found"
    finding = manager.scrub.findings[0]
    assert finding.table == table or gone
    if table in ("messages", "summaries") and not gone:
        number, uid = MESSAGE_KEY.unpack(key)
        mailbox = shard.nodes[0].index.mailboxes.get(number)
        assert mailbox is not None
        assert (finding.user, finding.mailbox, finding.uid) == ("a", mailbox.name, uid)
    shard.run(50)
    assert shard.whole()
    assert_equal(node, shard.nodes[0])


def test_a_damaged_body_is_found_by_scrub_and_fetched_from_a_peer() -> None:
    shard = Shard(None, None)
    node = shard.nodes[1]
    rotten = hashlib.sha256(body_of("x3")).digest()
    eaten = hashlib.sha256(body_of("y7")).digest()
    node.bodies.damaged.add(rotten)
    del node.bodies.bodies[eaten]
    other = hashlib.sha256(body_of("y1")).digest()
    shard.nodes[0].bodies.damaged.add(other)
    shard.run(600)
    assert {f.key for f in shard.managers["n1"].scrub.findings} == {rotten, eaten}
    assert node.bodies.get(rotten) == body_of("x3")
    assert node.bodies.get(eaten) == body_of("y7")
    assert shard.nodes[0].bodies.get(other) == body_of("y1")
    assert shard.whole()


def test_a_body_that_no_peer_has_is_told_of_and_asked_for_again_later() -> None:
    shard = Shard(None, None, None)
    gone = hashlib.sha256(body_of("x3")).digest()
    for node in shard.nodes:
        node.bodies.damaged.add(gone)
    shard.run(1500)
    assert all(manager.lost() == [gone] for manager in shard.managers.values())
    assert all(manager.whole for manager in shard.managers.values())
    for manager in shard.managers.values():
        holders = manager.lost_report.holders
        assert [(h.user, h.mailbox, h.digest) for h in holders] == [
            ("a", "x", gone),
            ("a", "z", gone),
        ]
    shard.nodes[2].bodies.append(gone, body_of("x3"))
    shard.turn(3700.0)
    shard.run(600)
    assert shard.nodes[0].bodies.get(gone) == body_of("x3")
    assert shard.managers["n0"].lost() == []
    assert shard.managers["n0"].lost_report.holders == ()


def test_an_awaited_body_is_fetched_without_a_scrub() -> None:
    shard = Shard(None, None)
    digest = hashlib.sha256(body_of("new4")).digest()
    shard.nodes[1].bodies.damaged.add(digest)
    shard.managers["n1"].want(digest, len(body_of("new4")))
    shard.run(20)
    assert shard.nodes[1].bodies.get(digest) == body_of("new4")


def test_scrub_goes_on_after_a_restart_where_it_was() -> None:
    shard = Shard(None)
    manager = shard.managers["n0"]
    while manager.scrub.progress() != "changes":
        shard.turn()
    node = shard.nodes[0]
    node.machine.commit()
    node.crash()
    shard.join(node)
    assert shard.managers["n0"].scrub.progress() == "changes"


def test_scrub_keeps_to_its_rate() -> None:
    shard = Shard(None)
    node = shard.nodes[0]
    limits = ScrubLimits(rate_bytes_s=1000, burst_bytes=1000, page_rows=4)
    scrub = ResyncManager(
        node.index, node.bodies, CLUSTER, 7, node.machine.abort, lambda: 1, SMALL, limits
    ).scrub
    for tick in range(1000):
        scrub.step(tick / 100)
    assert 5000 < scrub.read_bytes < 13_000


def _slow_scrub(shard: Shard, period_s: float) -> ResyncManager:
    node = shard.nodes[0]
    limits = ScrubLimits(
        rate_bytes_s=1, burst_bytes=1, step_bytes=300, page_rows=4, period_s=period_s
    )
    node.sink = (
        manager := ResyncManager(
            node.index, node.bodies, CLUSTER, 7, node.machine.abort, lambda: 1, SMALL, limits
        )
    ).sink
    return manager


def test_scrub_reads_all_within_its_period_also_when_the_rate_is_too_low(
    caplog: pytest.LogCaptureFixture,
) -> None:
    manager = _slow_scrub(Shard(None), 100.0)
    scrub = manager.scrub
    read: list[int] = []
    told: list[str] = []
    for tick in range(1001):
        if not scrub.rounds:
            told = [r.getMessage() for r in caplog.records]
        manager.step(tick / 10, lambda node: 0)
        read.append(scrub.read_bytes)
    assert scrub.rounds == 1 and not scrub.is_late(100.0)
    assert 0 < scrub.needed_bytes_s <= read[-1] / 100 + 1 and scrub.needed_bytes_s > 1
    assert read[250] < 0.5 * read[-1], "it does not read all at once"
    assert sum("is too low to read all within scrub.period_s = 100" in text for text in told) == 1


def test_a_restart_does_not_give_the_scrub_more_time() -> None:
    shard = Shard(None)
    manager = _slow_scrub(shard, 100.0)
    for tick in range(500):
        manager.step(tick / 10, lambda node: 0)
    node = shard.nodes[0]
    node.machine.commit()
    node.crash()
    manager = _slow_scrub(shard, 100.0)
    for tick in range(520):
        manager.step(7000 + tick / 10, lambda node: 0)
    assert manager.scrub.rounds == 1


def test_one_mailbox_is_compared_by_order() -> None:
    shard = Shard(None, None)
    node = shard.nodes[1]
    key = MESSAGE_KEY.pack(1, 3)
    node.engine.table("summaries").put(key, b"nonsense")
    node.engine.commit()
    shard.managers["n1"].compare([1])
    shard.run(300)
    assert_equal(node, shard.nodes[0])
    assert shard.whole()


def test_a_replica_alone_tells_at_once_that_a_body_is_lost() -> None:
    shard = Shard(None)
    gone = hashlib.sha256(body_of("x3")).digest()
    shard.nodes[0].bodies.damaged.add(gone)
    shard.run(400)
    assert shard.managers["n0"].lost() == [gone]
    assert {h.mailbox for h in shard.managers["n0"].lost_report.holders} == {"x", "z"}


def test_a_resync_by_order_is_made_also_where_nothing_differs_and_with_good_sources_alone() -> None:
    shard = Shard(None, None, None)
    node = shard.nodes[1]
    key = MESSAGE_KEY.pack(1, 3)
    for name in ("n1", "n2"):  # the same damage on two: only the third is a good source
        wrong = shard.nodes[int(name[1])]
        record = wrong.engine.table("messages").get(key)
        assert record is not None
        wrong.engine.table("messages").delete(key)
        wrong.engine.commit()
    shard.managers["n1"].order(full=True, only=["n0"])
    shard.run(400)
    assert shard.whole()
    assert_equal(node, shard.nodes[0])
    done = shard.managers["n1"].sink.records_done
    shard.managers["n1"].order()
    shard.run(100)
    assert shard.managers["n1"].sink.records_done == done + 1


def _with_two_that_are_damaged_alike() -> Shard:
    """Five replicas; n1 and n2 lack the same message, and n1 is ordered to take everything from the
    others."""
    shard = Shard(None, None, None, None, None)
    key = MESSAGE_KEY.pack(1, 3)
    for number in (1, 2):
        wrong = shard.nodes[number]
        wrong.engine.table("messages").delete(key)
        wrong.engine.commit()
    shard.managers["n1"].order(full=True, only=["n0", "n3", "n4"])
    return shard


def _restart(shard: Shard, number: int) -> None:
    node = shard.nodes[number]
    shard.managers[node.name].close()
    for manager in shard.managers.values():
        manager.disconnected(shard.now, node.name)
    node.crash()
    shard.join(node)


@pytest.mark.parametrize("begun", [False, True])
def test_which_sources_alone_are_good_outlives_a_restart(begun: bool) -> None:
    shard = _with_two_that_are_damaged_alike()
    node = shard.nodes[1]
    if begun:
        while shard.managers["n1"].sink.mark is None:
            shard.turn()
    node.machine.commit()
    _restart(shard, 1)
    assert (shard.managers["n1"].sink.mark is not None) is begun
    shard.cut.update(["n0", "n3", "n4"])
    shard.run(400)
    assert shard.managers["n1"].sink.records_done == 0
    assert shard.managers["n1"].needs_records
    shard.cut.clear()
    shard.run(6000)
    assert shard.managers["n1"].whole and not shard.managers["n1"].needs_records
    assert_equal(node, shard.nodes[0])


def test_an_order_in_the_middle_of_a_session_outlives_a_restart_after_it() -> None:
    shard = Shard(None, -1, None)
    manager = shard.managers["n1"]
    manager.need()
    while manager.sink.mark is None:
        shard.turn()
    manager.order(full=True, only=["n2"])
    while manager.take_finished() is None:
        shard.turn()
    shard.nodes[1].machine.commit()
    _restart(shard, 1)
    shard.cut.add("n2")
    shard.run(300)
    assert shard.managers["n1"].needs_records, "n0 is not to be asked"
    shard.cut.clear()
    shard.run()
    assert shard.managers["n1"].sink.records_done == 1
    assert shard.whole()


def test_good_sources_that_left_the_shard_are_not_waited_for() -> None:
    shard = Shard(None, None)
    shard.managers["n1"].order(full=True, only=["n8", "n9"])
    shard.run(400)
    assert shard.managers["n1"].sink.records_done == 1


def test_a_source_goes_slower_while_clients_write() -> None:
    def seconds(*, busy: bool) -> float:
        shard = Shard(None, 0, limits=replace(SMALL, busy_rate_bytes_s=4000, rate_burst_bytes=500))
        shard.managers["n0"].writes_go_on(busy=busy)
        shard.managers["n1"].need()
        while not (shard.managers["n1"].sink.records_done and shard.whole()):
            shard.turn()
        return shard.now

    assert seconds(busy=True) > 3 * seconds(busy=False)
