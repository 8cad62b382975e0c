"""LMTP's mail store: recipients are looked up in the root shard, messages saved in their user's shard."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from raftmail.cluster.router import Router
from raftmail.cluster.view import ROOT_SHARD
from raftmail.lmtp.address import Address
from raftmail.lmtp.backend import Envelope, Recipient, Verdict
from raftmail.mail.commands import NewMessage, Save, Target
from raftmail.mail.names import INBOX, mailbox_name, user_address
from raftmail.mail.queries import GetUser
from raftmail.mail.results import Code, Refused
from raftmail.mail.service import Failure, Unavailable
from raftmail.mail.summary import encode_summary, summarise

_INLINE_BYTES_MAX = 256 << 10
"""Longer messages are hashed and summarised in a thread, so that the loop stays free."""

KNOWN_S = 60.0
KNOWN_MAX = 100_000

_ACCEPTED = Verdict.accepted()
_DELIVERED = Verdict.delivered()
_UNKNOWN = Verdict.unknown_user()


@dataclass(slots=True)
class Delivery:
    """`lmtp.backend.DeliveryBackend` over the cluster. What takes longer than `deadline_s` gets 451."""

    router: Router
    deadline_s: float
    _known: dict[str, float] = field(default_factory=dict)
    """Users whom the root knew, as told to a node that has no replica of it, and until when that is believed."""

    def resolve_now(self, address: Address) -> Verdict | None:
        """A user whom the own replica of the root knows, or of whom the root was asked a moment ago. One that is being removed may
        still get mail for that long."""
        try:
            user = _user(address)
        except ValueError:
            return _UNKNOWN
        root = self.router.replicas.get(ROOT_SHARD)
        if root is None:
            return _ACCEPTED if self._known.get(user, 0.0) > self.router.clock() else None
        if root.recovery.unreadable or root.machine.query(GetUser(user)) is None:
            return None
        return _ACCEPTED

    async def resolve(self, address: Address) -> Verdict:
        user = _user(address)
        try:
            found = await self.router.query(GetUser(user), deadline_s=self.deadline_s)
        except Unavailable as e:
            return _later(e.failure)
        if found is None:
            return _UNKNOWN
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[user] = self.router.clock() + KNOWN_S
        return _ACCEPTED

    async def deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient]
    ) -> Sequence[Verdict]:
        if len(recipients) == 1:
            return [await self._deliver_to(envelope, body, recipients[0].address)]
        return await asyncio.gather(
            *[self._deliver_to(envelope, body, r.address) for r in recipients]
        )

    async def _deliver_to(self, envelope: Envelope, body: bytes, address: Address) -> Verdict:
        message = envelope.trace.prefix(address) + body
        if len(message) > _INLINE_BYTES_MAX:
            digest, summary = await asyncio.get_running_loop().run_in_executor(None, _read, message)
        else:
            digest, summary = _read(message)
        user = _user(address)
        command = Save(
            user,
            (
                NewMessage(
                    (_target(user, address.detail),),
                    digest,
                    len(message),
                    os.urandom(16),
                    int(envelope.received_unix_s * 1_000_000),
                    (),
                    summary,
                ),
            ),
            int(envelope.received_unix_s),
        )
        try:
            executed = await self.router.execute(
                command, blobs=((digest, message),), deadline_s=self.deadline_s
            )
        except Unavailable as e:
            return _later(e.failure)
        result = executed.result
        if isinstance(result, Refused):
            if result.code is Code.LIMIT:
                return Verdict(552, "5.2.2", _ascii(result.text))
            return Verdict.try_later(_ascii(result.text))
        return _DELIVERED


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
