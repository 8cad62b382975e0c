"""A maildrop: the INBOX as it was at the log-in, with numbers from 1 on (RFC 1939 section 4)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from raftmail.mail.uidset import UidSet

MESSAGE_BYTES: Final = 4 + 8
"""What a maildrop holds of each message: its UID and its size."""


class NoSuchMessage(Exception):
    """The text says why there is no message of that number."""


@dataclass(slots=True, repr=False)
class Maildrop:
    """`mailbox` is the INBOX's number, 0 of a user who has none yet.

    Numbers never change during a session. A message's unique id is its mailbox's UIDVALIDITY and
    its UID. So it is the same on every node and for ever (RFC 1939 section 7, UIDL).

    Invariant: `messages` and `octets` count what is not marked."""

    mailbox: int = 0
    uidvalidity: int = 0
    messages: int = 0
    octets: int = 0
    _uids: array[int] = field(default_factory=lambda: array("I"))
    _sizes: array[int] = field(default_factory=lambda: array("Q"))
    _marked: set[int] = field(default_factory=set)

    @property
    def held_bytes(self) -> int:
        """What it holds for its messages."""
        return MESSAGE_BYTES * len(self._uids)

    def __len__(self) -> int:
        """How many messages it has, marked ones among them."""
        return len(self._uids)

    def add(self, uids: Sequence[int], sizes: Sequence[int]) -> None:
        """The next messages, ascending by UID, and their sizes. Before the session begins."""
        # Columns may be arrays of another kind, which an array does not take as they are.
        self._uids.extend(iter(uids))
        self._sizes.extend(iter(sizes))
        self.messages += len(uids)
        self.octets += sum(sizes)

    def find(self, number: int) -> tuple[int, int]:
        """UID and size of a message. Raises `NoSuchMessage`, also when it is marked."""
        if not 1 <= number <= len(self._uids):
            raise NoSuchMessage(f"there is no such message: there are {len(self._uids)}")
        if number in self._marked:
            raise NoSuchMessage(f"message {number} is deleted")
        return self._uids[number - 1], self._sizes[number - 1]

    def unique_id(self, number: int) -> str:
        """Its unique id. Raises `NoSuchMessage`."""
        uid, _ = self.find(number)
        return f"{self.uidvalidity:08x}{uid:08x}"

    def mark(self, number: int, most: int) -> None:
        """Mark a message as deleted. Raises `NoSuchMessage`, also when `most` are marked."""
        _, size = self.find(number)
        if len(self._marked) >= most:
            raise NoSuchMessage(f"{most} messages are deleted by one QUIT: say QUIT, and come back")
        self._marked.add(number)
        self.messages -= 1
        self.octets -= size

    def reset(self) -> None:
        """Take all marks away."""
        self.messages += len(self._marked)
        self.octets += sum(self._sizes[number - 1] for number in self._marked)
        self._marked.clear()

    @property
    def marked(self) -> UidSet:
        """The UIDs of the messages that are marked."""
        return UidSet.from_uids(sorted(self._uids[number - 1] for number in self._marked))

    def listed(self, first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Number, UID and size of those that are not marked, of `count` numbers from `first` on."""
        for number in range(first, min(first + count, len(self._uids) + 1)):
            if number not in self._marked:
                yield number, self._uids[number - 1], self._sizes[number - 1]
