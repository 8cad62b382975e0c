"""Which messages a search key matches, and how much of them it has to know."""

from __future__ import annotations

from datetime import date
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.search import (
    NESTING_MAX,
    KeysTooDeepError,
    Level,
    Matcher,
    SearchFacts,
)
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
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.queries import MessageInfo
from raftmail.mail.summary import HEADERS_BYTES_MAX, summarise
from raftmail.mail.uidset import UidSet
from tests.frontends.imap.odd_messages import odd_bytes
from tests.fuzzing import bounded

DAY_US = 86_400_000_000
RECEIVED = date(2024, 6, 3)
RECEIVED_S = 1717372800
"""The first second of that day, UTC."""
FACTS = SearchFacts(now_s=RECEIVED_S, messages=9, last_uid=90, saved=UidSet.from_uids([50, 60]))

MESSAGE = (
    "Date: Sun, 2 Jun 2024 23:30:00 -0800\r\n"
    "From: Zoë <zoe@example.org>\r\n"
    "Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n"
    "X-Odd: curious\r\n"
    "\r\n"
    "This is the text.\r\n"
).encode()


def info(
    uid: int = 50, flags: tuple[str, ...] = (), received_s: int = RECEIVED_S, modseq: int = 7
) -> MessageInfo:
    return MessageInfo(uid, bytes(16), modseq, flags, received_s * 1_000_000, 100, bytes(32))


def matches(
    key: SearchKey,
    message: bytes = MESSAGE,
    number: int = 5,
    record: MessageInfo | None = None,
    facts: SearchFacts = FACTS,
) -> bool:
    """Level by level, as a session asks; what a level answers, the next ones answer too."""
    record = record or info()
    matcher = Matcher(key, facts)
    summary = summarise(message)
    whole = matcher.matches_body(number, record, summary, message)
    by_record = matcher.matches_record(number, record)
    by_summary = matcher.matches_summary(number, record, summary)
    assert by_record in (None, whole)
    assert by_summary in (None, whole)
    if matcher.needs is Level.RECORD:
        assert by_record is not None
    return whole


def needs(key: SearchKey) -> Level:
    return Matcher(key, FACTS).needs


def in_set(text: str, uid: bool = False) -> InSet:
    return InSet(SequenceSet(UidSet.parse(text)), uid)


# -- of the record ------------------------------------------------------------------------------


def test_all_matches_all() -> None:
    assert matches(All())


@pytest.mark.parametrize(
    ("flag", "flags", "expected"),
    [
        ("\\Seen", ("\\Seen", "\\Draft"), True),
        ("\\seen", ("\\Seen",), True),
        ("\\Seen", ("Seen",), False),
        ("Zed", (), False),
        ("zed", ("\\Seen", "Zed"), True),
        ("ZED", ("zed",), True),
        ("\\Recent", ("\\Seen",), False),
    ],
)
def test_flags_and_keywords_are_found_in_any_case(
    flag: str, flags: tuple[str, ...], expected: bool
) -> None:
    assert matches(Flagged(flag), record=info(flags=flags)) == expected
    assert matches(Not(Flagged(flag)), record=info(flags=flags)) != expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (in_set("5"), True),
        (in_set("1:4,6:9"), False),
        (in_set("9:*"), False),
        (in_set("*:5"), True),
        (in_set("50", uid=True), True),
        (in_set("5", uid=True), False),
        (in_set("*:50", uid=True), True),
        (in_set("500:*", uid=True), False),
        (InSet(SequenceSet(UidSet(), saved=True), uid=False), True),
        (InSet(SequenceSet(UidSet(), saved=True), uid=True), True),
    ],
)
def test_sets_are_of_numbers_or_of_uids(key: SearchKey, expected: bool) -> None:
    assert matches(key) == expected


def test_a_star_is_the_last_message_also_in_a_range_beyond_it() -> None:
    last = info(uid=90)
    assert matches(in_set("*"), number=9, record=last)
    assert matches(in_set("500:*", uid=True), number=9, record=last)
    assert matches(in_set("100:*"), number=9, record=last)


def test_a_star_is_nothing_in_an_empty_mailbox() -> None:
    empty = SearchFacts(0, 0, 0, UidSet())
    assert not matches(in_set("*", uid=True), facts=empty)
    assert not matches(in_set("1:*"), facts=empty)


