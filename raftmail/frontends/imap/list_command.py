"""LIST and LSUB (RFC 9051 section 6.3.9, RFC 5258, RFC 6154, RFC 9590; RFC 3501 section
6.3.9)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap.client import Answer, CommandRefused, LoggedInClient
from raftmail.frontends.imap.mailbox_commands import tell_status
from raftmail.frontends.imap.metadata_commands import tell_values
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.mail.names import INBOX, matches, parents
from raftmail.mail.queries import MailboxInfo

_TURN_NAMES: Final = 200
"""Names that are looked at in one turn of the loop."""

_CRITERIA: Final = (i.ListSelection.SUBSCRIBED, i.ListSelection.SPECIAL_USE)
"""What a mailbox can be selected by; REMOTE and RECURSIVEMATCH select none by themselves."""


@dataclass(frozen=True, slots=True)
class _Mailboxes:
    """All that LIST tells of a user's mailboxes. INBOX is there also when nobody has looked for it
    yet."""

    infos: dict[str, MailboxInfo]
    subscribed: frozenset[str]
    with_children: frozenset[str]

    def exists(self, name: str) -> bool:
        return name in self.infos or name == INBOX

    def special_use(self, name: str) -> str:
        info = self.infos.get(name)
        return "" if info is None else info.special_use

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
    mailboxes = await _read(client)
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
    patterns = [command.reference + pattern for pattern in command.patterns]
    for count, name in enumerate(sorted(met | above), 1):
        if count % _TURN_NAMES == 0:
            await client.drained()
            await asyncio.sleep(0)
        if not any(_fits(pattern, name) for pattern in patterns):
            continue
        attributes = " ".join(mailboxes.attributes(name, command, rev2=client.rev2)).encode()
        end = child_info if name in above else b""
        client.write(b'* LIST (%b) "/" %b%b\r\n' % (attributes, client.shown(name), end))
        if command.metadata and mailboxes.exists(name):
            info = mailboxes.infos.get(name)
            known = values.get(info.number, {}) if info is not None else {}
            tell_values(client, name, [(one, known.get(one)) for one in command.metadata])
        if command.status and name in mailboxes.infos:
            await tell_status(client, mailboxes.infos[name], command.status)
    return Answer("listed")


async def _read(client: LoggedInClient) -> _Mailboxes:
    infos = {info.name: info for info in await client.reader.mailboxes()}
    subscribed = frozenset(await client.reader.subscriptions())
    return _Mailboxes(infos, subscribed, _above(infos))


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
    for name in sorted(names):
        if _fits(pattern, name):
            attributes = b"" if name in subscribed else b"\\Noselect"
            client.write(b'* LSUB (%b) "/" %b\r\n' % (attributes, client.shown(name)))
    return Answer("listed")
