"""What operators ask about resyncs, scrub and lost bodies, and what they order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raftmail.cluster.router import Router
from raftmail.mail.service import JSON
from raftmail.node.replicas import Opened
from raftmail.shard.replica import Replica
from raftmail.storage.records import IndexDamaged

ANSWER_S = 5.0
HOLDERS_SHOWN = 100
FINDINGS_SHOWN = 20

Handler = Callable[[Mapping[str, str], float], Awaitable[JSON]]


@dataclass(slots=True)
class ResyncCalls:
    """Calls "resync-start" and, between nodes, "resync-here"."""

    node: str
    router: Router
    opened: Mapping[int, Opened]

    def handlers(self) -> dict[str, Handler]:
        return {"resync-start": self._start, "resync-here": self._here}

    async def _start(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        node = arguments.get("node", "")
        if node not in self.router.view.nodes:
            raise ValueError(
                f"node: there is no node {node!r}; there are {', '.join(self.router.view.nodes)}"
            )
        rest = {key: value for key, value in arguments.items() if key != "node"}
        user = rest.get("user", "")
        if rest.get("mailbox") and not user:
            raise ValueError("mailbox: name the user whose mailbox it is, too")
        if user:
            rest["shard"] = str(self.router.shard_of(user))
        if node == self.node:
            return await self._here(rest, deadline)
        return await self.router.ask(node, "resync-here", rest, ANSWER_S)

    async def _here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        text = arguments.get("shard", "")
        if text and not (text.isdecimal() and int(text) in self.opened):
            held = ", ".join(map(str, sorted(self.opened)))
            raise ValueError(f"shard: {self.node} has no replica of shard {text}; it has {held}")
        shards = [int(text)] if text else sorted(self.opened)
        full = arguments.get("full") == "1"
        only = [name for name in arguments.get("only", "").split(",") if name]
        started = []
        for shard in shards:
            replica = self.opened[shard].replica
            numbers = _numbers(replica, arguments.get("user", ""), arguments.get("mailbox", ""))
            replica.recovery.desk.order(numbers, full=full, only=only)
            self.router.links.wake(shard)
            started.append({"shard": shard, "mailboxes": len(numbers), "full": full})
        return {"node": self.node, "started": started}


def _numbers(replica: Replica, user: str, name: str) -> list[int]:
    """The mailboxes of a user, or one of them. Raises ValueError when there are none, or it cannot be told."""
    if not user:
        return []
    if replica.recovery.unreadable:
        raise ValueError(
            f"shard: the replica of shard {replica.shard} is being resynced, and cannot tell the mailboxes of {user}"
        )
    try:
        found = [m.number for m in replica.machine.index.mailboxes.of(user) if name in ("", m.name)]
    except IndexDamaged as e:
        raise ValueError(f"shard: {e}; start it for the whole shard") from None
    if not found:
        raise ValueError(
            f"mailbox: {user} has no mailbox {name!r}" if name else f"user: {user} has no mailbox"
        )
    return found


def care_status(replica: Replica, now: float) -> dict[str, Any]:
    """The part of a replica's status that tells how whole it is."""
    desk = replica.recovery.desk
    sink = desk.sink
    progress = sink.progress(now)
    missing, missing_bytes = desk.missing.total()
    status: dict[str, Any] = {
        "whole": replica.is_whole,
        "missing_bodies": missing,
        "missing_bytes": missing_bytes,
        "lost_bodies": len(desk.lost()),
        "lost": [
            {"user": h.user, "mailbox": h.mailbox, "uid": h.uid, "body": h.digest.hex()}
            for h in desk.lost_report.holders[:HOLDERS_SHOWN]
        ],
        "serving": [{"node": node, "sent_bytes": sent} for node, sent in desk.served()],
        "scrub": _scrub_status(replica, now),
    }
    if sink.last is not None:
        last = sink.last
        status["last_resync"] = {
            "peer": last.peer,
            "records_s": None if last.records_s is None else round(last.records_s, 3),
            "all_s": round(last.all_s, 3),
            "received_bytes": last.received_bytes,
            "sent_bytes": last.sent_bytes,
        }
    if sink.active or sink.error is not None or desk.needs_records:
        status["resync"] = {
            "phase": progress.phase.value,
            "peer": progress.peer,
            "to_index": progress.target_index,
            "mailboxes": progress.mailboxes_done,
            "mailboxes_total": progress.mailboxes_total,
            "messages": progress.messages_done,
            "messages_total": progress.messages_total,
            "bodies_left": progress.bodies_left,
            "body_bytes_left": progress.body_bytes_left,
            "body_bytes": progress.body_bytes_done,
            "received_bytes": progress.received_bytes,
            "rate_bytes_s": round(progress.rate_bytes_s),
            "eta_s": None if progress.eta_s is None else round(progress.eta_s, 1),
            "error": None if sink.error is None else str(sink.error),
            "retry_s": round(max(0.0, sink.retry_at - now), 1) if sink.error else None,
        }
    return status


def _scrub_status(replica: Replica, now: float) -> dict[str, Any]:
    scrub = replica.recovery.desk.scrub
    return {
        "rounds": scrub.rounds,
        "table": scrub.progress(),
        "read_bytes": scrub.read_bytes,
        "round_s": round(scrub.round_s, 1),
        "late": scrub.is_late(now),
        "findings": [
            {"user": f.user, "mailbox": f.mailbox, "uid": f.uid, "what": f.text}
            for f in list(scrub.findings)[-FINDINGS_SHOWN:]
        ],
    }
