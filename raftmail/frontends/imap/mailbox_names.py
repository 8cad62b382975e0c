"""Mailbox names on the wire: modified UTF-7 (RFC 3501 section 5.1.3), or UTF-8 for clients that
enabled it (RFC 9051 section 5.1, RFC 9755 section 3).

Each name has one spelling in modified UTF-7, and only that one is read. What a name may be is
another question (`mail.names.mailbox_name`)."""

from __future__ import annotations

import binascii
import re

_PLAIN = re.compile(rb"[ -~]*")
_SHIFTED = re.compile(rb"&([^-&]*)(-?)")
_NOT_PLAIN = re.compile(r"[^ -~]+")
_WILDCARD = re.compile(rb"([*%])")

_SHOWN_BYTES = 100
"""Of a name, what an error repeats."""


def decode_name(octets: bytes, *, utf8: bool) -> str:
    """A name from the wire. Raises ValueError, saying what is wrong."""
    if utf8:
        try:
            return octets.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"a mailbox name is UTF-8, byte {error.start} of it is not") from None
    if _PLAIN.fullmatch(octets) is None:
        raise ValueError(
            "a mailbox name is modified UTF-7, which has printable ASCII only; ENABLE IMAP4rev2 or "
            "UTF8=ACCEPT for UTF-8"
        )
    if b"&" not in octets:
        return octets.decode("ascii")
    name = _SHIFTED.sub(_utf8_of, octets).decode()
    if _encode(name) != octets:
        raise ValueError(
            "a mailbox name is written in modified UTF-7 in another way than RFC 3501 has it; it "
            f"would be {_encode(name)[:_SHOWN_BYTES].decode('ascii')}"
        )
    return name


def encode_name(name: str, *, utf8: bool) -> bytes:
    """A name for the wire, not yet quoted. Raises ValueError for what UTF-16 cannot write."""
    return name.encode() if utf8 else _encode(name)


def decode_pattern(octets: bytes, *, utf8: bool) -> str:
    """A LIST pattern from the wire; `*` and `%` stand for themselves. Raises ValueError."""
    if utf8:
        return decode_name(octets, utf8=True)
    return "".join(decode_name(piece, utf8=False) for piece in _WILDCARD.split(octets))


def _encode(name: str) -> bytes:
    shifted = _NOT_PLAIN.sub(_shift, name.replace("&", "&-"))
    return shifted.encode("ascii")


def _shift(found: re.Match[str]) -> str:
    base64 = binascii.b2a_base64(found[0].encode("utf-16-be"), newline=False)
    return "&" + base64.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def _utf8_of(found: re.Match[bytes]) -> bytes:
    base64, end = found.groups()
    if not end:
        raise ValueError("a mailbox name has & without - after it; & alone is written &-")
    if not base64:
        return b"&"
    try:
        octets = binascii.a2b_base64(
            base64.replace(b",", b"/") + b"=" * (-len(base64) % 4), strict_mode=True
        )
        return octets.decode("utf-16-be").encode()
    except ValueError:
        shown = base64[:_SHOWN_BYTES].decode("ascii")
        raise ValueError(
            f"a mailbox name has &{shown}- in it, which is no modified UTF-7 (RFC 3501 section "
            "5.1.3)"
        ) from None
