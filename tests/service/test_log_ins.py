"""Log-ins over the cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from raftmail.mail.app_passwords import AppPassword, UserPasswords
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import Answer, GetUser, Query, UserInfo
from raftmail.service.credentials import make_credentials, make_quick_credentials, scram_salt_of
from raftmail.service.failed_log_ins import LogInLimits
from raftmail.service.fair_turns import FairTurns
from raftmail.service.log_ins import LogIns
from raftmail.service.login import (
    EXTERNAL,
    WRONG,
    LoggedIn,
    LogInOutcome,
    LogInRefused,
    Origin,
    PasswordShown,
    RefusalReason,
    ScramShown,
    TokenShown,
)
from raftmail.service.passwords import hash_password
from tests.service import test_token_issuer as tokens

ANNA = "anna@example.org"
BERT = "bert@example.org"
CLUSTER = "c1"
KEPT = make_credentials(b"secret", scram_salt_of(CLUSTER, ANNA))
OLD = hash_password(b"secret")
HERE = Origin("192.0.2.1", "imap")
THERE = Origin("192.0.2.2", "imap")


class Root:
    """The users that the root shard knows, and a clock that moves when somebody sleeps."""

    def __init__(self, limits: LogInLimits | None = None) -> None:
        self.now = 100.0
        self.asked: list[str] = []
        self.down = False
        self.users = {ANNA: KEPT, BERT: OLD}
        self.slept: list[float] = []
        self.log_ins = LogIns(self, CLUSTER, limits or LogInLimits(), self.sleep)

    @property
    def clock(self) -> Callable[[], float]:
        return lambda: self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def query(self, query: Query, *, deadline_s: float) -> Answer:
        assert isinstance(query, GetUser)
        self.asked.append(query.address)
        if self.down:
            raise Unavailable(Failure("no master"))
        known = self.users.get(query.address)
        return None if known is None else UserInfo(query.address, known)

    def log_in(self, user: str, password: bytes, origin: Origin = HERE) -> LogInOutcome:
        shown = PasswordShown(user, password)
        return asyncio.run(self.log_ins.log_in(shown, origin, deadline_s=30.0))


def reason(outcome: LogInOutcome) -> RefusalReason:
    assert isinstance(outcome, LogInRefused)
    return outcome.reason


@pytest.mark.parametrize(
    ("user", "password", "right"),
    [
        (ANNA, b"secret", True),
        ("Anna@EXAMPLE.org", b"secret", True),
        (BERT, b"secret", True),
        (ANNA, b"Secret", False),
        (ANNA, b"", False),
        (ANNA, b"\x00", False),
        (ANNA, b"x" * 100_000, False),
        ("carl@example.org", b"secret", False),
        ("", b"secret", False),
        ("no such thing \x00", b"secret", False),
    ],
)
def test_a_user_is_who_has_the_password(user: str, password: bytes, right: bool) -> None:
    root = Root()
    found = root.log_in(user, password)
    assert found == (LoggedIn(user.lower()) if right else WRONG)
    assert root.slept == ([] if right else [2.0])


def test_a_root_that_does_not_answer_is_no_wrong_password() -> None:
    root = Root()
    root.down = True
    for _ in range(100):
        with pytest.raises(Unavailable, match="no master"):
            root.log_in(ANNA, b"secret")
    root.down = False
    assert root.log_in(ANNA, b"secret") == LoggedIn(ANNA), "nothing was held against it"


def test_a_password_that_was_right_is_known_until_it_is_changed() -> None:
    root = Root()
    assert root.log_in(ANNA, b"secret") == LoggedIn(ANNA)
    root.log_ins.hashing = FairTurns(0)  # nothing is hashed any more
    assert root.log_in(ANNA, b"secret") == LoggedIn(ANNA)
    root.log_ins.hashing = FairTurns(2)
    root.users[ANNA] = make_credentials(b"other", scram_salt_of(CLUSTER, ANNA))
    assert root.log_in(ANNA, b"secret") == WRONG
    assert root.log_in(ANNA, b"other") == LoggedIn(ANNA)
    del root.users[ANNA]
    assert root.log_in(ANNA, b"other") == WRONG


def test_wrong_log_ins_make_the_next_wait_longer_and_others_not() -> None:
    root = Root()
    for _ in range(3):
        assert root.log_in("nobody", b"x") == WRONG
    assert root.slept == [2, 4, 8]
    assert root.log_in(ANNA, b"secret", THERE) == LoggedIn(ANNA)
    assert root.log_in(ANNA, b"wrong", THERE) == WRONG
    assert root.slept == [2, 4, 8, 2]
    assert root.log_in(ANNA, b"secret") == LoggedIn(ANNA)
    assert root.slept == [2, 4, 8, 2], "a right one is answered at once"


def test_from_where_too_many_were_wrong_none_is_looked_at_for_a_while() -> None:
    root = Root(LogInLimits(failures_max=2, forget_s=20))
    for _ in range(2):
        root.log_in("nobody", b"x")
    asked = len(root.asked)
    assert reason(root.log_in(ANNA, b"secret")) is RefusalReason.LIMIT
    assert len(root.asked) == asked
    assert root.log_in(ANNA, b"secret", THERE) == LoggedIn(ANNA)
    root.now += 20
    assert root.log_in(ANNA, b"secret") == LoggedIn(ANNA)


def test_of_many_wrong_ones_at_once_no_more_are_looked_at_than_one_after_the_other() -> None:
    root = Root(LogInLimits(failures_max=3))

    async def main() -> list[LogInOutcome]:
        shown = [PasswordShown(ANNA, b"guess%d" % n) for n in range(12)]
        return await asyncio.gather(
            *(root.log_ins.log_in(one, HERE, deadline_s=30.0) for one in shown)
        )

    found = [reason(one) for one in asyncio.run(main())]
    looked_at = found.count(RefusalReason.WRONG)
    assert 3 <= looked_at <= 5, "and as many more as are looked at at once"
    assert looked_at + found.count(RefusalReason.LIMIT) == 12


def test_of_a_trusted_network_nothing_is_counted() -> None:
    root = Root(LogInLimits(failures_max=1, trusted=(ip_network("192.0.2.1"),)))
    for _ in range(3):
        assert root.log_in("nobody", b"x") == WRONG
    assert root.slept == [2, 2, 2]


def test_who_waits_for_a_turn_longer_than_it_may_is_told_to_come_again() -> None:
    root = Root()

    async def main() -> None:
        async with root.log_ins.hashing.turn("a"), root.log_ins.hashing.turn("b"):
            with pytest.raises(Unavailable, match="try again"):
                await root.log_ins.log_in(PasswordShown(ANNA, b"secret"), HERE, deadline_s=0.01)
        assert not root.log_ins.hashing.waiting

    asyncio.run(main())


def test_one_who_is_not_there_has_a_salt_like_everybody_and_always_the_same() -> None:
    root = Root()

    async def main() -> None:
        offers = {}
        for user in (ANNA, BERT, "carl@example.org", "dora@example.org", "\x00"):
            offers[user] = await root.log_ins.scram_offer(user, deadline_s=1.0)
            again = await root.log_ins.scram_offer(user, deadline_s=1.0)
            assert again == offers[user]
        assert len({one.salt for one in offers.values()}) == 5
        assert len({(one.iterations, len(one.salt)) for one in offers.values()}) == 1
        assert [len(one.keys) for one in offers.values()] == [1, 0, 0, 0, 0]
        del root.users[ANNA]
        gone = await root.log_ins.scram_offer("ANNA@example.org", deadline_s=1.0)
        assert gone.salt == offers[ANNA].salt, "nobody sees that she has left"

    asyncio.run(main())


def test_a_proof_that_is_wrong_is_held_against_its_network() -> None:
    root = Root(LogInLimits(failures_max=2))

    async def main() -> None:
        offer = await root.log_ins.scram_offer(ANNA, deadline_s=1.0)
        shown = ScramShown(ANNA, offer, b"message", bytes(32))
        found = [reason(await root.log_ins.log_in(shown, HERE, deadline_s=1.0)) for _ in range(3)]
        assert found == [RefusalReason.WRONG, RefusalReason.WRONG, RefusalReason.LIMIT]

    asyncio.run(main())


def test_each_app_password_is_one_of_the_user_until_it_is_taken_away() -> None:
    root = Root()
    salt = scram_salt_of(CLUSTER, ANNA)
    made = {name: f"made-by-a-program-{name}".encode() for name in ("phone", "tablet")}
    apps = tuple(
        AppPassword(name, 1, make_quick_credentials(secret, salt)) for name, secret in made.items()
    )
    root.users[ANNA] = UserPasswords(KEPT, apps).format()
    for secret in (b"secret", *made.values()):
        assert root.log_in(ANNA, secret) == LoggedIn(ANNA)
    assert root.log_in(ANNA, b"made-by-a-program-other") == WRONG
    offer = asyncio.run(root.log_ins.scram_offer(ANNA, deadline_s=1.0))
    assert len(offer.keys) == 3, "all of them are offered under one salt"
    root.users[ANNA] = UserPasswords(KEPT, apps[1:]).format()
    assert root.log_in(ANNA, made["phone"]) == WRONG
    assert root.log_in(ANNA, made["tablet"]) == LoggedIn(ANNA)


def test_a_user_whose_password_is_older_than_scram_logs_in_by_app_passwords() -> None:
    root = Root()
    salt = scram_salt_of(CLUSTER, BERT)
    app = AppPassword("phone", 1, make_quick_credentials(b"made-by-a-program-phone", salt))
    foreign = AppPassword("x", 1, make_quick_credentials(b"made-by-a-program-phone", bytes(16)))
    root.users[BERT] = UserPasswords(OLD, (app, foreign)).format()
    offer = asyncio.run(root.log_ins.scram_offer(BERT, deadline_s=1.0))
    assert offer.salt == salt and len(offer.keys) == 1


class Elsewhere:
    """An external source of users; `secret` is everybody's password, None: it is down."""

    def __init__(self) -> None:
        self.secret: bytes | None = b"outside"
        self.asked: list[tuple[str, bytes, Origin]] = []
        self.at_once = self.most_at_once = 0

    async def check(self, user: str, password: bytes, origin: Origin) -> bool:
        self.asked.append((user, password, origin))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if self.secret is None:
            raise Unavailable(Failure("down"))
        return password == self.secret


