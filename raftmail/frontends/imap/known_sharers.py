"""Who shares mailboxes with all users of a domain, as the root shard told it."""

from __future__ import annotations

from typing import Final

from raftmail.mail.failures import Unavailable
from raftmail.mail.queries import ListSharers
from raftmail.mail.rights import everybody
from raftmail.service.service import Reads

PATIENCE_S: Final = 2.0
"""How long the root is waited for, where its last answer is known."""

DOMAINS_MAX: Final = 1000
"""Domains of which the last answer is kept; then that of the first is forgotten."""


class KnownSharers:
    """Asks the root each time. While it does not answer, the answer before is good enough: nobody
    begins to share with all users of a domain meanwhile, and rights are looked at elsewhere. So
    LIST of own mailboxes does not depend on the root."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, ...]] = {}

    async def ask(self, service: Reads, user: str, deadline_s: float) -> tuple[str, ...]:
        """Owners that share with all users of a user's domain. Raises `Unavailable` while nothing
        is known of them."""
        name = everybody(user)
        last = self._last.get(name)
        patience_s = deadline_s if last is None else min(PATIENCE_S, deadline_s)
        try:
            found = await service.query(ListSharers(name), deadline_s=patience_s)
        except Unavailable:
            if last is None:
                raise
            return last
        assert isinstance(found, tuple)
        told = tuple(owner for owner in found if isinstance(owner, str))
        if last is None and len(self._last) >= DOMAINS_MAX:
            del self._last[next(iter(self._last))]
        self._last[name] = told
        return told
