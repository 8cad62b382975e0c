"""What TEXT and BODY look into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.header_text import VALUE_BYTES_MAX, fold
from raftmail.frontends.imap.searchable_text import (
    SearchableText,
    fields_have,
    is_plain,
    not_plainly_without,
    plainly_without,
)
from raftmail.mail.headers import each_field
from raftmail.mail.summary import summarise
from tests.frontends.imap.odd_messages import (
    ENCLOSING,
    ODD,
    damaged,
    many_parts,
    nested,
    odd_bytes,
    slow_messages,
)
from tests.fuzzing import bounded, bounded_memory


def text_of(message: bytes) -> SearchableText:
    return SearchableText(summarise(message), message)


def in_body(message: bytes, text: str) -> bool:
    return text_of(message).body_has(fold(text))


def in_header(message: bytes, text: str) -> bool:
    return text_of(message).header_has(fold(text))


def part(content_type: bytes, encoding: bytes, text: bytes) -> bytes:
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        content_type,
        encoding,
        text,
    )


@pytest.mark.parametrize(
    "content_type",
    [
        b"text/plain; charset=utf-7",
        b"text/plain; charset*=us-ascii''utf-7; charset=utf-7",
        b"text/plain; char(us-ascii)set=utf-7",
        b"text/plain;\r\n charset =utf-7",
        b'text/plain; charset="utf\\-7"',
    ],
)
def test_characters_that_are_other_octets_are_found(content_type: bytes) -> None:
    text = text_of(part(content_type, b"7bit", b"a word+AC0-word"))
    assert text.body_has("word-word") == text._texts.have("word-word")


@pytest.mark.parametrize("encoding", [b"base64", b"(7bit) base64", b"\r\n base64"])
def test_words_in_base64_are_found(encoding: bytes) -> None:
    assert in_body(part(b"text/plain; charset=us-ascii", encoding, b"YSB3b3Jk"), "a word")


@given(st.sampled_from(["word", "a w", "d\r\nnext", "7bit", "charset", "none"]))
def test_what_is_clear_at_a_glance_is_so_when_it_is_looked_at(needle: str) -> None:
    for charset in (b"utf-8", b'"us-ascii"', b"ISO-8859-15", b"utf-7", b"x-none"):
        for encoding in (b"7bit", b"8BIT", b"x-odd", b"quoted-printable"):
            message = part(b"text/plain; charset=" + charset, encoding, b"A Word\r\nnext")
            text = text_of(message)
            assert text.body_has(needle) == text._texts.have(needle)


def test_what_is_clear_at_a_glance_is_not_decoded() -> None:
    text = text_of(part(b"text/plain; charset=utf-8", b"7bit", b"A word"))
    del text._texts
    assert not text.body_has("nothing of it")


@pytest.mark.parametrize(
    "message",
    [
        part(b"text/plain; charset=utf-8", b"8bit", "Schöne Grüße".encode()),
        part(b"text/plain; charset=iso-8859-1", b"quoted-printable", b"Sch=F6ne Gr=\r\n=FC=DFe"),
        part(b"text/html; charset=utf-8", b"base64", b"U2Now7ZuZSBHcsO8\r\nw59l"),
        part(b"text/plain; charset=x-nope", b"8bit", b"Sch\xf6ne Gr\xfc\xdfe"),
        part(b"text/plain", b"8bit", "Schöne Grüße".encode()),
        part(b"text/plain; charset=utf-8", b"x-odd", "Schöne Grüße".encode()),
        part(b"text/plain; charset=utf-16", b"8bit", "Schöne Grüße".encode("utf-16")),
    ],
)
def test_a_body_is_searched_without_its_encoding_charset_and_case(message: bytes) -> None:
    assert in_body(message, "SCHÖNE GRÜSSE")
    assert not in_body(message, "schone")


def test_words_are_found_across_a_soft_line_break() -> None:
    message = part(b"text/plain", b"quoted-printable", b"here are two=20=\r\nwords\r\n")
    assert in_body(message, "two words")


def test_broken_base64_is_searched_as_far_as_it_goes() -> None:
    assert in_body(ODD["broken base64"], "abc def")


def test_attachments_that_are_no_text_are_not_searched() -> None:
    for kind, found in ((b"text/x-any", True), (b"application/pdf", False), (b"image/svg", False)):
        assert in_body(part(kind, b"7bit", b"needle"), "needle") == found


def test_parts_of_enclosed_messages_are_searched() -> None:
    for text in ("one.", "two.", "three."):
        assert in_body(ENCLOSING, text)
        assert not in_header(ENCLOSING, text)


def test_headers_of_parts_are_header_and_not_body() -> None:
    for text in ("subject: outer", "letter", "subject: inner", "deep@x", "subject: deepest"):
        assert in_header(ENCLOSING, text)
        assert not in_body(ENCLOSING, text)


def test_headers_are_searched_decoded_and_unfolded() -> None:
    message = b"Subject: =?utf-8?q?Gr=C3=BC?=\r\n =?utf-8?q?=C3=9Fe?= to\r\n\tyou\r\n\r\n"
    assert in_header(message, "Subject: GRÜSSE to\tyou")


def test_what_lies_between_the_parts_is_not_searched() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\r\nx\r\n--b--\r\n"
        b"epilogue"
    )
    assert in_body(message, "x")
    assert not in_body(message, "preamble")
    assert not in_body(message, "epilogue")


def test_a_multipart_without_parts_is_searched_as_the_text_that_it_is_shown_as() -> None:
    assert in_body(ODD["no boundary"], "plain")


def test_an_encoded_message_is_searched_as_it_decodes() -> None:
    assert in_body(ODD["encoded message"], "subject: x")


def test_parts_that_the_summary_left_out_are_searched_as_they_are() -> None:
    message = many_parts(3000) + b"\r\nthe end"
    assert not summarise(message).structure_complete
    assert in_body(message, "the end")
    assert in_body(nested(300), "the end")


LONG = 700_000
"""Octets of text that is searched in more than one piece."""


@pytest.mark.parametrize("charset", [b"", b"us-ascii", b"utf-8", b"iso-8859-1", b"x-nope"])
def test_what_stands_where_a_long_text_is_cut_is_found(charset: bytes) -> None:
    needle = "the needle " * 100
    filler = b"%07d" * (LONG // 7)
    cut = (256 << 10) - 300
    text = (filler % tuple(range(LONG // 7)))[:cut] + needle.encode() + b"x" * 300_000 + b"the end"
    message = part(b"text/plain; charset=" + charset, b"8bit", text)
    found = text_of(message)
    assert found.body_has(needle)
    assert found.body_has("the end")
    assert not found.body_has("needle the needle the end")


def test_a_long_text_is_searched_in_little_memory() -> None:
    message = part(b"text/plain; charset=utf-8", b"8bit", "\U0001f600 text ".encode() * 1_200_000)
    with bounded_memory(32 << 20):
        assert not in_body(message, "nowhere")


def test_many_short_lines_are_decoded_in_little_memory() -> None:
    message = part(b"text/plain", b"quoted-printable", b" \r\n" * 1_500_000)
    with bounded_memory(40 << 20):
        assert not in_body(message, "nowhere")


def test_of_a_very_long_field_the_beginning_is_searched() -> None:
    message = b"Subject: begin " + b"x" * VALUE_BYTES_MAX + b" end\r\n\r\n"
    assert in_header(message, "begin x")
    assert not in_header(message, "x end")


def test_nothing_is_in_every_message() -> None:
    assert in_body(b"", "")
    assert in_header(b"", "")


def test_a_field_is_found_by_its_whole_name_in_any_case() -> None:
    header = b"SUBJECT: a\r\nX-Subject: b\r\nsubject: c\r\n\r\n"
    assert fields_have(header, b"subject", "c")
    assert not fields_have(header, b"subject", "b")
    assert fields_have(header, b"x-subject", "")
    assert not fields_have(header, b"to", "")


@pytest.mark.parametrize(
    ("header", "needle"),
    [
        (b"Subject: a =?utf-8?q?nee?= =?utf-8?q?dle?=\r\n", "needle"),
        (b"Subject: NEEDLE\r\n", "needle"),
        (b"Subject: a\r\n needle\r\n", "a needle"),
        (b'From: "nee\\dle" <a@b>\r\n', "needle"),
        (b"Content-Disposition: x; name*0=nee; name*1=dle\r\n", "needle"),
        ("Subject: \u212aelvin\r\n".encode(), "kelvin"),
        ("Subject: gro\u00df\r\n".encode(), "gross"),
    ],
)
def test_the_glance_at_a_header_never_misses_what_reading_it_would_find(
    header: bytes, needle: str
) -> None:
    assert not plainly_without(header, needle.encode()) or not is_plain(needle)
    assert in_header(header + b"\r\n", needle)


@bounded
@given(odd_bytes, st.text("aeuf8sbjct\u00e4*=", min_size=1, max_size=3))
def test_the_glance_at_a_header_agrees_with_reading_it(message: bytes, needle: str) -> None:
    header = message[: summarise(message).header_bytes]
    if is_plain(needle) and plainly_without(header, needle.encode()):
        for name, _ in each_field(header):
            assert not fields_have(header, name.lower(), needle)


def check(message: bytes) -> None:
    text = text_of(message)
    for needle in ("nowhere to be found", "a", "\ufffd", ""):
        text.header_has(needle)
        text.body_has(needle)
    text.field_has(b"subject", "a")


@bounded
@given(odd_bytes)
def test_no_bytes_are_too_odd_to_be_searched(message: bytes) -> None:
    check(message)


def test_no_damage_keeps_a_message_from_being_searched() -> None:
    for message in damaged(200):
        check(message)


def test_no_run_of_octets_is_searched_again_from_each_of_them() -> None:
    """If one were, this would not end for a long time."""
    for message in slow_messages(20_000):
        check(message)


_PIECES = ("budget", "bud", "get", "Budget", "\n", " ", "=?", "=", "?", "\\", "*", "\u00e4", "x")


@given(
    st.lists(st.none() | st.lists(st.sampled_from(_PIECES), max_size=4).map("".join), max_size=9)
)
def test_headers_that_are_looked_at_together_are_told_as_one_by_one(
    texts: list[str | None],
) -> None:
    blocks = [None if text is None else text.encode() for text in texts]
    expected = [
        at
        for at, block in enumerate(blocks)
        if block is None or not plainly_without(block, b"budget")
    ]
    assert not_plainly_without(blocks, b"budget") == expected


@pytest.mark.parametrize(
    ("body", "has"),
    [
        (b"Subject: words\r\n\r\nno\r\n", False),
        (b"Subject: a Budget\r\n\r\nno\r\n", True),
        (b"Subject: =?utf-8?q?b=75dget?=\r\n\r\nno\r\n", True),
        (b"Subject: words\r\n\r\nthe budget, =?, \\ and *\r\n", False),
        (b"Subject: b\\udget\r\n\r\nno\r\n", True),
    ],
)
def test_a_header_has_what_stands_in_it_and_not_what_the_text_has(body: bytes, has: bool) -> None:
    assert SearchableText(summarise(body), body).header_has("budget") is has
