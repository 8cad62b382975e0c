"""Requests and answers between peers, on top of one-way frames: FWD asks, FWA answers.

The payload of either begins with the number of the call, 8 bytes big-endian, given by who asks.
A call has exactly one outcome: an answer, or None when the link went down or the time was up; then
it may have been done or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import TypeAlias

ASK = "FWD"
ANSWER = "FWA"
CALL_KINDS = (ASK, ANSWER)

_NUMBER = Struct(">Q")

Send: TypeAlias = Callable[[str, int, str, bytes | Sequence[bytes]], bool]
Answer: TypeAlias = Callable[[bytes | Sequence[bytes]], None]
Serve: TypeAlias = Callable[[str, int, bytes, Answer], None]
"""Called with peer, shard, what is asked, and where the answer goes, now or later, once."""
Done: TypeAlias = Callable[[bytes | None], None]


class Calls:
    """Both sides of calls with all peers. Without clock: `expire` is told the time.

    Invariants: each `done` is called exactly once; at most `calls_max` calls wait for an answer."""

    def __init__(self, send: Send, serve: Serve, *, calls_max: int = 65_536) -> None:
        self._send = send
        self._serve = serve
        self._calls_max = calls_max
        self._last = 0
        self._waiting: dict[int, tuple[str, float, Done]] = {}

    def call(
        self,
        peer: str,
        shard: int,
        payload: bytes | Sequence[bytes],
        deadline: float,
        done: Done,
    ) -> bool:
        """Ask a peer. `deadline` is on the clock of `expire`. False, and `done` is not called, when
        nothing was sent: the link is down, or too many calls wait."""
        if len(self._waiting) >= self._calls_max:
            return False
        self._last = number = self._last + 1
        pieces = (payload,) if isinstance(payload, bytes) else payload
        # First, since `send` may find the link dead and call `on_down`.
        self._waiting[number] = (peer, deadline, done)
        if self._send(peer, shard, ASK, (_NUMBER.pack(number), *pieces)):
            return True
        return self._waiting.pop(number, None) is None

    def on_frame(self, peer: str, shard: int, kind: str, payload: bytes) -> None:
        """A frame of one of `CALL_KINDS` came."""
        if len(payload) < _NUMBER.size:
            return
        (number,) = _NUMBER.unpack_from(payload)
        body = payload[_NUMBER.size :]
        if kind == ASK:
            self._serve(peer, shard, body, self._answerer(peer, shard, payload[: _NUMBER.size]))
            return
        waiting = self._waiting.get(number)
        if waiting is not None and waiting[0] == peer:
            del self._waiting[number]
            waiting[2](body)

    def _answerer(self, peer: str, shard: int, number: bytes) -> Answer:
        def answer(payload: bytes | Sequence[bytes]) -> None:
            pieces = (payload,) if isinstance(payload, bytes) else payload
            self._send(peer, shard, ANSWER, (number, *pieces))

        return answer

    def on_down(self, peer: str) -> None:
        """The link to a peer is down: what it was asked has no answer."""
        self._give_up([n for n, waiting in self._waiting.items() if waiting[0] == peer])

    def expire(self, now: float) -> None:
        """Some times a second: what is past its deadline has no answer."""
        self._give_up([n for n, waiting in self._waiting.items() if waiting[1] <= now])

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            waiting = self._waiting.pop(number, None)
            if waiting is not None:
                waiting[2](None)
