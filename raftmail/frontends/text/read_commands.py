"""The commands of a client that only ask. Each runs as a task of its session."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any

from raftmail.frontends.text import requests
from raftmail.frontends.text.context import Invitation, TextContext
from raftmail.frontends.text.requests import MailboxNumber, MailboxNumbers, RequestRefused
from raftmail.frontends.text.responses import Channel, ResponseWriter
from raftmail.frontends.text.values import (
    format_mailbox_info,
    format_message_info,
    format_script_info,
    format_uids,
    read_uids,
)
from raftmail.frontends.text.write_commands import Commands
from raftmail.mail.admin import ADMIN_S
from raftmail.mail.codec import validate_query
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.limits import NUMBER_MAX
from raftmail.mail.queries import (
    Answer,
    FetchBody,
    FetchMessages,
    FetchVanished,
    GetMailbox,
    GetScript,
    GetUser,
    ListMailboxes,
    ListScripts,
    ListSubscriptions,
    ListUsers,
    MailboxInfo,
    MessagePage,
    Query,
    ScriptList,
)
from raftmail.mail.results import Code
from raftmail.mail.uidset import UidSet
from raftmail.net.errors import tell
from raftmail.net.lines import Line, quote

_log = logging.getLogger(__name__)

_PAGE_MESSAGES = 250
_USERS_MAX = 1000
_BODIES_AT_ONCE = 4
"""Bodies of one session between the blob store and the socket."""

_ONLY_DEADLINE = frozenset((b"deadline",))
_STATE = (b"uidvalidity", b"uidnext", b"messages", b"highestmodseq")


class Introductions:
    """The numbers of the server's direction. Invariant: at most `count_max`, each for one mailbox;
    when they are used up, the one longest unused is given to another mailbox."""

    def __init__(self, write: Callable[[bytes], None], count_max: int) -> None:
        self._write = write
        self._count_max = count_max
        self._known: dict[tuple[str, int, int], tuple[int, MailboxInfo]] = {}

    def introduce(self, info: MailboxInfo, *, always: bool = False) -> int:
        """The mailbox's number, told to the client if it does not know it as it is now."""
        key = (info.user, info.number, info.uidvalidity)
        known = self._known.pop(key, None)
        if known is not None:
            number, told = known
        elif len(self._known) < self._count_max:
            number, told = len(self._known) + 1, None
        else:
            number, told = self._known.pop(next(iter(self._known)))[0], None
        self._known[key] = (number, info)
        if always or told != info:
            self._write(format_mailbox_info(number, info))
        return number


