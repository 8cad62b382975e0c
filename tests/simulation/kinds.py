"""Seeds that are about one thing: what they have in place of what `swarm` draws."""

from __future__ import annotations

import random
from dataclasses import replace

from raftmail.shard.log_retention import LogLimits
from tests.simulation.swarm import PLAIN_CALLS, Conditions, any_conditions

SPECIAL_SHARE = 0.75
"""Of the seeds are about one thing."""


def draw(rng: random.Random, nodes: int) -> Conditions:
    """The conditions of a seed."""
    conditions = any_conditions(rng, nodes)
    kind = rng.random()
    if nodes > 1 and kind < SPECIAL_SHARE:
        special = _SPECIAL[int(kind / SPECIAL_SHARE * len(_SPECIAL))]
        conditions = special(rng, conditions)
    return conditions


def _elections(rng: random.Random, base: Conditions) -> Conditions:
    """Elections, one after the other."""
    faults = {"power_at_new_term": 1.0, "kill_leader": 1.0, "isolate": 1.0, "reset": 1.0}
    return replace(base, faults=faults, pace_s=0.3)


def _lonely_masters(rng: random.Random, base: Conditions) -> Conditions:
    """Masters that go on writing alone, and come back."""
    faults = {"isolate_leader": 2.0, "reset": 1.0, "slow_disk": 1.0}
    habits = replace(base.habits, think_s=0.1, loss=0.0)
    flow = replace(base.flow, message_bytes_max=rng.choice((1, 1, 1 << 20)))
    return replace(base, faults=faults, pace_s=1.0, habits=habits, flow=flow)


def _behind_the_log(rng: random.Random, base: Conditions) -> Conditions:
    """Masters that go on writing alone, are left behind by a log that is trimmed at once, and are
    resynced under fire."""
    faults = {"isolate_leader": 2.0, "leave_behind": 2.0, "kill_resynced": 2.0, "transfer": 0.5}
    return replace(
        base,
        faults=faults,
        pace_s=rng.choice((0.5, 1.5)),
        limits=replace(base.limits, log=LogLimits(bytes_max=1), index_commit_s=0.05),
        journal=replace(base.journal, segment_bytes_max=1 << 10),
        habits=replace(base.habits, think_s=0.1),
    )


def _dead_bodies(rng: random.Random, base: Conditions) -> Conditions:
    """Bodies that lose their last message, and are given back and needed again at once."""
    calls = {**PLAIN_CALLS, "save": 0.5, "expunge": 0.35, "store": 0.05, "fetch": 0.1}
    habits = replace(base.habits, repeats=0.7, calls=calls, think_s=0.1)
    return replace(
        base,
        limits=replace(
            base.limits,
            bodies=replace(
                base.limits.bodies, reclaim_look_s=0.05, reclaim_rest_s=0.05, reclaim_pause_s=0.05
            ),
        ),
        blobs=replace(base.blobs, segment_bytes_max=2 << 10, dead_percent_min=10),
        habits=habits,
    )


def _lost_answers(rng: random.Random, base: Conditions) -> Conditions:
    """Answers that get lost, while masters restart with an index that has everything."""
    faults = {"kill_leader": 2.0, "transfer": 1.0, "power_everywhere": 1.0, "deaf_master": 1.0}
    return replace(
        base,
        faults=faults,
        pace_s=0.8,
        limits=replace(base.limits, index_commit_s=0.0, index_commit_requests_max=1),
        down_s=(0.05,),
        habits=replace(base.habits, loss=0.3, again=0.2, think_s=0.1, impatience_s=(0.3, 1.5)),
    )


def _new_members(rng: random.Random, base: Conditions) -> Conditions:
    """Members that come and go, one after the other."""
    others = {kind: base.faults.get(kind, 0.2) for kind in ("isolate_leader", "kill", "reset")}
    faults = {"members": 12.0, "lose_disk": 1.0, "leave_behind": 0.3, **others}
    return replace(
        base,
        faults=faults,
        pace_s=0.3,
        limits=replace(base.limits, log=replace(base.limits.log, bytes_max=1)),
    )


def _going_back(rng: random.Random, base: Conditions) -> Conditions:
    """Disks that go back in time, while masters come and go."""
    others = {k: base.faults.get(k, 0.3) for k in ("isolate", "kill", "kill_leader", "reset")}
    faults = {"go_back": 8.0, "leave_behind": 0.5, "power_everywhere": 0.3, **others}
    return replace(
        base,
        faults=faults,
        pace_s=0.4,
        down_s=(0.05, 1.0, 3.0),
        habits=replace(base.habits, think_s=0.1, loss=0.0),
    )


