"""ENVELOPE lists read again, as summaries have them; with the cases that broke clients."""

from __future__ import annotations

import pytest
from hypothesis import given

from raftmail.frontends.imap.envelopes import (
    EnvelopeError,
    ImapAddress,
    ImapEnvelope,
    date_and_subject,
    read_envelope,
)
from raftmail.mail.summary import summarise
from tests.frontends.imap.odd_messages import ODD, odd_bytes
from tests.fuzzing import bounded

GROUP_END = ImapAddress(None, None, None, None)


def envelope(message: bytes) -> ImapEnvelope:
    return read_envelope(summarise(message).envelope)


def address(mailbox: bytes, host: bytes | None, name: bytes | None = None) -> ImapAddress:
    return ImapAddress(name, None, mailbox, host)


def test_quotes_and_backslashes_come_back_as_the_sender_wrote_them() -> None:
    found = envelope(ODD["specials in strings"])
    assert found.from_ == (ImapAddress(b'a"b\\c', None, b"x", b"example.org"),)
    assert found.message_id == b'<"q\\\\z"@example.org>'


def test_a_group_begins_and_ends_around_its_members() -> None:
    found = envelope(ODD["groups"])
    assert found.to == (address(b"undisclosed-recipients", None), GROUP_END)
    assert found.cc == (
        address(b"Team A", None),
        address(b"z", b"example.org", b"Zed"),
        address(b"y", b"example.org"),
        GROUP_END,
        address(b"w", b"example.org"),
    )


def test_an_empty_list_of_addresses_is_nil() -> None:
    summary = summarise(ODD["empty address lists"])
    assert b"()" not in summary.envelope
    found = read_envelope(summary.envelope)
    assert found.to == found.cc == found.bcc == ()


def test_an_address_without_a_host_is_not_taken_for_a_group() -> None:
    found = envelope(ODD["addresses without a host"])
    assert found.from_ == found.sender == (address(b"Zoe", b""),)
    assert found.to == (address(b"only name", b""),)
    (routed,) = found.reply_to
    assert (routed.mailbox, routed.host) == (b"z", b"example.org")


def test_sender_and_reply_to_are_those_of_from_where_they_are_empty() -> None:
    for message in (b"From: a@b\r\n\r\n", b"From: a@b\r\nSender:\r\n\r\n"):
        found = envelope(message)
        assert found.from_ == found.sender == found.reply_to == (address(b"a", b"b"),)


def test_no_field_is_nil_and_an_empty_subject_is_empty() -> None:
    nothing = envelope(b"X: y\r\n\r\n")
    assert nothing == ImapEnvelope(None, None, (), (), (), (), (), (), None, None)
    assert envelope(b"Subject:\r\n\r\n").subject == b""


def test_words_that_look_like_addresses_never_break_the_list() -> None:
    found = envelope(ODD["words broken in addresses"])
    assert all(len(one) == 4 and one.host is not None for one in found.from_ + found.to)
    assert found.from_[0] == address(b"=?utf-8?Q?a", b"")
    assert found.to == (address(b"x", b"example.org", b"bb?= =?utf-8?Q?c"),)


def test_folds_are_undone() -> None:
    message = (
        b"Subject: long\r\n\tfold\r\n"
        b"From: =?iso-8859-1?Q?aa?=\r\n =?iso-8859-1?Q?bb?= <x@example.org>\r\n\r\n"
    )
    found = envelope(message)
    assert found.subject == b"long\tfold"
    assert found.from_ == (
        address(b"x", b"example.org", b"=?iso-8859-1?Q?aa?= =?iso-8859-1?Q?bb?="),
    )


def test_octets_that_no_quoted_string_may_hold_come_back_from_a_literal() -> None:
    assert envelope('Subject: Äpple "1"\r\n\r\n'.encode()).subject == 'Äpple "1"'.encode()


@pytest.mark.parametrize("broken", [b"", b"(", b"NIL", b"()", b'("a" "b"', b'("a" "b" () NIL)'])
def test_what_is_no_envelope_is_refused(broken: bytes) -> None:
    with pytest.raises(EnvelopeError):
        read_envelope(broken)


@bounded
@given(odd_bytes)
def test_every_envelope_is_read_again(message: bytes) -> None:
    summary = summarise(message)
    found = read_envelope(summary.envelope)
    assert date_and_subject(summary.envelope) == (found.date, found.subject)
    for most in (0, 1, 2):
        less = read_envelope(summary.envelope, addresses_max=most)
        assert tuple(less) == tuple(
            member[:most] if isinstance(member, tuple) else member for member in found
        )


def test_addresses_that_are_not_asked_for_are_passed_over_also_where_they_are_literals() -> None:
    field = ", ".join(f"Zoë {number} <z{number}@x>, y{number}@x" for number in range(50))
    summary = summarise(f"To: {field}\r\nMessage-ID: <a@b>\r\n\r\n".encode())
    found = read_envelope(summary.envelope, addresses_max=1)
    assert found.to == (address(b"z0", b"x", "Zoë 0".encode()),)
    assert found.message_id == b"<a@b>"
