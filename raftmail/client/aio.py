"""The client for asyncio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from raftmail.admin.api.arguments import write_arguments
from raftmail.admin.api.calls import Call, kind_of
from raftmail.admin.api.codec import BadAnswer, decode
from raftmail.client.calls import ClientListing, Key
from raftmail.client.dispatcher import Dispatcher
from raftmail.client.errors import ProtocolError, Refused
from raftmail.frontends.text import values
from raftmail.mail.admin import ADMIN_S, JSON
from raftmail.mail.commands import StoreMode
from raftmail.mail.queries import MailboxInfo, MessageInfo, MessagePage, ScriptInfo
from raftmail.mail.results import Code, Done, Executed
from raftmail.mail.uidset import UidSet
from raftmail.net.lines import Line, quote

R = TypeVar("R")

_MODES = {StoreMode.ADD: b"+FLAGS", StoreMode.REMOVE: b"-FLAGS", StoreMode.REPLACE: b"FLAGS"}
_STATE = ("uidvalidity", "uidnext", "messages", "highestmodseq")

PART_MESSAGES_MAX = 1000
_PART_BYTES = 60 << 20
"""What a command can copy to another shard, with some room: see docs/protocol.md."""

ADMIN_MARGIN_S = 2.0
"""So much earlier than its caller a node gives an operator's call up."""

Uids = UidSet | int
Target = tuple[str, str]
"""User and mailbox."""


@dataclass(frozen=True, slots=True)
class MailboxState:
    """A mailbox as the cluster knows it now. `differs` names what is not as the caller expected."""

    number: int
    uidvalidity: int
    uidnext: int
    messages: int
    highestmodseq: int
    differs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NewMail:
    """A message to save, into one or several mailboxes of one shard. What is None the node
    chooses: the date is now, the GUID random."""

    targets: Sequence[Target]
    body: bytes
    flags: Sequence[str] = ()
    received_us: int | None = None
    guid: bytes | None = None