def _rotten(rng: random.Random, base: Conditions) -> Conditions:
    """A bad disk, whose bodies and index rot while everything else happens too."""
    faults = {k: w for k, w in base.faults.items() if k not in ("lose_disk", "lose_index")}
    calls = {**base.habits.calls, "body": 0.3}
    return replace(
        base,
        faults={**faults, "rot": 4.0, "rot_index": 2.0, "rot_journal": 2.0},
        limits=replace(base.limits, scrub=replace(base.limits.scrub, period_s=4.0)),
        habits=replace(base.habits, calls=calls),
    )


def _struck_resyncs(rng: random.Random, base: Conditions) -> Conditions:
    """Resyncs that take their time and break off, at the sink or at the source, from sources that
    are not whole."""
    faults = {
        "strike_resync": 4.0,
        "compare_at_start": 3.0,
        "half_source": 2.0,
        "leave_behind": 1.0,
        "kill": 0.3,
    }
    limits = replace(
        base.limits,
        log=LogLimits(bytes_max=rng.choice((1, 1, 6 << 10))),
        index_commit_s=rng.choice((0.05, 0.5, 2.0)),
        index_commit_requests_max=24,
        resync=replace(
            base.limits.resync,
            requests_max=1,
            answer_bytes=200,
            answer_rows_max=2,
            mailboxes_parallel=1,
            commit_rows=1,
            step_rows=4,
        ),
    )
    return replace(
        base,
        faults=faults,
        pace_s=rng.choice((0.5, 1.5)),
        limits=limits,
        journal=replace(base.journal, segment_bytes_max=1 << 10),
        habits=replace(base.habits, think_s=0.1),
        down_s=(0.05, 0.5, 1.0),
    )


def _long_tails(rng: random.Random, base: Conditions) -> Conditions:
    """Masters that are alone, and come back with more entries than the others have."""
    quick = rng.random() < 0.5
    return replace(
        base,
        faults={
            "lonely_master": 4.0,
            "stuffed_master": 2.0,
            "deaf_master": 1.0,
            "reset": 1.0,
            "kill": 0.5,
            "transfer": 0.5,
        },
        pace_s=rng.choice((1.0, 2.5)),
        limits=replace(
            base.limits,
            entry_requests_max=1,
            entries_in_flight_max=32,
            pipelined_requests_min=1,
            index_commit_requests_max=1,
            index_commit_s=0.0,
            log=LogLimits(bytes_max=1 if quick else 1 << 30),
        ),
        flow=replace(base.flow, message_bytes_max=rng.choice((1, 1, 1 << 20))),
        journal=replace(base.journal, segment_bytes_max=1 << 10),
        habits=replace(base.habits, think_s=rng.choice((0.1, 0.4))),
    )


def _members_at_odds(rng: random.Random, base: Conditions) -> Conditions:
    """Changes of members that are not agreed upon, and such as come as early as they can, with
    losses besides."""
    faults = {
        "members_at_odds": 3.0,
        "eager_operator": 2.0,
        "needed_voter": 2.0,
        "members": 3.0,
        "kill": 0.3,
    }
    slow = replace(base.limits.resync, body_request_bytes=1 << 10, requests_max=1)
    return replace(
        base,
        faults=faults,
        pace_s=rng.choice((0.5, 1.5)),
        limits=replace(base.limits, log=LogLimits(bytes_max=1), resync=slow),
        journal=replace(base.journal, segment_bytes_max=1 << 10),
        habits=replace(base.habits, think_s=0.1),
    )


def _needed_bodies(rng: random.Random, base: Conditions) -> Conditions:
    """Bodies that the log alone still names, while the segments that they are in are given back."""
    base = _dead_bodies(rng, base)
    bodies = replace(base.limits.bodies, journal_bytes_max=0)
    return replace(
        base,
        faults={
            "needed_again": 6.0,
            "hiccup": 2.0,
            "power_everywhere": 1.0,
            "kill": 1.0,
            "isolate": 0.5,
        },
        pace_s=rng.choice((0.8, 2.0)),
        limits=replace(
            base.limits,
            bodies=bodies,
            entry_requests_max=1,
            entries_in_flight_max=32,
            pipelined_requests_min=1,
        ),
        down_s=(0.05, 1.0, 4.0),
    )


