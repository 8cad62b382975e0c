"""All tests with their arguments, but for those of other tests (`not`, `allof`, `anyof`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raftmail.sieve.matching import RELATIONS, Comparator, MatchKind, ValueMatcher
from raftmail.sieve.program import RuleTest
from raftmail.sieve.rule_actions import checked_special_use
from raftmail.sieve.rule_addresses import AddressPart
from raftmail.sieve.rule_arguments import ArgumentKind, CheckedArguments, TagRule, TestRule
from raftmail.sieve.rule_dates import DATE_PARTS, zone_minutes
from raftmail.sieve.rule_tests import (
    AddressTest,
    BodyTest,
    DateTest,
    DuplicateTest,
    EnvelopeTest,
    ExistsTest,
    HasFlagTest,
    HeaderTest,
    MailboxExistsTest,
    SizeTest,
    SpecialUseExistsTest,
    StringTest,
)

_NUMBER, _STRING, _STRINGS = ArgumentKind.NUMBER, ArgumentKind.STRING, ArgumentKind.STRINGS

_MATCH = (
    TagRule("is", "match"),
    TagRule("contains", "match"),
    TagRule("matches", "match"),
    TagRule("count", "match", _STRING, "relational"),
    TagRule("value", "match", _STRING, "relational"),
    TagRule("comparator", "comparator", _STRING),
)
_PARTS = (
    TagRule("all", "part"),
    TagRule("localpart", "part"),
    TagRule("domain", "part"),
    TagRule("user", "part", None, "subaddress"),
    TagRule("detail", "part", None, "subaddress"),
)
_INDEX = (TagRule("index", "index", _NUMBER, "index"), TagRule("last", "last", None, "index"))
_ZONE = TagRule("zone", "zone", _STRING)

_DUPLICATE_S = 7 * 86_400
DUPLICATE_S_MAX: Final = 30 * 86_400
"""RFC 7352 section 3.3: a longer time is this one."""

_ADDRESS_FIELDS = frozenset(
    b"""from to cc bcc sender reply-to resent-from resent-to resent-cc resent-bcc resent-sender
    resent-reply-to return-path delivered-to x-original-to envelope-to x-envelope-to apparently-to
    errors-to disposition-notification-to return-receipt-to mail-reply-to mail-followup-to
    x-original-cc x-sender x-to x-delivered-to approved""".split()
)


def _matcher(given: CheckedArguments) -> ValueMatcher:
    """RFC 5228 section 2.7: `:is` and i;ascii-casemap where nothing else is said."""
    comparator = Comparator.CASEMAP
    named = given.value_of("comparator")
    if named is not None:
        name = given.constant(named, "the name of a comparator")
        try:
            comparator = Comparator(name)
        except ValueError:
            known = ", ".join(one.value for one in Comparator)
            raise given.error(
                named.place, f"there is no comparator {name[:60]!a}; these are there: {known}"
            ) from None
    kind = MatchKind(given.tag("match") or "is")
    relation = b""
    value = given.value_of("match")
    if kind in (MatchKind.COUNT, MatchKind.VALUE) and value is not None:
        relation = given.constant(value, "a relation").lower().encode()
        if relation not in RELATIONS:
            raise given.error(
                value.place, f"gt, ge, lt, le, eq or ne is expected after :{kind.value}"
            )
    if comparator is Comparator.NUMERIC and kind in (MatchKind.CONTAINS, MatchKind.MATCHES):
        raise given.error(
            given.place, f":{kind.value} cannot be used with i;ascii-numeric, which knows no parts"
        )
    return ValueMatcher(kind, comparator, relation)


def _part(given: CheckedArguments) -> AddressPart:
    return AddressPart(given.tag("part") or "all")


def _index(given: CheckedArguments) -> int:
    """From 1, from the end where it is negative, 0 for none given (RFC 5260 section 6)."""
    value = given.value_of("index")
    if value is None:
        if given.tag("last"):
            raise given.error(given.place, ":last stands with :index")
        return 0
    if not value.number:
        raise given.error(value.place, ":index counts from 1")
    return -value.number if given.tag("last") else value.number


def _header(given: CheckedArguments) -> RuleTest:
    return HeaderTest(_matcher(given), _index(given), given.texts(0), given.texts(1))


def _address_field(name: bytes) -> None:
    if name.lower() not in _ADDRESS_FIELDS:
        raise ValueError(f"{name[:60].decode()!a} is no field of addresses: use the test header")


def _address(given: CheckedArguments) -> RuleTest:
    given.check_constants(given.value(0), _address_field)
    names, keys = given.texts(0), given.texts(1)
    return AddressTest(_matcher(given), _part(given), _index(given), names, keys)


def _envelope_part(name: bytes) -> None:
    if name.lower() not in (b"from", b"to"):
        raise ValueError(f"the envelope has from and to, and no {name[:60].decode()!a}")


def _envelope(given: CheckedArguments) -> RuleTest:
    given.check_constants(given.value(0), _envelope_part)
    return EnvelopeTest(_matcher(given), _part(given), given.texts(0), given.texts(1))


def _size(given: CheckedArguments) -> RuleTest:
    value = given.value_of("size")
    if value is None:
        raise given.error(given.place, "write size :over or size :under, and a number")
    return SizeTest(given.tag("size") == "over", value.number)


def _has_flag(given: CheckedArguments) -> RuleTest:
    variables = []
    if given.optional is not None:
        optional = given.optional
        variables = [given.variable(optional, at) for at in range(len(optional.texts))]
    return HasFlagTest(_matcher(given), tuple(variables), given.texts(0))


def _body(given: CheckedArguments) -> RuleTest:
    transform = given.tag("transform")
    types = given.texts_of("transform") if transform == "content" else None
    return BodyTest(_matcher(given), transform == "raw", types, given.texts(0))


def _zone(text: bytes) -> None:
    if zone_minutes(text) is None:
        raise ValueError(f"{text[:20].decode()!a} is no zone: it looks like +0200")


def _date_part(text: bytes) -> None:
    if text.lower() not in DATE_PARTS:
        known = b", ".join(DATE_PARTS).decode()
        raise ValueError(f"a date has no part {text[:20].decode()!a}; its parts are {known}")


def _date(given: CheckedArguments) -> RuleTest:
    given.check_constants(given.value_of("zone") if given.tag("zone") == "zone" else None, _zone)
    given.check_constants(given.value(1), _date_part)
    original = given.tag("zone") == "originalzone"
    zone = None if original else given.text_of("zone")
    return DateTest(
        _matcher(given),
        given.text(0),
        _index(given),
        zone,
        original,
        given.text(1),
        given.texts(2),
    )


def _current_date(given: CheckedArguments) -> RuleTest:
    given.check_constants(given.value_of("zone"), _zone)
    given.check_constants(given.value(0), _date_part)
    zone = given.text_of("zone")
    return DateTest(_matcher(given), None, 0, zone, False, given.text(0), given.texts(1))


def _special_use(given: CheckedArguments) -> RuleTest:
    given.check_constants(given.value(0), checked_special_use)
    mailbox = None if given.optional is None else given.optional.texts[0]
    return SpecialUseExistsTest(mailbox, given.texts(0))


def _duplicate(given: CheckedArguments) -> RuleTest:
    seconds = given.value_of("seconds")
    kept = _DUPLICATE_S if seconds is None else min(seconds.number, DUPLICATE_S_MAX)
    named = given.tag("named")
    return DuplicateTest(
        given.text_of("handle"),
        given.text_of("named") if named == "header" else None,
        given.text_of("named") if named == "uniqueid" else None,
        kept,
        bool(given.tag("last")),
    )


_RULES = (
    TestRule("header", "", (*_MATCH, *_INDEX), (_STRINGS, _STRINGS), _header),
    TestRule("address", "", (*_MATCH, *_PARTS, *_INDEX), (_STRINGS, _STRINGS), _address),
    TestRule("envelope", "envelope", (*_MATCH, *_PARTS), (_STRINGS, _STRINGS), _envelope),
    TestRule("exists", "", (), (_STRINGS,), lambda given: ExistsTest(given.texts(0))),
    TestRule(
        "size",
        "",
        (TagRule("over", "size", _NUMBER), TagRule("under", "size", _NUMBER)),
        (),
        _size,
    ),
    TestRule(
        "string",
        "variables",
        _MATCH,
        (_STRINGS, _STRINGS),
        lambda given: StringTest(_matcher(given), given.texts(0), given.texts(1)),
    ),
    TestRule("hasflag", "imap4flags", _MATCH, (_STRINGS,), _has_flag, _STRINGS, "variables"),
    TestRule(
        "body",
        "body",
        (
            *_MATCH,
            TagRule("raw", "transform"),
            TagRule("content", "transform", _STRINGS),
            TagRule("text", "transform"),
        ),
        (_STRINGS,),
        _body,
    ),
    TestRule(
        "date",
        "date",
        (*_MATCH, *_INDEX, _ZONE, TagRule("originalzone", "zone")),
        (_STRING, _STRING, _STRINGS),
        _date,
    ),
    TestRule("currentdate", "date", (*_MATCH, _ZONE), (_STRING, _STRINGS), _current_date),
    TestRule(
        "mailboxexists",
        "mailbox",
        (),
        (_STRINGS,),
        lambda given: MailboxExistsTest(given.texts(0)),
    ),
    TestRule("specialuse_exists", "special-use", (), (_STRINGS,), _special_use, _STRING),
    TestRule(
        "duplicate",
        "duplicate",
        (
            TagRule("handle", "handle", _STRING),
            TagRule("header", "named", _STRING),
            TagRule("uniqueid", "named", _STRING),
            TagRule("seconds", "seconds", _NUMBER),
            TagRule("last", "last"),
        ),
        (),
        _duplicate,
    ),
)

TESTS: Final[Mapping[str, TestRule]] = {one.name: one for one in _RULES}
