"""Who is a user, and who says so rightly.

Whether a user is there is asked before anything is made for somebody, so that no mail goes where
nobody can find it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from raftmail.mail.queries import GetUser
from raftmail.service.credentials import make_credentials, make_quick_credentials, scram_salt_of
from raftmail.service.log_ins import LogIns, Querying
from raftmail.service.service import Principal, UnknownUser

KNOWN_S = 10.0
"""So long a user who was there is taken to be there still: mail for one who is being removed may be
taken meanwhile, and goes with the purge."""

KNOWN_MAX = 50_000
"""Users that are remembered; at the bound all are forgotten, and asked for again."""


@dataclass(slots=True, repr=False)
class UserAccounts:
    """`service.Accounts` over the cluster. Users live in the root shard, and their mailboxes in
    others: so this is asked here, and not when a command is applied."""

    log_ins: LogIns
    token: str | None = None
    """What holders of the cluster's token show; None: nobody does."""
    cluster: Querying = field(init=False)
    _until: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cluster = self.log_ins.cluster

    def authenticate(self, token: bytes) -> Principal | None:
        expected = self.token
        if expected is None or not hmac.compare_digest(token, expected.encode()):
            return None
        return Principal()

    async def hash_password(self, user: str, password: bytes) -> str:
        salt = scram_salt_of(self.log_ins.cluster_id, user)
        loop = asyncio.get_running_loop()
        async with self.log_ins.hashing.turn("operators"):
            return await loop.run_in_executor(None, make_credentials, password, salt)

    async def hash_app_password(self, user: str, password: bytes) -> str:
        """What is kept of a password that a program made. Raises ValueError for one that could be
        guessed."""
        salt = scram_salt_of(self.log_ins.cluster_id, user)
        loop = asyncio.get_running_loop()
        async with self.log_ins.hashing.turn("operators"):
            return await loop.run_in_executor(None, make_quick_credentials, password, salt)

    def is_known_user(self, user: str) -> bool:
        return self._until.get(user, 0.0) > self.cluster.clock()

    def forget_user(self, user: str) -> None:
        self._until.pop(user, None)

    async def check_users(self, users: Iterable[str], *, deadline_s: float) -> None:
        for user in dict.fromkeys(users):
            if self.is_known_user(user):
                continue
            if await self.cluster.query(GetUser(user), deadline_s=deadline_s) is None:
                raise UnknownUser(user)
            if len(self._until) >= KNOWN_MAX:
                self._until.clear()
            self._until[user] = self.cluster.clock() + KNOWN_S
