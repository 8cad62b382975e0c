"""A resync that is broken off never looks like a whole one, and goes on where it was."""

from __future__ import annotations

import hashlib

import pytest

from raftmail.resync.sink import SinkPhase
from raftmail.resync.state import Mark
from raftmail.storage.disk import DiskFull
from tests.resync.ends import SMALL, History, Node, Pipe, assert_equal, body_of, resync


def long_history() -> tuple[History, int]:
    """A history, and how much of it the replica has that falls behind."""
    log = History()
    for box in ("INBOX", "x", "y"):
        log.create(box)
        log.save(box, *[f"{box}{i}" for i in range(20)])
    log.save("x", *[f"x{i}" for i in range(30)])
    log.save("y", *[f"y{i}" for i in range(12)])
    cut = len(log)
    log.flag("INBOX", 1, 15, "\\Seen", "k")
    log.expunge("x", 4, 17)
    log.save("INBOX", *[f"new{i}" for i in range(25)])
    log.create("z")
    log.copy("x", 1, 30, "z")
    log.copy("y", 2, 5, "INBOX", move=True)
    log.save("z", *[f"z{i}" for i in range(9)], client=3)
    return log, cut


def pair(empty: bool = False) -> tuple[Node, Node, History]:
    log, cut = long_history()
    giver, target = Node("giver"), Node("target")
    giver.apply(log.entries)
    target.apply([] if empty else log.entries[:cut])
    return giver, target, log


def frames_needed(empty: bool) -> int:
    giver, target, _ = pair(empty)
    return resync(target, giver).count


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("crash", [False, True])
def test_killed_at_every_message_it_is_half_or_whole_and_can_go_on(
    empty: bool, crash: bool
) -> None:
    total = frames_needed(empty)
    assert total > 20
    halves = 0
    for at in range(1, total):
        giver, target, _ = pair(empty)
        before = target.rows()
        started_at = target.index.applied_index
        pipe = Pipe(target, giver, 1)
        pipe.run(at)
        pipe.close()
        if crash:
            if at % 2:
                target.index.commit()  # as the blob store does when it gives back space
            target.crash()
        else:
            target.sink.lost(pipe.now, "the link is gone")
        if target.sink.mark is not None:
            halves += 1
            assert target.sink.holds
            assert target.index.applied_index == started_at
        elif target.index.applied_index == started_at:
            assert target.rows() == before
            assert not target.sink.holds
        resync(target, giver, 2, records=target.index.applied_index == started_at)
        assert_equal(target, giver)
        assert target.sink.missing.total() == (0, 0)
    assert halves > 5


