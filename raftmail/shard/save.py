"""SAVE: new messages, all or none; also those that come from another shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from typing import Any, NamedTuple, cast
from zlib import crc32

from raftmail.mail.arrivals import Arrival
from raftmail.mail.codec import MESSAGE_FIELDS, command_of
from raftmail.mail.codec_results import COPIED, SAVED
from raftmail.mail.commands import CopyIn
from raftmail.mail.limits import (
    DELIVERED_ONCE_S_MAX,
    DELIVERY_KEY_BYTES,
    DIGEST_BYTES,
    GUID_BYTES,
    MARKS_MAX,
    MESSAGES_MAX,
    NUMBER_MAX,
    RECEIVED_US_MAX,
    SAVED_MAX,
    SIZE_BYTES_MAX,
    SUMMARY_BYTES_MAX,
    TARGETS_MAX,
    UIDVALIDITY_MAX,
    ZONE_MINUTES_MAX,
)
from raftmail.mail.names import quoted
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.mail.uidset import UID_MAX, UidSet
from raftmail.shard.state import Refusal, State, bad, masked
from raftmail.storage.dates import MessageDates, dates_to_keep
from raftmail.storage.delivered import Place
from raftmail.storage.records import FIXED, MESSAGE_KEY, MailboxRecord


class _Item(NamedTuple):
    """One message that is to be written for one target. `at` is its place in the result; `key` its
    delivery key, b"" when it has none."""

    at: int
    mailbox: MailboxRecord | None
    owner: str
    system: int
    keywords: tuple[str, ...]
    received_us: int
    fixed: bytes
    summary: bytes
    key: bytes
    dates: MessageDates | None
    marks: tuple[bytes, ...]


class _Draft:
    """What a Save is going to do. `saved` has an item for each message and target: the first result
    of what is known, the place of the same one in the plan, or None for what is to be written.
    `planned` are places in `saved` by user and key, unless there `is_single` target only. `counts`
    tell of each body how many messages more have it. `replaced` is the message that goes, with its
    mailbox."""

    __slots__ = (
        "counts",
        "is_single",
        "plan",
        "planned",
        "replaced",
        "saved",
        "with_keywords",
    )

    def __init__(self, messages: Raw) -> None:
        self.is_single = len(messages) == 1
        self.saved: list[Any] = []
        self.plan: list[_Item] = []
        self.planned: dict[tuple[str, bytes], int] = {}
        self.counts: list[tuple[bytes, int, int]] = []
        self.with_keywords = False
        self.replaced: tuple[MailboxRecord, Raw] | None = None


class SaveCommand:
    """Carries out `Save` requests as they come from msgpack: first everything is checked and every
    target found, then everything is written.

    A target whose user has the message under the same delivery key (P9) is left out of all this: it
    has its first result."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._delivered = state.index.delivered
        self.arrivals: list[Arrival] | None = None
        """What was saved, for who takes it; None: nobody does."""

    def execute(self, raw: Raw, blobs: Set[bytes]) -> Raw:
        """The result. `blobs` are the bodies that the entry says the replicas hold. Raises
        `Refusal`."""
        return self._execute(raw, blobs, self.arrivals)

    def _execute(self, raw: Raw, blobs: Set[bytes], arrivals: list[Arrival] | None) -> Raw:
        messages, seed, quotas, once_s, replaces = _head_of(raw)
        draft = _Draft(messages)
        if replaces is not None:
            draft.replaced = self._find_replaced(raw, *replaces)
        for message in messages:
            self._plan(raw, message, once_s, blobs, draft)
        if len(draft.saved) > SAVED_MAX:
            bad(raw)
        if draft.with_keywords:
            _check_keywords(draft.plan)
        if quotas:
            more = Counter[str]()
            for item in draft.plan:
                more[item.owner] += FIXED.unpack(item.fixed)[1]
            freed = 0 if draft.replaced is None else FIXED.unpack(draft.replaced[1][5])[1]
            for owner, quota_bytes in quotas:
                net = more[owner] - (freed if owner == raw[4] else 0)
                if owner in more and (net > 0 or not freed):
                    self._state.check_quota(owner, net, quota_bytes)
        return self._write(draft, seed, once_s, arrivals)

    def _plan(self, raw: Raw, message: Any, once_s: int, blobs: Set[bytes], draft: _Draft) -> None:
        """Check a message, and plan what is to be done about it."""
        saved, plan = draft.saved, draft.plan
        state = self._state
        first = len(saved)
        fields = len(message) if type(message) is tuple else 0
        if fields not in MESSAGE_FIELDS:
            bad(raw)
        targets, blob, size_bytes, guid, received_us, flags, summary = message[:7]
        keys = message[7] if fields > 7 else ()
        dates = None
        is_further, marks = message[10:] if fields > 10 else (False, ())
        parsed = state.parsed_flags(flags)
        if (
            parsed is None
            or not _are_fields(targets, blob, size_bytes, guid, received_us, summary)
            or (keys != () and not (once_s and _are_keys(keys, len(targets))))
        ):
            bad(raw)
        if fields > 8:
            if not _are_dates(*message[8:10]):
                bad(raw)
            dates = dates_to_keep(received_us, *message[8:10])
            if type(is_further) is not bool or not _are_marks(marks, keys):
                bad(raw)
        if blob not in blobs:
            raise Refusal(Code.BAD, "the entry does not name the message's body")
        fixed = FIXED.pack(received_us, size_bytes, guid, blob, crc32(summary))
        system, keywords = parsed
        rest = dates, marks
        before = len(plan)
        if len(targets) > 1:
            draft.is_single = False
        for target in targets:
            if type(target) is not tuple or len(target) != 3:
                bad(raw)
            owner, ref, or_inbox = target
            kind = type(ref)
            if (
                type(owner) is not str
                or (kind is not str and kind is not int)
                or type(or_inbox) is not bool
            ):
                bad(raw)
            at = len(saved)
            key = b""
            if keys:
                key = keys[at - first]
                known = self._known(owner, key, at, draft)
                if is_further:
                    known, key = _of_further(known), b""
                if known is not None:
                    saved.append(known)
                    continue
            refs = state.refs.get(owner)
            mailbox = refs.get(ref) if refs is not None else None
            if mailbox is None:
                mailbox = state.destination(owner, ref, or_inbox)
            if mailbox is not None and mailbox.uidnext > UID_MAX - SAVED_MAX:
                raise Refusal(Code.LIMIT, f"the UIDs of mailbox {quoted(mailbox.name)} are used up")
            saved.append(None)
            plan.append(
                _Item(at, mailbox, owner, system, keywords, received_us, fixed, summary, key, *rest)
            )
        draft.counts.append((blob, size_bytes, len(plan) - before))
        if keywords:
            draft.with_keywords = True

    def _find_replaced(self, raw: Raw, ref: Any, uid: Any) -> tuple[MailboxRecord, Raw]:
        """The message that is to go. Raises `Refusal`."""
        kind = type(ref)
        if (kind is not str and kind is not int) or type(uid) is not int or not 0 < uid <= UID_MAX:
            bad(raw)
        mailbox = self._state.must_find(raw[4], ref)
        fields = self._state.index.messages.message(mailbox, uid)
        if fields is None:
            raise Refusal(Code.NONEXISTENT, f"mailbox {quoted(mailbox.name)} has no UID {uid}")
        return mailbox, fields

    def _remove_replaced(
        self, mailbox: MailboxRecord, fields: Raw, stamped: dict[int, int]
    ) -> None:
        """In the same step of the mailbox's modseq, if it makes one already."""
        index = self._state.index
        messages = index.messages
        messages.settle()
        fixed = FIXED.unpack(fields[5])
        messages.remove(mailbox, MESSAGE_KEY.pack(mailbox.number, fields[0]), fields)
        messages.refer(fixed[3], fixed[1], -1)
        modseq = stamped.get(mailbox.number, 0)
        if not modseq:
            modseq = mailbox.highestmodseq = mailbox.highestmodseq + 1
        messages.log_expunge(mailbox, modseq, UidSet.single(fields[0]))
        index.mailboxes.touch(mailbox)
        self._state.rows_changed += 1

    def _known(self, owner: str, key: bytes, at: int, draft: _Draft) -> Raw | int | None:
        """What is known of a delivery: its first result, or the place of the same one in the plan.
        If nothing is, it is going to be planned with the place `at`."""
        place = self._delivered.find(owner, key)
        if place is not None:
            return (owner, *place)
        if draft.is_single:
            return None
        planned = draft.planned.setdefault((owner, key), at)
        return None if planned == at else planned

    def copy_in(self, raw: Raw, blobs: Set[bytes]) -> Raw:
        """The result of a `CopyIn`. Raises `Refusal`, CodecError."""
        command = command_of(raw)
        if not isinstance(command, CopyIn):
            bad(raw)
        if command.refused_code:
            raise Refusal(Code(command.refused_code), command.refused_text)
        if command.messages:
            quota_bytes = command.quota_bytes
            limited = (((command.user, quota_bytes),),) if quota_bytes else ()
            _, saved = self._execute((*raw[:7], *limited), blobs, None)
            uids = UidSet.from_uids(one[3] for one in saved)
            _, number, uidvalidity, _, modseq = saved[0]
            source = command.source_uids.to_wire()
            return (COPIED, uidvalidity, number, source, uids.to_wire(), 0, modseq)
        to = command.target
        mailbox = self._state.destination(to.user, to.mailbox, to.or_inbox)
        if mailbox is None:
            mailbox = self._state.make_inbox(to.user, command.uidvalidity_seed)
        return (COPIED, mailbox.uidvalidity, mailbox.number, (), (), 0, 0)

    def _write(self, draft: _Draft, seed: int, once_s: int, arrivals: list[Arrival] | None) -> Raw:
        saved, plan = draft.saved, draft.plan
        state = self._state
        index = state.index
        messages = index.messages
        stamped: dict[int, int] = {}
        seen: list[tuple[str, bytes, Place, int]] = []
        for item in plan:
            at, mailbox, owner, system, keywords, received_us, fixed, summary, key, dates, marks = (
                item
            )
            if mailbox is None:
                mailbox = state.make_inbox(owner, seed)
            mask = 0
            if keywords:
                mask, missing = masked(mailbox, keywords, add=True)
                mailbox.add_keywords(missing)
            number = mailbox.number
            modseq = stamped.get(number, 0)
            if not modseq:
                modseq = stamped[number] = mailbox.highestmodseq = mailbox.highestmodseq + 1
                index.mailboxes.touch(mailbox)
            uid = messages.add(mailbox, modseq, system, mask, fixed, summary, dates)
            saved[at] = (owner, number, mailbox.uidvalidity, uid, modseq)
            if arrivals is not None:
                name, use = mailbox.name, mailbox.special_use
                arrivals.append(Arrival(owner, number, name, use, mailbox.uidvalidity, uid, system))
            if key:
                place = (number, mailbox.uidvalidity, uid, modseq)
                self._delivered.add(owner, key, place, received_us, once_s * 1_000_000)
                seen += [(owner, mark, place, received_us) for mark in marks]
        for one in seen:  # after all keys: one of these may be the same
            self._delivered.renew(*one, once_s * 1_000_000)
        for blob, size_bytes, count in draft.counts:
            messages.refer(blob, size_bytes, count)
        if draft.replaced is not None:
            self._remove_replaced(*draft.replaced, stamped)
        if len(plan) < len(saved):
            saved = [saved[one] if type(one) is int else one for one in saved]
        state.rows_changed += len(plan)
        return (SAVED, saved)


