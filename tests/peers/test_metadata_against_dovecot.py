"""Annotations in raftmail and in Debian's Dovecot (RFC 5464): the same is set, and the same is
told."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.frontends.imap.imap_kit import PASSWORD, USER
from tests.peers.dovecot import dovecot, need_dovecot
from tests.peers.imap_talk import ImapTalk, Told, Values
from tests.peers.twin_server import serve

_WITH_ANNOTATIONS: Final = """\
mail_attribute_dict = file:{folder}/mail/attributes
protocol imap {{
  imap_metadata = yes
}}
"""
_LONG: Final = re.compile(rb"\[METADATA LONGENTRIES [0-9]+\]")

_TREE: Final = b'/private/vendor/a/b "1" /private/vendor/a/b/c "22" /private/vendor/a/bc "333"'
_STEPS: Final[list[tuple[bytes, tuple[bytes, ...]]]] = [
    (b"CREATE box", ()),
    (b'GETMETADATA "" /private/comment', ()),
    (b"GETMETADATA INBOX (/private/comment /shared/comment)", ()),
    (b"SETMETADATA INBOX (/private/comment {})", (b"my own",)),
    (b"GETMETADATA INBOX /private/comment", ()),
    (b'SETMETADATA INBOX (/private/COMMENT {} /shared/comment "y")', (b"line\r\ntwo",)),
    (b"GETMETADATA INBOX (/shared/comment /private/Comment)", ()),
    (b'SETMETADATA INBOX (/private/comment "")', ()),
    (b"GETMETADATA INBOX /private/comment", ()),
    *((b"SETMETADATA INBOX (/private/comment NIL)", ()),) * 2,
    (b"GETMETADATA INBOX /private/comment", ()),
    (b"SETMETADATA box (%b)" % _TREE, ()),
    (b"GETMETADATA (DEPTH 0) box /private/vendor/a/b", ()),
    (b"GETMETADATA (DEPTH 1) box /private/vendor/a/b", ()),
    (b"GETMETADATA (DEPTH 1) box /private/vendor/a", ()),
    (b"GETMETADATA (DEPTH infinity) box /private/vendor/a", ()),
    (b"GETMETADATA (DEPTH infinity) box (/private /shared)", ()),
    (b"GETMETADATA (MAXSIZE 1) box (/private/vendor/a/b /private/vendor/a/b/c)", ()),
    (b"GETMETADATA (MAXSIZE 1 DEPTH infinity) box /private/vendor/a", ()),
    (b"GETMETADATA (MAXSIZE 100) box /private/vendor/a/b", ()),
    (b"GETMETADATA (MAXSIZE 0) box /private/vendor/a/b", ()),
    (b"GETMETADATA (DEPTH 2) box /private/vendor/a", ()),
    (b"GETMETADATA (NONE 2) box /private/vendor/a", ()),
    (b"GETMETADATA nobody /private/comment", ()),
    (b'SETMETADATA nobody (/private/comment "x")', ()),
    (b'SETMETADATA "" (/private/comment "of the server")', ()),
    (b'GETMETADATA "" /private/comment', ()),
    (b'SETMETADATA "" (/shared/comment "x")', ()),
    (b'GETMETADATA "" (/shared/comment /shared/admin)', ()),
    *(
        (b'GETMETADATA INBOX "%b"' % name, ())
        for name in (
            b"/private/a*b",
            b"/private/a%b",
            b"/private//a",
            b"/private/a/",
            b"/x/a",
            b"a",
        )
    ),
    (b'SETMETADATA INBOX (/other/x "x")', ()),
    (b"SETMETADATA INBOX (/private/x)", ()),
    (b'SETMETADATA INBOX /private/x "y"', ()),
    (b"GETMETADATA INBOX", ()),
    (b"SETMETADATA INBOX (/private/large {})", (b"x" * 16_384,)),
    (b"GETMETADATA INBOX /private/large", ()),
    (b"SETMETADATA INBOX (/private/octets {})", (b"\xc3\xa9\xff",)),
    (b"GETMETADATA INBOX /private/octets", ()),
    (b"RENAME box other", ()),
    (b"GETMETADATA other /private/vendor/a/b", ()),
    (b"GETMETADATA box /private/vendor/a/b", ()),
    (b"DELETE other", ()),
    (b"CREATE other", ()),
    (b"GETMETADATA other /private/vendor/a/b", ()),
]


def _told(told: Told) -> tuple[bytes, list[bytes], dict[tuple[bytes, bytes], bytes | None]]:
    """OK, NO or BAD, with what was too long, and all values by mailbox and name."""
    found: dict[tuple[bytes, bytes], bytes | None] = {}
    for line in told.untagged:
        assert line.startswith(b"* METADATA "), line
        values = Values(line, len(b"* METADATA "))
        mailbox = values.value()
        values.expect(b" ")
        entries = values.list()
        for name, value in zip(entries[::2], entries[1::2], strict=True):
            found[bytes(mailbox), bytes(name)] = value
    return told.status.split()[0], _LONG.findall(told.status), found


@pytest.mark.long
def test_annotations_are_set_and_told_as_dovecot_sets_and_tells_them() -> None:
    need_dovecot()

    def talk(port: int) -> None:
        with (
            ImapTalk.log_in(port, USER, PASSWORD) as ours,
            dovecot(more=_WITH_ANNOTATIONS) as open_,
        ):
            theirs = open_()
            for command, literals in _STEPS:
                one, other = (_told(talk.ask(command, *literals)) for talk in (ours, theirs))
                assert one == other, command

    serve(talk)
