"""LMTP's mail store: recipients are looked up in the root shard, messages saved in their user's
shard."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from raftmail.cluster.router import Router
from raftmail.cluster.view import ClusterView
from raftmail.mail.addresses import recipients
from raftmail.mail.commands import Blob, NewMessage, Save, Target
from raftmail.mail.delivery_key import delivery_key
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.limits import TARGETS_MAX, validate
from raftmail.mail.names import INBOX, mailbox_name
from raftmail.mail.queries import Configuration, GetConfiguration, GetUser, ReadPoint
from raftmail.mail.results import Code, Executed, Refused, Result, SaveResult
from raftmail.mail.smtp_address import Address
from raftmail.mail.summary import encode_summary, summarise
from raftmail.service.byte_semaphore import ByteSemaphore
from raftmail.service.delivery_rules import (
    AS_WITHOUT_RULES,
    DeliveryRules,
    Filed,
    Judgement,
    RuledMail,
)
from raftmail.service.verdicts import Envelope, Recipient, Verdict

LOG = logging.getLogger(__name__)

_INLINE_BYTES_MAX = 256 << 10
"""Longer messages are hashed and summarised in a thread, so that the loop stays free."""

SAVING_BYTES_MAX = 128 << 20
"""Messages that are being saved with `deliver`, counted once for each shard that they go to; one
message always may."""

_LONG_BYTES_PER_S = 4 << 20
"""A message that is saved in many shards may take longer: bodies go slowly, so that others need not
wait."""
LONGER_S_MAX = 240.0
"""With `deadline_s`, within the ten minutes that a client waits at least (RFC 5321 section
4.5.3.2.6)."""
_COMMAND_BYTES = 64 << 10
_RULED_AT_ONCE_MAX = 25
"""Users with rules that one command is for: each may have as many messages in it as a run has
actions."""
_LATE = Failure("not all recipients could be served in time")

KNOWN_S = 60.0
KNOWN_MAX = 100_000

_ACCEPTED = Verdict.accepted()
_DELIVERED = Verdict.delivered()
_UNKNOWN = Verdict.unknown_user()
_LEADS_NOWHERE = Verdict.unknown_user("This address leads to no user here")
_NO_SAVE = Verdict.try_later("The store gave an answer that is of no delivery")
_OVER_QUOTA = Verdict(552, "5.2.2", "The mailbox is over quota")
_TAKES_NO_MORE = Verdict(552, "5.2.2", "The mailbox can take no more messages")
_SOME_LATER = Verdict.try_later("Not everybody behind this address has it yet, try again later")
_NOBODY = Verdict(552, "5.2.2", "Nobody behind this address can take the message")
_TOLD = Verdict.try_later("The cluster is being changed, try again in a moment")


@dataclass(frozen=True, slots=True)
class KnownRecipient(Verdict):
    """An accepted recipient: the user, or alias, that it names, and the detail that is left of
    it."""

    named: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ExpandedRecipient(Verdict):
    """An accepted recipient that stands for other users: an alias, or an address that a domain's
    catch-all gets."""

    users: tuple[str, ...] = ()
    named: str = ""
    detail: str = ""


Place = tuple[Target, bytes]
"""Where a message goes, and the key of the delivery that it goes there by (P9)."""


@dataclass(frozen=True, slots=True)
class _Mail:
    """A message with its trace fields, as it is saved. `received` is the sha256 of what the client
    sent. `deadline` is by the router's clock."""

    envelope: Envelope
    message: bytes
    digest: bytes
    summary: bytes
    received: bytes
    deadline: float
    guid: bytes = field(default_factory=lambda: os.urandom(16))
    ruled: dict[Place, Judgement] = field(default_factory=dict)
    """What rules want, by place; who has none is not there."""


