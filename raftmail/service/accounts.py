"""Who is a user, and who says so rightly.

Whether a user is there is asked before anything is made for somebody, so that no mail goes where
nobody can find it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from raftmail.mail.queries import Answer, GetUser, Query, UserInfo
from raftmail.service.passwords import NO_PASSWORD, hash_password, verify_password
from raftmail.service.service import Principal, UnknownUser

KNOWN_S = 10.0
"""So long a user who was there is taken to be there still: mail for one who is being removed may be
taken meanwhile, and goes with the purge."""

KNOWN_MAX = 50_000
"""Users that are remembered; at the bound all are forgotten, and asked for again."""

HASHES_AT_ONCE = 2
"""Passwords being hashed, each in a thread of its own with 16 MiB; the next one waits."""


class Querying(Protocol):
    """What this needs of the router."""

    def query(self, query: Query, *, deadline_s: float) -> Awaitable[Answer]: ...
    @property
    def clock(self) -> Callable[[], float]: ...


@dataclass(slots=True, repr=False)
class UserAccounts:
    """`service.Accounts` over the cluster. Users live in the root shard, and their mailboxes in
    others: so this is asked here, and not when a command is applied."""

    cluster: Querying
    token: str | None = None
    """What holders of the cluster's token show; None: nobody does."""
    _until: dict[str, float] = field(default_factory=dict)
    _hashing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HASHES_AT_ONCE))

    def authenticate(self, token: bytes) -> Principal | None:
        expected = self.token
        if expected is None or not hmac.compare_digest(token, expected.encode()):
            return None
        return Principal()

    async def authenticate_user(
        self, user: str, password: bytes, *, deadline_s: float
    ) -> Principal | None:
        found = await self.cluster.query(GetUser(user), deadline_s=deadline_s)
        known = found.password_hash if isinstance(found, UserInfo) else NO_PASSWORD
        loop = asyncio.get_running_loop()
        async with self._hashing:
            is_right = await loop.run_in_executor(None, verify_password, password, known)
        return Principal(user) if is_right and isinstance(found, UserInfo) else None

    async def hash_password(self, password: bytes) -> str:
        loop = asyncio.get_running_loop()
        async with self._hashing:
            return await loop.run_in_executor(None, hash_password, password)

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
