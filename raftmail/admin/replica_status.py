"""The condition of an open replica as it is shown (`api.status.ReplicaStatus`)."""

from __future__ import annotations

from collections.abc import Sequence

from raftmail.admin.api.status import (
    MASTER,
    LastResync,
    LostBody,
    ReplicaStatus,
    ResyncProgress,
    ScrubFinding,
    ScrubProgress,
    Serving,
)
from raftmail.resync import status as resync
from raftmail.resync.sink import ResyncDone
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability, conditions_of

HOLDERS_SHOWN = 100
FINDINGS_SHOWN = 20


def status_of(
    replica: Replica, now: float, index_bytes: int, changed_files: Sequence[str]
) -> ReplicaStatus:
    """The condition of a replica; `now` is the time by the router's clock."""
    if replica.is_leader:
        role = MASTER
    else:
        role = "replica" if replica.hears_leader(now) else "electing"
    care = replica.resync_status(now)
    counters = replica.counters
    return ReplicaStatus(
        replica=replica.replica_id,
        role=role,
        term=replica.term,
        commit_index=replica.commit_index,
        applied_index=replica.applied_index,
        last_index=replica.last_index,
        log_bytes=replica.log_bytes,
        index_bytes=index_bytes,
        blob_bytes=replica.body_bytes,
        deliveries_known=replica.deliveries_known,
        state=replica.state_text,
        conditions=tuple(one.text for one in conditions_of(replica.conditions)),
        may_lead=replica.may(Capability.LEAD),
        whole=replica.is_whole,
        missing_bodies=care.missing_bodies,
        missing_bytes=care.missing_bytes,
        lost_bodies=care.lost_bodies,
        lost=tuple(
            LostBody(one.user, one.mailbox, one.uid, one.digest.hex())
            for one in care.holders_of_lost[:HOLDERS_SHOWN]
        ),
        serving=tuple(Serving(node, sent) for node, sent in care.served),
        scrub=_scrub_of(care.scrub),
        last_resync=_last_of(care.last),
        resync=_progress_of(care) if care.is_wanted else None,
        requests=counters.requests,
        entries=counters.entries,
        sync_ms=round(counters.sync_ms, 3),
        files=tuple(changed_files),
    )


def _scrub_of(scrub: resync.ScrubStatus) -> ScrubProgress:
    return ScrubProgress(
        scrub.rounds,
        scrub.table,
        scrub.read_bytes,
        round(scrub.round_s, 1),
        scrub.is_late,
        scrub.rate_bytes_s,
        scrub.needed_bytes_s,
        tuple(
            ScrubFinding(one.user, one.mailbox, one.uid, one.text)
            for one in scrub.findings[-FINDINGS_SHOWN:]
        ),
    )


def _last_of(last: ResyncDone | None) -> LastResync | None:
    if last is None:
        return None
    return LastResync(
        last.peer,
        None if last.records_s is None else round(last.records_s, 3),
        round(last.all_s, 3),
        last.received_bytes,
        last.sent_bytes,
    )


def _progress_of(care: resync.ResyncStatus) -> ResyncProgress:
    progress = care.progress
    return ResyncProgress(
        phase=progress.phase.value,
        peer=progress.peer,
        to_index=progress.target_index,
        mailboxes=progress.mailboxes_done,
        mailboxes_total=progress.mailboxes_total,
        messages=progress.messages_done,
        messages_total=progress.messages_total,
        bodies_left=progress.bodies_left,
        body_bytes_left=progress.body_bytes_left,
        body_bytes=progress.body_bytes_done,
        received_bytes=progress.received_bytes,
        rate_bytes_s=round(progress.rate_bytes_s),
        eta_s=None if progress.eta_s is None else round(progress.eta_s, 1),
        error=care.error,
        retry_s=None if care.retry_s is None else round(care.retry_s, 1),
    )