@dataclass(slots=True, repr=False)
class MailDelivery:
    """`service.DeliveryService` over the cluster. What takes longer than `deadline_s` gets 451.

    A delivery that the client repeats has its first result for `delivered_once_s` at least (P9); 0
    switches that off. Without `rules` nobody has any."""

    router: Router
    deadline_s: float
    rules: DeliveryRules | None = field(default=None, kw_only=True)
    saving_bytes_max: int = SAVING_BYTES_MAX
    delivered_once_s: int = 7 * 86_400
    _room: ByteSemaphore = field(init=False)
    _copies: ByteSemaphore = field(init=False)
    """Long messages with their trace fields before them, each once."""
    _known: dict[str, float] = field(default_factory=dict)
    """Users whom the root knew, as told to a node that has no replica of it, and until when that is
    believed."""

    def __post_init__(self) -> None:
        self._room = ByteSemaphore(self.saving_bytes_max)
        self._copies = ByteSemaphore(self.saving_bytes_max)

    def resolve_now(self, address: Address) -> Verdict | None:
        """A user whom the own replica of the root knows, or of whom the root was asked a moment
        ago. One that is being removed may still get mail for that long."""
        names = _names(address)
        if not names:
            return _UNKNOWN
        view = self.router.view
        root = self.router.root
        if not root.is_here:
            user, detail = names[0]
            if tuple(view.delivered_to(user)) != (user,):
                return None  # an alias
            known = self._known.get(user, 0.0) > self.router.clock()
            return _found(user, detail) if known else None
        if not root.can_be_read:
            return None
        if len(names) > 1 and not root.hears_leader:
            return None  # whom the first name is of may be younger than what is known here
        for user, detail in names:
            if tuple(view.delivered_to(user)) != (user,):
                return None
            if root.knows(user):
                return _found(user, detail)
        return None

    async def resolve(self, address: Address) -> Verdict:
        """The verdict carries the users that the mail goes to, where that is not the recipient
        alone."""
        names = _names(address)
        if not names:
            return _UNKNOWN
        view = self.router.view
        users: tuple[str, ...] = ()
        try:
            for name in names:
                user, detail = name
                to = tuple(view.delivered_to(user))
                users = await self._existing(to)
                if users or to != (user,):
                    break
            if not users and (other := _catch_all(view, names)):
                users = await self._existing(view.delivered_to(other))
            if not users and not await self._is_newest(view.revision):
                return _TOLD
        except Unavailable as e:
            return _later(e.failure)
        if not users:
            return _UNKNOWN if to == (user,) else _LEADS_NOWHERE
        if users != (user,):
            return ExpandedRecipient(
                _ACCEPTED.code, _ACCEPTED.enhanced, _ACCEPTED.text, users, user, detail
            )
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[user] = self.router.clock() + KNOWN_S
        return _found(user, detail)

    async def _is_newest(self, revision: int) -> bool:
        """Whether the root has nothing newer than a revision, so that an alias that is not known
        here is none. Raises `Unavailable`."""
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
        if isinstance(recipients[0].verdict, ExpandedRecipient):
            return False
        rules = self.rules
        if rules is not None and not rules.known.has_none(_name_of(recipients[0])[0]):
            return False
        mail = _Mail(envelope, *_joined(envelope.trace.prefix(recipients[0].address), body), 0.0)
        self.router.execute_soon(
            self._command(mail, _places_of(mail, recipients[0])),
            ((mail.digest, mail.message),),
            self.deadline_s,
            lambda outcome: done([_verdict(outcome)]),
        )
        return True

    async def deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient]
    ) -> Sequence[Verdict]:
        """One body for all recipients: with Delivered-To for one recipient, without it for several.
        It is saved shard by shard, as many at once as `SAVING_BYTES_MAX` allows."""
        deadline = self.router.clock() + self.deadline_s
        if len(body) <= _INLINE_BYTES_MAX:  # short ones do not wait for long ones
            return await self._deliver(envelope, body, recipients, deadline)
        async with self._copies.taken(len(body)):
            return await self._deliver(envelope, body, recipients, deadline)

    async def _deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient], deadline: float
    ) -> Sequence[Verdict]:
        address = recipients[0].address if len(recipients) == 1 else None
        prefix = envelope.trace.prefix(address)
        size = len(prefix) + len(body)
        if size > _INLINE_BYTES_MAX:
            loop = asyncio.get_running_loop()
            joined = await loop.run_in_executor(None, _joined, prefix, body)
        else:
            joined = _joined(prefix, body)
        mail = _Mail(envelope, *joined, deadline)
        places = [_places_of(mail, recipient) for recipient in recipients]
        verdicts = await self._judge(mail, recipients, places)
        groups = self._groups(mail, places, verdicts)
        if size > _INLINE_BYTES_MAX:
            longer_s = min(size * len(groups) / _LONG_BYTES_PER_S, LONGER_S_MAX)
            mail = replace(mail, deadline=deadline + longer_s)
        verdicts.update(await self._save_all(mail, groups))
        return [
            _of_recipient(recipient, [(place[0].user, verdicts[place]) for place in own])
            for recipient, own in zip(recipients, places, strict=True)
        ]

    async def _judge(
        self, mail: _Mail, recipients: Sequence[Recipient], places: Sequence[list[Place]]
    ) -> dict[Place, Verdict]:
        """Ask the rules of all users that have some: what they want is in `_Mail.ruled` then. The
        verdicts are those about places that the message is not saved in."""
        verdicts: dict[Place, Verdict] = {}
        rules = self.rules
        if rules is None:
            return verdicts
        asked: dict[Place, Recipient] = {}
        for recipient, own in zip(recipients, places, strict=True):
            for place in own:
                if place not in asked and not rules.known.has_none(place[0].user):
                    asked[place] = recipient

        async def judge(place: Place, recipient: Recipient) -> None:
            user, point = place[0].user, ReadPoint()
            try:
                left_s = mail.deadline - self.router.clock()
                compiled = await rules.known.of(user, point, left_s)
                if compiled is None:
                    return
                ruled = self._ruled_mail(mail, place, recipient)
                judged = await rules.judge(compiled, ruled, point)
            except Unavailable as e:
                verdicts[place] = _later(e.failure)
                return
            mail.ruled[place] = judged
            if not judged.files:
                verdicts[place] = judged.rejection or _DELIVERED
            elif not self._is_possible(mail, place):
                self._without_rules(mail, place, "it wants more than one message may have")

        if asked:
            await asyncio.gather(*[judge(*one) for one in asked.items()])
        return verdicts

    def _ruled_mail(self, mail: _Mail, place: Place, recipient: Recipient) -> RuledMail:
        own = {place[0].user, _name_of(recipient)[0]}
        return RuledMail(
            place[0].user,
            mail.message,
            mail.envelope.sender,
            recipient.address,
            frozenset([one.encode() for one in own]),
            int(mail.envelope.received_unix_s),
            place[1] if self.delivered_once_s else b"",
            mail.deadline,
        )

    def _is_possible(self, mail: _Mail, place: Place) -> bool:
        """Whether what rules want can be asked of a shard."""
        try:
            validate(self._command(mail, [place]))
        except ValueError:
            return False
        return True

    def _without_rules(self, mail: _Mail, place: Place, why: str) -> None:
        """The message goes where it would go without rules."""
        assert self.rules is not None
        self.rules.note_failure(place[0].user, why)
        mail.ruled[place] = AS_WITHOUT_RULES

    def _may_go_without_rules(self, mail: _Mail, place: Place, result: Result) -> bool:
        """Whether a message that was refused as rules want it is to be tried as without any."""
        judged = mail.ruled.get(place)
        if not isinstance(result, Refused) or result.code is Code.OVERQUOTA:
            return False
        if judged is None or judged is AS_WITHOUT_RULES:
            return False
        self._without_rules(mail, place, result.text)
        return True

    def _groups(
        self, mail: _Mail, places: Sequence[list[Place]], decided: Container[Place]
    ) -> list[list[Place]]:
        """Where a message goes, each once: what is in one shard together, as many as one command
        may name. What is decided already is left out."""
        by_shard: dict[int, dict[Place, None]] = {}
        for own in places:
            for place in own:
                if place not in decided:
                    by_shard.setdefault(self.router.shard_of(place[0].user), {})[place] = None
        groups: list[list[Place]] = []
        for found in by_shard.values():
            all_ = list(found)
            ruled = any(place in mail.ruled for place in all_)
            most = _RULED_AT_ONCE_MAX if ruled else TARGETS_MAX
            groups += [all_[n : n + most] for n in range(0, len(all_), most)]
        return groups

    async def _save_all(self, mail: _Mail, groups: Sequence[list[Place]]) -> dict[Place, Verdict]:
        """What became of each place."""
        verdicts: dict[Place, Verdict] = {}

        async def save(group: list[Place]) -> None:
            size = len(mail.message) + _COMMAND_BYTES
            if size <= _INLINE_BYTES_MAX:
                await self._save_group(mail, group, verdicts)
                return
            async with self._room.taken(size):
                await self._save_group(mail, group, verdicts)

        await asyncio.gather(*map(save, groups))
        return verdicts

    async def _save_group(
        self, mail: _Mail, group: list[Place], verdicts: dict[Place, Verdict]
    ) -> None:
        """Save for places in one shard, with one command if none of them is refused.

        Else it is done half by half, so that those who can get it do. The shard's master has the
        body after the first command.
        """
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
            elif self._may_go_without_rules(mail, some[0], executed.result):
                waiting.append(some)
                blobs = ()
            else:
                verdicts.update(dict.fromkeys(some, _verdict(executed)))

    def _command(self, mail: _Mail, places: Sequence[Place]) -> Save:
        """A message for mailboxes of one shard, all or none."""
        received_s = mail.envelope.received_unix_s
        message = NewMessage(
            tuple([target for target, _ in places]),
            mail.digest,
            len(mail.message),
            mail.guid,
            int(received_s * 1_000_000),
            (),
            mail.summary,
            tuple([key for _, key in places]) if self.delivered_once_s else (),
        )
        messages = (message,) if not mail.ruled else self._by_rules(mail, message, places)
        quota_of = self.router.quota_of
        users = dict.fromkeys(target.user for target, _ in places)
        quotas = tuple([(user, limit) for user in users if (limit := quota_of(user))])
        first = places[0][0].user
        return Save(first, messages, int(received_s), quotas, self.delivered_once_s)

    def _by_rules(
        self, mail: _Mail, message: NewMessage, places: Sequence[Place]
    ) -> tuple[NewMessage, ...]:
        """One message for all who have no rules, and for each of the others as many as the rules
        want. Those of one user have the same key, so that they are one delivery (P9)."""
        plain = [place for place in places if place not in mail.ruled]
        once = self.delivered_once_s
        messages = []
        if plain:
            keys = tuple([key for _, key in plain]) if once else ()
            targets = tuple([target for target, _ in plain])
            messages.append(replace(message, targets=targets, delivery_keys=keys))
        for place in places:
            judged = mail.ruled.get(place)
            files, marks = ((), ()) if judged is None else (judged.files, judged.seen_keys)
            for at, filed in enumerate(files):
                messages.append(
                    replace(
                        message,
                        targets=(_filed_in(place[0], filed),),
                        flags=filed.flags,
                        delivery_keys=(place[1],) if once else (),
                        is_further=bool(at),
                        marks=marks if once and not at else (),
                    )
                )
        return tuple(messages)


