"""What a replica at work does not do: on real replicas of a simulated cluster, taken out of it in
the middle of their work."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest

from raftmail.consensus.journal import Identity, Journal
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_request
from raftmail.mail.failures import Failure
from raftmail.resync.state import write_jump
from raftmail.shard.frames import FrameKind
from raftmail.shard.opening import finish_jump
from raftmail.storage.blobs import ReclaimProgress
from raftmail.storage.index import TABLES, Index
from tests.consensus.journal_twin import SMALL
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine
from tests.simulation.node import SimNode
from tests.simulation.run import Simulation


@pytest.fixture
def master() -> Iterator[SimNode]:
    """A replica that leads, with nothing on its way; the cluster stands still from now on."""
    simulation = Simulation(3, 3, lmdb=False)
    for node in simulation.nodes:
        node.start()
    found = None
    while found is None:
        simulation.world.run_until(simulation.world.now + 1.0)
        assert simulation.world.now < 30.0
        found = next((n for n in simulation.nodes if n.running and n.group.accepts), None)
    yield found
    for node in simulation.nodes:
        node.engine.close()


def _save(body: bytes) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    digest = sha256(body).digest()
    guid = random.Random(1).randbytes(16)
    message = c.NewMessage((c.Target("a@x.org", "INBOX"),), digest, len(body), guid, 0)
    request = encode_request(b"k" * 16, 1, 0, c.Save("a@x.org", (message,), 5))
    return request, ((digest, body),)


def test_the_bodies_of_an_entry_are_pinned_from_when_it_is_proposed_until_it_is_applied(
    master: SimNode,
) -> None:
    """Until then no message has them: without a pin their space would be given back."""
    replica = master.replica
    request, blobs = _save(b"Subject: pinned\r\n\r\n")
    told: list[Any] = []
    replica.submit(master.now, request, blobs, told.append)
    replica.step(master.now)
    assert replica.blobs.is_pinned(blobs[0][0]) and not told
    replica.bodies.unpin(master.group.last_index)
    assert not replica.blobs.is_pinned(blobs[0][0])


def test_a_master_whose_disk_is_full_takes_no_request(master: SimNode) -> None:
    replica = master.replica
    replica.disk_full = True
    request, blobs = _save(b"Subject: full\r\n\r\n")
    told: list[Any] = []
    replica.submit(master.now, request, blobs, told.append)
    (failure,) = told
    assert isinstance(failure, Failure) and failure.full and not failure.unknown
    assert not replica.requests.waiting and not replica.blobs.has(blobs[0][0])


def test_a_frozen_replica_hears_no_raft_message_and_takes_no_beat(
    master: SimNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = master.replica
    replica.recovery.manager.sink._finished = (1, 1)
    assert replica.recovery.frozen

    def heard(*_: Any) -> None:
        raise AssertionError("a frozen replica was handed a message")

    monkeypatch.setattr(type(replica.group), "receive", heard)
    monkeypatch.setattr(type(replica.group), "receive_beat", heard)
    replica.receive(master.now, "n2", FrameKind.RAFT, b"whatever")
    assert replica.receive_beat(master.now, "n2", (1,) * 10)


def test_no_space_is_given_back_while_the_index_does_not_tell_what_is_needed(
    master: SimNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = master.replica
    calls: list[float] = []

    def reclaim(bodies: object, now: float, unreferenced: list[bytes]) -> ReclaimProgress:
        calls.append(now)
        return ReclaimProgress(more=False)

    monkeypatch.setattr(type(replica.bodies), "reclaim", reclaim)
    replica._reclaim(1.0)
    assert calls == [1.0]
    replica.keep_to = replica.group.applied_index + 1
    replica._reclaim(2.0)
    replica.keep_to = 0
    replica.recovery.manager.sink._finished = (1, 1)
    replica._reclaim(3.0)
    assert calls == [1.0]


@pytest.mark.parametrize(("term", "begins_at"), [(1, 0), (2, 5)])
def test_a_log_that_has_not_the_entry_at_which_a_resync_ended_begins_anew_there(
    term: int, begins_at: int
) -> None:
    disk = SimDisk(1)
    journal = Journal.open(disk, "j", Identity(b"c" * 16, 1, 1), SMALL, create=True)
    for number in range(1, 8):
        journal.add(b"entry", number, 1)
    index = Index(MemoryEngine(TABLES))
    index.applied_index, index.applied_term = 5, term
    write_jump(index, 5, term)
    finish_jump(index, journal)
    assert journal.begins_at == begins_at
    assert journal.term_of(5) == term
