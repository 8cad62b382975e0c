"""SEARCH, SORT and THREAD (RFC 9051 section 6.4.4, RFC 3501 section 6.4.4, RFC 5256)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap import search_keys as k
from raftmail.frontends.imap.partial_range import PartialRange
from raftmail.frontends.imap.scanner import (
    NUMBER63_MAX,
    ParseError,
    Scanner,
    uid_required,
    utf8_text,
)

CHARSETS = ("US-ASCII", "UTF-8")

KEYS_MAX = 1000
"""Of one search, without NOT, OR and parentheses: each is asked about every message."""

_OBJECT_ID = re.compile(rb"[A-Za-z0-9_-]{1,255}")
_RETURNS = {one.value: one for one in c.SearchReturn}
_SORT_KEYS = {one.value: one for one in c.SortKey}
_ALGORITHMS = {one.value: one for one in c.ThreadAlgorithm}
_ENTRY_TYPES = {one: one for one in ("PRIV", "SHARED", "ALL")}

_SEEN = k.Flagged("\\Seen")
_RECENT = k.Flagged("\\Recent")

_PLAIN: dict[str, k.SearchKey] = {
    "ALL": k.All(),
    "ANSWERED": k.Flagged("\\Answered"),
    "DELETED": k.Flagged("\\Deleted"),
    "DRAFT": k.Flagged("\\Draft"),
    "FLAGGED": k.Flagged("\\Flagged"),
    "NEW": k.And((_RECENT, k.Not(_SEEN))),
    "OLD": k.Not(_RECENT),
    "RECENT": _RECENT,
    "SAVEDATESUPPORTED": k.All(),  # RFC 8514 section 4.3: all mailboxes keep it
    "SEEN": _SEEN,
    "UNANSWERED": k.Not(k.Flagged("\\Answered")),
    "UNDELETED": k.Not(k.Flagged("\\Deleted")),
    "UNDRAFT": k.Not(k.Flagged("\\Draft")),
    "UNFLAGGED": k.Not(k.Flagged("\\Flagged")),
    "UNSEEN": k.Not(_SEEN),
}

_DATES = {
    "SAVEDBEFORE": (k.DateOf.SAVED, k.Relation.BEFORE),
    "SAVEDON": (k.DateOf.SAVED, k.Relation.ON),
    "SAVEDSINCE": (k.DateOf.SAVED, k.Relation.SINCE),
    "BEFORE": (k.DateOf.RECEIVED, k.Relation.BEFORE),
    "ON": (k.DateOf.RECEIVED, k.Relation.ON),
    "SINCE": (k.DateOf.RECEIVED, k.Relation.SINCE),
    "SENTBEFORE": (k.DateOf.SENT, k.Relation.BEFORE),
    "SENTON": (k.DateOf.SENT, k.Relation.ON),
    "SENTSINCE": (k.DateOf.SENT, k.Relation.SINCE),
}
_FIELDS = {one: one.lower().encode() for one in ("BCC", "CC", "FROM", "SUBJECT", "TO")}


def search(scanner: Scanner, uid: bool) -> c.Search:
    scanner.space("search keys")
    returns = partial = None
    if scanner.skip_word("RETURN"):
        scanner.space("options in parentheses")
        returns, partial = _return_options(scanner)
        scanner.space("search keys")
    if scanner.skip_word("CHARSET"):
        if scanner.dialect.utf8_accept:
            raise ParseError("SEARCH has no CHARSET after ENABLE UTF8=ACCEPT: all is UTF-8")
        scanner.space("a charset")
        try:
            _charset(scanner)
        except ParseError as e:
            # RFC 9051 section 6.4.4.1: NO empties what was saved before.
            e.forgets_saved = e.no and returns is not None and c.SearchReturn.SAVE in returns
            raise
        scanner.space("search keys")
    program = _Program(scanner)
    key = program.keys()
    return c.Search(uid, key, returns, program.modseq, partial)


def _return_options(
    scanner: Scanner,
) -> tuple[frozenset[c.SearchReturn], PartialRange | None]:
    """RETURN's options; without any, ALL is meant."""
    options: list[c.SearchReturn] = []
    partials: list[PartialRange] = []

    def read() -> None:
        if scanner.skip_word("PARTIAL"):
            scanner.space("a range such as 1:100 or -1:-100")
            partials.append(scanner.partial_range())
        else:
            options.append(scanner.one_of(_RETURNS, "an option"))

    scanner.items("options", read, empty=True)
    if len(partials) + (c.SearchReturn.ALL in options) > 1:
        raise ParseError("RETURN has one of PARTIAL and ALL, once (RFC 9394 section 3.1)")
    if not options and not partials:
        options.append(c.SearchReturn.ALL)
    return frozenset(options), partials[0] if partials else None


def sort(scanner: Scanner, uid: bool) -> c.Sort:
    scanner.space("criteria in parentheses")
    criteria = _each_once(scanner.items("criteria", lambda: _criterion(scanner)))
    scanner.space("a charset")
    _charset(scanner)
    scanner.space("search keys")
    program = _Program(scanner)
    key = program.keys()
    return c.Sort(uid, criteria, key, program.modseq)


def thread(scanner: Scanner, uid: bool) -> c.Thread:
    scanner.space("an algorithm")
    algorithm = scanner.one_of(_ALGORITHMS, "an algorithm")
    scanner.space("a charset")
    _charset(scanner)
    scanner.space("search keys")
    return c.Thread(uid, algorithm, _Program(scanner).keys())


def _criterion(scanner: Scanner) -> c.SortCriterion:
    reverse = scanner.skip_word("REVERSE")
    if reverse:
        scanner.space("what to sort by")
    return c.SortCriterion(scanner.one_of(_SORT_KEYS, "what to sort by"), reverse)