def outside(limits: LogInLimits | None = None) -> tuple[Root, Elsewhere]:
    root = Root(limits)
    root.users[ANNA] = EXTERNAL
    root.log_ins.external = elsewhere = Elsewhere()
    return root, elsewhere


def test_a_user_who_is_kept_elsewhere_is_asked_for_there_and_others_are_not() -> None:
    root, elsewhere = outside()
    assert root.log_in("Anna@Example.org", b"outside") == LoggedIn(ANNA)
    assert root.log_in(ANNA, b"wrong") == WRONG
    assert root.log_in(ANNA, b"") == WRONG
    assert root.log_in(BERT, b"secret") == LoggedIn(BERT)
    assert root.log_in("carl@example.org", b"outside") == WRONG, "who has no record is nobody"
    assert elsewhere.asked == [(ANNA, b"outside", HERE), (ANNA, b"wrong", HERE)]
    assert root.slept == [2, 4, 8]


def test_what_was_right_elsewhere_is_known_for_a_while() -> None:
    root, elsewhere = outside(LogInLimits(cache_s=60))
    assert root.log_in(ANNA, b"outside") == root.log_in(ANNA, b"outside") == LoggedIn(ANNA)
    assert len(elsewhere.asked) == 1
    root.now += 60
    elsewhere.secret = b"changed"
    assert root.log_in(ANNA, b"outside") == WRONG


