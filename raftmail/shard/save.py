"""SAVE: new messages, all or none; also those that come from another shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from zlib import crc32

from raftmail.mail.codec import command_of
from raftmail.mail.codec_results import COPIED, SAVED
from raftmail.mail.commands import CopyIn
from raftmail.mail.limits import (
    DIGEST_BYTES,
    GUID_BYTES,
    MESSAGES_MAX,
    NUMBER_MAX,
    RECEIVED_US_MAX,
    SAVED_MAX,
    SIZE_BYTES_MAX,
    SUMMARY_BYTES_MAX,
    TARGETS_MAX,
    UIDVALIDITY_MAX,
)
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.mail.uidset import UID_MAX, UidSet
from raftmail.shard.state import Refusal, State, bad, masked
from raftmail.storage.records import FIXED, Mailbox


class SaveCommand:
    """Carries out `Save` requests as they come from msgpack: first everything is checked and every
    target found, then everything is written."""

    def __init__(self, state: State) -> None:
        self._state = state

    def execute(self, raw: Raw, blobs: Set[bytes]) -> Raw:
        """The result. `blobs` are the bodies that the entry says the replicas hold. Raises
        `Refusal`."""
        if not 7 <= len(raw) <= 8:
            bad(raw)
        user, messages, seed = raw[4:7]
        quotas = raw[7] if len(raw) > 7 else ()
        if (
            type(user) is not str
            or type(messages) is not tuple
            or not 0 < len(messages) <= MESSAGES_MAX
            or type(seed) is not int
            or not 0 <= seed <= UIDVALIDITY_MAX
            or (quotas != () and not _are_quotas(quotas))
        ):
            bad(raw)
        state = self._state
        plan: list[tuple[Mailbox | None, str, int, tuple[str, ...], bytes, bytes]] = []
        counts: list[tuple[bytes, int, int]] = []
        with_keywords = False
        for message in messages:
            if type(message) is not tuple or len(message) != 7:
                bad(raw)
            targets, blob, size_bytes, guid, received_us, flags, summary = message
            parsed = state.parsed_flags(flags)
            if (
                parsed is None
                or type(targets) is not tuple
                or not 0 < len(targets) <= TARGETS_MAX
                or type(blob) is not bytes
                or len(blob) != DIGEST_BYTES
                or type(size_bytes) is not int
                or not 0 <= size_bytes <= SIZE_BYTES_MAX
                or type(guid) is not bytes
                or len(guid) != GUID_BYTES
                or type(received_us) is not int
                or not -RECEIVED_US_MAX <= received_us <= RECEIVED_US_MAX
                or type(summary) is not bytes
                or len(summary) > SUMMARY_BYTES_MAX
            ):
                bad(raw)
            if blob not in blobs:
                raise Refusal(Code.BAD, "the entry does not name the message's body")
            fixed = FIXED.pack(received_us, size_bytes, guid, blob, crc32(summary))
            system, keywords = parsed
            if keywords:
                with_keywords = True
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
                refs = state.refs.get(owner)
                mailbox = refs.get(ref) if refs is not None else None
                if mailbox is None:
                    mailbox = state.destination(owner, ref, or_inbox)
                if mailbox is not None and mailbox.uidnext > UID_MAX - SAVED_MAX:
                    raise Refusal(Code.LIMIT, f"the UIDs of mailbox {mailbox.name!r} are used up")
                plan.append((mailbox, owner, system, keywords, fixed, summary))
            counts.append((blob, size_bytes, len(targets)))
        if len(plan) > SAVED_MAX:
            bad(raw)
        if with_keywords:
            _check_keywords(plan)
        if quotas:
            more = Counter[str]()
            for _, owner, _, _, fixed, _ in plan:
                more[owner] += FIXED.unpack(fixed)[1]
            for owner, quota_bytes in quotas:
                if owner in more:
                    state.check_quota(owner, more[owner], quota_bytes)
        return self._write(plan, counts, seed)

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
            _, saved = self.execute((*raw[:7], *limited), blobs)
            uids = UidSet.from_uids(one[3] for one in saved)
            _, number, uidvalidity, _, modseq = saved[0]
            source = command.source_uids.to_wire()
            return (COPIED, uidvalidity, number, source, uids.to_wire(), 0, modseq)
        to = command.target
        mailbox = self._state.destination(to.user, to.mailbox, to.or_inbox)
        if mailbox is None:
            mailbox = self._state.make_inbox(to.user, command.uidvalidity_seed)
        return (COPIED, mailbox.uidvalidity, mailbox.number, (), (), 0, 0)

    def _write(
        self,
        plan: list[tuple[Mailbox | None, str, int, tuple[str, ...], bytes, bytes]],
        counts: list[tuple[bytes, int, int]],
        seed: int,
    ) -> Raw:
        state = self._state
        index = state.index
        messages = index.messages
        saved: list[Raw] = []
        stamped: dict[int, int] = {}
        for mailbox, owner, system, keywords, fixed, summary in plan:
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
            uid = messages.add(mailbox, modseq, system, mask, fixed, summary)
            saved.append((owner, number, mailbox.uidvalidity, uid, modseq))
        for blob, size_bytes, count in counts:
            messages.refer(blob, size_bytes, count)
        state.rows_changed += len(saved)
        return (SAVED, saved)


def _are_quotas(quotas: Raw) -> bool:
    return type(quotas) is tuple and all(
        type(one) is tuple
        and len(one) == 2
        and type(one[0]) is str
        and type(one[1]) is int
        and 0 < one[1] <= NUMBER_MAX
        for one in quotas
    )


def _check_keywords(
    plan: list[tuple[Mailbox | None, str, int, tuple[str, ...], bytes, bytes]],
) -> None:
    """Refuse the whole when one of the mailboxes cannot have all the keywords it would be given."""
    wanted: dict[str | int, tuple[Mailbox | None, dict[str, str]]] = {}
    for mailbox, owner, _, keywords, _, _ in plan:
        place = mailbox.number if mailbox is not None else owner
        names = wanted.setdefault(place, (mailbox, {}))[1]
        for keyword in keywords:
            names.setdefault(keyword.lower(), keyword)
    for mailbox, names in wanted.values():
        masked(mailbox, tuple(names.values()), add=True)
