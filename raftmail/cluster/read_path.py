"""Answering queries behind a read barrier (P5): from this node's own replica where it can, from
another one where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from raftmail.cluster.rpc import CallKind
from raftmail.cluster.rpc_server import NodeLinks
from raftmail.cluster.view import ROOT_SHARD
from raftmail.mail.codec import decode_answer, encode_query
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import (
    Answer,
    FetchBodies,
    FetchBody,
    GetConfiguration,
    GetUser,
    ListSharers,
    ListUsers,
    Query,
    ReadPoint,
    asked_for,
)
from raftmail.mail.rights import is_everybody
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability
from raftmail.storage.blobs import BlobDamaged, BlobMissing
from raftmail.storage.disk import DiskFull
from raftmail.storage.kv import TableDamaged
from raftmail.storage.records import IndexDamaged

LAGGING_S = 0.3
"""How long a read waits for this node's own replica before another one answers it."""

RETRY_S = 0.05
"""How often a read looks again whether it can be answered."""

LONG_READS_AT_ONCE = 2
"""Of long messages, by a node: each takes memory of its length (`node.budget`)."""

ReadIndex = Callable[[int | Failure], None]


class Calling(Protocol):
    """What reading needs of the router."""

    node: str
    replicas: Mapping[int, Replica]
    links: NodeLinks

    @property
    def clock(self) -> Callable[[], float]: ...
    def shard_of(self, user: str) -> int: ...
    def leader_of(self, shard: int) -> str | None: ...
    def own(self, shard: int) -> Replica | None: ...
    def start(
        self,
        kind: CallKind,
        shard: int,
        deadline_s: float,
        data: tuple[Any, ...],
        done: Callable[[Any], None],
    ) -> None: ...
    async def call(
        self,
        kind: CallKind,
        shard: int,
        deadline_s: float,
        data: tuple[Any, ...],
        *,
        target: str = "",
    ) -> Any: ...


