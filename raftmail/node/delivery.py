"""LMTP's mail store: recipients are looked up in the root shard, messages saved in their user's shard."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from raftmail.cluster.router import Router
from raftmail.cluster.view import ROOT_SHARD, View
from raftmail.lmtp.address import Address
from raftmail.lmtp.backend import Envelope, Recipient, Verdict
from raftmail.mail.commands import NewMessage, Save, Target
from raftmail.mail.limits import TARGETS_MAX
from raftmail.mail.names import INBOX, mailbox_name, user_address
from raftmail.mail.queries import Configuration, GetConfiguration, GetUser
from raftmail.mail.results import Code, Executed, Refused, SaveResult
from raftmail.mail.service import Blob, Failure, Unavailable
from raftmail.mail.summary import encode_summary, summarise
from raftmail.node.room import Room
from raftmail.shard.status import Capability

_INLINE_BYTES_MAX = 256 << 10
"""Longer messages are hashed and summarised in a thread, so that the loop stays free."""

SAVING_BYTES_MAX = 128 << 20
"""Messages that are being saved with `deliver`, counted once for each shard that they go to; one message always may."""

_COMMAND_BYTES = 64 << 10
_LATE = Failure("not all recipients could be served in time")

KNOWN_S = 60.0
KNOWN_MAX = 100_000

_ACCEPTED = Verdict.accepted()
_DELIVERED = Verdict.delivered()
_UNKNOWN = Verdict.unknown_user()
_LEADS_NOWHERE = Verdict.unknown_user("This address leads to no user here")
_NO_SAVE = Verdict.try_later("The store gave an answer that is of no delivery")
_TOLD = Verdict.try_later("The cluster is being changed, try again in a moment")


@dataclass(frozen=True, slots=True)
class Shared(Verdict):
    """An accepted recipient that stands for other users: an alias, or an address that a domain's catch-all gets."""

    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Mail:
    """A message with its trace fields, as it is saved. `deadline` is by the router's clock."""

    envelope: Envelope
    message: bytes
    digest: bytes
    summary: bytes
    guid: bytes
    deadline: float


