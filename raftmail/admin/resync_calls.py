"""What operators ask about resyncs, scrub and lost bodies, and what they order.

While a replica's records are exchanged it votes and acknowledges nothing. So a resync by order is
refused when a majority of the shard's voters would not be whole beside it. Orders may come to
several nodes at once: each notes its own first and asks the others then, so of two that together
would be too many at least one sees the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from raftmail.cluster.router import Router
from raftmail.mail.admin import JSON
from raftmail.mail.failures import Unavailable
from raftmail.node.replicas import Opened
from raftmail.resync.status import ScrubStatus
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability
from raftmail.storage.records import IndexDamaged

ANSWER_S = 8.0
LOOK_S = 2.0
"""How long a node that is asked whether it is whole may take."""

HOLDERS_SHOWN = 100
FINDINGS_SHOWN = 20

Handler = Callable[[Mapping[str, str], float], Awaitable[JSON]]


@dataclass(slots=True, repr=False)
class ResyncCalls:
    """Calls "resync-start" and, between nodes, "resync-here" and "whole-here"."""

    node: str
    router: Router
    opened: Mapping[int, Opened]
    _ordering: set[int] = field(default_factory=set)
    """Shards whose replica here is about to be resynced, if the others' state allows it."""
    _one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock)

    def handlers(self) -> dict[str, Handler]:
        return {
            "resync-start": self._start,
            "resync-here": self._here,
            "whole-here": self._whole_here,
        }

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
        try:
            patience_s = min(ANSWER_S, deadline - self.router.clock())
            return await self.router.ask(node, "resync-here", rest, patience_s)
        except Unavailable as e:
            if e.failure.final:  # it refuses, and asking again would not help
                raise ValueError(e.failure.text) from None
            raise

    async def _here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        text = arguments.get("shard", "")
        if text and not (text.isdecimal() and int(text) in self.opened):
            held = ", ".join(map(str, sorted(self.opened)))
            raise ValueError(f"shard: {self.node} has no replica of shard {text}; it has {held}")
        shards = [int(text)] if text else sorted(self.opened)
        full = arguments.get("full") == "1"
        only = [name for name in arguments.get("only", "").split(",") if name]
        started = []
        async with self._one_by_one:
            with self._about_to(shards):
                await self._check_majorities(shards)
                for shard in shards:
                    if shard not in self.opened:
                        raise ValueError(f"shard: {self.node} has no replica of shard {shard} now")
                    replica = self.opened[shard].replica
                    user, mailbox = arguments.get("user", ""), arguments.get("mailbox", "")
                    numbers = _numbers(replica, user, mailbox)
                    replica.order_resync(numbers, full=full, only=only)
                    self.router.links.wake(shard)
                    started.append({"shard": shard, "mailboxes": len(numbers), "full": full})
        return {"node": self.node, "started": started}

    @contextmanager
    def _about_to(self, shards: Sequence[int]) -> Iterator[None]:
        self._ordering.update(shards)
        try:
            yield
        finally:
            self._ordering.difference_update(shards)

    async def _check_majorities(self, shards: Sequence[int]) -> None:
        """Raises ValueError, with the reasons, when a shard would be left without a majority of whole voters."""
        refused = [why for why in await asyncio.gather(*map(self._why_not, shards)) if why]
        if refused:
            raise ValueError("node: " + "; ".join(refused))

    async def _why_not(self, shard: int) -> str:
        """Why the replica of a shard here must not be resynced by order now; "": it may be."""
        replica = self.opened[shard].replica
        voters = replica.membership.voters
        if replica.replica_id not in voters or not replica.is_whole:
            return ""  # it is none of those that a majority can be made of as it is
        others = sorted(node for id_, node in voters.items() if id_ != replica.replica_id)
        told = await asyncio.gather(*[self._not_whole(node, shard) for node in others])
        lacking = [f"{node} {why}" for node, why in zip(others, told, strict=True) if why]
        whole, needed = len(others) - len(lacking), len(voters) // 2 + 1
        if whole >= needed:
            return ""
        return (
            f"shard {shard} needs {needed} whole voters, and {whole} would be left without "
            f"{self.node}: {', '.join(lacking) or 'it has no others'}"
        )

    async def _not_whole(self, node: str, shard: int) -> str:
        """What is under way at another voter; "": nothing, it is whole."""
        try:
            answer: Any = await self.router.ask(node, "whole-here", {"shard": str(shard)}, LOOK_S)
            return str(answer["not_whole"])
        except (Unavailable, ValueError, KeyError, TypeError):
            return "does not answer"

    async def _whole_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        text = arguments.get("shard", "")
        opened = self.opened.get(int(text)) if text.isdecimal() else None
        if opened is None:
            return {"not_whole": "has no replica that is open"}
        if opened.replica.shard in self._ordering:
            return {"not_whole": "is ordered to be resynced, too"}
        return {"not_whole": opened.replica.why_incomplete}


def _numbers(replica: Replica, user: str, name: str) -> list[int]:
    """The mailboxes of a user, or one of them. Raises ValueError when there are none, or it cannot be told."""
    if not user:
        return []
    if not replica.may(Capability.READ):
        raise ValueError(
            f"shard: the replica of shard {replica.shard} is being resynced, and cannot tell the mailboxes of {user}"
        )
    try:
        found = replica.mailbox_numbers(user, name)
    except IndexDamaged as e:
        raise ValueError(f"shard: {e}; start it for the whole shard") from None
    if not found:
        raise ValueError(
            f"mailbox: {user} has no mailbox {name!r}" if name else f"user: {user} has no mailbox"
        )
    return found


def care_status(replica: Replica, now: float) -> dict[str, Any]:
    """The part of a replica's status that tells how whole it is."""
    found = replica.resync_status(now)
    status: dict[str, Any] = {
        "whole": replica.is_whole,
        "missing_bodies": found.missing_bodies,
        "missing_bytes": found.missing_bytes,
        "lost_bodies": found.lost_bodies,
        "lost": [
            {"user": h.user, "mailbox": h.mailbox, "uid": h.uid, "body": h.digest.hex()}
            for h in found.holders_of_lost[:HOLDERS_SHOWN]
        ],
        "serving": [{"node": node, "sent_bytes": sent} for node, sent in found.served],
        "scrub": _scrub_status(found.scrub),
    }
    if (last := found.last) is not None:
        status["last_resync"] = {
            "peer": last.peer,
            "records_s": None if last.records_s is None else round(last.records_s, 3),
            "all_s": round(last.all_s, 3),
            "received_bytes": last.received_bytes,
            "sent_bytes": last.sent_bytes,
        }
    if found.is_wanted:
        progress = found.progress
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
            "error": found.error,
            "retry_s": None if found.retry_s is None else round(found.retry_s, 1),
        }
    return status


def _scrub_status(scrub: ScrubStatus) -> dict[str, Any]:
    return {
        "rounds": scrub.rounds,
        "table": scrub.table,
        "read_bytes": scrub.read_bytes,
        "round_s": round(scrub.round_s, 1),
        "late": scrub.is_late,
        "rate_bytes_s": scrub.rate_bytes_s,
        "needed_bytes_s": scrub.needed_bytes_s,
        "findings": [
            {"user": f.user, "mailbox": f.mailbox, "uid": f.uid, "what": f.text}
            for f in scrub.findings[-FINDINGS_SHOWN:]
        ],
    }
