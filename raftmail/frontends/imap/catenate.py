"""Puts messages of APPEND together from texts and from what messages hold (CATENATE, RFC 4469).

A part is copied as it is stored. What is put together counts in the budget of literals and bodies
until it has been saved. It has at most `message_bytes_max` bytes, as any message, and all that one
command puts together `COMMAND_BYTES_MAX`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import CommandRefused, LoggedInClient
from raftmail.frontends.imap.mailbox_reader import MailboxGone
from raftmail.frontends.imap.message_url import BadUrlError, MessageUrl, read_url
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.sections import section_of
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.summary import decode_summary
from raftmail.mail.uidset import UidSet
from raftmail.net.limits import MIB

COMMAND_BYTES_MAX: Final = 64 * MIB
"""As much as a request has in literals."""


@asynccontextmanager
async def assembled(
    client: LoggedInClient, messages: Sequence[i.AppendMessage]
) -> AsyncIterator[list[i.AppendMessage]]:
    """The messages, each whole in `octets`. Raises `CommandRefused` and `Unavailable`."""
    held = _Held(client)
    try:
        whole: list[i.AppendMessage] = []
        for message in messages:
            if message.parts:
                octets = b"".join([await held.part(part) for part in message.parts])
                message = replace(message, octets=octets, parts=())
                held.end_message()
            _check_size(client, len(message.octets))
            whole.append(message)
        yield whole
    finally:
        held.give_back()


def _check_size(client: LoggedInClient, count: int) -> None:
    most = client.limits.message_bytes_max
    if count > most:
        raise CommandRefused(ResponseCode.TOOBIG, f"a message may have {most} bytes, not {count}")
    if not count:
        raise CommandRefused(ResponseCode.CANNOT, "a message is not empty")


class _Held:
    """What parts of the messages of one command hold of the budget."""

    def __init__(self, client: LoggedInClient) -> None:
        self._client = client
        self._held_bytes = 0
        self._message_bytes = 0

    def end_message(self) -> None:
        self._message_bytes = 0

    def give_back(self) -> None:
        self._client.context.budget.give(self._held_bytes)
        self._held_bytes = 0

    async def part(self, part: bytes | i.CatenateUrl) -> bytes:
        """The octets of a part. Raises `CommandRefused`, `Unavailable`."""
        octets = part if isinstance(part, bytes) else await self._read(part.text)
        self._message_bytes += len(octets)
        _check_size(self._client, max(self._message_bytes, 1))
        if self._held_bytes + len(octets) > COMMAND_BYTES_MAX:
            raise CommandRefused(
                ResponseCode.TOOBIG,
                f"one command puts at most {COMMAND_BYTES_MAX} bytes together",
            )
        if not self._client.context.budget.take(len(octets)):
            raise Unavailable(Failure("the node holds as many messages as it may: try again"))
        self._held_bytes += len(octets)
        return octets

    async def _read(self, text: bytes) -> bytes:
        """What a URL names."""
        client = self._client
        try:
            url = read_url(text, None if client.view is None else client.view.name)
        except BadUrlError as e:
            raise _bad_url(text, str(e)) from None
        try:
            octets = await self._section(url)
        except (CommandRefused, MailboxGone):  # no mailbox can have that name, or it has gone
            octets = None
        if octets is None:
            raise _bad_url(text, "there is no such mailbox, message or part")
        return octets

    async def _section(self, url: MessageUrl) -> bytes | None:
        client = self._client
        if url.mailbox is None:
            reader = client.view_reader
            info = await reader.mailbox(client.selected().number)
        else:
            info = (await client.locate(url.mailbox, "r")).info
            reader = client.reader_of(info.user)
        if info is None or url.uidvalidity not in (0, info.uidvalidity):
            return None
        async for page in reader.pages(info.number, UidSet.single(url.uid), summaries=True):
            for message in page.messages:
                async with client.body(info.number, url.uid, reader) as body:
                    if body is not None:
                        return section_of(decode_summary(message.summary), body, url.section)
        return None


def _bad_url(text: bytes, why: str) -> CommandRefused:
    return CommandRefused(
        ResponseCode.BADURL, f"nothing was saved: {why}", responses.url_text(text)
    )
