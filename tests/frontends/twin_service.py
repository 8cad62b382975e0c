"""`Service` in dictionaries, for tests of front ends: obvious, in memory, one copy of
everything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.changes import MailboxChanged, MailboxesChanged
from raftmail.mail.codec import decode_request
from raftmail.mail.commands import Blob
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.names import INBOX
from raftmail.mail.smtp_address import Address
from raftmail.mail.summary import encode_summary, summarise
from raftmail.mail.uidset import UidSet
from raftmail.service.credentials import make_credentials, scram_salt_of
from raftmail.service.failed_log_ins import LogInLimits
from raftmail.service.log_ins import LogIns
from raftmail.service.service import (
    Principal,
    ScriptLimits,
    ScriptTooLarge,
    Service,
    UnknownUser,
)
from raftmail.service.verdicts import Envelope, Recipient, Verdict
from raftmail.service.watching import Watch
from raftmail.sieve.compiler import compile_script
from tests.frontends.twin_annotations import TwinAnnotations
from tests.frontends.twin_scripts import TwinScripts


@dataclass
class Box:
    number: int
    user: str
    name: str
    guid: bytes
    uidvalidity: int
    uidnext: int = 1
    highestmodseq: int = 1
    special_use: str = ""
    messages: dict[int, q.MessageInfo] = field(default_factory=dict)
    vanished: dict[int, int] = field(default_factory=dict)

    def info(self, subscribed: bool = False) -> q.MailboxInfo:
        seen = sum("\\Seen" in m.flags for m in self.messages.values())
        return q.MailboxInfo(
            self.number,
            self.user,
            self.name,
            self.guid,
            self.uidvalidity,
            self.uidnext,
            self.highestmodseq,
            len(self.messages),
            len(self.messages) - seen,
            sum(m.size_bytes for m in self.messages.values()),
            self.special_use,
            subscribed,
            b"d" * 16,
        )

    def result(self) -> r.MailboxResult:
        return r.MailboxResult(
            self.number,
            self.name,
            self.guid,
            self.uidvalidity,
            self.uidnext,
            self.highestmodseq,
            len(self.messages),
        )


class TwinService:
    """Users whose address begins with "far" are in shard 2, all others in shard 1.

    Log-ins are judged as over the cluster, but for their delays (`log_ins`).

    `hold` keeps outcomes of `submit` back until `release`; `failures` are given instead of
    executing, one each. Everybody is a user, unless `strict`: then those who were put are."""

    def __init__(self, token: str | None = None, *, strict: bool = False) -> None:
        self.token = token
        self.strict = strict
        self.watches: list[tuple[str, Watch]] = []
        self.boxes: dict[int, Box] = {}
        self.users: dict[str, str] = {}
        self.subscriptions: set[tuple[str, str]] = set()
        self.annotations = TwinAnnotations()
        self.scripts = TwinScripts()
        self.script_limits = ScriptLimits()
        self.bodies: dict[bytes, bytes] = {}
        self.known: dict[tuple[int, bytes, int], r.Result] = {}
        self.requests: list[tuple[int, bytes, int, int, c.Command]] = []
        self.executions = 0
        self.deadlines: list[float] = []
        self.failures: list[Failure] = []
        self.hold = False
        self.held: list[Callable[[], None]] = []
        self.barriers = 0
        self.clock: Callable[[], float] = time.monotonic
        self.log_ins = LogIns(self, limits=LogInLimits(delay_s=0.01, delay_max_s=0.01))
        self.scram_offer = self.log_ins.scram_offer
        self.log_in = self.log_ins.log_in
        self.enter_user = self.log_ins.enter_user
        self.leave_user = self.log_ins.leave_user
        self.in_reads = 0
        self.most_in_reads = 0

    # Service

    def submit(
        self,
        shard: int,
        request: bytes,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Callable[[r.Executed | Failure], None],
    ) -> None:
        self.deadlines.append(deadline_s)
        if self.failures:
            done(self.failures.pop(0))
            return
        self.bodies.update(blobs)
        asked = decode_request(request)
        self.requests.append((shard, asked.client, asked.seq, asked.floor, asked.command))
        key = (shard, asked.client, asked.seq)
        if key not in self.known:
            self.executions += 1
            self.known[key] = self._execute(asked.command)
        executed = r.Executed(self.known[key], shard, len(self.requests), "n1")
        if self.hold:
            self.held.append(lambda: done(executed))
        else:
            done(executed)

    def release(self) -> None:
        held, self.held = self.held, []
        for outcome in held:
            outcome()

    async def check_script(self, user: str, name: str, script: bytes, *, deadline_s: float) -> None:
        if len(script) > self.script_limits.script_bytes_max:
            raise ScriptTooLarge(f"the script has {len(script)} bytes")
        compile_script(script, name=name)

    async def put_script(
        self, user: str, name: str, script: bytes, *, deadline_s: float
    ) -> r.Executed:
        await self.check_script(user, name, script, deadline_s=deadline_s)
        limits = self.script_limits
        command = c.PutScript(user, name, script, limits.scripts_max, limits.total_bytes_max)
        return await self.execute(command, deadline_s=deadline_s)

    async def execute(
        self, command: c.Command, *, blobs: Sequence[Blob] = (), deadline_s: float
    ) -> r.Executed:
        self.bodies.update(blobs)
        return r.Executed(self._execute(command), 1, 0, "n1")

    async def cross(
        self, client: bytes, seq: int, floor: int, command: c.Copy, *, deadline_s: float
    ) -> r.Executed:
        self.requests.append((0, client, seq, floor, command))
        if self.failures:
            raise Unavailable(self.failures.pop(0))
        return r.Executed(self._execute(command), 2, len(self.requests), "n1")

    async def query(
        self, query: q.Query, *, deadline_s: float, point: q.ReadPoint | None = None
    ) -> q.Answer:
        if point is None or point.index < 0:
            self.barriers += 1
        if point is not None:
            point.reached(1, self.barriers)
        self.in_reads += 1
        self.most_in_reads = max(self.most_in_reads, self.in_reads)
        await asyncio.sleep(0)
        self.in_reads -= 1
        if self.failures:
            raise Unavailable(self.failures.pop(0))
        return self._query(query)

    def execute_soon(
        self,
        command: c.Save,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Callable[[r.Executed | Failure], None],
    ) -> None:
        self.bodies.update(blobs)
        done(r.Executed(self._execute(command), 1, 0, "n1"))

    def watch(self, user: str, wake: Callable[[], None]) -> Watch:
        watch = Watch(wake)
        self.watches.append((user, watch))
        return watch

    def shard_of(self, user: str) -> int:
        return 2 if user.startswith("far") else 1

    def quota_of(self, user: str) -> int:
        return 1000 if user.startswith("small") else 0

    # Accounts

    def authenticate(self, token: bytes) -> Principal | None:
        return Principal() if self.token is not None and token == self.token.encode() else None

    @property
    def takes_tokens(self) -> bool:
        return self.log_ins.takes_tokens

    async def hash_password(self, user: str, password: bytes) -> str:
        return make_credentials(password, scram_salt_of("", user))

    def is_known_user(self, user: str) -> bool:
        return not self.strict

    async def check_users(self, users: Iterable[str], *, deadline_s: float) -> None:
        for user in users:
            if self.strict and user not in self.users:
                raise UnknownUser(user)

    def forget_user(self, user: str) -> None:
        pass

    # Delivery

    def resolve_now(self, address: Address) -> Verdict | None:
        if self.strict and str(address) not in self.users:
            return Verdict.unknown_user()
        return Verdict.accepted()

    async def resolve(self, address: Address) -> Verdict:
        raise AssertionError("resolve_now always knows")

    def deliver_soon(
        self,
        envelope: Envelope,
        body: bytes,
        recipients: Sequence[Recipient],
        done: Callable[[Sequence[Verdict]], None],
    ) -> bool:
        return False

    async def deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient]
    ) -> Sequence[Verdict]:
        for recipient in recipients:
            message = envelope.trace.prefix(recipient.address) + body
            digest = sha256(message).digest()
            self.bodies[digest] = message
            user, at = str(recipient.address), int(envelope.received_unix_s)
            new = c.NewMessage(
                (c.Target(user, INBOX),),
                digest,
                len(message),
                digest[:16],
                at * 1_000_000,
                (),
                encode_summary(summarise(message)),
            )
            self._execute(c.Save(user, (new,), at))
        return [Verdict.delivered()] * len(recipients)

    # Operators

    async def admin(self, what: str, arguments: Mapping[str, str], deadline_s: float = 10.0) -> Any:
        if what == "fail":
            raise Unavailable(Failure("no master"))
        if what == "break":
            raise RuntimeError("a bug")
        if what != "echo":
            raise ValueError(f"there is no {what}")
        return {"what": what, "arguments": dict(arguments)}

    # What it does

    def find(self, user: str, ref: c.MailboxRef) -> Box | None:
        for box in self.boxes.values():
            if box.user == user and ref in (box.number, box.name):
                return box
        return None

    def _create(self, user: str, name: str, seed: int, guid: bytes, special: str = "") -> Box:
        number = len(self.requests) + len(self.boxes) + 1
        box = Box(number, user, name, guid, seed + number, special_use=special)
        self.boxes[number] = box
        return box

    def _execute(self, command: c.Command) -> r.Result:
        before = {number: box.info() for number, box in self.boxes.items()}
        subscribed = set(self.subscriptions)
        result = self._apply(command)
        for user, watch in self.watches:
            self._tell(user, watch, before)
        for owner in sorted({owner for owner, _ in subscribed ^ self.subscriptions}):
            for user, watch in self.watches:
                if user == owner:
                    watch.hear(MailboxesChanged(user))
        return result

    def _tell(self, user: str, watch: Watch, before: Mapping[int, q.MailboxInfo]) -> None:
        after = {number: box.info() for number, box in self.boxes.items()}
        names = [
            {(number, info.name) for number, info in infos.items() if info.user == user}
            for infos in (before, after)
        ]
        if names[0] != names[1]:
            watch.hear(MailboxesChanged(user))
        for number, info in after.items():
            if info.user == user and number in before and before[number] != info:
                watch.hear(
                    MailboxChanged(
                        user,
                        number,
                        info.uidvalidity,
                        info.uidnext,
                        info.highestmodseq,
                        info.messages,
                    )
                )

    def _apply(self, command: c.Command) -> r.Result:
        match command:
            case c.CreateMailbox(user, name, seed, guid, special, sole):
                if self.find(user, name):
                    return r.Refused(r.Code.ALREADYEXISTS, f"{name} is there")
                used = {box.special_use for box in self.boxes.values() if box.user == user}
                if sole and special and special in used:
                    return r.Refused(r.Code.CANNOT, f"another mailbox is {special}")
                return self._create(user, name, seed, guid, special).result()
            case c.MakeFirstMailboxes(user, mailboxes, seed, guid):
                if self.find(user, "INBOX") is None:
                    for name, use in (("INBOX", ""), *mailboxes):
                        self._create(user, name, seed, guid, use)
                        self.subscriptions.add((user, name))
                return r.Done()
            case c.Subscribe(user, name, on):
                (self.subscriptions.add if on else self.subscriptions.discard)((user, name))
                return r.Done()
            case c.SetAnnotations(user, ref):
                box = None if ref is None else self.find(user, ref)
                if ref is not None and box is None:
                    return r.Refused(r.Code.NONEXISTENT, f"no mailbox {ref}")
                done = self.annotations.set(command, box, self.boxes)
                for watcher, watch in self.watches:
                    if watcher == user:
                        watch.hear(MailboxesChanged(user))
                return done
            case c.PutScript() | c.DeleteScript() | c.RenameScript() | c.ActivateScript():
                return self.scripts.apply(command)
            case c.PutUser(address, hashed, replace_it):
                if (address in self.users) != replace_it:
                    return r.Refused(r.Code.ALREADYEXISTS, address)
                self.users[address] = hashed
                return r.Done()
            case c.RemoveUser(address):
                self.users.pop(address, None)
                return r.Done()
            case c.PurgeUser(user):
                self.boxes = {n: b for n, b in self.boxes.items() if b.user != user}
                self.scripts.forget(user)
                return r.Done()
            case c.Save(_, messages, seed, replaces=None):
                return self._save(messages, seed)
            case c.Save():
                return self._replace(command)
            case c.Configure() | c.CopyIn() | c.PutAppPassword() | c.DropAppPassword():
                raise NotImplementedError("no command of sessions")
            case c.SetAcl() | c.NoteSharer() | c.GuestCommand():
                raise NotImplementedError("what is shared needs a state machine")
        box = self.find(command.user, command.mailbox)
        if box is None:
            return r.Refused(r.Code.NONEXISTENT, f"no mailbox {command.mailbox}")
        match command:
            case c.DeleteMailbox():
                del self.boxes[box.number]
            case c.RenameMailbox(name=name):
                box.name = name
            case c.Copy():
                return self._copy(box, command)
            case c.Expunge(uids=uids, only_deleted=only_deleted):
                return self._expunge(box, uids, only_deleted)
            case c.Store():
                return self._store(box, command)
        return box.result()

    def _replace(self, command: c.Save) -> r.Result:
        assert command.replaces is not None
        ref, uid = command.replaces
        box = self.find(command.user, ref)
        if box is None or uid not in box.messages:
            return r.Refused(r.Code.NONEXISTENT, f"there is no UID {uid}")
        saved = self._save(command.messages, command.uidvalidity_seed)
        if isinstance(saved, r.SaveResult):
            self._expunge(box, UidSet.single(uid), False)
        return saved

    def _save(self, messages: Sequence[c.NewMessage], seed: int) -> r.Result:
        saved = []
        for message in messages:
            for target in message.targets:
                box = self.find(target.user, target.mailbox)
                if box is None and target.mailbox == "INBOX":
                    box = self._create(target.user, "INBOX", seed, b"i" * 16)
                if box is None:
                    return r.Refused(r.Code.NONEXISTENT, f"no mailbox {target.mailbox}")
                uid = self._add(box, message)
                saved.append(r.Saved(box.user, box.number, box.uidvalidity, uid, box.highestmodseq))
        return r.SaveResult(tuple(saved))

    def _add(
        self, box: Box, message: c.NewMessage | q.MessageInfo, saved_us: int | None = None
    ) -> int:
        uid = box.uidnext
        box.uidnext += 1
        box.highestmodseq += 1
        box.messages[uid] = q.MessageInfo(
            uid,
            message.guid,
            box.highestmodseq,
            message.flags,
            message.received_us,
            message.size_bytes,
            message.blob,
            message.summary,
            message.zone_minutes,
            message.saved_us if saved_us is None else saved_us,
        )
        return uid

    def _copy(self, box: Box, command: c.Copy) -> r.Result:
        target = self.find(command.target.user, command.target.mailbox)
        if target is None:
            return r.Refused(r.Code.NONEXISTENT, f"no mailbox {command.target.mailbox}")
        uids = [uid for uid in list(box.messages) if uid in command.uids]
        if command.guids and command.guids != tuple(box.messages[uid].guid for uid in uids):
            return r.Refused(r.Code.GUIDMISMATCH, "other messages than you think")
        new = [self._add(target, box.messages[uid], command.saved_us) for uid in uids]
        source = UidSet.from_uids(uids)
        if command.move:
            self._expunge(box, source, False)
        return r.CopyResult(
            target.uidvalidity,
            target.number,
            source,
            UidSet.from_uids(new),
            box.highestmodseq if command.move else 0,
            target.highestmodseq,
        )

    def _expunge(self, box: Box, uids: UidSet, only_deleted: bool) -> r.Result:
        gone = [
            uid
            for uid, message in box.messages.items()
            if uid in uids and not (only_deleted and "\\Deleted" not in message.flags)
        ]
        box.highestmodseq += bool(gone)
        for uid in gone:
            del box.messages[uid]
            box.vanished[uid] = box.highestmodseq
        return r.ExpungeResult(UidSet.from_uids(gone), box.highestmodseq)

    def _store(self, box: Box, command: c.Store) -> r.Result:
        since = command.unchanged_since
        wanted = [uid for uid in box.messages if uid in command.uids]
        rejected = [uid for uid in wanted if 0 <= since < box.messages[uid].modseq]
        changed = [uid for uid in wanted if uid not in rejected]
        box.highestmodseq += bool(changed)
        for uid in changed:
            message = box.messages[uid]
            old = () if command.mode is c.StoreMode.REPLACE else message.flags
            if command.mode is c.StoreMode.REMOVE:
                flags = tuple(flag for flag in old if flag not in command.flags)
            else:
                flags = tuple(dict.fromkeys((*old, *command.flags)))
            box.messages[uid] = replace(message, flags=flags, modseq=box.highestmodseq)
        return r.StoreResult(
            UidSet.from_uids(changed),
            UidSet.from_uids(rejected),
            box.highestmodseq if changed else 0,
            box.highestmodseq,
        )

    def _query(self, query: q.Query) -> q.Answer:
        match query:
            case q.ListMailboxes(user):
                infos = (b.info() for b in self.boxes.values() if b.user == user)
                return tuple(sorted(infos, key=lambda info: info.name))
            case q.ListSubscriptions(user):
                return tuple(sorted(name for owner, name in self.subscriptions if owner == user))
            case q.ListUsers(after, limit):
                return tuple(sorted(user for user in self.users if user > after))[:limit]
            case q.GetUsage(user):
                boxes = [box for box in self.boxes.values() if box.user == user]
                sizes = [m.size_bytes for box in boxes for m in box.messages.values()]
                return q.Usage(len(sizes), sum(sizes))
            case q.GetAnnotations(user, ref):
                box = None if ref is None else self.find(user, ref)
                return self.annotations.of(user, box)
            case q.ListAnnotations():
                return self.annotations.listed(query, self.boxes)
            case q.ListScripts() | q.GetScript() | q.ActiveScript():
                return self.scripts.answer(query)
            case q.GetDelivery():
                return None
            case q.GetUser(address):
                known = self.users.get(address)
                return None if known is None else q.UserInfo(address, known)
            case q.ListSharers():
                return ()
            case q.ListShared():
                return q.SharedMailboxes(())
            case q.GetAcl() | q.GuestQuery():
                return None
            case q.GetConfiguration() | q.MissingBodies():
                raise NotImplementedError("no query of sessions")
        box = self.find(query.user, query.mailbox)
        if box is None:
            return None
        match query:
            case q.GetMailbox():
                return box.info()
            case q.FetchBody(uid=uid):
                found = box.messages.get(uid)
                return None if found is None else self.bodies[found.blob]
            case q.FetchBodies(uids=wanted):
                there = [box.messages[uid] for uid in wanted if uid in box.messages]
                short = [(message.uid, self.bodies[message.blob]) for message in there]
                return q.MessageBodies(tuple(short[: q.TOGETHER_MAX]))
            case q.FetchColumns():
                uids = query.uids.resolve(box.uidnext - 1)
                wanted_here = [m for uid, m in box.messages.items() if uid in uids]
                found_here = wanted_here[: query.limit]
                kinds = tuple(dict.fromkeys(message.flags for message in found_here))
                return q.MessageColumns(
                    tuple(message.uid for message in found_here),
                    tuple(message.modseq for message in found_here),
                    tuple(message.size_bytes for message in found_here),
                    tuple(message.received_us for message in found_here),
                    kinds,
                    tuple(kinds.index(message.flags) for message in found_here),
                    tuple(message.summary for message in found_here) if query.summaries else (),
                    len(wanted_here) > query.limit,
                )
            case q.FetchContents():
                unseen = [m.uid for m in box.messages.values() if "\\Seen" not in m.flags]
                flags = sorted({f for m in box.messages.values() for f in m.flags})
                keywords = tuple(flag for flag in flags if flag[0] != "\\")
                uids = UidSet.from_uids(box.messages)
                first = min(unseen, default=0)
                return q.MailboxContents(box.info(), uids, keywords, first, True)
            case q.FetchVanished(since=since):
                return UidSet.from_uids(u for u, modseq in box.vanished.items() if modseq > since)
            case q.FetchMessages():
                uids = query.uids.resolve(box.uidnext - 1)
                found_all = [
                    message if query.summaries else replace(message, summary=b"")
                    for message in box.messages.values()
                    if message.uid in uids and message.modseq > query.changed_since
                ]
                page = tuple(found_all[: query.limit])
                return q.MessagePage(box.info(), page, len(found_all) > query.limit)


_WHOLE: Service = TwinService()
"""mypy sees here that the twin has all of the front door."""
