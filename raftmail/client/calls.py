"""One call: its line, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from raftmail.frontends.text.values import read_executed
from raftmail.mail.queries import MailboxInfo
from raftmail.mail.results import Executed, Result
from raftmail.net.lines import Line


@dataclass(slots=True)
class ClientListing:
    """The untagged lines of an answer, and the mailboxes that the node has introduced so far, by
    its own numbers."""

    lines: list[Line]
    mailboxes: Mapping[int, MailboxInfo]


ReadAnswer: TypeAlias = Callable[[Line, ClientListing], Any]
"""Makes a value of an OK and what came before it. Raises ValueError, KeyError,
`net.lines.ProtocolViolation`."""

ReadResult: TypeAlias = Callable[[Mapping[bytes, bytes]], Result]

Key: TypeAlias = tuple[str, str]
"""User and mailbox name."""


class ClientCall:
    """A request that waits for its answer, over any number of connections.

    `line` is the same whenever it is sent: the tag never returns, and neither does `seq`, which
    is 0 for calls that are no writes. `repeatable` calls are sent again when a connection was
    lost."""

    __slots__ = (
        "boxes",
        "deadline",
        "doubt",
        "future",
        "in_flight",
        "line",
        "listing",
        "not_before",
        "pause_s",
        "read",
        "repeatable",
        "result",
        "said",
        "sent_at",
        "seq",
        "tag",
    )

    def __init__(
        self,
        tag: bytes,
        line: bytes,
        future: asyncio.Future[Any],
        deadline: float,
        *,
        read: ReadAnswer | None = None,
        result: ReadResult | None = None,
        boxes: tuple[tuple[int, Key], ...] = (),
        seq: int = 0,
        listing: bool = False,
        repeatable: bool = True,
    ) -> None:
        self.tag = tag
        self.line = line
        self.future = future
        self.deadline = deadline
        self.read = read
        self.result = result
        self.boxes = boxes
        """Mailbox numbers in the line, and what they stand for."""
        self.seq = seq
        self.listing = listing
        """Its answer has untagged lines."""
        self.repeatable = repeatable
        self.sent_at = -1.0
        self.in_flight = False
        """It was sent, and has no answer."""
        self.doubt = False
        """An attempt before this one may have had its effect."""
        self.not_before = 0.0
        self.pause_s = 0.0
        self.said = ""
        """Why a node that was asked could not do it, the last one."""

    @property
    def outcome_unknown(self) -> bool:
        """Whether giving up now leaves open if it takes effect."""
        return (self.doubt or self.in_flight) and (self.seq > 0 or not self.repeatable)

    def value(self, line: Line, listing: ClientListing) -> Any:
        """What an OK means. Raises as `ReadAnswer` does."""
        if self.result is not None:
            return read_executed(line, self.result)
        assert self.read is not None
        return self.read(line, listing)

    def value_of_atoms(self, words: list[bytes]) -> Executed:
        """What an OK to a write means, when it is atoms with names only. Raises ValueError,
        KeyError."""
        assert self.result is not None
        named = dict([word.split(b"=", 1) for word in words[2:]])
        return Executed(
            self.result(named),
            int(named[b"shard"]),
            int(named[b"index"]),
            named[b"master"].decode(),
        )
