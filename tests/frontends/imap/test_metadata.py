"""METADATA (RFC 5464): annotations of mailboxes and of the server."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.grammar import parse
from raftmail.frontends.imap.request_reader import ImapRequest
from raftmail.frontends.imap.scanner import ParseError
from raftmail.mail.annotations import ANNOTATION_BYTES_MAX, ANNOTATIONS_MAX
from tests.frontends.imap.imap_kit import ImapClient, run
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