class Client:
    """A cluster, seen through one of its nodes at a time.

    Calls begin when the method is called, not when it is awaited: many can be under way on the one
    connection, and none needs a task. When the connection is lost they go on over another, also to
    another node, until their deadline. A write has one effect however often it was sent. Calls that
    are under way together may be executed in any order.

    A name means the mailbox that had it when this client first used it over the connection, also
    when another client renames that one. After a CREATE, RENAME or DELETE of its own the client
    looks again.

    Every method raises `Refused`, `TryAgain` or `ProtocolError` (see `errors`), and ValueError for
    arguments that cannot be. Writes give `Executed`, whose `result` is the class named in the
    method's docstring. `timeout_s` stands in for the client's own where it is given."""

    def __init__(
        self,
        addresses: Sequence[str] | str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        timeout_s: float = 20.0,
        compress: bool = False,
        client_id: bytes | None = None,
        last_seq: int = 0,
    ) -> None:
        """`addresses` are `host:port`, tried in turn. `ca` is the file of the cluster's authority;
        without it the connection is in the clear, which no node takes, and no token is sent. A
        program that wants to go on after a restart under the same `client_id` (16 bytes) passes the
        `last_seq` it had. Raises ValueError, `net.tls.TlsError`."""
        self._engine = Dispatcher(
            [addresses] if isinstance(addresses, str) else addresses,
            token=token,
            ca=ca,
            timeout_s=timeout_s,
            compress=compress,
            client_id=client_id,
            last_seq=last_seq,
        )

    @property
    def client_id(self) -> bytes:
        """Under which writes are counted."""
        return self._engine.client_id

    @property
    def last_seq(self) -> int:
        """The highest sequence number given to a write so far."""
        return self._engine.last_seq

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; calls under way fail with `TryAgain`."""
        await self._engine.close()

    def _box(self, user: str, mailbox: str) -> tuple[int, Key]:
        return self._engine.number(user, mailbox), (user, mailbox)

    # Messages

    def store(
        self,
        user: str,
        mailbox: str,
        uids: Uids,
        mode: StoreMode,
        flags: Sequence[str],
        *,
        unchanged_since: int = -1,
        timeout_s: float | None = None,
    ) -> asyncio.Future[Executed]:
        """Change flags; `unchanged_since` as in `mail.commands.Store`. Gives `StoreResult`."""
        box = self._box(user, mailbox)
        body = b"STORE %d %b %b %b" % (
            box[0],
            _uids(uids),
            _MODES[mode],
            values.format_flags(tuple(flags)) or b'""',
        )
        tail = b"" if unchanged_since < 0 else b" unchangedsince=%d" % unchanged_since
        return self._engine.write(body, values.read_store, (box,), tail=tail, timeout_s=timeout_s)

    def save(
        self,
        user: str,
        mailbox: str,
        body: bytes,
        flags: Sequence[str] = (),
        *,
        received_us: int | None = None,
        guid: bytes | None = None,
        timeout_s: float | None = None,
    ) -> asyncio.Future[Executed]:
        """Save one message into one mailbox. Gives `SaveResult`."""
        mail = NewMail(((user, mailbox),), body, flags, received_us, guid)
        return self.save_all((mail,), timeout_s=timeout_s)

    def save_all(
        self, mails: Sequence[NewMail], *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Save messages, all or none. Gives `SaveResult`, message by message and target by target.

        All targets are in one shard, and all messages have as many targets."""
        pieces = [b"MSAVE"]
        boxes: dict[tuple[int, Key], None] = {}
        users: list[str] = []
        for mail in mails:
            numbers = []
            for user, mailbox in mail.targets:
                box = self._box(user, mailbox)
                boxes[box] = None
                numbers.append(b"%d" % box[0])
                users.append(user)
            pieces.append(
                b" %b %b %b %b {%d}\r\n"
                % (
                    b",".join(numbers),
                    values.format_flags(tuple(mail.flags)) or b"-",
                    b"-" if mail.received_us is None else b"%d" % mail.received_us,
                    b"-" if mail.guid is None else mail.guid.hex().encode(),
                    len(mail.body),
                )
            )
            pieces.append(mail.body)
        if not users:
            raise ValueError("nothing to save")
        return self._engine.write(
            b"".join(pieces),
            partial(values.read_saved, users=tuple(users)),
            tuple(boxes),
            timeout_s=timeout_s,
            literal_bytes=max(len(mail.body) for mail in mails),
        )

    def copy(
        self,
        user: str,
        mailbox: str,
        uids: Uids,
        target: str,
        *,
        target_user: str | None = None,
        move: bool = False,
        guids: Sequence[bytes] = (),
        timeout_s: float | None = None,
    ) -> asyncio.Future[Executed]:
        """Copy or move messages; `guids` as in `mail.commands.Copy`. Gives `CopyResult`."""
        source, to = self._box(user, mailbox), self._box(target_user or user, target)
        name = b"MOVE" if move else b"COPY"
        tail = b""
        if guids:
            tail = b" guids=" + quote(b",".join(guid.hex().encode() for guid in guids))
        body = b"%b %d %b %d" % (name, source[0], _uids(uids), to[0])
        return self._engine.write(
            body, values.read_copy, (source, to), tail=tail, timeout_s=timeout_s
        )

    async def copy_in_parts(
        self,
        user: str,
        mailbox: str,
        uids: Uids,
        target: str,
        *,
        target_user: str | None = None,
        move: bool = False,
    ) -> AsyncIterator[Executed]:
        """Copy or move messages, however many: with one command if that can be, else with several.
        Each has one effect however often it is sent; what was done before an error stays done.
        Gives `CopyResult`s."""

        def some(part: UidSet) -> asyncio.Future[Executed]:
            return self.copy(user, mailbox, part, target, target_user=target_user, move=move)

        wanted = UidSet.single(uids) if isinstance(uids, int) else uids
        try:
            yield await some(wanted)
            return
        except Refused as refused:
            if refused.code is not Code.LIMIT:
                raise
        # All are listed first: in a mailbox that is its own target they would come in again at the
        # end.
        found = [(m.uid, m.size_bytes) async for m in self.messages(user, mailbox, wanted)]
        parts: list[list[int]] = [[]]
        size = 0
        for uid, size_bytes in found:
            part = parts[-1]
            if len(part) == PART_MESSAGES_MAX or (part and size + size_bytes > _PART_BYTES):
                parts.append([])
                size = 0
            parts[-1].append(uid)
            size += size_bytes
        for part in parts:
            async for executed in _halved(some, UidSet.from_uids(part)):
                yield executed

    def expunge(
        self,
        user: str,
        mailbox: str,
        uids: Uids,
        *,
        only_deleted: bool = False,
        timeout_s: float | None = None,
    ) -> asyncio.Future[Executed]:
        """Remove messages. Gives `ExpungeResult`."""
        box = self._box(user, mailbox)
        body = b"EXPUNGE %d %b%b" % (box[0], _uids(uids), b" deleted" if only_deleted else b"")
        return self._engine.write(body, values.read_expunge, (box,), timeout_s=timeout_s)

    async def message_page(
        self,
        user: str,
        mailbox: str,
        uids: Uids,
        *,
        changed_since: int = 0,
        summaries: bool = False,
        limit: int = 1000,
        timeout_s: float | None = None,
    ) -> MessagePage:
        """Up to `limit` messages by UID, ascending. Raises `Refused` when there is no mailbox."""
        box = self._box(user, mailbox)
        body = b"LIST %d %b%b since=%d limit=%d" % (
            box[0],
            _uids(uids),
            b" summary" if summaries else b"",
            changed_since,
            limit,
        )
        page = await self._engine.read(body, _page, (box,), listing=True, timeout_s=timeout_s)
        assert isinstance(page, MessagePage)
        return page

    async def messages(
        self,
        user: str,
        mailbox: str,
        uids: Uids,
        *,
        changed_since: int = 0,
        summaries: bool = False,
    ) -> AsyncIterator[MessageInfo]:
        """All messages by UID, ascending, a page at a time."""
        rest = UidSet.single(uids) if isinstance(uids, int) else uids
        last = 0
        while True:
            page = await self.message_page(
                user, mailbox, rest, changed_since=changed_since, summaries=summaries
            )
            for message in page.messages:
                if message.uid > last:
                    yield message
            if not page.more or not page.messages:
                return
            last = page.messages[-1].uid
            rest = rest - UidSet.from_ranges([(1, last)])

    async def vanished(
        self, user: str, mailbox: str, since: int, *, timeout_s: float | None = None
    ) -> UidSet:
        """The UIDs expunged after a modseq."""
        box = self._box(user, mailbox)
        body = b"VANISHED %d %d" % (box[0], since)
        uids = await self._engine.read(body, _vanished, (box,), timeout_s=timeout_s)
        assert isinstance(uids, UidSet)
        return uids

    async def body(
        self, user: str, mailbox: str, uid: int, *, timeout_s: float | None = None
    ) -> bytes:
        """A message's bytes. Raises `Refused` (NONEXISTENT) when there is none."""
        box = self._box(user, mailbox)
        request = b"FETCH %d %d" % (box[0], uid)
        data = await self._engine.read(request, _last_word, (box,), timeout_s=timeout_s)
        assert isinstance(data, bytes)
        return data

    # Mailboxes

    async def mailbox_state(
        self,
        user: str,
        mailbox: str,
        *,
        uidvalidity: int | None = None,
        uidnext: int | None = None,
        messages: int | None = None,
        highestmodseq: int | None = None,
        timeout_s: float | None = None,
    ) -> MailboxState:
        """What a mailbox is now, and what of it is not as expected."""
        number, _ = self._box(user, mailbox)
        given = zip(_STATE, (uidvalidity, uidnext, messages, highestmodseq), strict=True)
        expected = b"".join(
            b" %b=%d" % (what.encode(), value) for what, value in given if value is not None
        )
        names = quote(user.encode()), quote(mailbox.encode())
        body = b"MAILBOX %d %b %b%b" % (number, *names, expected)
        state = await self._engine.read(body, _state, timeout_s=timeout_s)
        assert isinstance(state, MailboxState)
        return state

    async def mailboxes(
        self, user: str, *, timeout_s: float | None = None
    ) -> tuple[MailboxInfo, ...]:
        """All mailboxes of a user, by name."""
        body = b"MAILBOXES " + quote(user.encode())
        infos = await self._engine.read(body, _mailboxes, listing=True, timeout_s=timeout_s)
        assert isinstance(infos, tuple)
        return infos

    def create_mailbox(
        self, user: str, name: str, *, special_use: str = "", timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Make a mailbox. Gives `MailboxResult`."""
        tail = b" special=" + quote(special_use.encode()) if special_use else b""
        return self._rename(user, _named(b"CREATE", user, name), tail, timeout_s)

    def _rename(
        self, user: str, body: bytes, tail: bytes, timeout_s: float | None
    ) -> asyncio.Future[Executed]:
        """A change of which mailbox a name stands for: from its answer on, names mean what they
        mean then."""
        result = values.read_mailbox_result
        future = self._engine.write(body, result, tail=tail, timeout_s=timeout_s)
        future.add_done_callback(lambda _: self._engine.introduce_anew(user))
        return future

    def delete_mailbox(
        self, user: str, name: str, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Remove a mailbox and its messages. Gives `MailboxResult`."""
        return self._rename(user, _named(b"DELETE", user, name), b"", timeout_s)

    def rename_mailbox(
        self, user: str, name: str, new_name: str, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Give a mailbox another name. Gives `MailboxResult`."""
        body = b"%b %b" % (_named(b"RENAME", user, name), quote(new_name.encode()))
        return self._rename(user, body, b"", timeout_s)

    def subscribe(
        self, user: str, name: str, *, subscribed: bool = True, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Put a name on the subscriptions, or take it off. Gives `Done`."""
        body = _named(b"SUBSCRIBE" if subscribed else b"UNSUBSCRIBE", user, name)
        return self._engine.write(body, _done, timeout_s=timeout_s)

    async def subscriptions(self, user: str, *, timeout_s: float | None = None) -> tuple[str, ...]:
        """The names subscribed to, in order."""
        body = b"SUBSCRIPTIONS " + quote(user.encode())
        names = await self._engine.read(body, _names, listing=True, timeout_s=timeout_s)
        assert isinstance(names, tuple)
        return names

    # Scripts of delivery rules

    def put_script(
        self, user: str, name: str, script: bytes, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Keep a script, perhaps instead of another. Gives `Done`. Raises `Refused` (CANNOT) with
        line and column for one that is not right."""
        body = b"%b {%d}\r\n%b" % (_named(b"SCRIPT PUT", user, name), len(script), script)
        return self._engine.write(body, _done, timeout_s=timeout_s, literal_bytes=len(script))

    def delete_script(
        self, user: str, name: str, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Take a script away that is not active. Gives `Done`."""
        return self._engine.write(_named(b"SCRIPT DELETE", user, name), _done, timeout_s=timeout_s)

    def rename_script(
        self, user: str, name: str, new_name: str, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Give a script another name. Gives `Done`."""
        body = b"%b %b" % (_named(b"SCRIPT RENAME", user, name), quote(new_name.encode()))
        return self._engine.write(body, _done, timeout_s=timeout_s)

    def activate_script(
        self, user: str, name: str, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Have a script's rules be the user's; "": none. Gives `Done`."""
        body = _named(b"SCRIPT ACTIVATE", user, name)
        return self._engine.write(body, _done, timeout_s=timeout_s)

    async def scripts(self, user: str, *, timeout_s: float | None = None) -> tuple[ScriptInfo, ...]:
        """The scripts of a user, by name."""
        body = b"SCRIPT LIST " + quote(user.encode())
        found = await self._engine.read(body, _scripts, listing=True, timeout_s=timeout_s)
        assert isinstance(found, tuple)
        return found

    async def script(self, user: str, name: str, *, timeout_s: float | None = None) -> bytes:
        """The text of a script. Raises `Refused` (NONEXISTENT) when there is none."""
        body = _named(b"SCRIPT GET", user, name)
        text = await self._engine.read(body, _last_word, timeout_s=timeout_s)
        assert isinstance(text, bytes)
        return text

    # Users

    def add_user(
        self, address: str, password: str | None, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Add a user; without a password, the nodes' external source judges it. Gives `Done`."""
        return self._put_user(b"ADD", address, password, timeout_s)

    def set_password(
        self, address: str, password: str | None, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Change the password of a user who exists, as in `add_user`. Gives `Done`."""
        return self._put_user(b"PASSWD", address, password, timeout_s)

    def _put_user(
        self, what: bytes, address: str, password: str | None, timeout_s: float | None
    ) -> asyncio.Future[Executed]:
        secret = b"external=yes" if password is None else quote(password.encode())
        body = b"USER %b %b %b" % (what, quote(address.encode()), secret)
        return self._engine.write(body, _done, timeout_s=timeout_s)

    def remove_user(
        self, address: str, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Forget a user; the mail stays until `purge_user`. Gives `Done`."""
        body = b"USER REMOVE " + quote(address.encode())
        return self._engine.write(body, _done, timeout_s=timeout_s)

    def purge_user(
        self, address: str, *, timeout_s: float | None = None
    ) -> asyncio.Future[Executed]:
        """Remove all mail of a user. Gives `Done`."""
        body = b"USER PURGE " + quote(address.encode())
        return self._engine.write(body, _done, timeout_s=timeout_s)

    async def user_exists(self, address: str, *, timeout_s: float | None = None) -> bool:
        """Whether there is such a user. Password hashes never leave the cluster."""
        body = b"USER GET " + quote(address.encode())
        try:
            await self._engine.read(body, _nothing, timeout_s=timeout_s)
        except Refused as refused:
            if refused.code is Code.UNKNOWNUSER:
                return False
            raise
        return True

    async def user_page(
        self, *, after: str = "", limit: int = 1000, timeout_s: float | None = None
    ) -> tuple[str, ...]:
        """Users after an address, in order, at most `limit` (up to 1000)."""
        body = b"USER LIST after=%b limit=%d" % (quote(after.encode()), limit)
        names = await self._engine.read(body, _names, listing=True, timeout_s=timeout_s)
        assert isinstance(names, tuple)
        return names

    async def users(self) -> AsyncIterator[str]:
        """All users, in order, a page at a time."""
        after = ""
        while page := await self.user_page(after=after):
            for user in page:
                yield user
            after = page[-1]

    # Operators

    async def admin(self, what: str, *, timeout_s: float | None = None, **arguments: str) -> JSON:
        """What the node offers to operators. Not sent twice: a lost connection is `TryAgain` with
        the outcome unknown."""
        named = b"".join(
            b" %b=%b" % (name.encode(), quote(value.encode())) for name, value in arguments.items()
        )
        # The node shall say what it lacks before this client gives up.
        given_s = self._engine.timeout_s if timeout_s is None else timeout_s
        within_s = min(ADMIN_S, max(given_s / 2, given_s - ADMIN_MARGIN_S))
        body = b"ADMIN %b%b deadline=%.3f" % (quote(what.encode()), named, within_s)
        answer = await self._engine.read(body, _last_word, repeatable=False, timeout_s=timeout_s)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ProtocolError(f"the answer to {what} is no JSON: {error}") from None

    async def operate(self, call: Call[R], *, timeout_s: float | None = None) -> R:
        """As `admin`, with typed arguments and a typed answer. Raises `ProtocolError` for an answer
        that is none of this release."""
        kind = kind_of(call)
        answer = await self.admin(kind.name, timeout_s=timeout_s, **write_arguments(call))
        try:
            found: R = decode(kind.answer, answer)
        except BadAnswer as error:
            raise ProtocolError(f"the answer to {kind.name}: {error}") from None
        return found

    async def ping(self, *, timeout_s: float | None = None) -> None:
        """See that a node answers."""
        await self._engine.read(b"NOOP", _nothing, timeout_s=timeout_s)


def _uids(uids: Uids) -> bytes:
    if isinstance(uids, int):
        return b"%d" % uids
    return b"%d" % uids.only if uids.only else quote(uids.format().encode())


def _named(command: bytes, user: str, name: str) -> bytes:
    return b"%b %b %b" % (command, quote(user.encode()), quote(name.encode()))


# From answers to values


def _done(named: object) -> Done:
    return Done()


def _nothing(line: Line, listing: ClientListing) -> None:
    return None


def _last_word(line: Line, listing: ClientListing) -> bytes:
    return line.words[2]


def _vanished(line: Line, listing: ClientListing) -> UidSet:
    text = line.named[b"uids"]
    return values.read_uids(text, chars_max=len(text))


def _state(line: Line, listing: ClientListing) -> MailboxState:
    named = line.named
    differs = named.get(b"differs", b"").decode()
    return MailboxState(
        int(named[b"number"]),
        int(named[b"uidvalidity"]),
        int(named[b"uidnext"]),
        int(named[b"messages"]),
        int(named[b"highestmodseq"]),
        tuple(differs.split(",")) if differs else (),
    )


def _page(line: Line, listing: ClientListing) -> MessagePage:
    messages = tuple(
        values.read_message_info(one)[1] for one in listing.lines if one.words[1] == b"MESSAGE"
    )
    mailbox = listing.mailboxes[int(line.named[b"mailbox"])]
    return MessagePage(mailbox, messages, line.named.get(b"more") == b"yes")


def _mailboxes(line: Line, listing: ClientListing) -> tuple[MailboxInfo, ...]:
    return tuple(values.read_mailbox_info(one)[1] for one in listing.lines)


def _scripts(line: Line, listing: ClientListing) -> tuple[ScriptInfo, ...]:
    return tuple(values.read_script_info(one) for one in listing.lines)


def _names(line: Line, listing: ClientListing) -> tuple[str, ...]:
    return tuple(one.words[2].decode() for one in listing.lines)


async def _halved(
    some: Callable[[UidSet], asyncio.Future[Executed]], uids: UidSet
) -> AsyncIterator[Executed]:
    """Have something done with these messages, with half of them each where all are too many for
    one command."""
    try:
        yield await some(uids)
        return
    except Refused as refused:
        if refused.code is not Code.LIMIT or len(uids) < 2:
            raise
    each = list(uids)
    for part in (each[: len(each) // 2], each[len(each) // 2 :]):
        async for executed in _halved(some, UidSet.from_uids(part)):
            yield executed
