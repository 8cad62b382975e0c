"""Commands about mailboxes, and APPEND (RFC 9051 section 6.3)."""

from __future__ import annotations

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.grammar_metadata import annotation_names
from raftmail.frontends.imap.request_reader import Literal
from raftmail.frontends.imap.scanner import ParseError, Scanner, uid_required
from raftmail.mail.limits import MESSAGES_MAX
from raftmail.mail.names import SEPARATOR
from raftmail.mail.uidset import STAR, UidSet

CATENATED_MAX = 500
"""Parts of one message of CATENATE."""

PATTERNS_MAX = 100
"""Of one LIST: each is looked for in every name."""

_STATUS_ITEMS = {one.value: one for one in c.StatusItem}
_SELECTIONS = {one.value: one for one in c.ListSelection}
_RETURNS = {one.value: one for one in c.ListReturn}


def _name(scanner: Scanner) -> str:
    scanner.space("a mailbox name")
    return scanner.mailbox()


def select(scanner: Scanner) -> c.Select:
    return _select(scanner, False)


def examine(scanner: Scanner) -> c.Select:
    return _select(scanner, True)


def _select(scanner: Scanner, read_only: bool) -> c.Select:
    name = _name(scanner)
    found: dict[str, c.Qresync | None] = {}

    def read() -> None:
        word = scanner.peek_word()
        if word in found or word not in ("CONDSTORE", "QRESYNC"):
            scanner.fail("CONDSTORE or QRESYNC, each once,")
        scanner.take(word)
        found[word] = _qresync(scanner) if word == "QRESYNC" else None

    if scanner.skip(b" "):
        scanner.items("CONDSTORE or QRESYNC", read)
    return c.Select(name, read_only, "CONDSTORE" in found, found.get("QRESYNC"))


def _qresync(scanner: Scanner) -> c.Qresync:
    """`(uidvalidity modseq [known-uids] [(sequence-numbers uids)])`."""
    scanner.space("( and a UIDVALIDITY")
    scanner.expect(b"(", "( and a UIDVALIDITY")
    uidvalidity = scanner.number("a UIDVALIDITY", least=1)
    scanner.space("a mod-sequence")
    modseq = scanner.modseq()
    known = None
    matched = None
    more = scanner.skip(b" ")
    if more and not scanner.stands(b"("):
        known = scanner.uid_set()
        more = scanner.skip(b" ")
    if more:
        if scanner.dialect.uid_only:
            raise uid_required("sequence numbers in QRESYNC")
        matched = _matched(scanner)
    scanner.expect(b")", ")")
    return c.Qresync(uidvalidity, modseq, known, matched)


def _matched(scanner: Scanner) -> tuple[UidSet, UidSet]:
    scanner.expect(b"(", "( and sequence numbers")
    numbers = scanner.uid_set()
    scanner.space("their UIDs")
    uids = scanner.uid_set()
    scanner.expect(b")", ")")
    if len(numbers) != len(uids):
        raise ParseError(
            f"QRESYNC has {len(numbers)} sequence numbers and {len(uids)} UIDs for them"
        )
    return numbers, uids


def create(scanner: Scanner) -> c.Create:
    """A separator at the end says that there will be mailboxes below; it is not part of the name
    (RFC 9051 section 6.3.4)."""
    name = _name(scanner)
    uses: list[str] = []
    if scanner.skip(b" "):
        scanner.expect(b"(", "( and USE")
        if not scanner.skip_word("USE"):
            scanner.fail("USE")
        scanner.space("special uses in parentheses")
        uses = scanner.items("special uses", lambda: _use(scanner), empty=True)
        scanner.expect(b")", ")")
    if len(name) > 1:
        name = name.removesuffix(SEPARATOR)
    return c.Create(name, tuple(dict.fromkeys(uses)))


def _use(scanner: Scanner) -> str:
    if not scanner.stands(b"\\"):
        scanner.fail("a special use such as \\Sent")
    return scanner.flag()


def delete(scanner: Scanner) -> c.Delete:
    return c.Delete(_name(scanner))


def rename(scanner: Scanner) -> c.Rename:
    return c.Rename(_name(scanner), _name(scanner))


def subscribe(scanner: Scanner) -> c.ImapSubscribe:
    return c.ImapSubscribe(_name(scanner))


def unsubscribe(scanner: Scanner) -> c.Unsubscribe:
    return c.Unsubscribe(_name(scanner))


