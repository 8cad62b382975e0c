"""What the sessions of one listener share."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from raftmail.frontends.pop3.limits import Pop3Limits
from raftmail.mail.budget import Budget
from raftmail.service.service import Service


@dataclass(slots=True, repr=False)
class Pop3Context:
    """The node as mail programs see it. `budget` has what maildrops and bodies of all sessions
    hold."""

    service: Service
    budget: Budget
    limits: Pop3Limits = field(default_factory=Pop3Limits)
    tls: ssl.SSLContext | None = None
    """For STLS."""
