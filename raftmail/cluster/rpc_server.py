"""Answering what other nodes ask: the other end of the router's calls.

Invariants:

1. A call is answered at most once; one that is relayed is passed on once, to the node that it
   names: there are no loops.
2. What is passed on is bounded by `PENDING_MAX`, and forgotten at its deadline.
3. The calls that are worked at hold at most the bytes of `budget`; the next is told to come again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from raftmail.cluster.rpc import LONG_BYTES_MIN, CallKind, Part, RpcCall, answer_frames
from raftmail.cluster.view import ROOT_SHARD, ClusterView
from raftmail.consensus.read_index import voucher
from raftmail.mail.admin import JSON
from raftmail.mail.budget import Budget
from raftmail.mail.codec import CodecError, decode_query, encode_answer, encode_result
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import Answer, FetchBody, Query, asked_for
from raftmail.mail.results import Executed
from raftmail.net.errors import start_task, tell
from raftmail.shard.replica import Replica

logger = logging.getLogger(__name__)

PENDING_MAX = 50_000
BYTES_MAX = 256 << 20
BODIES_AT_ONCE = 2
"""Bodies that are read at once for other nodes, from the question to the link's queue."""
ROOM_POLL_S = 0.05
_BUSY = "the node has as many bytes of requests in memory as it may"


class NodeLinks(Protocol):
    """The links to the other nodes, and the way to have a replica's work done soon."""

    def send(self, node: str, shard: int, kind: str, parts: Sequence[Part]) -> bool:
        """Queue a frame; False when there is no link."""

    def is_up(self, node: str) -> bool: ...

    def has_room(self, node: str, size_bytes: int, *, long: bool) -> bool:
        """Whether so many bytes more may be sent to a node now; `long`: in a frame of their own,
        which others may overtake."""

    def wake(self, shard: int) -> None:
        """A replica (or with -1, only the router) has something to do in this turn of the loop."""

    def submitted(self, shard: int) -> None:
        """A replica was given a request."""


class QueryShards(Protocol):
    """Which shard answers a query."""

    def shard_of(self, query: Query) -> int: ...


class Routing(Protocol):
    """What answering needs of the router."""

    node: str
    replicas: Mapping[int, Replica]
    view: ClusterView
    links: NodeLinks
    answer_node: Callable[[str, Mapping[str, str], float], Awaitable[JSON]] | None

    @property
    def clock(self) -> Callable[[], float]: ...
    def leader_of(self, shard: int) -> str | None: ...
    @property
    def reads(self) -> QueryShards: ...
    def own(self, shard: int) -> Replica | None: ...
    def count(self, shard: int, node: str) -> None: ...
    def next_number(self) -> int: ...
    def may_send(self, node: str, size_bytes: int) -> bool: ...
    def send_call(self, node: str, item: list[Any], size_bytes: int) -> None: ...
    async def query(self, query: Query, *, deadline_s: float) -> Answer: ...


