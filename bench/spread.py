"""What the measurements of growth share: users over all shards, and the loads that spread over
them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import TypeVar

from bench.closed_loop import LoadResult
from bench.cluster import Raftmail
from bench.lmtp_load import LoadPlan
from bench.lmtp_load import run_load as run_lmtp
from bench.report import BenchOptions, Runs
from bench.runtime import BenchError, CpuMeter, CpuUse
from bench.store_load import StorePlan, fill
from bench.store_load import run_load as run_store
from raftmail.cluster.state import hash_of

Subject = TypeVar("Subject")

USERS = 64
LMTP_CONNECTIONS = 32
STORE_CONNECTIONS = 16
OUTSTANDING = 128
MESSAGES_EACH = 16
_WARMUP_S = 0.5


def users_over(shards: int, users: int = USERS) -> tuple[str, ...]:
    """Users of whom every shard has as many, give or take one; the same ones for any number of
    shards that divides ``users``."""
    wanted = max(users, shards)
    left = set(range(wanted))
    found: dict[int, str] = {}
    for number in count():
        if not left:
            return tuple(found[at] for at in range(wanted))[:users]
        user = f"user{number}@example.org"
        at = hash_of(user) % wanted
        if at in left:
            left.remove(at)
            found[at] = user
    raise AssertionError


def deliver(cluster: Raftmail, runs: Runs, subject: str, seconds: float) -> None:
    """Deliveries of 4 KB over 32 connections, dealt to all nodes, to all users. Raises BenchError,
    also when the cluster holds something else than what it acknowledged."""
    plan = LoadPlan(
        ",".join(cluster.lmtp_addresses), cluster.users, LMTP_CONNECTIONS, seconds, _WARMUP_S
    )
    meter = CpuMeter(cluster.cpu_s)
    result = run_lmtp(plan)
    runs.add(f"LMTP, {subject}", _figures(result, meter.read()))
    stored = cluster.messages_of(cluster.users)
    if stored != result.accepted_total:
        raise BenchError(f"{result.accepted_total} messages were accepted, {stored} are there")


def store(cluster: Raftmail, runs: Runs, subject: str, seconds: float) -> None:
    """STORE of a flag, 128 outstanding over 16 connections, dealt to all nodes, in the mailboxes of
    all users. Raises BenchError."""
    plan = StorePlan(
        cluster.client_addresses,
        cluster.users,
        connections=STORE_CONNECTIONS,
        pipeline=OUTSTANDING // STORE_CONNECTIONS,
        messages=MESSAGES_EACH,
        touched=MESSAGES_EACH,
        seconds=seconds,
        warmup_s=_WARMUP_S,
        access=cluster.access,
    )
    asyncio.run(fill(plan))
    meter = CpuMeter(cluster.cpu_s)
    result = run_store(plan)
    runs.add(f"STORE, {subject}", _figures(result, meter.read()))


def _figures(result: LoadResult, cpu: CpuUse) -> dict[str, float]:
    return {
        **result.figures(),
        "server_cpu_us": cpu.server_s / result.accepted_total * 1e6,
        "other_cores": cpu.other_cores,
    }


def in_turns(options: BenchOptions, subjects: Sequence[Subject]) -> list[Subject]:
    """Every subject once for each run, in changing order."""
    return [
        one
        for turn in range(options.runs)
        for one in (subjects if turn % 2 == 0 else reversed(subjects))
    ]
