"""A session's interest in a user's mail: what changed since it looked last, bounded.

Changes are hints (see `mail.changes`): of one mailbox the newest stands for all before it.
At the bound all of them together become one `Missed`, and the session compares everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from raftmail.mail.changes import Change, MailboxChanged, Missed

CHANGES_MAX: Final = 256
"""Mailboxes whose changes wait to be taken by one session."""


class Closable(Protocol):
    """Where the changes come from."""

    def close(self) -> None:
        """Tell no more. May be called twice."""


@dataclass(slots=True, eq=False, repr=False)
class Watch:
    """The changes that a session has not taken.

    Invariants: at most `changes_max` wait; `wake` is called when the first of them comes.
    """

    wake: Callable[[], None]
    changes_max: int = CHANGES_MAX
    source: Closable | None = None
    _waiting: dict[object, Change] = field(default_factory=dict)

    def hear(self, change: Change) -> None:
        """Something changed."""
        waiting = self._waiting
        was_empty = not waiting
        if isinstance(change, Missed):
            waiting.clear()
        if Missed in waiting:
            return  # whoever compares everything needs to know nothing else
        key = change.mailbox if isinstance(change, MailboxChanged) else type(change)
        waiting.pop(key, None)
        waiting[key] = change
        if len(waiting) > self.changes_max:
            waiting.clear()
            waiting[Missed] = Missed(change.user)
        if was_empty:
            self.wake()

    def take(self) -> list[Change]:
        """What changed since the last call, oldest first."""
        taken = list(self._waiting.values())
        self._waiting.clear()
        return taken

    def close(self) -> None:
        """Hear nothing more. May be called twice."""
        self._waiting.clear()
        if self.source is not None:
            self.source.close()