@pytest.mark.parametrize(
    ("received_s", "before", "on", "since"),
    [
        (RECEIVED_S - 1, True, False, False),
        (RECEIVED_S, False, True, True),
        (RECEIVED_S + 86_399, False, True, True),
        (RECEIVED_S + 86_400, False, False, True),
        (-1, True, False, False),
    ],
)
def test_the_day_of_arrival_is_the_day_in_utc(
    received_s: int, before: bool, on: bool, since: bool
) -> None:
    for relation, expected in zip(
        (Relation.BEFORE, Relation.ON, Relation.SINCE), (before, on, since), strict=True
    ):
        key = Dated(DateOf.RECEIVED, relation, RECEIVED.toordinal())
        assert matches(key, record=info(received_s=received_s)) == expected


def test_larger_and_smaller_leave_out_the_size_itself() -> None:
    for larger, octets, expected in (
        (True, 99, True),
        (True, 100, False),
        (False, 100, False),
        (False, 101, True),
    ):
        assert matches(Sized(larger, octets)) == expected


def test_younger_and_older_meet_at_the_moment_itself() -> None:
    hour_old = info(received_s=RECEIVED_S - 3600)
    for younger, seconds, expected in (
        (True, 3600, True),
        (True, 3599, False),
        (False, 3600, True),
        (False, 3601, False),
    ):
        assert matches(Within(younger, seconds), record=hour_old) == expected


def test_a_modseq_is_at_least_what_is_asked_for() -> None:
    assert matches(ModSeq(7))
    assert not matches(ModSeq(8))


def test_an_emailid_is_the_guid_and_there_are_no_threadids() -> None:
    assert matches(EmailId("M" + "00" * 16))
    for wrong in ("M" + "00" * 15, "00" * 16, "M", "", "Mxy", "M" + "00 " * 16):
        assert not matches(EmailId(wrong))
    assert not matches(ThreadId("T1"))


# -- of the header ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relation", "day", "expected"),
    [
        (Relation.ON, date(2024, 6, 2), True),
        (Relation.ON, date(2024, 6, 3), False),
        (Relation.BEFORE, date(2024, 6, 3), True),
        (Relation.BEFORE, date(2024, 6, 2), False),
        (Relation.SINCE, date(2024, 6, 2), True),
        (Relation.SINCE, date(2024, 6, 3), False),
    ],
)
def test_the_day_of_sending_is_the_one_written_whatever_the_zone(
    relation: Relation, day: date, expected: bool
) -> None:
    assert matches(Dated(DateOf.SENT, relation, day.toordinal())) == expected


def test_a_message_without_a_date_was_sent_on_no_day() -> None:
    for message in (b"Date: tomorrow\r\n\r\n", b"\r\n"):
        for relation in Relation:
            key = Dated(DateOf.SENT, relation, RECEIVED.toordinal())
            assert not matches(key, message)
            assert matches(Not(key), message)


@pytest.mark.parametrize(
    ("field", "text", "expected"),
    [
        (b"subject", "Grüße", True),
        (b"subject", "GRÜSSE", True),
        (b"SUBJECT", "ü", True),
        (b"subject", "iso-8859-1", False),
        (b"subject", "", True),
        (b"from", "zoë", True),
        (b"from", "ZOE@EXAMPLE", True),
        (b"to", "", False),
        (b"x-odd", "RIOUS", True),
        (b"x-odd", "", True),
        (b"x-other", "", False),
    ],
)
def test_header_text_is_found_decoded_and_in_any_case(
    field: bytes, text: str, expected: bool
) -> None:
    assert matches(FieldHas(field, text)) == expected


def test_a_header_that_the_summary_could_not_keep_is_read_from_the_message() -> None:
    long = b"References: " + b"<x@y> " * HEADERS_BYTES_MAX + b"<end@of.it>\r\n\r\n"
    assert matches(FieldHas(b"references", "end@of"), long)
    record = info()
    matcher = Matcher(FieldHas(b"references", "end@of"), FACTS)
    assert matcher.matches_summary(1, record, summarise(long)) is None


# -- of the body --------------------------------------------------------------------------------


def test_body_leaves_out_the_header_and_text_does_not() -> None:
    assert matches(TextHas("THE TEXT", header=False))
    assert matches(TextHas("THE TEXT", header=True))
    assert not matches(TextHas("grüße", header=False))
    assert matches(TextHas("grüße", header=True))
    assert matches(TextHas("x-odd: curious", header=True))


def test_no_text_is_in_every_message() -> None:
    assert matches(TextHas("", header=False), b"")
    assert matches(TextHas("", header=True), b"")


def test_a_charset_that_nobody_knows_fails_no_search() -> None:
    for message in (
        b"Content-Type: text/plain; charset=x-nope\r\n\r\nABC \xff",
        b"\r\nabc \xff",
        b"Content-Transfer-Encoding: base64\r\n\r\nYWJj!",
    ):
        assert matches(TextHas("abc", header=False), message)


