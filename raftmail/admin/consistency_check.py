"""Proving that all replicas of a shard are equal at one log index, and what is done when they are
not.

The master puts a mark into the log, and each replica notes its digest when it applies it. At a deep
mark each also reads every record and body that it has, as they stood there. Once every
`verify.period_s` the master of a shard compares it by itself: replicas that differ from what a
majority has are brought back by a resync that compares everything, from those of the majority
alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from raftmail.admin.admin_calls import AdminCalls, Handlers
from raftmail.admin.api.between_nodes import DeepAnswer, DigestAnswer, ListingAnswer, MarkMade
from raftmail.admin.api.calls import (
    Call,
    DeepHere,
    DigestHere,
    GetDeepVerification,
    ListingHere,
    MarkHere,
    StartDeepVerification,
    StartResync,
    Verify,
)
from raftmail.admin.api.status import Verified
from raftmail.admin.api.verification import (
    DeepVerification,
    ReplicaDifference,
    ReplicaDigest,
    ShardVerification,
    Verification,
    VerificationBegun,
)
from raftmail.cluster.router import Router
from raftmail.mail.admin import ADMIN_S
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.packing import CodecError
from raftmail.net.errors import start_task, tell
from raftmail.resync.verify import DeepDigest, Listing, compare, differences
from raftmail.shard.replica import Replica

R = TypeVar("R")
logger = logging.getLogger(__name__)

ASK_S = 5.0
POLL_S = 0.2
SHARD_S = 10.0
"""How long a shard's replicas may take to apply a mark."""

AGAIN_S = 60.0
"""After a difference was found, when it is looked whether it is mended."""

MAILBOXES_LISTED_MAX = 100
DIFFERENCES_MAX = 1000
_ANOTHER = "another"


