"""What a client that wants to hear of annotations knows of them (RFC 5464 section 4.4.2).

The service's watch says that something changed. What it was is read, as digests, and compared with
what the client was told: so a change that was heard twice is told once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from raftmail.frontends.imap.mailbox_reader import MailboxReader
from raftmail.mail.annotations import annotation_digest


class AnnotationNews:
    """Memory is bounded by the annotations that a user can have: some 200 bytes for each."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], bytes] = {}
        self.stale = False
        """Something changed, or may have, that `take` has not looked at."""

    async def begin(self, reader: MailboxReader) -> None:
        """Note how everything is now. Raises `Unavailable`."""
        self._known = await reader.annotation_digests()
        self.stale = False

    async def take(self, reader: MailboxReader) -> dict[int, list[str]]:
        """Names of annotations that are not as the client knows them, by number of the mailbox (0:
        the server's). Raises `Unavailable`, and then nothing is forgotten."""
        found = await reader.annotation_digests()
        self.stale = False
        names: dict[int, list[str]] = defaultdict(list)
        for key in sorted(found.keys() | self._known.keys()):
            if found.get(key) != self._known.get(key):
                names[key[0]].append(key[1])
        self._known = found
        return names

    def know(self, number: int, entries: Iterable[tuple[str, bytes | None]]) -> None:
        """The client itself has set annotations: it is not told of that."""
        for name, value in entries:
            if value is None:
                self._known.pop((number, name), None)
            else:
                self._known[number, name] = annotation_digest(value)
