"""FETCH, STORE, COPY, MOVE, EXPUNGE (RFC 9051 section 6.4, RFC 7162)."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TypeAlias

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap import fetch_items as f
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.partial_range import PartialRange
from raftmail.frontends.imap.scanner import NUMBER63_MAX, ParseError, Scanner
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.commands import StoreMode

_What: TypeAlias = tuple[tuple[f.FetchItem, ...], int | None, bool, PartialRange | None]
"""Items, CHANGEDSINCE, whether VANISHED, and PARTIAL."""

ITEMS_MAX = 1000
"""Things that one FETCH asks for of each message."""

_KEPT_MAX = 256
_KEPT_BYTES_MAX = 1000
"""Clients ask for the same things all day: so many texts, up to so long, are kept as parsed."""

_FAST = (f.Attribute.FLAGS, f.Attribute.INTERNALDATE, f.Attribute.SIZE)
_MACROS: dict[str, tuple[f.FetchItem, ...]] = {
    "ALL": (*_FAST, f.Attribute.ENVELOPE),
    "FAST": _FAST,
    "FULL": (*_FAST, f.Attribute.ENVELOPE, f.Attribute.BODY),
}
_ATTRIBUTES: dict[str, f.FetchItem] = {
    **{one.value.decode(): one for one in f.Attribute},
    "RFC822": f.BodySection((), f.SectionKind.ALL, (), None, False, b"RFC822"),
    "RFC822.HEADER": f.BodySection((), f.SectionKind.HEADER, (), None, True, b"RFC822.HEADER"),
    "RFC822.TEXT": f.BodySection((), f.SectionKind.TEXT, (), None, False, b"RFC822.TEXT"),
}
_SECTIONS = ("BODY", "BODY.PEEK", "BINARY", "BINARY.PEEK", "BINARY.SIZE")
_KINDS = {one.value.decode(): one for one in f.SectionKind if one.value}
_WITH_FIELDS = (f.SectionKind.FIELDS, f.SectionKind.FIELDS_NOT)

_FIELD_NAME = re.compile(rb"[!-~]+")
_ATOM = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_SPECIAL = re.compile(rb'(["\\])')

_MODES = {
    "FLAGS": StoreMode.REPLACE,
    "+FLAGS": StoreMode.ADD,
    "-FLAGS": StoreMode.REMOVE,
}
_STORES = {
    name + end: (mode, bool(end)) for name, mode in _MODES.items() for end in ("", ".SILENT")
}


def fetch(scanner: Scanner, uid: bool) -> c.ImapFetch:
    scanner.space("a set of messages")
    sequence = scanner.sequence_set()
    scanner.space("what to fetch")
    text = scanner.last_text()
    if text is None:
        items, changed_since, vanished, partial = _what(scanner)
    elif len(text) <= _KEPT_BYTES_MAX:
        items, changed_since, vanished, partial = _kept(text)
    else:
        items, changed_since, vanished, partial = _read(text)
    if vanished and not (uid and changed_since is not None):
        raise ParseError("VANISHED is for UID FETCH with CHANGEDSINCE (RFC 7162 section 3.2.6)")
    if partial is not None and not uid:
        raise ParseError("PARTIAL is for UID FETCH (RFC 9394 section 3.3)")
    return c.ImapFetch(uid, sequence, items, changed_since, vanished, partial)


def _read(text: bytes) -> _What:
    """What FETCH asks for, by its text. Nothing in it depends on the dialect."""
    scanner = Scanner((text,), Dialect())
    what = _what(scanner)
    scanner.end()
    return what


_kept = lru_cache(maxsize=_KEPT_MAX)(_read)


def _what(scanner: Scanner) -> _What:
    items: tuple[f.FetchItem, ...]
    if scanner.stands(b"("):
        items = fetch_list(scanner)
    elif (word := scanner.peek_word()) in _MACROS:
        scanner.take(word)
        items = _MACROS[word]
    else:
        items = (fetch_item(scanner),)
    changed_since = partial = None
    vanished = False
    if scanner.skip(b" "):
        changed_since, vanished, partial = _fetch_modifiers(scanner)
    return items, changed_since, vanished, partial


def fetch_list(scanner: Scanner) -> tuple[f.FetchItem, ...]:
    """Items in parentheses, each once."""
    items = _each_once(tuple(scanner.items("what to fetch", lambda: fetch_item(scanner))))
    if len(items) > ITEMS_MAX:
        text = f"FETCH asks for at most {ITEMS_MAX} items: ask several times"
        raise ParseError(text, "LIMIT", no=True)
    return items


def _each_once(items: tuple[f.FetchItem, ...]) -> tuple[f.FetchItem, ...]:
    """A section that is asked for with and without PEEK is answered once, as without; and so is a
    preview with and without LAZY."""
    found: dict[f.FetchItem, f.FetchItem] = {}
    for item in items:
        if isinstance(item, f.BodySection | f.BinarySection) and not item.peek:
            found[replace(item, peek=True)] = item
        elif isinstance(item, f.Preview) and not item.lazy:
            found[f.Preview(lazy=True)] = item
        else:
            found.setdefault(item, item)
    return tuple(found.values())


def _fetch_modifiers(scanner: Scanner) -> tuple[int | None, bool, PartialRange | None]:
    found: dict[str, int] = {}
    partials: list[PartialRange] = []

    def read() -> None:
        word = scanner.word("CHANGEDSINCE, PARTIAL or VANISHED")
        if word in found or word not in ("CHANGEDSINCE", "PARTIAL", "VANISHED"):
            raise ParseError(
                "the modifiers of FETCH are CHANGEDSINCE, PARTIAL and VANISHED, each once"
            )
        found[word] = 1
        if word == "CHANGEDSINCE":
            scanner.space("a mod-sequence")
            found[word] = scanner.modseq()
        elif word == "PARTIAL":
            scanner.space("a range such as 1:100 or -1:-100")
            partials.append(scanner.partial_range())

    scanner.items("modifiers", read)
    partial = partials[0] if partials else None
    return found.get("CHANGEDSINCE"), "VANISHED" in found, partial


def fetch_item(scanner: Scanner) -> f.FetchItem:
    """One of the things that FETCH can ask for (fetch-att)."""
    name = scanner.peek_name()
    item = _ATTRIBUTES.get(name)
    if name == "PREVIEW":
        scanner.take(name)
        lazy = scanner.follows(b" (LAZY)")
        if lazy:
            scanner.skip(b" ")
            scanner.items("LAZY", lambda: scanner.skip_word("LAZY"))
        return f.Preview(lazy)
    if item is None and name not in _SECTIONS:
        scanner.fail("an item of FETCH")
    scanner.take(name)
    if name in _SECTIONS and (item is None or scanner.stands(b"[")):
        return _section(scanner, name)
    assert item is not None
    return item


def _section(scanner: Scanner, name: str) -> f.FetchItem:
    scanner.expect(b"[", f"the [ after {name}")
    part, more = _part(scanner)
    if name.startswith("BINARY"):
        if more:
            scanner.fail("the number of a part")
        scanner.expect(b"]", "]")
        if name == "BINARY.SIZE":
            return f.BinarySize(part)
        return f.BinarySection(part, _partial(scanner), name == "BINARY.PEEK")
    kind = f.SectionKind.ALL
    fields: tuple[bytes, ...] = ()
    if more or not (part or scanner.stands(b"]")):
        word = scanner.peek_name()
        if word not in _KINDS:
            scanner.fail(f"one of {', '.join(_KINDS)}")
        scanner.take(word)
        kind = _KINDS[word]
        if kind is f.SectionKind.MIME and not part:
            raise ParseError("MIME is of a part, whose number stands before it")
        if kind in _WITH_FIELDS:
            scanner.space("names of header fields in parentheses")
            fields = tuple(scanner.items("names of header fields", lambda: _field_name(scanner)))
    scanner.expect(b"]", "]")
    shown = _shown(part, kind, fields)
    return f.BodySection(part, kind, fields, _partial(scanner), name == "BODY.PEEK", shown)


def read_section(text: bytes) -> f.BodySection:
    """What stands between the brackets of BODY.PEEK[...]. Raises ParseError."""
    scanner = Scanner((b"[%b]" % text,), Dialect())
    section = _section(scanner, "BODY.PEEK")
    scanner.end()
    assert isinstance(section, f.BodySection)
    return section


def _part(scanner: Scanner) -> tuple[tuple[int, ...], bool]:
    """Numbers with points between; True when a point stands behind the last."""
    part: list[int] = []
    while scanner.stands_digit:
        part.append(scanner.number("the number of a part", least=1))
        if not scanner.skip(b"."):
            return tuple(part), False
    return tuple(part), bool(part)


def _partial(scanner: Scanner) -> f.Partial | None:
    if not scanner.skip(b"<"):
        return None
    first = scanner.number("the first octet", most=NUMBER63_MAX)
    scanner.expect(b".", ". and how many octets")
    count = scanner.number("how many octets", least=1, most=NUMBER63_MAX)
    scanner.expect(b">", ">")
    return f.Partial(first, count)


def _field_name(scanner: Scanner) -> bytes:
    name = scanner.astring("the name of a header field")
    if _FIELD_NAME.fullmatch(name) is None:
        raise ParseError("the name of a header field is printable ASCII without spaces")
    return name


def _shown(part: tuple[int, ...], kind: f.SectionKind, fields: tuple[bytes, ...]) -> bytes:
    words = [b"%d" % number for number in part]
    if kind.value:
        words.append(kind.value)
    spec = b".".join(words)
    if fields:
        spec += b" (%b)" % b" ".join(
            name if _ATOM.fullmatch(name) else b'"%b"' % _SPECIAL.sub(rb"\\\1", name)
            for name in fields
        )
    return b"BODY[%b]" % spec


def store(scanner: Scanner, uid: bool) -> c.ImapStore:
    scanner.space("a set of messages")
    sequence = scanner.sequence_set()
    scanner.space("FLAGS")
    unchanged_since = None
    if scanner.stands(b"("):
        unchanged_since = scanner.items("UNCHANGEDSINCE", lambda: _unchanged(scanner))[0]
        scanner.space("FLAGS")
    mode, silent = scanner.one_of(_STORES, "what to do with flags")
    scanner.space("flags")
    return c.ImapStore(uid, sequence, mode, scanner.bare_flags(), silent, unchanged_since)


def _unchanged(scanner: Scanner) -> int:
    if not scanner.skip_word("UNCHANGEDSINCE"):
        scanner.fail("UNCHANGEDSINCE")
    scanner.space("a mod-sequence")
    return scanner.modseq()


def copy(scanner: Scanner, uid: bool) -> c.ImapCopy:
    return c.ImapCopy(uid, *_set_and_name(scanner))


def move(scanner: Scanner, uid: bool) -> c.ImapMove:
    return c.ImapMove(uid, *_set_and_name(scanner))


def _set_and_name(scanner: Scanner) -> tuple[SequenceSet, str]:
    scanner.space("a set of messages")
    sequence = scanner.sequence_set()
    scanner.space("a mailbox name")
    return sequence, scanner.mailbox()


def expunge(scanner: Scanner, uid: bool) -> c.ImapExpunge:
    if not uid:
        return c.ImapExpunge(None)
    scanner.space("a set of UIDs")
    return c.ImapExpunge(scanner.sequence_set())
