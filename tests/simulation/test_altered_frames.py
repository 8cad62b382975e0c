"""A replica at work that is handed frames which are nearly right: they are counted and dropped, or
taken, and nothing else happens (P8)."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest

from raftmail.shard.frames import FrameKind
from tests.fuzzing import altered, bounded_memory
from tests.simulation.node import Broken, SimNode
from tests.simulation.run import Simulation

FRAMES_OF_KIND = 40
_RUN_S = 12.0
_KEPT_MAX = 60
Captured = dict[str, list[tuple[str, str, bytes]]]
"""By kind: from, to, payload."""


def _running(seed: int) -> tuple[Simulation, Captured]:
    """A cluster after some seconds of faults, and what its nodes have sent each other."""
    simulation = Simulation(seed, 3, lmdb=False)
    frames: Captured = defaultdict(list)
    send = simulation.network.send
    rng = random.Random(seed)

    def noting(source: str, target: str, given: list[tuple[str, bytes]]) -> None:
        for kind, payload in given:
            kept = frames[kind]
            if len(kept) < _KEPT_MAX:
                kept.append((source, target, payload))
            else:
                kept[rng.randrange(_KEPT_MAX)] = (source, target, payload)
        send(source, target, given)

    setattr(simulation.network, "send", noting)  # noqa: B010  the one that nodes call
    for node in simulation.nodes:
        node.start()
    for client in simulation.clients:
        client.start()
    simulation.injector.start()
    simulation.world.run_until(_RUN_S)
    return simulation, frames


def _hand_over(node: SimNode, peer: str, kind: str, payload: bytes) -> bool:
    """As a turn does. False: the replica must stop, by a rule of its own."""
    replica: Any = node.replica
    try:
        replica.receive(node.now, peer, kind, payload)
        replica.tick(node.now)
        replica.step(node.now)
        replica.take_frames()
        for job in replica.begin_sync():
            job()
        replica.end_sync(node.now)
    except Broken:
        return False  # the message was that of a leader who broke the rules: nobody can tell
    return True


@pytest.mark.parametrize("seed", range(6))
def test_no_frame_of_a_peer_raises_anything(seed: int) -> None:
    simulation, frames = _running(seed)
    assert frames.keys() >= {FrameKind.RAFT, FrameKind.BEATS, FrameKind.BLOB}
    rng = random.Random(seed)
    nodes = {node.name: node for node in simulation.nodes if node.running}
    dropped = 0
    with bounded_memory(256 << 20):
        for kind in FrameKind:
            kept = frames.get(kind) or [("n1", "n2", b"")]
            for number in range(FRAMES_OF_KIND):
                source, target, payload = rng.choice(kept)
                node = nodes.get(target)
                if node is None or not node.opened:
                    continue
                other = rng.choice(list(FrameKind)) if rng.random() < 0.1 else kind
                changed = altered(payload, seed * 1000 + number)
                before = node.replica.counters.bad_frames
                if not _hand_over(node, source, other, changed):
                    nodes.pop(target)
                dropped += node.replica.counters.bad_frames - before
    assert dropped > FRAMES_OF_KIND // 2
    for one in simulation.nodes:
        one.engine.close()
