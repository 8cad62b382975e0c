"""Who is a user: asked before anything is made for somebody, so that no mail goes where nobody can find it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from raftmail.frontends.text.requests import RequestRefused
from raftmail.mail.queries import GetUser
from raftmail.mail.results import Code
from raftmail.service.service import Service

KNOWN_S = 10.0
"""So long a user who was there is taken to be there still: mail for one who is being removed may be taken meanwhile, and goes with the
purge."""

KNOWN_MAX = 50_000


@dataclass(slots=True, repr=False)
class KnownUsers:
    """Of a node's sessions. Users live in the root shard, and their mailboxes in others: so this is asked here, and not when a command
    is applied."""

    service: Service
    _until: dict[str, float] = field(default_factory=dict)

    def is_known(self, user: str) -> bool:
        """Whether a user was there a moment ago; False also when nobody has asked."""
        return self._until.get(user, 0.0) > asyncio.get_running_loop().time()

    def forget(self, user: str) -> None:
        """One is being removed."""
        self._until.pop(user, None)

    async def check(self, users: Iterable[str], deadline_s: float) -> None:
        """Raises `RequestRefused` for one who is no user, `Unavailable`."""
        for user in dict.fromkeys(users):
            if self.is_known(user):
                continue
            if await self.service.query(GetUser(user), deadline_s=deadline_s) is None:
                raise RequestRefused(Code.UNKNOWNUSER, f"there is no user {user}")
            if len(self._until) >= KNOWN_MAX:
                self._until.clear()
            self._until[user] = asyncio.get_running_loop().time() + KNOWN_S
