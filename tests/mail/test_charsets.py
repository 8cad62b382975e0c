"""Charsets by the names that mail gives them, and text that is in none."""

from __future__ import annotations

import encodings
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.charsets import codec_of, decode_text, guess, text_pieces
from tests.fuzzing import bounded


@pytest.mark.parametrize(
    ("charset", "text", "data"),
    [
        (b"utf-8", "Grüße", "Grüße".encode()),
        (b"UTF8", "Grüße", "Grüße".encode()),
        (b"iso-8859-1", "Grüße", b"Gr\xfc\xdfe"),
        (b"ISO_8859-15", "€", b"\xa4"),
        (b"windows-1251", "почта", "почта".encode("cp1251")),
        (b"KOI8-R", "почта", "почта".encode("koi8_r")),
        (b"koi8-u", "їжак", "їжак".encode("koi8_u")),
        (b"iso-2022-jp", "日本語", "日本語".encode("iso2022_jp")),
        (b"Shift_JIS", "①日本", "①日本".encode("cp932")),
        (b"euc-kr", "메일", "메일".encode("euc_kr")),
        (b"ks_c_5601-1987", "뷁", "뷁".encode("cp949")),
        (b"gb2312", "郵件", "郵件".encode("gbk")),
        (b"big5", "郵件", "郵件".encode("big5")),
        (b"utf-7", "Grüße", b"Gr+APwA3w-e"),
        (b"utf-16", "Grüße", "Grüße".encode("utf-16")),
        (b"utf-8*en", "ü", "ü".encode()),
        (b"us-ascii", "ü", "ü".encode()),
    ],
)
def test_charsets_are_known_by_what_mail_calls_them(charset: bytes, text: str, data: bytes) -> None:
    assert decode_text(data, charset) == text


def test_every_charset_that_python_has_is_known() -> None:
    no_charsets = {"aliases", "charmap", "idna", "mbcs", "oem", "punycode", "undefined"}
    no_charsets |= {"raw_unicode_escape", "unicode_escape"}
    for module in pkgutil.iter_modules(encodings.__path__):
        if module.name in no_charsets or not is_text(module.name):
            continue
        assert codec_of(module.name.encode()) is not None, module.name


def is_text(codec: str) -> bool:
    """Codecs between bytes and bytes are refused; what is no text in a charset is not."""
    try:
        b"a".decode(codec, "replace")
    except LookupError:
        return False
    return True


@pytest.mark.parametrize(
    "charset",
    [b"", b"x-nope", b"hex", b"zip", b"rot13", b"unicode_escape", b"idna", b"undefined", b"\0",
     b"\xff", b"../x", b"uu", b"base64", b"x" * 5000],
)  # fmt: skip
def test_what_is_no_charset_is_guessed(charset: bytes) -> None:
    assert codec_of(charset) is None
    assert decode_text(b"gr\xfc\xdfe", charset) == "grüße"
    assert decode_text("grüße".encode(), charset) == "grüße"


def test_octets_that_are_no_text_leave_the_others_as_they_are() -> None:
    assert decode_text(b"gr\xc3\xbc\xff\xc3\x9fe", b"utf-8") == "grü\ufffdße"


@bounded
@given(st.binary(max_size=80), st.sampled_from([b"utf-7", b"hz", b"iso-2022-kr", b"utf-32", b"x"]))
def test_no_bytes_are_refused_in_any_charset(data: bytes, charset: bytes) -> None:
    decode_text(data, charset)
    guess(data)


@bounded
@given(
    st.binary(max_size=60) | st.text(max_size=30).map(str.encode),
    st.sampled_from(
        [b"utf-8", b"utf-7", b"utf-16", b"iso-2022-jp", b"gb2312", b"x-nope", b"ascii"]
    ),
    st.integers(1, 70),
)
def test_text_in_pieces_is_the_text(data: bytes, charset: bytes, bytes_at_once: int) -> None:
    pieces = list(text_pieces(data, charset, bytes_at_once))
    try:
        data.decode(codec_of(charset) or "utf-8")
    except UnicodeError:
        assert pieces
    else:
        assert "".join(pieces) == decode_text(data, charset)


def test_text_that_is_guessed_in_pieces_is_guessed_as_a_whole() -> None:
    assert "".join(text_pieces(b"gr\xfc\xdfe" + "ü".encode(), b"", 3)) == "grüßeÃ¼"
    assert "".join(text_pieces("grüße".encode(), b"", 3)) == "grüße"
