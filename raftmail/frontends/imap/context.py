"""What the sessions of one listener share."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from raftmail.frontends.imap.known_sharers import KnownSharers
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.imap.previews import PreviewCache
from raftmail.mail.budget import Budget
from raftmail.service.service import Service


@dataclass(slots=True, repr=False)
class ImapContext:
    """The node as mail programs see it. `wall_s` is Unix time; `budget` has what literals and
    bodies of all sessions hold; `fetching` bodies whose size is not known yet."""

    service: Service
    wall_s: Callable[[], float]
    budget: Budget
    fetching: asyncio.Semaphore
    limits: ImapLimits = field(default_factory=ImapLimits)
    tls: ssl.SSLContext | None = None
    """For STARTTLS."""
    previews: PreviewCache = field(default_factory=PreviewCache)
    known_sharers: KnownSharers = field(default_factory=KnownSharers)
