"""Under which names a user finds mailboxes of others (RFC 2342, RFC 9051 section 6.3.10).

Own mailboxes have their names. Those of others are `Other Users/USER/MAILBOX`. The mailboxes of
the user `shared-folders@DOMAIN` are `Shared Folders/MAILBOX` for all users of the domain."""

from __future__ import annotations

from typing import Final, NamedTuple

from raftmail.mail.names import SEPARATOR, is_user_name
from raftmail.mail.rights import domain_of

OTHER_USERS: Final = "Other Users"
SHARED_FOLDERS: Final = "Shared Folders"
_SHARED_OWNER: Final = "shared-folders"


class MailboxPlace(NamedTuple):
    """A mailbox by its owner and the name that it has there. `owner` is "" for a name in a
    namespace of others that no mailbox can have."""

    owner: str
    name: str


def shared_owner(user: str) -> str:
    """The user whose mailboxes are everybody's in a user's domain."""
    domain = domain_of(user)
    return f"{_SHARED_OWNER}@{domain}" if domain else _SHARED_OWNER


def place_of(name: str, user: str) -> MailboxPlace:
    """What a name means for a user. The name is good (`mail.names.mailbox_name`)."""
    top, _, rest = name.partition(SEPARATOR)
    if top == SHARED_FOLDERS:
        owner = shared_owner(user)
    elif top == OTHER_USERS:
        owner, _, rest = rest.partition(SEPARATOR)
        if owner == shared_owner(user) or not is_user_name(owner):
            owner = ""
    else:
        return MailboxPlace(user, name)
    if owner == user or not rest:
        owner = ""
    return MailboxPlace(owner, rest)


def full_name(owner: str, name: str, user: str) -> str:
    """The name under which a user finds a mailbox of an owner."""
    if owner == user:
        return name
    if owner == shared_owner(user):
        return f"{SHARED_FOLDERS}{SEPARATOR}{name}"
    return f"{OTHER_USERS}{SEPARATOR}{owner}{SEPARATOR}{name}"


def is_nameable(owner: str) -> bool:
    """Whether others can name mailboxes of an owner: the name is one part of theirs."""
    return not any(character in owner for character in (SEPARATOR, "*", "%"))


def reaches_others(pattern: str) -> bool:
    """Whether a LIST pattern may match names of mailboxes of others."""
    plain = pattern.split("*")[0].split("%")[0]
    is_plain = plain == pattern
    return any(
        plain.startswith(top) or (not is_plain and top.startswith(plain))
        for top in (OTHER_USERS, SHARED_FOLDERS)
    )
