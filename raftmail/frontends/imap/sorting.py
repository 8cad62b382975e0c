"""SORT: messages in the order of some criteria (RFC 5256 section 3, RFC 5957 section 3).

Text is compared as `i;unicode-casemap` compares it (RFC 5051): in upper case, with accents after
their letters. A message whose Date cannot be read has its INTERNALDATE in its place. Messages that
are equal in all criteria stand in the order of their numbers, also when all are reversed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from unicodedata import normalize

from raftmail.frontends.imap.commands import SortCriterion, SortKey
from raftmail.frontends.imap.dates import read_date
from raftmail.frontends.imap.envelopes import (
    ImapAddress,
    ImapEnvelope,
    date_and_subject,
    read_envelope,
)
from raftmail.frontends.imap.header_text import fold
from raftmail.frontends.imap.search import Level
from raftmail.frontends.imap.subjects import base_subject
from raftmail.mail.charsets import guess
from raftmail.mail.encoded_words import decode_words
from raftmail.mail.queries import MessageInfo
from raftmail.mail.summary import Summary

_OF_RECORD = frozenset((SortKey.ARRIVAL, SortKey.SIZE))
_WITHOUT_ADDRESSES = _OF_RECORD | {SortKey.DATE, SortKey.SUBJECT}
_SECOND_US = 1_000_000

_Value: TypeAlias = int | str


class Sorter:
    """The messages of one SORT. Memory is bounded by their number."""

    def __init__(self, criteria: tuple[SortCriterion, ...]) -> None:
        self._criteria = criteria
        self._values: list[list[_Value]] = [[] for _ in criteria]
        self._numbers: list[int] = []
        of_record = all(one.key in _OF_RECORD for one in criteria)
        self._addresses = any(one.key not in _WITHOUT_ADDRESSES for one in criteria)
        self.needs = Level.RECORD if of_record else Level.SUMMARY
        """What `add` has to be given of each message."""

    def add(self, number: int, info: MessageInfo, summary: Summary | None) -> None:
        """A message by its sequence number; `summary` may be None if only its record is needed.

        Raises EnvelopeError for a summary that is damaged.
        """
        envelope = _NOTHING
        if self.needs is not Level.RECORD and summary is not None:
            envelope = _envelope(summary.envelope, self._addresses)
        for values, criterion in zip(self._values, self._criteria, strict=True):
            values.append(_value(criterion.key, info, envelope))
        self._numbers.append(number)

    def numbers(self) -> list[int]:
        """The sequence numbers of all messages, sorted."""
        numbers = self._numbers
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        for values, criterion in zip(reversed(self._values), reversed(self._criteria), strict=True):
            order.sort(key=_getter(values), reverse=criterion.reverse)
        return [numbers[index] for index in order]


_NOTHING = ImapEnvelope(None, None, (), (), (), (), (), (), None, None)


def _envelope(envelope: bytes, addresses: bool) -> ImapEnvelope:
    if addresses:
        return read_envelope(envelope, addresses_max=1)
    date, subject = date_and_subject(envelope)
    return _NOTHING._replace(date=date, subject=subject)


def _getter(values: list[_Value]) -> Callable[[int], _Value]:
    return values.__getitem__


def sent_s(info: MessageInfo, date: bytes | None) -> int:
    """When a message was sent, in seconds since 1970: the Date field's value, or else INTERNALDATE
    (RFC 5256 section 2.2)."""
    found = None if date is None else read_date(date)
    return info.received_us // _SECOND_US if found is None else found.utc_s


def _value(key: SortKey, info: MessageInfo, envelope: ImapEnvelope) -> _Value:
    match key:
        case SortKey.ARRIVAL:
            return info.received_us
        case SortKey.SIZE:
            return info.size_bytes
        case SortKey.DATE:
            return sent_s(info, envelope.date)
        case SortKey.SUBJECT:
            return collated(base_subject(envelope.subject or b"").text)
        case SortKey.FROM:
            return _mailbox(envelope.from_)
        case SortKey.TO:
            return _mailbox(envelope.to)
        case SortKey.CC:
            return _mailbox(envelope.cc)
        case SortKey.DISPLAYFROM:
            return _display(envelope.from_)
        case SortKey.DISPLAYTO:
            return _display(envelope.to)


def _mailbox(addresses: tuple[ImapAddress, ...]) -> str:
    """The mailbox of the first address; of a group, its name."""
    return collated(fold(guess(addresses[0].mailbox or b""))) if addresses else ""


def _display(addresses: tuple[ImapAddress, ...]) -> str:
    """What the first address is shown as: its display name, else `mailbox@host`; of a group, the
    group's name."""
    if not addresses:
        return ""
    first = addresses[0]
    if first.host is None:
        shown = decode_words(first.mailbox or b"")
    elif first.name:
        shown = decode_words(first.name)
    else:
        shown = guess(b"%b@%b" % (first.mailbox or b"", first.host))
    return collated(fold(shown))


def collated(folded: str) -> str:
    """Folded text in a form that sorts as people expect it (RFC 5051)."""
    upper = folded.upper()
    if upper.isascii():
        return upper
    return "".join([normalize("NFD", character) for character in upper])