def test_killed_over_and_over_it_still_gets_there_with_other_sources() -> None:
    giver, target, log = pair(empty=True)
    later = Node("later")
    later.apply(log.entries)
    extra = History()
    extra.entries = list(log.entries)
    extra.flag("INBOX", 1, 60, "\\Answered")
    extra.save("INBOX", "later")
    later.apply(extra.entries[len(log) :])
    whole = resync(Node("fresh"), later).count
    sessions = 0
    while True:
        sessions += 1
        pipe = Pipe(target, giver if sessions in (2, 4) else later, sessions)
        over = pipe.run(whole // 2)
        pipe.close()
        if over and target.index.applied_index == later.index.applied_index:
            break
        target.crash()
        if target.sink.mark is None and target.index.applied_index:
            break
        assert sessions < 30
    if target.index.applied_index != later.index.applied_index:
        resync(target, later, 99)
    resync(target, later, 100, records=False)
    assert_equal(target, later)
    assert sessions > 2


def test_what_was_received_is_not_sent_again() -> None:
    log = History()
    for box in range(6):
        log.create(f"box{box}")
        for part in range(10):
            log.save(f"box{box}", *[f"{box}/{part}/{i}" for i in range(10)])
    giver = Node("giver")
    giver.apply(log.entries)
    whole = resync(Node("fresh"), giver).to_sink_bytes
    for tenths in range(1, 10):
        target = Node("target")
        pipe = Pipe(target, giver, 1)
        while pipe.to_sink_bytes < whole * tenths // 10:
            pipe.turn()
        pipe.close()
        target.crash()
        again = resync(target, giver, 2, records=target.index.applied_index == 0)
        assert_equal(target, giver)
        assert pipe.to_sink_bytes + again.to_sink_bytes < whole * 1.2, tenths


def test_bodies_that_are_there_are_not_fetched() -> None:
    giver, target, _ = pair()
    for digest, body in giver.bodies.bodies.items():
        target.bodies.append(digest, body)
    with_bodies = resync(pair()[1], giver).to_sink_bytes
    target.bodies.bodies.pop(hashlib.sha256(body_of("new3")).digest())
    pipe = resync(target, giver)
    assert_equal(target, giver)
    assert target.bodies.has(hashlib.sha256(body_of("new3")).digest())
    assert pipe.to_sink_bytes < with_bodies


def test_records_are_usable_before_the_bodies_are_there() -> None:
    giver, target, _ = pair(empty=True)
    pipe = Pipe(target, giver)
    while target.sink.phase != SinkPhase.BODIES:
        pipe.turn()
    assert not target.sink.holds
    assert target.sink.take_finished() == (giver.index.applied_index, 3)
    count, size = target.sink.missing.total()
    assert count == giver.engine.table("blobrefs").count() - len(target.bodies.bodies)
    assert count > 10 and size > 1000
    assert target.index.digest() == giver.index.digest()
    target.machine.commit()
    target.crash()
    assert target.sink.missing.total()[0] > 0 and not target.sink.holds
    resync(target, giver, 2, records=False)
    assert target.sink.missing.total() == (0, 0)


def test_newest_bodies_come_first_and_awaited_ones_before_all() -> None:
    giver, target, _ = pair(empty=True)
    order: list[bytes] = []
    append = target.bodies.append

    def noted(digest: bytes, body: bytes) -> bool:
        order.append(body)
        return append(digest, body)

    target.bodies.append = noted  # type: ignore[method-assign]
    pipe = Pipe(target, giver)
    while target.sink.phase != SinkPhase.BODIES:
        pipe.turn()
    awaited = body_of("INBOX3")
    target.sink.want(hashlib.sha256(awaited).digest(), len(awaited))
    pipe.run()
    newest = [body_of(f"z{i}") for i in range(9)]
    assert awaited in order[:40], "what was asked for before is still on its way"
    order.remove(awaited)
    assert set(order[:9]) == set(newest)
    assert order.index(body_of("new3")) < order.index(body_of("INBOX4"))


def test_a_full_disk_keeps_the_mark_and_is_tried_again() -> None:
    giver, target, _ = pair(empty=True)
    pipe = Pipe(target, giver)
    while target.sink.mark is None:
        pipe.turn()
    target.engine.fail_put = DiskFull("index: No space left on device")
    pipe.run()
    pipe.close()
    error = target.sink.error
    assert error is not None
    assert "shard 7" in str(error) and "giver" in str(error) and "No space left" in str(error)
    assert target.sink.phase == SinkPhase.WAITING
    assert target.sink.retry_at > pipe.now
    assert target.sink.holds and Mark.read(target.index) is not None
    resync(target, giver, 2)
    assert_equal(target, giver)


def test_a_disk_that_fills_up_with_bodies_leaves_the_records_whole() -> None:
    giver, target, _ = pair(empty=True)
    target.bodies.fail = DiskFull("blobs/1: No space left on device")
    pipe = Pipe(target, giver)
    pipe.run()
    pipe.close()
    assert target.sink.error is not None and "blobs/1" in str(target.sink.error)
    assert not target.sink.holds
    assert target.sink.missing.total()[0] > 0
    first = target.sink.retry_at - pipe.now
    target.sink.start(1.0, "giver", 2, records=False, full=False)
    target.sink.lost(1.0, "gone again")
    assert target.sink.retry_at - 1.0 > first
    target.bodies.fail = None
    resync(target, giver, 3, records=False)
    assert target.sink.missing.total() == (0, 0)


def test_a_source_that_falls_silent_is_given_up() -> None:
    giver, target, _ = pair()
    pipe = Pipe(target, giver)
    pipe.run(3)
    for _ in range(20):
        target.sink.step(pipe.now)
    target.sink.step(pipe.now + SMALL.silence_s + 1)
    assert target.sink.error is not None and "not a word" in str(target.sink.error)
    assert target.sink.phase == SinkPhase.WAITING


def test_a_source_that_is_there_and_does_not_answer_is_given_up_later() -> None:
    giver, target, _ = pair()
    pipe = Pipe(target, giver)
    pipe.run(3)
    source = pipe.source
    source.step = lambda now, room_bytes: False  # type: ignore[method-assign]
    for seconds in range(int(SMALL.stall_s)):
        pipe.now = float(seconds)
        while pipe.turn():
            pass
        assert target.sink.active and not source.closed, f"{target.sink.error} after {seconds} s"
    pipe.now += 2.0
    pipe.turn()
    assert target.sink.error is not None and "no answer" in str(target.sink.error)


def test_a_source_lets_go_of_its_snapshot_when_the_sink_is_silent() -> None:
    giver, target, _ = pair()
    pipe = Pipe(target, giver)
    pipe.run(3)
    while pipe.source.step(pipe.now, 1 << 20):
        pipe.source.take_frames()
    assert pipe.source.applied_index
    with pytest.raises(Exception, match="said nothing"):
        pipe.source.step(pipe.now + 61, 1 << 20)
    assert pipe.source.closed and not pipe.source.applied_index


@pytest.mark.parametrize("expunged", [True, False])
def test_a_body_that_is_gone_before_it_was_synced_does_not_hold_the_session_up(
    expunged: bool,
) -> None:
    giver, target, _ = pair(empty=True)
    synced: set[bytes] = set()
    target.bodies.durable = lambda digest: digest in synced  # type: ignore[method-assign]
    pipe = Pipe(target, giver)
    while not target.bodies.bodies or target.sink.phase != SinkPhase.BODIES:
        pipe.turn()
    gone = next(iter(target.bodies.bodies))
    if expunged:  # and reclaimed
        target.engine.table("blobrefs").delete(gone)
    del target.bodies.bodies[gone]
    while pipe.turn():
        pass
    assert target.sink.active
    synced.update(target.bodies.bodies)
    for _ in range(10):
        pipe.turn()
        synced.update(target.bodies.bodies)
    assert not target.sink.active and target.sink.error is None
    assert target.sink.missing.total() == (0, 0)
    assert target.bodies.has(gone) is not expunged
