"""Rules of users at a delivery: where mail goes, once, and never lost whatever rules do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.cluster.router import Router
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.results import Executed
from raftmail.mail.smtp_address import Address
from raftmail.mail.uidset import UidSet
from raftmail.service.delivery import ExpandedRecipient, KnownRecipient, MailDelivery
from raftmail.service.delivery_rules import DeliveryRules
from raftmail.service.known_rules import KnownRules
from raftmail.service.verdicts import Envelope, Recipient, Verdict
from raftmail.sieve.rule_limits import DEFAULT_RULE_LIMITS
from raftmail.sieve.script_run import ScriptRun
from tests.shard.machines import Feeder, new_machine

HEADER = b"From: s@z.org\r\nMessage-ID: <1@z.org>\r\nSubject: "
REQUIRE = (
    b'require ["fileinto", "imap4flags", "copy", "reject", "mailbox", "special-use", "duplicate",'
    b' "vacation", "subaddress", "envelope", "variables", "include"];\n'
)


class Site:
    """Deliveries into one state machine."""

    def __init__(self, *, is_here: bool = True, once_s: int = 86_400) -> None:
        self.feeder = Feeder(new_machine())
        self.machine = self.feeder.machine
        self.saves = 0
        self.now_s = 1_000_000.0
        self.queries: list[q.Query] = []
        self.down = False
        self.refuse: Callable[[c.Command], Executed | None] = lambda command: None
        router = SimpleNamespace(
            clock=lambda: 0.0,
            shard_of=lambda user: 1,
            quota_of=lambda user: 0,
            query_now=lambda query: (self.machine.query(query),) if is_here else None,
            query=self._query,
            execute=self._execute,
            execute_soon=self._execute_soon,
        )
        self.rules = DeliveryRules.of(cast(Router, router))
        self.delivery = MailDelivery(
            cast(Router, router), 10.0, delivered_once_s=once_s, rules=self.rules
        )

    async def _query(self, query: q.Query, **_: Any) -> q.Answer:
        if self.down:
            raise Unavailable(Failure("shard 1 has no master"))
        self.queries.append(query)
        return self.machine.query(query)

    async def _execute(self, command: c.Command, **_: Any) -> Executed:
        self.saves += isinstance(command, c.Save)
        return self.refuse(command) or Executed(self.feeder.do(command), 1, 1, "n1")

    def _execute_soon(
        self, command: c.Save, blobs: object, deadline_s: float, done: Callable[[Executed], None]
    ) -> None:
        self.saves += 1
        done(Executed(self.feeder.do(command), 1, 1, "n1"))

    def script(self, text: bytes, user: str = "a", name: str = "main") -> None:
        self.feeder.do(c.PutScript(user, name, REQUIRE + text))
        self.feeder.do(c.ActivateScript(user, name))

    def make(self, name: str, use: str = "") -> None:
        self.feeder.do(c.CreateMailbox("a", name, 5, name.encode().ljust(16, b"."), use))

    def send(self, subject: str = "x", *to: Recipient) -> list[Verdict]:
        trace = SimpleNamespace(prefix=lambda address: b"Received: here\r\n")
        from_ = Address("s", "z.org", "s", "")
        envelope = Envelope(from_, "h", "p", False, False, "t", self.now_s, cast(Any, trace))
        body = HEADER + subject.encode() + b"\r\n\r\ny\r\n"
        recipients = to or (to_user("a"),)
        told: list[Verdict] = []
        if self.delivery.deliver_soon(envelope, body, recipients, told.extend):
            return told
        return list(asyncio.run(self.delivery.deliver(envelope, body, recipients)))

    def boxes(self, user: str = "a") -> dict[str, list[tuple[str, ...]]]:
        """The flags of the messages, by mailbox; empty ones are left out."""
        found = {}
        for box in cast(Any, self.machine.query(q.ListMailboxes(user))):
            page = cast(Any, self.machine.query(q.FetchMessages(user, box.name, ALL)))
            if page.messages:
                found[box.name] = [one.flags for one in page.messages]
        return found


ALL = UidSet.parse("1:*")


def to_user(user: str, detail: str = "") -> Recipient:
    local = f"{user}+{detail}" if detail else user
    address = Address(local, "", user, detail, "+")
    return Recipient(address, KnownRecipient(250, "2.1.5", "Recipient ok", user, detail))


def test_who_has_no_rules_has_mail_without_a_task_or_a_query() -> None:
    site = Site()
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {"INBOX": [()]} and site.queries == [] and site.saves == 1


@pytest.mark.parametrize(
    ("script", "boxes"),
    [
        (b'fileinto "L";', {"L": [()]}),
        (b'fileinto :copy "L";', {"INBOX": [()], "L": [()]}),
        (b'fileinto :flags "\\\\Seen k" "L"; keep;', {"INBOX": [()], "L": [("\\Seen", "k")]}),
        (b"discard;", {}),
        (b'addflag "\\\\Flagged";', {"INBOX": [("\\Flagged",)]}),
        (b'fileinto :create "New/One";', {"New/One": [()]}),
        (b'fileinto :specialuse "\\\\Junk" "L";', {"J": [()]}),
        (b'if envelope :detail "to" "x" { fileinto "L"; }', {"INBOX": [()]}),
        (b'if mailboxexists "L" { discard; }', {}),
    ],
)
def test_mail_goes_where_rules_want_it_in_one_command(
    script: bytes, boxes: dict[str, list[tuple[str, ...]]]
) -> None:
    site = Site()
    site.make("L")
    site.make("J", "\\Junk")
    site.script(script)
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == boxes and site.saves == bool(boxes)
    assert site.rules.counts.failed == 0


def test_rules_see_the_detail_and_keep_is_the_mailbox_that_the_detail_names() -> None:
    site = Site()
    site.make("x")
    site.make("L")
    site.script(b'if envelope :detail "to" "x" { fileinto :copy "L"; }')
    site.send("one", to_user("a", "x"))
    assert site.boxes() == {"L": [()], "x": [()]}


@pytest.mark.parametrize(
    "script",
    [
        b'fileinto "Missing";',
        b'set "x" "a*"; fileinto "${x}";',
        b'include "gone";',
        b'fileinto :create "Missing"; reject "no";',
    ],
)
def test_rules_that_fail_leave_mail_in_inbox_and_are_counted(script: bytes) -> None:
    site = Site()
    site.script(script)
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {"INBOX": [()]} and site.rules.counts.failed == 1


def test_a_fault_in_the_rules_of_ours_loses_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(ScriptRun, "advance", fails)
    site = Site()
    site.script(b"discard;")
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {"INBOX": [()]} and site.rules.counts.failed == 1


def test_a_script_that_no_longer_compiles_leaves_mail_in_inbox() -> None:
    site = Site()
    site.feeder.do(c.PutScript("a", "old", b"kepe;"))
    site.feeder.do(c.ActivateScript("a", "old"))
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {"INBOX": [()]} and site.rules.counts.failed == 1


def test_mail_that_cannot_have_the_flags_of_rules_has_none() -> None:
    site = Site()
    flags = b", ".join(b'"k%d"' % n for n in range(200))
    site.make("L")
    site.script(b"fileinto :flags [" + flags + b'] "L";')
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {"INBOX": [()]} and site.rules.counts.failed == 1


def test_a_rejection_refuses_the_mail_for_one_recipient_alone() -> None:
    site = Site()
    site.script(b"reject text:\r\nNot\r\nwanted\r\n.\r\n;")
    told = site.send("x", to_user("a"), to_user("b"))
    assert [(one.code, one.text) for one in told] == [(550, "Not wanted"), (250, "Delivered")]
    assert site.boxes() == {} and site.boxes("b") == {"INBOX": [()]}


def test_a_delivery_that_is_repeated_has_one_effect_whatever_the_script_says_by_then() -> None:
    site = Site()
    site.make("L")
    site.script(b'fileinto "L";')
    site.send()
    for script in (b"keep;", b'fileinto :copy "L"; fileinto "N";', b'reject "no";', b"discard;"):
        site.script(script)
        assert [one.code for one in site.send()] == [250]
        assert site.boxes() == {"L": [()]}
    assert [one.code for one in site.send("another")] == [250]


def test_an_alias_goes_by_the_rules_of_each_user() -> None:
    site = Site()
    site.make("L")
    site.script(b'fileinto "L";')
    address = Address("team", "", "team", "", "+")
    team = ExpandedRecipient(250, "2.1.5", "Recipient ok", ("a", "b"), "team", "")
    assert [one.code for one in site.send("x", Recipient(address, team))] == [250]
    assert (site.boxes(), site.boxes("b")) == ({"L": [()]}, {"INBOX": [()]})
    assert site.saves == 1


def test_a_duplicate_is_known_as_long_as_rules_say() -> None:
    site = Site()
    site.make("L")
    site.script(b'if duplicate :seconds 100 { fileinto "L"; }')
    site.send("one")
    site.now_s += 50
    site.send("two")
    assert site.boxes() == {"INBOX": [()], "L": [()]}
    site.now_s += 60
    site.send("three")
    assert site.boxes() == {"INBOX": [(), ()], "L": [()]}


def test_mail_that_is_to_be_sent_on_or_answered_is_kept_and_told() -> None:
    site = Site()
    site.script(b'redirect "o@z.org";')
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {"INBOX": [()]}
    site.script(b'vacation :addresses "a" "away";')
    site.send("two")
    assert len(site.boxes()["INBOX"]) == 2
    assert site.rules.counts.redirects_kept == 1 and len(site.rules.alarms()) == 1


def test_mail_waits_with_its_sender_while_the_rules_cannot_be_read() -> None:
    site = Site(is_here=False)
    site.script(b"discard;")
    site.down = True
    assert [one.code for one in site.send()] == [451]
    site.down = False
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {}


def test_a_node_without_a_replica_asks_once_in_a_while() -> None:
    site = Site(is_here=False)
    for subject in "xyz":
        site.send(subject)
    assert len(site.queries) == 1 and site.boxes() == {"INBOX": [()] * 3}


def test_scripts_are_read_again_only_when_they_changed_and_kept_within_bytes() -> None:
    site = Site()
    known = site.rules.known
    site.script(b'fileinto "L";')
    site.make("L")
    site.send("x")
    program = known._compiled["a"].program
    site.send("y")
    assert known._compiled["a"].program is program
    small = KnownRules(known.router, bytes_max=1)
    rules = asyncio.run(small.of("a", q.ReadPoint(), 1.0))
    assert rules is not None and rules.program is not None
    assert small._compiled == {} and small._bytes == 0


def test_a_run_that_takes_too_much_leaves_mail_in_inbox() -> None:
    site = Site()
    script = b"".join(b'fileinto "L%d";' % n for n in range(DEFAULT_RULE_LIMITS.actions_max + 1))
    site.script(script)
    assert [one.code for one in site.send()] == [250]
    assert site.boxes() == {"INBOX": [()]} and site.rules.counts.failed == 1
