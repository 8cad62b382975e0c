"""What sort of cluster, clients and faults a seed has.

Faults hide each other. A cluster that loses power all the time never gets far enough for its log to
be trimmed. One where everything may happen at once seldom has the one thing twice in a row. So
every seed draws its own subset of faults, each with a weight of its own, its own limits and its own
clients. (Groce et al., "Swarm Testing", 2012.) Some seeds are about one thing alone (`kinds`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from raftmail.consensus.group import Flow, Timing
from raftmail.consensus.journal import JournalLimits
from raftmail.resync.limits import ResyncLimits
from raftmail.resync.scrub import ScrubLimits
from raftmail.shard.bodies import BodyLimits
from raftmail.shard.limits import ReplicaLimits
from raftmail.shard.log_retention import LogLimits
from raftmail.storage.blobs import BlobLimits

ALONE = (
    "kill",
    "power_now",
    "power_at_operation",
    "power_at_new_term",
    "power_everywhere",
    "fail_sync",
    "full_disk",
    "slow_disk",
    "slow_node",
    "pause",
    "jump_clock",
    "rot",
    "rot_index",
    "rot_journal",
)
"""Faults that a single node can have."""

ROT = frozenset(("rot", "rot_index", "rot_journal"))
"""Those of a bad disk, which one node has, and which others are needed to mend."""

ROT_FOR_SCRUB = frozenset(("rot", "rot_index"))
"""Those that nothing but the scrub may come across."""

AMONG_OTHERS = (
    "isolate",
    "split",
    "chain",
    "one_way",
    "reset",
    "transfer",
    "leave_behind",
    "order_resync",
    "lose_index",
    "members",
    "lose_disk",
    "go_back",
)

PLAIN_CALLS = {
    "save": 0.30,
    "store": 0.20,
    "copy": 0.08,
    "expunge": 0.10,
    "fetch": 0.24,
    "mailbox": 0.04,
    "body": 0.04,
}
"""What clients ask for, by share."""

ANNOTATIONS_SHARE = 0.15
"""The same, of annotations, in a seed that has them (`run.ANNOTATED`)."""

NAMES_SHARES = (0.0, 0.0, 0.1, 0.3)
"""The same, of mailboxes that are made, renamed and deleted."""


@dataclass(frozen=True, slots=True)
class Habits:
    """Of the clients. `repeats` is the share of messages saved whose body was saved before, and
    `loss` that of requests and answers that get lost. `again` is that of requests that are sent
    twice. `think_s` is between two operations, on average. Where that is short, clients work in
    bursts, and `away` is the chance that one ends with an operation: requests come together and
    entries follow each other, with fewer of them in a seed.
    """

    clients: int
    think_s: float
    away: float
    loss: float
    again: float
    repeats: float
    impatience_s: tuple[float, float]
    calls: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of one seed. `faults` has the weight of each; one comes every `pace_s` on average."""

    limits: ReplicaLimits
    timing: Timing
    flow: Flow
    journal: JournalLimits
    blobs: BlobLimits
    habits: Habits
    faults: Mapping[str, float]
    pace_s: float
    repeat_chance: float
    slow_chance: float
    down_s: Sequence[float]
    """How long what stopped stays down, at most; one of these."""