@dataclass(slots=True, repr=False)
class ReadPath:
    """The reads of a router. Invariant: of each shard at most one barrier is under way; it serves
    all that were asked for before it."""

    router: Calling
    _waiting: dict[int, list[tuple[float, ReadIndex]]] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _long_reads: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(LONG_READS_AT_ONCE)
    )

    def shard_of(self, query: Query) -> int:
        """The shard that answers a query."""
        if isinstance(query, ListUsers | GetUser | GetConfiguration):
            return ROOT_SHARD
        if isinstance(query, ListSharers) and is_everybody(query.user):
            return ROOT_SHARD
        return self.router.shard_of(query.user)

    async def answer(
        self, query: Query, deadline_s: float, point: ReadPoint | None = None
    ) -> Answer:
        """Raises `Unavailable`."""
        router = self.router
        shard = self.shard_of(query)
        if router.own(shard) is None:
            data = (encode_query(query),)
            return decode_answer(await router.call(CallKind.QUERY, shard, deadline_s, data))
        deadline = router.clock() + deadline_s
        if point is not None and point.shard == shard and point.index >= 0:
            return await self._answer_locally(shard, query, point.index, deadline, point)
        future: asyncio.Future[int | Failure] = asyncio.get_running_loop().create_future()

        def answered(outcome: int | Failure) -> None:
            if not future.done():
                future.set_result(outcome)

        self._read_index(shard, deadline_s, answered)
        outcome = await future
        if isinstance(outcome, Failure):
            raise Unavailable(outcome)
        if point is not None:
            point.reached(shard, outcome)
        return await self._answer_locally(shard, query, outcome, deadline, point)

    def answer_now(self, query: Query) -> tuple[Answer] | None:
        """The answer of this node's own replica as it is, which may be behind; None where it cannot
        be had at once."""
        replica = self.router.replicas.get(self.shard_of(query))
        if replica is None or not replica.may(Capability.READ):
            return None
        try:
            return (replica.query(query),)
        except (IndexDamaged, TableDamaged, DiskFull):
            return None  # whoever asks for it by `answer` tells the replica of it

    def _read_index(self, shard: int, deadline_s: float, done: ReadIndex) -> None:
        """The index to wait for before reading."""
        waiting = self._waiting.setdefault(shard, [])
        waiting.append((deadline_s, done))
        if shard not in self._open:
            self._start(shard)

    def _start(self, shard: int) -> None:
        waiting = self._waiting.pop(shard, [])
        if not waiting:
            return
        self._open.add(shard)

        def through(outcome: int | Failure) -> None:
            self._open.discard(shard)
            for _, done in waiting:
                done(outcome)
            self._start(shard)

        self.router.start(CallKind.BARRIER, shard, max(w[0] for w in waiting), (), through)

    async def _answer_locally(
        self, shard: int, query: Query, index: int, deadline: float, point: ReadPoint | None
    ) -> Answer:
        """Answer from this node's own replica, once it has applied `index`, or have another node
        answer. What is read with the same `point` afterwards is as new as this at least."""
        router = self.router
        replica = router.replicas.get(shard)
        if replica is None:
            return await self._answer_elsewhere(shard, query, deadline, point)
        while replica.applied_index < index:  # it may have gone back when this task goes on
            if not await self._applied(replica, index, deadline):
                return await self._answer_elsewhere(shard, query, deadline, point)
        if not replica.may(Capability.READ) or router.replicas.get(shard) is not replica:
            return await self._answer_elsewhere(shard, query, deadline, point)
        if point is not None:
            point.reached(shard, replica.applied_index)
        try:
            asked = asked_for(query)
            if isinstance(asked, FetchBodies):
                return replica.bodies_of(query)
            if not isinstance(asked, FetchBody):
                return replica.query(query)
            digest = replica.body_of(query)
        except IndexDamaged as e:
            replica.index_damaged(e)
            router.links.wake(shard)
            return await self._answer_elsewhere(shard, query, deadline, point)
        except TableDamaged as e:
            replica.index_broken(e)
            router.links.wake(shard)
            return await self._answer_elsewhere(shard, query, deadline, point)
        except DiskFull as e:
            # What was applied is written down for a read. The replica's next turn goes back.
            router.links.wake(shard)
            if router.leader_of(shard) in (None, router.node):
                raise Unavailable(Failure(f"there is no space for reading: {e}")) from None
            return await self._answer_elsewhere(shard, query, deadline, point)
        if digest is None:
            return None
        while router.replicas.get(shard) is replica:
            try:
                return await self._body(replica, digest, deadline)
            except (BlobMissing, BlobDamaged) as e:
                router.links.wake(shard)
                if router.clock() + 0.05 >= deadline:
                    raise Unavailable(Failure(f"the message's body cannot be read: {e}")) from None
                await asyncio.sleep(0.05)
            except IndexDamaged as e:
                replica.index_damaged(e)
                router.links.wake(shard)
                break
        return await self._answer_elsewhere(shard, query, deadline, point)

    async def _body(self, replica: Replica, digest: bytes, deadline: float) -> bytes:
        """A message's bytes; those of a long one are read in a thread, beside all else, and few at
        a time. Raises `Unavailable`, and as `Replica.body`."""
        short = replica.short_body(digest)
        if short is not None:
            return short
        async with self._long_reads:
            if self.router.clock() >= deadline:
                raise Unavailable(Failure("too many long messages are being read"))
            job = replica.begin_read(digest)
            await asyncio.get_running_loop().run_in_executor(None, job.run)
        return replica.end_read(job)

    async def _applied(self, replica: Replica, index: int, deadline: float) -> bool:
        """Whether the own replica has applied `index`, if need be in a moment.

        After a write through this node, it mostly has the entry, and does not know yet that it is
        committed. The master tells with the next entry, or the next heartbeat, or a barrier."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def applied(ok: bool) -> None:
            if not future.done():
                future.set_result(ok)

        replica.when_applied(index, applied)
        patience_s = min(LAGGING_S, deadline - self.router.clock())
        if replica.commit_index < index:
            self._read_index(replica.shard, patience_s, lambda _: None)
        try:
            return await asyncio.wait_for(future, max(0.0, patience_s))
        except TimeoutError:
            replica.stop_waiting(applied)
            return False

    async def _answer_elsewhere(
        self, shard: int, query: Query, deadline: float, point: ReadPoint | None
    ) -> Answer:
        """Have the master answer: this node's replica lags behind, is damaged, cannot hear the
        master at all, or is gone. When this node is the master, its replica is being repaired, or
        another is about to lead."""
        router = self.router
        if point is not None:
            point.passed()  # nobody tells how new the answer is
        while True:
            master = router.leader_of(shard) or ""
            left_s = deadline - router.clock()
            own = router.own(shard)
            if own is None or master not in ("", router.node):
                break
            if left_s < 2 * RETRY_S:
                raise Unavailable(
                    Failure(f"shard {shard} lags behind on this node, or is repaired")
                )
            if master and own.may(Capability.READ):
                return await self.answer(query, left_s)
            await asyncio.sleep(RETRY_S)
        data = (encode_query(query),)
        return decode_answer(await router.call(CallKind.QUERY, shard, left_s, data, target=master))
