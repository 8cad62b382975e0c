"""The message that a vacation sends, and mail that comes back from where it was sent on."""

from __future__ import annotations

from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message

import pytest

from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import Redirect, VacationReply
from raftmail.sieve.vacation_reply import compose_reply
from tests.sieve.runs import AROUND, PLAIN, outcome_of

_BEFORE = b"Message-ID: <3@x>\r\nReferences: <1@x>\r\n <2@x>\r\n"


def _reply(arguments: str, message: bytes = _BEFORE + PLAIN) -> Message:
    (reply,) = [
        one
        for one in outcome_of(f'require "vacation"; vacation {arguments};', message)
        if isinstance(one, VacationReply)
    ]
    octets = compose_reply(reply, RuleMessage(message), AROUND, "9@me")
    assert b"\n" not in octets.replace(b"\r\n", b"")
    return message_from_bytes(octets)


def _text(field: str) -> str:
    return str(make_header(decode_header(field)))


def test_an_answer_says_to_what_it_is_one_and_that_a_machine_wrote_it() -> None:
    reply = _reply('"I am away."')
    assert reply["To"] == "<anna@example.org>"
    assert reply["From"] == "<me@example.org>"
    assert reply["Subject"] == "Auto: hello"
    assert reply["In-Reply-To"] == "<3@x>"
    assert reply["References"].split() == ["<1@x>", "<2@x>", "<3@x>"]
    assert reply["Auto-Submitted"].startswith("auto-replied")
    assert reply["Message-ID"] == "<9@me>"
    assert reply["Date"] == "Fri, 15 Jan 2027 08:00:00 +0000"
    assert reply.get_payload(decode=True) == b"I am away.\r\n"


def test_an_answer_in_any_script_can_be_read() -> None:
    subject = "Bin weg: Grüße aus Österreich an alle, die mir schreiben, und noch viel mehr Wörter"
    reply = _reply(f':subject "{subject}" :from "Jürgen <j@example.org>" "Grüße\nvon hier"')
    assert _text(reply["Subject"]) == subject
    assert _text(reply["From"]).replace("  ", " ") == "Jürgen <j@example.org>"
    assert reply.get_payload(decode=True) == "Grüße\r\nvon hier".encode()


def test_no_text_of_a_script_begins_a_field_of_its_own() -> None:
    reply = _reply(':subject "one\r\nBcc: x@y.example" "text"')
    assert reply["Bcc"] is None
    assert reply["Subject"] == "one Bcc: x@y.example"


def test_a_long_line_is_encoded() -> None:
    reply = _reply(f'"{"x" * 2000}"')
    assert reply["Content-Transfer-Encoding"] == "base64"
    assert reply.get_payload(decode=True) == b"x" * 2000


def test_a_reason_may_bring_its_own_fields() -> None:
    reply = _reply(':mime "Content-Type: text/html\r\n\r\n<p>away</p>"')
    assert reply.get_content_type() == "text/html"
    assert reply.get_payload() == "<p>away</p>"


def test_mail_that_comes_back_is_not_sent_on_again() -> None:
    script = 'redirect "other@example.net";'
    assert outcome_of(script) == (Redirect("other@example.net"),)
    back = b"X-Sieve-Redirected-From: ME@example.org\r\n" + PLAIN
    with pytest.raises(RuleError, match="come back"):
        outcome_of(script, back)
    elsewhere = b"X-Sieve-Redirected-From: you@example.org\r\n" + PLAIN
    assert outcome_of(script, elsewhere) == (Redirect("other@example.net"),)


def test_mail_that_goes_round_is_not_sent_on_for_ever() -> None:
    hops = b"Received: from a by b; Mon, 20 Jul 2009 21:44:43 +0300\r\n"
    outcome_of('redirect "other@example.net";', hops * 50 + PLAIN)
    with pytest.raises(RuleError, match="51 hosts"):
        outcome_of('redirect "other@example.net";', hops * 51 + PLAIN)