def _head_of(raw: Raw) -> tuple[Raw, int, Raw, int, Raw | None]:
    """Messages, UIDVALIDITY seed, quotas, for how long deliveries are remembered, and what is
    replaced. Raises `Refusal`."""
    if not 7 <= len(raw) <= 10:
        bad(raw)
    user, messages, seed = raw[4:7]
    quotas = raw[7] if len(raw) > 7 else ()
    once_s = raw[8] if len(raw) > 8 else 0
    replaces = raw[9] if len(raw) > 9 else None
    if (
        type(user) is not str
        or type(messages) is not tuple
        or not 0 < len(messages) <= MESSAGES_MAX
        or type(seed) is not int
        or not 0 <= seed <= UIDVALIDITY_MAX
        or (quotas != () and not _are_quotas(quotas))
        or type(once_s) is not int
        or not 0 <= once_s <= DELIVERED_ONCE_S_MAX
        or (replaces is not None and not (type(replaces) is tuple and len(replaces) == 2))
    ):
        bad(raw)
    return messages, seed, quotas, once_s, replaces


def _of_further(known: Raw | int | None) -> Raw | None:
    """What is known of a further message of a delivery: nothing where both it and the first are
    new. The row is that of the first. Raises `Refusal`."""
    if known is None:
        raise Refusal(Code.BAD, "a further message has none before it")
    return None if type(known) is int else cast(Raw, known)