@dataclass(slots=True, repr=False)
class Delivery:
    """`lmtp.backend.DeliveryBackend` over the cluster. What takes longer than `deadline_s` gets 451."""

    router: Router
    deadline_s: float
    saving_bytes_max: int = SAVING_BYTES_MAX
    _room: Room = field(init=False)
    _known: dict[str, float] = field(default_factory=dict)
    """Users whom the root knew, as told to a node that has no replica of it, and until when that is believed."""
    _rooted: set[str] = field(default_factory=set)
    _rooted_at: int = 0
    _rooted_view: View | None = None
    """Users without an alias whom the own replica of the root knew when it had applied this entry, with this view; both change seldom."""

    def __post_init__(self) -> None:
        self._room = Room(self.saving_bytes_max)

    def resolve_now(self, address: Address) -> Verdict | None:
        """A user whom the own replica of the root knows, or of whom the root was asked a moment ago. One that is being removed may
        still get mail for that long."""
        try:
            user = _user(address)
        except ValueError:
            return _UNKNOWN
        view = self.router.view
        root = self.router.replicas.get(ROOT_SHARD)
        if root is None:
            if tuple(view.delivered_to(user)) != (user,):
                return None  # an alias
            return _ACCEPTED if self._known.get(user, 0.0) > self.router.clock() else None
        machine = root.machine
        if not root.may(Capability.READ):
            return None
        if self._rooted_at != machine.applied_index or self._rooted_view is not view:
            self._rooted_at = machine.applied_index
            self._rooted_view = view
            self._rooted.clear()
        if user not in self._rooted:
            if tuple(view.delivered_to(user)) != (user,):
                return None
            if machine.query(GetUser(user)) is None:
                return None
            if len(self._rooted) >= KNOWN_MAX:
                self._rooted.clear()
            self._rooted.add(user)
        return _ACCEPTED

    async def resolve(self, address: Address) -> Verdict:
        """The verdict carries the users that the mail goes to, where that is not the recipient alone."""
        user = _user(address)
        view = self.router.view
        try:
            users = await self._existing(view.delivered_to(user))
            if not users and (other := view.catch_all(user)):
                users = await self._existing(view.delivered_to(other))
            if not users and not await self._is_newest(view.revision):
                return _TOLD
        except Unavailable as e:
            return _later(e.failure)
        if not users:
            return _UNKNOWN if tuple(view.delivered_to(user)) == (user,) else _LEADS_NOWHERE
        if users != (user,):
            return Shared(_ACCEPTED.code, _ACCEPTED.enhanced, _ACCEPTED.text, users)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[user] = self.router.clock() + KNOWN_S
        return _ACCEPTED

    async def _is_newest(self, revision: int) -> bool:
        """Whether the root has nothing newer than a revision, so that an alias that is not known here is none. Raises `Unavailable`."""
        query = GetConfiguration(revision)
        answer = await self.router.query(query, deadline_s=self.deadline_s)
        return isinstance(answer, Configuration) and not answer.more and answer.revision <= revision

    async def _existing(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Those of the addresses that users have. Raises `Unavailable`."""
        found = await asyncio.gather(
            *[self.router.query(GetUser(one), deadline_s=self.deadline_s) for one in addresses]
        )
        return tuple(one for one, known in zip(addresses, found, strict=True) if known is not None)

    def deliver_soon(
        self,
        envelope: Envelope,
        body: bytes,
        recipients: Sequence[Recipient],
        done: Callable[[Sequence[Verdict]], None],
    ) -> bool:
        if len(recipients) != 1 or len(body) > _INLINE_BYTES_MAX:
            return False
        if isinstance(recipients[0].verdict, Shared):
            return False
        message, digest, summary = _joined(envelope.trace.prefix(recipients[0].address), body)
        mail = _Mail(envelope, message, digest, summary, os.urandom(16), 0.0)
        self.router.execute_soon(
            self._command(mail, _targets_of(recipients[0])),
            ((digest, message),),
            self.deadline_s,
            lambda outcome: done([_verdict(outcome)]),
        )
        return True

    async def deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient]
    ) -> Sequence[Verdict]:
        """One body for all recipients: with Delivered-To for one recipient, without it for several. It is saved shard by shard, as many at
        once as `SAVING_BYTES_MAX` allows."""
        address = recipients[0].address if len(recipients) == 1 else None
        prefix = envelope.trace.prefix(address)
        deadline = self.router.clock() + self.deadline_s
        size = len(prefix) + len(body)
        if size > _INLINE_BYTES_MAX:
            loop = asyncio.get_running_loop()
            message, digest, summary = await loop.run_in_executor(None, _joined, prefix, body)
        else:
            message, digest, summary = _joined(prefix, body)
        mail = _Mail(envelope, message, digest, summary, os.urandom(16), deadline)
        saved = await self._save_all(mail, self._targets(recipients))
        verdicts = []
        for recipient in recipients:
            told = [saved[target] for target in _targets_of(recipient)]
            verdicts.append(next((one for one in told if not one.is_positive), _DELIVERED))
        return verdicts

    def _targets(self, recipients: Sequence[Recipient]) -> list[list[Target]]:
        """The mailboxes that a message goes to, each once: those of a shard together, as many as one command may name."""
        by_shard: dict[int, dict[Target, None]] = {}
        for recipient in recipients:
            for target in _targets_of(recipient):
                by_shard.setdefault(self.router.shard_of(target.user), {})[target] = None
        groups: list[list[Target]] = []
        for found in by_shard.values():
            targets = list(found)
            groups += [targets[n : n + TARGETS_MAX] for n in range(0, len(targets), TARGETS_MAX)]
        return groups

    async def _save_all(self, mail: _Mail, groups: Sequence[list[Target]]) -> dict[Target, Verdict]:
        """What became of each target."""
        verdicts: dict[Target, Verdict] = {}

        async def save(group: list[Target]) -> None:
            size = len(mail.message) + _COMMAND_BYTES
            async with self._room.taken(size):
                await self._save_group(mail, group, verdicts)

        await asyncio.gather(*map(save, groups))
        return verdicts

    async def _save_group(
        self, mail: _Mail, group: list[Target], verdicts: dict[Target, Verdict]
    ) -> None:
        """Save for targets of one shard, with one command if none of them is refused; else half by half, so that those who can get it do.
        The shard's master has the body after the first command."""
        waiting = [group]
        blobs: Sequence[Blob] = ((mail.digest, mail.message),)
        while waiting:
            some = waiting.pop()
            left_s = mail.deadline - self.router.clock()
            try:
                if left_s <= 0:
                    raise Unavailable(_LATE)
                command = self._command(mail, some)
                executed = await self.router.execute(command, blobs=blobs, deadline_s=left_s)
            except Unavailable as e:
                if e.failure.final and not blobs:
                    blobs = ((mail.digest, mail.message),)  # nobody needed it, and it is gone
                    waiting.append(some)
                else:
                    verdicts.update(dict.fromkeys(some, _later(e.failure)))
                continue
            if isinstance(executed.result, Refused) and len(some) > 1:
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
                blobs = ()
            else:
                verdicts.update(dict.fromkeys(some, _verdict(executed)))

    def _command(self, mail: _Mail, targets: Sequence[Target]) -> Save:
        """A message for mailboxes of one shard, all or none."""
        received_s = mail.envelope.received_unix_s
        message = NewMessage(
            tuple(targets),
            mail.digest,
            len(mail.message),
            mail.guid,
            int(received_s * 1_000_000),
            (),
            mail.summary,
        )
        quota_of = self.router.quota_of
        users = dict.fromkeys(target.user for target in targets)
        quotas = tuple([(user, limit) for user in users if (limit := quota_of(user))])
        return Save(targets[0].user, (message,), int(received_s), quotas)


def _verdict(outcome: Executed | Failure) -> Verdict:
    if isinstance(outcome, Failure):
        return _later(outcome)
    result = outcome.result
    if isinstance(result, Refused):
        if result.code in (Code.LIMIT, Code.OVERQUOTA):
            return Verdict(552, "5.2.2", _ascii(result.text))
        return Verdict.try_later(_ascii(result.text))
    return _DELIVERED if isinstance(result, SaveResult) else _NO_SAVE


def _user(address: Address) -> str:
    """The account of an address. Raises ValueError when there can be none."""
    return _normal(address.key)


_normal = lru_cache(maxsize=65536)(user_address)


def _target(user: str, detail: str) -> Target:
    if detail:
        try:
            return Target(user, mailbox_name(detail), or_inbox=True)
        except ValueError:
            pass  # no mailbox can have that name, so none exists
    return Target(user, INBOX)


def _targets_of(recipient: Recipient) -> list[Target]:
    """The mailboxes of the users that a recipient stands for."""
    verdict = recipient.verdict
    address = recipient.address
    users = verdict.users if isinstance(verdict, Shared) else (_user(address),)
    return [_target(user, address.detail) for user in users]


def _joined(prefix: bytes, body: bytes) -> tuple[bytes, bytes, bytes]:
    """The message, its sha256 and its summary."""
    message = prefix + body
    return message, hashlib.sha256(message).digest(), encode_summary(summarise(message))


def _later(failure: Failure) -> Verdict:
    if failure.full:
        return Verdict.storage_full()
    return Verdict.try_later(_ascii(failure.text))


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:300]
