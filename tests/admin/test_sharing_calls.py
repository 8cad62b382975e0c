"""What operators ask about shared mailboxes."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from raftmail.admin.api.calls import ChooseSeen, ForgetGrants, ListShares, ShareMailbox
from raftmail.admin.api.policies import GrantsForgotten, ShareRow, Shares
from raftmail.admin.sharing_calls import SharingCalls
from raftmail.mail import commands as c
from raftmail.mail.queries import Answer, ListSharers, Query
from raftmail.mail.results import Executed
from tests.shard.machines import Feeder, new_machine

ANNA, BOB = "anna@example.org", "bob@example.org"


class OneShard:
    """All shards in one, in memory. It fails with the command whose turn is `fails_at`."""

    def __init__(self) -> None:
        self.feeder = Feeder(new_machine())
        for user in (ANNA, BOB):
            self.feeder.do(c.PutUser(user, "hash"))
            self.feeder.do(c.CreateMailbox(user, "Box", 1, bytes(16)))
        self.fails_at = -1

    def clock(self) -> float:
        return 0.0

    async def query(self, query: Query, *, deadline_s: float) -> Answer:
        return self.feeder.machine.query(query)

    async def execute(self, command: c.Command, *, deadline_s: float) -> Executed:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise ValueError("it stops here")
        return Executed(self.feeder.do(command), 0, 1, "n1")


def ask(router: OneShard, call: Any) -> Any:
    part = SharingCalls(cast(Any, router))
    return asyncio.run(cast(Any, part.handlers[type(call)])(call, 10.0))


def test_a_mailbox_is_shared_shown_and_shared_no_more() -> None:
    router = OneShard()
    shared = Shares(BOB, "Box", (ShareRow(ANNA, "lrkx"),))
    assert ask(router, ShareMailbox("Bob@Example.org", "Box", ANNA, "rlc")) == shared
    assert ask(router, ListShares(BOB, "Box")) == shared
    more = ask(router, ShareMailbox(BOB, "Box", "-anyone", "w"))
    assert more.shares == (ShareRow("-anyone", "w"), ShareRow(ANNA, "lrkx"))
    ask(router, ShareMailbox(BOB, "Box", "-anyone"))
    assert ask(router, ShareMailbox(BOB, "Box", ANNA)) == Shares(BOB, "Box", ())


def test_guests_have_a_seen_of_their_own_where_that_is_asked_for() -> None:
    router = OneShard()
    assert ask(router, ChooseSeen(BOB, "Box", own=True)) == Shares(BOB, "Box", (), own_seen=True)
    assert ask(router, ChooseSeen(BOB, "Box")) == Shares(BOB, "Box", ())


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (ShareMailbox("eve@example.org", "Box", ANNA, "lr"), "there is no user eve"),
        (ShareMailbox(BOB, "Box", "eve@example.org", "lr"), "there is no user eve"),
        (ShareMailbox(BOB, "Box", ANNA, "lz"), "'z' is no right"),
        (ShareMailbox(BOB, "Nothing", ANNA, "lr"), "has no mailbox 'Nothing'"),
        (ShareMailbox(BOB, "Box", BOB, "lr"), "the owner of a mailbox has all rights"),
        (ListShares(BOB, "Nothing"), "has no mailbox 'Nothing'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(call: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ask(OneShard(), call)


def test_who_is_given_rights_finds_them_wherever_it_stops_in_between() -> None:
    router = OneShard()
    router.fails_at = 2
    with pytest.raises(ValueError, match="stops"):
        ask(router, ShareMailbox(BOB, "Box", ANNA, "lr"))
    assert router.feeder.machine.query(ListSharers(ANNA)) == (BOB,)
    assert ask(router, ListShares(BOB, "Box")).shares == ()


def test_a_user_who_is_removed_has_no_rights_any_more() -> None:
    router = OneShard()
    ask(router, ShareMailbox(BOB, "Box", ANNA, "lr"))
    ask(router, ShareMailbox(BOB, "Box", "-" + ANNA, "w"))
    ask(router, ShareMailbox(BOB, "Box", "anyone", "l"))
    assert ask(router, ForgetGrants(ANNA)) == GrantsForgotten(ANNA, 1)
    assert ask(router, ListShares(BOB, "Box")).shares == (ShareRow("anyone", "l"),)
    assert ask(router, ForgetGrants("eve@example.org")) == GrantsForgotten("eve@example.org", 0)
