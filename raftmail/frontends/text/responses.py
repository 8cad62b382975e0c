"""Where a session's answers leave, and what is owed: shared by its reads and writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from raftmail.frontends.text.requests import RequestRefused
from raftmail.mail.budget import Budget
from raftmail.mail.failures import Failure
from raftmail.net.lines import quote_text


class Channel(Protocol):
    """What a session asks of its connection (`net.connection.Connection`)."""

    congested: bool
    """The other side has left `output_bytes_max` of answers unread."""
    began_at: float
    heard_at: float
    """When the connection was made, and when something came last, by the loop's clock."""

    def write(self, data: bytes) -> None:
        """Send; what is written in one turn of the loop leaves together."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run as a task, which is cancelled when the connection ends."""

    def resume_soon(self) -> None:
        """Call `Session.run` in the next turn of the loop."""

    async def drained(self) -> None:
        """Wait until it is not congested."""

    def compress(self) -> None:
        """Compress both directions, from the next byte on."""

    def detach(self) -> asyncio.Transport:
        """Leave the transport to another protocol, and the session behind."""

    def hang_up(self) -> None:
        """Send what was written, and close."""


@dataclass(slots=True, repr=False)
class ResponseWriter:
    """Invariants:
    1. `outstanding` commands have begun and have no answer yet.
    2. `held_bytes` are taken from the budget for literals, `working_bytes` of them by outstanding
       commands; once the session has ended there are no others."""

    write: Callable[[bytes], None]
    resume_soon: Callable[[], None]
    budget: Budget
    outstanding: int = 0
    held_bytes: int = 0
    working_bytes: int = 0
    ended: bool = False
    waiting: bool = False
    """Lines wait for `outstanding` or `held_bytes` to fall."""

    def begin(self, literal_bytes: int = 0) -> None:
        """A command goes to work, with literals that were admitted."""
        self.outstanding += 1
        self.working_bytes += literal_bytes

    def finish(self, literal_bytes: int = 0) -> None:
        """A command has its answer, or needs none any more."""
        self.outstanding -= 1
        if literal_bytes:
            self.working_bytes -= literal_bytes
            self.give_back(literal_bytes)
        if self.waiting:
            self.waiting = False
            self.resume_soon()

    def take(self, count: int) -> bool:
        """Reserve room for a literal, or say False."""
        if not self.budget.take(count):
            return False
        self.held_bytes += count
        return True

    def give_back(self, count: int) -> None:
        """Free what was reserved."""
        if count:
            self.held_bytes -= count
            self.budget.give(count)

    def end(self) -> None:
        """The connection is gone: answers are dropped from here on."""
        if not self.ended:
            self.ended = True
            self.give_back(self.held_bytes - self.working_bytes)

    def ok(self, tag: bytes, rest: bytes = b"") -> None:
        self._send(b"%b OK%b\r\n" % (tag, rest))

    def no(self, tag: bytes, refusal: RequestRefused) -> None:
        self._send(b"%b NO %b %b\r\n" % (tag, refusal.code.encode(), quote_text(refusal.text)))

    def bad(self, tag: bytes, text: str) -> None:
        self._send(b"%b BAD %b\r\n" % (tag, quote_text(text)))

    def retry(self, tag: bytes, failure: Failure) -> None:
        self._send(
            b"%b RETRY %b%b%b\r\n"
            % (
                tag,
                quote_text(failure.text),
                b" outcome=unknown" if failure.unknown else b"",
                b" full=yes" if failure.full else b"",
            )
        )

    def _send(self, data: bytes) -> None:
        if not self.ended:
            self.write(data)
