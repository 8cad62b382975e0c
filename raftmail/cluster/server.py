"""Answering what other nodes ask: the other end of the router's calls.

Invariants:

1. A call is answered at most once; one that is relayed is passed on once, to the node that it names: there are no loops.
2. What is passed on is bounded by `PENDING_MAX`, and forgotten at its deadline.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from raftmail.cluster.calls import Call, CallKind
from raftmail.cluster.view import View
from raftmail.mail.codec import CodecError, decode_query, encode_answer, encode_result
from raftmail.mail.queries import Answer, Query
from raftmail.mail.results import Executed
from raftmail.mail.service import JSON, Failure, Unavailable
from raftmail.shard.replica import Replica

PENDING_MAX = 200_000


class Links(Protocol):
    """The links to the other nodes, and the way to have a replica's work done soon."""

    def send(self, node: str, shard: int, kind: str, parts: Sequence[bytes]) -> bool:
        """Queue a frame; False when there is no link."""

    def is_up(self, node: str) -> bool: ...

    def wake(self, shard: int) -> None:
        """A replica (or with -1, only the router) has something to do in this turn of the loop."""

    def submitted(self, shard: int) -> None:
        """A replica was given a request."""


class QueryShards(Protocol):
    """Which shard answers a query."""

    def shard_of(self, query: Query) -> int: ...


class Routing(Protocol):
    """What answering needs of the router."""

    replicas: Mapping[int, Replica]
    view: View
    links: Links
    answer_admin: Callable[[str, Mapping[str, str], float], Awaitable[JSON]] | None

    @property
    def clock(self) -> Callable[[], float]: ...
    def leader_of(self, shard: int) -> str | None: ...
    @property
    def reads(self) -> QueryShards: ...
    def own(self, shard: int) -> Replica | None: ...
    def count(self, shard: int, node: str) -> None: ...
    def next_number(self) -> int: ...
    def send_call(self, node: str, item: list[Any]) -> None: ...
    async def query(self, query: Query, *, deadline_s: float) -> Answer: ...


@dataclass(slots=True)
class CallServer:
    """Answers the calls of other nodes, and passes on those that are for a third."""

    router: Routing
    _answers: dict[str, list[list[Any]]] = field(default_factory=dict)
    _relayed: dict[int, tuple[str, int, float, str]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def serve(self, node: str, call: Call) -> None:
        """A call of another node."""
        deadline_s = call.deadline_ms / 1000
        if call.relay_to:
            self._pass_on(node, call, deadline_s)
        elif call.kind is CallKind.SUBMIT:
            self._serve_submit(node, call)
        elif call.kind is CallKind.BARRIER:
            self._serve_barrier(node, call)
        else:
            task = asyncio.get_running_loop().create_task(
                self._serve_slowly(node, call, deadline_s)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _serve_submit(self, node: str, call: Call) -> None:
        replica = self.router.replicas.get(call.shard)
        if replica is None or not replica.group.accepts:
            self._moved(node, call.number, self.router.leader_of(call.shard) or "")
            return

        def done(outcome: Executed | Failure) -> None:
            if isinstance(outcome, Executed):
                value = [encode_result(outcome.result), outcome.index, outcome.master]
                self._reply(node, call.number, "ok", value)
            else:
                self._reply_failure(node, call.number, outcome)

        for digest, body in call.data[1]:
            if hashlib.sha256(body).digest() != digest:
                self._reply_failure(node, call.number, Failure("a body was damaged on its way"))
                return
        self.router.count(call.shard, node)
        replica.submit(
            self.router.clock(), call.data[0], [(b[0], b[1]) for b in call.data[1]], done
        )
        self.router.links.submitted(call.shard)

    def _serve_barrier(self, node: str, call: Call) -> None:
        replica = self.router.replicas.get(call.shard)
        if replica is None or not replica.group.is_leader:
            self._moved(node, call.number, self.router.leader_of(call.shard) or "")
            return

        def done(index: int | None) -> None:
            if index is None:
                self._moved(node, call.number)
            else:
                self._reply(node, call.number, "ok", index)

        replica.barrier(self.router.clock(), done)
        self.router.links.wake(call.shard)

    async def _serve_slowly(self, node: str, call: Call, deadline_s: float) -> None:
        try:
            if call.kind is CallKind.QUERY:
                query = decode_query(call.data[0])
                # Whose disk was lost, and who has not heard of the cluster again, has no replica and cannot tell a user's shard.
                if (
                    self.router.own(call.shard) is None
                    or self.router.own(self.router.reads.shard_of(query)) is None
                ):
                    self._moved(node, call.number)
                    return
                answer: Any = encode_answer(await self.router.query(query, deadline_s=deadline_s))
            else:
                if self.router.answer_admin is None:
                    raise ValueError("this node answers no administrative calls")
                answer = await self.router.answer_admin(
                    call.data[0], call.data[1], self.router.clock() + deadline_s
                )
            self._reply(node, call.number, "ok", answer)
        except Unavailable as e:
            self._reply_failure(node, call.number, e.failure)
        except (CodecError, ValueError) as e:
            self._reply_failure(node, call.number, Failure(str(e), final=True))

    def _pass_on(self, node: str, call: Call, deadline_s: float) -> None:
        """Relay a call to the node that it names, under a number of this node's own."""
        goal = call.relay_to
        if not self.router.links.is_up(goal):
            self._moved(node, call.number)
            return
        if len(self._relayed) >= PENDING_MAX:
            self._reply_failure(node, call.number, Failure("the node in between is overloaded"))
            return
        number = self.router.next_number()
        self._relayed[number] = (node, call.number, self.router.clock() + deadline_s, goal)
        item = [number, int(call.kind), call.shard, call.deadline_ms, "", call.data]
        self.router.send_call(goal, item)

    def pass_back(self, number: int, status: str, value: Any) -> bool:
        """Give the answer to a call that was passed on to the node that asked; False when it is none."""
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

    def take_answers(self) -> dict[str, list[list[Any]]]:
        """The answers of this turn of the loop, by node."""
        answers, self._answers = self._answers, {}
        return answers

    def _reply(self, node: str, number: int, status: str, value: Any) -> None:
        self._answers.setdefault(node, []).append([number, status, value])
        self.router.links.wake(-1)

    def _moved(self, node: str, number: int, master: str = "") -> None:
        self._reply(node, number, "moved", [master, self.router.view.revision])

    def _reply_failure(self, node: str, number: int, failure: Failure) -> None:
        value = [failure.text, failure.unknown, failure.full, failure.final]
        self._reply(node, number, "failed", value)
