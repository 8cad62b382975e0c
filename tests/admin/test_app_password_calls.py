"""What operators ask about app passwords."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from raftmail.admin.api.calls import AddAppPassword, ListAppPasswords, RemoveAppPassword
from raftmail.admin.api.policies import (
    AppPasswordMade,
    AppPasswordRemoved,
    AppPasswordRow,
    AppPasswords,
)
from raftmail.admin.app_password_calls import AppPasswordCalls, make_app_password
from raftmail.mail import commands as c
from raftmail.mail.commands import Command
from raftmail.mail.queries import Answer, GetUser, Query
from raftmail.mail.results import Executed, Result
from raftmail.service.credentials import MADE_BYTES_MIN
from tests.shard.machines import Feeder, new_machine

ANNA = "anna@example.org"


class RootRouter:
    """A root shard in memory."""

    def __init__(self) -> None:
        self.feeder = Feeder(new_machine())
        self.feeder.do(c.PutUser(ANNA, "own"))

    def clock(self) -> float:
        return 0.0

    async def query(self, query: Query, *, deadline_s: float) -> Answer:
        assert isinstance(query, GetUser)
        return self.feeder.machine.query(query)

    async def execute(self, command: Command, *, deadline_s: float) -> Executed:
        result: Result = self.feeder.do(command)
        return Executed(result, 0, 1, "n1")


def ask(router: RootRouter, call: Any) -> Any:
    async def hash_made(user: str, password: bytes) -> str:
        return f"hash of {len(password)} bytes"

    part = AppPasswordCalls(cast(Any, router), hash_made, lambda: 1_700_000_000.9)
    return asyncio.run(cast(Any, part.handlers[type(call)])(call, 10.0))


def test_one_is_made_shown_once_listed_and_removed() -> None:
    router = RootRouter()
    made = ask(router, AddAppPassword("Anna@Example.org", "phone"))
    assert isinstance(made, AppPasswordMade) and (made.address, made.name) == (ANNA, "phone")
    assert made.password not in repr(made)
    assert ask(router, ListAppPasswords(ANNA)) == AppPasswords(
        ANNA, (AppPasswordRow("phone", 1_700_000_000),)
    )
    assert ask(router, RemoveAppPassword(ANNA, "phone")) == AppPasswordRemoved(ANNA, "phone")
    assert ask(router, ListAppPasswords(ANNA)) == AppPasswords(ANNA, ())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (AddAppPassword("bert@example.org", "phone"), "there is no user bert@example.org"),
        (AddAppPassword(ANNA, ""), "the name of an app password has 1 to 64"),
        (AddAppPassword(ANNA, "a\nb"), "one line"),
        (AddAppPassword(ANNA, "there"), "has an app password of that name already"),
        (RemoveAppPassword(ANNA, "phone"), "has no app password of that name"),
        (ListAppPasswords("bert@example.org"), "there is no user"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(call: Any, said: str) -> None:
    router = RootRouter()
    router.feeder.do(c.PutAppPassword(ANNA, "there", 1, "k"))
    with pytest.raises(ValueError, match=said):
        ask(router, call)


def test_nobody_guesses_one_and_everybody_can_type_it() -> None:
    made = {make_app_password() for _ in range(100)}
    assert len(made) == 100
    for one in made:
        assert len(one) >= MADE_BYTES_MIN
        assert one.replace("-", "").isalnum() and not set(one) & set("iIl1oO0")
