"""The simulation of a large cluster is one of the real controller, and its arithmetic adds up."""

from __future__ import annotations

from bench import scaling
from bench.report import BenchOptions
from raftmail.cluster import changes
from raftmail.cluster.moves import counts
from raftmail.cluster.steps import StepLimits


def test_a_drained_node_of_a_simulated_fleet_ends_empty() -> None:
    fleet = scaling.Fleet(6, 20, 3)
    fleet.run(StepLimits())
    fleet.state = fleet.state.with_puts(changes.drain(fleet.state, "n01", 0).puts)
    _, done, _ = fleet.run(StepLimits())
    assert done["AddLearner"] == done["Promote"] == done["RemoveReplica"] > 0
    assert counts(fleet.state)["n01"] == 0 and fleet.leads()["n01"] == 0


def test_what_a_failed_node_led_is_led_by_others() -> None:
    fleet = scaling.Fleet(6, 20, 0)
    before = sum(fleet.leads().values())
    fleet.fail("n02")
    assert fleet.leads()["n02"] == 0 and sum(fleet.leads().values()) == before


def test_the_arithmetic_of_a_million_users_adds_up() -> None:
    figures = {row["what"]: row["figure"] for row in scaling.needs(scaling.Million())}
    assert figures["users of a shard"] == 1000
    assert figures["replicas of a node"] == 100
    assert figures["deliveries at the peak"] == round(50e6 / 86_400 * 4)
    assert figures["mail, one copy"] == 977


def test_options_make_it_smaller() -> None:
    row = scaling._placement(BenchOptions(quick=True).count(1000, 30), 3)
    assert row["in different zones, %"] == 100
