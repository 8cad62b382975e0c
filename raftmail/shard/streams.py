"""Requests with long bodies: these go to the followers, and to the own disk, ahead of the entry.

An entry whose bodies are on their way keeps all that follow it in the log from being acknowledged. So a
request with a long body is proposed only when this replica and a majority of the voters have said that
they hold it; or after a while, when a follower does not say so: it then asks for what it lacks.

Invariants:

1. A request is here until it is let go to be proposed, or failed.
2. A node is sent nothing more while `sending_bytes_max` that it was sent lately are not acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from raftmail.mail.service import Failure
from raftmail.shard.requests import Waiting


@dataclass(slots=True, repr=False)
class _Stream:
    """`here` are long bodies that this replica has not stored yet, `there` those that nodes have not acknowledged."""

    request: Waiting
    here: set[bytes]
    there: dict[str, set[bytes]]
    until: float


@dataclass(slots=True, repr=False)
class Streams:
    """`let_go` is called with a request that may be proposed."""

    let_go: Callable[[Waiting], None]
    sending_bytes_max: int
    patience_s: float
    lost_s: float
    _streams: list[_Stream] = field(default_factory=list)
    _sending: dict[str, dict[bytes, tuple[int, float]]] = field(default_factory=dict)
    """By node, what it was sent and has not acknowledged: the length, and when."""

    def __bool__(self) -> bool:
        return bool(self._streams)

    def begin(self, now: float, request: Waiting, here: Iterable[bytes]) -> None:
        """Take a request. `here` are the bodies that are yet to be stored by this replica."""
        self._streams.append(_Stream(request, set(here), {}, now + self.patience_s))

    def may_send(self, now: float, node: str, digest: bytes, size: int) -> bool:
        """Whether a body is to be sent to a node now; it then counts until it is acknowledged."""
        if self.is_sending(now, node, digest):
            return False
        sending = self._sending.setdefault(node, {})
        sent = sum(size for size, at in sending.values() if now < at + self.lost_s)
        if sent and sent + size > self.sending_bytes_max:
            return False
        sending[digest] = (size, now)
        return True

    def expect(self, node: str, digest: bytes) -> None:
        """The newest request waits for a node to have a body."""
        self._streams[-1].there.setdefault(node, set()).add(digest)

    def is_sending(self, now: float, node: str, digest: bytes) -> bool:
        """Whether a body is on its way to a node. After `lost_s` it is not believed any more: a link may have had no room for it."""
        sent = self._sending.get(node, {}).get(digest)
        return sent is not None and now < sent[1] + self.lost_s

    def stored(self, digest: bytes) -> None:
        """This replica has a body."""
        for stream in self._streams:
            stream.here.discard(digest)

    def acknowledged(self, node: str, digest: bytes) -> None:
        """A node has a body."""
        self._sending.get(node, {}).pop(digest, None)
        for stream in self._streams:
            stream.there.get(node, set()).discard(digest)

    def disconnected(self, node: str) -> None:
        """What was on its way to a node is lost."""
        self._sending.pop(node, None)
        for stream in self._streams:
            stream.there.pop(node, None)

    def release(self, now: float, voters: Collection[str], own: str) -> None:
        """Let those requests go that a majority holds the bodies of, or that have waited for long enough."""
        if not self._streams:
            return
        majority = len(voters) // 2 + 1
        staying: list[_Stream] = []
        for stream in self._streams:
            holders = {node for node, lacking in stream.there.items() if not lacking}
            held = len(holders.intersection(voters) | ({own} & set(voters))) >= majority
            if not stream.here and (held or now >= stream.until):
                self.let_go(stream.request)
            else:
                staying.append(stream)
        self._streams = staying

    def fail(self, digest: bytes, failure: Failure) -> int:
        """A body could not be stored here: end the requests that bring it. Returns the bytes that they held."""
        return self._end([s for s in self._streams if digest in s.here], failure)

    def fail_all(self, text: str) -> None:
        """None of them had an effect."""
        self._end(list(self._streams), Failure(text))
        self._sending.clear()

    def _end(self, streams: Collection[_Stream], failure: Failure) -> int:
        ended = [stream.request for stream in streams]
        self._streams = [s for s in self._streams if s.request not in ended]
        for request in ended:
            request.done(failure)
        return sum(request.size for request in ended)
