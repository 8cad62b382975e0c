"""What rules do to a delivery: one command still, and nothing is ever lost over them."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.cluster.router import Router
from raftmail.mail.commands import CreateMailbox, NewMessage, Save
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import ActiveScript, ListMailboxes, MailboxInfo, RulesInForce
from raftmail.mail.results import Executed, SaveResult
from raftmail.service import delivery_rules
from raftmail.service.delivery import ExpandedRecipient, MailDelivery
from raftmail.service.verdicts import Envelope, Recipient, Verdict
from raftmail.sieve.script_run import ScriptRun
from tests.service.test_delivery import Twin as PlainTwin
from tests.service.test_delivery import _address

BODY = b"From: anna@x.org\r\nSubject: report\r\nX-Spam: yes\r\n\r\nfigures\r\n"
NEEDS = 'require ["fileinto","imap4flags","copy","reject","mailbox","special-use","include"];'


@dataclass
class Twin(PlainTwin):
    """Users have scripts; `far` are those whose shard is on other nodes."""

    scripts: dict[str, str] = field(default_factory=dict)
    mailboxes: dict[str, str] = field(default_factory=dict)
    far: bool = False
    asked: int = 0
    dead: bool = False
    commands: list[Save | CreateMailbox] = field(default_factory=list)
    soon: list[Save] = field(default_factory=list)

    def _rules(self, query: ActiveScript) -> RulesInForce | None:
        script = self.scripts.get(query.user)
        if script is None:
            return None
        version = hashlib.sha256(script.encode()).digest()[:16]
        if version == query.known:
            return RulesInForce(version, "", b"", ())
        return RulesInForce(version, "main", script.encode(), (("other", b"keep;"),))

    def query_now(self, query: object) -> tuple[object] | None:
        assert isinstance(query, ActiveScript)
        return None if self.far else (self._rules(query),)

    async def query(self, query: Any, *, deadline_s: float, point: Any = None) -> Any:
        if self.dead:
            raise Unavailable(Failure("there is no master"))
        if isinstance(query, ListMailboxes):
            return tuple(
                MailboxInfo(1, query.user, name, b"", 1, 1, 1, 0, 0, 0, use, True, b"")
                for name, use in self.mailboxes.items()
            )
        assert isinstance(query, ActiveScript)
        self.asked += 1
        return self._rules(query)

    async def execute(self, command: Any, *, deadline_s: float, blobs: Any = ()) -> Executed:
        self.commands.append(command)
        return Executed(SaveResult(()), 1, 1, "n")

    def execute_soon(self, command: Save, blobs: Any, deadline_s: float, done: Any) -> None:
        self.soon.append(command)
        done(Executed(SaveResult(()), 1, 1, "n"))


def deliver(twin: Twin, *names: str, delivery: MailDelivery | None = None) -> list[Verdict]:
    """The verdicts about recipients of one message."""
    delivery = delivery or MailDelivery(cast(Router, twin), 10.0)
    trace = SimpleNamespace(prefix=lambda a: b"")
    envelope = Envelope(_address("anna@x.org"), "h", "p", False, False, "t", 5.0, cast(Any, trace))
    recipients = [Recipient(_address(name), Verdict.accepted()) for name in names]
    return list(asyncio.run(delivery.deliver(envelope, BODY, recipients)))


def saved(twin: Twin) -> list[NewMessage]:
    """The messages of the one command that was made."""
    (command,) = twin.commands
    assert isinstance(command, Save)
    return list(command.messages)


def where(twin: Twin) -> list[tuple[str, tuple[str, ...]]]:
    return [(str(t.mailbox), m.flags) for m in saved(twin) for t in m.targets]


@pytest.mark.parametrize(
    ("script", "places"),
    [
        ("keep;", [("INBOX", ())]),
        ('fileinto "Work";', [("Work", ())]),
        ('fileinto :copy "Work";', [("Work", ()), ("INBOX", ())]),
        ('fileinto :flags "\\\\Seen" "Work"; keep;', [("Work", ("\\Seen",)), ("INBOX", ())]),
        ('if header "X-Spam" "yes" { fileinto "Junk"; stop; }', [("Junk", ())]),
        ('if header "X-Spam" "no" { fileinto "Junk"; stop; }', [("INBOX", ())]),
        ('fileinto "";', [("INBOX", ())]),
        ('include "other";', [("INBOX", ())]),
    ],
)
def test_a_message_goes_where_the_rules_say_by_one_command(
    script: str, places: list[tuple[str, tuple[str, ...]]]
) -> None:
    twin = Twin(scripts={"a@x.org": NEEDS + script})
    (verdict,) = deliver(twin, "a@x.org")
    assert verdict.is_positive and where(twin) == places
    keys = [key for message in saved(twin) for key in message.delivery_keys]
    assert len(set(keys)) == len(places)


def test_what_rules_throw_away_is_taken_and_not_saved() -> None:
    twin = Twin(scripts={"a@x.org": "discard;"})
    (verdict,) = deliver(twin, "a@x.org")
    assert verdict.is_positive and not twin.commands


def test_who_rejects_is_told_for_that_recipient_alone() -> None:
    twin = Twin(scripts={"a@x.org": NEEDS + 'reject "not\r\nby mail, \u00fc";'}, shards=4)
    twin.scripts = {"u1@x.org": twin.scripts["a@x.org"]}
    refused, taken = deliver(twin, "u1@x.org", "u2@x.org")
    assert refused.code == 550 and refused.text.startswith("not by mail")
    assert taken.is_positive
    assert [t.user for m in saved(twin) for t in m.targets] == ["u2@x.org"]


@pytest.mark.parametrize(
    "script",
    [
        "this is no script",
        NEEDS + 'include "nowhere";',
        'require ["reject"]; keep; reject "no";',
        'redirect "b@y.org";',
        'require ["variables"]; ' + 'set "a" "${a}${a}xxxxxxxxxxxxxxxx";' * 3000,
    ],
)
def test_where_rules_fail_the_message_goes_to_the_inbox(script: str) -> None:
    twin = Twin(scripts={"a@x.org": script})
    delivery = MailDelivery(cast(Router, twin), 10.0)
    (verdict,) = deliver(twin, "a@x.org", delivery=delivery)
    assert verdict.is_positive and where(twin) == [("INBOX", ())]
    assert delivery.rules.failures == (0 if "variables" in script else 1)


def test_a_fault_in_the_rules_of_ours_loses_no_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(ScriptRun, "advance", fails)
    twin = Twin(scripts={"a@x.org": "discard;"})
    (verdict,) = deliver(twin, "a@x.org")
    assert verdict.is_positive and where(twin) == [("INBOX", ())]


def test_a_repeated_delivery_has_the_keys_of_the_first_though_the_rules_changed() -> None:
    keys = []
    for script in ('fileinto :copy "Work";', 'fileinto "Junk"; fileinto "Old";'):
        twin = Twin(scripts={"a@x.org": NEEDS + script})
        deliver(twin, "a@x.org")
        keys.append([key for message in saved(twin) for key in message.delivery_keys])
    assert keys[0] == keys[1] and len(set(keys[0])) == 2


def test_a_mailbox_is_made_where_the_rules_want_that_and_found_by_its_use() -> None:
    script = 'fileinto :create "New"; fileinto :specialuse "\\\\Junk" "Spam";'
    twin = Twin(scripts={"a@x.org": NEEDS + script}, mailboxes={"Müll": "\\Junk"})
    deliver(twin, "a@x.org")
    made, command = twin.commands
    assert isinstance(made, CreateMailbox) and made.name == "New"
    twin.commands = [command]
    assert [name for name, _ in where(twin)] == ["New", "Müll"]


def test_an_alias_goes_by_the_rules_of_each_of_its_users() -> None:
    twin = Twin(scripts={"a@x.org": NEEDS + 'reject "no";', "b@x.org": NEEDS + 'fileinto "Work";'})
    delivery = MailDelivery(cast(Router, twin), 10.0)
    users = ("a@x.org", "b@x.org")
    verdict = ExpandedRecipient(250, "2.1.5", "Recipient ok", users, "team@x.org")
    trace = SimpleNamespace(prefix=lambda a: b"")
    envelope = Envelope(None, "h", "p", False, False, "t", 5.0, cast(Any, trace))
    (told,) = asyncio.run(
        delivery.deliver(envelope, BODY, [Recipient(_address("team@x.org"), verdict)])
    )
    assert told.is_positive and where(twin) == [("Work", ())]


def test_who_has_no_rules_is_served_at_once_and_who_has_some_is_not() -> None:
    twin = Twin(scripts={"a@x.org": "keep;"})
    delivery = MailDelivery(cast(Router, twin), 10.0)
    trace = SimpleNamespace(prefix=lambda a: b"")
    envelope = Envelope(None, "h", "p", False, False, "t", 5.0, cast(Any, trace))
    for name, at_once in (("b@x.org", True), ("a@x.org", False)):
        recipients = [Recipient(_address(name), Verdict.accepted())]
        told: list[Verdict] = []
        assert delivery.deliver_soon(envelope, BODY, recipients, told.extend) is at_once
        assert len(told) == at_once


def test_another_node_is_asked_once_in_a_while_for_the_rules_of_its_users() -> None:
    twin = Twin(scripts={"a@x.org": NEEDS + 'fileinto "Work";'}, far=True)
    delivery = MailDelivery(cast(Router, twin), 10.0)
    for _ in range(3):
        deliver(twin, "a@x.org", delivery=delivery)
    assert twin.asked == 1
    twin.now += delivery_rules.RULES_KNOWN_S + 0.1
    del twin.scripts["a@x.org"]
    twin.commands.clear()
    deliver(twin, "a@x.org", delivery=delivery)
    assert twin.asked == 2 and where(twin) == [("INBOX", ())]


def test_who_cannot_be_asked_for_rules_has_the_client_come_again() -> None:
    twin = Twin(far=True, dead=True)
    (verdict,) = deliver(twin, "a@x.org")
    assert verdict.code == 451 and not twin.commands


def test_programs_that_are_kept_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_rules, "PROGRAMS_BYTES_MAX", 2000)
    twin = Twin(scripts={f"u{n}@x.org": "keep;" for n in range(20)}, shards=4)
    delivery = MailDelivery(cast(Router, twin), 10.0)
    for n in range(20):
        deliver(twin, f"u{n}@x.org", delivery=delivery)
    assert 0 < len(delivery.rules._known) <= 2000 // 256
