"""A finished ENVELOPE list, as a summary has it, read again: for sorting, threading and SENT*."""

from __future__ import annotations

import re
from typing import NamedTuple

_STRING = re.compile(rb' ?(?:"((?:[^"\\]++|\\.)*+)"|\{(\d+)\}\r\n|NIL)', re.DOTALL).match
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL).sub
_NO_ADDRESSES = re.compile(rb" NIL").match
_BEFORE_ADDRESSES = re.compile(rb" \((?=\()").match
_QUOTED_ADDRESSES = re.compile(
    rb'(?:\((?:"(?:[^"\\]++|\\.)*+"|NIL|[ ])++\))*+(?=\))', re.DOTALL
).match
"""Addresses that have no literals, which is nearly all of them."""

_ADDRESS_LISTS = 6


class EnvelopeError(ValueError):
    """Bytes that should be a finished ENVELOPE are not. The summary is damaged."""


class ImapAddress(NamedTuple):
    """One address (RFC 9051 section 7.5.2). A group begins with a `host` of None and its name as
    `mailbox`, and ends with None for both."""

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


class ImapEnvelope(NamedTuple):
    """Members as RFC 9051 section 7.5.2 has them; None is NIL."""

    date: bytes | None
    subject: bytes | None
    from_: tuple[ImapAddress, ...]
    sender: tuple[ImapAddress, ...]
    reply_to: tuple[ImapAddress, ...]
    to: tuple[ImapAddress, ...]
    cc: tuple[ImapAddress, ...]
    bcc: tuple[ImapAddress, ...]
    in_reply_to: bytes | None
    message_id: bytes | None


def read_envelope(envelope: bytes, *, addresses_max: int | None = None) -> ImapEnvelope:
    """All of an ENVELOPE as `raftmail.mail.envelope` writes it, with at most so many addresses in
    each list; the others cost next to nothing. Raises EnvelopeError."""
    reader = _Reader(envelope)
    date, subject = reader.string(), reader.string()
    from_, sender, reply_to, to, cc, bcc = (
        reader.addresses(addresses_max) for _ in range(_ADDRESS_LISTS)
    )
    return ImapEnvelope(
        date,
        subject,
        from_,
        sender,
        reply_to,
        to,
        cc,
        bcc,
        reader.string(),
        reader.string(),
    )


def date_and_subject(envelope: bytes) -> tuple[bytes | None, bytes | None]:
    """The first two members, without the trouble of the others. Raises EnvelopeError."""
    reader = _Reader(envelope)
    return reader.string(), reader.string()


class _Reader:
    def __init__(self, envelope: bytes) -> None:
        self._data = envelope
        self._position = 0
        self._expect(b"(")

    def _damaged(self) -> EnvelopeError:
        return EnvelopeError(
            f"ENVELOPE of {len(self._data)} bytes is no finished list at byte {self._position}"
        )

    def _expect(self, bracket: bytes) -> None:
        if not self._data.startswith(bracket, self._position):
            raise self._damaged()
        self._position += 1

    def string(self) -> bytes | None:
        found = _STRING(self._data, self._position)
        if found is None:
            raise self._damaged()
        start = self._position = found.end()
        quoted, literal = found.groups()
        if quoted is not None:
            return _ESCAPED(rb"\1", quoted) if b"\\" in quoted else quoted
        if literal is None:
            return None
        self._position += int(literal)
        return self._data[start : self._position]

    def addresses(self, addresses_max: int | None) -> tuple[ImapAddress, ...]:
        if (found := _NO_ADDRESSES(self._data, self._position)) is not None:
            self._position = found.end()
            return ()
        if (found := _BEFORE_ADDRESSES(self._data, self._position)) is None:
            raise self._damaged()
        self._position = found.end()
        kept: list[ImapAddress] = []
        while not self._data.startswith(b")", self._position):
            if len(kept) == addresses_max:
                found = _QUOTED_ADDRESSES(self._data, self._position)
                if found is not None:
                    self._position = found.end()
                    break
            self._expect(b"(")
            address = ImapAddress(self.string(), self.string(), self.string(), self.string())
            self._expect(b")")
            if addresses_max is None or len(kept) < addresses_max:
                kept.append(address)
        self._expect(b")")
        return tuple(kept)
