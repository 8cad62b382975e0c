"""STORE: changing flags. One UID is the hottest path of the product, and is written out flat."""

from __future__ import annotations

from raftmail.mail.codec_results import STORED
from raftmail.mail.flags import ALL_FLAGS, SEEN
from raftmail.mail.limits import NUMBER_MAX, TOUCHED_MAX
from raftmail.mail.packing import Raw
from raftmail.mail.uidset import STAR, UidSet, UidSetBuilder
from raftmail.shard.own_seen import SeenChange
from raftmail.shard.state import State, bad, masked
from raftmail.storage.messages import KEYWORDS, MODSEQ, SYSTEM, UID, UNSETTLED_ROWS_MAX
from raftmail.storage.records import MESSAGE_KEY, MailboxRecord

_ADD, _REMOVE = 0, 1


class StoreCommand:
    """Carries out `Store` requests as they come from msgpack."""

    def __init__(self, state: State) -> None:
        self._state = state
        messages = state.index.messages
        self._messages = messages
        self._unsettled = messages.unsettled
        self._get = messages.records.get
        self._open = messages.open
        self._touch = state.index.mailboxes.touch

    def execute(self, raw: Raw) -> Raw:
        """The result. Raises `Refusal`."""
        if len(raw) != 10:
            bad(raw)
        _, _, _, _, user, ref, uids, mode, flags, since = raw
        kind = type(ref)
        if (
            type(user) is not str
            or (kind is not str and kind is not int)
            or type(since) is not int
            or since < -1
            or since > NUMBER_MAX
            or type(mode) is not int
            or not 0 <= mode <= 2
        ):
            bad(raw)
        state = self._state
        try:
            system, keywords = state.flags[flags]
        except (KeyError, TypeError):
            parsed = state.parsed_flags(flags)
            if parsed is None:
                bad(raw)
            system, keywords = parsed
        try:
            mailbox = state.refs[user][ref]
        except KeyError:
            mailbox = state.must_find(user, ref)
        if keywords:
            mask, missing = masked(mailbox, keywords, add=mode != _REMOVE)
        else:
            mask = 0
            missing = ()
        if type(uids) is not int or uids == STAR:
            return self._many(raw, mailbox, mode, system, mask, missing)
        if not 0 < uids < STAR:
            bad(raw)

        highest = mailbox.highestmodseq
        if uids >= mailbox.uidnext:
            return (STORED, (), (), 0, highest)
        key = MESSAGE_KEY.pack(mailbox.number, uids)
        unsettled = self._unsettled
        entry = unsettled.get(key)
        fresh = entry is None
        if entry is None:
            record = self._get(key)
            if record is None:
                return (STORED, (), (), 0, highest)
            entry = self._open(mailbox, key, record)
        modseq, old, before = entry[:3]
        if modseq > since >= 0:
            return (STORED, (), uids, 0, highest)
        if mode == _ADD:
            new = old | system
            after = before | mask
        elif mode == _REMOVE:
            new = old & ~system
            after = before & ~mask
        else:
            new = system
            after = mask
        if new == old and after == before:
            return (STORED, (), (), 0, highest)
        if missing:
            mailbox.add_keywords(missing)
        highest += 1
        entry[:3] = highest, new, after
        if fresh:
            unsettled[key] = entry
            if len(unsettled) > UNSETTLED_ROWS_MAX:
                self._messages.settle()
        if (old ^ new) & SEEN:
            mailbox.unseen += 1 if old & SEEN else -1
        mailbox.highestmodseq = highest
        if not mailbox.dirty:
            self._touch(mailbox)
        return (STORED, uids, (), highest, highest)

    def execute_within(
        self, raw: Raw, settable: int, *, keywords: bool, own: SeenChange | None = None
    ) -> Raw:
        """The result of a request that was validated, where only the system flags in `settable` can
        be changed, and keywords only if they may. `own` is a \\Seen beside that of the messages.
        Raises `Refusal`."""
        _, _, _, _, user, ref, _, mode, flags, _ = raw
        mailbox = self._state.must_find(user, ref)
        parsed = self._state.parsed_flags(flags)
        assert parsed is not None
        mask, missing = masked(mailbox, parsed[1] if keywords else (), add=mode != _REMOVE)
        system = parsed[0] & settable
        return self._many(raw, mailbox, mode, system, mask, missing, settable, keywords, own)

    def _many(
        self,
        raw: Raw,
        mailbox: MailboxRecord,
        mode: int,
        system: int,
        mask: int,
        missing: tuple[str, ...],
        settable: int = ALL_FLAGS,
        keywords: bool = True,
        own: SeenChange | None = None,
    ) -> Raw:
        try:
            wanted = UidSet.from_wire(raw[6])
        except ValueError:
            bad(raw)
        since: int = raw[9]
        messages = self._messages
        wanted = self._state.chosen(mailbox, wanted, TOUCHED_MAX)
        highest = mailbox.highestmodseq + 1
        changed, rejected = UidSetBuilder(), UidSetBuilder()
        count = 0
        for rows in messages.pages(mailbox, wanted):
            for key, record in rows:
                entry = self._open(mailbox, key, record)
                old, before = entry[SYSTEM], entry[KEYWORDS]
                if entry[MODSEQ] > since >= 0:
                    rejected.add(entry[UID])
                    continue
                if mode == _ADD:
                    new, after = old | system, before | mask
                elif mode == _REMOVE:
                    new, after = old & ~system, before & ~mask
                else:
                    new = system | (old & ~settable)
                    after = mask if keywords else before
                is_own = own is not None and own.change(entry[UID])
                if new == old and after == before and not is_own:
                    continue
                entry[:3] = highest, new, after
                self._unsettled[key] = entry
                if (old ^ new) & SEEN:
                    mailbox.unseen += 1 if old & SEEN else -1
                changed.add(entry[UID])
                count += 1
            messages.settle()
        if not count:
            return (STORED, (), rejected.build().to_wire(), 0, mailbox.highestmodseq)
        if own is not None:
            own.write()
        mailbox.add_keywords(missing)
        mailbox.highestmodseq = highest
        self._touch(mailbox)
        self._state.rows_changed += count
        return (STORED, changed.build().to_wire(), rejected.build().to_wire(), highest, highest)