def _each_once(criteria: Iterable[c.SortCriterion]) -> tuple[c.SortCriterion, ...]:
    """Messages that are equal in a criterion are so too when it stands there again, in any
    direction."""
    first: dict[c.SortKey, c.SortCriterion] = {}
    for one in criteria:
        first.setdefault(one.key, one)
    return tuple(first.values())


def _charset(scanner: Scanner) -> None:
    """All text is read as UTF-8, of which US-ASCII is a part."""
    if scanner.astring("a charset").upper().decode("latin-1") not in CHARSETS:
        code = f"BADCHARSET ({' '.join(CHARSETS)})"
        raise ParseError(f"the charsets here are {' and '.join(CHARSETS)}", code, no=True)


class _Program:
    """Search keys that follow each other."""

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self.modseq = False
        """MODSEQ was among them."""
        self._count = 0

    def keys(self) -> k.SearchKey:
        """One or more keys, all of which a message has to match."""
        scanner = self._scanner
        found = [self._key()]
        while scanner.skip(b" "):
            found.append(self._key())
        return found[0] if len(found) == 1 else k.And(tuple(found))

    def _counted(self) -> None:
        self._count += 1
        if self._count > KEYS_MAX:
            text = f"a search has at most {KEYS_MAX} keys: search several times"
            raise ParseError(text, "LIMIT")

    def _key(self) -> k.SearchKey:
        scanner = self._scanner
        if scanner.stands(b"("):
            found = scanner.items("search keys", self._key)
            return found[0] if len(found) == 1 else k.And(tuple(found))
        word = scanner.peek_word()
        plain = _PLAIN.get(word)
        if plain is not None:
            scanner.skip_word(word)
            self._counted()
            return plain
        if word in ("NOT", "OR"):
            scanner.skip_word(word)
            scanner.deeper()
            scanner.space("a search key")
            key = self._key()
            if word == "NOT":
                key = k.Not(key)
            else:
                scanner.space("a second search key of OR")
                key = k.Or(key, self._key())
            scanner.shallower()
            return key
        self._counted()
        read = _ARGUMENTS.get(word)
        if read is not None:
            scanner.skip_word(word)
            scanner.space(f"the argument of {word}")
            if word == "MODSEQ":
                self.modseq = True
            return read(scanner, word)
        if scanner.stands_digit or scanner.stands(b"*") or scanner.stands(b"$"):
            sequence = scanner.sequence_set()
            if scanner.dialect.uid_only and not sequence.saved:
                raise uid_required("sequence numbers among the keys of SEARCH")
            return k.InSet(sequence, False)
        return scanner.fail("a search key")


def _dated(scanner: Scanner, word: str) -> k.SearchKey:
    of, relation = _DATES[word]
    return k.Dated(of, relation, scanner.date())


def _field(scanner: Scanner, word: str) -> k.SearchKey:
    return k.FieldHas(_FIELDS[word], scanner.text("a text"))


def _header(scanner: Scanner, word: str) -> k.SearchKey:
    field = scanner.astring("the name of a header field")
    scanner.space("a text")
    return k.FieldHas(field.lower(), scanner.text("a text"))


def _body(scanner: Scanner, word: str) -> k.SearchKey:
    return k.TextHas(scanner.text("a text"), word == "TEXT")


def _keyword(scanner: Scanner, word: str) -> k.SearchKey:
    flagged = k.Flagged(scanner.atom("a keyword").decode("ascii"))
    return flagged if word == "KEYWORD" else k.Not(flagged)


def _sized(scanner: Scanner, word: str) -> k.SearchKey:
    return k.Sized(word == "LARGER", scanner.number("a size in octets", most=NUMBER63_MAX))


def _within(scanner: Scanner, word: str) -> k.SearchKey:
    return k.Within(word == "YOUNGER", scanner.number("an interval in seconds", least=1))


def _uid(scanner: Scanner, word: str) -> k.SearchKey:
    return k.InSet(scanner.sequence_set(), True)


def _modseq(scanner: Scanner, word: str) -> k.SearchKey:
    """The name of an entry is left out: the modseq is that of the message (RFC 7162 section
    3.1.5)."""
    if scanner.stands(b'"'):
        utf8_text(scanner.string("an entry"), "an entry")
        scanner.space("the type of the entry")
        scanner.one_of(_ENTRY_TYPES, "the type of an entry")
        scanner.space("a mod-sequence")
    return k.ModSeq(scanner.modseq())


def _object_id(scanner: Scanner, word: str) -> k.SearchKey:
    if word == "EMAILID":
        return k.EmailId(object_id(scanner))
    return k.ThreadId(object_id(scanner))


def object_id(scanner: Scanner) -> str:
    """An id of RFC 8474: letters, digits, `_` and `-`, at most 255."""
    octets = scanner.astring("an id")
    if _OBJECT_ID.fullmatch(octets) is None:
        raise ParseError("an id has from 1 to 255 letters, digits, _ and -")
    return octets.decode("ascii")


_ARGUMENTS: dict[str, Callable[[Scanner, str], k.SearchKey]] = {
    **dict.fromkeys(_DATES, _dated),
    **dict.fromkeys(_FIELDS, _field),
    "BODY": _body,
    "EMAILID": _object_id,
    "HEADER": _header,
    "KEYWORD": _keyword,
    "LARGER": _sized,
    "MODSEQ": _modseq,
    "OLDER": _within,
    "SMALLER": _sized,
    "TEXT": _body,
    "THREADID": _object_id,
    "UID": _uid,
    "UNKEYWORD": _keyword,
    "YOUNGER": _within,
}
