"""Transfer encodings undone: what was encoded comes back, and any bytes give something."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail.mime import transfer_encoding, type_and_charset
from raftmail.mail.transfer import TRANSPARENT, UnknownEncodingError, decode_transfer
from tests.fuzzing import bounded


@bounded
@given(st.binary(max_size=300))
def test_what_was_encoded_comes_back(data: bytes) -> None:
    assert decode_transfer(base64.encodebytes(data), b"base64") == data
    assert decode_transfer(quopri.encodestring(data, quotetabs=True), b"quoted-printable") == data
    for name in TRANSPARENT:
        assert decode_transfer(data, name) == data


@bounded
@given(st.lists(st.sampled_from([b"=", b"\r", b"\n", b" ", b"Q", b"4", b"!", b"\xff"])))
def test_any_bytes_decode_to_no_more_than_they_are(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    for name in (b"base64", b"quoted-printable"):
        assert len(decode_transfer(data, name)) <= len(data)


def test_an_unknown_encoding_is_refused_by_its_name() -> None:
    with pytest.raises(UnknownEncodingError, match="x-uuencode"):
        decode_transfer(b"begin", b"x-uuencode")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (None, b"7bit"),
        (b" ", b"7bit"),
        (b" BASE64\r\n", b"base64"),
        (b" (why) Quoted-Printable; x=y", b"quoted-printable"),
        (b" x-Odd", b"x-odd"),
    ],
)
def test_the_name_of_an_encoding_is_read_as_bodystructure_shows_it(
    raw: bytes | None, name: bytes
) -> None:
    assert transfer_encoding(raw) == name


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (None, (b"text", b"")),
        (b" X-ZIP", (b"text", b"")),
        (b" text/html", (b"text", b"")),
        (b' Text/Plain; format=flowed;\r\n\tCharset="UTF-8"', (b"text", b"utf-8")),
        (b" text/plain; charset=a; charset=b", (b"text", b"a")),
        (b" image/png; charset=koi8-r (odd)", (b"image", b"koi8-r")),
    ],
)
def test_type_and_charset_are_read_as_bodystructure_shows_them(
    raw: bytes | None, found: tuple[bytes, bytes]
) -> None:
    assert type_and_charset(raw) == found


@pytest.mark.parametrize(
    "tail", [b"=41 \t\r\n=42", b"==4=\r\n=41", b"=\rab \r=41", b"    \n=4", b"=" * 9]
)
def test_quoted_printable_is_the_same_wherever_it_is_cut(tail: bytes) -> None:
    for before in range(65_536 - len(tail) - 4, 65_536 + 1):
        whole = decode_transfer(b"x" * before + tail + b"yy" + tail, b"quoted-printable")
        assert whole == b"x" * before + decode_transfer(tail + b"yy" + tail, b"quoted-printable")
