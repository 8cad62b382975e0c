"""FETCH, STORE, COPY, MOVE and UID EXPUNGE."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap import fetch_items as f
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.commands import StoreMode
from raftmail.mail.uidset import UidSet
from tests.frontends.imap.parsing import parsed, wrong

FIRST = SequenceSet(UidSet.parse("1"))
A = f.Attribute


def items(text: bytes) -> tuple[f.FetchItem, ...]:
    command = parsed(b"FETCH 1 " + text)
    assert isinstance(command, c.ImapFetch)
    return command.items


def item(text: bytes) -> f.FetchItem:
    (found,) = items(text)
    assert items(b"(" + text.lower() + b")") == (found,) or b"(" in text
    return found


# FETCH


def test_fetch_takes_one_item_or_a_list() -> None:
    assert parsed(b"FETCH 1 FLAGS") == c.ImapFetch(False, FIRST, (A.FLAGS,), None, False)
    assert parsed(b"UID FETCH 10:* (UID flags)") == c.ImapFetch(
        True, SequenceSet(UidSet.parse("10:*")), (A.UID, A.FLAGS), None, False
    )
    assert items(b"(FLAGS UID FLAGS)") == (A.FLAGS, A.UID)
    assert parsed(b"FETCH $ UID") == c.ImapFetch(
        False, SequenceSet(UidSet(), saved=True), (A.UID,), None, False
    )


@pytest.mark.parametrize("attribute", A)
def test_every_attribute_is_known(attribute: f.Attribute) -> None:
    assert item(attribute.value) is attribute


def test_macros_stand_alone() -> None:
    fast = (A.FLAGS, A.INTERNALDATE, A.SIZE)
    assert items(b"FAST") == fast
    assert items(b"all") == (*fast, A.ENVELOPE)
    assert items(b"FULL") == (*fast, A.ENVELOPE, A.BODY)
    assert wrong(b"FETCH 1 (ALL)").startswith("BAD an item of FETCH is expected")


def section(
    part: tuple[int, ...] = (),
    kind: f.SectionKind = f.SectionKind.ALL,
    partial: f.Partial | None = None,
    *,
    peek: bool = False,
    shown: bytes,
) -> f.BodySection:
    return f.BodySection(part, kind, (), partial, peek, shown)


def test_the_old_names_of_sections() -> None:
    assert item(b"RFC822") == section(shown=b"RFC822")
    assert item(b"RFC822.HEADER") == section(
        kind=f.SectionKind.HEADER, peek=True, shown=b"RFC822.HEADER"
    )
    assert item(b"RFC822.TEXT") == section(kind=f.SectionKind.TEXT, shown=b"RFC822.TEXT")


def test_sections_name_parts_and_what_of_them() -> None:
    """R12, R13."""
    assert item(b"BODY[]") == section(shown=b"BODY[]")
    assert item(b"BODY.PEEK[]") == section(peek=True, shown=b"BODY[]")
    assert item(b"BODY[TEXT]") == section(kind=f.SectionKind.TEXT, shown=b"BODY[TEXT]")
    assert item(b"BODY[1]") == section((1,), shown=b"BODY[1]")
    assert item(b"BODY[2.2.MIME]") == section((2, 2), f.SectionKind.MIME, shown=b"BODY[2.2.MIME]")
    assert item(b"BODY[2.HEADER]") == section((2,), f.SectionKind.HEADER, shown=b"BODY[2.HEADER]")
    assert item(b"BODY[1.HEADER.FIELDS (A)]") == f.BodySection(
        (1,), f.SectionKind.FIELDS, (b"A",), None, False, b"BODY[1.HEADER.FIELDS (A)]"
    )


def test_partials_have_a_first_octet_and_a_count() -> None:
    """R16, R17."""
    for first, count in ((0, 1), (17, 1), (4294967295, 1), (5, 4294967295), (0, 400000)):
        found = item(b"BODY[]<%d.%d>" % (first, count))
        assert found == section(partial=f.Partial(first, count), shown=b"BODY[]")
    both = items(b"(BODY.PEEK[1]<0.5> BODY.PEEK[1]<5.5>)")
    assert len(both) == 2
    for bad in (b"<0.0>", b"<0>", b"<.1>", b"<0.>", b"<-1.1>", b"<0.1", b"<9223372036854775808.1>"):
        assert wrong(b"FETCH 1 BODY[]" + bad).startswith("BAD ")


def test_names_of_fields_are_shown_as_asked_for() -> None:
    """R19."""
    fields = (b"SUBJECT", b"from", b"Message-Id", b"X-None")
    assert item(b'BODY.PEEK[HEADER.FIELDS (SUBJECT "from" Message-Id X-None)]') == f.BodySection(
        (),
        f.SectionKind.FIELDS,
        fields,
        None,
        True,
        b"BODY[HEADER.FIELDS (SUBJECT from Message-Id X-None)]",
    )
    (found,) = items(b'(body[header.fields.not (date {3+}\r\nX"Y "a(b")])')
    assert isinstance(found, f.BodySection)
    assert found.kind is f.SectionKind.FIELDS_NOT
    assert found.shown == b'BODY[HEADER.FIELDS.NOT (date "X\\"Y" "a(b")]'
    for bad in (b"", b" ()", b" (a", b" a", b' ("")', b' ("a b")', b" ({4+}\r\na\r\nb)"):
        assert wrong(b"FETCH 1 BODY[HEADER.FIELDS" + bad + b"]").startswith("BAD ")


def test_binary_sections() -> None:
    assert item(b"BINARY[2.2.1]") == f.BinarySection((2, 2, 1), None, False)
    assert item(b"BINARY.PEEK[]<1.2>") == f.BinarySection((), f.Partial(1, 2), True)
    assert item(b"BINARY.SIZE[2]") == f.BinarySize((2,))
    for bad in (
        b"BINARY",
        b"BINARY[TEXT]",
        b"BINARY[1.TEXT]",
        b"BINARY[1.]",
        b"BINARY.SIZE[1]<0.1>",
    ):
        assert wrong(b"FETCH 1 " + bad).startswith("BAD ")


@pytest.mark.parametrize(
    "text",
    [
        *(b"()", b"(FLAGS", b"(FLAGS )", b"FLAGS UID", b"FOO", b"X-GM-MSGID", b"BODY.PEEK"),
        *(b"BODY[0]", b"BODY[1.0]", b"BODY[1.]", b"BODY[.1]", b"BODY[MIME]", b"BODY[1.FOO]"),
        *(b"BODY[4294967296]", b"BODY[", b"BODY[TEXT", b"BODY[TEXT.1]", b"BODY[01]", b"FLAGS[]"),
        *(b"BODY[HEADER.FIELDS]", b"BODY[HEADER (A)]", b"RFC822[]", b"BODY []", b"BODY[ ]"),
    ],
)
def test_fetch_refuses_what_else_there_is(text: bytes) -> None:
    assert wrong(b"FETCH 1 " + text).startswith("BAD ")


def test_fetch_may_ask_for_what_changed() -> None:
    assert parsed(b"FETCH 1 FLAGS (CHANGEDSINCE 12)") == c.ImapFetch(
        False, FIRST, (A.FLAGS,), 12, False
    )
    command = parsed(b"UID FETCH 1 (FLAGS) (VANISHED CHANGEDSINCE 0)")
    assert command == c.ImapFetch(True, FIRST, (A.FLAGS,), 0, True)


@pytest.mark.parametrize(
    "text",
    [
        b"UID FETCH 1:* (FLAGS) (VANISHED)",
        b"FETCH 1:* (FLAGS) (CHANGEDSINCE 5 VANISHED)",
        b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE)",
        b"UID FETCH 1:* (FLAGS) ()",
        b"UID FETCH 1:* (FLAGS) (FOO)",
        b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 CHANGEDSINCE 2)",
        b"UID FETCH 1:* (FLAGS) CHANGEDSINCE 1",
        b"UID FETCH 1:* (FLAGS)(CHANGEDSINCE 1)",
    ],
)
def test_modifiers_in_other_forms_are_refused(text: bytes) -> None:
    """R42."""
    assert wrong(text).startswith("BAD ")


KINDS = st.sampled_from(list(f.SectionKind))
PARTS = st.lists(st.integers(1, 2**32 - 1), max_size=5).map(tuple)
FIELDS = st.lists(st.text('AZaz-09:"\\()*%]{!~', min_size=1).map(str.encode), min_size=1)


@given(part=PARTS, kind=KINDS, fields=FIELDS)
def test_what_a_section_is_shown_as_is_read_as_the_same(
    part: tuple[int, ...], kind: f.SectionKind, fields: list[bytes]
) -> None:
    if kind is f.SectionKind.MIME and not part:
        part = (1,)
    words = [*(str(number).encode() for number in part), *([kind.value] if kind.value else [])]
    text = b".".join(words)
    if kind in (f.SectionKind.FIELDS, f.SectionKind.FIELDS_NOT):
        text += b" (%b)" % b" ".join(b"{%d+}\r\n%b" % (len(one), one) for one in fields)
    (first,) = items(b"BODY[%b]" % text)
    assert isinstance(first, f.BodySection)
    assert first.part == part and first.kind is kind
    assert items(first.shown) == (first,)


# STORE, COPY, MOVE, EXPUNGE


def test_store_has_three_modes_and_silence() -> None:
    """R44, R58."""
    seen = ("\\Seen",)
    for word, mode in ((b"", StoreMode.REPLACE), (b"+", StoreMode.ADD), (b"-", StoreMode.REMOVE)):
        for end, silent in ((b"", False), (b".SILENT", True)):
            text = b"STORE 1 " + word + b"FLAGS" + end + b" (\\Seen)"
            assert parsed(text) == c.ImapStore(False, FIRST, mode, seen, silent, None)
    assert parsed(b"UID STORE 1 (UNCHANGEDSINCE 15) +flags.silent \\Seen") == c.ImapStore(
        True, FIRST, StoreMode.ADD, seen, True, 15
    )
    assert parsed(b"STORE 1 FLAGS ()") == c.ImapStore(
        False, FIRST, StoreMode.REPLACE, (), False, None
    )
    assert parsed(b"store 1 +flags \\deleted") == c.ImapStore(
        False, FIRST, StoreMode.ADD, ("\\deleted",), False, None
    )


@pytest.mark.parametrize(
    "text",
    [
        *(b"FLAGS", b"FLAGS ", b"+FLAGS (\\Bogus)", b"+FLAGS (\\Recent)", b'+FLAGS (ab"c)'),
        *(b"+FLAGS (foo]bar)", b"*FLAGS (a)", b"+FLAGS.LOUD (a)", b"+FLAGS (a) (b)", b"+FLAGS(a)"),
        *(b"(UNCHANGEDSINCE) FLAGS (a)", b"(FOO 1) FLAGS (a)", b"() FLAGS (a)"),
        *(b"(UNCHANGEDSINCE 1)FLAGS (a)", b"(UNCHANGEDSINCE -1) FLAGS (a)", b"+FLAGS \\Seen "),
    ],
)
def test_store_refuses_what_else_there_is(text: bytes) -> None:
    assert wrong(b"STORE 1 " + text).startswith("BAD ")


def test_too_many_keywords_at_once_are_over_a_limit() -> None:
    """R58."""
    flags = b" ".join(b"kw%d" % at for at in range(300))
    assert wrong(b"STORE 1 +FLAGS (" + flags + b")").startswith("NO [LIMIT] ")


def test_copy_and_move_have_a_set_and_a_name() -> None:
    """R35: never wider than what is named."""
    named = SequenceSet(UidSet.from_uids([3, 7]))
    assert parsed(b"UID MOVE 3,7 Trash") == c.ImapMove(True, named, "Trash")
    assert parsed(b"MOVE 3,7 Trash") == c.ImapMove(False, named, "Trash")
    assert parsed(b'COPY 3,7 "a b"') == c.ImapCopy(False, named, "a b")
    assert parsed(b"UID COPY 7,3 &APg-") == c.ImapCopy(True, named, "ø")
    assert wrong(b"COPY 0 x").startswith("BAD ")


def test_expunge_of_uids_has_a_set() -> None:
    assert parsed(b"UID EXPUNGE 1:*") == c.ImapExpunge(SequenceSet(UidSet.parse("1:*")))


@pytest.mark.parametrize("text", [b"1:*", b"*", b"*:1", b"2:1", b"500:*", b"1,2,3", b"4:2,9:*"])
def test_sets_are_read_in_all_commands_alike(text: bytes) -> None:
    """R27, R28."""
    numbers = UidSet.parse(text.decode())
    for head, tail in (
        (b"FETCH ", b" UID"),
        (b"UID FETCH ", b" (FLAGS)"),
        (b"STORE ", b" +FLAGS (\\Seen)"),
        (b"COPY ", b" x"),
        (b"UID COPY ", b" x"),
        (b"UID MOVE ", b" x"),
    ):
        command = parsed(head + text + tail)
        assert isinstance(command, c.ImapFetch | c.ImapStore | c.ImapCopy | c.ImapMove)
        assert command.sequence.numbers == numbers


def test_a_section_with_and_without_peek_is_one_item_that_marks_as_seen() -> None:
    for text in (b"FETCH 1 (BODY[] BODY.PEEK[])", b"FETCH 1 (BODY.PEEK[] BODY[])"):
        command = parsed(text)
        assert isinstance(command, c.ImapFetch)
        (item,) = command.items
        assert isinstance(item, f.BodySection) and not item.peek
    command = parsed(b"FETCH 1 (BODY[]<0.1> BODY.PEEK[]<0.2> BODY.PEEK[] BODY.PEEK[])")
    assert isinstance(command, c.ImapFetch) and len(command.items) == 3


@pytest.mark.parametrize("text", [b"PREVIEW PREVIEW (LAZY)", b"PREVIEW (LAZY) PREVIEW"])
def test_a_preview_with_and_without_lazy_is_one_item_that_is_not_lazy(text: bytes) -> None:
    command = parsed(b"FETCH 1 (UID %b)" % text)
    assert isinstance(command, c.ImapFetch)
    assert set(command.items) == {f.Attribute.UID, f.Preview(lazy=False)}
    assert len(command.items) == 2
