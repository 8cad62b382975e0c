"""The mailboxes that a new user begins with, beside INBOX: names with special uses (RFC 6154)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftmail.mail.names import (
    INBOX,
    SEPARATOR,
    SPECIAL_USES,
    mailbox_name,
    parents,
    quoted,
    stored_name,
)

FIRST_MAILBOXES_MAX: Final = 32

FirstMailboxes = tuple[tuple[str, str], ...]
"""Names, and special uses ("": none)."""


def check_first_mailboxes(mailboxes: Sequence[tuple[str, str]]) -> None:
    """Whether a command may name these: by fixed rules alone, for it is asked when commands are
    applied. Raises ValueError that says what is wrong."""
    if len(mailboxes) > FIRST_MAILBOXES_MAX:
        raise ValueError(f"at most {FIRST_MAILBOXES_MAX} mailboxes, not {len(mailboxes)}")
    seen: set[str] = {INBOX}
    uses: set[str] = set()
    for name, use in mailboxes:
        name = stored_name(name)
        if name in seen:
            raise ValueError(f"{quoted(name)} stands after itself, or after what is below it")
        seen.update((name, *parents(name)))
        if use and use not in SPECIAL_USES:
            known = ", ".join(sorted(SPECIAL_USES))
            raise ValueError(f"{quoted(use)} is no special use; there are {known}")
        if use and use in uses:
            raise ValueError(f"two mailboxes are {use}; each special use is for one")
        uses.add(use)


def parse_first_mailboxes(text: str) -> FirstMailboxes:
    """What stands in the configuration: `NAME` or `NAME=USE`, with commas between them. A name
    that is a special use has that, unless it says otherwise (`Sent=`). Raises ValueError."""
    usual = {use[1:]: use for use in SPECIAL_USES}
    found = []
    for item in filter(None, map(str.strip, text.split(","))):
        name, equals, use = (part.strip() for part in item.partition("="))
        name = mailbox_name(name)
        if not equals:
            use = usual.get(name.rpartition(SEPARATOR)[2], "")
        elif use:
            use = "\\" + use.removeprefix("\\").capitalize()
        found.append((name, use))
    check_first_mailboxes(found)
    return tuple(found)
