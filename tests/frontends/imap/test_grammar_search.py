"""SEARCH, SORT and THREAD."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap import search_keys as k
from raftmail.frontends.imap.scanner import DEPTH_MAX
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.uidset import UidSet
from tests.frontends.imap.parsing import UTF8, UTF8_ACCEPT, parsed, wrong
from tests.fuzzing import bounded_memory

SEEN = k.Flagged("\\Seen")
RECENT = k.Flagged("\\Recent")


def in_set(text: str, *, uid: bool = False) -> k.InSet:
    return k.InSet(SequenceSet(UidSet.parse(text)), uid)


def search(text: bytes) -> c.Search:
    command = parsed(b"SEARCH " + text)
    assert isinstance(command, c.Search)
    return command


def key(text: bytes) -> k.SearchKey:
    return search(text).key


DAY = datetime.date(2025, 12, 27).toordinal()

KEYS: dict[bytes, k.SearchKey] = {
    b"ALL": k.All(),
    b"ANSWERED": k.Flagged("\\Answered"),
    b"DELETED": k.Flagged("\\Deleted"),
    b"DRAFT": k.Flagged("\\Draft"),
    b"FLAGGED": k.Flagged("\\Flagged"),
    b"SEEN": SEEN,
    b"UNANSWERED": k.Not(k.Flagged("\\Answered")),
    b"UNDELETED": k.Not(k.Flagged("\\Deleted")),
    b"UNDRAFT": k.Not(k.Flagged("\\Draft")),
    b"UNFLAGGED": k.Not(k.Flagged("\\Flagged")),
    b"UNSEEN": k.Not(SEEN),
    b"RECENT": RECENT,
    b"OLD": k.Not(RECENT),
    b"NEW": k.And((RECENT, k.Not(SEEN))),
    b"KEYWORD Zed": k.Flagged("Zed"),
    b"UNKEYWORD $Junk": k.Not(k.Flagged("$Junk")),
    b"BEFORE 27-Dec-2025": k.Dated(k.DateOf.RECEIVED, k.Relation.BEFORE, DAY),
    b"ON 27-dec-2025": k.Dated(k.DateOf.RECEIVED, k.Relation.ON, DAY),
    b'SINCE "27-Dec-2025"': k.Dated(k.DateOf.RECEIVED, k.Relation.SINCE, DAY),
    b"SENTBEFORE 27-Dec-2025": k.Dated(k.DateOf.SENT, k.Relation.BEFORE, DAY),
    b"SENTON 27-Dec-2025": k.Dated(k.DateOf.SENT, k.Relation.ON, DAY),
    b"SENTSINCE 27-Dec-2025": k.Dated(k.DateOf.SENT, k.Relation.SINCE, DAY),
    b"BCC a": k.FieldHas(b"bcc", "a"),
    b'CC ""': k.FieldHas(b"cc", ""),
    b"FROM <a@b>": k.FieldHas(b"from", "<a@b>"),
    b'SUBJECT "a b"': k.FieldHas(b"subject", "a b"),
    b"TO {3+}\r\nx y": k.FieldHas(b"to", "x y"),
    b'HEADER X-Some ""': k.FieldHas(b"x-some", ""),
    b'BODY "two words"': k.TextHas("two words", False),
    b"TEXT abc": k.TextHas("abc", True),
    b"LARGER 5": k.Sized(True, 5),
    b"SMALLER 9223372036854775807": k.Sized(False, 2**63 - 1),
    b"YOUNGER 60": k.Within(True, 60),
    b"OLDER 60": k.Within(False, 60),
    b"MODSEQ 7": k.ModSeq(7),
    b'MODSEQ "/flags/\\\\draft" all 7': k.ModSeq(7),
    b"EMAILID M-6d_9": k.EmailId("M-6d_9"),
    b'THREADID "T1"': k.ThreadId("T1"),
    b"UID 3:*": in_set("3:*", uid=True),
    b"UID $": k.InSet(SequenceSet(UidSet(), True), True),
    b"1:3,7": in_set("1:3,7"),
    b"*": in_set("*"),
    b"$": k.InSet(SequenceSet(UidSet(), True), False),
}


@pytest.mark.parametrize("text", KEYS)
def test_every_key_is_known(text: bytes) -> None:
    """R24, R29."""
    assert key(text) == KEYS[text]
    word, space, rest = text.partition(b" ")
    assert key(word.lower() + space + rest) == KEYS[text]
    assert search(text).modseq == text.startswith(b"MODSEQ")
    command = parsed(b"UID SEARCH " + text)
    assert isinstance(command, c.Search) and command.uid


def test_not_and_or_take_exactly_one_and_two_keys() -> None:
    """R25."""
    assert key(b"NOT SEEN FLAGGED") == k.And((k.Not(SEEN), k.Flagged("\\Flagged")))
    assert key(b"NOT (OR NEW UNSEEN)") == k.Not(k.Or(KEYS[b"NEW"], k.Not(SEEN)))
    assert key(b"OR SEEN NOT DELETED 1:2") == k.And(
        (k.Or(SEEN, k.Not(k.Flagged("\\Deleted"))), in_set("1:2"))
    )
    assert key(b"(1 (2))") == k.And((in_set("1"), in_set("2")))
    assert key(b"((SEEN))") == SEEN


@pytest.mark.parametrize(
    "text",
    [
        *(b"()", b"", b"NOT", b"OR SEEN", b"OR", b"NOT NOT", b"(SEEN", b"SEEN)", b"SEEN ", b"FOO"),
        *(b"SEEN  ALL", b"( SEEN)", b"(SEEN )", b"UID", b"UID x", b"0", b"1,", b"\\Seen"),
        *(b"KEYWORD \\Seen", b"KEYWORD a]b", b'KEYWORD "a"', b"LARGER -1", b"LARGER", b"OLDER 0"),
        *(b"ON 31-Feb-2025", b"ON", b"MODSEQ", b'MODSEQ "/x" 7', b'MODSEQ "/x" foo 7', b"HEADER a"),
        *(
            b"EMAILID a.b",
            b'EMAILID ""',
            b"EMAILID " + b"x" * 256,
            b"SUBJECT \xc3\xbc",
            b"FROM (a)",
        ),
        *(b'SUBJECT "\xff"', b"SUBJECT {1+}\r\n\0", b"SUBJECT ~{1+}\r\na", b"SUBJECT {1+}\r\n\xff"),
        *(b"CHARSET", b"CHARSET UTF-8", b"RETURN ALL", b"RETURN (FOO) ALL", b"RETURN ()"),
        *(b"RETURN (MIN", b"CHARSET UTF-8 RETURN (MIN) ALL", b"SEEN RETURN (MIN)"),
    ],
)
def test_search_refuses_what_else_there_is(text: bytes) -> None:
    assert wrong(b"SEARCH " + text).startswith("BAD ")


def test_texts_are_utf8_in_every_way_they_come() -> None:
    """R23."""
    found = k.FieldHas(b"subject", "Grüße")
    assert key("CHARSET UTF-8 SUBJECT {7+}\r\nGrüße".encode()) == found
    assert key("SUBJECT {7+}\r\nGrüße".encode()) == found
    assert key('SUBJECT "Grüße"'.encode()) == found
    assert key(b'CHARSET "us-ascii" SUBJECT a') == k.FieldHas(b"subject", "a")
    for text in ('SEARCH SUBJECT "Grüße"', "SEARCH SUBJECT {7+}\r\nGrüße"):
        command = parsed(text.encode(), UTF8_ACCEPT)
        assert isinstance(command, c.Search) and command.key == found


def test_a_charset_that_is_not_known_is_told_with_those_that_are() -> None:
    """R23."""
    for text in (
        b"SEARCH CHARSET X-NO SUBJECT a",
        b"SORT (DATE) X-NO ALL",
        b"THREAD REFERENCES x 1",
    ):
        assert wrong(text).startswith("NO [BADCHARSET (US-ASCII UTF-8)] ")


def test_search_has_no_charset_once_utf8_is_accepted() -> None:
    """R23."""
    text = b'SEARCH CHARSET UTF-8 SUBJECT "a"'
    assert wrong(text, UTF8_ACCEPT).startswith("BAD ")
    assert not wrong(text, UTF8)
    assert not wrong(b"SORT (DATE) UTF-8 ALL", UTF8_ACCEPT)


def test_search_may_say_what_it_returns() -> None:
    r = c.SearchReturn
    assert search(b"ALL").returns is None
    assert search(b"RETURN () ALL").returns == frozenset((r.ALL,))
    assert search(b"RETURN (MIN max COUNT) ALL").returns == frozenset(
        (
            r.MIN,
            r.MAX,
            r.COUNT,
        )
    )
    assert search(b"RETURN (SAVE) CHARSET UTF-8 ALL").returns == frozenset((r.SAVE,))


@pytest.mark.parametrize("depth", [DEPTH_MAX - 1, DEPTH_MAX])
@pytest.mark.parametrize(("begin", "end"), [(b"(", b")"), (b"NOT ", b""), (b"OR ALL ", b"")])
def test_nesting_up_to_its_limit_is_read(begin: bytes, end: bytes, depth: int) -> None:
    found = key(begin * depth + b"SEEN" + end * depth)
    while isinstance(found, k.Not | k.Or):
        found = found.key if isinstance(found, k.Not) else found.second
    assert found == SEEN


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 10_000])
@pytest.mark.parametrize(
    ("begin", "end"), [(b"(", b")"), (b"NOT ", b""), (b"OR 1 ", b""), (b"NOT (", b")")]
)
def test_nesting_beyond_its_limit_is_refused(begin: bytes, end: bytes, depth: int) -> None:
    with bounded_memory(2 << 20):
        answer = wrong(b"SEARCH " + begin * depth + b"SEEN" + end * depth)
    assert answer == "BAD more than 200 levels are inside each other"


def test_open_parentheses_alone_are_refused() -> None:
    for text in (b"SEARCH " + b"(" * 10_000, b"SEARCH " + b"(" * 100, b"SORT " + b"(" * 10_000):
        assert wrong(text).startswith("BAD ")


def test_keys_beside_each_other_do_not_nest() -> None:
    found = key(b" ".join([b"(NOT (SEEN ALL))"] * 500))
    assert isinstance(found, k.And) and len(found.keys) == 500


# What is written is read: pairs of a text and its tree.

PLAIN = st.sampled_from(sorted(KEYS)).map(lambda text: (text, KEYS[text]))
Pair = tuple[bytes, k.SearchKey]


def _all_of(pairs: list[Pair]) -> Pair:
    keys = tuple(one for _, one in pairs)
    text = b"(" + b" ".join(text for text, _ in pairs) + b")"
    return text, keys[0] if len(keys) == 1 else k.And(keys)


def _nested(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.one_of(
        inner.map(lambda pair: (b"NOT " + pair[0], k.Not(pair[1]))),
        st.tuples(inner, inner).map(
            lambda two: (b"OR %b %b" % (two[0][0], two[1][0]), k.Or(two[0][1], two[1][1]))
        ),
        st.lists(inner, min_size=1, max_size=4).map(_all_of),
    )


@given(pair=st.recursive(PLAIN, _nested, max_leaves=12))
def test_every_tree_is_read_as_it_is_written(pair: Pair) -> None:
    assert key(pair[0]) == pair[1]


# SORT and THREAD


def test_sort_has_criteria_a_charset_and_keys() -> None:
    """R30."""
    s = c.SortKey
    assert parsed(b"UID SORT (REVERSE DATE) UTF-8 UNDELETED") == c.Sort(
        True, (c.SortCriterion(s.DATE, True),), k.Not(k.Flagged("\\Deleted")), False
    )
    words = b" ".join(one.value.encode() for one in s)
    command = parsed(b"SORT (" + words + b") us-ascii 1:* MODSEQ 3")
    assert isinstance(command, c.Sort)
    assert command.criteria == tuple(c.SortCriterion(one, False) for one in s)
    assert command.key == k.And((in_set("1:*"), k.ModSeq(3))) and command.modseq


@pytest.mark.parametrize(
    "text",
    [
        *(b"() UTF-8 ALL", b"DATE UTF-8 ALL", b"(FOO) UTF-8 ALL", b"(REVERSE) UTF-8 ALL"),
        *(b"(REVERSE REVERSE DATE) UTF-8 ALL", b"(DATE) ALL", b"(DATE) UTF-8", b"(DATE)UTF-8 ALL"),
    ],
)
def test_sort_refuses_what_else_there_is(text: bytes) -> None:
    assert wrong(b"SORT " + text).startswith(("BAD ", "NO [BADCHARSET"))


def test_thread_has_an_algorithm_a_charset_and_keys() -> None:
    t = c.ThreadAlgorithm
    assert parsed(b"THREAD references UTF-8 ALL") == c.Thread(False, t.REFERENCES, k.All())
    assert parsed(b"UID THREAD ORDEREDSUBJECT US-ASCII 1 SEEN") == c.Thread(
        True, t.ORDEREDSUBJECT, k.And((in_set("1"), SEEN))
    )
    assert wrong(b"THREAD REFS UTF-8 ALL").startswith(
        "BAD an algorithm (ORDEREDSUBJECT, REFERENCES)"
    )
