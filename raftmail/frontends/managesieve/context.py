"""What the sessions of one listener share."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from raftmail.frontends.managesieve.limits import ManageSieveLimits
from raftmail.mail.budget import Budget
from raftmail.service.service import Service


@dataclass(slots=True, repr=False)
class ManageSieveContext:
    """The node as mail programs see it. `budget` has what scripts that are under way hold."""

    service: Service
    budget: Budget
    limits: ManageSieveLimits = field(default_factory=ManageSieveLimits)
    tls: ssl.SSLContext | None = None
    """For STARTTLS."""
