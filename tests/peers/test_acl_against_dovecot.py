"""Mailboxes of others in raftmail and in Debian's Dovecot (RFC 4314): the same is told of rights,
and the same commands are refused under the same rights."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Final

import pytest

from raftmail.mail import commands as c
from tests.frontends.imap.imap_kit import PASSWORD, USER, ImapClient, message, run
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService
from tests.peers.dovecot import dovecot, need_dovecot
from tests.peers.imap_talk import ImapTalk, Told

OWNER: Final = "bob@example.org"
_PLAIN: Final = """
namespace public {{
  type = public
  separator = /
  prefix = Public/
  location = sdbox:{folder}/mail/public
  subscriptions = no
  list = yes
}}
"""
_WITH_ACL: Final = (
    _PLAIN
    + """
mail_plugins = acl
protocol imap {{
  mail_plugins = acl imap_acl
}}
plugin {{
  acl = vfile
  acl_anyone = allow
}}
"""
)
_FILE: Final = Path("mail/public/mailboxes/Box/dbox-Mails/dovecot-acl")

_COMMANDS: Final = (
    "EXAMINE BOX",
    "STATUS BOX (MESSAGES)",
    "GETACL BOX",
    "LISTRIGHTS BOX anyone",
    "SETACL BOX anyone l",
    "DELETEACL BOX anyone",
    "MYRIGHTS BOX",
    "APPEND BOX {}",
    "CREATE BOX/New",
    "SELECT BOX",
    "STORE 1 +FLAGS (\\Seen)",
    "STORE 1 +FLAGS (\\Flagged)",
    "STORE 1 +FLAGS (key)",
    "STORE 1 +FLAGS (\\Deleted)",
    "STORE 1 FLAGS (\\Seen \\Deleted key)",
    "FETCH 1 (FLAGS)",
    "COPY 2 INBOX",
    "EXPUNGE",
    "UNSELECT",
    "SELECT INBOX",
    "COPY 1 BOX",
    "UNSELECT",
    "DELETE BOX",
)
_RIGHTS: Final = (
    "", "l", "r", "lr", "lrs", "lrw", "lrt", "lre", "lrte", "lri", "lrsi", "lrk", "lrx", "lra",
    "la", "lswipkxtea", "lrswipkxtea",
)  # fmt: skip

_STRICTER: Final = {"STATUS": "r", "STORE": "stw", "EXPUNGE": "e", "LISTRIGHTS": "a"}
"""Commands that Dovecot answers OK though the right to them is missing; STORE changes nothing."""


def _is_known(rights: str, command: str, theirs: bytes, ours: bytes) -> bool:
    """Whether it is known that Dovecot does otherwise."""
    word = command.split()[1]
    if word == "DELETE":
        return rights == "lrx" and (theirs, ours) == (b"NO", b"OK")
    missing = any(right not in rights for right in _STRICTER.get(word, ""))
    return missing and (theirs, ours) == (b"OK", b"NO")


def _answers(talk: ImapTalk, box: str) -> dict[str, tuple[bytes, object]]:
    """What came of each command: OK, NO or BAD, and what was told of rights and flags."""
    found: dict[str, tuple[bytes, object]] = {}
    opened = True
    for at, command in enumerate(_COMMANDS):
        if not opened and command.split()[0] in ("STORE", "FETCH", "COPY", "EXPUNGE", "UNSELECT"):
            continue
        literal = (message("new"),) if "{}" in command else ()
        new = box[:-1] + '/New"'
        text = command.replace("BOX/New", new).replace("BOX", box)
        told = talk.ask(text.encode(), *literal)
        word = told.status.split()[0]
        if command.startswith("SELECT"):
            opened = told.ok
            word += b" READ-ONLY" if b"READ-ONLY" in told.status else b""
        found[f"{at} {command}"] = (word, _told(command, told))
    return found


def _told(command: str, told: Told) -> object:
    """Rights and flags that are told; without the owner's, whom Dovecot's folder does not have."""
    for line in told.untagged if command.startswith(("MYRIGHTS", "LISTRIGHTS", "FETCH")) else ():
        if line.startswith(b"* MYRIGHTS"):
            return frozenset(line.split()[-1])
        if line.startswith(b"* LISTRIGHTS"):
            return sorted(line.split()[-13:])
        if b" FETCH (" in line and b"FLAGS (" in line:
            flags = re.search(rb"FLAGS \(([^)]*)\)", line)
            assert flags is not None
            return frozenset(flags[1].split()) - {b"\\Recent"}
    return None


def _dovecots(rights: str) -> dict[str, tuple[bytes, object]]:
    with dovecot() as open_:
        first, folder, user = open_(_PLAIN), open_.folder, open_.user
        assert first.ask(b"CREATE Public/Box").ok
        for _ in range(3):
            assert first.ask(b"APPEND Public/Box {}", message("one")).ok
        assert first.ask(b"APPEND INBOX {}", message("one")).ok
        (folder / _FILE).write_text(f"user={user} {rights}\n" if rights else "user=x lr\n")
        (folder / _FILE).chmod(0o666)
        return _answers(open_(_WITH_ACL), '"Public/Box"')


def _ours(rights: str) -> dict[str, tuple[bytes, object]]:
    found: list[dict[str, tuple[bytes, object]]] = []

    async def talk(client: ImapClient, service: TwinService) -> None:
        assert isinstance(service, MachineService)
        await client.log_in()
        await client.ok("APPEND INBOX {}", message("one"))
        service.feeder.do(c.CreateMailbox(OWNER, "Box", 1, bytes(16)))
        share = c.SetAcl(OWNER, "Box", USER, c.StoreMode.REPLACE, "lrswipkxtea")
        service.feeder.do(share)
        for _ in range(3):
            await client.ok(f'APPEND "Other Users/{OWNER}/Box" {{}}', message("one"))
        service.feeder.do(c.SetAcl(OWNER, "Box", USER, c.StoreMode.REPLACE, rights))

        def ask() -> None:
            with ImapTalk.log_in(client.port, USER, PASSWORD) as ours:
                found.append(_answers(ours, f'"Other Users/{OWNER}/Box"'))

        await asyncio.to_thread(ask)

    run(talk, service=MachineService(), patience_s=300.0)
    return found[0]


@pytest.mark.long
@pytest.mark.parametrize("rights", _RIGHTS)
def test_commands_are_refused_under_the_rights_under_which_dovecot_refuses_them(
    rights: str,
) -> None:
    need_dovecot()
    theirs, ours = _dovecots(rights), _ours(rights)
    for command in sorted({*theirs, *ours}):
        one, other = theirs.get(command), ours.get(command)
        if one is None or other is None or one == other:
            assert one == other, command
        else:
            assert _is_known(rights, command, one[0], other[0]), (command, one, other)
