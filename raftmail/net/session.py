"""What a front end puts on a connection: a protocol without I/O of its own.

A front end brings a class of its own below `Session`. `start` and `receive` are all that a small
one needs; the rest is for those that answer later, hold much, or watch the time themselves.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Bye(Enum):
    """Why a connection ends from this side, without a fault of the session's."""

    FULL = "too many connections"
    """It is one too many: nothing was said yet."""
    STOPPING = "the node stops"
    """The listener stops."""
    BROKEN = "what came cannot be read"
    """What came is not what compression makes."""


class Session:
    """One client's conversation. All calls come on the event loop.

    Either `start` is called once, or `bye`; then `receive` and the others; `end` is the last, and
    is called whatever happens. An error that a method raises ends this connection alone.
    """

    half_close: ClassVar[bool] = False
    """Whether answers are still sent when the other side has closed its half."""

    @property
    def known(self) -> bool:
        """The other side has said what only a client of this protocol says: no stranger now."""
        return True

    @property
    def blocked(self) -> bool:
        """What came waits for this side: nothing more is to be read."""
        return False

    @property
    def busy(self) -> bool:
        """Answers are owed: a half-closed connection stays, and a stop waits."""
        return False

    @property
    def lingers(self) -> bool:
        """Work is under way that outlives the connection: a stop waits for it."""
        return False

    @property
    def held_bytes(self) -> int:
        """What came and is held here, for the budget of all connections."""
        return 0

    def start(self) -> None:
        """The connection is served: greet."""

    def receive(self, data: bytes) -> None:
        """Take what came."""
        raise NotImplementedError

    def run(self) -> None:
        """Go on: `Connection.resume_soon` asked for it, or what was written was taken."""

    def secured(self) -> None:
        """The TLS handshake that `Connection.start_tls` began is done."""

    def check(self, now: float) -> None:
        """Now and then: end what has taken too long."""

    def postpone(self, paused_s: float) -> None:
        """The other side was not read from for so long, and is not to blame for it."""

    def bye(self, why: Bye, text: str) -> None:
        """Say why the connection ends, and close it."""

    def drain(self, now: float) -> None:
        """The listener stops: close as soon as nothing is under way."""
        self.bye(Bye.STOPPING, Bye.STOPPING.value)

    def cut(self) -> None:
        """The time of a stop is over: give up what is under way. The connection is closed next."""

    def end(self) -> None:
        """The connection is gone: nothing can be said any more."""
