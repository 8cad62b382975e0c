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
from raftmail.mail.names import INBOX, mailbox_name, user_address
from raftmail.mail.queries import Configuration, GetConfiguration, GetUser
from raftmail.mail.results import Code, Executed, Refused, SaveResult
from raftmail.mail.service import Failure, Unavailable
from raftmail.mail.summary import encode_summary, summarise
from raftmail.shard.status import Capability

_INLINE_BYTES_MAX = 256 << 10
"""Longer messages are hashed and summarised in a thread, so that the loop stays free."""

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


@dataclass(slots=True)
class Delivery:
    """`lmtp.backend.DeliveryBackend` over the cluster. What takes longer than `deadline_s` gets 451."""

    router: Router
    deadline_s: float
    _known: dict[str, float] = field(default_factory=dict)
    """Users whom the root knew, as told to a node that has no replica of it, and until when that is believed."""
    _rooted: set[str] = field(default_factory=set)
    _rooted_at: int = 0
    _rooted_view: View | None = None
    """Users without an alias whom the own replica of the root knew when it had applied this entry, with this view; both change seldom."""

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
        address = recipients[0].address
        message = envelope.trace.prefix(address) + body
        digest, summary = _read(message)
        guid = os.urandom(16)
        self.router.execute_soon(
            self._save(envelope, address, (_user(address),), digest, len(message), summary, guid),
            ((digest, message),),
            self.deadline_s,
            lambda outcome: done([_verdict(outcome)]),
        )
        return True

    async def deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient]
    ) -> Sequence[Verdict]:
        if len(recipients) == 1:
            return [await self._deliver_to(envelope, body, recipients[0])]
        return await asyncio.gather(*[self._deliver_to(envelope, body, r) for r in recipients])

    async def _deliver_to(self, envelope: Envelope, body: bytes, recipient: Recipient) -> Verdict:
        """Save for all users that a recipient stands for: one command for those of a shard. It is delivered when all have it; else the
        sender comes again, and those who have it get it twice, which is better than not at all."""
        address = recipient.address
        message = envelope.trace.prefix(address) + body
        if len(message) > _INLINE_BYTES_MAX:
            digest, summary = await asyncio.get_running_loop().run_in_executor(None, _read, message)
        else:
            digest, summary = _read(message)
        verdict = recipient.verdict
        users = verdict.users if isinstance(verdict, Shared) else (_user(address),)
        by_shard: dict[int, list[str]] = {}
        for user in users:
            by_shard.setdefault(self.router.shard_of(user), []).append(user)
        guid = os.urandom(16)
        verdicts: list[Verdict] = []
        groups = list(by_shard.values())
        while groups:
            some = groups.pop(0)
            command = self._save(envelope, address, some, digest, len(message), summary, guid)
            try:
                executed = await self.router.execute(
                    command, blobs=((digest, message),), deadline_s=self.deadline_s
                )
            except Unavailable as e:
                verdicts.append(_later(e.failure))
                continue
            if len(some) > 1 and _is_over_quota(executed):
                groups += [[one] for one in some]  # those who have room shall get it
            else:
                verdicts.append(_verdict(executed))
        return next((verdict for verdict in verdicts if not verdict.is_positive), _DELIVERED)

    def _save(
        self,
        envelope: Envelope,
        address: Address,
        users: Sequence[str],
        digest: bytes,
        size_bytes: int,
        summary: bytes,
        guid: bytes,
    ) -> Save:
        """A message for users of one shard, all or none."""
        received_s = envelope.received_unix_s
        message = NewMessage(
            tuple([_target(user, address.detail) for user in users]),
            digest,
            size_bytes,
            guid,
            int(received_s * 1_000_000),
            (),
            summary,
        )
        quota_of = self.router.quota_of
        quotas = tuple([(user, limit) for user in users if (limit := quota_of(user))])
        return Save(users[0], (message,), int(received_s), quotas)


def _is_over_quota(executed: Executed) -> bool:
    result = executed.result
    return isinstance(result, Refused) and result.code is Code.OVERQUOTA


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


def _read(message: bytes) -> tuple[bytes, bytes]:
    return hashlib.sha256(message).digest(), encode_summary(summarise(message))


def _later(failure: Failure) -> Verdict:
    if failure.full:
        return Verdict.storage_full()
    return Verdict.try_later(_ascii(failure.text))


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:300]
