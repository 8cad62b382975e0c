"""SEARCH keys, decided for one message after another (RFC 9051 section 6.4.4).

What can be known of a message has three levels, each dearer than the one before: the record that
the index has (flags, dates, sizes, numbers), the summary (common header fields, the Date field),
and the message itself. A key says which level it may need. It is asked level by level, and answers
as soon as it can: most messages are decided by their record.

Choices:

- The day of INTERNALDATE is the day in its zone; that of SAVEDATE, which has none, is in UTC.
- SENTBEFORE, SENTON and SENTSINCE go by the day that the Date field names, whatever its zone. A
  message whose Date cannot be read matches none of them.
- EMAILID is `M` and the message's GUID in hexadecimal digits. No message has a THREADID.
- Header text is compared decoded and without case, as `header_text` says; what TEXT and BODY look
  into is said in `searchable_text`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from raftmail.frontends.imap.dates import UNIX_DAY, read_date
from raftmail.frontends.imap.envelopes import date_and_subject
from raftmail.frontends.imap.header_text import fold
from raftmail.frontends.imap.search_keys import (
    All,
    And,
    Dated,
    DateOf,
    EmailId,
    FieldHas,
    Flagged,
    InSet,
    ModSeq,
    Not,
    Or,
    Relation,
    SearchKey,
    Sized,
    TextHas,
    ThreadId,
    Within,
)
from raftmail.frontends.imap.searchable_text import (
    SearchableText,
    fields_have,
    is_plain,
    plainly_without,
)
from raftmail.mail.flags import SYSTEM
from raftmail.mail.headers import CACHED_FIELDS
from raftmail.mail.queries import MessageInfo
from raftmail.mail.summary import Summary, header_fields
from raftmail.mail.uidset import UidSet

NESTING_MAX: Final = 250
"""Keys inside one another that a matcher takes."""

_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US
_DAY_US = 86_400 * _SECOND_US


class Level(IntEnum):
    """How much of a message a key may have to know."""

    RECORD = 0
    SUMMARY = 1
    BODY = 2


@dataclass(frozen=True, slots=True)
class SearchFacts:
    """What a search has to know besides the messages.

    `now_s` is the time in seconds since 1970. `messages` is their number in the session's view, and
    `last_uid` the highest UID in it: both are 0 of an empty mailbox. `saved` has the UIDs of the
    saved result (`$`)."""

    now_s: int
    messages: int
    last_uid: int
    saved: UidSet


def key_count(key: SearchKey) -> int:
    """Keys of a search, without NOT, OR and AND: what it costs for each message grows with them."""
    if isinstance(key, Not):
        return key_count(key.key)
    if isinstance(key, And):
        return sum(map(key_count, key.keys))
    if isinstance(key, Or):
        return key_count(key.first) + key_count(key.second)
    return 1


class KeysTooDeepError(ValueError):
    """A search has more than `NESTING_MAX` keys inside one another. Ask for less at once."""


class _Message:
    """What is known of a message so far."""

    __slots__ = ("info", "number", "summary", "text")

    def __init__(
        self,
        number: int,
        info: MessageInfo,
        summary: Summary | None = None,
        text: SearchableText | None = None,
    ) -> None:
        self.number = number
        self.info = info
        self.summary = summary
        self.text = text


_Test: TypeAlias = Callable[[_Message], bool | None]
_Cost: TypeAlias = int
_RECORD, _DATE, _FIELD, _OWN_HEADER, _BODY = 0, 1, 2, 3, 4
_LEVELS = (Level.RECORD, Level.SUMMARY, Level.SUMMARY, Level.BODY, Level.BODY)


class Matcher:
    """One search, for all messages of a mailbox.

    Each question is answered True or False, or None if the next level has to be asked. `number` is
    the message's sequence number.
    """

    def __init__(self, key: SearchKey, facts: SearchFacts) -> None:
        """Raises KeysTooDeepError."""
        self._test, cost = _compile(key, facts, NESTING_MAX)
        self.needs = _LEVELS[cost]
        """The dearest level that any message can need."""

    def matches_record(self, number: int, info: MessageInfo) -> bool | None:
        return self._test(_Message(number, info))

    def matches_summary(self, number: int, info: MessageInfo, summary: Summary) -> bool | None:
        """Raises EnvelopeError for a summary that is damaged."""
        return self._test(_Message(number, info, summary))

    def matches_body(self, number: int, info: MessageInfo, summary: Summary, body: bytes) -> bool:
        """Raises EnvelopeError or SummaryError for a summary that is damaged."""
        text = SearchableText(summary, body)
        return self._test(_Message(number, info, summary, text)) is True


def _compile(key: SearchKey, facts: SearchFacts, room: int) -> tuple[_Test, _Cost]:
    """A test for a key, and how dear it can be."""
    if room == 0:
        raise KeysTooDeepError(f"a search has at most {NESTING_MAX} keys inside one another")
    if isinstance(key, Not):
        test, cost = _compile(key.key, facts, room - 1)
        return _not(test), cost
    if isinstance(key, And):
        return _joined(key.keys, facts, room - 1, decided_by=False)
    if isinstance(key, Or):
        return _joined((key.first, key.second), facts, room - 1, decided_by=True)
    if isinstance(key, FieldHas):
        name = key.field.lower()
        return _header(name, fold(key.text)), _FIELD if name in CACHED_FIELDS else _OWN_HEADER
    if isinstance(key, TextHas):
        return _body(fold(key.text), key.header), _BODY
    if isinstance(key, Dated):
        if key.of is DateOf.SENT:
            return _sent(_by_day(key.relation, key.day)), _DATE
        fits = _by_day(key.relation, key.day)
        return (_saved(fits) if key.of is DateOf.SAVED else _received(fits)), _RECORD
    return _of_record(key, facts), _RECORD


def _joined(
    keys: Sequence[SearchKey], facts: SearchFacts, room: int, *, decided_by: bool
) -> tuple[_Test, _Cost]:
    """AND is decided by the first key that is False, OR by the first that is True: cheap keys are
    asked first."""
    if not keys:
        return (lambda _: not decided_by), _RECORD
    compiled = []
    for key in keys:
        compiled.append(_compile(key, facts, room))
    compiled.sort(key=lambda pair: pair[1])
    tests = tuple(test for test, _ in compiled)
    if len(tests) == 1:
        return compiled[0]

    def joined(message: _Message) -> bool | None:
        unknown = False
        for test in tests:
            found = test(message)
            if found is decided_by:
                return decided_by
            if found is None:
                unknown = True
        return None if unknown else not decided_by

    return joined, compiled[-1][1]


def _not(test: _Test) -> _Test:
    def opposite(message: _Message) -> bool | None:
        found = test(message)
        return None if found is None else not found

    return opposite


def _of_record(key: SearchKey, facts: SearchFacts) -> _Test:
    if isinstance(key, Flagged):
        return _flagged(key.flag)
    if isinstance(key, InSet):
        return _in_set(key, facts)
    if isinstance(key, Sized):
        octets = key.octets
        if key.larger:
            return lambda message: message.info.size_bytes > octets
        return lambda message: message.info.size_bytes < octets
    if isinstance(key, Within):
        moment_us = (facts.now_s - key.seconds) * _SECOND_US
        if key.younger:
            return lambda message: message.info.received_us >= moment_us
        return lambda message: message.info.received_us <= moment_us
    if isinstance(key, ModSeq):
        least = key.least
        return lambda message: message.info.modseq >= least
    if isinstance(key, EmailId):
        guid = _guid(key.id)
        return lambda message: message.info.guid == guid
    matches = isinstance(key, All)
    assert matches or isinstance(key, ThreadId)
    return lambda _: matches


def _guid(email_id: str) -> bytes | None:
    """What EMAILID names; None if no message can have it."""
    try:
        guid = bytes.fromhex(email_id[1:])
    except ValueError:
        return None
    return guid if email_id == "M" + guid.hex() else None


def _flagged(flag: str) -> _Test:
    """Flags are one whatever their case; a keyword that nobody uses is on no message."""
    wanted = flag.lower()
    for name in SYSTEM:
        if name.lower() == wanted:
            return lambda message: name in message.info.flags
    return lambda message: any(found.lower() == wanted for found in message.info.flags)


def _in_set(key: InSet, facts: SearchFacts) -> _Test:
    if key.sequence.saved:
        saved = facts.saved
        return lambda message: message.info.uid in saved
    if key.uid:
        uids = key.sequence.numbers.resolve(facts.last_uid)
        return lambda message: message.info.uid in uids
    numbers = key.sequence.numbers.resolve(facts.messages)
    return lambda message: message.number in numbers


def _by_day(relation: Relation, day: int) -> Callable[[int], bool]:
    if relation is Relation.BEFORE:
        return lambda found: found < day
    if relation is Relation.ON:
        return lambda found: found == day
    return lambda found: found >= day


def _received(fits: Callable[[int], bool]) -> _Test:
    def received(message: _Message) -> bool:
        info = message.info
        return fits((info.received_us + info.zone_minutes * _MINUTE_US) // _DAY_US + UNIX_DAY)

    return received


def _saved(fits: Callable[[int], bool]) -> _Test:
    return lambda message: fits(saved_us(message.info) // _DAY_US + UNIX_DAY)


def saved_us(info: MessageInfo) -> int:
    """When a message was saved (RFC 8514 section 4.1), in microseconds since 1970: when it was
    received, unless that is kept for itself."""
    return info.received_us if info.saved_us is None else info.saved_us


def _sent(fits: Callable[[int], bool]) -> _Test:
    def sent(message: _Message) -> bool | None:
        if message.summary is None:
            return None
        value, _ = date_and_subject(message.summary.envelope)
        found = None if value is None else read_date(value)
        return found is not None and fits(found.day)

    return sent


def _header(name: bytes, needle: str) -> _Test:
    quick = name in CACHED_FIELDS and is_plain(needle)
    octets = needle.encode(errors="replace")

    def header(message: _Message) -> bool | None:
        if message.summary is None:
            return None
        summary = message.summary
        if quick and summary.headers_complete and plainly_without(summary.headers, octets):
            return False
        block = header_fields(summary, (name,))
        if block is not None:
            return fields_have(block, name, needle)
        return None if message.text is None else message.text.field_has(name, needle)

    return header


def _body(needle: str, header: bool) -> _Test:
    def body(message: _Message) -> bool | None:
        text = message.text
        if text is None:
            return None
        return (header and text.header_has(needle)) or text.body_has(needle)

    return body