def list_(scanner: Scanner) -> c.List:
    scanner.space("a reference")
    select: list[c.ListSelection] = []
    extended = scanner.stands(b"(")
    if extended:
        select = scanner.items(
            "selection options",
            lambda: scanner.one_of(_SELECTIONS, "a selection option"),
            empty=True,
        )
        scanner.space("a reference")
    if c.ListSelection.RECURSIVEMATCH in select and {*select}.isdisjoint(
        (c.ListSelection.SUBSCRIBED, c.ListSelection.SPECIAL_USE)
    ):
        raise ParseError(
            "RECURSIVEMATCH stands beside SUBSCRIBED or SPECIAL-USE (RFC 9051 section 6.3.9.1)"
        )
    reference = scanner.pattern()
    scanner.space("a pattern")
    if scanner.stands(b"("):
        extended = True
        patterns = scanner.items("patterns", scanner.pattern)
    else:
        patterns = [scanner.pattern()]
    patterns = list(dict.fromkeys(patterns))
    if len(patterns) > PATTERNS_MAX:
        text = f"LIST takes at most {PATTERNS_MAX} patterns: ask several times"
        raise ParseError(text, "LIMIT", no=True)
    returns: list[c.ListReturn] = []
    status: list[c.StatusItem] = []
    metadata: list[str] = []

    def read() -> None:
        if not status and scanner.skip_word("STATUS"):
            status.extend(_status_items(scanner))
        elif not metadata and scanner.skip_word("METADATA"):
            scanner.space("names of annotations")
            metadata.extend(annotation_names(scanner))
        else:
            returns.append(scanner.one_of(_RETURNS, "a return option"))

    if scanner.skip(b" "):
        extended = True
        if not scanner.skip_word("RETURN"):
            scanner.fail("RETURN")
        scanner.space("return options in parentheses")
        scanner.items("return options", read, empty=True)
    return c.List(
        reference,
        tuple(patterns),
        frozenset(select),
        frozenset(returns),
        tuple(status),
        extended,
        tuple(metadata),
    )


def lsub(scanner: Scanner) -> c.Lsub:
    scanner.space("a reference")
    reference = scanner.pattern()
    scanner.space("a pattern")
    return c.Lsub(reference, scanner.pattern())


def status(scanner: Scanner) -> c.Status:
    return c.Status(_name(scanner), tuple(_status_items(scanner)))


def _status_items(scanner: Scanner) -> list[c.StatusItem]:
    scanner.space("STATUS items in parentheses")
    items = scanner.items("STATUS items", lambda: scanner.one_of(_STATUS_ITEMS, "a STATUS item"))
    return list(dict.fromkeys(items))


def append(scanner: Scanner) -> c.Append:
    name = _name(scanner)
    messages = [_message(scanner)]
    while not scanner.at_end:
        if len(messages) == MESSAGES_MAX:
            raise ParseError(f"APPEND takes at most {MESSAGES_MAX} messages", "LIMIT", no=True)
        messages.append(_message(scanner, first=False))
    return c.Append(name, tuple(messages))


def _message(scanner: Scanner, *, first: bool = True) -> c.AppendMessage:
    """NUL is taken in any literal: it is mail as it is, and must go from server to server. Before a
    further message there may be two spaces, since IMAPClient sends them."""
    scanner.space("a message")
    if not first:
        scanner.skip(b" ")
    flags: tuple[str, ...] = ()
    received = None
    if scanner.stands(b"("):
        flags = scanner.flags()
        scanner.space("a message")
    if scanner.stands(b'"'):
        received = scanner.date_time()
        scanner.space("a message")
    if scanner.skip_word("CATENATE"):
        scanner.space("parts in parentheses")
        parts = scanner.items("parts", lambda: _part(scanner))
        if len(parts) > CATENATED_MAX:
            raise ParseError(f"CATENATE takes at most {CATENATED_MAX} parts", "LIMIT", no=True)
        utf8 = any(is_utf8 for _, is_utf8 in parts)
        return c.AppendMessage(
            flags, received, b"", utf8=utf8, parts=tuple(part for part, _ in parts)
        )
    utf8 = scanner.skip_word("UTF8")
    literal = _utf8_literal(scanner) if utf8 else scanner.literal("a message as a literal")
    if not literal.octets:
        raise ParseError("a message of 0 octets is none")
    return c.AppendMessage(flags, received, literal.octets, literal.binary, utf8)


def _utf8_literal(scanner: Scanner) -> Literal:
    """`(~{n} ...)`, RFC 9755 section 4."""
    scanner.space("( and a literal")
    scanner.expect(b"(", "( and a literal")
    literal = scanner.literal("a message as a literal")
    if not literal.binary:
        raise ParseError("the message of UTF8 (...) is a literal8, which begins with ~")
    scanner.expect(b")", ")")
    return literal


def _part(scanner: Scanner) -> tuple[bytes | c.CatenateUrl, bool]:
    """A part of CATENATE, and whether it is UTF8 (RFC 4469 section 5, RFC 9755 section 4)."""
    word = scanner.word("TEXT, URL or UTF8")
    if word == "UTF8":
        return _utf8_literal(scanner).octets, True
    scanner.space("a literal or a URL")
    if word == "TEXT":
        return scanner.literal("a text as a literal").octets, False
    if word != "URL":
        raise ParseError("the parts of CATENATE are TEXT, URL and UTF8")
    return c.CatenateUrl(scanner.astring("a URL")), False


def replace(scanner: Scanner, uid: bool) -> c.Replace:
    """REPLACE (RFC 8508 section 5)."""
    scanner.space("the number of a message")
    if scanner.skip(b"*"):
        number = STAR
    else:
        number = scanner.number("the number of a message", least=1)
    name = _name(scanner)
    return c.Replace(uid, number, name, _message(scanner))


def get_quota(scanner: Scanner) -> c.GetQuota:
    scanner.space("a quota root")
    return c.GetQuota(scanner.text("a quota root"))


def get_quota_root(scanner: Scanner) -> c.GetQuotaRoot:
    return c.GetQuotaRoot(_name(scanner))
