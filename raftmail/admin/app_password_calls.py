"""What operators ask about app passwords: one for each device of a user, that can be taken back by
itself."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from raftmail.admin.admin_calls import Handlers
from raftmail.admin.api.calls import AddAppPassword, ListAppPasswords, RemoveAppPassword
from raftmail.admin.api.policies import (
    AppPasswordMade,
    AppPasswordRemoved,
    AppPasswordRow,
    AppPasswords,
)
from raftmail.cluster.router import Router
from raftmail.mail.addresses import spellings
from raftmail.mail.app_passwords import UserPasswords, check_app_name
from raftmail.mail.commands import Command, DropAppPassword, PutAppPassword
from raftmail.mail.queries import GetUser, UserInfo
from raftmail.mail.results import Refused

_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789a"
"""Characters that nobody mistakes for each other, so that one can type them on a phone."""

_GROUPS: Final = 5
_GROUP_CHARS: Final = 5


@dataclass(slots=True, repr=False)
class AppPasswordCalls:
    """`hash_made` gives what is kept of a password that a program made, for a user; `wall` is Unix
    time. Refusals are ValueError."""

    router: Router
    hash_made: Callable[[str, bytes], Awaitable[str]]
    wall: Callable[[], float]

    @property
    def handlers(self) -> Handlers:
        return {
            AddAppPassword: self._add,
            ListAppPasswords: self._list,
            RemoveAppPassword: self._remove,
        }

    async def _add(self, call: AddAppPassword, deadline: float) -> AppPasswordMade:
        name = check_app_name(call.name)
        user = await self._user(call.address, deadline)
        password = make_app_password()
        kept = await self.hash_made(user.address, password.encode())
        made_s = int(self.wall())
        await self._execute(PutAppPassword(user.address, name, made_s, kept), deadline)
        return AppPasswordMade(user.address, name, password)

    async def _list(self, call: ListAppPasswords, deadline: float) -> AppPasswords:
        user = await self._user(call.address, deadline)
        apps = UserPasswords.parse(user.password_hash).apps
        return AppPasswords(
            user.address, tuple(AppPasswordRow(one.name, one.made_s) for one in apps)
        )

    async def _remove(self, call: RemoveAppPassword, deadline: float) -> AppPasswordRemoved:
        name = check_app_name(call.name)
        user = await self._user(call.address, deadline)
        await self._execute(DropAppPassword(user.address, name), deadline)
        return AppPasswordRemoved(user.address, name)

    async def _user(self, address: str, deadline: float) -> UserInfo:
        names = spellings(address)
        for name in names:
            left_s = deadline - self.router.clock()
            found = await self.router.query(GetUser(name), deadline_s=left_s)
            if isinstance(found, UserInfo):
                return found
        raise ValueError(f"there is no user {names[0]}")

    async def _execute(self, command: Command, deadline: float) -> None:
        done = await self.router.execute(command, deadline_s=deadline - self.router.clock())
        if isinstance(done.result, Refused):
            raise ValueError(done.result.text)


def make_app_password() -> str:
    """Some 120 bits that nobody guesses, in groups that people can read."""
    groups = (
        "".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_CHARS)) for _ in range(_GROUPS)
    )
    return "-".join(groups)
