"""Mailbox names on the wire, both ways."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raftmail.frontends.imap.mailbox_names import decode_name, decode_pattern, encode_name

NAMES = {
    b"R&-D": "R&D",
    b"L&APY-hne &- Steuern": "Löhne & Steuern",
    b"&APg-re": "øre",
    b"&ZeVnLA-&-&ip4-": "日本&語",
    b"&2D3eAA-": "😀",
    b"INBOX/a b": "INBOX/a b",
    b"&-": "&",
    b"&-&-": "&&",
    b"&AAk-": "\t",
    b"~peter/mail/&U,BTFw-/&ZeVnLIqe-": "~peter/mail/台北/日本語",
}


@pytest.mark.parametrize("wire", NAMES)
def test_names_round_trip_and_are_the_same_in_utf8(wire: bytes) -> None:
    """R66."""
    name = NAMES[wire]
    assert decode_name(wire, utf8=False) == name
    assert encode_name(name, utf8=False) == wire
    assert decode_name(name.encode(), utf8=True) == name
    assert encode_name(name, utf8=True) == name.encode()


@pytest.mark.parametrize(
    "wire",
    [
        b"a&b",
        b"&",
        b"a&",
        b"x&AGE-",
        b"&ZeU",
        b"&ZeVnLA-&ip4-",
        b"&Zg-",
        b"&Z-",
        b"&ZeU=-",
        b"&ZeV/-",
        b"&2D0-",
        b"&3gA-",
        b"&APh-",
        b"&AP g-",
        b"&AGEA9g-",
        b"&&-",
        b"&APg-&APg-",
    ],
)
def test_other_spellings_are_refused_with_what_is_wrong(wire: bytes) -> None:
    """R66: one name has one spelling, not two."""
    with pytest.raises(ValueError, match="mailbox name"):
        decode_name(wire, utf8=False)
    assert decode_name(wire, utf8=True) == wire.decode()


@pytest.mark.parametrize("octet", [b"\xc3", b"\x00", b"\x1f", b"\x7f", b"\xff"])
def test_octets_that_modified_utf7_does_not_have_are_refused(octet: bytes) -> None:
    with pytest.raises(ValueError, match="printable ASCII only"):
        decode_name(b"a" + octet, utf8=False)


@pytest.mark.parametrize("wire", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_what_is_no_utf8_is_refused_where_utf8_is_in_force(wire: bytes) -> None:
    with pytest.raises(ValueError, match="is UTF-8"):
        decode_name(wire, utf8=True)


@given(name=st.text(max_size=30))
@example(name="&ä&-ä")
@example(name="\ufeff\U0010ffff-")
def test_every_name_comes_back(name: str) -> None:
    for utf8 in (False, True):
        assert decode_name(encode_name(name, utf8=utf8), utf8=utf8) == name
    assert encode_name(name, utf8=False).isascii()


@given(wire=st.binary(max_size=20) | st.text("&-AaZe2+,/= *", max_size=12).map(str.encode))
def test_what_is_read_is_written_alike(wire: bytes) -> None:
    for utf8 in (False, True):
        try:
            name = decode_name(wire, utf8=utf8)
        except UnicodeError:
            raise
        except ValueError:
            continue
        assert encode_name(name, utf8=utf8) == wire


def test_wildcards_of_a_pattern_stand_for_themselves() -> None:
    assert decode_pattern(b"&APg-re/%/*&-", utf8=False) == "øre/%/*&"
    assert decode_pattern("øre/%&".encode(), utf8=True) == "øre/%&"
    with pytest.raises(ValueError, match="without -"):
        decode_pattern(b"&AP*", utf8=False)


def test_errors_are_short_and_on_one_line_of_ascii() -> None:
    for wire in (b"&APg-" * 5000, b"&" + b"A" * 60001 + b"-", b"\r\n" * 999, b"&" * 60000):
        with pytest.raises(ValueError) as caught:
            decode_name(wire, utf8=False)
        text = str(caught.value)
        assert len(text) < 400 and text.isascii() and text.isprintable()
