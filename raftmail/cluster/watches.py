"""Watching users' mail from any node: at the own replica of their shard, or at another node's.

A watch that has no source (no replica here, no link to one) waits for one. Whenever its source
changes the watcher hears `Missed`, so it compares what it knows with what there is.

Invariants:

1. A watch has at most one source: this node's replica, or one node with a replica.
2. From a change of source to the first change told, nothing is lost: `Missed` comes first.
3. What another node watches here is bounded by `USERS_PER_NODE_MAX`, and ends with its link.
4. A source may serve reads: a replica that is set aside or resynced hears nothing for that time.
5. What waits to be told to another node is bounded by `CHANGES_PER_TURN_MAX` changes, or else by
   one `Missed` for each user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgpack

from raftmail.cluster.rpc import BadCall, RpcFrameKind
from raftmail.cluster.rpc_server import NodeLinks
from raftmail.cluster.view import ROOT_SHARD, ClusterView
from raftmail.mail.changes import (
    CHANGES_PER_FRAME_MAX,
    Change,
    MailboxChanged,
    Missed,
    change_from_wire,
    change_to_wire,
)
from raftmail.mail.packing import CodecError
from raftmail.shard.replica import Replica
from raftmail.shard.status import Capability

USERS_PER_NODE_MAX = 200_000
"""Users that one other node may watch here; more are refused by silence, and asked for again."""

CHANGES_PER_TURN_MAX = 65_536
"""Changes for one other node in one turn; more become one `Missed` for each of their users."""

USERS_PER_FRAME_MAX = 4096
SWEEP_S = 0.5
"""How often it is looked whether every watch still has its source. Idle sessions are many."""

RENEW_S = 10.0
"""How often a node says again what it watches elsewhere, in case the other end forgot."""

Hear = Callable[[Change], None]


class Watching(Protocol):
    """What watching needs of the router."""

    node: str
    view: ClusterView
    links: NodeLinks

    @property
    def replicas(self) -> Mapping[int, Replica]: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    def own(self, shard: int) -> Replica | None: ...


@dataclass(slots=True, eq=False, repr=False)
class WatchHandle:
    """One session's interest in a user's mail. `close` it."""

    user: str
    shard: int
    hear: Hear
    _watches: Watches

    def close(self) -> None:
        """Hear nothing more. May be called twice."""
        self._watches.end(self)


@dataclass(slots=True, eq=False, repr=False)
class _Watched:
    """All watches of one user here, and where their changes come from."""

    user: str
    shard: int
    hearers: dict[WatchHandle, None] = field(default_factory=dict)
    replica: Replica | None = None
    node: str = ""
    asked_at: float = 0.0
    turned_away: int = 0

    def tell(self, change: Change) -> None:
        """Hand a change to every session."""
        for watch in list(self.hearers):
            watch.hear(change)


@dataclass(slots=True, repr=False)
class Watches:
    """Both ends: the watches of this node's sessions, and those of other nodes."""

    router: Watching
    _users: dict[str, _Watched] = field(default_factory=dict)
    _remote: dict[str, dict[str, tuple[Replica, Hear]]] = field(default_factory=dict)
    _out: dict[str, dict[object, Change]] = field(default_factory=dict)
    """By node; of one mailbox the newest change."""
    _sweep_at: float = 0.0

    # The sessions' end

    def begin(self, user: str, hear: Hear) -> WatchHandle:
        """Have `hear` called with every change to a user's mail, on the event loop."""
        watched = self._users.get(user)
        if watched is None:
            watched = self._users[user] = _Watched(user, self.router.view.shard_of(user))
        watch = WatchHandle(user, watched.shard, hear, self)
        watched.hearers[watch] = None
        self._find_source(watched)
        return watch

    def end(self, watch: WatchHandle) -> None:
        """See `WatchHandle.close`."""
        watched = self._users.get(watch.user)
        if watched is None or watched.hearers.pop(watch, watch) is not None:
            return
        if not watched.hearers:
            self._leave_source(watched)
            del self._users[watch.user]

    def tick(self, now: float) -> None:
        """Find sources for watches that have lost theirs, once in `SWEEP_S`."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        for watched in list(self._users.values()):
            self._find_source(watched)
            if watched.node and now - watched.asked_at >= RENEW_S:
                self._ask(watched)
        for node, users in list(self._remote.items()):
            for user, (replica, hear) in list(users.items()):
                if self._readable(replica.shard) is not replica:
                    del users[user]
                    replica.unwatch(user, hear)
                    self._note(node, Missed(user))

    def _find_source(self, watched: _Watched) -> None:
        router = self.router
        own = self._readable(watched.shard)
        if own is not None:
            if watched.replica is own:
                return
            self._leave_source(watched)
            watched.replica = own
            own.watch(watched.user, watched.tell)
        elif watched.node and router.links.is_up(watched.node):
            return
        else:
            self._leave_source(watched)
            members = [n for n in router.view.members(watched.shard) if n != router.node]
            reached = list(filter(router.links.is_up, members))
            if not reached:
                return
            watched.node = reached[watched.turned_away % len(reached)]
            self._ask(watched)
        watched.tell(Missed(watched.user))

    def _readable(self, shard: int) -> Replica | None:
        """This node's replica of a shard, if it may be read."""
        own = self.router.own(shard)
        return own if own is not None and own.may(Capability.READ) else None

    def _leave_source(self, watched: _Watched) -> None:
        if watched.replica is not None:
            watched.replica.unwatch(watched.user, watched.tell)
            watched.replica = None
        if watched.node:
            self._send(watched.node, RpcFrameKind.WATCH, [watched.shard, [], [watched.user]])
            watched.node = ""

    def _ask(self, watched: _Watched) -> None:
        watched.asked_at = self.router.clock()
        self._send(watched.node, RpcFrameKind.WATCH, [watched.shard, [watched.user], []])

    # The other nodes' end

    def receive(self, node: str, kind: str, payload: bytes) -> None:
        """A frame of another node. Raises `BadCall`."""
        if kind == RpcFrameKind.WATCH:
            shard, begun, ended = _decode_watch(payload)
            self._serve(node, shard, begun, ended)
            return
        for change in _decode_changes(payload):
            watched = self._users.get(change.user)
            if watched is not None and watched.node == node:
                if isinstance(change, Missed):
                    watched.node = ""  # its replica is gone, or was resynced: look again soon
                    watched.turned_away += 1
                watched.tell(change)

    def _serve(self, node: str, shard: int, begun: Iterable[str], ended: Iterable[str]) -> None:
        users = self._remote.setdefault(node, {})
        for user in ended:
            found = users.pop(user, None)
            if found is not None:
                found[0].unwatch(user, found[1])
        replica = self._readable(shard)
        for user in begun:
            if replica is None:
                self._note(node, Missed(user))
            elif user not in users and len(users) < USERS_PER_NODE_MAX:
                hear = _Forward(self, node)
                users[user] = (replica, hear)
                replica.watch(user, hear)

    def disconnected(self, node: str) -> None:
        """The link to a node is gone: nothing is told to it, or heard from it, any more."""
        for user, (replica, hear) in self._remote.pop(node, {}).items():
            replica.unwatch(user, hear)
        self._out.pop(node, None)
        for watched in self._users.values():
            if watched.node == node:
                watched.node = ""
                self._sweep_at = 0.0

    def flush(self) -> None:
        """Send the changes of this turn of the loop."""
        if not self._out:
            return
        out, self._out = self._out, {}
        for node, changes in out.items():
            newest = list(changes.values())
            for at in range(0, len(newest), CHANGES_PER_FRAME_MAX):
                some = newest[at : at + CHANGES_PER_FRAME_MAX]
                self._send(node, RpcFrameKind.CHANGES, [change_to_wire(change) for change in some])

    def _note(self, node: str, change: Change) -> None:
        out = self._out.setdefault(node, {})
        mailbox = change.mailbox if isinstance(change, MailboxChanged) else 0
        key = (change.user, type(change), mailbox)
        out.pop(key, None)
        out[key] = change
        if len(out) > CHANGES_PER_TURN_MAX:
            users = dict.fromkeys(one.user for one in out.values())
            out.clear()
            out.update(((user, Missed, 0), Missed(user)) for user in users)
        self.router.links.wake(-1)

    def _send(self, node: str, kind: RpcFrameKind, value: object) -> None:
        self.router.links.send(node, ROOT_SHARD, kind, (msgpack.packb(value, use_bin_type=True),))


