from email.parser import BytesParser
from email.policy import default
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.smtp_address import make_address
from raftmail.mail.trace_fields import Trace, format_date, make_trace, with_keyword


def trace(sender: str | None = "a") -> Trace:
    return make_trace(
        None if sender is None else make_address(sender, "example.org"),
        lhlo_name="client.example",
        peer="[192.0.2.1]",
        host="mx.example",
        protocol="LMTPS",
        transaction_id="18c.1",
        received_unix_s=0.9,
    )


def test_the_prefix_stands_in_the_order_of_final_delivery() -> None:
    recipient = make_address("Bob+lists", "example.com")
    assert trace().prefix(recipient) == (
        b"Return-Path: <a@example.org>\r\n"
        b"Delivered-To: Bob+lists@example.com\r\n"
        b"Received: from client.example ([192.0.2.1])\r\n"
        b"\tby mx.example with LMTPS id 18c.1;\r\n"
        b"\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
    )


def test_the_prefix_for_nobody_is_the_same_for_all() -> None:
    assert b"Delivered-To" not in trace().prefix(None)
    assert trace().prefix(None) == trace().prefix(None)


def test_a_bounce_has_an_empty_return_path() -> None:
    assert trace(None).return_path == b"Return-Path: <>\r\n"


def test_a_parser_finds_the_fields_and_the_message_behind_them() -> None:
    prefix = trace("john doe").prefix(make_address("jürgen", "example.com"))
    message = BytesParser(policy=default).parsebytes(prefix + b"Subject: hello\r\n\r\nbody\r\n")
    assert message.keys() == ["Return-Path", "Delivered-To", "Received", "Subject"]
    assert message["Return-Path"] == '<"john doe"@example.org>'
    assert not message.defects


@pytest.mark.parametrize(
    ("utf8", "tls", "authenticated", "keyword"),
    [
        (False, False, False, "LMTP"),
        (False, False, True, "LMTPA"),
        (False, True, False, "LMTPS"),
        (False, True, True, "LMTPSA"),
        (True, False, False, "UTF8LMTP"),
        (True, False, True, "UTF8LMTPA"),
        (True, True, False, "UTF8LMTPS"),
        (True, True, True, "UTF8LMTPSA"),
    ],
)
def test_the_keyword_is_a_registered_one(
    utf8: bool, tls: bool, authenticated: bool, keyword: str
) -> None:
    assert with_keyword(utf8=utf8, tls=tls, authenticated=authenticated) == keyword


@given(st.integers(0, 2**33))
def test_a_date_reads_back(unix_s: int) -> None:
    date = parsedate_to_datetime(format_date(unix_s))
    assert date.timestamp() == unix_s
    assert format_date(unix_s).startswith(date.strftime("%a, %d %b %Y "))
