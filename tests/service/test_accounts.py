"""Who is a user, and who says so rightly."""

from __future__ import annotations

import asyncio

import pytest

from raftmail.mail.queries import Answer, GetUser, Query, UserInfo
from raftmail.service.accounts import KNOWN_S, UserAccounts
from raftmail.service.log_ins import LogIns
from raftmail.service.passwords import hash_password
from raftmail.service.service import Principal, UnknownUser

ANNA = "anna@example.org"


class Root:
    """The users that the root shard knows."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked = 0
        self.users = {ANNA: hash_password(b"secret")}

    def clock(self) -> float:
        return self.now

    async def query(self, query: Query, *, deadline_s: float) -> Answer:
        assert isinstance(query, GetUser)
        self.asked += 1
        known = self.users.get(query.address)
        return None if known is None else UserInfo(query.address, known)


def test_the_token_is_the_clusters_and_without_one_nobody_has_it() -> None:
    accounts = UserAccounts(LogIns(Root()), "token")
    assert accounts.authenticate(b"token") == Principal()
    assert accounts.authenticate(b"tokem") is None
    assert UserAccounts(LogIns(Root())).authenticate(b"") is None


def test_a_user_who_was_there_is_asked_for_again_after_a_while_or_when_removed() -> None:
    root = Root()
    accounts = UserAccounts(LogIns(root))

    def check() -> None:
        asyncio.run(accounts.check_users((ANNA, ANNA), deadline_s=1.0))

    check()
    check()
    assert (root.asked, accounts.is_known_user(ANNA)) == (1, True)
    root.now += KNOWN_S
    check()
    assert root.asked == 2
    accounts.forget_user(ANNA)
    assert not accounts.is_known_user(ANNA)


def test_who_is_no_user_is_named() -> None:
    with pytest.raises(UnknownUser, match=r"there is no user bert@example\.org"):
        asyncio.run(UserAccounts(LogIns(Root())).check_users(["bert@example.org"], deadline_s=1.0))
