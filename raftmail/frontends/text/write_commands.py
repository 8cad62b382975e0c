"""The commands of a client that change something. STORE is the hot path: no task, no coroutine."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from raftmail.frontends.text import requests
from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.requests import Draft, MailboxNumbers, RequestRefused
from raftmail.frontends.text.responses import Channel, ResponseWriter
from raftmail.frontends.text.sequence import SequenceWindow
from raftmail.frontends.text.values import format_executed, read_flags, read_uids
from raftmail.mail.codec import encode_request
from raftmail.mail.commands import (
    ActivateScript,
    Blob,
    Command,
    Copy,
    CreateMailbox,
    DeleteMailbox,
    DeleteScript,
    MakeFirstMailboxes,
    NewMessage,
    PurgeUser,
    PutScript,
    PutUser,
    RemoveUser,
    RenameMailbox,
    RenameScript,
    Save,
    Store,
    Subscribe,
)
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.limits import validate
from raftmail.mail.names import INBOX
from raftmail.mail.results import Code, Executed
from raftmail.mail.summary import encode_summary, summarise
from raftmail.net.lines import Line
from raftmail.service.login import EXTERNAL
from raftmail.service.service import UnknownUser

Handler: TypeAlias = Callable[[bytes, Line], None]
Commands: TypeAlias = Mapping[bytes, tuple[Handler, frozenset[bytes]]]
"""By name, in capitals: what does it, and the named arguments that it has."""

_INLINE_BYTES_MAX = 256 * 1024
"""Longer bodies are hashed and summarised in an executor, so that the others need not wait."""

ROOT_SHARD = 0

_WITH_SEQUENCE = frozenset((b"seq", b"floor", b"deadline"))


class WriteCommands:
    """Of one session. Invariant: a number taken from `_window` is released when its command has an
    answer. So the floor passes over no command that may still be applied for the first time.
    """

    def __init__(
        self,
        front: TextContext,
        writer: ResponseWriter,
        channel: Channel,
        mailboxes: MailboxNumbers,
    ) -> None:
        self._front = front
        self._service = front.service
        self._submit = front.service.submit
        self._writer = writer
        self._channel = channel
        self._mailboxes = mailboxes
        self._by_number = mailboxes.by_number
        self._own_client = os.urandom(16)
        self._window = SequenceWindow()
        self._client = b""
        self._client_floor = 0
        self.deadline_s = front.limits.deadline_default_s
        """Of commands that do not give one."""
        every = _WITH_SEQUENCE
        self.commands: Commands = {
            b"STORE": (self._store_line, every | {b"unchangedsince"}),
            b"SAVE": (self._save, every | {b"flags", b"date", b"guid"}),
            b"MSAVE": (self._msave, every),
            b"COPY": (partial(self._copy, move=False), every | {b"guids"}),
            b"MOVE": (partial(self._copy, move=True), every | {b"guids"}),
            b"EXPUNGE": (self._expunge, every),
            b"CREATE": (self._create, every | {b"special"}),
            b"DELETE": (self._delete, every),
            b"RENAME": (self._rename, every),
            b"SUBSCRIBE": (partial(self._subscribe, subscribed=True), every),
            b"UNSUBSCRIBE": (partial(self._subscribe, subscribed=False), every),
        }
        self.user_commands: Commands = {
            b"ADD": (partial(self._put_user, replace=False), every | {b"external"}),
            b"PASSWD": (partial(self._put_user, replace=True), every | {b"external"}),
            b"REMOVE": (self._remove_user, every),
            b"PURGE": (self._purge_user, every),
        }
        self.script_commands: Commands = {
            b"PUT": (self._put_script, every),
            b"DELETE": (self._delete_script, every),
            b"RENAME": (self._rename_script, every),
            b"ACTIVATE": (self._activate_script, every),
        }

    def use_client(self, client: bytes) -> None:
        """The client id of HELLO, for commands with seq=."""
        if client != self._client:
            self._client = client
            self._client_floor = 0

    def store(self, words: list[bytes]) -> bool:
        """Do a STORE of atoms. False, and nothing done, when it is not of the usual kind: then
        `_store_line` does it, or finds what is wrong."""
        tag, _, number, uid_text, operation, flag_text, *named = words
        mailbox = self._by_number.get(number)
        mode = requests.STORE_MODES.get(operation)
        if mailbox is None or mode is None or not tag.isalnum() or len(tag) > 64:
            return False
        if b"=" in flag_text:
            return False  # no flags, and what stands in their place has a name
        since = floor = -1
        seq = 0
        try:
            uids = read_uids(uid_text)
            flags = read_flags(flag_text)
            for word in named:
                name, _, value = word.partition(b"=")
                if not value.isdigit() or len(value) > 18:
                    return False
                if name == b"seq" and not seq:
                    seq = int(value)
                    if not seq:
                        return False
                elif name == b"unchangedsince" and since < 0:
                    since = int(value)
                elif name == b"floor" and floor < 0:
                    floor = int(value)
                else:
                    return False
        except ValueError:
            return False
        client = self._client
        own = 0
        if seq and client:
            if seq <= max(floor, self._client_floor):
                return False
            if floor > self._client_floor:
                self._client_floor = floor
            floor = self._client_floor
        elif seq or floor >= 0:
            return False
        else:
            client = self._own_client
            own = seq = self._window.take()
            floor = self._window.floor
        command = Store(mailbox.user, mailbox.ref, uids, mode, flags, since)
        self._writer.outstanding += 1
        self._submit(
            mailbox.shard,
            encode_request(client, seq, floor, command),
            (),
            self.deadline_s,
            partial(self._done, tag, own, 0),
        )
        return True

    def _done(self, tag: bytes, own: int, literal_bytes: int, outcome: Executed | Failure) -> None:
        """A command has its outcome; perhaps long after the session has ended."""
        if own:
            self._window.release(own)
        writer = self._writer
        if not writer.ended:
            if isinstance(outcome, Executed):
                writer.write(b"%b %b\r\n" % (tag, format_executed(outcome)))
            else:
                writer.retry(tag, outcome)
        writer.finish(literal_bytes)

    # Sequence numbers

    def _stamp(self, line: Line) -> tuple[bytes, int, int, int]:
        """Client, sequence number, floor, and the number once more if it is the session's own.

        Raises ValueError, `RequestRefused`."""
        named = line.named
        given = named.get(b"seq")
        floor = named.get(b"floor")
        if given is None:
            if floor is not None:
                raise ValueError("floor= has no meaning without seq=")
            own = self._window.take()
            return self._own_client, own, self._window.floor, own
        if not self._client:
            raise ValueError("seq= needs a client id: HELLO 1 client=<32 hexadecimal digits>")
        seq = requests.integer("seq", given, 1)
        if floor is not None:
            number = requests.integer("floor", floor)
            if number >= seq:
                raise ValueError("floor is below seq")
            self._client_floor = max(self._client_floor, number)
        if seq <= self._client_floor:
            raise RequestRefused(
                Code.STALE, f"sequence number {seq} is not above the floor {self._client_floor}"
            )
        return self._client, seq, self._client_floor, 0

    def _deadline(self, line: Line) -> float:
        given = line.named.get(b"deadline")
        if given is None:
            return self.deadline_s
        return requests.seconds(given, self._front.limits.deadline_max_s)

    def _run(self, tag: bytes, line: Line, shard: int, command: Command) -> None:
        """Have a command applied that brings no bodies. Raises ValueError, `RequestRefused`."""
        validate(command)
        deadline_s = self._deadline(line)
        client, seq, floor, own = self._stamp(line)
        self._writer.begin()
        done = partial(self._done, tag, own, 0)
        self._submit(shard, encode_request(client, seq, floor, command), (), deadline_s, done)

    def _run_for(
        self, tag: bytes, line: Line, owners: tuple[str, ...], shard: int, command: Command
    ) -> None:
        """`_run` of what makes something for users, once they are known to be there. Raises
        ValueError, `RequestRefused`."""
        if all(map(self._service.is_known_user, owners)):
            self._run(tag, line, shard, command)
            return
        validate(command)
        deadline_s = self._deadline(line)
        stamp = self._stamp(line)
        self._writer.begin()
        self._channel.spawn(self._run_later(tag, owners, shard, command, stamp, deadline_s))

    async def _run_later(
        self,
        tag: bytes,
        owners: tuple[str, ...],
        shard: int,
        command: Command,
        stamp: tuple[bytes, int, int, int],
        deadline_s: float,
    ) -> None:
        client, seq, floor, own = stamp
        if await self._are_users(tag, own, 0, owners, deadline_s):
            done = partial(self._done, tag, own, 0)
            self._submit(shard, encode_request(client, seq, floor, command), (), deadline_s, done)

    async def _are_users(
        self, tag: bytes, own: int, literal_bytes: int, owners: tuple[str, ...], deadline_s: float
    ) -> bool:
        """Whether somebody may get something; False: the command has its answer."""
        outcome: Failure | RequestRefused | None = Failure("the session ended")
        try:
            await self._service.check_users(owners, deadline_s=deadline_s)
            outcome = None
        except Unavailable as e:
            outcome = e.failure
        except UnknownUser as e:
            outcome = RequestRefused(Code.UNKNOWNUSER, str(e))
        finally:
            self._give(tag, own, literal_bytes, outcome)
        return outcome is None

    def _give(
        self, tag: bytes, own: int, literal_bytes: int, outcome: Failure | RequestRefused | None
    ) -> None:
        """A command ends before it goes to its shard; None: it does not."""
        if isinstance(outcome, Failure):
            self._done(tag, own, literal_bytes, outcome)
        elif outcome is not None:
            if own:
                self._window.release(own)
            self._writer.no(tag, outcome)
            self._writer.finish(literal_bytes)

    # Messages

    def _store_line(self, tag: bytes, line: Line) -> None:
        since = line.named.get(b"unchangedsince")
        command = requests.store(line.words[2:], since, self._mailboxes)
        self._run(tag, line, self._mailboxes.get(line.words[2]).shard, command)

    def _copy(self, tag: bytes, line: Line, *, move: bool) -> None:
        shard, target, command = requests.copy(line, self._mailboxes, self._seed(), move=move)
        command = replace(command, saved_us=int(self._front.wall_s() * 1_000_000))
        if quota_bytes := self._service.quota_of(command.target.user):
            command = replace(command, quota_bytes=quota_bytes)
        if shard == target:
            self._run_for(tag, line, (command.target.user,), shard, command)
            return
        validate(command)
        deadline_s = self._deadline(line)
        stamp = self._stamp(line)
        self._writer.begin()
        self._channel.spawn(self._cross(tag, command, stamp, deadline_s))

    async def _cross(
        self, tag: bytes, command: Copy, stamp: tuple[bytes, int, int, int], deadline_s: float
    ) -> None:
        client, seq, floor, own = stamp
        if not await self._are_users(tag, own, 0, (command.target.user,), deadline_s):
            return
        outcome: Executed | Failure = Failure("the session ended", unknown=True)
        try:
            outcome = await self._service.cross(client, seq, floor, command, deadline_s=deadline_s)
        except Unavailable as e:
            outcome = e.failure
        finally:
            self._done(tag, own, 0, outcome)

    def _expunge(self, tag: bytes, line: Line) -> None:
        shard, command = requests.expunge(line, self._mailboxes)
        self._run(tag, line, shard, command)

    def _save(self, tag: bytes, line: Line) -> None:
        self._save_all(tag, line, requests.save(line, self._mailboxes))

    def _msave(self, tag: bytes, line: Line) -> None:
        self._save_all(tag, line, requests.msave(line, self._mailboxes))

    def _save_all(self, tag: bytes, line: Line, drafts: tuple[Draft, ...]) -> None:
        deadline_s = self._deadline(line)
        stamp = self._stamp(line)
        literal_bytes, line.literal_bytes = line.literal_bytes, 0
        self._writer.begin(literal_bytes)
        # A mailbox that has a number is there; one by name may be an INBOX that is to be made.
        named = {m.user for draft in drafts for m in draft.mailboxes if type(m.ref) is str}
        if named and not all(map(self._service.is_known_user, named)):
            owners = tuple(sorted(named))
            work = self._save_for(tag, drafts, stamp, deadline_s, literal_bytes, owners)
            self._channel.spawn(work)
        elif literal_bytes > _INLINE_BYTES_MAX:
            work = self._save_later(tag, drafts, stamp, deadline_s, literal_bytes)
            self._channel.spawn(work)
        else:
            made = make_save(drafts, self._front.wall_s())
            self._submit_save(tag, drafts, made, stamp, deadline_s, literal_bytes)

    async def _save_for(
        self,
        tag: bytes,
        drafts: tuple[Draft, ...],
        stamp: tuple[bytes, int, int, int],
        deadline_s: float,
        literal_bytes: int,
        owners: tuple[str, ...],
    ) -> None:
        if await self._are_users(tag, stamp[3], literal_bytes, owners, deadline_s):
            await self._save_later(tag, drafts, stamp, deadline_s, literal_bytes)

    async def _save_later(
        self,
        tag: bytes,
        drafts: tuple[Draft, ...],
        stamp: tuple[bytes, int, int, int],
        deadline_s: float,
        literal_bytes: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(None, make_save, drafts, self._front.wall_s())
        except BaseException:
            self._done(tag, stamp[3], literal_bytes, Failure("the message could not be read"))
            raise
        self._submit_save(tag, drafts, made, stamp, deadline_s, literal_bytes)

    def _submit_save(
        self,
        tag: bytes,
        drafts: tuple[Draft, ...],
        made: tuple[Save, list[Blob]],
        stamp: tuple[bytes, int, int, int],
        deadline_s: float,
        literal_bytes: int,
    ) -> None:
        client, seq, floor, own = stamp
        try:
            save = self._limited(drafts, made[0])
            if len(drafts) > 1 or len(drafts[0].mailboxes) > 1:
                validate(save)
            request = encode_request(client, seq, floor, save)
        except ValueError as error:
            self._writer.bad(tag, str(error))
            if own:
                self._window.release(own)
            self._writer.finish(literal_bytes)
            return
        done = partial(self._done, tag, own, literal_bytes)
        self._submit(drafts[0].mailboxes[0].shard, request, made[1], deadline_s, done)

    def _limited(self, drafts: tuple[Draft, ...], save: Save) -> Save:
        """The command with the quotas of those who get something."""
        quota_of = self._service.quota_of
        owners = {mailbox.user for draft in drafts for mailbox in draft.mailboxes}
        quotas = tuple((owner, limit) for owner in sorted(owners) if (limit := quota_of(owner)))
        return replace(save, quotas=quotas) if quotas else save

    # Mailboxes

    def _seed(self) -> int:
        return int(self._front.wall_s())

    def _create(self, tag: bytes, line: Line) -> None:
        user, name = requests.words_of(line, "CREATE user name [special=\\Sent]", 2)
        owner = requests.user_of(user)
        special = requests.text("special", line.named.get(b"special", b""))
        guid = os.urandom(16)
        command = CreateMailbox(owner, requests.name_of(name), self._seed(), guid, special)
        self._run_for(tag, line, (owner,), self._service.shard_of(owner), command)

    def _delete(self, tag: bytes, line: Line) -> None:
        user, name = requests.words_of(line, "DELETE user name", 2)
        owner = requests.user_of(user)
        command = DeleteMailbox(owner, requests.name_of(name))
        self._run(tag, line, self._service.shard_of(owner), command)

    def _rename(self, tag: bytes, line: Line) -> None:
        user, old, new = requests.words_of(line, "RENAME user name newname", 3)
        owner = requests.user_of(user)
        names = requests.name_of(old), requests.name_of(new)
        command = RenameMailbox(owner, *names, self._seed(), os.urandom(16))
        self._run_for(tag, line, (owner,), self._service.shard_of(owner), command)

    def _subscribe(self, tag: bytes, line: Line, *, subscribed: bool) -> None:
        user, name = requests.words_of(line, "SUBSCRIBE user name", 2)
        owner = requests.user_of(user)
        command = Subscribe(owner, requests.name_of(name), subscribed)
        shard = self._service.shard_of(owner)
        if subscribed:
            self._run_for(tag, line, (owner,), shard, command)
        else:
            self._run(tag, line, shard, command)

    # Users: the words are USER, what, address, ...

    def _put_user(self, tag: bytes, line: Line, *, replace: bool) -> None:
        external = line.named.get(b"external")
        if external not in (None, b"yes"):
            raise ValueError("external=yes says that the password is judged elsewhere")
        usage = "USER ADD|PASSWD address (password | external=yes)"
        _, user, *rest = requests.words_of(line, usage, 3 if external is None else 2)
        address = requests.user_of(user) if replace else requests.new_user_of(user)
        password = rest[0] if rest else None
        deadline_s = self._deadline(line)
        stamp = self._stamp(line)
        self._writer.begin()
        self._channel.spawn(self._hash_and_put(tag, address, password, replace, stamp, deadline_s))

    async def _hash_and_put(
        self,
        tag: bytes,
        address: str,
        password: bytes | None,
        replace: bool,
        stamp: tuple[bytes, int, int, int],
        deadline_s: float,
    ) -> None:
        client, seq, floor, own = stamp
        try:
            kept = EXTERNAL
            if password is not None:
                kept = await self._service.hash_password(address, password)
            command = PutUser(address, kept, replace)
            request = encode_request(client, seq, floor, command)
            if not replace:
                await self._make_mailboxes(address, deadline_s)
        except (ValueError, Unavailable) as error:
            if isinstance(error, Unavailable):
                self._writer.retry(tag, error.failure)
            else:
                self._writer.bad(tag, str(error))
            if own:
                self._window.release(own)
            self._writer.finish()
            return
        self._submit(ROOT_SHARD, request, (), deadline_s, partial(self._done, tag, own, 0))

    async def _make_mailboxes(self, user: str, deadline_s: float) -> None:
        """Make INBOX before the user, so that every user that exists has one, and what else new
        users have. Where INBOX is already, that is fine.

        Raises `Unavailable`."""
        seed, guid = int(self._front.wall_s()), os.urandom(16)
        command: CreateMailbox | MakeFirstMailboxes
        if self._front.first_mailboxes:
            command = MakeFirstMailboxes(user, self._front.first_mailboxes, seed, guid)
        else:
            command = CreateMailbox(user, INBOX, seed, guid)
        await self._service.execute(command, deadline_s=deadline_s)

    def _remove_user(self, tag: bytes, line: Line) -> None:
        _, user = requests.words_of(line, "USER REMOVE address", 2)
        address = requests.user_of(user)
        self._service.forget_user(address)
        self._run(tag, line, ROOT_SHARD, RemoveUser(address))

    def _purge_user(self, tag: bytes, line: Line) -> None:
        _, user = requests.words_of(line, "USER PURGE address", 2)
        owner = requests.user_of(user)
        self._run(tag, line, self._service.shard_of(owner), PurgeUser(owner))

    # Scripts: the words are SCRIPT, what, user, ...

    def _put_script(self, tag: bytes, line: Line) -> None:
        _, user, name, script = requests.words_of(line, "SCRIPT PUT user name text", 4)
        limits = self._service.script_limits
        command = PutScript(
            requests.user_of(user),
            requests.text("a script's name", name),
            script,
            limits.scripts_max,
            limits.total_bytes_max,
        )
        deadline_s = self._deadline(line)
        stamp = self._stamp(line)
        literal_bytes, line.literal_bytes = line.literal_bytes, 0
        self._writer.begin(literal_bytes)
        self._channel.spawn(self._check_and_put(tag, command, stamp, deadline_s, literal_bytes))

    async def _check_and_put(
        self,
        tag: bytes,
        command: PutScript,
        stamp: tuple[bytes, int, int, int],
        deadline_s: float,
        literal_bytes: int,
    ) -> None:
        client, seq, floor, own = stamp
        user, name, script = command.user, command.name, command.script
        if not await self._are_users(tag, own, literal_bytes, (user,), deadline_s):
            return
        outcome: Failure | RequestRefused | None = Failure("the session ended")
        try:
            await self._service.check_script(user, name, script, deadline_s=deadline_s)
            validate(command)
            outcome = None
        except Unavailable as e:
            outcome = e.failure
        except ValueError as e:
            outcome = RequestRefused(Code.CANNOT, str(e))
        finally:
            self._give(tag, own, literal_bytes, outcome)
        if outcome is None:
            request = encode_request(client, seq, floor, command)
            done = partial(self._done, tag, own, literal_bytes)
            self._submit(self._service.shard_of(user), request, (), deadline_s, done)

    def _delete_script(self, tag: bytes, line: Line) -> None:
        _, user, name = requests.words_of(line, "SCRIPT DELETE user name", 3)
        owner = requests.user_of(user)
        command = DeleteScript(owner, requests.text("a script's name", name))
        self._run(tag, line, self._service.shard_of(owner), command)

    def _rename_script(self, tag: bytes, line: Line) -> None:
        _, user, *names = requests.words_of(line, "SCRIPT RENAME user name newname", 4)
        owner = requests.user_of(user)
        old, new = (requests.text("a script's name", one) for one in names)
        self._run(tag, line, self._service.shard_of(owner), RenameScript(owner, old, new))

    def _activate_script(self, tag: bytes, line: Line) -> None:
        _, user, *names = requests.words_of(line, "SCRIPT ACTIVATE user [name]", 2, 3)
        owner = requests.user_of(user)
        name = requests.text("a script's name", names[0]) if names else ""
        self._run(tag, line, self._service.shard_of(owner), ActivateScript(owner, name))


def make_save(drafts: tuple[Draft, ...], now_s: float) -> tuple[Save, list[Blob]]:
    """The command that saves drafts, and the bodies that go with it, each once. Dates that were
    left out become `now_s` (Unix time), GUIDs random."""
    messages = []
    blobs: dict[bytes, bytes] = {}
    for draft in drafts:
        body = draft.body
        digest = hashlib.sha256(body).digest()
        blobs[digest] = body
        received_us = draft.received_us
        messages.append(
            NewMessage(
                tuple(mailbox.target for mailbox in draft.mailboxes),
                digest,
                len(body),
                draft.guid or os.urandom(16),
                int(now_s * 1e6) if received_us is None else received_us,
                draft.flags,
                encode_summary(summarise(body)),
                saved_us=None if received_us is None else int(now_s * 1e6),
            )
        )
    save = Save(drafts[0].mailboxes[0].user, tuple(messages), int(now_s))
    return save, list(blobs.items())
