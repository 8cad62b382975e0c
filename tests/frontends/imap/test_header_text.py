"""Header fields as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given

from raftmail.frontends.imap.header_text import VALUE_BYTES_MAX, decode_field, fold
from raftmail.mail.encoded_words import decode_words
from tests.frontends.imap.odd_messages import odd_bytes
from tests.fuzzing import bounded


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (b"plain", "plain"),
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?UTF-8?B?R3LDvMOfZQ==?=", "Grüße"),
        (b"=?iso-8859-1?Q?aa?= =?iso-8859-1?Q?bb?=", "aabb"),
        (b"=?iso-8859-1?Q?aa?=\t =?utf-8?Q?bb?= c", "aabb c"),
        (b"a =?utf-8?q?b_c?= d", "a b c d"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A4?=", "ä"),
        (b"=?utf-8?b?w6Q?=", "ä"),
        (b"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        (b"=?utf-8*de?q?x?=", "x"),
        (b'"=?utf-8?q?quoted?=" <a@b>', '"quoted" <a@b>'),
        (b"=?utf-8?q?with space?=", "with space"),
        (b"Gr\xc3\xbc\xc3\x9fe", "Grüße"),
        (b"Gr\xfc\xdfe", "Grüße"),
    ],
)
def test_words_are_decoded(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@pytest.mark.parametrize(
    "value",
    [b"=?x-nope?q?=41?=", b"=?utf-8?x?=41?=", b"=?utf-8?q?=41", b"=?utf-8?q", b"=?", b"bb?= =?",
     b"=?hex?q?41?="],
)  # fmt: skip
def test_words_that_cannot_be_decoded_stay_as_they_are(value: bytes) -> None:
    assert decode_words(value) == value.decode()


def test_broken_words_do_not_hide_those_that_are_whole() -> None:
    assert decode_words(b"=?utf-8?q?a =?utf-8?q?b?= =?x?b?c?=") == "=?utf-8?q?a b =?x?b?c?="


def test_octets_in_a_word_that_are_none_of_its_charset_become_a_mark() -> None:
    assert decode_words(b"=?utf-8?q?a=FFb?=") == "a\ufffdb"


def test_folds_are_undone_and_the_space_after_them_is_kept() -> None:
    assert decode_field(b"Subject", b" long\r\n\tfold\r\n") == "long\tfold"
    assert decode_field(b"Subject", b" =?utf-8?q?a?=\r\n =?utf-8?q?b?=") == "ab"


def test_what_is_escaped_in_quotes_is_found_with_and_without_its_escapes() -> None:
    text = decode_field(b"From", rb' "a\"b" <x@y>')
    assert r'"a\"b"' in text
    assert '"a"b"' in text


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b" attachment; filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf", "Grüße.pdf"),
        (b" attachment; filename*=iso-8859-1'de'Gr%FC%DFe.pdf", "Grüße.pdf"),
        (b" attachment;\r\n filename*1=b.pdf;\r\n filename*0=a", "ab.pdf"),
        (b" attachment; filename*0*=utf-8''%C3; filename*1*=%A4; filename*2=\"%41\"", "ä%41"),
        (b" attachment; filename*=%C3%A4", "ä"),
    ],
)
def test_parameters_in_pieces_or_in_a_charset_are_put_together(value: bytes, found: str) -> None:
    assert found in decode_field(b"Content-Disposition", value).splitlines()
    assert found not in decode_field(b"Subject", value).splitlines()


def test_text_is_compared_without_case_and_with_accents_however_they_are_written() -> None:
    assert fold("GRÜSSE") == fold("grüße") == fold("gru\u0308sse")
    assert fold("Ångström") == fold("A\u030angstro\u0308m") == fold("\u212bngström")
    assert fold("e") not in fold("é")
    assert fold("ABC") == "abc"


def test_of_a_very_long_value_the_beginning_is_decoded() -> None:
    value = b"=?utf-8?q?a?= " * (VALUE_BYTES_MAX // 10)
    assert len(decode_field(b"Subject", value)) < VALUE_BYTES_MAX // 10


def test_long_runs_of_accents_are_folded_in_the_time_that_their_length_allows() -> None:
    """If they were put in order, this would not end for a long time."""
    run = "a" + "\u0301\u0316" * 500_000
    assert len(fold(run)) > 900_000


@bounded
@given(odd_bytes)
def test_no_bytes_are_too_odd_to_be_decoded(value: bytes) -> None:
    for name in (b"Subject", b"Content-Type"):
        fold(decode_field(name, value))
