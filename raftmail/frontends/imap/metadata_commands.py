"""METADATA (RFC 5464): annotations of mailboxes, and of the server as a user sees it.

All annotations are those of the mailbox's owner. Guests see and set what is under /shared of a
mailbox, with the rights r and w. Those under /shared of the server would be
everybody's: nobody can set them here, and they have no values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import Answer, CommandRefused, LoggedInClient
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.special_uses import special_use
from raftmail.mail import commands as c
from raftmail.mail.annotations import ANNOTATION_BYTES_MAX, ANNOTATIONS_MAX, SPECIAL_USE


async def get_metadata(client: LoggedInClient, command: i.GetMetadata) -> Answer:
    """GETMETADATA (RFC 5464 section 4.2)."""
    if command.name:
        info = (await client.locate(command.name, "r")).info
        values = await client.reader_of(info.user).annotations(info.number)
    else:
        values = await client.reader.annotations(None)
    told: dict[str, bytes | None] = {}
    longest = -1
    most = ANNOTATION_BYTES_MAX if command.size_bytes is None else command.size_bytes
    for name in command.names:
        for found, value in _chosen(values, name, command.depth).items():
            if value is not None and len(value) > most:
                longest = max(longest, len(value))
                continue
            told[found] = value
    if told:
        tell_values(client, command.name, told.items())
    return Answer("told", b"METADATA LONGENTRIES %d" % longest if longest >= 0 else b"")


def tell_values(
    client: LoggedInClient, mailbox: str, values: Iterable[tuple[str, bytes | None]]
) -> None:
    """METADATA with values (RFC 5464 section 4.4.1); the server's name is empty."""
    entries = b" ".join(b"%b %b" % (_shown(name), _value(value)) for name, value in values)
    client.write(b"* METADATA %b (%b)\r\n" % (client.shown(mailbox), entries))


def tell_names(client: LoggedInClient, mailbox: str, names: Iterable[str]) -> None:
    """METADATA without values, of what changed (RFC 5464 section 4.4.2)."""
    client.write(b"* METADATA %b %b\r\n" % (client.shown(mailbox), b" ".join(map(_shown, names))))


def _chosen(
    values: Mapping[str, bytes], name: str, depth: i.MetadataDepth
) -> dict[str, bytes | None]:
    """The entry itself, NIL where it has no value, and those below it as deep as is asked for."""
    if depth is i.MetadataDepth.NONE:
        return {name: values.get(name)}
    below = name + "/"
    whole = depth is i.MetadataDepth.INFINITY
    return {
        one: value
        for one, value in values.items()
        if one == name or (one.startswith(below) and (whole or "/" not in one.removeprefix(below)))
    }


def _shown(name: str) -> bytes:
    return responses.astring(name.encode())


def _value(value: bytes | None) -> bytes:
    """NUL goes as literal8 alone (RFC 5464 section 5)."""
    if value is not None and b"\x00" in value:
        return responses.binary(value)
    return responses.nstring(value)


async def set_metadata(client: LoggedInClient, command: i.SetMetadata) -> Answer:
    """SETMETADATA (RFC 5464 section 4.3): all are set, or none."""
    entries = dict(command.entries)
    _check(command.name, entries)
    use = entries.get(SPECIAL_USE)
    if use is not None:
        entries[SPECIAL_USE] = special_use(use.decode("latin-1").split()).encode() or None
    owner, ref = await _mailbox(client, command.name)
    try:
        await client.execute(c.SetAnnotations(owner, ref, tuple(entries.items())))
    except CommandRefused as e:
        if e.code is ResponseCode.LIMIT:
            raise CommandRefused(ResponseCode.METADATA_TOOMANY, str(e)) from None
        if e.code is ResponseCode.CANNOT:  # which is said of special uses alone
            raise CommandRefused(ResponseCode.USEATTR, str(e)) from None
        raise
    if client.annotation_news is not None and owner == client.user:
        client.annotation_news.know(ref or 0, entries.items())
    return Answer("set")


def _check(mailbox: str, entries: Mapping[str, bytes | None]) -> None:
    """Raises `CommandRefused`."""
    if len(entries) > ANNOTATIONS_MAX:
        text = f"at most {ANNOTATIONS_MAX} annotations are set at once"
        raise CommandRefused(ResponseCode.METADATA_TOOMANY, text)
    for name, value in entries.items():
        if value is not None and len(value) > ANNOTATION_BYTES_MAX:
            text = f"a value has {ANNOTATION_BYTES_MAX} bytes at most, not {len(value)}"
            raise CommandRefused(ResponseCode.METADATA_MAXSIZE, text)
        if not mailbox and name.startswith("/shared/"):
            raise CommandRefused(ResponseCode.NOPERM, f"{name} is not for users to set")


async def _mailbox(client: LoggedInClient, name: str) -> tuple[str, int | None]:
    """Owner and number of a mailbox; no number for the server, whose name is empty. Raises
    `CommandRefused`."""
    if not name:
        return client.user, None
    info = (await client.locate(name, "")).info
    return info.user, info.number
