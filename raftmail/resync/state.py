"""What a replica keeps of its own about resyncs, in the index's local table: never replicated.

| key | value |
|---|---|
| `resync/mark` | a resync is half done: what it began from, and where it was to lead |
| `resync/jump` | the records are whole, and the log has yet to jump to where they stand |
| `resync/suspects` | what the next one compares record by record, and with which nodes alone |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raftmail.mail.packing import CodecError, pack, unpack
from raftmail.storage.index import Index
from raftmail.storage.records import NUMBER, IndexDamaged

_MARK = b"resync/mark"
_SUSPECTS = b"resync/suspects"
_JUMP = b"resync/jump"

RESYNC_KEYS = (_MARK, _SUSPECTS, _JUMP)
"""All keys that are not known again from elsewhere when the local table is lost."""

SUSPECTS_MAX = 10_000
"""Mailboxes remembered one by one; with more, all are suspect."""


def read_local(index: Index, key: bytes) -> Any:
    """A packed value of the local table; None when there is none. Raises `IndexDamaged`."""
    value = index.get_local(key)
    if value is None:
        return None
    try:
        return unpack(value)
    except CodecError as e:
        raise IndexDamaged("local", key, str(e)) from None


def write_local(index: Index, key: bytes, value: object) -> None:
    index.put_local(key, pack(value))


def delete_local(index: Index, key: bytes) -> None:
    index.engine.table("local").delete(key)


def write_jump(index: Index, to: int, term: int) -> None:
    """Note, in the transaction that makes the records whole, where the log has to jump to."""
    write_local(index, _JUMP, (to, term))


def pending_jump(index: Index) -> tuple[int, int] | None:
    """Where the log still had to jump to when the process ended: index and term. Raises
    `IndexDamaged`."""
    raw = read_local(index, _JUMP)
    if type(raw) is tuple and len(raw) == 2 and set(map(type, raw)) == {int}:
        return raw[0], raw[1]
    return None


def forget_jump(index: Index) -> None:
    """The log has jumped."""
    delete_local(index, _JUMP)


@dataclass(frozen=True, slots=True)
class Mark:
    """A resync that is half done: the index is none of a whole replica. `index` and `term` are
    where its last session was to lead."""

    peer: str
    session: int
    index: int
    term: int

    @staticmethod
    def read(index: Index) -> Mark | None:
        """None: the index is whole. A mark that cannot be read is one all the same."""
        try:
            raw = read_local(index, _MARK)
            return None if raw is None else Mark(*raw)
        except (IndexDamaged, TypeError):
            return Mark("an unknown peer", 0, 0, 0)

    def write(self, index: Index) -> None:
        write_local(index, _MARK, (self.peer, self.session, self.index, self.term))

    @staticmethod
    def clear(index: Index) -> None:
        delete_local(index, _MARK)


@dataclass(slots=True, repr=False)
class Suspects:
    """What was found damaged, or is to be looked at by order. Compared record by record in the
    next resync, which clears it."""

    everything: bool = False
    mailboxes: set[int] = field(default_factory=set)
    counts: bool = False
    """The table of blobrefs."""

    names: bool = False
    others: bool = False
    """A small table, which is compared in every resync."""

    only: frozenset[str] = frozenset()
    """The nodes that are good sources for it; empty: all are. Kept here, since a restart in the
    middle must not have it forgotten."""

    @staticmethod
    def read(index: Index) -> Suspects:
        """Those that cannot be read are: everything."""
        try:
            raw = read_local(index, _SUSPECTS)
            if raw is None:
                return Suspects()
            everything, mailboxes, counts, names, others, only = raw
            return Suspects(everything, set(mailboxes), counts, names, others, frozenset(only))
        except (IndexDamaged, TypeError, ValueError):
            return Suspects(everything=True)

    @staticmethod
    def are_noted(index: Index) -> bool:
        """Whether there are any."""
        noted = index.engine.table("local").get(_SUSPECTS)
        return noted is not None and bool(Suspects.read(index))

    def write(self, index: Index) -> None:
        """Into the open transaction."""
        if self:
            mailboxes = sorted(self.mailboxes)
            raw = (self.everything, mailboxes, *self.flags()[1:4], sorted(self.only))
            write_local(index, _SUSPECTS, raw)
        else:
            delete_local(index, _SUSPECTS)

    def flags(self) -> tuple[bool, bool, bool, bool, frozenset[str]]:
        """All but the mailboxes."""
        return self.everything, self.counts, self.names, self.others, self.only

    def __bool__(self) -> bool:
        single = self.counts or self.names or self.others
        return bool(self.everything or self.mailboxes or single)

    def add(self, mailboxes: Iterable[int]) -> None:
        self.mailboxes.update(mailboxes)
        if len(self.mailboxes) > SUSPECTS_MAX:
            self.everything = True
            self.mailboxes.clear()

    def merge(self, more: Suspects) -> None:
        """Add what others are."""
        self.add(more.mailboxes)
        self.everything = self.everything or more.everything
        self.counts = self.counts or more.counts
        self.names = self.names or more.names
        self.others = self.others or more.others
        self.only = more.only or self.only

    def note(self, damage: IndexDamaged) -> bool:
        """Note a damaged record. False: it is none that another replica has."""
        if damage.table in ("messages", "summaries", "changes", "expunges", "mailboxes"):
            if len(damage.key) >= NUMBER.size:
                self.add(NUMBER.unpack_from(damage.key))
            else:
                self.everything = True
        elif damage.table == "blobrefs":
            self.counts = True
        elif damage.table == "names":
            self.names = True
        elif damage.table in (
            "subscriptions", "annotations", "scripts", "users", "config", "clients", "deliveries",
            "delivered", "dates", "acls", "sharers", "seen",
        ):  # fmt: skip
            self.others = True
        else:
            return False
        return True
