"""What waits at a master: each request once in the log, each caller answered once, and never more
than the limits say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raftmail.mail import commands as c
from raftmail.mail.budget import Budget
from raftmail.mail.codec import encode_request
from raftmail.mail.codec_results import DONE
from raftmail.mail.failures import Failure
from raftmail.mail.results import Done, Executed, Result
from raftmail.shard.limits import Counters, ReplicaLimits
from raftmail.shard.proposals import BlobsUnknown, Proposals, Waiting
from raftmail.storage.disk import DiskFull
from tests.shard.machines import body_hash, message, save

CLIENT = b"c" * 16
Outcomes = list[Executed | Failure]


def _request(seq: int, command: c.Command | None = None, client: bytes = CLIENT) -> bytes:
    return encode_request(client, seq, 0, command or c.PutUser(f"u{seq}@x.org", "h", False))


class Queue:
    """Requests of a master that knows some results, and whose disk may be full."""

    def __init__(self, limits: ReplicaLimits | None = None) -> None:
        self.known: dict[tuple[bytes, int], Result] = {}
        self.store: Callable[[Waiting], None] = lambda w: None
        self.requests = Proposals(
            limits or ReplicaLimits(),
            Counters(),
            lambda client, seq: self.known.get((client, seq)),
            lambda w: self.store(w),
            1,
            lambda: "n1",
        )

    def add(self, seq: int, command: c.Command | None = None, blobs: Any = ()) -> Outcomes:
        told: Outcomes = []
        self.requests.add(_request(seq, command), blobs, told.append)
        return told

    def batch(self) -> list[int]:
        return [w.seq for w in self.requests.next_batch(7)[0]]


def test_a_request_whose_twin_is_in_the_log_is_not_proposed_and_has_the_twin_s_result() -> None:
    queue = Queue()
    first = queue.add(1)
    batch, _ = queue.requests.next_batch(0)
    queue.requests.proposed(batch, 3)
    second = queue.add(1)
    assert queue.batch() == [] and not first and not second
    queue.requests.applied([(CLIENT, 1, (DONE,))], 9)
    assert [one.result for one in (*first, *second) if isinstance(one, Executed)] == [
        Done(),
        Done(),
    ]


def test_a_request_that_was_applied_before_has_its_result_and_is_not_proposed() -> None:
    queue = Queue()
    queue.known[CLIENT, 1] = Done()
    told = queue.add(1)
    assert queue.batch() == []
    (answer,) = told
    assert isinstance(answer, Executed) and answer.result == Done() and answer.index == 7


def test_two_of_one_number_never_stand_in_one_entry() -> None:
    queue = Queue()
    queue.add(1)
    queue.add(2)
    queue.add(1)
    assert queue.batch() == [1, 2]
    assert queue.batch() == [1], "it waits for the next, where its twin is found"


def test_the_outcome_of_what_is_in_the_log_is_unknown_when_mastership_is_lost() -> None:
    queue = Queue()
    told = queue.add(1)
    waits = queue.add(2)
    batch, _ = queue.requests.next_batch(0)
    queue.requests.proposed(batch[:1], 3)
    queue.requests.fail_in_flight()
    (failure,) = told
    assert isinstance(failure, Failure) and failure.unknown
    assert waits == [] and not queue.requests.in_flight


def test_what_was_not_proposed_had_no_effect_and_is_told_so() -> None:
    queue = Queue()
    told = queue.add(1)
    queue.requests.fail_waiting("mastership is lost")
    (failure,) = told
    assert isinstance(failure, Failure) and not failure.unknown
    assert queue.requests.waiting_bytes == 0 and queue.batch() == []


def test_a_full_disk_fails_the_request_that_met_it_and_those_before_it_wait_again() -> None:
    queue = Queue()
    before = queue.add(1)
    met = queue.add(2, save(message("m")), ((body_hash("m"), b"m"),))
    after = queue.add(3)
    size = queue.requests.waiting_bytes

    def full(w: Waiting) -> None:
        raise DiskFull("no space")

    queue.store = full
    with pytest.raises(DiskFull):
        queue.requests.next_batch(0)
    (failure,) = met
    assert isinstance(failure, Failure) and failure.full and not failure.unknown
    assert before == [] and after == []
    assert 0 < queue.requests.waiting_bytes < size
    assert queue.batch() == [1, 3]
    assert queue.requests.waiting_bytes == 0


def test_a_request_for_a_body_that_nobody_sent_fails_alone() -> None:
    queue = Queue()
    queue.add(1)
    met = queue.add(2, save(message("m")))

    def unknown(w: Waiting) -> None:
        raise BlobsUnknown("it was not sent")

    queue.store = unknown
    assert queue.batch() == [1]
    (failure,) = met
    assert isinstance(failure, Failure) and failure.final


def test_what_waits_is_bounded_in_requests_and_in_bytes_with_bodies() -> None:
    queue = Queue(ReplicaLimits(waiting_requests_max=2))
    assert queue.add(1) == [] and queue.add(2) == []
    (refused,) = queue.add(3)
    assert isinstance(refused, Failure) and not refused.unknown
    queue.batch()
    assert queue.add(4) == []

    queue = Queue()
    queue.requests.budget.bytes_max = 3000
    blob = (body_hash("m"), bytes(2000))
    assert queue.add(1, save(message("m")), (blob,)) == []
    (refused,) = queue.add(2, save(message("m")), (blob,))
    assert isinstance(refused, Failure)
    queue.batch()
    assert queue.requests.budget.used_bytes == 0
    assert queue.add(3, save(message("m")), (blob,)) == []


def test_replicas_of_a_node_share_the_room_for_what_waits_and_give_it_back() -> None:
    one, other = Queue(), Queue()
    one.requests.budget = other.requests.budget = Budget(3000)
    blob = (body_hash("m"), bytes(2000))
    assert one.add(1, save(message("m")), (blob,)) == []
    (refused,) = other.add(1, save(message("m")), (blob,))
    assert isinstance(refused, Failure) and not refused.final and not refused.unknown
    one.requests.fail_waiting("it does not lead any more")
    assert other.add(2, save(message("m")), (blob,)) == []
    other.requests.fail_growing("it is full")
    assert one.requests.budget.used_bytes == 0


def test_an_entry_is_no_longer_than_the_limit_unless_it_holds_one_request() -> None:
    long = c.PutUser("long@x.org", "h" * 400, False)
    queue = Queue(ReplicaLimits(entry_bytes_max=600))
    queue.add(1, long)
    queue.add(2, long)
    assert queue.batch() == [1] and queue.batch() == [2]
    queue = Queue(ReplicaLimits(entry_bytes_max=100))
    queue.add(1, long)
    assert queue.batch() == [1]
