"""QUOTA (RFC 9208). A user whose mail is limited has one quota root, "", for all mailboxes; others
have none. Quotas are set by operators alone. Of mailboxes of others no root is told: what their
owners have is not for guests to see."""

from __future__ import annotations

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap.client import Answer, CommandRefused, LoggedInClient
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.mail.uidset import UID_MAX

_UNIT_BYTES = 1024
"""Of STORAGE (RFC 9208 section 5.1)."""


async def get_quota(client: LoggedInClient, command: i.GetQuota) -> Answer:
    """GETQUOTA (RFC 9208 section 4.1.1)."""
    if command.root or not client.service.quota_of(client.user):
        raise CommandRefused(ResponseCode.NONEXISTENT, "there is no such quota root")
    await _tell_quota(client)
    return Answer("told")


async def get_quota_root(client: LoggedInClient, command: i.GetQuotaRoot) -> Answer:
    """GETQUOTAROOT (RFC 9208 section 4.1.2)."""
    info = (await client.locate(command.name, "r")).info
    name = client.shown(client.full_name(info))
    if info.user == client.user and client.service.quota_of(client.user):
        client.write(b'* QUOTAROOT %b ""\r\n' % name)
        await _tell_quota(client)
    else:
        client.write(b"* QUOTAROOT %b\r\n" % name)
    return Answer("told")


async def _tell_quota(client: LoggedInClient) -> None:
    """Messages are limited by the UIDs that a mailbox can give (RFC 9208 section 5.2)."""
    usage = await client.reader.usage()
    limit = client.service.quota_of(client.user) // _UNIT_BYTES
    used = -(-usage.size_bytes // _UNIT_BYTES)
    told = (used, limit, usage.messages, UID_MAX)
    client.write(b'* QUOTA "" (STORAGE %d %d MESSAGE %d %d)\r\n' % told)
