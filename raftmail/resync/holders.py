"""Whose the bodies are that no replica has: user, mailbox and UID of every message that has one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raftmail.resync.missing import Missing
from raftmail.storage.index import Index
from raftmail.storage.kv import scan
from raftmail.storage.records import FIXED, MESSAGE_KEY, IndexDamaged, unpack_message

HOLDERS_MAX = 1000
"""Messages that are told."""

_STEP_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Holder:
    """A message whose body is lost."""

    user: str
    mailbox: str
    uid: int
    digest: bytes

    def __str__(self) -> str:
        return f"{self.user}/{self.mailbox} UID {self.uid} (body {self.digest.hex()})"


class LostReport:
    """Looks for the holders of lost bodies in steps, whenever other bodies are lost than before.
    `holders` has what was found last."""

    def __init__(self, index: Index, missing: Missing) -> None:
        self.holders: tuple[Holder, ...] = ()
        self._index = index
        self._missing = missing
        self._known: frozenset[bytes] = frozenset()
        self._seen = -1
        self._looking: Iterator[None] | None = None
        self._fresh: list[Holder] = []

    def step(self) -> list[Holder]:
        """A bounded piece of work; holders that were not told before, when a search has ended."""
        if self._looking is None:
            if self._seen == self._missing.lost_changes:
                return []
            self._seen = self._missing.lost_changes
            digests = frozenset(self._missing.lost())
            if digests == self._known:
                return []
            self._known = digests
            self._looking = self._search(digests)
        if next(self._looking, self) is not self:
            return []
        self._looking = None
        fresh = [holder for holder in self._fresh if holder not in self.holders]
        self.holders = tuple(self._fresh)
        return fresh

    def _search(self, digests: frozenset[bytes]) -> Iterator[None]:
        self._fresh = []
        if not digests:
            return
        self._index.messages.settle()
        for count, (key, record) in enumerate(scan(self._index.engine.table("messages")), 1):
            if not count % _STEP_ROWS:
                yield
            try:
                blob = FIXED.unpack(unpack_message(key, record)[5])[3]
                if blob not in digests:
                    continue
                number, uid = MESSAGE_KEY.unpack(key)
                mailbox = self._index.mailboxes.get(number)
            except IndexDamaged:
                continue  # the scrub tells of it
            if mailbox is not None and len(self._fresh) < HOLDERS_MAX:
                self._fresh.append(Holder(mailbox.user, mailbox.name, uid, bytes(blob)))
