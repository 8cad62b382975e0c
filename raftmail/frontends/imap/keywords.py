"""The flags that a client has been told a mailbox has (RFC 9051 section 7.3.5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from raftmail.frontends.imap import responses

_SYSTEM_FLAGS: Final = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")

_SEEN_MAX: Final = 1000
"""Combinations of flags that are known to be announced; then they are looked at again."""


class Keywords:
    """Some clients pass over a keyword that FLAGS has not named. So FLAGS comes again before the
    first message that has a new one."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = list(names)
        self._known = {name.lower() for name in self._names}
        self._seen: set[tuple[str, ...]] = set()

    @property
    def shown(self) -> bytes:
        """All flags, as FLAGS has them."""
        return responses.flags((*_SYSTEM_FLAGS, *self._names))

    def announce(self, flags: tuple[str, ...]) -> bytes:
        """The line that has to go before these flags of a message; b"" when none has to."""
        if flags in self._seen:
            return b""
        if len(self._seen) >= _SEEN_MAX:
            self._seen.clear()
        self._seen.add(flags)
        new = [one for one in flags if one[:1] != "\\" and one.lower() not in self._known]
        if not new:
            return b""
        self._names += new
        self._known.update(one.lower() for one in new)
        return b"* FLAGS %b\r\n" % self.shown
