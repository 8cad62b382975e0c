"""METADATA (RFC 5464): annotations of mailboxes and of the server."""

from __future__ import annotations

import asyncio

import pytest

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.grammar import parse
from raftmail.frontends.imap.request_reader import ImapRequest
from raftmail.frontends.imap.scanner import ParseError
from raftmail.mail.annotations import ANNOTATION_BYTES_MAX, ANNOTATIONS_MAX
from tests.frontends.imap.imap_kit import ImapClient, run
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService


def parsed(text: str) -> c.ImapCommand:
    return parse(ImapRequest(b"a", (text.encode(),), 0), Dialect())


def test_requests_are_read_with_options_before_and_behind_the_mailbox() -> None:
    one = ("/private/comment",)
    depth = c.MetadataDepth
    for text, found in (
        ("GETMETADATA INBOX /PRIVATE/Comment", c.GetMetadata("INBOX", one, depth.NONE, None)),
        (
            'GETMETADATA (MAXSIZE 9 DEPTH infinity) "" (/private /shared/a)',
            c.GetMetadata("", ("/private", "/shared/a"), depth.INFINITY, 9),
        ),
        (
            "getmetadata INBOX (depth 1) (/private/comment)",
            c.GetMetadata("INBOX", one, depth.ONE, None),
        ),
        (
            'SETMETADATA INBOX (/private/comment "x" /shared/B NIL)',
            c.SetMetadata("INBOX", (("/private/comment", b"x"), ("/shared/b", None))),
        ),
    ):
        assert parsed(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "GETMETADATA INBOX",
        "GETMETADATA INBOX ()",
        "GETMETADATA INBOX comment",
        "GETMETADATA INBOX /other/comment",
        "GETMETADATA INBOX /private//x",
        "GETMETADATA INBOX /private/x/",
        'GETMETADATA INBOX "/private/*"',
        "GETMETADATA (DEPTH 2) INBOX /private/x",
        "GETMETADATA (DEPTH 1 DEPTH 1) INBOX /private/x",
        "GETMETADATA INBOX (/private/x DEPTH 1)",
        "SETMETADATA INBOX (/private/x)",
        'SETMETADATA INBOX (/private "x")',
        'SETMETADATA INBOX (/private/vendor/x "x")',
        "SETMETADATA INBOX /private/x y",
        'SETMETADATA INBOX (/private/x "y" /PRIVATE/X "z")',
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parsed(text)


def test_what_is_set_is_told_and_nothing_else() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE A")
        await client.ok('SETMETADATA A (/private/comment "mine" /shared/vendor/x/y {})', b"a\nb")
        await client.ok('SETMETADATA "" (/private/comment "server")')
        assert await client.ok("GETMETADATA A (/private/comment /private/none)") == [
            b'* METADATA A (/private/comment "mine" /private/none NIL)'
        ]
        assert await client.ok("GETMETADATA (DEPTH infinity) A (/private /shared)") == [
            b'* METADATA A (/private/comment "mine" /shared/vendor/x/y {3}\r\na\nb)'
        ]
        assert await client.ok("GETMETADATA (DEPTH 1) A /shared/vendor") == []
        assert await client.ok("GETMETADATA (DEPTH 1) A /shared/vendor/x") == [
            b"* METADATA A (/shared/vendor/x/y {3}\r\na\nb)"
        ]
        assert await client.ok('GETMETADATA "" /private/comment') == [
            b'* METADATA "" (/private/comment "server")'
        ]
        assert await client.ok("GETMETADATA INBOX /private/comment") == [
            b"* METADATA INBOX (/private/comment NIL)"
        ]
        await client.ok("SETMETADATA A (/private/comment NIL)")
        assert await client.ok("GETMETADATA (DEPTH infinity) A /private") == []

    run(talk)


def test_values_may_hold_any_octet() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        client.send(b"x SETMETADATA INBOX (/private/x ~{3+}\r\na\x00b)\r\n")
        assert (await client.answer(b"x"))[1].startswith(b"OK")
        said = await client.ok("GETMETADATA INBOX /private/x")
        assert said == [b"* METADATA INBOX (/private/x ~{3}\r\na\x00b)"]

    run(talk)


def test_values_that_are_too_long_are_left_out_with_their_length() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok('SETMETADATA INBOX (/private/a "12345" /private/b "12")')
        said, answer = await client.do("GETMETADATA (MAXSIZE 4) INBOX (/private/a /private/b)")
        assert said == [b'* METADATA INBOX (/private/b "12")']
        assert answer.startswith(b"OK [METADATA LONGENTRIES 5]")

    run(talk)


def test_what_cannot_be_set_is_refused_with_its_reason() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        long = bytes(ANNOTATION_BYTES_MAX + 1).replace(b"\0", b"x")
        for command, literals, code in (
            ("SETMETADATA INBOX (/private/x {})", (long,), b"METADATA MAXSIZE 16384"),
            ('SETMETADATA "" (/shared/x "y")', (), b"NOPERM"),
            ('SETMETADATA nobody (/private/x "y")', (), b"NONEXISTENT"),
            ("GETMETADATA nobody /private/x", (), b"NONEXISTENT"),
        ):
            _, answer = await client.do(command, *literals)
            assert answer.startswith(b"NO [%b]" % code), answer
        for number in range(ANNOTATIONS_MAX):
            await client.ok(f'SETMETADATA INBOX (/private/x{number} "y")')
        _, answer = await client.do('SETMETADATA INBOX (/private/more "y")')
        assert answer.startswith(b"NO [METADATA TOOMANY]")

    run(talk)


def test_the_special_use_of_a_mailbox_is_an_annotation() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE A (USE (\\Sent))")
        await client.ok("CREATE B")
        use = "/private/specialuse"
        assert await client.ok(f"GETMETADATA A {use}") == [
            b'* METADATA A (/private/specialuse "\\\\Sent")'
        ]
        assert await client.ok(f"GETMETADATA B {use}") == [
            b"* METADATA B (/private/specialuse NIL)"
        ]
        for name, value in (
            ("B", '"\\\\Sent"'),
            ("B", '"\\\\Nonsense"'),
            ("B", '"\\\\Junk \\\\Trash"'),
            ("INBOX", '"\\\\Junk"'),
            ('""', '"\\\\Junk"'),
        ):
            _, answer = await client.do(f'SETMETADATA {name} (/private/x "y" {use} {value})')
            assert answer.startswith(b"NO [USEATTR]"), (name, value, answer)
        assert await client.ok("GETMETADATA B /private/x") == [b"* METADATA B (/private/x NIL)"]
        await client.ok(f"SETMETADATA A ({use} NIL)")
        await client.ok(f'SETMETADATA B ({use} "\\\\sent")')
        assert await client.ok('LIST "" % RETURN (SPECIAL-USE)') == [
            b'* LIST (\\HasNoChildren) "/" A',
            b'* LIST (\\HasNoChildren \\Sent) "/" B',
            b'* LIST (\\HasNoChildren) "/" INBOX',
        ]

    run(talk, service=MachineService())


def test_two_mailboxes_that_are_made_at_once_share_no_special_use() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        others = [await ImapClient(client.port).log_in() for _ in range(4)]
        answers = await asyncio.gather(
            *(other.do(f"CREATE A{n} (USE (\\Sent))") for n, other in enumerate(others))
        )
        assert sorted(answer[:9] for _, answer in answers) == [b"NO [USEAT"] * 3 + [b"OK [MAILB"]
        for other in others:
            await other.close()

    run(talk, service=MachineService())


def test_list_tells_annotations_of_each_mailbox_that_there_is() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE A/b")
        await client.ok("SUBSCRIBE gone")
        await client.ok('SETMETADATA A/b (/private/comment "x" /shared/comment "not asked for")')
        await client.ok('SETMETADATA "" (/private/comment "server")')
        names = "(/PRIVATE/comment /private/specialuse)"
        nil = b"(/private/comment NIL /private/specialuse NIL)"
        assert await client.ok(f'LIST "" * RETURN (METADATA {names} STATUS (MESSAGES))') == [
            b'* LIST (\\HasChildren) "/" A',
            b"* METADATA A " + nil,
            b"* STATUS A (MESSAGES 0)",
            b'* LIST (\\HasNoChildren) "/" A/b',
            b'* METADATA A/b (/private/comment "x" /private/specialuse NIL)',
            b"* STATUS A/b (MESSAGES 0)",
            b'* LIST (\\HasNoChildren) "/" INBOX',
            b"* METADATA INBOX " + nil,
        ]
        said = await client.ok('LIST (SUBSCRIBED) "" * RETURN (METADATA /private/comment)')
        assert [line[:8] for line in said] == [b"* LIST ("]
        for wrong in ("METADATA", "METADATA ()", "METADATA (/private)", "METADATA (comment)"):
            _, answer = await client.do(f'LIST "" * RETURN ({wrong})')
            assert answer.startswith(b"BAD"), wrong

    run(talk, service=MachineService())


def test_annotations_follow_their_mailbox_and_die_with_it() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE A")
        await client.ok('SETMETADATA A (/private/comment "mine")')
        await client.ok('SETMETADATA INBOX (/private/comment "in")')
        await client.ok("RENAME A B")
        await client.ok("RENAME INBOX C")
        for name, value in ((b"B", b'"mine"'), (b"C", b'"in"'), (b"INBOX", b'"in"')):
            said = await client.ok(b"GETMETADATA %b /private/comment" % name)
            assert said == [b"* METADATA %b (/private/comment %b)" % (name, value)]
        await client.ok("DELETE B")
        await client.ok("CREATE B")
        said = await client.ok("GETMETADATA B /private/comment")
        assert said == [b"* METADATA B (/private/comment NIL)"]

    run(talk, service=MachineService())


def test_more_annotations_than_one_command_may_set_are_too_many() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        entries = " ".join(f'/private/x{number} ""' for number in range(ANNOTATIONS_MAX + 1))
        _, answer = await client.do(f"SETMETADATA INBOX ({entries})")
        assert answer.startswith(b"NO [METADATA TOOMANY]"), answer
        names = " ".join(f"/private/x{number}" for number in range(ANNOTATIONS_MAX + 1))
        _, answer = await client.do(f"GETMETADATA INBOX ({names})")
        assert answer.startswith(b"BAD"), answer

    run(talk, service=MachineService())
