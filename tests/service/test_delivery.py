"""LMTP recipients that stand for others: aliases, and what a domain's catch-all gets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.cluster import records as rec
from raftmail.cluster.router import Router
from raftmail.cluster.state import ClusterState
from raftmail.mail.commands import Save
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import ActiveScript, Configuration, GetConfiguration, GetUser, UserInfo
from raftmail.mail.results import Code, Executed, Refused, SaveResult
from raftmail.mail.smtp_address import Address
from raftmail.service.delivery import ExpandedRecipient, MailDelivery
from raftmail.service.verdicts import Envelope, Recipient, Verdict
from tests.cluster.clusters import cluster, put

BODY = b"Subject: x\r\n\r\ny\r\n"
STATE = put(
    cluster(3),
    rec.AliasRecord("team@x.org", ("a@x.org", "b@x.org", "gone@x.org")),
    rec.AliasRecord("boss@x.org", ("boss@x.org", "a@x.org")),
    rec.AliasRecord("nobody@x.org", ("gone@x.org",)),
    rec.DomainRecord("y.org", catch_all="team@x.org"),
)


@dataclass
class Twin:
    """A router that knows some users, and notes what is saved."""

    view: ClusterState = STATE
    users: tuple[str, ...] = ("a@x.org", "b@x.org", "boss@x.org")
    full: str = ""
    over: str = ""
    down: str = ""
    refused: str = ""
    behind: int = 0
    saved: list[Save] = field(default_factory=list)
    root: Any = field(default_factory=lambda: SimpleNamespace(is_here=False))
    bodies: list[int] = field(default_factory=list)
    busy: int = 0
    busiest: int = 0
    forgets: bool = False
    takes_s: float = 0.0
    now: float = 0.0
    shards: int = 2

    def clock(self) -> float:
        return self.now

    def shard_of(self, user: str) -> int:
        if self.shards > 2:
            return int(user.partition("@")[0][1:]) % self.shards
        return 1 if user < "b" else 2

    def quota_of(self, user: str) -> int:
        return self.view.quota_of(user)

    def query_now(self, query: object) -> tuple[object] | None:
        assert isinstance(query, ActiveScript)
        return (None,)

    async def query(
        self, query: GetUser | GetConfiguration, *, deadline_s: float
    ) -> UserInfo | Configuration | None:
        if isinstance(query, GetConfiguration):
            assert query.since == self.view.revision
            return Configuration(query.since + self.behind, (), False, 0, False)
        return UserInfo(query.address, "") if query.address in self.users else None

    async def execute(self, command: Save, *, blobs: Any, deadline_s: float) -> Executed:
        self.saved.append(command)
        self.bodies.append(len(blobs))
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        await asyncio.sleep(0)
        self.busy -= 1
        if not blobs and self.forgets:
            raise Unavailable(Failure("the body is not stored", final=True))
        if self.takes_s:
            self.now += self.takes_s
        users = [target.user for target in command.messages[0].targets]
        if self.down in users:
            raise Unavailable(Failure(f"shard 2 of {self.down} has no master"))
        if self.full in users:
            return Executed(Refused(Code.LIMIT, f"{self.full}: no more"), 1, 1, "n")
        if self.over in users:
            return Executed(Refused(Code.OVERQUOTA, f"{self.over} is over quota"), 1, 1, "n")
        if self.refused in users:
            return Executed(Refused(Code.BAD, f"{self.refused} is bad"), 1, 1, "n")
        return Executed(SaveResult(()), 1, 1, "n")


def _address(text: str) -> Address:
    user, _, domain = text.partition("@")
    name, _, detail = user.partition("+")
    return Address(user, domain, name, detail, "+")


def _send(
    twin: Twin, to: str, *, sender: str = "", body: bytes = BODY, once_s: int = 7 * 86_400
) -> tuple[Verdict, list[list[str]]]:
    """The last verdict, and the users of each command that was made."""
    delivery = MailDelivery(cast(Router, twin), 1.0, delivered_once_s=once_s)
    address = _address(to)
    from_ = _address(sender) if sender else None

    async def run() -> Verdict:
        verdict = delivery.resolve_now(address) or await delivery.resolve(address)
        if not verdict.is_positive:
            return verdict
        trace = SimpleNamespace(prefix=lambda address: b"")
        envelope = Envelope(from_, "h", "p", False, False, "t", 5.0, cast(Any, trace))
        (last,) = await delivery.deliver(envelope, body, [Recipient(address, verdict)])
        return last

    verdict = asyncio.run(run())
    return verdict, [[t.user for t in save.messages[0].targets] for save in twin.saved]


@pytest.mark.parametrize(
    ("to", "users"),
    [
        ("a@x.org", [["a@x.org"]]),
        ("team@x.org", [["a@x.org"], ["b@x.org"]]),
        ("boss+lists@x.org", [["boss@x.org"], ["a@x.org"]]),
        ("anything@y.org", [["a@x.org"], ["b@x.org"]]),
    ],
)
def test_mail_goes_to_the_users_that_an_address_stands_for(to: str, users: list[list[str]]) -> None:
    twin = Twin()
    verdict, saved = _send(twin, to)
    assert verdict.code == 250 and saved == users
    assert len({save.messages[0].guid for save in twin.saved}) == 1


@pytest.mark.parametrize("to", ["c@x.org", "nobody@x.org", "gone@x.org"])
def test_an_address_that_no_user_has_is_refused(to: str) -> None:
    verdict, saved = _send(Twin(), to)
    assert verdict.code == 550 and saved == []
    assert ("leads to no user" in verdict.text) == (to == "nobody@x.org")


def test_a_node_that_is_behind_bounces_no_mail_for_an_alias_it_may_not_know_yet() -> None:
    verdict, saved = _send(Twin(behind=1), "new-alias@x.org")
    assert verdict.code == 451 and saved == []


def test_users_of_one_shard_get_it_with_one_command() -> None:
    twin = Twin(
        users=("b@x.org", "boss@x.org"),
        view=put(STATE, rec.AliasRecord("t@x.org", ("b@x.org", "boss@x.org"))),
    )
    verdict, saved = _send(twin, "t@x.org")
    assert verdict.code == 250 and saved == [["b@x.org", "boss@x.org"]]


PAIR = ("b@x.org", "boss@x.org")
IN_ONE_SHARD = put(STATE, rec.AliasRecord("t@x.org", PAIR))


@pytest.mark.parametrize(("full", "over"), [("b@x.org", ""), ("", "b@x.org")])
def test_a_user_who_can_take_no_more_is_no_reason_to_bounce_what_others_got(
    full: str, over: str
) -> None:
    verdict, saved = _send(Twin(full=full, over=over), "team@x.org")
    assert verdict.code == 250 and len(saved) == 2


def test_a_user_without_room_keeps_nobody_else_of_an_alias_from_the_mail() -> None:
    view = put(
        IN_ONE_SHARD,
        rec.QuotaRecord("boss@x.org", 500),
        rec.DomainRecord("x.org", quota_bytes=1000),
    )
    twin = Twin(users=PAIR, view=view, over="boss@x.org")
    verdict, saved = _send(twin, "t@x.org")
    assert verdict.code == 250
    assert saved == [["b@x.org", "boss@x.org"], ["b@x.org"], ["boss@x.org"]]
    assert twin.saved[0].quotas == (("b@x.org", 1000), ("boss@x.org", 500))


def test_mail_that_nobody_can_take_is_bounced_without_a_word_about_anybody() -> None:
    twin = Twin(users=PAIR, view=IN_ONE_SHARD, over="boss@x.org", full="b@x.org")
    verdict, _ = _send(twin, "t@x.org")
    assert (verdict.code, verdict.enhanced) == (552, "5.2.2")
    assert "b@x.org" not in verdict.text and "boss" not in verdict.text
    verdict, _ = _send(Twin(over="a@x.org"), "a@x.org")
    assert verdict.code == 552 and "a@x.org" not in verdict.text


def test_mail_is_tried_again_while_one_may_get_it_later() -> None:
    twin = Twin(down="b@x.org", over="a@x.org")
    verdict, saved = _send(twin, "team@x.org")
    assert verdict.code == 451 and len(saved) == 2
    assert "x.org" not in verdict.text and "shard" not in verdict.text


def test_a_refusal_for_one_of_a_shard_keeps_nobody_else_from_the_mail() -> None:
    twin = Twin(users=PAIR, view=IN_ONE_SHARD, refused="boss@x.org")
    verdict, saved = _send(twin, "t@x.org")
    assert verdict.code == 451
    assert saved == [["b@x.org", "boss@x.org"], ["b@x.org"], ["boss@x.org"]]


def _keys(twin: Twin) -> list[tuple[bytes, ...]]:
    return [save.messages[0].delivery_keys for save in twin.saved]


def test_a_delivery_that_is_repeated_has_its_key_and_another_one_another() -> None:
    twin = Twin()
    for to in ("a@x.org", "A@X.org", "b@x.org", "a+Lists@x.org", "a+lists@x.org"):
        _send(twin, to)
    _send(twin, "a@x.org", sender="s@z.org")
    _send(twin, "a@x.org", sender="t@z.org")
    _send(twin, "a@x.org", body=BODY + b".")
    first, again, *others = [key for (key,) in _keys(twin)]
    assert first == again
    assert len({first, *others}) == 7
    assert {save.delivered_once_s for save in twin.saved} == {7 * 86_400}


def test_the_key_of_mail_for_an_alias_is_the_alias_s_for_each_of_its_users() -> None:
    twin = Twin(users=PAIR, view=IN_ONE_SHARD)
    for to in ("t@x.org", "t@x.org", "b@x.org"):
        _send(twin, to)
    (one, other), again, (direct,) = _keys(twin)
    assert (one, other) == again
    assert one == other != direct


def test_who_is_addressed_directly_and_by_an_alias_gets_it_by_either() -> None:
    """So that either can be repeated alone: the key of each stands for it."""
    twin = Twin(users=PAIR, view=IN_ONE_SHARD)
    delivery = MailDelivery(cast(Router, twin), 1.0)
    trace = SimpleNamespace(prefix=lambda address: b"")
    envelope = Envelope(None, "h", "p", False, False, "t", 5.0, cast(Any, trace))
    recipients = [
        Recipient(_address("b@x.org"), Verdict.accepted()),
        Recipient(_address("t@x.org"), ExpandedRecipient(250, "2.1.5", "Recipient ok", PAIR)),
    ]
    verdicts = asyncio.run(delivery.deliver(envelope, BODY, recipients))
    assert [verdict.code for verdict in verdicts] == [250, 250]
    ((direct, one, other),) = _keys(twin)
    assert one == other != direct
    assert [t.user for t in twin.saved[0].messages[0].targets] == ["b@x.org", *PAIR]


def test_keys_are_left_out_where_they_are_switched_off() -> None:
    twin = Twin()
    _send(twin, "a@x.org", once_s=0)
    assert _keys(twin) == [()]
    assert twin.saved[0].delivered_once_s == 0


def test_a_verdict_of_an_alias_carries_its_users() -> None:
    found = asyncio.run(MailDelivery(cast(Router, Twin()), 1.0).resolve(_address("team@x.org")))
    assert isinstance(found, ExpandedRecipient) and found.users == ("a@x.org", "b@x.org")


def _send_to_many(
    twin: Twin, names: list[str], body: bytes = BODY, saving_bytes_max: int = 1 << 20
) -> list[int]:
    """The codes of the verdicts."""
    delivery = MailDelivery(cast(Router, twin), 10.0, saving_bytes_max)
    trace = SimpleNamespace(prefix=lambda a: b"" if a is None else b"Delivered-To: x\r\n")
    envelope = Envelope(None, "h", "p", False, False, "t", 5.0, cast(Any, trace))
    recipients = [Recipient(_address(name), Verdict.accepted()) for name in names]
    verdicts = asyncio.run(delivery.deliver(envelope, body, recipients))
    return [verdict.code for verdict in verdicts]


def test_a_message_for_many_is_one_body_and_one_command_for_each_shard() -> None:
    twin = Twin(shards=4)
    codes = _send_to_many(twin, [f"u{n}@x.org" for n in range(1000)])
    assert codes == [250] * 1000 and len(twin.saved) == 4
    assert len({save.messages[0].blob for save in twin.saved}) == 1
    assert sorted(len(save.messages[0].targets) for save in twin.saved) == [250] * 4
    assert twin.saved[0].messages[0].size_bytes == len(BODY), "there is no Delivered-To"


def test_a_recipient_that_is_named_twice_gets_the_message_once_and_two_verdicts() -> None:
    twin = Twin()
    assert _send_to_many(twin, ["a@x.org", "a@x.org", "b@x.org"]) == [250] * 3
    assert [len(save.messages[0].targets) for save in twin.saved] == [1, 1]


def test_those_of_many_who_can_get_it_do_and_the_body_is_sent_once() -> None:
    twin = Twin(shards=3, over="u5@x.org")
    names = [f"u{n}@x.org" for n in range(300)]
    codes = _send_to_many(twin, names)
    assert [name for name, code in zip(names, codes, strict=True) if code != 250] == ["u5@x.org"]
    assert sum(twin.bodies) == 3 and len(twin.saved) < 25


def test_a_body_that_was_given_back_meanwhile_is_sent_again() -> None:
    twin = Twin(shards=3, over="u5@x.org", forgets=True)
    codes = _send_to_many(twin, [f"u{n}@x.org" for n in range(12)])
    assert codes.count(250) == 11 and sum(twin.bodies) > 3


def test_bodies_are_on_their_way_to_as_few_shards_at_once_as_the_limit_says() -> None:
    body = b"x" * (300 << 10)
    for saving_bytes_max, most in ((1, 1), (800 << 10, 2), (100 << 20, 8)):
        twin = Twin(shards=8)
        names = [f"u{n}@x.org" for n in range(8)]
        assert _send_to_many(twin, names, body, saving_bytes_max) == [250] * 8
        assert twin.busiest == most


def test_who_cannot_be_served_within_the_deadline_is_told_to_come_again() -> None:
    twin = Twin(shards=8, takes_s=4.0)
    body = b"x" * (300 << 10)
    codes = _send_to_many(twin, [f"u{n}@x.org" for n in range(8)], body, saving_bytes_max=1)
    assert codes == [250] * 3 + [451] * 5


def test_a_long_message_for_many_shards_may_take_longer_in_proportion() -> None:
    twin = Twin(shards=8, takes_s=4.0)
    body = b"x" * (12 << 20)
    codes = _send_to_many(twin, [f"u{n}@x.org" for n in range(8)], body, saving_bytes_max=1)
    assert codes == [250] * 8


def test_short_mail_does_not_wait_for_the_room_that_long_mail_takes() -> None:
    twin = Twin(shards=8)
    names = [f"u{n}@x.org" for n in range(8)]
    assert _send_to_many(twin, names, BODY, saving_bytes_max=1) == [250] * 8
    assert twin.busiest == 8
