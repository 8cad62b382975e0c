"""What a resync costs follows what changed, not what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from raftmail.mail import commands as c
from raftmail.resync.frames import HEAD
from raftmail.resync.limits import ResyncLimits
from raftmail.resync.pace import Backoff, Meter, TokenBucket
from raftmail.resync.sink import Sink
from raftmail.shard.machine import Machine
from raftmail.storage.blobs import BlobStore
from raftmail.storage.disk import RealDisk
from raftmail.storage.index import TABLES, Index, IndexIdentity
from raftmail.storage.kv import LmdbEngine
from tests.resync.ends import CLUSTER, SMALL, History, Node, Pipe, assert_equal, body_of, resync

LIMITS = ResyncLimits()


def full(mailboxes: int, messages: int, *, zones: bool = False) -> History:
    log = History(zones=zones)
    for box in range(mailboxes):
        log.create(f"box{box}")
        log.save(f"box{box}", *[f"{box}-{i}" for i in range(messages)])
    return log


def cost(log: History, behind: int) -> tuple[int, int]:
    """Bytes and frames from the source, for a replica that lacks what comes after `behind`."""
    giver, target = Node("giver", LIMITS), Node("target", LIMITS)
    giver.apply(log.entries)
    target.apply(log.entries[:behind])
    pipe = resync(target, giver)
    assert_equal(target, giver)
    return pipe.to_sink_bytes, pipe.count


def test_equal_mailboxes_cost_less_than_200_bytes_each() -> None:
    for mailboxes in (10, 400):
        log = full(mailboxes, 2)
        behind = len(log)
        log.flag("box3", 1, 1, "\\Seen")
        size, _ = cost(log, behind)
        assert size < 2500 + 20 * mailboxes, mailboxes


def test_bytes_follow_the_changes_and_not_the_messages_that_are_there() -> None:
    sizes = []
    for messages in (20, 400):
        log = full(20, messages)
        behind = len(log)
        for box in (3, 11, 17):
            log.flag(f"box{box}", 1, 10, "\\Seen")
            log.expunge(f"box{box}", 12, 14)
            log.save(f"box{box}", *[f"new{box}{i}" for i in range(5)])
        sizes.append(cost(log, behind)[0])
    assert sizes[1] < sizes[0] * 1.15, sizes


def test_bytes_for_dates_grow_far_slower_than_the_messages_that_have_some() -> None:
    """They are one table for all mailboxes, and are compared by ever smaller parts."""
    sizes = []
    for messages in (20, 400):
        log = full(20, messages, zones=True)
        behind = len(log)
        for box in (3, 11, 17):
            log.save(f"box{box}", *[f"new{box}{i}" for i in range(5)])
        sizes.append(cost(log, behind)[0])
    assert sizes[1] < sizes[0] * 2, sizes


def test_bytes_grow_with_the_number_of_changed_messages() -> None:
    def changed(count: int) -> int:
        log = full(4, 300)
        behind = len(log)
        log.flag("box1", 1, count, "\\Seen")
        return cost(log, behind)[0]

    few, many = changed(10), changed(300)
    assert many - few < 290 * 130
    assert many > few + 290 * 40


def test_where_the_expunge_log_was_cut_only_the_records_that_differ_are_sent() -> None:
    log = full(1, 900)
    behind = len(log)
    for uid in range(1, 880, 2):
        log.expunge("box0", uid, uid)
    giver, target = Node("giver", LIMITS), Node("target", LIMITS)
    giver.apply(log.entries)
    target.apply(log.entries[:behind])
    mailbox = giver.index.mailboxes.named("a", "box0")
    assert mailbox is not None
    for node in (giver,):
        table = node.engine.table("expunges")
        for key, _ in node.rows()["expunges"]:
            table.delete(key)
        mailbox.expunge_rows, mailbox.expunge_floor = 0, mailbox.highestmodseq
        node.index.mailboxes.touch(mailbox)
        node.machine.commit()
    pipe = resync(target, giver)
    assert_equal(target, giver)
    assert pipe.to_sink_bytes < 900 * 130


def test_a_sink_whose_tasks_all_wait_for_answers_has_nothing_more_to_do_at_once() -> None:
    history = History()
    for name in ("Box", "Other", "Third"):
        history.save(name, *(f"{name} {i}" for i in range(20)))
    giver, target = Node("giver"), Node("target", replace(SMALL, step_rows=1, requests_max=1))
    giver.apply(history.entries)
    pipe = Pipe(target, giver)
    sink = target.sink
    steps = more = 0
    while sink.active:
        steps += 1
        if sink.step(pipe.now) and sink.active:
            more += 1
            assert not sink._tasks or any(not one.waits for one in sink._tasks)
            continue
        for frame in sink.take_frames():
            pipe.source.receive(pipe.now, frame)
        while pipe.source.step(pipe.now, 1 << 20):
            pass
        for frame in pipe.source.take_frames():
            sink.receive(pipe.now, frame)
    assert sink.error is None and 0 < more < steps
    pipe.close()


def test_the_rate_limit_holds() -> None:
    log = full(5, 100)
    giver, target = Node("giver", LIMITS), Node("target", LIMITS)
    giver.apply(log.entries)
    pipe = Pipe(target, giver, bucket=TokenBucket(20_000, 4000))
    while target.sink.active:
        pipe.turn()
        pipe.now += 0.01
        assert pipe.to_sink_bytes <= 4000 + 20_000 * (pipe.now + 0.01) + (64 << 10) + HEAD.size
    assert target.sink.error is None
    assert pipe.to_sink_bytes / pipe.now < 24_000
    assert pipe.to_sink_bytes > 30_000


def test_a_backoff_doubles_up_to_its_limit_and_begins_anew() -> None:
    backoff = Backoff(1.0, 5.0)
    assert [backoff.failed(10.0) for _ in range(5)] == [11.0, 12.0, 14.0, 15.0, 15.0]
    backoff.succeeded()
    assert backoff.failed(0.0) == 1.0


def test_a_meter_tells_the_rate_of_late() -> None:
    meter = Meter(0.0)
    for tick in range(1, 1001):
        meter.add(tick / 10, 50.0)
    assert meter.rate(100.0) == pytest.approx(500.0, rel=0.05)
    assert meter.rate(160.0) < 5.0


@contextmanager
def real(folder: Path, name: str) -> Iterator[tuple[Machine, BlobStore, LmdbEngine]]:
    engine = LmdbEngine(folder / name / "index", TABLES, map_bytes=64 << 20)
    index = Index(engine, IndexIdentity(CLUSTER, 7, name))
    bodies = BlobStore.open(RealDisk(folder / name), "blobs", index)
    yield Machine(index), bodies, engine
    bodies.close()
    engine.close()


def test_on_real_files_a_new_replica_becomes_whole_and_opens_again(tmp_path: Path) -> None:
    log = full(3, 30)
    log.do(c.Subscribe("a", "box1", True))
    giver = Node("giver")
    giver.apply(log.entries)
    with real(tmp_path, "target") as (machine, bodies, _):
        target = Node("target")
        target.machine, target.bodies = machine, bodies  # type: ignore[assignment]
        target.sink = Sink(machine.index, bodies, CLUSTER, 7, machine.abort)
        pipe = Pipe(target, giver)
        while target.sink.active:
            pipe.turn()
            job = bodies.begin_sync()
            if job is not None:
                job.run()
                bodies.end_sync(job)
                bodies.place_pending()
        assert target.sink.error is None
        assert target.sink.missing.total() == (0, 0)
        machine.commit()
        assert machine.index.digest() == giver.index.digest()
    with real(tmp_path, "target") as (machine, bodies, _):
        assert machine.applied_index == giver.machine.applied_index
        for text in ("0-1", "2-29"):
            body = body_of(text)
            assert bodies.get(hashlib.sha256(body).digest()) == body