# -- together -----------------------------------------------------------------------------------

SEEN, DRAFT = Flagged("\\Seen"), Flagged("\\Draft")
IN_SUBJECT, IN_TEXT = FieldHas(b"subject", "grüße"), TextHas("the text", header=False)


@pytest.mark.parametrize(("seen", "draft"), list(product((False, True), repeat=2)))
def test_not_or_and_and_are_as_in_logic(seen: bool, draft: bool) -> None:
    flags = ("\\Seen",) * seen + ("\\Draft",) * draft
    record = info(flags=flags)
    assert matches(Or(SEEN, DRAFT), record=record) == (seen or draft)
    assert matches(And((SEEN, DRAFT)), record=record) == (seen and draft)
    assert matches(And((Not(SEEN), DRAFT)), record=record) == (not seen and draft)
    assert matches(Or(SEEN, Not(DRAFT)), record=record) == (seen or not draft)
    assert matches(Not(Or(SEEN, DRAFT)), record=record) == (not (seen or draft))
    assert matches(And(()), record=record)


def test_a_key_says_how_much_it_needs() -> None:
    assert needs(And((SEEN, in_set("1:5"), Sized(True, 1)))) is Level.RECORD
    assert needs(Or(SEEN, IN_SUBJECT)) is Level.SUMMARY
    assert needs(Dated(DateOf.SENT, Relation.ON, 1)) is Level.SUMMARY
    assert needs(Not(And((SEEN, IN_TEXT)))) is Level.BODY
    assert needs(FieldHas(b"X-Odd", "")) is Level.BODY


def test_a_cheap_key_decides_before_a_dear_one_wherever_it_stands() -> None:
    unseen, seen = info(), info(flags=("\\Seen",))
    both: list[SearchKey] = [And((IN_TEXT, SEEN))]
    both.append(And((And((IN_TEXT, IN_SUBJECT)), Or(SEEN, DRAFT))))
    for key in both:
        assert Matcher(key, FACTS).matches_record(1, unseen) is False
        assert Matcher(key, FACTS).matches_record(1, seen) is None
    either: list[SearchKey] = [Or(IN_TEXT, SEEN), Not(And((IN_SUBJECT, Not(SEEN))))]
    for key in either:
        assert Matcher(key, FACTS).matches_record(1, seen) is True
        assert Matcher(key, FACTS).matches_record(1, unseen) is None
    summary = summarise(MESSAGE)
    assert Matcher(Or(IN_TEXT, IN_SUBJECT), FACTS).matches_summary(1, unseen, summary) is True


def test_keys_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    key: SearchKey = SEEN
    for _ in range(NESTING_MAX - 1):
        key = Or(DRAFT, key)
    assert matches(key, record=info(flags=("\\Seen",)))
    with pytest.raises(KeysTooDeepError, match=str(NESTING_MAX)):
        Matcher(Not(key), FACTS)


leaves = st.sampled_from([SEEN, DRAFT, IN_SUBJECT, IN_TEXT, in_set("5"), FieldHas(b"x-odd", "c")])
trees = st.recursive(
    leaves,
    lambda keys: st.one_of(
        keys.map(Not),
        st.lists(keys, max_size=3).map(lambda found: And(tuple(found))),
        st.builds(Or, keys, keys),
    ),
    max_leaves=8,
)


def plainly(key: SearchKey, record: MessageInfo, number: int) -> bool:
    """The same without levels; the message has all the texts that are looked for."""
    if isinstance(key, Not):
        return not plainly(key.key, record, number)
    if isinstance(key, And):
        return all(plainly(one, record, number) for one in key.keys)
    if isinstance(key, Or):
        return plainly(key.first, record, number) or plainly(key.second, record, number)
    if isinstance(key, Flagged):
        return key.flag in record.flags
    return number == 5 if isinstance(key, InSet) else True


@bounded
@given(trees, st.booleans(), st.booleans(), st.integers(4, 5))
def test_levels_do_not_change_what_matches(
    key: SearchKey, seen: bool, draft: bool, number: int
) -> None:
    record = info(flags=("\\Seen",) * seen + ("\\Draft",) * draft)
    assert matches(key, number=number, record=record) == plainly(key, record, number)


@bounded
@given(odd_bytes, st.text(max_size=3))
def test_no_bytes_are_too_odd_to_be_searched(message: bytes, text: str) -> None:
    for key in (
        FieldHas(b"subject", text),
        FieldHas(b"x", text),
        TextHas(text, header=True),
        Dated(DateOf.SENT, Relation.ON, 1),
    ):
        matches(key, message)
