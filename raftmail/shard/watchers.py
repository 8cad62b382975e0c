"""Who wants to know of changes to users' mail in one replica (see `mail.changes`).

Invariants:

1. A watcher hears of a change in the turn in which this replica applies it, after the apply.
2. After a resync every watcher hears `Missed`.
3. A replica that nobody watches keeps nothing, and pays nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from raftmail.mail.changes import Change, MailboxChanged, MailboxesChanged, Missed
from raftmail.storage.index import Index
from raftmail.storage.mailboxes import Mailboxes

logger = logging.getLogger(__name__)

Hear = Callable[[Change], None]
"""Called on the event loop; it must not raise."""


@dataclass(slots=True, repr=False)
class Watchers:
    """The watchers of one replica, by user."""

    index: Index
    _noting: Mailboxes | None = None
    """Keeps what changes. The index makes another one when it goes back to its last commit."""
    _by_user: dict[str, dict[Hear, None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._by_user)

    def add(self, user: str, hear: Hear) -> None:
        """Tell `hear` of every change to a user's mail from now on. Adding it again does
        nothing."""
        if self._noting is not self.index.mailboxes:
            self._note()
        self._by_user.setdefault(user, {})[hear] = None

    def remove(self, user: str, hear: Hear) -> None:
        """Harmless for one that is not there."""
        hearers = self._by_user.get(user)
        if hearers is not None:
            hearers.pop(hear, None)
            if not hearers:
                del self._by_user[user]
        if not self._by_user and self._noting is not None:
            self._noting.note_nothing()
            self._noting = None

    def tell(self) -> None:
        """Tell what was applied since the last call."""
        if not self._by_user:
            return
        if self._noting is not self.index.mailboxes:
            self._note()
            self.missed()
            return
        mailboxes, relisted = self.index.mailboxes.take_changes()
        for mailbox in mailboxes:
            if mailbox.user in self._by_user:
                self._say(
                    MailboxChanged(
                        mailbox.user,
                        mailbox.number,
                        mailbox.uidvalidity,
                        mailbox.uidnext,
                        mailbox.highestmodseq,
                        mailbox.messages,
                    )
                )
        for user in sorted(relisted):
            self._say(MailboxesChanged(user))

    def missed(self) -> None:
        """Tell everybody that anything may have changed."""
        for user in list(self._by_user):
            self._say(Missed(user))

    def _note(self) -> None:
        self._noting = self.index.mailboxes
        self._noting.note_changes()

    def _say(self, change: Change) -> None:
        for hear in list(self._by_user.get(change.user, ())):
            try:
                hear(change)
            except Exception:
                logger.exception("a watcher could not be told of a change")
