"""SEARCH over columns: what records and plain header text decide, of a page of messages at once.

A key gives True or False for each message, or None where more than that has to be known: then
`search.Matcher` is asked about that message. So a search costs little for the messages that it does
not find, and mostly little for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from raftmail.frontends.imap.dates import UNIX_DAY
from raftmail.frontends.imap.header_text import fold
from raftmail.frontends.imap.search import SearchFacts
from raftmail.frontends.imap.search_keys import (
    All,
    And,
    Dated,
    DateOf,
    FieldHas,
    Flagged,
    InSet,
    ModSeq,
    Not,
    Or,
    Relation,
    SearchKey,
    Sized,
    ThreadId,
    Within,
)
from raftmail.frontends.imap.searchable_text import fields_have, is_plain, not_plainly_without
from raftmail.mail.headers import CACHED_FIELDS
from raftmail.mail.queries import MessageColumns
from raftmail.mail.summary import kept_headers
from raftmail.mail.uidset import UidSet

SHORT_BYTES_MAX: Final = 2048
"""Headers that are decoded for a page of messages at once, so that its turn stays short."""

_SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * _SECOND_US

_Answers: TypeAlias = list[bool | None]


@dataclass(slots=True, repr=False)
class _Page:
    columns: MessageColumns
    numbers: Sequence[int]
    _headers: list[bytes | None] = field(default_factory=list)

    def headers(self) -> list[bytes | None]:
        """The cached header fields of each message; None where some were left out."""
        if not self._headers:
            self._headers = kept_headers(self.columns.summaries)
        return self._headers


_Column: TypeAlias = Callable[[_Page], _Answers]


class ColumnMatcher:
    """One search. `decides` tells whether any message can be decided here at all; `needs_summaries`
    what the pages have to have."""

    def __init__(self, key: SearchKey, facts: SearchFacts) -> None:
        """The key must not be too deep: see `search.Matcher`."""
        self._facts = facts
        self.decides = False
        self.needs_summaries = False
        self._test = self._compile(key)

    def matches(self, columns: MessageColumns, numbers: Sequence[int]) -> list[bool | None]:
        """True, False, or None where it has to be looked at more closely, for each message."""
        return self._test(_Page(columns, numbers))

    def _compile(self, key: SearchKey) -> _Column:
        if isinstance(key, Not) and isinstance(key.key, Flagged):
            self.decides = True
            return _flagged(key.key.flag.lower(), have=False)
        if isinstance(key, Not):
            test = self._compile(key.key)
            return lambda page: [None if one is None else not one for one in test(page)]
        if isinstance(key, And):
            return _joined([self._compile(one) for one in key.keys], decided_by=False)
        if isinstance(key, Or):
            tests = [self._compile(key.first), self._compile(key.second)]
            return _joined(tests, decided_by=True)
        if isinstance(key, FieldHas):
            found = self._field(key)
        else:
            found = self._of_record(key)
        if found is None:
            return lambda page: [None] * len(page.numbers)
        self.decides = True
        return found

    def _of_record(self, key: SearchKey) -> _Column | None:
        if isinstance(key, All | ThreadId):
            matches = isinstance(key, All)
            return lambda page: [matches] * len(page.numbers)
        if isinstance(key, Flagged):
            return _flagged(key.flag.lower())
        if isinstance(key, InSet):
            return self._in_set(key)
        if isinstance(key, Sized):
            octets = key.octets
            if key.larger:
                return lambda page: [size > octets for size in page.columns.sizes]
            return lambda page: [size < octets for size in page.columns.sizes]
        if isinstance(key, ModSeq):
            least = key.least
            return lambda page: [modseq >= least for modseq in page.columns.modseqs]
        if isinstance(key, Within):
            moment_us = (self._facts.now_s - key.seconds) * _SECOND_US
            if key.younger:
                return lambda page: [at >= moment_us for at in page.columns.received_us]
            return lambda page: [at <= moment_us for at in page.columns.received_us]
        if isinstance(key, Dated) and key.of is DateOf.RECEIVED:
            return _received(key.relation, key.day)
        return None

    def _in_set(self, key: InSet) -> _Column:
        if key.sequence.saved:
            return _uids_in(self._facts.saved)
        if key.uid:
            return _uids_in(key.sequence.numbers.resolve(self._facts.last_uid))
        numbers = key.sequence.numbers.resolve(self._facts.messages)
        return lambda page: [number in numbers for number in page.numbers]

    def _field(self, key: FieldHas) -> _Column | None:
        """Most messages do not have the text in any field that is cached. Where one may have it,
        short headers are decoded here."""
        needle, name = fold(key.text), key.field.lower()
        if name not in CACHED_FIELDS or not is_plain(needle):
            return None
        octets = needle.encode(errors="replace")
        self.needs_summaries = True

        def has(page: _Page) -> _Answers:
            headers = page.headers()
            answers: _Answers = [False] * len(headers)
            for at in not_plainly_without(headers, octets):
                one = headers[at]
                if one is not None and len(one) <= SHORT_BYTES_MAX:
                    answers[at] = fields_have(one, name, needle)
                else:
                    answers[at] = None
            return answers

        return has


def _joined(tests: Sequence[_Column], *, decided_by: bool) -> _Column:
    if not tests:
        return lambda page: [not decided_by] * len(page.numbers)

    def joined(page: _Page) -> _Answers:
        found = tests[0](page)
        for test in tests[1:]:
            found = [
                decided_by
                if one is decided_by or other is decided_by
                else None
                if one is None or other is None
                else not decided_by
                for one, other in zip(found, test(page), strict=True)
            ]
        return found

    return joined


def _flagged(wanted: str, *, have: bool = True) -> _Column:
    def flagged(page: _Page) -> _Answers:
        found = [
            any(flag.lower() == wanted for flag in flags) is have for flags in page.columns.flags
        ]
        return list(map(found.__getitem__, page.columns.flags_of))

    return flagged


def _uids_in(uids: UidSet) -> _Column:
    return lambda page: [uid in uids for uid in page.columns.uids]


def _received(relation: Relation, day: int) -> _Column:
    """By the day in the zone of the message, which is at most a day away from that in UTC."""
    begin_us = (day - UNIX_DAY) * _DAY_US
    low_us, high_us = begin_us - _DAY_US, begin_us + _DAY_US
    before, after = relation is Relation.BEFORE, relation is Relation.SINCE
    if relation is Relation.ON:
        high_us += _DAY_US

    def received(page: _Page) -> _Answers:
        return [
            before if at < low_us else after if at >= high_us else None
            for at in page.columns.received_us
        ]

    return received
