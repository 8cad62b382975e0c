"""The special use of a mailbox as clients write it (RFC 6154)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftmail.frontends.imap.client import CommandRefused
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.mail.names import SPECIAL_USES

_USES: Final = {use.lower(): use for use in SPECIAL_USES}


def special_use(words: Sequence[str]) -> str:
    """The one use that a client names, in our spelling; "" of none. Raises `CommandRefused` for
    others and for several (RFC 6154 section 3)."""
    found = {_USES.get(word.lower(), "") for word in words}
    if len(found) > 1 or "" in found:
        known = ", ".join(sorted(SPECIAL_USES))
        raise CommandRefused(ResponseCode.USEATTR, f"a mailbox has one special use, of {known}")
    return found.pop() if found else ""