def any_conditions(rng: random.Random, nodes: int) -> Conditions:
    """Those of a seed that is about nothing in particular."""
    kinds = ALONE + (AMONG_OTHERS if nodes > 1 else ())
    faults = {kind: rng.choice((0.3, 1.0, 3.0)) for kind in kinds if rng.random() < 0.5}
    if nodes == 1:
        for kind in ROT:
            faults.pop(kind, 0.0)  # there would be no one to mend it
    if "members" in faults:
        faults["members"] *= 4.0  # much of what it does is refused
    limits = _limits(rng)
    if ROT_FOR_SCRUB & faults.keys():
        limits = replace(limits, scrub=replace(limits.scrub, period_s=8.0))
    return Conditions(
        limits,
        # Slower than a real node's, so that more happens for each heartbeat that is simulated.
        Timing(
            heartbeat_s=0.25,
            election_min_s=0.8,
            election_max_s=1.6,
            fallback_s=rng.choice((1.6, 6.0)),
        ),
        Flow(
            message_bytes_max=rng.choice((1, 1 << 10, 1 << 20)),
            in_flight_bytes_max=8 << 10,
            parked_bytes_max=rng.choice((2 << 10, 1 << 20)),
            apply_entries_max=rng.choice((1, 5, 512)),
        ),
        JournalLimits(
            segment_bytes_max=rng.choice((1 << 10, 4 << 10)),
            prealloc_bytes_min=2 << 10,
            prealloc_bytes_max=4 << 10,
            reserve_bytes=1 << 10,
            cache_bytes_max=rng.choice((0, 4 << 10)),
        ),
        BlobLimits(
            segment_bytes_max=rng.choice((2 << 10, 16 << 10)),
            alloc_bytes_min=1 << 10,
            alloc_bytes_max=4 << 10,
            free_bytes_min=0,
            dead_percent_min=rng.choice((10, 50)),
        ),
        _habits(rng),
        faults or {"kill": 1.0},
        rng.choice((0.3, 0.8, 2.0, 4.0)),
        rng.choice((0.0, 0.3, 0.8)),
        rng.choice((0.0, 0.0, 0.02)),
        rng.choice(((0.01, 0.3, 1.0, 6.0), (0.3,), (6.0, 15.0))),
    )


def _limits(rng: random.Random) -> ReplicaLimits:
    quick = rng.random() < 0.5
    return ReplicaLimits(
        entry_requests_max=rng.choice((1, 8)),
        entry_bytes_max=4 << 10,
        index_commit_requests_max=rng.choice((1, 8, 24)),
        index_commit_s=rng.choice((0.0, 0.05, 0.5, 2.0)),
        log=LogLimits(
            bytes_max=rng.choice((1, 6 << 10, 12 << 10, 1 << 30)),
            entries_max=rng.choice((0, 0, 50)),
            age_s=rng.choice((0.0, 0.0, 3.0)),
        ),
        log_look_s=0.5,
        resync=_resync(rng),
        scrub=ScrubLimits(page_rows=16, period_s=rng.choice((8.0, 6 * 3600.0))),
        bodies=BodyLimits(
            answer_s=0.5,
            long_bytes_min=500 if quick else 2 << 20,
            long_rest_s=0.8 if quick else 1.5,
            journal_bytes_max=rng.choice((0, 400, 16 << 10)),
            sync_s=rng.choice((0.05, 0.5, 3.0)),
            reclaim_bytes=rng.choice((1 << 10, 16 << 10)),
            reclaim_look_bytes=8 << 10,
            reclaim_look_s=0.4 if quick else 1.5,
            reclaim_rest_s=0.8 if quick else 1.5,
        ),
    )


def _resync(rng: random.Random) -> ResyncLimits:
    """Small steps and commits, so that there is a middle in which things can happen."""
    if rng.random() < 0.3:
        return ResyncLimits(silence_s=5.0, retry_max_s=2.0)
    return ResyncLimits(
        requests_max=rng.choice((1, 4)),
        answer_bytes=rng.choice((200, 2 << 10)),
        answer_rows_max=rng.choice((2, 16)),
        body_request_bytes=1 << 10,
        mailboxes_parallel=rng.choice((1, 8)),
        commit_rows=rng.choice((1, 10)),
        step_rows=rng.choice((4, 64)),
        step_bytes=rng.choice((300, 4 << 10)),
        silence_s=5.0,
        retry_max_s=2.0,
    )


def _habits(rng: random.Random) -> Habits:
    return Habits(
        clients=rng.randint(2, 5),
        think_s=rng.choice((0.1, 0.4, 1.0)),
        away=rng.choice((0.1, 0.2, 0.3)),
        loss=rng.choice((0.0, 0.02, 0.15)),
        again=rng.choice((0.03, 0.03, 0.2)),
        repeats=rng.choice((0.05, 0.05, 0.6)),
        impatience_s=rng.choice(((0.5, 3.0), (0.05, 0.5))),
        calls={
            "names": rng.choice(NAMES_SHARES),
            **{
                what: share * rng.choice((0.4, 1.0, 1.0, 2.5))
                for what, share in PLAIN_CALLS.items()
            },
            "annotations": 0.0,
        },
    )
