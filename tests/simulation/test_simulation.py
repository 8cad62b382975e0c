"""The simulator itself: the same seed is the same run, and what it judges is judged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from raftmail.consensus.fitness import Fitness
from raftmail.consensus.group import Group
from raftmail.shard.replica import Replica
from raftmail.storage.records import IndexDamaged
from tests.consensus.planting import planted
from tests.simulation import kinds, run, swarm
from tests.simulation.disk import PLENTY_BYTES
from tests.simulation.planted import FAULTS, seeds_until_found
from tests.simulation.run import Simulation, simulate

ROOT = Path(__file__).resolve().parents[2]

REACHED = (
    "commits of the index",
    "trims of the log",
    "jumps of the log",
    "segments of bodies given back",
)


def trace_in_another_process(seed: int, hash_seed: str) -> str:
    code = (
        f"from tests.simulation.run import Simulation, simulate; print(simulate({seed}, 3).trace)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def test_the_same_seed_is_the_same_run_to_the_byte(capsys: pytest.CaptureFixture[str]) -> None:
    first = simulate(1, 3, verbose=True)
    told = capsys.readouterr().out
    assert first.trace == simulate(1, 3).trace
    assert first.trace == trace_in_another_process(1, "1") == trace_in_another_process(1, "2")
    simulate(1, 3, verbose=True)
    assert told == capsys.readouterr().out and len(told.splitlines()) > 100
    assert first.trace != simulate(2, 3).trace


@pytest.mark.parametrize("seed", [3, 8])
def test_a_run_on_lmdb_is_the_same_as_on_its_twin(seed: int) -> None:
    assert simulate(seed, 3, lmdb=True).trace == simulate(seed, 3, lmdb=False).trace


@pytest.mark.parametrize(
    ("seed", "nodes"),
    [(1, 1), (5, 3), (63931724435013, 3), (63931735743131, 5), (500028, 3)],
)
def test_a_cluster_keeps_its_promises_and_converges(seed: int, nodes: int) -> None:
    outcome = simulate(seed, nodes)
    assert outcome.problem == ""
    assert outcome.answered > 5 and outcome.entries > 5


def test_runs_reach_what_they_are_made_for() -> None:
    reached: Counter[str] = Counter()
    for seed in range(6):
        reached.update(simulate(seed, 3).reached)
    assert {what for what in REACHED if not reached[what]} == set()


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_planted_fault_can_be_planted(name: str) -> None:
    with planted(FAULTS[name]):
        pass


@pytest.mark.parametrize(
    "name",
    [
        "annotations-not-carried",
        "applied-before-committed",
        "bodies-not-synced",
        "deliveries-by-sender",
        "deliveries-not-carried",
        "deliveries-not-known",
        "deliveries-soon-forgotten",
        "modseq-stays",
        "names-remembered",
        "retries-not-known",
        "uidvalidity-again",
    ],
)
def test_a_planted_fault_is_found(name: str) -> None:
    before = Group.engine_apply, Replica.barrier
    seeds, problem = seeds_until_found(FAULTS[name], 40)
    assert seeds and problem
    assert (Group.engine_apply, Replica.barrier) == before


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("commit-unverified", "long_tails"),
        ("learner-confirms-reads", "stale_reads"),
        ("change-before-own-entry", "crossed_changes"),
        ("behind-the-log-counts", "lost_voters"),
        ("torn-entries-kept", "power"),
        ("pins-ignored", "needed_bodies"),
        ("lost-told-as-nothing", "lost_answers"),
        ("index-goes-on", "full_disks"),
    ],
)
def test_seeds_about_one_thing_find_the_fault_that_takes_it(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = getattr(kinds, f"_{kind}")
    monkeypatch.setattr(
        run, "draw", lambda rng, nodes: special(rng, swarm.any_conditions(rng, nodes))
    )
    seeds, problem = seeds_until_found(FAULTS[name], 16)
    assert seeds and problem


def test_a_journal_that_rots_is_mended_while_its_replica_runs_and_ends_it_at_a_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        run, "draw", lambda rng, nodes: kinds._rotten(rng, swarm.any_conditions(rng, nodes))
    )
    reached: Counter[str] = Counter()
    for seed in range(40):
        outcome = simulate(seed, 3)
        assert not outcome.problem
        reached.update(outcome.reached)
        if reached["journals that were mended"] and reached["journals that were rotten at a start"]:
            return
    raise AssertionError("no seed reaches it")


@pytest.mark.parametrize("seed", [1, 2])
def test_replicas_that_all_have_to_be_compared_come_to_it_one_after_the_other(seed: int) -> None:
    """While all are frozen no message of Raft wakes them; and a master may find nobody to hand over
    to at first."""
    simulation = Simulation(seed, 3)
    nodes = simulation.nodes[:3]
    for node in nodes:
        node.start()
    simulation.world.run_until(0.3)
    assert not any(node.group.is_leader for node in nodes)
    for node in nodes:
        node.replica.recovery.manager.need(full=True)
    simulation.world.run_until(60.0)
    managers = [node.replica.recovery.manager for node in nodes]
    assert [(manager.holds, manager.needs_records) for manager in managers] == [(False, False)] * 3


def test_a_master_whose_disk_is_full_lets_another_lead() -> None:
    simulation = Simulation(2, 3)
    nodes = simulation.nodes[:3]
    for node in nodes:
        node.start()
    simulation.world.run_until(5.0)
    (master,) = [node for node in nodes if node.group.is_leader]
    blobs = master.replica.blobs
    blobs.limits = replace(blobs.limits, free_bytes_min=2 * PLENTY_BYTES)
    simulation.world.run_until(10.0)
    assert master.replica.disk_full
    (successor,) = [node for node in nodes if node.group.is_leader]
    assert successor is not master and not successor.replica.disk_full


@pytest.mark.parametrize("condition", ["full", "slow", "damaged", "suspect"])
def test_of_three_replicas_two_that_may_not_lead_leave_it_to_the_third_and_it_stays_there(
    condition: str,
) -> None:
    simulation = Simulation(2, 3)
    nodes = simulation.nodes[:3]
    for node in nodes:
        node.start()
    simulation.world.run_until(5.0)
    (master,) = [node for node in nodes if node.group.is_leader]
    able = next(node for node in nodes if node is not master)
    for node in nodes:
        if node is able:
            continue
        replica = node.replica
        if condition == "full":
            replica.blobs.limits = replace(replica.blobs.limits, free_bytes_min=2 * PLENTY_BYTES)
        elif condition == "slow":
            replica.note_disk(is_slow=True)
        elif condition == "suspect":
            replica.recovery.manager.order(full=True, only=["nobody who is here"])
        else:
            replica.index_damaged(IndexDamaged("messages", bytes(12)))
            replica.recovery.manager.order(full=True, only=["nobody who is here"])
    for until in (8.0, 12.0, 20.0):
        simulation.world.run_until(until)
        leaders = [node for node in nodes if node.group.is_leader]
        if condition in ("full", "slow"):
            assert leaders == [able]
        else:
            assert master not in leaders or master.replica.fitness() is Fitness.ABLE


def test_where_all_disks_are_full_one_leads_all_the_same() -> None:
    simulation = Simulation(2, 3)
    nodes = simulation.nodes[:3]
    for node in nodes:
        node.start()
    simulation.world.run_until(5.0)
    for node in nodes:
        blobs = node.replica.blobs
        blobs.limits = replace(blobs.limits, free_bytes_min=2 * PLENTY_BYTES)
    simulation.world.run_until(10.0)
    (master,) = [node for node in nodes if node.group.is_leader]
    master.kill()
    simulation.world.run_until(20.0)
    assert [node for node in nodes if node.running and node.group.is_leader]
