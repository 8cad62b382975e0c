"""What the sessions of one listener share."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from raftmail.frontends.imap.limits import ImapLimits
from raftmail.mail.budget import Budget
from raftmail.service.service import Service


@dataclass(slots=True, repr=False)
class ImapContext:
    """The node as mail programs see it. `wall_s` is Unix time; `budget` has what literals of all
    sessions hold."""

    service: Service
    wall_s: Callable[[], float]
    budget: Budget
    limits: ImapLimits = field(default_factory=ImapLimits)
    tls: ssl.SSLContext | None = None
    """For STARTTLS."""