def _of_recipient(recipient: Recipient, told: Sequence[tuple[str, Verdict]]) -> Verdict:
    """The verdict about a recipient, by the verdicts about the users that it stands for. Where it
    stands for others, it is in words that tell nothing of any of them.

    Who comes again does no harm (P9): so it is 451 while one may get it later. Once all others have
    it, those who cannot get it are no reason for a bounce."""
    if not isinstance(recipient.verdict, ExpandedRecipient):
        return told[0][1]
    later = {one.code for _, one in told if not one.is_positive and one.code < 500}
    if later:
        return Verdict.storage_full() if later == {452} else _SOME_LATER
    without = [user for user, verdict in told if not verdict.is_positive]
    if len(without) == len(told):
        return _NOBODY
    if without:
        LOG.warning(
            "mail for %s reached %d of %d users; not %s, who can take no more",
            recipient.address,
            len(told) - len(without),
            len(told),
            ", ".join(without[:10]) + (", …" if len(without) > 10 else ""),
        )
    return _DELIVERED


def _verdict(outcome: Executed | Failure) -> Verdict:
    if isinstance(outcome, Failure):
        return _later(outcome)
    result = outcome.result
    if isinstance(result, Refused):
        if result.code is Code.OVERQUOTA:
            return _OVER_QUOTA
        if result.code is Code.LIMIT:
            return _TAKES_NO_MORE
        return Verdict.try_later(_ascii(result.text))
    return _DELIVERED if isinstance(result, SaveResult) else _NO_SAVE