@dataclass(slots=True, eq=False, repr=False)
class _Forward:
    """Tells another node what a replica here tells."""

    watches: Watches
    node: str

    def __call__(self, change: Change) -> None:
        self.watches._note(self.node, change)


def _unpack(payload: bytes) -> object:
    try:
        return msgpack.unpackb(payload, raw=False, use_list=True, strict_map_key=True)
    except Exception as e:  # msgpack raises many kinds
        raise BadCall(f"a frame of changes that cannot be decoded: {e}") from None


def _decode_watch(payload: bytes) -> tuple[int, list[str], list[str]]:
    """Shard, users to watch, users to watch no more. Raises `BadCall`."""
    value = _unpack(payload)
    if (
        type(value) is not list
        or tuple(map(type, value)) != (int, list, list)
        or len(value[1]) + len(value[2]) > USERS_PER_FRAME_MAX
        or any(type(user) is not str for user in (*value[1], *value[2]))
    ):
        raise BadCall("a watch of the wrong shape")
    return value[0], value[1], value[2]


def _decode_changes(payload: bytes) -> list[Change]:
    """Raises `BadCall`."""
    value = _unpack(payload)
    if type(value) is not list or len(value) > CHANGES_PER_FRAME_MAX:
        raise BadCall("changes of the wrong shape")
    try:
        return [change_from_wire(raw) for raw in value]
    except CodecError as e:
        raise BadCall(str(e)) from None
