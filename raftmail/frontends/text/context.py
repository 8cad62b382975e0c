"""What the sessions of a listener share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from raftmail.frontends.text.limits import TextLimits
from raftmail.mail.budget import Budget
from raftmail.mail.first_mailboxes import FirstMailboxes
from raftmail.service.service import Service

Invitation: TypeAlias = Callable[[str], Awaitable[bytes | None]]
_BODIES_AT_ONCE = 32


@dataclass(slots=True, repr=False)
class TextContext:
    """The node as its clients see it."""

    service: Service
    node: str
    cluster: str
    wall_s: Callable[[], float]
    """Unix time, for UIDVALIDITY and for messages that come without a date."""
    limits: TextLimits = field(default_factory=TextLimits)
    invitation: Invitation | None = None
    """The sealed bundle of an invitation that is open now, by its id. Raises `Unavailable`."""
    first_mailboxes: FirstMailboxes = ()
    """What a user who is added has beside INBOX."""
    budget: Budget = field(init=False)
    fetching: asyncio.Semaphore = field(init=False)
    """Bodies being read, which are in memory before anyone knows their size."""

    def __post_init__(self) -> None:
        self.budget = Budget(self.limits.total_buffered_bytes_max)
        self.fetching = asyncio.Semaphore(_BODIES_AT_ONCE)
