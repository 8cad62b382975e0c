"""A \\Seen of each guest's own: changed by STORE, and laid over what queries answer."""

from __future__ import annotations

from dataclasses import replace

from raftmail.mail import queries as q
from raftmail.mail.codec_results import DONE_RAW
from raftmail.mail.commands import SetOwnSeen, StoreMode
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.mail.uidset import UidSet, UidSetBuilder
from raftmail.shard.state import Refusal, State
from raftmail.storage.records import MailboxRecord
from raftmail.storage.seen_table import SEEN_RANGES_MAX

_SEEN = "\\Seen"


def set_own_seen(state: State, command: SetOwnSeen) -> Raw:
    """Raises `Refusal`."""
    mailbox = state.must_find(command.user, command.mailbox)
    if state.index.seen.is_own(mailbox.number) != command.own:
        state.index.seen.set_own(mailbox.number, command.own)
        mailbox.highestmodseq += 1
        state.index.mailboxes.touch(mailbox)
    return DONE_RAW


def seen_by(state: State, mailbox: MailboxRecord, guest: str) -> UidSet | None:
    """What a guest has seen; None where \\Seen is the mailbox's."""
    if guest == mailbox.user or not state.index.seen.is_own(mailbox.number):
        return None
    return state.index.seen.of(mailbox.number, guest)


class SeenChange:
    """What one STORE changes of a guest's own \\Seen. Messages are asked about in the order of
    their UIDs."""

    def __init__(
        self, state: State, mailbox: MailboxRecord, guest: str, before: UidSet, uids: UidSet
    ) -> None:
        """Raises `Refusal` where there might be too many ranges afterwards."""
        if before.range_count() + uids.range_count() > SEEN_RANGES_MAX:
            raise Refusal(
                Code.LIMIT, f"what you have seen here is kept as {SEEN_RANGES_MAX} ranges at most"
            )
        self._table = state.index.seen
        self._number = mailbox.number
        self._guest = guest
        self._before = before
        self._came, self._gone = UidSetBuilder(), UidSetBuilder()
        self._mode, self._named = StoreMode.ADD, False

    def begin(self, mode: StoreMode, *, named: bool) -> None:
        """What is to be done, and whether \\Seen is named."""
        self._mode, self._named = mode, named

    def change(self, uid: int) -> bool:
        """Whether it changes something of a message."""
        seen = uid in self._before
        if self._mode is StoreMode.REPLACE:
            wanted = self._named
        elif self._named:
            wanted = self._mode is StoreMode.ADD
        else:
            wanted = seen
        if wanted != seen:
            (self._came if wanted else self._gone).add(uid)
        return wanted != seen

    def write(self) -> None:
        """Keep what was changed."""
        after = (self._before | self._came.build()) - self._gone.build()
        self._table.put(self._number, self._guest, after)


# -- answers ---------------------------------------------------------------------------------------


def as_seen(state: State, mailbox: MailboxRecord, seen: UidSet, found: q.Answer) -> q.Answer:
    """An answer to the owner as a guest is told it, who has seen these UIDs."""
    if isinstance(found, q.MailboxInfo):
        return info_as_seen(state, mailbox, seen, found)
    if isinstance(found, q.MailboxContents):
        info = info_as_seen(state, mailbox, seen, found.mailbox)
        first = next(iter(found.uids - seen), 0)
        return replace(found, mailbox=info, first_unseen=first)
    if isinstance(found, q.MessagePage):
        messages = tuple(
            replace(one, flags=_flags(one.flags, one.uid in seen)) for one in found.messages
        )
        info = info_as_seen(state, mailbox, seen, found.mailbox)
        return q.MessagePage(info, messages, found.more)
    if isinstance(found, q.MessageColumns):
        flags = tuple(_flags(one, is_seen) for one in found.flags for is_seen in (False, True))
        pairs = zip(found.uids, found.flags_of, strict=True)
        places = tuple(2 * at + (uid in seen) for uid, at in pairs)
        return replace(found, flags=flags, flags_of=places)
    return found


def info_as_seen(
    state: State, mailbox: MailboxRecord, seen: UidSet, info: q.MailboxInfo
) -> q.MailboxInfo:
    """With what a guest has not seen. Until all UIDs are known, it is too low where some of those
    seen are gone; `FetchContents` knows them in the end."""
    uids = state.index.known_uids.uids(mailbox)
    unseen = max(0, info.messages - len(seen)) if uids is None else len(uids - seen)
    return replace(info, unseen=unseen)


def _flags(flags: tuple[str, ...], is_seen: bool) -> tuple[str, ...]:
    others = tuple(flag for flag in flags if flag != _SEEN)
    return (_SEEN, *others) if is_seen else others
