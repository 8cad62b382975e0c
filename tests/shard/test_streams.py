"""Long bodies go ahead of their entries, and keep nobody waiting."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import pytest

from raftmail.mail import commands as c
from raftmail.mail.codec import encode_request
from raftmail.mail.failures import Failure
from raftmail.mail.results import Executed
from raftmail.shard.bodies import BodyLimits
from raftmail.shard.frames import FrameKind
from raftmail.shard.memory import Memory
from raftmail.shard.replica import BackgroundJob
from tests.shard.machines import guid_of
from tests.shard.test_members import One, Shard

LONG_BYTES = 5000


class Streaming(Shard):
    """`stuck` are replicas whose disk does not get done with long bodies."""

    def __init__(self, *, sending_bytes_max: int = 1 << 20) -> None:
        self.stuck: set[int] = set()
        super().__init__()
        bodies = BodyLimits(long_bytes_min=LONG_BYTES)
        for one in self.all.values():
            one.replica.limits = replace(self.limits, bodies=bodies)
            one.replica.bodies.limits = bodies
            one.replica.memory.sending_bytes_max = sending_bytes_max
        self.followers = [one for one in self.all.values() if one is not self.master]

    def holds_back(self, one: One, job: BackgroundJob) -> bool:
        return job.long_body is not None and one.number in self.stuck

    def submit(self, text: str, size: int, until: float = math.inf) -> list[Executed | Failure]:
        self.seq += 1
        body = (text.encode() * size)[:size]
        digest = hashlib.sha256(body).digest()
        message = c.NewMessage(
            (c.Target("a", "INBOX"),), digest, len(body), guid_of(text), 7, (), b"summary"
        )
        save = c.Save("a", (message,), 1)
        answers: list[Executed | Failure] = []
        request = encode_request(b"client of tests!", self.seq, 0, save)
        self.leader().submit(self.now, request, [(digest, body)], answers.append, until)
        return answers

    def turns(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.turn()

    def count(self, kind: FrameKind) -> int:
        return sum(1 for frame in self.frames if frame[2] == kind)


def test_a_request_with_a_long_body_waits_for_a_majority_and_keeps_no_other_waiting() -> None:
    shard = Streaming()
    shard.stuck = {one.number for one in shard.followers}
    long = shard.submit("long", 20_000)
    for n in range(3):
        short = shard.submit(f"short {n}", 100)
        shard.until(lambda short=short: short)
        assert isinstance(short[0], Executed)
    assert not long and shard.count(FrameKind.BODY) == 2
    shard.stuck.discard(shard.followers[0].number)
    shard.until(lambda: long)
    assert isinstance(long[0], Executed)
    shard.stuck.clear()
    assert len(shard.digests()) == 1
    assert shard.count(FrameKind.BODY) == 2 and shard.count(FrameKind.WANT) == 0


def test_a_request_whose_body_no_majority_takes_in_time_fails_and_holds_no_memory() -> None:
    shard = Streaming()
    shard.stuck = {one.number for one in shard.followers}
    long = shard.submit("long", 20_000)
    replica = shard.leader()
    assert replica.memory.waiting.used_bytes > 20_000
    shard.turns(shard.limits.stream_lost_s - 1.0)
    assert not long and shard.count(FrameKind.BODY) == 2, "none is sent twice that is not lost"
    shard.turns(shard.limits.stream_s - shard.limits.stream_lost_s + 2.0)
    assert not long and replica.memory.waiting.used_bytes < 1000, "it is on the disk"
    shard.turns(shard.limits.stream_s)
    assert all(one.replica.memory.arrived.used_bytes == 20_000 for one in shard.followers)
    assert isinstance(long[0], Failure) and not long[0].unknown
    assert replica.memory.waiting.used_bytes == replica.requests.waiting_bytes == 0
    short = shard.submit("short", 100)
    shard.until(lambda: short)
    assert isinstance(short[0], Executed), "others never wait for such a body"
    shard.stuck.clear()
    shard.turns(0.5)
    assert all(one.replica.memory.arrived.used_bytes == 0 for one in shard.all.values())
    assert len(shard.digests()) == 1


def test_a_request_holds_no_body_longer_than_whoever_asked_waits_and_may_still_be_done() -> None:
    shard = Streaming()
    shard.stuck = {one.number for one in shard.followers}
    long = shard.submit("long", 20_000, shard.now + 2.0)
    shard.turns(1.5)
    assert shard.leader().memory.waiting.used_bytes > 20_000
    shard.turns(2.0)
    assert not long and shard.leader().memory.waiting.used_bytes < 1000
    shard.stuck.clear()
    shard.until(lambda: long)
    assert isinstance(long[0], Executed)
    assert shard.leader().memory.waiting.used_bytes == 0 and len(shard.digests()) == 1


def test_a_request_whose_body_is_not_even_here_when_whoever_asked_gives_up_fails() -> None:
    shard = Streaming()
    shard.stuck = set(shard.all)
    long = shard.submit("long", 20_000, shard.now + 2.0)
    shard.turns(3.0)
    assert isinstance(long[0], Failure)
    assert shard.leader().memory.waiting.used_bytes == 0


def test_a_follower_is_sent_the_next_body_when_it_has_those_before() -> None:
    shard = Streaming(sending_bytes_max=30_000)
    shard.stuck = {one.number for one in shard.followers}
    answers = [shard.submit(f"long {n}", 20_000) for n in range(3)]
    shard.turns(0.5)
    assert shard.count(FrameKind.BODY) == 2
    shard.stuck.clear()
    shard.until(lambda: all(answers), 4000)
    assert all(isinstance(answer[0], Executed) for answer in answers)
    assert shard.count(FrameKind.BODY) == 6 and shard.count(FrameKind.WANT) == 0
    assert len(shard.digests()) == 1


def test_the_replicas_of_a_node_share_what_may_be_on_its_way_and_what_waits() -> None:
    memory = Memory(sending_bytes_max=100)
    assert memory.begin_sending("n2", 150), "one always may"
    assert not memory.begin_sending("n2", 1) and memory.begin_sending("n3", 60)
    memory.end_sending("n2", 150)
    assert memory.begin_sending("n2", 60) and not memory.begin_sending("n2", 60)


def test_bodies_from_others_beyond_the_room_are_dropped_and_come_later() -> None:
    shard = Streaming()
    follower = shard.followers[0].replica
    follower.memory.arrived.bytes_max = 30_000
    shard.stuck = {one.number for one in shard.followers}
    answers = [shard.submit(f"long {n}", 20_000) for n in range(2)]
    shard.turns(0.5)
    assert follower.memory.arrived.used_bytes == 20_000
    shard.stuck.clear()
    shard.until(lambda: all(answers), 4000)
    assert all(isinstance(answer[0], Executed) for answer in answers)
    shard.turns(0.5)
    assert follower.memory.arrived.used_bytes == 0
    assert len(shard.digests()) == 1


def test_a_damaged_long_body_is_not_acknowledged_and_is_asked_for() -> None:
    shard = Streaming()
    follower = shard.followers[0].replica
    body = bytes(20_000)
    follower.take_long(shard.now, shard.leader().node, hashlib.sha256(b"other").digest() + body)
    follower.take_long(shard.now, shard.leader().node, b"short")
    shard.turns(0.2)
    assert shard.count(FrameKind.HAVE) == 0 and follower.counters.bad_frames == 1


@pytest.mark.parametrize("lost", [1, 2])
def test_a_request_whose_followers_go_away_goes_on_or_is_failed(lost: int) -> None:
    shard = Streaming()
    shard.stuck = {one.number for one in shard.followers}
    answers = shard.submit("long", 20_000)
    shard.turns(0.2)
    for one in shard.followers[:lost]:
        shard.end(one.number)
    shard.stuck.clear()
    if lost == 1:
        shard.until(lambda: answers)
        assert isinstance(answers[0], Executed)
    else:
        assert shard.master is not None
        shard.end(shard.master.number)
        assert isinstance(answers[0], Failure)
