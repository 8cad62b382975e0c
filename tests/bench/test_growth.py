"""The measurements of clusters that grow: whom they load, and what they make of what was written
down."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from bench.cluster import Raftmail
from bench.failover_load import FailoverLedger
from bench.grow import Growth
from bench.grow import report_of as growth_report
from bench.nodefail import Kill, report_of
from bench.report import BenchOptions, Runs
from bench.runtime import BenchError, first_of_group
from bench.spread import deliver, in_turns, store, users_over
from raftmail.admin.api.calls import GetNodeStatus, GetStatus
from raftmail.cluster.state import hash_of


@pytest.mark.parametrize("shards", [1, 4, 16, 64])
def test_every_shard_has_as_many_users(shards: int) -> None:
    users = users_over(shards)
    held = Counter(hash_of(user) % shards for user in users)
    assert len(set(users)) == 64
    assert set(held.values()) == {64 // shards}


def test_the_users_are_the_same_for_every_number_of_shards() -> None:
    assert users_over(1) == users_over(16) == users_over(64)


def test_subjects_take_turns_and_every_run_begins_at_the_other_end() -> None:
    assert in_turns(BenchOptions(runs=3), "ab") == ["a", "b", "b", "a", "a", "b"]


def test_loads_reach_users_of_all_shards_through_every_worker(tmp_path: Path) -> None:
    runs = Runs()
    users = users_over(4, 8)
    with Raftmail(1, users, shards=4, parent=tmp_path, replicas=1, workers=2) as cluster:
        deliver(cluster, runs, "a", 0.5)
        store(cluster, runs, "a", 0.5)
        assert min(cluster.messages_of([user]) for user in users) > 0
        rows = [cluster.admin(GetNodeStatus()).shards for _ in range(20)]
    assert len({frozenset(row) for row in rows}) == 2  # each worker holds shards of its own
    assert [row["failures"] for row in runs.table()] == [0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_node_is_given_all_masterships_that_it_can_have(tmp_path: Path) -> None:
    with Raftmail(2, shards=4, parent=tmp_path, replicas=2) as cluster:
        cluster.lead_all("n2")
        assert (
            len(cluster.led_by("n2")) >= 4
        )  # one may have been taken away already, to balance them


def ledger(*users: list[float]) -> FailoverLedger:
    made = FailoverLedger()
    for times in users:
        made.join("STORE").extend(times)
    return made


def test_the_longest_gap_is_that_of_the_shard_that_waited_longest() -> None:
    kill = Kill(at_s=10.0, led_s=11.0, recovered_s=14.0, ready_s=15.0)
    made = ledger([9.5, 10.5, 14.0], [9.0, 13.0, 14.5], [9.9, 10.1, 14.1])
    report = report_of(made, [kill])
    figures = {row["seconds"]: row["longest"] for row in report.tables[0]}
    assert figures == {
        "all shards led again after": 1.0,
        "every user acknowledged after": 4.0,
        "longest gap of any user": 4.0,
        "longest gap of the median user": 4.0,
    }
    assert [target.is_met for target in report.targets] == [True, False]


def test_kills_while_the_measuring_process_stood_still_are_left_out() -> None:
    made = ledger([9.0, 10.5, 20.5])
    made.stalls_s.append((10.0, 12.0))
    stalled, quiet = Kill(10.0, 13.0, 13.5, 14.0), Kill(20.0, 20.3, 20.6, 21.0)
    report = report_of(made, [stalled, quiet])
    assert {row["kills"] for row in report.tables[0]} == {1}
    assert report.notes[-1] == "1 kills left out: the machine stood still"
    with pytest.raises(BenchError, match="stood still during every kill"):
        report_of(made, [stalled])


def test_an_error_of_one_task_of_a_group_is_told_as_what_it_is() -> None:
    async def fail(error: Exception) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            raise error

    with pytest.raises(BenchError, match=r"^no master$"), first_of_group():
        asyncio.run(fail(BenchError("no master")))
    with pytest.raises(ExceptionGroup), first_of_group():
        asyncio.run(fail(ValueError("a mistake")))


def test_growth_is_held_against_the_load_before_it_and_failures_are_counted() -> None:
    made = ledger([at / 10 for at in range(100)], [10.0 + at / 4 for at in range(40)])
    report = growth_report(made, Growth(from_s=0.0, invited_s=10.0, joined_s=15.0, done_s=20.0))
    assert [row["per_s"] for row in report.tables[0]] == [10.0, 4.0, 4.0]
    assert [target.is_met for target in report.targets] == [False, True]
    made.failures["STORE: connection lost"] += 1
    report = growth_report(made, Growth(0.0, 10.0, 15.0, 20.0))
    assert [target.is_met for target in report.targets] == [False, False]


def test_a_node_can_be_added_while_it_is_measured(tmp_path: Path) -> None:
    with Raftmail(1, shards=1, parent=tmp_path, replicas=1) as cluster:
        assert cluster.add_node() == "n2"
        assert [node.name for node in cluster.admin(GetStatus()).nodes] == ["n1", "n2"]
    assert list(tmp_path.iterdir()) == []