@dataclass(slots=True, repr=False)
class RpcServer:
    """Answers the calls of other nodes, and passes on those that are for a third."""

    router: Routing
    budget: Budget = field(default_factory=lambda: Budget(BYTES_MAX))
    _answers: dict[str, list[list[Any]]] = field(default_factory=dict)
    _relayed: dict[int, tuple[str, int, float, str]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _bodies: set[tuple[str, int]] = field(default_factory=set)
    """Calls for a message that are being answered: who asked, and the number."""
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BODIES_AT_ONCE))

    def serve(self, node: str, call: RpcCall) -> None:
        """A call of another node."""
        deadline_s = call.deadline_ms / 1000
        if call.relay_to:
            self._pass_on(node, call, deadline_s)
        elif call.kind is CallKind.SUBMIT:
            self._serve_submit(node, call, self.router.clock() + deadline_s)
        elif call.kind is CallKind.BARRIER:
            self._serve_barrier(node, call)
        else:
            work = self._serve_slowly(node, call, deadline_s)
            task = start_task(asyncio.get_running_loop(), work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _serve_submit(self, node: str, call: RpcCall, until: float) -> None:
        replica = self.router.replicas.get(call.shard)
        if replica is None or not replica.accepts:
            self._moved(node, call.number, self.router.leader_of(call.shard) or "")
            return
        size = call.size_bytes
        if not self.budget.take(size):
            self._reply_failure(node, call.number, Failure(_BUSY))
            return
        if size < LONG_BYTES_MIN:
            self._submit(node, call, size, until, intact=_are_intact(call.data[1]))
            return
        # A long body would keep the loop for as long as it takes to hash it.
        loop = asyncio.get_running_loop()
        hashed = loop.run_in_executor(None, _are_intact, call.data[1])
        hashed.add_done_callback(partial(self._hashed, node, call, size, until))

    def _hashed(
        self, node: str, call: RpcCall, size: int, until: float, found: asyncio.Future[bool]
    ) -> None:
        if found.cancelled():
            self.budget.give(size)  # the loop ends
        else:
            intact = found.exception() is None and found.result()
            self._submit(node, call, size, until, intact=intact)

    def _submit(self, node: str, call: RpcCall, size: int, until: float, *, intact: bool) -> None:
        """Give a call whose bodies were looked at to the replica."""
        number = call.number
        replica = self.router.replicas.get(call.shard)
        if not intact or replica is None:
            self.budget.give(size)
            if replica is None:
                self._moved(node, number)
            else:
                self._reply_failure(node, number, Failure("a body was damaged on its way"))
            return
        self.router.count(call.shard, node)
        request, blobs = call.data
        done = partial(self._submitted, node, number, size)
        replica.submit(self.router.clock(), request, [(b[0], b[1]) for b in blobs], done, until)
        self.router.links.submitted(call.shard)

    def _submitted(self, node: str, number: int, size: int, outcome: Executed | Failure) -> None:
        self.budget.give(size)
        if isinstance(outcome, Executed):
            value = [encode_result(outcome.result), outcome.index, outcome.master]
            self._reply(node, number, "ok", value)
        else:
            self._reply_failure(node, number, outcome)

    def _serve_barrier(self, node: str, call: RpcCall) -> None:
        replica = self.router.replicas.get(call.shard)
        if replica is None or not replica.is_leader:
            self._moved(node, call.number, self.router.leader_of(call.shard) or "")
            return

        def done(index: int | None) -> None:
            if index is None:
                self._moved(node, call.number)
            else:
                self._reply(node, call.number, "ok", index)

        replica.barrier(self.router.clock(), done, voucher(call.number))
        if replica.needs_turn:
            self.router.links.wake(call.shard)

    async def _serve_slowly(self, node: str, call: RpcCall, deadline_s: float) -> None:
        try:
            if call.kind is CallKind.QUERY:
                query = decode_query(call.data[0])
                # Whose disk was lost, and who has not heard of the cluster again, has no replica
                # and cannot tell a user's shard.
                if (
                    self.router.own(call.shard) is None
                    or self.router.own(self.router.reads.shard_of(query)) is None
                ):
                    self._moved(node, call.number)
                    return
                if isinstance(asked_for(query), FetchBody):
                    await self._serve_body(node, call.number, query, deadline_s)
                    return
                answer: Any = encode_answer(await self.router.query(query, deadline_s=deadline_s))
            else:
                if self.router.answer_node is None:
                    raise ValueError("this node answers no administrative calls")
                answer = await self.router.answer_node(
                    call.data[0], call.data[1], self.router.clock() + deadline_s
                )
            self._reply(node, call.number, "ok", answer)
        except Unavailable as e:
            self._reply_failure(node, call.number, e.failure)
        except (CodecError, ValueError) as e:
            self._reply_failure(node, call.number, Failure(str(e), final=True))
        except Exception as e:
            tell(logger, f"a call of {node} failed", e)
            self._reply_failure(
                node, call.number, Failure(f"{self.router.node} failed over this; its log says how")
            )

    async def _serve_body(self, node: str, number: int, query: Query, deadline_s: float) -> None:
        """Raises `Unavailable`. Whoever asks again meanwhile is not read for twice, and what the
        link has no room for now waits, as bytes of the budget."""
        asked = (node, number)
        if asked in self._bodies:
            return
        self._bodies.add(asked)
        until = self.router.clock() + deadline_s
        try:
            async with self._reading:
                body = encode_answer(await self.router.query(query, deadline_s=deadline_s))
                size = len(body)
                if self._fits(node, size):
                    self._reply(node, number, "ok", body)
                    await asyncio.sleep(0)  # the answers of this turn leave, or find no room
                    return
                if not self.budget.take(size):
                    self._reply_failure(node, number, Failure(_BUSY))
                    return
            try:
                await self._wait_for_room(node, size, until)
            finally:
                self.budget.give(size)
            self._reply(node, number, "ok", body)
        finally:
            self._bodies.discard(asked)

    async def _wait_for_room(self, node: str, size: int, until: float) -> None:
        """Until an answer fits, or nobody waits for it any more."""
        links, clock = self.router.links, self.router.clock
        while links.is_up(node) and clock() < until and not self._fits(node, size):  # noqa: ASYNC110  links tell nobody
            await asyncio.sleep(ROOM_POLL_S)

    def _fits(self, node: str, size: int) -> bool:
        return size < LONG_BYTES_MIN or self.router.links.has_room(node, size, long=True)

    def _pass_on(self, node: str, call: RpcCall, deadline_s: float) -> None:
        """Relay a call to the node that it names, under a number of this node's own."""
        goal = call.relay_to
        if not self.router.links.is_up(goal):
            self._moved(node, call.number)
            return
        size = call.size_bytes
        if len(self._relayed) >= PENDING_MAX or not self.router.may_send(goal, size):
            self._reply_failure(node, call.number, Failure("the node in between is overloaded"))
            return
        number = self.router.next_number()
        self._relayed[number] = (node, call.number, self.router.clock() + deadline_s, goal)
        item = [number, int(call.kind), call.shard, call.deadline_ms, "", call.data]
        self.router.send_call(goal, item, size)

    def pass_back(self, number: int, status: str, value: Any) -> bool:
        """Give the answer to a call that was passed on to the node that asked; False when it is
        none."""
        relayed = self._relayed.pop(number, None)
        if relayed is None:
            return False
        self._reply(relayed[0], relayed[1], status, value)
        return True

    def tick(self, now: float) -> None:
        """Forget calls that were passed on and whose asker has given up."""
        for number, (_, _, deadline, _) in list(self._relayed.items()):
            if now >= deadline:
                del self._relayed[number]

    def disconnected(self, goal: str) -> None:
        """The link to a node is gone: those whose calls were passed on to it shall try again."""
        for number, (node, asked, _, passed_to) in list(self._relayed.items()):
            if passed_to == goal:
                del self._relayed[number]
                self._moved(node, asked)

    def flush(self) -> None:
        """Send the answers of this turn of the loop."""
        answers, self._answers = self._answers, {}
        send = self.router.links.send
        for node, items in answers.items():
            for kind, parts in answer_frames(self._fitting(node, item) for item in items):
                send(node, ROOT_SHARD, kind, parts)

    def _fitting(self, node: str, item: list[Any]) -> list[Any]:
        """An answer that the link has room for: in the place of a long one, if need be, that the
        asker shall come again."""
        value = item[2]
        if not isinstance(value, bytes | memoryview) or self._fits(node, len(value)):
            return item
        return [item[0], "failed", _told(Failure("the node has too much to send"))]

    def _reply(self, node: str, number: int, status: str, value: Any) -> None:
        self._answers.setdefault(node, []).append([number, status, value])
        self.router.links.wake(-1)

    def _moved(self, node: str, number: int, master: str = "") -> None:
        self._reply(node, number, "moved", [master, self.router.view.revision])

    def _reply_failure(self, node: str, number: int, failure: Failure) -> None:
        self._reply(node, number, "failed", _told(failure))


def _are_intact(blobs: Sequence[Sequence[bytes]]) -> bool:
    """Whether each body has the hash that it was sent under."""
    return all(hashlib.sha256(body).digest() == digest for digest, body in blobs)


def _told(failure: Failure) -> list[Any]:
    """A failure as the value of an answer."""
    return [failure.text, failure.unknown, failure.full, failure.final]
