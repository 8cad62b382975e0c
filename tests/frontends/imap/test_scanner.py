"""The pieces that commands are made of."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap.commands import InternalDate
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.request_reader import Literal
from raftmail.frontends.imap.scanner import DEPTH_MAX, ParseError, Scanner
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.uidset import RANGES_MAX, STAR, UID_MAX, UidSet
from tests.fuzzing import bounded_memory


def scan(*parts: bytes | Literal, utf8: bool = False) -> Scanner:
    return Scanner(parts, Dialect(utf8=utf8))


def refusal(caught: pytest.ExceptionInfo[ParseError]) -> str:
    return str(caught.value)


# Words and strings


def test_an_atom_ends_where_no_atom_goes_on() -> None:
    for end in b'(){ %*"\\]\x7f\x80':
        scanner = scan(b"a+b!#$&'-./:;<=>?@[^_`|}~" + bytes([end]))
        assert scanner.atom("an atom") == b"a+b!#$&'-./:;<=>?@[^_`|}~"
        assert scanner.stands(bytes([end]))


def test_an_astring_is_an_atom_with_brackets_or_a_string() -> None:
    for parts in ((b"a]b",), (b'"a]b"',), (b"", Literal(b"a]b"))):
        scanner = scan(*parts)
        assert scanner.astring("a name") == b"a]b"
        assert scanner.at_end


def test_a_string_has_two_escapes_and_no_others() -> None:
    assert scan(rb'"a\"b\\c"').string("s") == b'a"b\\c'
    assert scan(b'""').string("s") == b""
    assert scan('"Zoë\t"'.encode()).text("s") == "Zoë\t"
    for bad in (rb'"a\nb"', b'"abc', b'"', rb'"a\"'):
        with pytest.raises(ParseError, match='a string that ends in "'):
            scan(bad).string("s")


def test_a_literal_for_a_string_has_no_nul_and_is_no_literal8() -> None:
    with pytest.raises(ParseError, match="NUL"):
        scan(b"", Literal(b"a\0b")).string("s")
    with pytest.raises(ParseError, match="a string is expected, not a literal of 1 bytes"):
        scan(b"", Literal(b"a", True)).string("s")


def test_nil_is_none_for_an_nstring_alone() -> None:
    assert scan(b"nil").nstring("s") is None
    assert scan(b'"NIL"').nstring("s") == b"NIL"
    assert scan(b"NIL").astring("s") == b"NIL"
    with pytest.raises(ParseError):
        scan(b"NILS").nstring("s")


@given(value=st.binary().filter(lambda octets: b"\0" not in octets))
def test_quoted_and_literal_mean_the_same(value: bytes) -> None:
    """R75."""
    quoted = b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    assert scan(quoted).string("s") == scan(b"", Literal(value)).string("s") == value


def test_text_that_is_no_utf8_is_refused_without_being_repeated() -> None:
    with pytest.raises(ParseError) as caught:
        scan(b'"secret\xff"').text("a password")
    assert refusal(caught) == "a password is UTF-8, and what was sent is not"


# Errors


def test_an_error_says_what_was_expected_and_what_stands_there() -> None:
    with pytest.raises(ParseError) as caught:
        scan(b"(x)").atom("a flag")
    assert refusal(caught) == "a flag is expected, not `(x)`"
    with pytest.raises(ParseError) as caught:
        scan(b"").atom("a flag")
    assert refusal(caught) == "a flag is expected, not the end of the command"
    with pytest.raises(ParseError) as caught:
        scan(b"\xff\t" + b"x" * 99).atom("a flag")
    assert refusal(caught) == "a flag is expected, not `<ff><09>" + "x" * 28 + "...`"


def test_an_error_repeats_no_secret() -> None:
    scanner = scan(b'"pass')
    scanner.secret = True
    with pytest.raises(ParseError) as caught:
        scanner.text("a password")
    assert "pass" not in refusal(caught)


# Numbers and sets


def test_numbers_have_their_limits() -> None:
    assert scan(b"4294967295").number("n") == 2**32 - 1
    assert scan(b"007").number("n") == 7
    assert scan(b"0").number("n") == 0
    assert scan(b"9223372036854775807").modseq() == 2**63 - 1
    for bad in (b"4294967296", b"-1", b"", b"x", b"9" * 50_000):
        with pytest.raises(ParseError, match="from 0 to 4294967295"):
            scan(bad).number("n")
    with pytest.raises(ParseError):
        scan(b"9223372036854775808").modseq()
    for bad in (b"0", b"01"):
        with pytest.raises(ParseError):
            scan(bad).number("n", least=1)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (b"1", "1"),
        (b"*", "*"),
        (b"2:1", "1:2"),
        (b"*:1", "1:*"),
        (b"1:3,2:5,9", "1:5,9"),
        (b"500:*", "500:*"),
        (b"4294967294", "4294967294"),
    ],
)
def test_sets_are_the_same_in_any_order(text: bytes, same: str) -> None:
    """R27."""
    assert scan(text).sequence_set() == SequenceSet(UidSet.parse(same))


def test_the_largest_number_is_no_star() -> None:
    """No message has it; `*` has the last message."""
    assert scan(b"4294967295").sequence_set().numbers == UidSet()
    assert scan(b"7:4294967295,3").sequence_set().numbers == UidSet.from_ranges(
        [(3, 3), (7, UID_MAX)]
    )
    assert scan(b"4294967295:*").sequence_set().numbers == UidSet.single(STAR)
    assert scan(b"4294967295,4:*").sequence_set().numbers == UidSet.parse("4:*")


def test_the_last_search_is_a_set() -> None:
    assert scan(b"$").sequence_set() == SequenceSet(UidSet(), saved=True)
    with pytest.raises(ParseError):
        scan(b"$").uid_set()


@pytest.mark.parametrize(
    "text", [b"", b"0", b"1,", b",1", b"1:", b":1", b"1:2:3", b"01", b"4294967296", b"a", b"**"]
)
def test_what_is_no_set_is_refused(text: bytes) -> None:
    with pytest.raises(ParseError, match="a set of numbers such as"):
        scan(text).sequence_set()
    with pytest.raises(ParseError, match="a set of numbers such as"):
        scan(text + b",4294967295").sequence_set()


def test_known_uids_have_no_star() -> None:
    assert scan(b"1:3,7").uid_set() == UidSet.parse("1:3,7")
    with pytest.raises(ParseError, match=r"without \*"):
        scan(b"1:*").uid_set()


def test_a_set_of_a_million_ranges_is_bounded() -> None:
    text = b",".join(b"%d" % (2 * at + 1) for at in range(RANGES_MAX))
    with bounded_memory(8 << 20), pytest.raises(ParseError, match="at most 1048576 characters"):
        scan(text).sequence_set()
    assert len(scan(text[:64_000].rpartition(b",")[0]).sequence_set().numbers) > 10_000


def test_a_set_of_all_messages_is_one_range() -> None:
    with bounded_memory(1 << 20):
        assert scan(b"1:4294967294").sequence_set().numbers.range_count() == 1


# Flags


def test_flags_are_atoms_and_known_system_flags() -> None:
    """R58."""
    assert scan(b"(\\Deleted)").bare_flags() == ("\\Deleted",)
    assert scan(b"\\deleted $Junk").bare_flags() == ("\\deleted", "$Junk")
    assert scan(b"()").bare_flags() == ()
    assert scan(b"(+)").bare_flags() == ("+",)
    for bad in (b'(ab"c)', b"(foo]bar)", b"(\\Bogus)", b"(\\Recent)", b"(\\*)", b"(a  b)", b""):
        with pytest.raises(ParseError) as caught:
            scan(bad).bare_flags()
        assert not caught.value.no


def test_too_many_or_too_long_keywords_are_over_a_limit() -> None:
    """R58: NO [LIMIT]."""
    for flags in (
        b"(" + b" ".join(b"k%d" % at for at in range(300)) + b")",
        b"(" + b"k" * 65 + b")",
    ):
        with pytest.raises(ParseError) as caught:
            scan(flags).flags()
        assert (caught.value.no, caught.value.code) == (True, "LIMIT")


# Dates


def test_a_date_is_quoted_or_not() -> None:
    day = datetime.date(2025, 12, 27).toordinal()
    for text in (b"27-Dec-2025", b'"27-dec-2025"'):
        scanner = scan(text)
        assert scanner.date() == day
        assert scanner.at_end
    assert scan(b"3-Feb-2026").date() == scan(b"03-Feb-2026").date()
    for bad in (b"31-Feb-2026", b"0-Jan-2026", b"1-Foo-2026", b'"1-Jan-2026', b"1-Jan-26", b"x"):
        with pytest.raises(ParseError, match="a date"):
            scan(bad).date()


@pytest.mark.parametrize("day", [b" 3-Feb", b"03-Feb", b"3-Feb", b"03-feb", b"03-FEB"])
def test_a_day_of_one_digit_comes_in_three_ways(day: bytes) -> None:
    """R53."""
    scanner = scan(b'"' + day + b'-2026 01:02:03 +0100"')
    moment = datetime.datetime(2026, 2, 3, 0, 2, 3, tzinfo=datetime.UTC)
    assert scanner.date_time() == InternalDate(int(moment.timestamp()) * 1_000_000, 60)
    assert scanner.at_end


@pytest.mark.parametrize(
    "text",
    [
        b"31-Feb-2026 01:02:03 +0100",
        b"32-Jan-2026 01:02:03 +0100",
        b"03-Foo-2026 01:02:03 +0100",
        b"03-Feb-0000 01:02:03 +0100",
        b"03-Feb-2026 24:00:00 +0100",
        b"03-Feb-2026 01:60:00 +0100",
        b"03-Feb-2026 01:02:61 +0100",
        b"03-Feb-2026 01:02:03 +0160",
        b"03-Feb-2026 01:02:03 +2400",
        b"03-Feb-2026 01:02:03",
        b"03-Feb-2026 1:02:03 +0100",
        b"  3-Feb-2026 01:02:03 +0100",
        b"",
    ],
)
def test_a_date_time_that_there_is_not_is_refused(text: bytes) -> None:
    """R53."""
    with pytest.raises(ParseError, match="a date-time"):
        scan(b'"' + text + b'"').date_time()


@given(
    moment=st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)),
    zone=st.integers(-1439, 1439),
)
def test_a_date_time_keeps_its_zone(moment: datetime.datetime, zone: int) -> None:
    """R29: the zone comes back as it was sent."""
    moment = moment.replace(microsecond=0)
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    hours, minutes = divmod(abs(zone), 60)
    text = (
        f'"{moment.day:2}-{months[moment.month - 1]}-{moment.year:04} {moment:%H:%M:%S} '
        f'{"-" if zone < 0 else "+"}{hours:02}{minutes:02}"'
    )
    received = scan(text.encode()).date_time()
    assert received.zone_minutes == zone
    epoch = datetime.datetime(1970, 1, 1)
    utc = moment - datetime.timedelta(minutes=zone)
    assert received.received_us == (utc - epoch) // datetime.timedelta(microseconds=1)


# Lists


def test_a_list_is_words_with_one_space_between() -> None:
    def words(text: bytes) -> list[bytes]:
        scanner = scan(text)
        return scanner.items("words", lambda: scanner.atom("a word"))

    assert words(b"(a b)") == [b"a", b"b"]
    for bad in (b"()", b"(a  b)", b"( a)", b"(a )", b"(a", b"a", b"(a b"):
        with pytest.raises(ParseError):
            words(bad)


def test_nesting_is_limited() -> None:
    scanner = scan(b"")
    for _ in range(DEPTH_MAX):
        scanner.deeper()
    scanner.shallower()
    scanner.deeper()
    with pytest.raises(ParseError, match="200 levels"):
        scanner.deeper()


# Names


def test_names_are_read_by_the_dialect() -> None:
    assert scan(b"R&-D").mailbox() == "R&D"
    assert scan(b"R&-D", utf8=True).mailbox() == "R&-D"
    assert scan('"Löhne"'.encode(), utf8=True).mailbox() == "Löhne"
    assert scan(b"", Literal("Löhne".encode()), utf8=True).mailbox() == "Löhne"


@pytest.mark.parametrize("name", [b"a&b", b'"L\xc3\xb6hne"', b"&ZeVnLA-&ip4-"])
def test_a_name_that_is_written_wrong_cannot_be(name: bytes) -> None:
    """R66: NO [CANNOT]."""
    for read in (Scanner.mailbox, Scanner.pattern):
        with pytest.raises(ParseError) as caught:
            read(scan(name))
        assert (caught.value.no, caught.value.code) == (True, "CANNOT")


def test_a_pattern_may_have_wildcards_without_quotes() -> None:
    assert scan(b"a/%]*").pattern() == "a/%]*"
    assert scan(b'"%"').pattern() == "%"
    with pytest.raises(ParseError):
        scan(b"(").pattern()
