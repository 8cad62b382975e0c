"""Getting a command to the node that leads its shard, and the answer back (P3, P5).

Any node takes any command. If it leads the shard, the command goes into its own replica. If not, it
goes to the node that leads, through a third node when the direct link is down. While nobody leads,
the command waits. All within the caller's deadline. What was sent and not answered is sent again
under the same client id and sequence number, so that it has one effect.

Invariants:

1. A callback is called exactly once, at the latest some 50 ms after its deadline.
2. A call that is relayed is passed on once, to the node that it names: there are no loops.
3. The calls without an answer hold at most the bytes of `budget`; the next fails at once. They are
   sent only as fast as the links take them: what a link has no room for waits here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from raftmail.cluster import cross_shard_copy
from raftmail.cluster import rpc as c
from raftmail.cluster.own_root import OwnRoot
from raftmail.cluster.read_path import ReadPath
from raftmail.cluster.rpc import LONG_BYTES_MIN, CallKind, Part, RpcFrameKind
from raftmail.cluster.rpc_server import BYTES_MAX, PENDING_MAX, NodeLinks, RpcServer
from raftmail.cluster.view import ROOT_SHARD, ClusterView
from raftmail.cluster.watches import Watches, WatchHandle
from raftmail.consensus.read_index import voucher
from raftmail.mail.admin import ADMIN_S, JSON
from raftmail.mail.budget import Budget
from raftmail.mail.changes import Change
from raftmail.mail.codec import CodecError, decode_result, encode_request
from raftmail.mail.commands import (
    Blob,
    Command,
    Configure,
    Copy,
    DropAppPassword,
    GuestCommand,
    NoteSharer,
    PutAppPassword,
    PutUser,
    RemoveUser,
    Save,
)
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import Answer, Query, ReadPoint
from raftmail.mail.results import Executed
from raftmail.mail.rights import is_everybody
from raftmail.net.errors import tell
from raftmail.shard.replica import SAY_BAD_S, Done, Replica

logger = logging.getLogger(__name__)

ATTEMPT_S = 1.0
ASK_OTHERS_S = 0.1
COUNTED_S = 60.0
LONG_PAUSE_S = 0.25
"""A long call that was sent in vain is sent again after so long at the soonest."""

_FULL = Failure("this node has as many requests in memory as it may")


@dataclass(slots=True, eq=False, repr=False)
class _Pending:
    """A call of this node's own that has no answer yet. `sent_to` is "" while it waits to be sent
    (again)."""

    number: int
    kind: CallKind
    shard: int
    deadline: float
    data: tuple[Any, ...]
    done: Callable[[Any], None]
    began: float
    sent_to: str = ""
    via: str = ""
    sent_at: float = 0.0
    patience_s: float = ATTEMPT_S
    attempted: bool = False
    doubtful: bool = False
    """An attempt before the last one may have taken effect, or may yet."""
    target: str = ""
    size_bytes: int = 0
    not_before: float = 0.0


class _Direct:
    """A request that went straight into the own replica: the usual case, and so without a
    `_Pending`. When it comes back without a result, it becomes one."""

    __slots__ = ("blobs", "deadline", "done", "request", "router", "shard", "size_bytes")

    def __init__(
        self,
        router: Router,
        shard: int,
        deadline: float,
        request: bytes,
        blobs: Sequence[Blob],
        done: Done,
    ) -> None:
        self.router = router
        self.shard = shard
        self.deadline = deadline
        self.request = request
        self.blobs = blobs
        self.done = done
        self.size_bytes = len(request) + (sum(len(b[1]) for b in blobs) if blobs else 0)

    def __call__(self, outcome: Executed | Failure) -> None:
        if self.router._direct.pop(self, self) is self:
            return  # its deadline has passed, and it was answered then
        if isinstance(outcome, Executed) or outcome.final or outcome.full:
            self.router.budget.give(self.size_bytes)
            self.done(outcome)
        else:
            self.router.try_elsewhere(self)


@dataclass(slots=True, repr=False)
class Router:
    """Commands, reads and watches of this node's front ends (`service.service`).

    `replicas` maps shards to the replicas that this node has now; they come and go.
    `view` is the newest that is known of the cluster (`follow` replaces it)."""

    node: str
    replicas: Mapping[int, Replica]
    view: ClusterView
    links: NodeLinks
    clock: Callable[[], float]
    answer_operator: Callable[[str, Mapping[str, str], float], Awaitable[JSON]] | None = None
    """Answers an administrative call of a client, by a deadline; None: this node answers none."""
    answer_node: Callable[[str, Mapping[str, str], float], Awaitable[JSON]] | None = None
    """Answers an administrative call of another node."""
    commands: dict[int, Counter[str]] = field(default_factory=dict)
    """How many writes this node took as a shard's master, by the node to which clients gave them;
    halved once a minute."""
    heard_revision: Callable[[str, int], None] | None = None
    """Called with a node and the revision of the cluster's state that it knows, when that is newer
    than `view`."""
    client: bytes = field(default_factory=lambda: os.urandom(16))
    budget: Budget = field(default_factory=lambda: Budget(BYTES_MAX))
    """What the calls without an answer hold: those that came in at this node."""
    _seq: int = 0
    _open_seqs: dict[int, None] = field(default_factory=dict)
    _number: int = field(default_factory=partial(secrets.randbits, 62))
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _direct: dict[_Direct, None] = field(default_factory=dict)
    _outbox: dict[str, list[list[Any]]] = field(default_factory=dict)
    _outbox_bytes: dict[str, int] = field(default_factory=dict)
    """Of calls in `_outbox`: see `_outbox_key`."""
    _words: list[tuple[str, int, str, Sequence[Part]]] = field(default_factory=list)
    """Frames that vouch for the barriers in `_outbox`: node, shard, kind, parts."""
    _hints: dict[int, str] = field(default_factory=dict)
    service: RpcServer = field(init=False)
    reads: ReadPath = field(init=False)
    watches: Watches = field(init=False)
    root: OwnRoot = field(init=False)
    _rotation: int = 0
    _halve_at: float = 0.0
    _say_bad_at: float = -1e18

    def __post_init__(self) -> None:
        self.service = RpcServer(self)
        self.reads = ReadPath(self)
        self.watches = Watches(self)
        self.root = OwnRoot(self)

    # -- Service ---------------------------------------------------------------------------------

    def shard_of(self, user: str) -> int:
        return self.view.shard_of(user)

    def quota_of(self, user: str) -> int:
        return self.view.quota_of(user)

    def submit(
        self,
        shard: int,
        request: bytes,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Done,
    ) -> None:
        replica = self.replicas.get(shard)
        if replica is not None and replica.accepts and len(self._direct) < PENDING_MAX:
            now = self.clock()
            direct = _Direct(self, shard, now + deadline_s, request, blobs, done)
            if not self.budget.take(direct.size_bytes):
                done(_FULL)
                return
            self._direct[direct] = None
            self.count(shard, self.node)
            replica.submit(now, request, blobs, direct, direct.deadline)
            self.links.submitted(shard)
        else:
            self.start(CallKind.SUBMIT, shard, deadline_s, (request, blobs), done)

    async def execute(
        self, command: Command, *, blobs: Sequence[Blob] = (), deadline_s: float
    ) -> Executed:
        shard = self._shard_for(command)
        seq, floor = self._next_seq()
        copied = command.command if isinstance(command, GuestCommand) else command
        if isinstance(copied, Copy) and self.shard_of(copied.target.user) != shard:
            try:
                guest = command.guest if isinstance(command, GuestCommand) else ""
                return await self.cross(
                    self.client, seq, floor, copied, deadline_s=deadline_s, guest=guest
                )
            finally:
                self._open_seqs.pop(seq, None)
        future: asyncio.Future[Executed | Failure] = asyncio.get_running_loop().create_future()

        def answered(outcome: Executed | Failure) -> None:
            if not future.done():
                future.set_result(outcome)

        self._submit_own(shard, seq, floor, command, blobs, deadline_s, answered)
        outcome = await future
        if isinstance(outcome, Failure):
            raise Unavailable(outcome)
        return outcome

    def _shard_for(self, command: Command) -> int:
        """The shard that carries out a command."""
        if isinstance(command, PutUser | PutAppPassword | DropAppPassword | RemoveUser | Configure):
            return ROOT_SHARD
        if isinstance(command, NoteSharer) and is_everybody(command.user):
            return ROOT_SHARD
        return self.shard_of(command.user)

    def execute_soon(
        self, command: Save, blobs: Sequence[Blob], deadline_s: float, done: Done
    ) -> None:
        """`execute` without a task; `done` is called exactly once, possibly at once."""
        seq, floor = self._next_seq()
        shard = self.shard_of(command.user)
        self._submit_own(shard, seq, floor, command, blobs, deadline_s, done)

    def _next_seq(self) -> tuple[int, int]:
        """A sequence number of this node's own client, and its floor."""
        self._seq = seq = self._seq + 1
        self._open_seqs[seq] = None
        return seq, next(iter(self._open_seqs)) - 1

    def _submit_own(
        self,
        shard: int,
        seq: int,
        floor: int,
        command: Command,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Done,
    ) -> None:
        def answered(outcome: Executed | Failure) -> None:
            self._open_seqs.pop(seq, None)
            done(outcome)

        request = encode_request(self.client, seq, floor, command)
        self.submit(shard, request, blobs, deadline_s, answered)

    async def cross(
        self,
        client: bytes,
        seq: int,
        floor: int,
        command: Copy,
        *,
        deadline_s: float,
        guest: str = "",
    ) -> Executed:
        return await cross_shard_copy.carry_out(
            self, client, seq, floor, command, deadline_s, guest
        )

    def watch(self, user: str, hear: Callable[[Change], None]) -> WatchHandle:
        return self.watches.begin(user, hear)

    def query_now(self, query: Query) -> tuple[Answer] | None:
        """See `ReadPath.answer_now`."""
        return self.reads.answer_now(query)

    async def query(
        self, query: Query, *, deadline_s: float, point: ReadPoint | None = None
    ) -> Answer:
        return await self.reads.answer(query, deadline_s, point)

    async def admin(
        self, what: str, arguments: Mapping[str, str], deadline_s: float = ADMIN_S
    ) -> JSON:
        if self.answer_operator is None:
            raise ValueError("this node answers no administrative calls")
        return await self.answer_operator(what, arguments, self.clock() + deadline_s)

    # -- calls of the administration to other nodes ------------------------------------------------

    async def ask(
        self, node: str, what: str, arguments: Mapping[str, str], deadline_s: float
    ) -> JSON:
        """Have another node answer an administrative call. Raises `Unavailable`."""
        return await self.call(
            CallKind.ADMIN, ROOT_SHARD, deadline_s, (what, dict(arguments)), target=node
        )

    async def call(
        self,
        kind: CallKind,
        shard: int,
        deadline_s: float,
        data: tuple[Any, ...],
        *,
        target: str = "",
    ) -> Any:
        """A call's outcome; with `target`, from that node and no other. Raises `Unavailable`."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(outcome: Any) -> None:
            if not future.done():
                future.set_result(outcome)

        self.start(kind, shard, deadline_s, data, answered, target=target)
        outcome = await future
        if isinstance(outcome, Failure):
            raise Unavailable(outcome)
        return outcome

    # -- driven by the node ------------------------------------------------------------------------

    def flush(self) -> None:
        """Send the calls and answers of this turn of the loop. What vouches for a barrier leaves
        with its call, in one write."""
        if self._words:
            words, self._words = self._words, []
            for word in words:
                self.links.send(*word)
        if self._outbox:
            outbox, self._outbox = self._outbox, {}
            self._outbox_bytes.clear()
            for node, items in outbox.items():
                for kind, parts in c.call_frames(items):
                    self.links.send(node, ROOT_SHARD, kind, parts)
        self.service.flush()
        self.watches.flush()

    def tick(self) -> None:
        """With every tick of the node: give up what is over its deadline, send again what should
        have gone elsewhere."""
        now = self.clock()
        waiting: list[_Pending] = []
        for pending in list(self._pending.values()):
            if now >= pending.deadline:
                self._finish(pending, self._late(pending))
            elif not pending.sent_to:
                if now >= pending.not_before:
                    waiting.append(pending)
            elif now - pending.sent_at > pending.patience_s:
                if pending.kind is CallKind.QUERY and not pending.target:
                    self._rotation += 1  # another member may be better off
                    pending.patience_s *= 2  # or a long answer is on its way
                if self._goal(pending) != pending.sent_to:
                    self._dispatch(pending)
        self._dispatch_all(waiting)
        for direct in [d for d in self._direct if now >= d.deadline]:
            del self._direct[direct]
            self.budget.give(direct.size_bytes)
            _give(direct.done, self._late_in(direct.shard, unknown=True))
        self.service.tick(now)
        self.watches.tick(now)
        if now >= self._halve_at:
            self._halve(now)

    def receive(self, node: str, kind: str, payload: bytes | memoryview) -> None:
        """A frame of calls or answers from another node."""
        try:
            if kind == RpcFrameKind.CALLS:
                for call in c.decode_calls(payload):
                    self.service.serve(node, call)
            elif kind in (RpcFrameKind.WATCH, RpcFrameKind.CHANGES):
                self.watches.receive(node, kind, bytes(payload))
            elif kind == RpcFrameKind.CALL:
                self.service.serve(node, c.decode_call(payload))
            elif kind == RpcFrameKind.ANSWER:
                self._answered(node, *c.decode_answer(payload))
            elif kind == RpcFrameKind.STATE:
                self._heard_revision(node, c.decode_revision(payload))
            else:
                for number, status, value in c.decode_answers(payload):
                    self._answered(node, number, status, value)
        except c.BadCall as e:
            now = self.clock()
            if now >= self._say_bad_at:
                self._say_bad_at = now + SAY_BAD_S
                logger.warning("from %s: %s", node, e)

    def disconnected(self, node: str) -> None:
        """What was sent over the lost link is sent again, also by those for whom it was passed
        on."""
        self.service.disconnected(node)
        self.watches.disconnected(node)
        lost = [p for p in self._pending.values() if p.sent_to and node in (p.sent_to, p.via)]
        for pending in lost:
            pending.sent_to = ""
        self._dispatch_all(lost)

    def role_changed(self, shard: int) -> None:
        """A master was elected, or lost: what waits for one may go now."""
        self._hints.pop(shard, None)
        leader = self.leader_of(shard)
        going: list[_Pending] = []
        for pending in self._pending.values():
            if pending.shard != shard or pending.target or pending.kind is CallKind.QUERY:
                continue
            # What went to the master that was may never be answered: sent again, it has one effect.
            if not pending.sent_to or (leader is not None and leader != pending.sent_to):
                going.append(pending)
        self._dispatch_all(going)

    def count(self, shard: int, node: str) -> None:
        """A write came from a node to this one, which leads the shard."""
        counts = self.commands.get(shard)
        if counts is None:
            counts = self.commands[shard] = Counter()
        counts[node] += 1

    def _halve(self, now: float) -> None:
        self._halve_at = now + COUNTED_S
        halved = {
            s: Counter({n: c // 2 for n, c in m.items() if c > 1}) for s, m in self.commands.items()
        }
        self.commands = {shard: counts for shard, counts in halved.items() if counts}

    def follow(self, view: ClusterView) -> None:
        """The cluster has changed: what waits for a shard's master may find it elsewhere."""
        self.view = view
        for shard in list(self._hints):
            if self._hints[shard] not in view.members(shard):
                del self._hints[shard]
        self._dispatch_all([p for p in self._pending.values() if not p.sent_to])

    def try_elsewhere(self, direct: _Direct) -> None:
        """A request came back from the own replica without a result: send it to whoever leads now,
        under the same client id."""
        data = (direct.request, direct.blobs)
        pending = self._new(CallKind.SUBMIT, direct.shard, 0.0, data, direct.done)
        pending.size_bytes = direct.size_bytes
        pending.deadline = direct.deadline
        pending.attempted = True

    def leader_of(self, shard: int) -> str | None:
        """The node that leads a shard, as far as is known here."""
        replica = self.own(shard)
        known = None if replica is None else replica.leader_node
        return known or self._hints.get(shard)

    async def master_of(self, shard: int, deadline_s: float) -> str | None:
        """The node that leads a shard, and has shown it just now to whoever asked for this node;
        None when none does in time.

        What was heard of a master before may be of one that is gone, and a follower may have no
        link to its own."""
        with suppress(Unavailable):
            await self.call(CallKind.BARRIER, shard, deadline_s, ())
            own = self.own(shard)
            if own is not None and own.is_leader:
                return self.node
            return self._hints.get(shard) or self.leader_of(shard)
        return None

    def own(self, shard: int) -> Replica | None:
        """This node's replica of a shard; None also for one that was taken out of its group and is
        about to go: it hears nothing."""
        replica = self.replicas.get(shard)
        return None if replica is None or replica.removed else replica

    def next_number(self) -> int:
        """A number for a call that this node sends, its own or passed on; none of a process before,
        whose answers may come yet."""
        self._number += 1
        return self._number

    def may_send(self, node: str, size_bytes: int) -> bool:
        """Whether the link to a node has room for a call of this size, beside those of this turn of
        the loop."""
        long = size_bytes >= LONG_BYTES_MIN
        sent_bytes = self._outbox_bytes.get(_outbox_key(node, long=long), 0)
        return self.links.has_room(node, sent_bytes + size_bytes, long=long)

    def send_call(self, node: str, item: list[Any], size_bytes: int) -> None:
        """Send a call with the others of this turn of the loop, if it `may_send`."""
        key = _outbox_key(node, long=size_bytes >= LONG_BYTES_MIN)
        self._outbox_bytes[key] = self._outbox_bytes.get(key, 0) + size_bytes
        self._outbox.setdefault(node, []).append(item)
        self.links.wake(-1)

    # -- own calls ---------------------------------------------------------------------------------

    def start(
        self,
        kind: CallKind,
        shard: int,
        deadline_s: float,
        data: tuple[Any, ...],
        done: Callable[[Any], None],
        *,
        target: str = "",
    ) -> None:
        """Begin a call; `done` gets its outcome or a `Failure`. See `call`."""
        if not target and not self.view.members(shard):
            done(Failure(f"there is no shard {shard}", final=True))
            return
        size_bytes = c.size_of(kind, data)
        if len(self._pending) >= PENDING_MAX or not self.budget.take(size_bytes):
            done(_FULL)
            return
        pending = self._new(kind, shard, deadline_s, data, done)
        pending.target = target
        pending.size_bytes = size_bytes
        self._dispatch(pending)

    def _new(
        self,
        kind: CallKind,
        shard: int,
        deadline_s: float,
        data: tuple[Any, ...],
        done: Callable[[Any], None],
    ) -> _Pending:
        now = self.clock()
        pending = _Pending(self.next_number(), kind, shard, now + deadline_s, data, done, now)
        self._pending[pending.number] = pending
        return pending

    def _goal(self, pending: _Pending) -> str:
        """The node that a call should be with; "" when none is known."""
        if pending.target:
            return pending.target
        if pending.kind is CallKind.QUERY:
            members = [m for m in self.view.members(pending.shard) if m != self.node]
            for offset in range(len(members)):
                node = members[(self._rotation + offset) % len(members)]
                if self.links.is_up(node):
                    return node
            return members[0] if members else ""
        return self.leader_of(pending.shard) or self._guess(pending)

    def _guess(self, pending: _Pending) -> str:
        """While no master is known: another member may know one that this node cannot hear (the
        link to it is down)."""
        members = [
            m for m in self.view.members(pending.shard) if m != self.node and self.links.is_up(m)
        ]
        has_replica = self.own(pending.shard) is not None
        if not members or (has_replica and self.clock() - pending.began < ASK_OTHERS_S):
            return ""
        self._rotation += 1
        return members[self._rotation % len(members)]

    def _dispatch_all(self, waiting: Sequence[_Pending]) -> None:
        """Send calls, in their order. After one for whose shard there is no master, or no room on
        the way to it, others of the shard are not looked at. Short ones do not wait for long ones.
        """
        stuck: set[tuple[int, bool]] = set()
        for pending in waiting:
            is_common = not pending.target and pending.kind is not CallKind.QUERY
            key = (pending.shard, pending.size_bytes >= LONG_BYTES_MIN)
            if is_common and key in stuck:
                pending.sent_to = pending.via = ""
                continue
            self._dispatch(pending)
            if is_common and not pending.sent_to:
                stuck.add(key)

    def _dispatch(self, pending: _Pending) -> None:
        pending.sent_to = pending.via = ""
        goal = self._goal(pending)
        if not goal:
            return
        if goal == self.node:
            self._take_myself(pending)
            return
        relay = ""
        if not self.links.is_up(goal):
            relay = self._relay(goal)
            if not relay:
                self._hints.pop(pending.shard, None)
                return
        if not self.may_send(relay or goal, pending.size_bytes):
            return
        now = self.clock()
        pending.sent_to = goal
        pending.via = relay
        pending.sent_at = now
        pending.doubtful = pending.attempted
        pending.attempted = True
        if pending.kind is CallKind.BARRIER and not relay:
            self._vouch(pending)
        left_ms = max(1, int((pending.deadline - now) * 1000))
        item = [
            pending.number, int(pending.kind), pending.shard, left_ms, goal if relay else "",
            pending.data,
        ]  # fmt: skip
        self.send_call(relay or goal, item, pending.size_bytes)

    def _vouch(self, pending: _Pending) -> None:
        """Have what spares the master a round leave just before the call for a barrier."""
        replica = self.own(pending.shard)
        frame = None if replica is None else replica.vouch(voucher(pending.number))
        if frame is not None and frame[0] == pending.sent_to:
            self._words.append((frame[0], pending.shard, frame[1], frame[2]))

    def _relay(self, goal: str) -> str:
        self._rotation += 1
        others = [n for n in self.view.nodes if n not in (self.node, goal) and self.links.is_up(n)]
        return others[self._rotation % len(others)] if others else ""

    def _take_myself(self, pending: _Pending) -> None:
        replica = self.replicas.get(pending.shard)
        if replica is None:  # it was closed; whoever named this node as the master did not know yet
            self._hints.pop(pending.shard, None)
            return
        now = self.clock()
        if pending.kind is CallKind.SUBMIT:
            if not replica.accepts:
                return
            pending.sent_to = self.node
            pending.sent_at = now
            pending.doubtful = pending.attempted
            pending.attempted = True
            request, blobs = pending.data
            done = partial(self._settled, pending)
            replica.submit(now, request, blobs, done, pending.deadline)
            self.links.submitted(pending.shard)
        else:
            pending.sent_to = self.node
            pending.sent_at = now
            replica.barrier(now, lambda index: self._read_settled(pending, index))
            self.links.wake(pending.shard)

    def _settled(self, pending: _Pending, outcome: Executed | Failure) -> None:
        if isinstance(outcome, Executed):
            self._finish(pending, outcome)
        elif outcome.final or outcome.full:
            self._give_up(pending, outcome)
        elif pending.number in self._pending:
            self._send_later(pending)  # to whoever leads then

    def _read_settled(self, pending: _Pending, index: int | None) -> None:
        if index is not None:
            self._finish(pending, index)
        elif pending.number in self._pending:
            pending.sent_to = ""

    def _finish(self, pending: _Pending, outcome: Any) -> None:
        if self._pending.pop(pending.number, None) is None:
            return
        self.budget.give(pending.size_bytes)
        _give(pending.done, outcome)

    def _give_up(self, pending: _Pending, failure: Failure) -> None:
        """End a call with what its last attempt met, which tells nothing of the attempts before."""
        doubtful = pending.doubtful and pending.kind is CallKind.SUBMIT
        self._finish(pending, replace(failure, unknown=True) if doubtful else failure)

    def _late(self, pending: _Pending) -> Failure:
        if pending.target:
            link = "" if self.links.is_up(pending.target) else f" ({self.node} has no link to it)"
            return Failure(f"node {pending.target} did not answer in time{link}")
        unknown = pending.attempted and pending.kind is CallKind.SUBMIT
        return self._late_in(pending.shard, unknown=unknown)

    def _late_in(self, shard: int, *, unknown: bool) -> Failure:
        leader = self.leader_of(shard)
        if leader is None or not (leader == self.node or self.links.is_up(leader)):
            text = self.no_master(shard)
        else:
            text = f"shard {shard}: its master {leader} did not answer within the deadline"
        return Failure(text, unknown)

    def no_master(self, shard: int) -> str:
        """That nobody leads a shard, and why, as far as is known here."""
        members = list(self.view.members(shard))
        silent = [node for node in members if node != self.node and not self.links.is_up(node)]
        text = f"shard {shard} has no master"
        if not silent:
            return f"{text}: its replicas answer, and have not elected one; ask again in a moment"
        text += f": {_listed(silent)} {'does' if len(silent) == 1 else 'do'} not answer"
        left = len(members) - len(silent)
        if 2 * left > len(members):
            return f"{text}, and the others have not elected one; ask again in a moment"
        return (
            f"{text}, and {left} of {len(members)} replicas {'is' if left == 1 else 'are'} no "
            f"majority"
        )

    def _heard_revision(self, node: str, revision: int) -> None:
        if revision > self.view.revision and self.heard_revision is not None:
            self.heard_revision(node, revision)

    def _answered(self, node: str, number: int, status: str, value: Any) -> None:
        if self.service.pass_back(number, status, value):
            return
        pending = self._pending.get(number)
        if pending is None:
            return
        if status == "moved":
            master, revision = value
            self._heard_revision(node, revision)
            if master and master != self.node:
                self._hints[pending.shard] = master
            else:
                self._hints.pop(pending.shard, None)
            self._send_later(pending)
            if pending.kind is CallKind.QUERY:
                pending.target = ""  # any member that still has a replica will do
                self._rotation += 1
            return
        if status == "failed":
            self._failed(pending, value)
            return
        try:
            outcome = self._decode_ok(pending, value)
        except (CodecError, ValueError, TypeError) as e:
            logger.warning("an answer that cannot be decoded: %s", e)
            pending.sent_to = ""
            return
        self._finish(pending, outcome)

    def _decode_ok(self, pending: _Pending, value: Any) -> Any:
        if pending.kind is CallKind.SUBMIT:
            result, index, master = value
            self._hints[pending.shard] = str(master)
            return Executed(decode_result(result), pending.shard, int(index), str(master))
        if pending.kind is CallKind.BARRIER:
            self._hints[pending.shard] = pending.sent_to
            return int(value)
        return value

    def _failed(self, pending: _Pending, value: Any) -> None:
        if type(value) is list and len(value) == 4 and type(value[0]) is str:
            failure = Failure(value[0], bool(value[1]), bool(value[2]), bool(value[3]))
        else:
            failure = Failure("a failure that cannot be decoded")
        if failure.final or failure.full or pending.target:
            self._give_up(pending, failure)
        else:
            self._send_later(pending)

    def _send_later(self, pending: _Pending) -> None:
        """Have the next tick send it again; a long one only after a moment, or it would be all that
        the links do."""
        pending.sent_to = ""
        if pending.size_bytes >= LONG_BYTES_MIN:
            pending.not_before = self.clock() + LONG_PAUSE_S


def _outbox_key(node: str, *, long: bool) -> str:
    return node if long else f"{node} short"


def _give(done: Callable[[Any], None], outcome: Any) -> None:
    """Give an answer: whoever cannot take it ends alone."""
    try:
        done(outcome)
    except Exception as error:
        tell(logger, "an answer could not be given", error)


def _listed(names: Sequence[str]) -> str:
    """`n1`, `n1 and n2`, `n1, n2 and n3`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
