"""ACL (RFC 4314): who may do what with a mailbox."""

from __future__ import annotations

from typing import Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import Answer, CommandRefused, LoggedInClient
from raftmail.frontends.imap.namespaces import is_nameable
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.mail import commands as c
from raftmail.mail.addresses import account
from raftmail.mail.names import quoted
from raftmail.mail.rights import ANYONE, RIGHTS, is_negative, shown_rights, whose
from raftmail.mail.sharing import sharing_steps
from raftmail.service.service import UnknownUser

_OF_MY_RIGHTS: Final = frozenset("lrikxa")
"""Who has one of these is told all of the own rights (section 4)."""


async def set_acl(client: LoggedInClient, command: i.ImapSetAcl) -> Answer:
    """SETACL and DELETEACL (3.1, 3.2)."""
    located = await client.locate(command.name, "a")
    info = located.info
    identifier = _identifier(command.identifier)
    if command.rights and command.mode is not c.StoreMode.REMOVE:
        await _check_grantee(client, info.user, identifier)
    wanted = c.SetAcl(info.user, info.number, identifier, command.mode, command.rights)
    for step in sharing_steps(wanted, client.user):
        done = await client.service.execute(step, deadline_s=client.limits.deadline_s)
        client.note_done(info.user, done)
    return Answer("the rights are set")


async def get_acl(client: LoggedInClient, command: i.ImapGetAcl) -> Answer:
    """GETACL (3.3). The owner is told first, who has all rights."""
    located = await client.locate(command.name, "a")
    info = located.info
    entries = await client.reader_of(info.user).acl(info.number)
    told = b"".join(
        b" %b %b" % (_shown(identifier), responses.astring(shown_rights(rights).encode()))
        for identifier, rights in ((info.user, RIGHTS), *entries)
    )
    client.write(b"* ACL %b%b\r\n" % (client.shown(client.full_name(info)), told))
    return Answer("told")


async def list_rights(client: LoggedInClient, command: i.ListRights) -> Answer:
    """LISTRIGHTS (3.4): the owner has all rights always, anybody else may have any."""
    located = await client.locate(command.name, "a")
    identifier = _identifier(command.identifier)
    rights = shown_rights(RIGHTS)
    told = b'"" ' + " ".join(rights).encode()
    if identifier == located.info.user:
        told = rights.encode()
    name = client.shown(client.full_name(located.info))
    client.write(b"* LISTRIGHTS %b %b %b\r\n" % (name, _shown(command.identifier), told))
    return Answer("told")


async def my_rights(client: LoggedInClient, command: i.MyRights) -> Answer:
    """MYRIGHTS (3.5)."""
    located = await client.locate(command.name, "")
    if _OF_MY_RIGHTS.isdisjoint(located.rights):
        raise CommandRefused(ResponseCode.NONEXISTENT, "there is no such mailbox")
    tell_rights(client, client.full_name(located.info), located.rights)
    return Answer("told")


def tell_rights(client: LoggedInClient, name: str, rights: str) -> None:
    """A MYRIGHTS response (3.8)."""
    shown = responses.astring(shown_rights(rights).encode())
    client.write(b"* MYRIGHTS %b %b\r\n" % (client.shown(name), shown))


def _identifier(text: str) -> str:
    """In its one form. Raises `CommandRefused`."""
    who = whose(text)
    if who == ANYONE:
        return text
    try:
        found = account(who)
    except ValueError as e:
        raise CommandRefused(
            ResponseCode.CANNOT, f"an identifier is a user or {ANYONE}: {e}"
        ) from None
    return "-" + found if is_negative(text) else found


async def _check_grantee(client: LoggedInClient, owner: str, identifier: str) -> None:
    """Whether rights can be given, and would be of use. Raises `CommandRefused`."""
    if not is_nameable(owner):
        raise CommandRefused(
            ResponseCode.CANNOT, f"nobody else can name mailboxes of {quoted(owner)}"
        )
    who = whose(identifier)
    if who in (ANYONE, owner):
        return
    try:
        await client.service.check_users([who], deadline_s=client.limits.deadline_s)
    except UnknownUser as e:
        raise CommandRefused(ResponseCode.CANNOT, str(e)) from None


def _shown(identifier: str) -> bytes:
    return responses.astring(identifier.encode())