@dataclass(slots=True, repr=False)
class ConsistencyCheck:
    """Answers "verify" (digests), "verify-start" and "verify-result" (deep), and what nodes ask
    each other for them. `found` has the last comparison of each shard that was made here. `wall` is
    Unix time."""

    calls: AdminCalls
    wall: Callable[[], float]
    period_s: float
    found: dict[int, Verified] = field(default_factory=dict)
    _due: dict[int, float] = field(default_factory=dict)
    _deep: asyncio.Task[Verification] | None = None
    _progress: str = ""
    _routine: asyncio.Task[None] | None = None
    _mending: asyncio.Task[None] | None = None

    @property
    def handlers(self) -> Handlers:
        return {
            Verify: self._verify,
            StartDeepVerification: self._start_deep,
            GetDeepVerification: self._deep_result,
            MarkHere: self._mark_here,
            DigestHere: self._digest_here,
            DeepHere: self._deep_here,
            ListingHere: self._listing_here,
        }

    @property
    def _router(self) -> Router:
        return self.calls.router

    # -- by digests --------------------------------------------------------------------------------

    async def _verify(self, call: Verify, deadline: float) -> Verification:
        shards = self._router.view.shards
        results = await asyncio.gather(*[self._verify_shard(s, deadline) for s in shards])
        self._mend_soon(results)
        return _verdict(results)

    async def _verify_shard(self, shard: int, deadline: float) -> ShardVerification:
        index = await self._mark(shard, deadline, deep=False)
        members = self._router.view.members(shard)
        rows = await asyncio.gather(*[self._digest_of(n, shard, index, deadline) for n in members])
        digests = {row.digest for row in rows}
        result = ShardVerification(
            shard, index, len(digests) == 1 and None not in digests, tuple(rows)
        )
        self._note(result, deep=False)
        return result

    async def _mark(self, shard: int, deadline: float, *, deep: bool) -> int:
        while self._clock() < deadline:
            left_s = deadline - self._clock()
            master = await self._router.master_of(shard, min(ASK_S, left_s))
            if master is not None:
                answer = await self._ask(master, MarkHere(shard, deep))
                if answer is not None and answer.index:
                    return answer.index
            await asyncio.sleep(0.05)
        raise Unavailable(Failure(self._router.no_master(shard)))

    def _clock(self) -> float:
        return self._router.clock()

    async def _ask(self, node: str, call: Call[R]) -> R | None:
        """The answer of a node, this one too; None when there is none."""
        try:
            return await self.calls.ask(node, call, ASK_S)
        except (Unavailable, ValueError):
            return None

    def _replica(self, shard: int) -> Replica:
        replica = self._router.replicas.get(shard)
        if replica is None:
            raise ValueError(f"shard: {self._router.node} has no replica of shard {shard}")
        return replica

    async def _mark_here(self, call: MarkHere, deadline: float) -> MarkMade:
        index = self._replica(call.shard).mark(deep=call.deep)
        self._router.links.wake(call.shard)
        return MarkMade(index)

    async def _digest_of(self, node: str, shard: int, index: int, deadline: float) -> ReplicaDigest:
        while True:
            answer = await self._ask(node, DigestHere(shard, index))
            if answer is not None and answer.digest:
                return ReplicaDigest(node, index, answer.digest, None)
            if self._clock() + 0.1 > deadline:
                error = "does not answer" if answer is None else answer.error or "lags behind"
                return ReplicaDigest(node, index, None, error)
            await asyncio.sleep(0.1)

    async def _digest_here(self, call: DigestHere, deadline: float) -> DigestAnswer:
        replica = self._replica(call.shard)
        digest = replica.checkpoint_digest(call.index)
        if digest is not None:
            return DigestAnswer(digest.hex())
        return DigestAnswer(None, f"has applied {replica.applied_index} of {call.index}")

    # -- deep --------------------------------------------------------------------------------------

    async def _start_deep(self, call: StartDeepVerification, deadline: float) -> VerificationBegun:
        if self._deep is None or self._deep.done():
            self._deep = start_task(
                asyncio.get_running_loop(), self._verify_deep(), self._broken_off
            )
        return VerificationBegun(self._router.node)

    async def _deep_result(self, call: GetDeepVerification, deadline: float) -> DeepVerification:
        if self._deep is None:
            raise ValueError("no deep verification was begun at this node")
        if not self._deep.done():
            return DeepVerification(None, self._progress)
        error = self._deep.exception()
        if error is not None:
            raise Unavailable(Failure(f"the deep verification was broken off: {error}"))
        return DeepVerification(self._deep.result(), "done")

    async def _verify_deep(self) -> Verification:
        shards = []
        for shard in self._router.view.shards:
            self._progress = f"shard {shard}"
            shards.append(await self._read_shard(shard))
        self._mend_soon(shards)
        return _verdict(shards)

    async def _read_shard(self, shard: int) -> ShardVerification:
        index = await self._mark(shard, self._clock() + SHARD_S, deep=True)
        members = self._router.view.members(shard)
        digests = await asyncio.gather(*[self._deep_of(n, shard, index) for n in members])
        found = {n: d for n, d in zip(members, digests, strict=True) if isinstance(d, DeepDigest)}
        rows = [_row(node, index, d) for node, d in zip(members, digests, strict=True)]
        told = await self._differences(shard, index, found)
        equal = (
            len(found) == len(members)
            and len({d.digest for d in found.values()}) == 1
            and not any(d.bad_bodies for d in found.values())
        )
        result = ShardVerification(shard, index, equal, tuple(rows), tuple(told))
        self._note(result, deep=True)
        return result

    async def _deep_of(self, node: str, shard: int, index: int) -> DeepDigest | str:
        """What a replica has, or why that cannot be told."""
        until = self._clock() + SHARD_S
        while self._clock() < until:
            answer = await self._ask(node, DeepHere(shard, index))
            if answer is not None:
                if answer.failed:
                    return f"{answer.failed}; it is repaired by itself: verify again in a moment"
                if answer.reading:
                    until = self._clock() + SHARD_S
                if answer.digest:
                    try:
                        return DeepDigest.decode(answer.digest)
                    except CodecError as e:
                        return str(e)
            await asyncio.sleep(POLL_S)
        return "does not answer, or did not come to the mark"

    async def _deep_here(self, call: DeepHere, deadline: float) -> DeepAnswer:
        deep = self._replica(call.shard).deep_reading(call.index)
        if deep is None or deep.closed:
            return DeepAnswer(reading=False, digest=b"", failed="" if deep is None else deep.failed)
        result = deep.result(self._clock())
        return DeepAnswer(
            reading=True, digest=b"" if result is None else result.encode(), failed=""
        )

    async def _differences(
        self, shard: int, index: int, found: Mapping[str, DeepDigest]
    ) -> list[ReplicaDifference]:
        """Exactly where each replica differs from the ones that most are like."""
        told: list[ReplicaDifference] = []
        if not found:
            return told
        common = Counter(d.digest for d in found.values()).most_common(1)[0][0]
        good = next(node for node, d in found.items() if d.digest == common)
        for node, digest in found.items():
            if digest.digest == common:
                continue
            comparison = compare(digest, found[good])
            told += [
                ReplicaDifference(node, good, "", "", 0, f"the table of {name}", _ANOTHER, _ANOTHER)
                for name in comparison.tables
            ]
            for number in comparison.mailboxes[:MAILBOXES_LISTED_MAX]:
                told += await self._mailbox(shard, index, number, node, good)
                if len(told) >= DIFFERENCES_MAX:
                    return told[:DIFFERENCES_MAX]
        return told

    async def _mailbox(
        self, shard: int, index: int, number: int, node: str, good: str
    ) -> list[ReplicaDifference]:
        told: list[ReplicaDifference] = []
        uid = 1
        while uid and len(told) < DIFFERENCES_MAX:
            call = ListingHere(shard, index, number, uid)
            mine_page, theirs_page = await self._ask(node, call), await self._ask(good, call)
            if mine_page is None or theirs_page is None:
                break
            try:
                mine = Listing.decode(mine_page.listing)
                theirs = Listing.decode(theirs_page.listing)
            except CodecError:
                break
            told += [
                ReplicaDifference(node, good, d.user, d.mailbox, d.uid, d.what, d.mine, d.theirs)
                for d in differences(mine, theirs)
                if d.uid or uid == 1
            ]
            ends = [page.next_uid for page in (mine, theirs) if page.next_uid]
            uid = min(ends, default=0)
        if not told:
            what = "what is kept beside the messages"
            told.append(
                ReplicaDifference(node, good, "", f"number {number}", 0, what, _ANOTHER, _ANOTHER)
            )
        return told

    async def _listing_here(self, call: ListingHere, deadline: float) -> ListingAnswer:
        deep = self._replica(call.shard).deep_reading(call.index)
        if deep is None or deep.closed:
            raise ValueError(f"index: no deep reading at {call.index} is under way")
        return ListingAnswer(deep.listing(self._clock(), call.mailbox, call.uid).encode())

    # -- by itself ---------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Compare a shard that this node leads, when it is time to."""
        if not self.period_s or (self._routine is not None and not self._routine.done()):
            return
        for shard, replica in self._router.replicas.items():
            if not replica.is_leader:
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
            result = await self._verify_shard(shard, self._clock() + SHARD_S)
        except Unavailable as e:
            logger.warning("shard %d could not be verified: %s", shard, e)
            return
        if not result.equal:
            self._due[shard] = min(self._due.get(shard, 0.0), self._clock() + AGAIN_S)
            await self._mend(result)

    def _mend_soon(self, results: Sequence[ShardVerification]) -> None:
        """Have what was found to differ brought back, at once and one shard after the other."""
        differing = [result for result in results if result.differing]
        if not differing or (self._mending is not None and not self._mending.done()):
            return

        async def mend() -> None:
            for result in differing:
                await self._mend(result)

        self._mending = start_task(asyncio.get_running_loop(), mend(), self._broken_off)

    async def _mend(self, result: ShardVerification) -> None:
        """Have those that differ from a majority brought back."""
        differing = result.differing
        if not differing:
            return
        shard = result.shard
        good = tuple(row.node for row in result.replicas if row.digest == result.common)
        if 2 * len(good) <= len(result.replicas):
            logger.critical(
                "shard %d: no majority of its replicas is equal: nobody can tell which is right",
                shard,
            )
            return
        for node in differing:
            logger.error(
                "shard %d: the replica on %s is resynced from %s", shard, node, ", ".join(good)
            )
            call = StartResync(node, shard, full=True, only=good)
            try:
                await self.calls.do(call, self._clock() + ADMIN_S)
            except (Unavailable, ValueError) as e:
                logger.error("shard %d: %s cannot be resynced now: %s", shard, node, e)

    def _note(self, result: ShardVerification, *, deep: bool) -> None:
        differing = sorted(result.differing)
        if differing:
            logger.critical(
                "ALARM: shard %d: not all replicas are equal at entry %d: %s differ",
                result.shard,
                result.index,
                ", ".join(differing),
            )
        self.found[result.shard] = Verified(
            round(self.wall()), result.index, result.equal, deep, tuple(differing)
        )


def _verdict(shards: Sequence[ShardVerification]) -> Verification:
    return Verification(all(one.equal for one in shards), tuple(shards))


def _row(node: str, index: int, found: DeepDigest | str) -> ReplicaDigest:
    """What a replica has, or why that cannot be told."""
    if isinstance(found, str):
        return ReplicaDigest(node, index, None, found)
    bad = tuple(body.hex() for body in found.bad_bodies)
    return ReplicaDigest(node, index, found.digest.hex(), None, found.bodies, found.body_bytes, bad)
