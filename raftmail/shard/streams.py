"""Requests with long bodies: these go to the followers, and to the own disk, ahead of the entry.

An entry whose bodies are on their way keeps all that follow it in the log from being acknowledged.
So a request with a long body is proposed only when this replica and a majority of the voters have
said that they hold it. When they do not in time it fails, without effect: it never keeps others
waiting.

Invariants:

1. A request is here until it is let go to be proposed, or failed.
2. A node is sent a body only as `Memory.begin_sending` allows; the others wait for it to
   acknowledge those. So are the long ones that it asks for (`lending`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from raftmail.mail.failures import Failure
from raftmail.shard.memory import Memory
from raftmail.shard.proposals import Waiting

_LATE = Failure("the other replicas did not take the body in time")


_SLOWEST_BYTES_PER_S: Final = 1 << 20
"""Of links and disks that other work keeps busy: what takes longer is given up."""


@dataclass(slots=True, repr=False)
class _Stream:
    """`here` are long bodies that this replica has not stored yet, `there` those that nodes have
    not acknowledged."""

    request: Waiting
    bodies: Mapping[bytes, Any]
    here: set[bytes]
    asked_until: float
    until: float
    there: dict[str, set[bytes]] = field(default_factory=dict)


@dataclass(slots=True, repr=False)
class Streams:
    """`let_go` is called with a request that may be proposed, `failed` with one that may not, and
    why. Once whoever asked has given up, `forget_bodies` is called: the bodies are on the disk
    here, and those that were sent may yet be acknowledged. Whoever asks again then meets a delivery
    that is known, so that large mail comes through where all of it takes longer than anybody
    waits."""

    let_go: Callable[[Waiting], None]
    failed: Callable[[Waiting, Failure], None]
    forget_bodies: Callable[[Waiting], None]
    memory: Memory
    patience_s: float
    lost_s: float
    _streams: list[_Stream] = field(default_factory=list)
    _sending: dict[str, dict[bytes, tuple[int, float]]] = field(default_factory=dict)
    """By node, what it was sent and has not acknowledged: the length, and when."""

    def __bool__(self) -> bool:
        return bool(self._streams)

    def begin(
        self, now: float, request: Waiting, bodies: Mapping[bytes, Any], here: Iterable[bytes]
    ) -> None:
        """Take a request with its long bodies. `here` are those that are yet to be stored by this
        replica."""
        patience_s = self.patience_s + _slowly_s(sum(len(body) for body in bodies.values() if body))
        asked_until = min(request.until, now + patience_s)
        until = asked_until + patience_s
        self._streams.append(_Stream(request, bodies, set(here), asked_until, until))

    def to_send(self, now: float, nodes: Sequence[str]) -> list[tuple[str, bytes, Any]]:
        """Bodies that are to be sent to nodes now (node, hash, body); what has no room waits for
        the next call."""
        frames: list[tuple[str, bytes, Any]] = []
        for stream in self._streams:
            for node in nodes:
                lacking = stream.there.setdefault(node, set(stream.bodies))
                for digest in lacking:
                    body = stream.bodies[digest]
                    if body is not None and self.begin_sending(now, node, digest, len(body)):
                        frames.append((node, digest, body))
        return frames

    def begin_sending(self, now: float, node: str, digest: bytes, size: int) -> bool:
        """Whether a body may be sent to a node now; it then is on its way, until it is
        acknowledged, `not_sent`, or lost."""
        if self.is_sending(now, node, digest):
            return False
        sending = self._sending.setdefault(node, {})
        if digest in sending:
            self._end_sending(node, digest)
        if not self.memory.begin_sending(node, size):
            return False
        sending[digest] = (size, now)
        return True

    def is_sending(self, now: float, node: str, digest: bytes) -> bool:
        """Whether a body is on its way to a node. After `lost_s`, and longer for a long one, it is
        not believed any more: a link may have had no room for it."""
        sent = self._sending.get(node, {}).get(digest)
        return sent is not None and not self._is_lost(now, *sent)

    def not_sent(self, node: str, digest: bytes) -> None:
        """A body is not on its way to a node after all."""
        if digest in self._sending.get(node, ()):
            self._end_sending(node, digest)

    def _is_lost(self, now: float, size: int, at: float) -> bool:
        return now >= at + self.lost_s + _slowly_s(size)

    def _end_sending(self, node: str, digest: bytes) -> None:
        size, _ = self._sending[node].pop(digest)
        self.memory.end_sending(node, size)

    def forget_lost(self, now: float) -> None:
        """What was not acknowledged for too long keeps nothing else from being sent."""
        for node, sending in self._sending.items():
            for digest in [d for d, sent in sending.items() if self._is_lost(now, *sent)]:
                self._end_sending(node, digest)

    def stored(self, digest: bytes) -> None:
        """This replica has a body."""
        for stream in self._streams:
            stream.here.discard(digest)

    def acknowledged(self, node: str, digest: bytes) -> None:
        """A node has a body."""
        self.not_sent(node, digest)
        for stream in self._streams:
            if node in stream.there:
                stream.there[node].discard(digest)

    def disconnected(self, node: str) -> None:
        """What was on its way to a node is lost; it is sent again when there is a link."""
        for digest in list(self._sending.get(node, ())):
            self._end_sending(node, digest)
        for stream in self._streams:
            stream.there.pop(node, None)

    def release(self, now: float, voters: Collection[str], own: str) -> None:
        """Let those requests go that a majority holds the bodies of, and fail those that have
        waited for too long."""
        majority = len(voters) // 2 + 1
        streams, self._streams = self._streams, []
        for stream in streams:
            holders = {node for node, lacking in stream.there.items() if not lacking}
            held = len(holders.intersection(voters) | ({own} & set(voters))) >= majority
            if not stream.here and held:
                self.let_go(stream.request)
            elif now >= (stream.asked_until if stream.here else stream.until):
                self.failed(stream.request, _LATE)
            else:
                if now >= stream.asked_until and stream.request.blobs:
                    stream.bodies = dict.fromkeys(stream.bodies)
                    self.forget_bodies(stream.request)
                self._streams.append(stream)

    def fail(self, digest: bytes, failure: Failure) -> None:
        """A body could not be stored here: end the requests that bring it."""
        streams = self._streams
        self._streams = [s for s in streams if digest not in s.here]
        for stream in streams:
            if digest in stream.here:
                self.failed(stream.request, failure)

    def fail_all(self, text: str) -> None:
        """None of them had an effect."""
        streams, self._streams = self._streams, []
        for stream in streams:
            self.failed(stream.request, Failure(text))
        for node, sending in self._sending.items():
            for digest in list(sending):
                self._end_sending(node, digest)


def _slowly_s(size_bytes: int) -> float:
    return size_bytes / _SLOWEST_BYTES_PER_S
