"""A cluster of one dictionary, behind the seam through which the commands ask."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from raftmail.admin.api.arguments import write_arguments
from raftmail.admin.api.calls import Call, kind_of
from raftmail.admin.api.codec import decode
from raftmail.mail.commands import (
    ActivateScript,
    DeleteScript,
    PutScript,
    RenameScript,
    StoreMode,
)
from raftmail.mail.queries import (
    GetScript,
    ListScripts,
    MailboxInfo,
    MessageInfo,
    ScriptInfo,
    ScriptList,
)
from raftmail.mail.results import (
    CopyResult,
    Done,
    Executed,
    ExpungeResult,
    MailboxResult,
    Refused,
    Result,
    Saved,
    SaveResult,
    StoreResult,
)
from raftmail.mail.summary import encode_summary, summarise
from raftmail.mail.uidset import UidSet
from raftmail_cli.errors import CliError
from raftmail_cli.session import CliSession, Where
from tests.frontends.twin_scripts import ScriptCommand, TwinScripts

R = TypeVar("R")


@dataclass
class Box:
    number: int
    messages: dict[int, MessageInfo] = field(default_factory=dict)
    uidnext: int = 1
    special_use: str = ""


@dataclass
class Twin:
    """Implements `CliSession`. `failure` is raised by everything; `asked` keeps administrative
    calls."""

    answers: dict[str, Any] = field(
        default_factory=lambda: {"grants-forget": {"address": "", "owners": 0}}
    )
    failure: CliError | None = None
    known: dict[str, str | None] = field(default_factory=dict)
    boxes: dict[tuple[str, str], Box] = field(default_factory=dict)
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    rules: TwinScripts = field(default_factory=TwinScripts)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    opened: list[Where] = field(default_factory=list)

    @contextmanager
    def open(self, where: Where) -> Iterator[CliSession]:
        self.opened.append(where)
        if self.failure:
            raise self.failure
        yield self

    def _done(self, result: Result) -> Executed:
        return Executed(result, 1, 7, "n2")

    def _box(self, user: str, name: str) -> Box:
        try:
            return self.boxes[user, name]
        except KeyError:
            raise CliError(f"{name}: there is no such mailbox") from None

    def admin(self, call: Call[R]) -> R:
        kind = kind_of(call)
        self.asked.append((kind.name, write_arguments(call)))
        found: R = decode(kind.answer, self.answers[kind.name])
        return found

    def users(self) -> Iterator[str]:
        return iter(sorted(self.known))

    def user_exists(self, address: str) -> bool:
        return address in self.known

    def add_user(self, address: str, password: str | None) -> Executed:
        if address in self.known:
            raise CliError(f"{address}: exists already")
        self.known[address] = password
        self.boxes[address, "INBOX"] = Box(1)
        return self._done(Done())

    def set_password(self, address: str, password: str | None) -> Executed:
        self.known[address] = password
        return self._done(Done())

    def remove_user(self, address: str) -> Executed:
        del self.known[address]
        return self._done(Done())

    def purge_user(self, address: str) -> Executed:
        self.boxes = {key: box for key, box in self.boxes.items() if key[0] != address}
        return self._done(Done())

    def mailboxes(self, user: str) -> Sequence[MailboxInfo]:
        return [
            MailboxInfo(
                box.number,
                user,
                name,
                b"g" * 16,
                1000,
                box.uidnext,
                1,
                len(box.messages),
                sum("\\Seen" not in m.flags for m in box.messages.values()),
                sum(m.size_bytes for m in box.messages.values()),
                box.special_use,
                False,
                b"d" * 16,
            )
            for (owner, name), box in sorted(self.boxes.items())
            if owner == user
        ]

    def _mailbox(self, name: str, box: Box) -> Executed:
        return self._done(MailboxResult(box.number, name, b"g" * 16, 1000, 1, 1, 0))

    def create_mailbox(self, user: str, name: str, special_use: str) -> Executed:
        box = self.boxes[user, name] = Box(len(self.boxes) + 1, special_use=special_use)
        return self._mailbox(name, box)

    def delete_mailbox(self, user: str, name: str) -> Executed:
        box = self._box(user, name)
        del self.boxes[user, name]
        return self._mailbox(name, box)

    def rename_mailbox(self, user: str, name: str, new_name: str) -> Executed:
        box = self.boxes[user, new_name] = self._box(user, name)
        del self.boxes[user, name]
        return self._mailbox(new_name, box)

    def scripts(self, user: str) -> Sequence[ScriptInfo]:
        answer = self.rules.answer(ListScripts(user))
        assert isinstance(answer, ScriptList)
        return answer.scripts

    def script(self, user: str, name: str) -> bytes:
        text = self.rules.answer(GetScript(user, name))
        if not isinstance(text, bytes):
            raise CliError(f"{user} has no script {name}")
        return text

    def put_script(self, user: str, name: str, script: bytes) -> Executed:
        return self._ruled(PutScript(user, name, script))

    def delete_script(self, user: str, name: str) -> Executed:
        return self._ruled(DeleteScript(user, name))

    def rename_script(self, user: str, name: str, new_name: str) -> Executed:
        return self._ruled(RenameScript(user, name, new_name))

    def activate_script(self, user: str, name: str) -> Executed:
        return self._ruled(ActivateScript(user, name))

    def _ruled(self, command: ScriptCommand) -> Executed:
        result = self.rules.apply(command)
        if isinstance(result, Refused):
            raise CliError(f"{result.text} ({result.code})")
        return self._done(result)

    def save(
        self, user: str, mailbox: str, body: bytes, flags: Sequence[str], received_us: int | None
    ) -> Executed:
        box = self._box(user, mailbox)
        digest = hashlib.sha256(body).digest()
        self.bodies[digest] = body
        uid = box.uidnext
        box.uidnext += 1
        summary = encode_summary(summarise(body))
        box.messages[uid] = MessageInfo(
            uid, b"m" * 16, 1, tuple(flags), received_us or 0, len(body), digest, summary
        )
        return self._done(SaveResult((Saved(user, box.number, 1000, uid, 1),)))

    def messages(self, user: str, mailbox: str, uids: UidSet) -> Iterator[MessageInfo]:
        box = self._box(user, mailbox)
        wanted = uids.resolve(max(box.messages, default=0))
        return (m for uid, m in sorted(box.messages.items()) if uid in wanted)

    def body(self, user: str, mailbox: str, uid: int) -> bytes:
        message = self._box(user, mailbox).messages.get(uid)
        if message is None:
            raise CliError(f"{mailbox}: there is no message {uid}")
        return self.bodies[message.blob]

    def store(
        self, user: str, mailbox: str, uids: UidSet, mode: StoreMode, flags: Sequence[str]
    ) -> Executed:
        box = self._box(user, mailbox)
        changed = []
        for message in list(self.messages(user, mailbox, uids)):
            old = set(message.flags)
            given = set(flags)
            new = {
                StoreMode.ADD: old | given,
                StoreMode.REMOVE: old - given,
                StoreMode.REPLACE: given,
            }[mode]
            if new != old:
                changed.append(message.uid)
                box.messages[message.uid] = replace(message, flags=tuple(sorted(new)))
        return self._done(StoreResult(UidSet.from_uids(changed), UidSet(), 2, 2))

    def _copy(self, user: str, mailbox: str, uids: UidSet, target: str, *, move: bool) -> Executed:
        source, to = self._box(user, mailbox), self._box(user, target)
        old, new = [], []
        for message in list(self.messages(user, mailbox, uids)):
            old.append(message.uid)
            new.append(to.uidnext)
            to.messages[to.uidnext] = replace(message, uid=to.uidnext)
            to.uidnext += 1
            if move:
                del source.messages[message.uid]
        result = CopyResult(1000, to.number, UidSet.from_uids(old), UidSet.from_uids(new), 0, 2)
        return self._done(result)

    def copy(
        self, user: str, mailbox: str, uids: UidSet, target: str, target_user: str, *, move: bool
    ) -> Iterator[Executed]:
        """To another user each message is a part; the one with UID 3 is refused."""
        if target_user == user:
            yield self._copy(user, mailbox, uids, target, move=move)
            return
        for message in list(self.messages(user, mailbox, uids)):
            if message.uid == 3:
                raise CliError("there is no room (OVERQUOTA)")
            to = self._box(target_user, target)
            to.messages[to.uidnext] = replace(message, uid=to.uidnext)
            one, new = UidSet.single(message.uid), UidSet.single(to.uidnext)
            to.uidnext += 1
            yield self._done(CopyResult(1000, to.number, one, new, 0, 2))

    def expunge(self, user: str, mailbox: str, uids: UidSet, *, only_deleted: bool) -> Executed:
        box = self._box(user, mailbox)
        gone = [
            message.uid
            for message in list(self.messages(user, mailbox, uids))
            if not only_deleted or "\\Deleted" in message.flags
        ]
        for uid in gone:
            del box.messages[uid]
        return self._done(ExpungeResult(UidSet.from_uids(gone), 3))