@lru_cache(maxsize=65536)
def _names(address: Address) -> tuple[tuple[str, str], ...]:
    """The accounts that a recipient may stand for, the first that exists, each with what is left as
    the detail."""
    return tuple(recipients(address.local, address.domain, address.separator))


def _found(user: str, detail: str) -> KnownRecipient:
    return KnownRecipient(_ACCEPTED.code, _ACCEPTED.enhanced, _ACCEPTED.text, user, detail)


def _catch_all(view: ClusterView, names: Sequence[tuple[str, str]]) -> str:
    return next((other for user, _ in names if (other := view.catch_all(user))), "")


def _target(user: str, detail: str) -> Target:
    if detail:
        try:
            return Target(user, mailbox_name(detail), or_inbox=True)
        except ValueError:
            pass  # no mailbox can have that name, so none exists
    return Target(user, INBOX)


def _filed_in(without: Target, filed: Filed) -> Target:
    """A mailbox that is gone by now is no reason to lose mail."""
    return Target(without.user, filed.mailbox, or_inbox=True) if filed.mailbox else without


def _name_of(recipient: Recipient) -> tuple[str, str]:
    """The user, or alias, that a recipient names, and the detail that is left."""
    verdict = recipient.verdict
    # Who accepted it said which of the names is meant; else it is the one without the detail.
    if isinstance(verdict, KnownRecipient | ExpandedRecipient) and verdict.named:
        return verdict.named, verdict.detail
    return _names(recipient.address)[-1]


def _places_of(mail: _Mail, recipient: Recipient) -> list[Place]:
    """The mailboxes of the users that a recipient stands for, each with the recipient's key."""
    verdict = recipient.verdict
    named, detail = _name_of(recipient)
    sender = mail.envelope.sender
    from_ = None if sender is None else str(sender)
    key = delivery_key(named, detail, from_, mail.received)
    users = verdict.users if isinstance(verdict, ExpandedRecipient) else (named,)
    return [(_target(user, detail), key) for user in users]


def _joined(prefix: bytes, body: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """The message, its sha256, its summary, and the sha256 of what the client sent of it."""
    message = prefix + body
    digest = hashlib.sha256(message).digest()
    return message, digest, encode_summary(summarise(message)), hashlib.sha256(body).digest()


def _later(failure: Failure) -> Verdict:
    if failure.full:
        return Verdict.storage_full()
    return Verdict.try_later(_ascii(failure.text))


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:300]
