"""LIST and LSUB (RFC 9051 section 6.3.9, RFC 5258, RFC 6154, RFC 9590; RFC 3501 section
6.3.9)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap.acl_commands import tell_rights
from raftmail.frontends.imap.client import Answer, CommandRefused, LoggedInClient
from raftmail.frontends.imap.mailbox_commands import tell_status
from raftmail.frontends.imap.metadata_commands import tell_values
from raftmail.frontends.imap.namespaces import reaches_others
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.mail.names import INBOX, matches, parents
from raftmail.mail.queries import MailboxInfo
from raftmail.mail.rights import RIGHTS
from raftmail.net.turns import after_others

_TURN_NAMES: Final = 200
"""Names that one pattern is compared with in one turn of the loop."""

_OWNERS_AT_ONCE: Final = 16
"""Whose mailboxes are asked for together."""

_CRITERIA: Final = (i.ListSelection.SUBSCRIBED, i.ListSelection.SPECIAL_USE)
"""What a mailbox can be selected by; REMOTE and RECURSIVEMATCH select none by themselves."""


@dataclass(frozen=True, slots=True)
class _Mailboxes:
    """All that LIST tells of a user's mailboxes. INBOX is there also when nobody has looked for it
    yet."""

    infos: dict[str, MailboxInfo]
    """By the names under which the user finds them."""
    subscribed: frozenset[str]
    with_children: frozenset[str]
    rights: dict[str, str]
    """Those to mailboxes of others."""

    def exists(self, name: str) -> bool:
        return name in self.infos or name == INBOX

    def special_use(self, name: str) -> str:
        info = self.infos.get(name)
        return "" if info is None or name in self.rights else info.special_use

    def may_read(self, name: str) -> bool:
        """Whether more is told of a mailbox than that it is there."""
        return name in self.infos and "r" in self.rights.get(name, RIGHTS)

    def meets(self, name: str, criteria: Collection[i.ListSelection]) -> bool:
        """Whether a name is selected by itself (RFC 5258 section 3.1)."""
        if i.ListSelection.SUBSCRIBED in criteria and name not in self.subscribed:
            return False
        return i.ListSelection.SPECIAL_USE not in criteria or bool(self.special_use(name))

    def attributes(self, name: str, command: i.List, *, rev2: bool) -> list[str]:
        """What is told of a name. One that no mailbox has cannot be selected, which only newer
        clients read out of \\NonExistent."""
        found: list[str] = []
        if not self.exists(name):
            found = ["\\NonExistent"] if rev2 else ["\\NonExistent", "\\Noselect"]
        found.append("\\HasChildren" if name in self.with_children else "\\HasNoChildren")
        shows = (
            i.ListSelection.SUBSCRIBED in command.select
            or i.ListReturn.SUBSCRIBED in command.returns
        )
        if shows and name in self.subscribed:
            found.append("\\Subscribed")
        use = self.special_use(name)
        return [*found, use] if use else found


async def list_mailboxes(client: LoggedInClient, command: i.List) -> Answer:
    """LIST (6.3.9)."""
    if not command.extended and command.patterns == ("",):
        client.write(b'* LIST (\\Noselect) "/" ""\r\n')
        return Answer("listed")
    patterns = [command.reference + pattern for pattern in command.patterns]
    mailboxes = await _read(client, command, patterns)
    values: Mapping[int, Mapping[str, bytes]] = {}
    if command.metadata:
        values = await client.reader.annotations_named(command.metadata)
    criteria = [one for one in _CRITERIA if one in command.select]
    names = {INBOX, *mailboxes.infos, *mailboxes.with_children}
    if i.ListSelection.SUBSCRIBED in criteria:
        names |= mailboxes.subscribed
    met = {name for name in names if mailboxes.meets(name, criteria)}
    above: frozenset[str] = frozenset()
    if i.ListSelection.RECURSIVEMATCH in command.select:
        above = _above(met)
    told = b" ".join(b'"%b"' % one.value.encode() for one in criteria)
    child_info = b' ("CHILDINFO" (%b))' % told
    turn_names = max(1, _TURN_NAMES // len(patterns))
    for count, name in enumerate(sorted(met | above), 1):
        if count % turn_names == 0:
            await client.drained()
            await after_others()
        if not any(_fits(pattern, name) for pattern in patterns):
            continue
        attributes = " ".join(mailboxes.attributes(name, command, rev2=client.rev2)).encode()
        end = child_info if name in above else b""
        client.write(b'* LIST (%b) "/" %b%b\r\n' % (attributes, client.shown(name), end))
        if mailboxes.exists(name):
            await _tell_more(client, command, mailboxes, name, values)
    return Answer("listed")


async def _tell_more(
    client: LoggedInClient,
    command: i.List,
    mailboxes: _Mailboxes,
    name: str,
    values: Mapping[int, Mapping[str, bytes]],
) -> None:
    """What LIST was asked to tell of a mailbox besides (RFC 5819, RFC 8440, RFC 9590)."""
    info = mailboxes.infos.get(name)
    if i.ListReturn.MYRIGHTS in command.returns:
        tell_rights(client, name, mailboxes.rights.get(name, RIGHTS))
    if command.metadata and (info is None or mailboxes.may_read(name)):
        known: Mapping[str, bytes] = {}
        if info is not None and name in mailboxes.rights:
            known = await client.reader_of(info.user).annotations(info.number)
        elif info is not None:
            known = values.get(info.number, {})
        tell_values(client, name, [(one, known.get(one)) for one in command.metadata])
    if command.status and info is not None and mailboxes.may_read(name):
        await tell_status(client, info, command.status)


async def _read(client: LoggedInClient, command: i.List, patterns: Collection[str]) -> _Mailboxes:
    """Mailboxes of others are read where they may be told: none has a special use for a guest."""
    infos = {info.name: info for info in await client.reader.mailboxes()}
    subscribed = frozenset(await client.reader.subscriptions())
    rights: dict[str, str] = {}
    if i.ListSelection.SPECIAL_USE not in command.select and any(map(reaches_others, patterns)):
        for info, granted in await _read_shared(client):
            name = client.full_name(info)
            if name not in infos:
                infos[name] = info
                rights[name] = granted
    return _Mailboxes(infos, subscribed, _above(infos), rights)


async def _read_shared(client: LoggedInClient) -> list[tuple[MailboxInfo, str]]:
    """What others share with the client: their shards are asked, some at a time."""
    found: list[tuple[MailboxInfo, str]] = []
    known = client.context.known_sharers
    of_all = known.ask(client.service, client.user, client.limits.deadline_s)
    own, with_all = await asyncio.gather(client.reader.sharers(), of_all)
    owners = sorted({*own, *with_all} - {client.user})
    for at in range(0, len(owners), _OWNERS_AT_ONCE):
        asked = [
            client.reader_of(owner).all_shared() for owner in owners[at : at + _OWNERS_AT_ONCE]
        ]
        for shared in await asyncio.gather(*asked):
            found += shared
    return found


def _above(names: Iterable[str]) -> frozenset[str]:
    """All names that have one of these below them."""
    return frozenset(parent for name in names for parent in parents(name))


def _fits(pattern: str, name: str) -> bool:
    try:
        return matches(pattern, name)
    except ValueError as e:
        raise CommandRefused(ResponseCode.CANNOT, str(e)) from None


async def lsub(client: LoggedInClient, command: i.Lsub) -> Answer:
    """LSUB (RFC 3501 section 6.3.9): with `%`, a name whose children alone are subscribed is told
    as \\Noselect."""
    subscribed = frozenset(await client.reader.subscriptions())
    pattern = command.reference + command.pattern
    names = subscribed | _above(subscribed) if pattern.endswith("%") else subscribed
    for count, name in enumerate(sorted(names), 1):
        if count % _TURN_NAMES == 0:
            await client.drained()
            await after_others()
        if _fits(pattern, name):
            attributes = b"" if name in subscribed else b"\\Noselect"
            client.write(b'* LSUB (%b) "/" %b\r\n' % (attributes, client.shown(name)))
    return Answer("listed")