def _power(rng: random.Random, base: Conditions) -> Conditions:
    """The power goes, mostly everywhere, and bodies are in files of their own."""
    faults = {
        "power_everywhere": 2.0,
        "power_now": 1.0,
        "power_at_operation": 2.0,
        "torn_entries": 3.0,
        "slow_disk": 0.5,
    }
    bodies = replace(
        base.limits.bodies,
        journal_bytes_max=rng.choice((0, 400)),
        sync_s=rng.choice((0.5, 3.0)),
    )
    calls = {**PLAIN_CALLS, "save": 0.6}
    return replace(
        base,
        faults=faults,
        pace_s=0.8,
        limits=replace(base.limits, bodies=bodies),
        habits=replace(base.habits, think_s=0.1, calls=calls),
        down_s=(0.05, 0.5),
    )


def _full_disks(rng: random.Random, base: Conditions) -> Conditions:
    """Disks that fill up in the middle of an apply, or of a read, or else."""
    faults = {
        "full_in_apply": 3.0,
        "full_in_read": 3.0,
        "full_disk": 1.0,
        "kill": 0.3,
        "transfer": 0.3,
    }
    return replace(
        base,
        faults=faults,
        pace_s=rng.choice((0.5, 2.0)),
        limits=replace(
            base.limits,
            index_commit_requests_max=24,
            index_commit_s=rng.choice((0.05, 0.5, 2.0)),
        ),
    )


def _moving_names(rng: random.Random, base: Conditions) -> Conditions:
    """Mailboxes that are made, renamed and deleted, while replicas are brought back that knew them
    by other names."""
    base = _struck_resyncs(rng, base)
    faults = {**base.faults, "kill_leader": 1.0, "transfer": 0.5}
    calls = {**base.habits.calls, "names": 2.0}
    return replace(
        base,
        faults=faults,
        pace_s=rng.choice((1.0, 3.0)),
        habits=replace(base.habits, calls=calls, think_s=rng.choice((0.1, 0.4))),
    )


def _stale_reads(rng: random.Random, base: Conditions) -> Conditions:
    """Masters that are parted and asked all the same, alone or with learners that believe in them,
    while others lead and write."""
    calls = {**PLAIN_CALLS, "fetch": 0.6, "mailbox": 0.2}
    return replace(
        base,
        faults={"master_among_learners": 2.0, "isolate_leader": 2.0, "reset": 0.3},
        pace_s=rng.choice((1.0, 3.0)),
        timing=replace(base.timing, fallback_s=6.0),
        habits=replace(base.habits, think_s=rng.choice((0.2, 0.5)), loss=0.0, calls=calls),
    )


def _crossed_changes(rng: random.Random, base: Conditions) -> Conditions:
    """Changes of members by one master after the other, of which none could know the others'."""
    return replace(
        base,
        faults={"crossed_changes": 4.0, "kill": 0.1},
        pace_s=1.0,
        habits=replace(base.habits, think_s=rng.choice((0.1, 0.4))),
    )


def _lost_voters(rng: random.Random, base: Conditions) -> Conditions:
    """Voters whose disks are lost while others are behind a log that is trimmed at once, and are
    brought back slowly."""
    limits = replace(
        base.limits,
        log=LogLimits(bytes_max=1),
        index_commit_s=0.05,
        resync=replace(base.limits.resync, body_request_bytes=1 << 10, requests_max=1),
    )
    return replace(
        base,
        faults={"lost_voter": 4.0, "kill": 0.1},
        pace_s=1.0,
        limits=limits,
        journal=replace(base.journal, segment_bytes_max=1 << 10),
        habits=replace(base.habits, think_s=rng.choice((0.1, 0.4))),
    )


_SPECIAL = (
    _elections,
    _lonely_masters,
    _behind_the_log,
    _dead_bodies,
    _lost_answers,
    _new_members,
    _rotten,
    _struck_resyncs,
    _struck_resyncs,
    _moving_names,
    _long_tails,
    _members_at_odds,
    _needed_bodies,
    _power,
    _full_disks,
    _stale_reads,
    _stale_reads,
    _crossed_changes,
    _lost_voters,
    _full_disks,
    _going_back,
    _going_back,
)