def _are_fields(
    targets: Any, blob: Any, size_bytes: Any, guid: Any, received_us: Any, summary: Any
) -> bool:
    """Whether what a message to save has is of the right kinds and within the limits."""
    return (
        type(targets) is tuple
        and 0 < len(targets) <= TARGETS_MAX
        and type(blob) is bytes
        and len(blob) == DIGEST_BYTES
        and type(size_bytes) is int
        and 0 <= size_bytes <= SIZE_BYTES_MAX
        and type(guid) is bytes
        and len(guid) == GUID_BYTES
        and type(received_us) is int
        and -RECEIVED_US_MAX <= received_us <= RECEIVED_US_MAX
        and type(summary) is bytes
        and len(summary) <= SUMMARY_BYTES_MAX
    )


def _are_dates(zone_minutes: Any, saved_us: Any) -> bool:
    return (
        type(zone_minutes) is int
        and -ZONE_MINUTES_MAX <= zone_minutes <= ZONE_MINUTES_MAX
        and (
            saved_us is None
            or (type(saved_us) is int and -RECEIVED_US_MAX <= saved_us <= RECEIVED_US_MAX)
        )
    )


def _are_keys(keys: Any, count: int) -> bool:
    """Whether they are delivery keys of so many targets."""
    return (
        type(keys) is tuple
        and len(keys) == count
        and set(map(type, keys)) == {bytes}
        and set(map(len, keys)) == {DELIVERY_KEY_BYTES}
    )


def _are_marks(marks: Any, keys: Any) -> bool:
    """Whether they are marks of a message with these delivery keys."""
    if marks == ():
        return type(marks) is tuple
    return (
        type(marks) is tuple
        and len(marks) <= MARKS_MAX
        and bool(keys)
        and _are_keys(marks, len(marks))
    )


def _are_quotas(quotas: Raw) -> bool:
    return type(quotas) is tuple and all(
        type(one) is tuple
        and len(one) == 2
        and type(one[0]) is str
        and type(one[1]) is int
        and 0 < one[1] <= NUMBER_MAX
        for one in quotas
    )


def _check_keywords(plan: list[_Item]) -> None:
    """Refuse the whole when one of the mailboxes cannot have all the keywords it would be given."""
    wanted: dict[str | int, tuple[MailboxRecord | None, dict[str, str]]] = {}
    for item in plan:
        mailbox = item.mailbox
        place = mailbox.number if mailbox is not None else item.owner
        names = wanted.setdefault(place, (mailbox, {}))[1]
        for keyword in item.keywords:
            names.setdefault(keyword.lower(), keyword)
    for mailbox, names in wanted.values():
        masked(mailbox, tuple(names.values()), add=True)
