"""Proving that all replicas of a shard are equal at one log index, and what is done when they are not.

The master puts a mark into the log, and each replica notes its digest when it applies it; at a deep mark each also reads every record and
body that it has, as they stood there. Once every `verify.period_s` the master of a shard compares it by itself: replicas that differ from
what a majority has are brought back by a resync that compares everything, from those of the majority alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raftmail.cluster.router import Router
from raftmail.mail.admin import JSON
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.packing import CodecError
from raftmail.net.errors import start_task, tell
from raftmail.node.replicas import Opened
from raftmail.resync.verify import DeepDigest, Listing, compare, differences
from raftmail.shard.replica import Replica

logger = logging.getLogger(__name__)

ASK_S = 5.0
POLL_S = 0.2
SHARD_S = 10.0
"""How long a shard's replicas may take to apply a mark."""

AGAIN_S = 60.0
"""After a difference was found, when it is looked whether it is mended."""

MAILBOXES_LISTED_MAX = 100
DIFFERENCES_MAX = 1000

Handler = Callable[[Mapping[str, str], float], Awaitable[JSON]]


@dataclass(slots=True, repr=False)
class ConsistencyCheck:
    """Calls "verify" (digests), "verify-start" and "verify-result" (deep), and what nodes ask each other for them. `found` has the last
    comparison of each shard that was made here."""

    node: str
    router: Router
    opened: Mapping[int, Opened]
    clock: Callable[[], float]
    wall: Callable[[], float]
    period_s: float
    found: dict[int, dict[str, Any]] = field(default_factory=dict)
    _due: dict[int, float] = field(default_factory=dict)
    _deep: asyncio.Task[JSON] | None = None
    _progress: str = ""
    _routine: asyncio.Task[None] | None = None
    _mending: asyncio.Task[None] | None = None

    def handlers(self) -> dict[str, Handler]:
        return {
            "verify": self._verify,
            "verify-start": self._start_deep,
            "verify-result": self._deep_result,
            "mark-here": self._mark_here,
            "digest-here": self._digest_here,
            "deep-here": self._deep_here,
            "listing-here": self._listing_here,
        }

    # -- by digests ------------------------------------------------------------------------------------

    async def _verify(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        shards = self.router.view.shards
        results = await asyncio.gather(*[self._verify_shard(s, deadline) for s in shards])
        self._mend_soon(results)
        return {"equal": all(s["equal"] for s in results), "shards": results}

    async def _verify_shard(self, shard: int, deadline: float) -> dict[str, Any]:
        index = await self._mark(shard, deadline, deep=False)
        members = self.router.view.members(shard)
        rows = await asyncio.gather(*[self._digest_of(n, shard, index, deadline) for n in members])
        digests = {row.get("digest") for row in rows}
        result = {
            "shard": shard,
            "index": index,
            "equal": len(digests) == 1 and None not in digests,
            "replicas": rows,
        }
        self._note(shard, result, deep=False)
        return result

    async def _mark(self, shard: int, deadline: float, *, deep: bool) -> int:
        arguments = {"shard": str(shard), "deep": "1" if deep else ""}
        while self.clock() < deadline:
            master = await self.router.master_of(shard, min(ASK_S, deadline - self.clock()))
            answer: Any = None
            if master is not None:
                answer = await self._ask(master, "mark-here", arguments)
            if answer is not None and answer.get("index"):
                return int(answer["index"])
            await asyncio.sleep(0.05)
        raise Unavailable(Failure(self.router.no_master(shard)))

    async def _ask(self, node: str, what: str, arguments: Mapping[str, str]) -> Any:
        """The answer of a node, this one too; None when there is none."""
        try:
            if node == self.node:
                return await self.handlers()[what](arguments, self.clock() + ASK_S)
            return await self.router.ask(node, what, arguments, ASK_S)
        except (Unavailable, ValueError):
            return None

    def _replica(self, arguments: Mapping[str, str]) -> Replica:
        text = arguments.get("shard", "")
        if not text.isdecimal() or int(text) not in self.opened:
            raise ValueError(f"shard: {self.node} has no replica of shard {text!r}")
        return self.opened[int(text)].replica

    async def _mark_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        replica = self._replica(arguments)
        index = replica.mark(deep=arguments.get("deep") == "1")
        self.router.links.wake(replica.shard)
        return {"index": index}

    async def _digest_of(
        self, node: str, shard: int, index: int, deadline: float
    ) -> dict[str, Any]:
        arguments = {"shard": str(shard), "index": str(index)}
        while True:
            answer: Any = await self._ask(node, "digest-here", arguments)
            if answer is not None and answer.get("digest"):
                return {"node": node, "index": index, "digest": answer["digest"], "error": None}
            if self.clock() + 0.1 > deadline:
                error = "does not answer" if answer is None else answer.get("error", "lags behind")
                return {"node": node, "index": index, "digest": None, "error": error}
            await asyncio.sleep(0.1)

    async def _digest_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        replica, index = self._replica(arguments), _number(arguments, "index")
        digest = replica.checkpoint_digest(index)
        if digest is not None:
            return {"digest": digest.hex()}
        return {"digest": None, "error": f"has applied {replica.applied_index} of {index}"}

    # -- deep ------------------------------------------------------------------------------------------

    async def _start_deep(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        if self._deep is None or self._deep.done():
            self._deep = start_task(
                asyncio.get_running_loop(), self._verify_deep(), self._broken_off
            )
        return {"node": self.node}

    async def _deep_result(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        """`result` is None while it is under way."""
        if self._deep is None:
            raise ValueError("no deep verification was begun at this node")
        if not self._deep.done():
            return {"result": None, "progress": self._progress}
        error = self._deep.exception()
        if error is not None:
            raise Unavailable(Failure(f"the deep verification was broken off: {error}"))
        return {"result": self._deep.result(), "progress": "done"}

    async def _verify_deep(self) -> JSON:
        shards = []
        for shard in self.router.view.shards:
            self._progress = f"shard {shard}"
            shards.append(await self._read_shard(shard))
        self._mend_soon(shards)
        return {"equal": all(s["equal"] for s in shards), "shards": shards}

    async def _read_shard(self, shard: int) -> dict[str, Any]:
        index = await self._mark(shard, self.clock() + SHARD_S, deep=True)
        members = self.router.view.members(shard)
        digests = await asyncio.gather(*[self._deep_of(n, shard, index) for n in members])
        found = {n: d for n, d in zip(members, digests, strict=True) if isinstance(d, DeepDigest)}
        rows = []
        for node, digest in zip(members, digests, strict=True):
            row: dict[str, Any] = {"node": node, "index": index, "digest": None, "error": None}
            if isinstance(digest, DeepDigest):
                row |= {
                    "digest": digest.digest.hex(),
                    "bodies": digest.bodies,
                    "body_bytes": digest.body_bytes,
                    "bad_bodies": [body.hex() for body in digest.bad_bodies],
                }
            else:
                row["error"] = digest
            rows.append(row)
        told = await self._differences(shard, index, found)
        equal = (
            len(found) == len(members)
            and len({d.digest for d in found.values()}) == 1
            and not any(d.bad_bodies for d in found.values())
        )
        result = {
            "shard": shard,
            "index": index,
            "equal": equal,
            "replicas": rows,
            "differences": told,
        }
        self._note(shard, result, deep=True)
        return result

    async def _deep_of(self, node: str, shard: int, index: int) -> DeepDigest | str:
        """What a replica has, or why that cannot be told."""
        arguments = {"shard": str(shard), "index": str(index)}
        until = self.clock() + SHARD_S
        while self.clock() < until:
            answer = await self._ask(node, "deep-here", arguments)
            if answer is not None:
                if answer.get("failed"):
                    return f"{answer['failed']}; it is repaired by itself: verify again in a moment"
                if answer["reading"]:
                    until = self.clock() + SHARD_S
                if answer["digest"]:
                    try:
                        return DeepDigest.decode(answer["digest"])
                    except CodecError as e:
                        return str(e)
            await asyncio.sleep(POLL_S)
        return "does not answer, or did not come to the mark"

    async def _deep_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        replica, index = self._replica(arguments), _number(arguments, "index")
        deep = replica.deep_reading(index)
        if deep is None or deep.closed:
            failed = "" if deep is None else deep.failed
            return {"reading": False, "digest": b"", "failed": failed}
        result = deep.result(self.clock())
        digest = b"" if result is None else result.encode()
        return {"reading": True, "digest": digest, "failed": ""}

    async def _differences(
        self, shard: int, index: int, found: Mapping[str, DeepDigest]
    ) -> list[dict[str, Any]]:
        """Exactly where each replica differs from the ones that most are like."""
        told: list[dict[str, Any]] = []
        if not found:
            return told
        common = Counter(d.digest for d in found.values()).most_common(1)[0][0]
        good = next(node for node, d in found.items() if d.digest == common)
        for node, digest in found.items():
            if digest.digest == common:
                continue
            comparison = compare(digest, found[good])
            for name in comparison.tables:
                told.append(
                    {
                        "node": node, "other": good, "user": "", "mailbox": "", "uid": 0,
                        "what": f"the table of {name}", "here": "another", "there": "another",
                    }
                )  # fmt: skip
            for number in comparison.mailboxes[:MAILBOXES_LISTED_MAX]:
                told += await self._mailbox(shard, index, number, node, good)
                if len(told) >= DIFFERENCES_MAX:
                    return told[:DIFFERENCES_MAX]
        return told

    async def _mailbox(
        self, shard: int, index: int, number: int, node: str, good: str
    ) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        uid = 1
        while uid and len(told) < DIFFERENCES_MAX:
            arguments = {
                "shard": str(shard), "index": str(index), "mailbox": str(number), "uid": str(uid),
            }  # fmt: skip
            pages = [await self._ask(n, "listing-here", arguments) for n in (node, good)]
            if None in pages:
                break
            try:
                mine, theirs = [Listing.decode(page["listing"]) for page in pages]
            except CodecError:
                break
            told += [
                {
                    "node": node, "other": good, "user": d.user, "mailbox": d.mailbox, "uid": d.uid,
                    "what": d.what, "here": d.mine, "there": d.theirs,
                }
                for d in differences(mine, theirs)
                if d.uid or uid == 1
            ]  # fmt: skip
            ends = [page.next_uid for page in (mine, theirs) if page.next_uid]
            uid = min(ends, default=0)
        if not told:
            told.append(
                {
                    "node": node, "other": good, "user": "", "mailbox": f"number {number}", "uid": 0,
                    "what": "what is kept beside the messages", "here": "another", "there": "another",
                }
            )  # fmt: skip
        return told

    async def _listing_here(self, arguments: Mapping[str, str], deadline: float) -> JSON:
        replica, index = self._replica(arguments), _number(arguments, "index")
        deep = replica.deep_reading(index)
        if deep is None or deep.closed:
            raise ValueError(f"index: no deep reading at {index} is under way")
        number, uid = _number(arguments, "mailbox"), _number(arguments, "uid")
        return {"listing": deep.listing(self.clock(), number, uid).encode()}

    # -- by itself -------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Compare a shard that this node leads, when it is time to."""
        if not self.period_s or (self._routine is not None and not self._routine.done()):
            return
        for shard, opened in self.opened.items():
            if not opened.replica.is_leader:
                self._due.pop(shard, None)
            elif now >= self._due.setdefault(shard, now + self.period_s):
                self._due[shard] = now + self.period_s
                self._routine = start_task(
                    asyncio.get_running_loop(), self._check(shard), self._broken_off
                )
                return

    def _broken_off(self, error: Exception) -> None:
        tell(logger, "a verification was broken off", error, logging.WARNING)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [t for t in (self._deep, self._routine, self._mending) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _check(self, shard: int) -> None:
        try:
            result = await self._verify_shard(shard, self.clock() + SHARD_S)
        except Unavailable as e:
            logger.warning("shard %d could not be verified: %s", shard, e)
            return
        if not result["equal"]:
            self._due[shard] = min(self._due.get(shard, 0.0), self.clock() + AGAIN_S)
            await self._mend(shard, result["replicas"])

    def _mend_soon(self, results: Sequence[dict[str, Any]]) -> None:
        """Have what was found to differ brought back, at once and one shard after the other."""
        differing = [result for result in results if _differing(result["replicas"])]
        if not differing or (self._mending is not None and not self._mending.done()):
            return

        async def mend() -> None:
            for result in differing:
                await self._mend(result["shard"], result["replicas"])

        self._mending = start_task(asyncio.get_running_loop(), mend(), self._broken_off)

    async def _mend(self, shard: int, rows: list[dict[str, Any]]) -> None:
        """Have those that differ from a majority brought back."""
        counts = Counter(row["digest"] for row in rows if row["digest"])
        if len(counts) < 2:
            return
        common, count = counts.most_common(1)[0]
        if 2 * count <= len(rows):
            logger.critical(
                "shard %d: no majority of its replicas is equal: nobody can tell which is right",
                shard,
            )
            return
        good = [row["node"] for row in rows if row["digest"] == common]
        for row in rows:
            if row["digest"] and row["digest"] != common:
                logger.error(
                    "shard %d: the replica on %s is resynced from %s",
                    shard,
                    row["node"],
                    ", ".join(good),
                )
                arguments = {"shard": str(shard), "full": "1", "only": ",".join(good)}
                try:
                    await self.router.admin("resync-start", {"node": row["node"], **arguments})
                except (Unavailable, ValueError) as e:
                    logger.error("shard %d: %s cannot be resynced now: %s", shard, row["node"], e)

    def _note(self, shard: int, result: Mapping[str, Any], *, deep: bool) -> None:
        differing = sorted(_differing(result["replicas"]))
        if differing:
            logger.critical(
                "ALARM: shard %d: not all replicas are equal at entry %d: %s differ",
                shard,
                result["index"],
                ", ".join(differing),
            )
        self.found[shard] = {
            "at": round(self.wall()),
            "index": result["index"],
            "equal": result["equal"],
            "deep": deep,
            "differing": differing,
        }


def _differing(rows: list[dict[str, Any]]) -> list[str]:
    """The nodes whose digest is not the one that most have."""
    counts = Counter(row["digest"] for row in rows if row["digest"])
    if len(counts) < 2:
        return []
    common = counts.most_common(1)[0][0]
    return [row["node"] for row in rows if row["digest"] and row["digest"] != common]


def _number(arguments: Mapping[str, str], name: str) -> int:
    text = arguments.get(name, "")
    if not text.isdecimal():
        raise ValueError(f"{name}: {text!r} is no number")
    return int(text)