class ReadCommands:
    """Of one session. What has untagged lines goes one at a time (`_listing`), so that all of them
    up to the tagged line belong to it. Bodies go a few at a time, each counted in the budget until
    the client has read enough."""

    def __init__(
        self,
        front: TextContext,
        writer: ResponseWriter,
        channel: Channel,
        mailboxes: MailboxNumbers,
    ) -> None:
        self._front = front
        self._service = front.service
        self._writer = writer
        self._channel = channel
        self._mailboxes = mailboxes
        self.deadline_s = front.limits.deadline_default_s
        """Of commands that do not give one."""
        self._listing = asyncio.Lock()
        self._fetching = asyncio.Semaphore(_BODIES_AT_ONCE)
        self._introductions = Introductions(channel.write, front.limits.mailbox_numbers_max)
        self.commands: Commands = {
            b"MAILBOX": (self._mailbox, _ONLY_DEADLINE | set(_STATE)),
            b"MAILBOXES": (self._list_mailboxes, _ONLY_DEADLINE),
            b"SUBSCRIPTIONS": (self._list_subscriptions, _ONLY_DEADLINE),
            b"LIST": (self._list, _ONLY_DEADLINE | {b"since", b"limit"}),
            b"VANISHED": (self._vanished, _ONLY_DEADLINE),
            b"FETCH": (self._fetch, _ONLY_DEADLINE),
        }
        self.user_commands: Commands = {
            b"LIST": (self._list_users, _ONLY_DEADLINE | {b"after", b"limit"}),
            b"GET": (self._get_user, _ONLY_DEADLINE),
        }
        self.script_commands: Commands = {
            b"LIST": (self._list_scripts, _ONLY_DEADLINE),
            b"GET": (self._get_script, _ONLY_DEADLINE),
        }

    def _start(self, tag: bytes, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._writer.begin()
        self._channel.spawn(self._finish(tag, work))

    async def _finish(self, tag: bytes, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        writer = self._writer
        try:
            await work()
        except RequestRefused as refusal:
            writer.no(tag, refusal)
        except Unavailable as unavailable:
            writer.retry(tag, unavailable.failure)
        except ValueError as error:
            writer.bad(tag, str(error))
        except Exception as error:
            tell(_log, "a read failed", error)
            writer.retry(tag, Failure("the node failed over this; its log says how"))
        finally:
            writer.finish()

    async def _ask(self, query: Query, deadline_s: float) -> Answer:
        validate_query(query)
        return await self._service.query(query, deadline_s=deadline_s)

    def _deadline(self, line: Line) -> float:
        given = line.named.get(b"deadline")
        if given is None:
            return self.deadline_s
        return requests.seconds(given, self._front.limits.deadline_max_s)

    # Mailboxes

    def _mailbox(self, tag: bytes, line: Line) -> None:
        number, user, name = requests.words_of(
            line, "MAILBOX number user name [uidvalidity= uidnext= messages= highestmodseq=]", 3
        )
        owner = requests.user_of(user)
        expected = {
            what: requests.integer(what.decode(), line.named[what])
            for what in _STATE
            if what in line.named
        }
        mailbox = MailboxNumber(owner, requests.name_of(name), self._service.shard_of(owner))
        deadline_s = self._deadline(line)
        self._mailboxes.bind(number, mailbox)
        self._start(tag, partial(self._meet, tag, mailbox, expected, deadline_s))

    async def _meet(
        self, tag: bytes, mailbox: MailboxNumber, expected: dict[bytes, int], deadline_s: float
    ) -> None:
        info = await self._ask(GetMailbox(mailbox.user, mailbox.ref), deadline_s)
        if not isinstance(info, MailboxInfo):
            raise _no_such(mailbox)
        mailbox.pin(info.number)
        state = dict(
            zip(
                _STATE,
                (info.uidvalidity, info.uidnext, info.messages, info.highestmodseq),
                strict=True,
            )
        )
        answer = b"".join(b" %b=%d" % item for item in state.items())
        differs = [what for what, value in expected.items() if value != state[what]]
        if differs:
            answer += b" same=no differs=" + b",".join(differs)
        elif expected:
            answer += b" same=yes"
        self._writer.ok(tag, b"%b number=%d" % (answer, info.number))

    def _list_mailboxes(self, tag: bytes, line: Line) -> None:
        (user,) = requests.words_of(line, "MAILBOXES user", 1)
        query = ListMailboxes(requests.user_of(user))
        self._start(tag, partial(self._tell_mailboxes, tag, query, self._deadline(line)))

    async def _tell_mailboxes(self, tag: bytes, query: ListMailboxes, deadline_s: float) -> None:
        async with self._listing:
            await self._channel.drained()
            infos = await self._ask(query, deadline_s)
            assert isinstance(infos, tuple)
            for info in infos:
                assert isinstance(info, MailboxInfo)
                self._introductions.introduce(info, always=True)
            self._writer.ok(tag, b" count=%d" % len(infos))

    def _list_subscriptions(self, tag: bytes, line: Line) -> None:
        (user,) = requests.words_of(line, "SUBSCRIPTIONS user", 1)
        query = ListSubscriptions(requests.user_of(user))
        work = partial(self._tell_names, tag, b"SUBSCRIPTION", query, self._deadline(line))
        self._start(tag, work)

    async def _tell_names(self, tag: bytes, what: bytes, query: Query, deadline_s: float) -> None:
        async with self._listing:
            await self._channel.drained()
            names = await self._ask(query, deadline_s)
            assert isinstance(names, tuple)
            for name in names:
                assert isinstance(name, str)
                self._channel.write(b"* %b %b\r\n" % (what, quote(name.encode())))
            self._writer.ok(tag, b" count=%d" % len(names))

    # Messages

    def _list(self, tag: bytes, line: Line) -> None:
        usage = "LIST mailbox uids [summary] [since= limit=]"
        number, uids, *rest = requests.words_of(line, usage, 2, 3)
        if rest and rest[0].upper() != b"SUMMARY":
            raise ValueError(f"usage: {usage}")
        mailbox = self._mailboxes.get(number)
        since = requests.integer("since", line.named.get(b"since", b"0"))
        limit = line.named.get(b"limit")
        count_max = requests.integer("limit", limit, 1) if limit is not None else NUMBER_MAX
        query = FetchMessages(mailbox.user, mailbox.ref, read_uids(uids), since, bool(rest))
        work = partial(self._tell_messages, tag, query, count_max, self._deadline(line))
        self._start(tag, work)

    async def _tell_messages(
        self, tag: bytes, query: FetchMessages, count_max: int, deadline_s: float
    ) -> None:
        async with self._listing:
            first: MailboxInfo | None = None
            count = last = number = 0
            more = True
            while more and count < count_max:
                await self._channel.drained()
                query = replace(query, limit=min(_PAGE_MESSAGES, count_max - count))
                page = await self._ask(query, deadline_s)
                if not isinstance(page, MessagePage):
                    raise RequestRefused(
                        Code.NONEXISTENT, f"{query.user} has no mailbox {query.mailbox}"
                    )
                first = first or page.mailbox
                number = self._introductions.introduce(page.mailbox)
                fresh = [message for message in page.messages if message.uid > last]
                for message in fresh:
                    self._channel.write(format_message_info(number, message))
                count += len(fresh)
                more = page.more and bool(fresh)
                if more:
                    last = fresh[-1].uid
                    rest = query.uids - UidSet.from_ranges([(1, last)])
                    query = replace(query, uids=rest)
            assert first is not None
            self._writer.ok(
                tag,
                b" mailbox=%d count=%d uidvalidity=%d uidnext=%d messages=%d highestmodseq=%d%b"
                % (
                    number,
                    count,
                    first.uidvalidity,
                    first.uidnext,
                    first.messages,
                    first.highestmodseq,
                    b" more=yes" if more else b"",
                ),
            )

    def _vanished(self, tag: bytes, line: Line) -> None:
        number, since = requests.words_of(line, "VANISHED mailbox modseq", 2)
        mailbox = self._mailboxes.get(number)
        modseq = requests.integer("modseq", since)
        self._start(tag, partial(self._tell_vanished, tag, mailbox, modseq, self._deadline(line)))

    async def _tell_vanished(
        self, tag: bytes, mailbox: MailboxNumber, since: int, deadline_s: float
    ) -> None:
        uids = await self._ask(FetchVanished(mailbox.user, mailbox.ref, since), deadline_s)
        if not isinstance(uids, UidSet):
            raise _no_such(mailbox)
        self._writer.ok(tag, b" uids=" + format_uids(uids))

    async def _ask_whether_there_is(self, mailbox: MailboxNumber, deadline_s: float) -> None:
        """Raises `RequestRefused` when a mailbox does not exist."""
        info = await self._ask(GetMailbox(mailbox.user, mailbox.ref), deadline_s)
        if not isinstance(info, MailboxInfo):
            raise _no_such(mailbox)

    def _fetch(self, tag: bytes, line: Line) -> None:
        number, uid = requests.words_of(line, "FETCH mailbox uid", 2)
        mailbox = self._mailboxes.get(number)
        one = requests.integer("uid", uid, 1, 2**32 - 2)
        self._start(tag, partial(self._tell_body, tag, mailbox, one, self._deadline(line)))

    async def _tell_body(
        self, tag: bytes, mailbox: MailboxNumber, uid: int, deadline_s: float
    ) -> None:
        async with self._fetching:
            await self._channel.drained()
            async with self._front.fetching:
                body = await self._ask(FetchBody(mailbox.user, mailbox.ref, uid), deadline_s)
                if not isinstance(body, bytes):
                    await self._ask_whether_there_is(mailbox, deadline_s)
                    raise RequestRefused(
                        Code.NONEXISTENT,
                        f"{mailbox.name} of {mailbox.user} has no message with UID {uid}",
                    )
                if not self._front.budget.take(len(body)):
                    raise Unavailable(Failure("the node holds as many messages as it may"))
            try:
                self._writer.ok(tag, b" {%d}\r\n%b" % (len(body), body))
                await self._channel.drained()
            finally:
                self._front.budget.give(len(body))

    # Users and operators

    def _list_users(self, tag: bytes, line: Line) -> None:
        requests.words_of(line, "USER LIST [after= limit=]", 1)
        after = requests.text("after", line.named.get(b"after", b""))
        limit = requests.integer("limit", line.named.get(b"limit", b"1000"), 1, _USERS_MAX)
        work = partial(
            self._tell_names, tag, b"USER", ListUsers(after, limit), self._deadline(line)
        )
        self._start(tag, work)

    def _get_user(self, tag: bytes, line: Line) -> None:
        _, user = requests.words_of(line, "USER GET address", 2)
        query = GetUser(requests.user_of(user))
        self._start(tag, partial(self._tell_user, tag, query, self._deadline(line)))

    async def _tell_user(self, tag: bytes, query: GetUser, deadline_s: float) -> None:
        if await self._ask(query, deadline_s) is None:
            raise RequestRefused(Code.UNKNOWNUSER, f"there is no user {query.address}")
        self._writer.ok(tag, b" address=" + quote(query.address.encode()))

    # Scripts: the words are SCRIPT, what, user, ...

    def _list_scripts(self, tag: bytes, line: Line) -> None:
        _, user = requests.words_of(line, "SCRIPT LIST user", 2)
        query = ListScripts(requests.user_of(user))
        self._start(tag, partial(self._tell_scripts, tag, query, self._deadline(line)))

    async def _tell_scripts(self, tag: bytes, query: ListScripts, deadline_s: float) -> None:
        async with self._listing:
            await self._channel.drained()
            found = await self._ask(query, deadline_s)
            assert isinstance(found, ScriptList)
            for script in found.scripts:
                self._channel.write(b"* SCRIPT %b\r\n" % format_script_info(script))
            self._writer.ok(tag, b" count=%d" % len(found.scripts))

    def _get_script(self, tag: bytes, line: Line) -> None:
        _, user, name = requests.words_of(line, "SCRIPT GET user name", 3)
        query = GetScript(requests.user_of(user), requests.text("a script's name", name))
        self._start(tag, partial(self._tell_script, tag, query, self._deadline(line)))

    async def _tell_script(self, tag: bytes, query: GetScript, deadline_s: float) -> None:
        text = await self._ask(query, deadline_s)
        if text is None:
            why = f"{query.user} has no script {query.name}"
            raise RequestRefused(Code.NONEXISTENT, why)
        assert isinstance(text, bytes)
        self._writer.ok(tag, b" {%d}\r\n%b" % (len(text), text))

    def invitation(
        self, tag: bytes, invite: str, ask: Invitation | None, failed: Callable[[], None]
    ) -> None:
        """INVITE: the sealed bundle; `failed` is told when there is none."""
        self._start(tag, partial(self._tell_invitation, tag, invite, ask, failed))

    async def _tell_invitation(
        self, tag: bytes, invite: str, ask: Invitation | None, failed: Callable[[], None]
    ) -> None:
        sealed = None if ask is None else await ask(invite)
        if sealed is None:
            text = "there is no such invitation here"
            self._writer.no(tag, RequestRefused(Code.NONEXISTENT, text))
            failed()
            return
        self._writer.ok(tag, b" {%d}\r\n%b" % (len(sealed), sealed))

    def admin(self, tag: bytes, line: Line) -> None:
        """ADMIN: whatever the node offers, with named arguments and a JSON literal for an
        answer."""
        (what,) = requests.words_of(line, "ADMIN what [name=value]...", 1)
        arguments = {
            name.decode(): requests.text(name.decode(), value)
            for name, value in line.named.items()
            if name != b"deadline"
        }
        deadline_s = self._deadline(line) if b"deadline" in line.named else ADMIN_S
        asked = requests.text("what", what)
        self._start(tag, partial(self._tell_admin, tag, asked, arguments, deadline_s))

    async def _tell_admin(
        self, tag: bytes, what: str, arguments: dict[str, str], deadline_s: float
    ) -> None:
        found = await self._service.admin(what, arguments, deadline_s)
        try:
            answer = json.dumps(found).encode()
        except TypeError:
            raise ValueError(f"what {what!r} answers is for nodes alone") from None
        self._writer.ok(tag, b" {%d}\r\n%b" % (len(answer), answer))


def _no_such(mailbox: MailboxNumber) -> RequestRefused:
    return RequestRefused(Code.NONEXISTENT, f"{mailbox.user} has no mailbox {mailbox.name}")
