"""GETMETADATA and SETMETADATA (RFC 5464 section 5)."""

from __future__ import annotations

from collections.abc import Callable

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.scanner import ParseError, Scanner
from raftmail.mail.annotations import (
    ANNOTATIONS_MAX,
    check_annotation_above,
    check_annotation_name,
)

_DEPTHS = {one.value: one for one in c.MetadataDepth}


def get_metadata(scanner: Scanner) -> c.GetMetadata:
    """Options stand before the mailbox; clients of drafts write them behind it."""
    options: dict[str, int | c.MetadataDepth] = {}
    scanner.space("a mailbox")
    if scanner.stands(b"("):
        _options(scanner, options)
        scanner.space("a mailbox")
    name = scanner.mailbox()
    scanner.space("names of annotations")
    if not options and scanner.stands(b"("):
        names = _names_or_options(scanner, options)
        if options:
            scanner.space("names of annotations")
            names = _entries(scanner, _name)
    else:
        names = _entries(scanner, _name)
    depth = options.get("DEPTH", c.MetadataDepth.NONE)
    most = options.get("MAXSIZE")
    assert isinstance(depth, c.MetadataDepth)
    size = most if isinstance(most, int) else None
    return c.GetMetadata(name, tuple(names), depth, size)


def _options(scanner: Scanner, options: dict[str, int | c.MetadataDepth]) -> None:
    scanner.items("MAXSIZE or DEPTH", lambda: _option(scanner, options))


def _option(scanner: Scanner, options: dict[str, int | c.MetadataDepth]) -> None:
    word = scanner.peek_word()
    if word not in ("MAXSIZE", "DEPTH") or word in options:
        scanner.fail("MAXSIZE or DEPTH, each once,")
    scanner.take(word)
    if word == "MAXSIZE":
        scanner.space("a number of octets")
        options[word] = scanner.number("a number of octets")
    else:
        scanner.space("0, 1 or infinity")
        options[word] = scanner.one_of(_DEPTHS, "a depth")


def _names_or_options(scanner: Scanner, options: dict[str, int | c.MetadataDepth]) -> list[str]:
    names: list[str] = []

    def read() -> None:
        if not names and scanner.peek_word() in ("MAXSIZE", "DEPTH"):
            _option(scanner, options)
        elif options:
            scanner.fail("MAXSIZE or DEPTH")
        else:
            names.append(_name(scanner))

    scanner.items("names of annotations", read)
    return _few(names)


def annotation_names(scanner: Scanner) -> list[str]:
    """Of annotations: one, or several in parentheses, each once (`entries`)."""
    return _entries(scanner, _annotation)


def _entries(scanner: Scanner, read: Callable[[Scanner], str]) -> list[str]:
    if scanner.stands(b"("):
        return _few(scanner.items("names of annotations", lambda: read(scanner)))
    return [read(scanner)]


def _few(names: list[str]) -> list[str]:
    if len(names) > ANNOTATIONS_MAX:
        raise ParseError(f"at most {ANNOTATIONS_MAX} names of annotations at once")
    return list(dict.fromkeys(names))


def _annotation(scanner: Scanner) -> str:
    """Of one annotation, in small letters: names are one whatever their case (RFC 5464 section
    3.2)."""
    return _checked(scanner, check_annotation_name)


def _name(scanner: Scanner) -> str:
    """Of an annotation, or of what stands above some, as DEPTH makes use of."""
    return _checked(scanner, check_annotation_above)


def _checked(scanner: Scanner, check: Callable[[str, object], None]) -> str:
    name = scanner.astring("the name of an annotation").lower().decode("latin-1")
    try:
        check("annotation", name)
    except ValueError as e:
        raise ParseError(str(e)) from None
    return name


def set_metadata(scanner: Scanner) -> c.SetMetadata:
    scanner.space("a mailbox")
    name = scanner.mailbox()
    scanner.space("annotations in parentheses")
    entries: dict[str, bytes | None] = {}

    def read() -> None:
        entry = _annotation(scanner)
        if entry in entries:
            raise ParseError(f"{entry} is set twice")
        scanner.space("a value")
        entries[entry] = scanner.nstring8("a value")

    scanner.items("annotations", read)
    return c.SetMetadata(name, tuple(entries.items()))