def test_a_source_that_is_down_or_not_configured_is_no_wrong_password() -> None:
    root, elsewhere = outside()
    elsewhere.secret = None
    for _ in range(50):
        with pytest.raises(Unavailable, match="down"):
            root.log_in(ANNA, b"outside")
    root.log_ins.external = None
    with pytest.raises(Unavailable, match="no external source"):
        root.log_in(ANNA, b"outside")
    assert root.slept == [] and root.log_ins.failed.may_try(HERE.address, root.now)


def test_so_many_are_asked_for_elsewhere_at_once() -> None:
    root, elsewhere = outside(LogInLimits(external_at_once_max=3))

    async def main() -> None:
        shown = [PasswordShown(ANNA, b"outside") for _ in range(20)]
        for one in await asyncio.gather(
            *(root.log_ins.log_in(each, HERE, deadline_s=30.0) for each in shown)
        ):
            assert one == LoggedIn(ANNA)

    asyncio.run(main())
    assert elsewhere.most_at_once == 3


def _show_token(root: Root, user: str, token: bytes) -> LogInOutcome:
    shown = TokenShown(user, token)
    return asyncio.run(root.log_ins.log_in(shown, HERE, deadline_s=1.0))


def test_a_token_is_its_users_and_nobody_elses() -> None:
    root = Root()
    assert not root.log_ins.takes_tokens
    assert _show_token(root, "", tokens.token()) == WRONG
    root.log_ins.issuer = tokens.issuer()
    assert root.log_ins.takes_tokens
    assert _show_token(root, "", tokens.token()) == LoggedIn(ANNA)
    assert _show_token(root, "ANNA@example.org", tokens.token()) == LoggedIn(ANNA)
    for other in (BERT, "nobody@example.org", "no address"):
        assert reason(_show_token(root, other, tokens.token())) is RefusalReason.NOT_ALLOWED
    assert _show_token(root, "", tokens.token(email="carl@example.org")) == WRONG
    assert _show_token(root, "", b"nonsense") == WRONG


def test_a_token_that_expired_is_told_as_that_at_once_and_held_against_nobody() -> None:
    root = Root(LogInLimits(failures_max=1))
    root.log_ins.issuer = tokens.issuer(now_s=tokens.NOW_S + 1000)
    for _ in range(3):
        assert reason(_show_token(root, "", tokens.token())) is RefusalReason.EXPIRED
    assert root.slept == []


def test_a_user_has_so_many_connections_and_gets_them_back() -> None:
    root = Root(LogInLimits(user_connections_max=2))
    log_ins = root.log_ins
    assert [log_ins.enter_user(ANNA) for _ in range(3)] == [True, True, False]
    assert log_ins.enter_user(BERT)
    log_ins.leave_user(ANNA)
    assert [log_ins.enter_user(ANNA) for _ in range(2)] == [True, False]


def test_no_secret_is_logged_nor_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    root = Root()
    shown = PasswordShown(ANNA, b"hunter2-hunter2")
    root.log_in(ANNA, b"hunter2-hunter2")
    root.log_in("hunter2-hunter2", b"typed in the wrong field")
    assert "192.0.2.1" in caplog.text
    assert "hunter2" not in caplog.text + repr(shown) + repr(root.log_ins)
