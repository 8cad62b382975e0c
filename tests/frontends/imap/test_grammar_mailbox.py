"""Commands about mailboxes, and APPEND."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap import commands as c
from raftmail.mail.limits import MESSAGES_MAX
from raftmail.mail.uidset import STAR, UidSet
from tests.frontends.imap.parsing import UTF8, parsed, wrong

NAMED = {
    b"SELECT": lambda name: c.Select(name, False, False, None),
    b"EXAMINE": lambda name: c.Select(name, True, False, None),
    b"CREATE": lambda name: c.Create(name, ()),
    b"DELETE": c.Delete,
    b"SUBSCRIBE": c.ImapSubscribe,
    b"UNSUBSCRIBE": c.Unsubscribe,
    b"GETQUOTAROOT": c.GetQuotaRoot,
}


@pytest.mark.parametrize("command", NAMED)
def test_names_come_in_every_form(command: bytes) -> None:
    """R66."""
    make = NAMED[command]
    name = "Löhne & Steuern"
    assert parsed(command + b' "L&APY-hne &- Steuern"') == make(name)
    assert parsed(command + b" {20+}\r\nL&APY-hne &- Steuern") == make(name)
    assert parsed(command + f' "{name}"'.encode(), UTF8) == make(name)
    assert parsed(command + b" &APg-re") == make("øre")
    assert parsed(command + b" [x]") == make("[x]")
    for bad in (b"a&b", b"x&AGE-", b"&ZeU", b"&ZeVnLA-&ip4-", b'"\xc3\xb6"'):
        assert wrong(command + b" " + bad).startswith("NO [CANNOT] a mailbox name")
    for bad in (b"", b"*", b"(a)", b"a b", b'"a'):
        assert wrong(command + b" " + bad).startswith("BAD ")


def test_rename_has_two_names() -> None:
    assert parsed(b"RENAME a &APg-re") == c.Rename("a", "øre")


def test_a_separator_at_the_end_is_no_part_of_a_new_name() -> None:
    assert parsed(b"CREATE a/b/") == c.Create("a/b", ())
    assert parsed(b"CREATE /") == c.Create("/", ())
    assert parsed(b"CREATE a//") == c.Create("a/", ())


def test_create_takes_special_uses() -> None:
    assert parsed(b"CREATE x (USE (\\Sent \\Drafts))") == c.Create("x", ("\\Sent", "\\Drafts"))
    assert parsed(b"create x (use ())") == c.Create("x", ())
    for bad in (b"(USE (Sent))", b"(USE)", b"()", b"(USE (\\Sent) X)", b"(\\Sent)"):
        assert wrong(b"CREATE x " + bad).startswith("BAD ")


# SELECT


def test_select_may_resynchronise() -> None:
    def qresync(text: bytes) -> c.Qresync | None:
        command = parsed(b"SELECT x (QRESYNC " + text + b")")
        assert isinstance(command, c.Select) and not command.condstore
        return command.qresync

    known, numbers = UidSet.parse("41,43:211"), UidSet.parse("1,3")
    assert qresync(b"(67890007 20050715194045000)") == c.Qresync(
        67890007, 20050715194045000, None, None
    )
    assert qresync(b"(1 2 41,43:211)") == c.Qresync(1, 2, known, None)
    assert qresync(b"(1 2 41,43:211 (1,3 3,5))") == c.Qresync(
        1, 2, known, (numbers, UidSet.parse("3,5"))
    )
    assert qresync(b"(1 2 (1,3 3,5))") == c.Qresync(1, 2, None, (numbers, UidSet.parse("3,5")))


def test_select_takes_condstore_beside_it() -> None:
    command = parsed(b"EXAMINE x (condstore QRESYNC (1 2))")
    assert command == c.Select("x", True, True, c.Qresync(1, 2, None, None))
    assert parsed(b"SELECT x (CONDSTORE)") == c.Select("x", False, True, None)


@pytest.mark.parametrize(
    "text",
    [
        *(b"()", b"(FOO)", b"(CONDSTORE CONDSTORE)", b"(QRESYNC)", b"(QRESYNC ())", b"CONDSTORE"),
        *(b"(QRESYNC (0 1))", b"(QRESYNC (1))", b"(QRESYNC (1 x))", b"(QRESYNC (1 2 *))"),
        *(b"(QRESYNC (1 2 1:*))", b"(QRESYNC (1 2 $))", b"(QRESYNC (1 2 3 (1 2 3)))"),
        *(b"(QRESYNC (1 2 (1:2 3)))", b"(QRESYNC (1 2 (1 2) 3))", b"(QRESYNC (1 2 ))"),
        *(b"(QRESYNC (4294967296 2))", b"(QRESYNC (1 9223372036854775808))"),
    ],
)
def test_select_refuses_what_else_there_is(text: bytes) -> None:
    assert wrong(b"SELECT x " + text).startswith("BAD ")


# LIST, LSUB, STATUS


def test_list_in_its_oldest_form_is_not_extended() -> None:
    """R70."""
    none: frozenset[c.ListReturn] = frozenset()
    assert parsed(b'LIST "" ""') == c.List("", ("",), frozenset(), none, (), False)
    assert parsed(b"LIST A/ %") == c.List("A/", ("%",), frozenset(), none, (), False)
    assert parsed(b'list "" "*/"') == c.List("", ("*/",), frozenset(), none, (), False)
    assert parsed(b'LIST "" A/%/c') == c.List("", ("A/%/c",), frozenset(), none, (), False)


def test_list_takes_patterns_selections_and_returns() -> None:
    """R69, R70."""
    subscribed = c.ListSelection.SUBSCRIBED
    command = parsed(b'LIST (SUBSCRIBED RECURSIVEMATCH) "" (a "b*") RETURN (CHILDREN special-use)')
    assert command == c.List(
        "",
        ("a", "b*"),
        frozenset((subscribed, c.ListSelection.RECURSIVEMATCH)),
        frozenset((c.ListReturn.CHILDREN, c.ListReturn.SPECIAL_USE)),
        (),
        True,
    )
    assert parsed(b'LIST () "" "*"') == c.List("", ("*",), frozenset(), frozenset(), (), True)
    command = parsed(b'LIST "" "%" RETURN (SUBSCRIBED STATUS (MESSAGES UNSEEN))')
    assert isinstance(command, c.List)
    assert command.returns == {c.ListReturn.SUBSCRIBED} and not command.select
    assert command.status == (c.StatusItem.MESSAGES, c.StatusItem.UNSEEN)
    command = parsed(b'LIST (SPECIAL-USE) "" "&APg-*" RETURN ()')
    assert isinstance(command, c.List)
    assert command.select == {c.ListSelection.SPECIAL_USE} and command.patterns == ("ø*",)


@pytest.mark.parametrize(
    "text",
    [
        *(b'(RECURSIVEMATCH) "" "*"', b'(REMOTE RECURSIVEMATCH) "" "*"', b'(FOO) "" "*"'),
        *(b'"" ()', b'"" "*" RETURN', b'"" "*" RETURN (FOO)', b'"" "*" FOO ()', b'"" "*" ()'),
        *(b'"" "*" RETURN (STATUS)', b'"" "*" RETURN (STATUS ())', b'"" (a (b))', b'"" "*" '),
        b'"" "*" RETURN (STATUS (MESSAGES) STATUS (UNSEEN))',
    ],
)
def test_list_refuses_what_else_there_is(text: bytes) -> None:
    assert wrong(b"LIST " + text).startswith("BAD ")


def test_lsub_has_a_reference_and_a_pattern() -> None:
    assert parsed(b'LSUB "" *') == c.Lsub("", "*")
    assert wrong(b'LSUB "" (a b)').startswith("BAD ")


def test_status_takes_all_its_items() -> None:
    """R73."""
    words = b" ".join(one.value.encode() for one in c.StatusItem)
    assert parsed(b"STATUS x (" + words + b")") == c.Status("x", tuple(c.StatusItem))
    assert parsed(b"STATUS x (unseen UNSEEN)") == c.Status("x", (c.StatusItem.UNSEEN,))
    for bad in (b"x ()", b"x UNSEEN", b"x (FOO)", b"x (UNSEEN) y"):
        assert wrong(b"STATUS " + bad).startswith("BAD ")


# APPEND


def test_append_takes_a_message_with_or_without_flags_and_date() -> None:
    received = c.InternalDate(1770076923_000_000, 60)
    message = c.AppendMessage(("\\Seen", "$x"), received, b"hi\r\n")
    date = b'" 3-Feb-2026 01:02:03 +0100"'
    assert parsed(b"APPEND x (\\Seen $x) " + date + b" {4+}\r\nhi\r\n") == c.Append("x", (message,))
    assert parsed(b"APPEND x {2+}\r\nhi") == c.Append("x", (c.AppendMessage((), None, b"hi"),))
    assert parsed(b"APPEND x () {2+}\r\nhi") == parsed(b"APPEND x {2+}\r\nhi")
    command = parsed(b"APPEND x " + date + b" ~{3+}\r\n\0hi")
    assert command == c.Append("x", (c.AppendMessage((), received, b"\0hi", binary=True),))


def test_append_takes_several_messages() -> None:
    """R61."""
    command = parsed(b"APPEND x (\\Seen) {2+}\r\nhi (\\Flagged) {2+}\r\nho UTF8 (~{2+}\r\nhe)")
    assert command == c.Append(
        "x",
        (
            c.AppendMessage(("\\Seen",), None, b"hi"),
            c.AppendMessage(("\\Flagged",), None, b"ho"),
            c.AppendMessage((), None, b"he", binary=True, utf8=True),
        ),
    )


def test_append_takes_two_spaces_before_a_further_message() -> None:
    one, two = b" {2+}\r\nhi", b" {2+}\r\nho"
    assert parsed(b"APPEND x" + one + b" " + two) == parsed(b"APPEND x" + one + two)
    assert wrong(b"APPEND x " + one).startswith("BAD ")


def test_append_takes_messages_with_nul_as_they_are() -> None:
    command = parsed(b"APPEND x {3+}\r\na\0b")
    assert isinstance(command, c.Append) and command.messages[0].octets == b"a\0b"


def test_append_takes_so_many_messages_as_one_save() -> None:
    assert MESSAGES_MAX == 1000
    command = parsed(b"APPEND x" + b" {1+}\r\nx" * 1000)
    assert isinstance(command, c.Append) and len(command.messages) == 1000
    assert wrong(b"APPEND x" + b" {1+}\r\nx" * 1001).startswith("NO [LIMIT] ")


@pytest.mark.parametrize(
    "text",
    [
        *(b"x", b"x (\\Seen)", b'x "text"', b"x text", b"x {0+}\r\n", b"x {1+}\r\na {0+}\r\n"),
        *(b"x (\\Recent) {1+}\r\na", b"x (\\Bogus) {1+}\r\na", b"x (a]b) {1+}\r\na"),
        *(b'x "31-Feb-2026 01:02:03 +0100" {1+}\r\na', b"x {1+}\r\na ", b"x {1+}\r\na x"),
        *(b"x UTF8 ({1+}\r\na)", b"x UTF8 (~{1+}\r\na", b"x UTF8 ~{1+}\r\na"),
        *(b"x CATENATE (TEXT {1+}\r\na", b'x (\\Seen)"1-Feb-2026 01:02:03 +0100" {1+}\r\na'),
    ],
)
def test_append_refuses_what_else_there_is(text: bytes) -> None:
    """R53, R58."""
    assert wrong(b"APPEND " + text).startswith("BAD ")


def test_catenate_has_texts_and_urls() -> None:
    """RFC 4469 section 5."""
    command = parsed(b"APPEND x CATENATE (TEXT {2+}\r\nhi URL /x/;UID=1 UTF8 (~{1+}\r\n\xff))")
    parts = (b"hi", c.CatenateUrl(b"/x/;UID=1"), b"\xff")
    assert command == c.Append("x", (c.AppendMessage((), None, b"", utf8=True, parts=parts),))


def test_replace_has_one_number_and_one_message() -> None:
    """RFC 8508 section 5."""
    message = c.AppendMessage(("\\Seen",), None, b"hi")
    for text, uid, number in ((b"REPLACE 7", False, 7), (b"uid replace *", True, STAR)):
        command = parsed(text + b" x (\\Seen) {2+}\r\nhi")
        assert command == c.Replace(uid, number, "x", message)
    for text in (b"0 x ", b"1:2 x ", b"$ x ", b"1 x {1+}\r\na "):
        assert wrong(b"REPLACE " + text + b"{1+}\r\nb").startswith("BAD ")


def test_get_quota_has_a_root() -> None:
    assert parsed(b'GETQUOTA ""') == c.GetQuota("")
    assert parsed("GETQUOTA {3+}\r\nü!".encode()) == c.GetQuota("ü!")
