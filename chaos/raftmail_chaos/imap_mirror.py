"""One mailbox as a mail program keeps it, from what it was told alone (RFC 7162 section 3.2).

What is kept outlives a connection: QRESYNC begins with it at the next. Whatever cannot be true
beside what was told before is a `MirrorBroken`.

Invariants:

1. `kept` are the messages that the server has told of, and has not told to be gone.
2. `modseq` is one up to which all was told. It moves at the tagged end of a command, when every
   message that has a number has its UID.
3. While the mailbox is selected, `numbers` has the UID of each number, or 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from raftmail.mail.commands import StoreMode
from raftmail.mail.uidset import STAR, UidSet
from raftmail_chaos.imap_answers import Fetched, ImapAnswer


class MirrorBroken(Exception):
    """What the server says cannot be true beside what it said before."""


@dataclass(slots=True)
class Mail:
    """One message as it was told. `guessed`: its flags are what the own silent STORE should have
    made of them."""

    flags: frozenset[str]
    modseq: int
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class MailIdentity:
    """What never changes of a message."""

    guid: bytes
    size_bytes: int
    received_us: int


@dataclass(slots=True)
class ImapMirror:
    """`known_last`: messages above this UID were not asked for by SELECT."""

    name: str
    uidvalidity: int = 0
    uidnext: int = 0
    modseq: int = 0
    told_modseq: int = 0
    """HIGHESTMODSEQ at the last SELECT."""
    kept: dict[int, Mail] = field(default_factory=dict)
    identities: dict[int, MailIdentity] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    known_last: int = 0
    vanished: int = 0
    """How many messages were told to be gone."""
    _gone: UidSet = field(default_factory=UidSet)
    _heard_modseq: int = 0
    _selecting: bool = False
    _resyncs: bool = False
    _paired: list[tuple[int, int]] = field(default_factory=list)
    _told_flags: set[int] = field(default_factory=set)
    """By the command that is under way."""

    # -- SELECT ----------

    def begin_select(self, *, resyncs: bool, known_last: int = STAR) -> None:
        """SELECT was sent; `resyncs` with QRESYNC's parameter. With `known_last` the server was not
        asked for messages above it."""
        self._selecting, self._resyncs, self.known_last = True, resyncs, known_last
        self.numbers, self._paired = [], []
        if not resyncs:
            self.kept.clear()
            self.known_last = 0

    def end_select(self) -> None:
        """SELECT was answered OK."""
        self._selecting = False
        exists = len(self.numbers)
        # A message that went meanwhile is told by its number and UID alone.
        named = self.kept.keys() | {uid for _, uid in self._paired}
        known = sorted(uid for uid in named if uid <= self.known_last)
        left = exists - len(known)
        if left < 0 or (left and self.known_last == STAR):
            raise MirrorBroken(
                f"{self.name} has {exists} messages by EXISTS, and {len(known)} after QRESYNC from "
                f"modseq {self.modseq}"
            )
        self.numbers = known + [0] * left
        for number, uid in self._paired:
            if number > exists or self.numbers[number - 1] not in (0, uid):
                raise MirrorBroken(
                    f"UID {uid} of {self.name} is told as number {number}, and has another among "
                    f"{self.numbers}"
                )
            self.numbers[number - 1] = uid

    def leave(self) -> None:
        """It is selected no more, or the connection is gone."""
        self.numbers = []
        self._selecting = False
        self._told_flags.clear()

    # -- what is told ----------

    def hear(self, answer: ImapAnswer) -> None:
        """Take in an untagged response, or the code of a tagged one."""
        if answer.kind == "EXISTS":
            if answer.number < len(self.numbers):
                raise MirrorBroken(f"EXISTS {answer.number} takes messages of {self.name} away")
            self.numbers += [0] * (answer.number - len(self.numbers))
        elif answer.kind == "VANISHED":
            self._hear_vanished(answer.uids, earlier=answer.earlier)
        elif answer.fetched is not None:
            self._hear_fetch(answer.fetched)
        elif answer.code:
            self._hear_code(answer.code, answer.argument)

    def _hear_code(self, code: str, argument: bytes) -> None:
        if code == "UIDVALIDITY":
            validity = int(argument)
            if self.uidvalidity not in (0, validity):
                raise MirrorBroken(
                    f"UIDVALIDITY of {self.name} was {self.uidvalidity}, is {validity}"
                )
            self.uidvalidity = validity
        elif code == "UIDNEXT":
            self._grows("UIDNEXT", self.uidnext, int(argument))
            self.uidnext = int(argument)
        elif code == "HIGHESTMODSEQ":
            if self._selecting:
                self._grows("HIGHESTMODSEQ", max(self.modseq, self.told_modseq), int(argument))
                self.told_modseq = int(argument)
            self._heard_modseq = int(argument)

    def _grows(self, what: str, before: int, now: int) -> None:
        if now < before:
            raise MirrorBroken(f"{what} of {self.name} was told as {before}, and as {now} later")

    def _hear_vanished(self, uids: UidSet, *, earlier: bool) -> None:
        if earlier and not (self._selecting and self._resyncs):
            raise MirrorBroken(f"VANISHED (EARLIER) of {self.name}, which nobody asked for")
        if uids.last >= STAR or (self.uidnext and earlier and uids.last >= self.uidnext):
            raise MirrorBroken(f"VANISHED {uids} of {self.name} names UIDs that were never given")
        for uid in uids:
            self.vanished += self.kept.pop(uid, None) is not None
            self.identities.pop(uid, None)
            if not earlier:
                self._drop_number(uid)
        self._gone = self._gone | uids

    def _drop_number(self, uid: int) -> None:
        """The message has a number: that of its UID, or one whose UID is not known yet."""
        if self._selecting and self.numbers:
            del self.numbers[-1]
            told = [(number, one) for number, one in self._paired if one != uid]
            self._paired = [(number - (one > uid), one) for number, one in told]
            return
        if uid in self.numbers:
            self.numbers.remove(uid)
            return
        below = 0
        for at, one in enumerate(self.numbers):
            if one == 0 and below < uid:
                if all(later == 0 or later > uid for later in self.numbers[at:]):
                    del self.numbers[at]
                    return
            elif one:
                below = one
        raise MirrorBroken(f"VANISHED names UID {uid} of {self.name}, which has no number")

    def _hear_fetch(self, told: Fetched) -> None:
        uid = told.uid
        if not 0 < told.number <= len(self.numbers) or not uid:
            raise MirrorBroken(f"FETCH {told.number} of {self.name} is of no message, or of no UID")
        self._hear_number(told.number, uid)
        if told.guid:
            now = MailIdentity(told.guid, told.size_bytes, told.received_us)
            if self.identities.setdefault(uid, now) != now:
                raise MirrorBroken(f"UID {uid} of {self.name} stands for another message now")
        if told.modseq:
            self._hear_flags(uid, told.flags, told.modseq)

    def _hear_number(self, number: int, uid: int) -> None:
        if uid in self._gone:
            raise MirrorBroken(f"UID {uid} of {self.name} is told again after VANISHED")
        if self._selecting:
            self._paired.append((number, uid))
            return
        at = number - 1
        if self.numbers[at] == uid:
            return
        before = max(self.numbers[:at], default=0)
        after = min((one for one in self.numbers[at + 1 :] if one), default=STAR)
        if self.numbers[at] or not before < uid < after:
            raise MirrorBroken(
                f"number {number} of {self.name} is told as UID {uid}, and was that of "
                f"{self.numbers[at]}, between {before} and {after}"
            )
        self.numbers[at] = uid

    def _hear_flags(self, uid: int, flags: tuple[str, ...] | None, modseq: int) -> None:
        self._heard_modseq = max(self._heard_modseq, modseq)
        mail = self.kept.get(uid)
        if mail is not None and modseq < mail.modseq:
            raise MirrorBroken(
                f"UID {uid} of {self.name} is told as of modseq {modseq}, and was as of "
                f"{mail.modseq} before"
            )
        if flags is None:
            if mail is not None and modseq > mail.modseq:
                mail.modseq, mail.guessed = modseq, True
            return
        now = frozenset(flag.lower() for flag in flags)
        if mail is not None and mail.modseq == modseq and mail.flags != now and not mail.guessed:
            raise MirrorBroken(
                f"UID {uid} of {self.name} has flags {sorted(now)} and {sorted(mail.flags)}, both "
                f"as of modseq {modseq}"
            )
        self.kept[uid] = Mail(now, modseq)
        self._told_flags.add(uid)

    # -- ends of commands ----------

    def stored(self, uids: Iterable[int], mode: StoreMode, flags: Iterable[str]) -> None:
        """An own silent STORE was answered OK: the flags of what the server did not tell anew are
        what it makes of them."""
        named = frozenset(flag.lower() for flag in flags)
        for uid in uids:
            mail = self.kept.get(uid)
            if mail is None or uid in self._told_flags:
                continue
            if mode is StoreMode.ADD:
                mail.flags |= named
            elif mode is StoreMode.REMOVE:
                mail.flags -= named
            else:
                mail.flags = named
            mail.guessed = True

    def settle(self) -> None:
        """A command was answered OK: all that was told by then is kept."""
        self._told_flags.clear()
        if self.is_whole:
            self.modseq = self._heard_modseq

    @property
    def is_whole(self) -> bool:
        """Whether every number has its UID."""
        return 0 not in self.numbers

    @property
    def nameless(self) -> UidSet:
        """Messages of which it is not known yet what never changes."""
        return UidSet.from_uids(self.kept.keys() - self.identities.keys())
