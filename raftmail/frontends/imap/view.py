"""A selected mailbox as one client knows it: which message has which number, and what it has yet to
be told (RFC 9051 sections 5.2 and 7.4).

The client's picture changes only by what it was told: EXPUNGE or VANISHED takes a number away,
EXISTS adds some at the end. The mailbox itself goes on meanwhile. `note` takes what was read of it;
`tell` says what may be said now, and moves the picture.

Invariants:

1. `uids` ascend, and are the messages that the client has numbers for.
2. No number changes but by `tell` with `expunges`. A message that is gone keeps its number until
   then.
3. What `tell` leaves unsaid stays to be said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raftmail.frontends.imap import responses
from raftmail.frontends.imap.keywords import Keywords
from raftmail.frontends.imap.numbering import Numbering
from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.mail.queries import MessageInfo
from raftmail.mail.rights import RIGHTS
from raftmail.mail.uidset import STAR, UidSet


class MailboxView:
    """One client's picture of one mailbox. `modseq` is up to where it was noted."""

    def __init__(self, name: str, number: int, uidvalidity: int) -> None:
        self.name = name
        self.number = number
        self.uidvalidity = uidvalidity
        self.read_only = False
        self.owner = ""
        """Whose it is."""
        self.rights = RIGHTS
        """What the client had the right to when it was selected; what is applied looks again."""
        self.numbering = Numbering(UidSet())
        self.modseq = 0
        self.saved = UidSet()
        """The result of the last search that was to be saved (RFC 5182)."""
        self.tells_modseq = False
        """The client uses CONDSTORE: flags are told with their modseq."""
        self.uid_only = False
        """The client has enabled UIDONLY: it is told UIDs in place of numbers."""
        self.keywords = Keywords()
        self.settled = 0
        """All was told up to this modseq at least, but for flags that NOTIFY holds back."""
        self._gone = UidSet()
        self._fresh: dict[int, MessageInfo] = {}
        """Messages that came, or changed, and were not told; by UID."""
        self._told: dict[int, int] = {}
        """Modseqs of flags that were told before they were noted; until the next `note`."""

    def begin(self, uids: UidSet, modseq: int) -> None:
        """The mailbox is selected: the client is told of all messages, which were read at
        `modseq`."""
        self.numbering = Numbering(uids)
        self.modseq = self.settled = modseq

    # -- numbers ----------

    def __len__(self) -> int:
        return self.numbering.count

    @property
    def uids(self) -> UidSet:
        """Of the messages that the client has numbers for."""
        return self.numbering.uids

    def number_of(self, uid: int) -> int:
        """The sequence number of a message; 0 when the client has none for it."""
        return self.numbering.number_of(uid)

    @property
    def last_uid(self) -> int:
        """The highest UID that the client has a number for; 0 when there is none."""
        return self.uids.last

    def choose(self, sequence: SequenceSet, *, by_uid: bool) -> UidSet:
        """The UIDs that a set means, of messages that the client has numbers for. UIDs that no
        message has are passed over (RFC 9051 section 6.4.9). `9:*` is the last message where there
        are fewer, and nothing where there is none: clients ask so for what is new. Raises
        `NoSuchNumber` for any other sequence number that no message has."""
        if sequence.saved:
            return self.numbering.known(self.saved)
        if by_uid:
            return self.numbering.known(sequence.numbers.resolve(self.last_uid))
        return self._numbered(sequence.numbers)

    def _numbered(self, numbers: UidSet) -> UidSet:
        count = len(self)
        if numbers.last == STAR:
            *others, (low, _) = numbers.ranges()
            if count:
                others.append((min(low, count), count))
            numbers = UidSet.from_ranges(others)
        if numbers.last > count:
            raise NoSuchNumber(numbers.last, count)
        return self.numbering.numbered(numbers)

    # -- changes ----------

    def note(self, messages: Iterable[MessageInfo], vanished: UidSet, modseq: int) -> None:
        """What became of the mailbox since `modseq` was noted last: messages that came or changed,
        and UIDs that are gone (any others among them do no harm)."""
        told, self._told = self._told, {}
        for message in messages:
            if told.get(message.uid, -1) < message.modseq:
                self._fresh[message.uid] = message
        if vanished:
            self._gone = self._gone | self.numbering.known(vanished)
            for uid in [uid for uid in self._fresh if uid in vanished]:
                del self._fresh[uid]
        self.modseq = max(self.modseq, modseq)

    def note_own(
        self, modseq: int, *, gone: UidSet | None = None, came: Iterable[MessageInfo] = ()
    ) -> bool:
        """As `note`, of what this client's own command did, which got `modseq`: so nothing has to
        be read. The client was told the flags that it changed, or does not want to be. False, and
        nothing is noted, when others changed something before it that is not noted."""
        if modseq != self.modseq + 1:
            return modseq == self.modseq
        self.modseq = modseq
        self._told = {uid: at for uid, at in self._told.items() if at > modseq}
        for message in came:
            self._fresh[message.uid] = message
        if gone:
            self._gone = self._gone | self.numbering.known(gone)
            for uid in [uid for uid in self._fresh if uid in gone]:
                del self._fresh[uid]
        return True

    def told(self, uid: int, modseq: int) -> None:
        """The client was told the flags of a message that it has a number for, as of `modseq`, or
        does not want to be (`.SILENT`)."""
        fresh = self._fresh.get(uid)
        if fresh is not None and fresh.modseq <= modseq:
            del self._fresh[uid]
        if modseq > self.modseq:
            self._told[uid] = modseq

    def told_all(self, uids: Iterable[int], modseqs: Sequence[int]) -> None:
        """As `told`, of many messages."""
        if self._fresh or max(modseqs, default=0) > self.modseq:
            for uid, modseq in zip(uids, modseqs, strict=True):
                self.told(uid, modseq)

    def saw_all_before(self, modseqs: Sequence[int], uids: UidSet) -> bool:
        """Whether the client was told of all that others changed in these messages before its own
        changes, which got these modseqs: one for each, so that nobody else's is between them."""
        if any(uid in uids for uid in self._fresh):
            return False
        return all(modseq == self.modseq + 1 + at for at, modseq in enumerate(modseqs))

    @property
    def has_news(self) -> bool:
        """Whether there is anything that `tell` has left unsaid."""
        return bool(self._fresh or self._gone)

    def tell(self, *, expunges: bool, vanished: bool = False, flags: bool = True) -> list[bytes]:
        """What may be said now, as untagged responses. With `expunges` that is also which messages
        are gone: with `vanished` in the way of QRESYNC (RFC 7162 section 3.2.10). Without `flags`,
        those of messages that the client knew stay to be said."""
        lines: list[bytes] = []
        if expunges and self._gone:
            lines += self._tell_gone(vanished=vanished)
        known = self.last_uid
        fresh, self._fresh = self._fresh, {}
        if not flags:
            self._fresh = {uid: fresh.pop(uid) for uid in list(fresh) if uid <= known}
        came = sorted(uid for uid in fresh if uid > known)
        if came:
            self.numbering = Numbering(self.uids | UidSet.from_uids(came))
            lines.append(b"* %d EXISTS\r\n" % len(self))
        for uid in sorted(fresh):
            if self.number_of(uid):
                lines.append(self.flags_of(fresh[uid]))
        if not self._gone:
            self.settled = self.modseq
        elif vanished:
            lines.append(self.told_up_to())
        return lines

    def told_up_to(self) -> bytes:
        """What waits to be told must not be below what a client keeps (RFC 7162 section 3.2)."""
        return b"* OK [HIGHESTMODSEQ %d] more is to be told\r\n" % max(self.settled, 1)

    def fetched(self, uid: int, values: bytes) -> bytes:
        """FETCH, of a message that has a number, or UIDFETCH (RFC 9586 section 3.3)."""
        if self.uid_only:
            return b"* %d UIDFETCH (%b)\r\n" % (uid, values)
        return b"* %d FETCH (%b)\r\n" % (self.number_of(uid), values)

    def flags_of(self, message: MessageInfo) -> bytes:
        """What is told of a message that came or changed; FLAGS goes before a new keyword."""
        values = b"FLAGS " + responses.flags(message.flags)
        if not self.uid_only:
            values = b"UID %d %b" % (message.uid, values)
        if self.tells_modseq:
            values += b" MODSEQ (%d)" % message.modseq
        return self.keywords.announce(message.flags) + self.fetched(message.uid, values)

    def _tell_gone(self, *, vanished: bool) -> list[bytes]:
        gone, self._gone = self._gone, UidSet()
        lines: list[bytes] = []
        if vanished:
            pieces = responses.number_sets(gone)
            lines += [b"* VANISHED %b\r\n" % piece for piece in pieces]
        else:
            # From the end on, no number is told that an earlier line has changed.
            numbers = reversed(list(self.numbering.numbers(gone)))
            lines += [b"* %d EXPUNGE\r\n" % number for number in numbers]
        self.numbering = Numbering(self.uids - gone)
        self.saved = self.saved - gone
        return lines


class NoSuchNumber(ValueError):
    """A sequence number that no message has."""

    def __init__(self, number: int, count: int) -> None:
        super().__init__(f"there is no message {number}: the mailbox has {count}")
