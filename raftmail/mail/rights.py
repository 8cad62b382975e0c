"""Who may do what with a mailbox (RFC 4314): rights, identifiers, and what follows from a list of
them. Fixed rules, for they are asked when commands are applied.

An identifier is a user's name, or `anyone`: all users of the owner's domain. With `-` before it, it
takes rights away (section 2). There are no groups. The owner of a mailbox always has all rights.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

from raftmail.mail.names import check_user_name, quoted

RIGHTS: Final = "lrswipkxtea"
"""In the order in which they are kept and told (section 2.1)."""

ANYONE: Final = "anyone"
ACL_ENTRIES_MAX: Final = 200
"""Identifiers of one mailbox."""

SHARERS_MAX: Final = 5000
"""Owners that share mailboxes with one user, or with all users of a domain."""

AclEntry: TypeAlias = tuple[str, str]
"""An identifier and its rights; they ascend, and each has rights."""

_OBSOLETE: Final = {"c": "kx", "d": "te"}
"""What the rights of RFC 2086 stand for (section 2.1.1)."""

_NEGATIVE: Final = "-"


def read_rights(text: str) -> str:
    """Rights as somebody writes them, in their order, each once. Raises ValueError."""
    for right in text:
        if right not in RIGHTS and right not in _OBSOLETE:
            raise ValueError(f"{quoted(right)} is no right: there are {' '.join(RIGHTS)}")
    for obsolete, stands_for in _OBSOLETE.items():
        text = text.replace(obsolete, stands_for)
    return "".join(right for right in RIGHTS if right in text)


def shown_rights(rights: str) -> str:
    """As clients are told: with the rights of RFC 2086 (section 2.1.1)."""
    obsolete = [one for one, parts in _OBSOLETE.items() if any(part in rights for part in parts)]
    return rights + "".join(obsolete)


def check_rights(field: str, rights: object) -> None:
    """Whether rights are as they are kept. Raises ValueError."""
    if type(rights) is not str or len(rights) > len(RIGHTS) or read_rights(rights) != rights:
        raise ValueError(f"{field}: some of {RIGHTS}, in this order")


def check_identifier(field: str, identifier: object) -> None:
    """Raises ValueError for what is no identifier."""
    if type(identifier) is not str:
        raise ValueError(f"{field}: text")
    try:
        check_user_name(whose(identifier))
    except ValueError as e:
        raise ValueError(f"{field}: {e}") from None


def whose(identifier: str) -> str:
    """The user, or `anyone`, whom an identifier gives rights or takes them from."""
    return identifier.removeprefix(_NEGATIVE)


def is_negative(identifier: str) -> bool:
    """Whether it takes rights away."""
    return identifier.startswith(_NEGATIVE)


def check_entries(field: str, entries: object) -> None:
    """Whether a list is as it is kept. Raises ValueError."""
    if type(entries) is not tuple or len(entries) > ACL_ENTRIES_MAX:
        raise ValueError(f"{field}: at most {ACL_ENTRIES_MAX}")
    before = ""
    for entry in entries:
        if type(entry) is not tuple or len(entry) != 2:
            raise ValueError(f"{field}: pairs")
        check_identifier(field, entry[0])
        check_rights(field, entry[1])
        if entry[0] <= before or not entry[1]:
            raise ValueError(f"{field}: they ascend, and each has rights")
        before = entry[0]


def rights_of(user: str, owner: str, entries: Iterable[AclEntry]) -> str:
    """What a user may do with a mailbox of an owner."""
    if user == owner:
        return RIGHTS
    given, taken = "", ""
    for identifier, rights in entries:
        who = whose(identifier)
        if who == user or (who == ANYONE and domain_of(user) == domain_of(owner)):
            if is_negative(identifier):
                taken += rights
            else:
                given += rights
    return "".join(right for right in RIGHTS if right in given and right not in taken)


def domain_of(user: str) -> str:
    """What stands behind the @ of a user's name; "" of one without."""
    return user.rpartition("@")[2] if "@" in user else ""


def grantee(identifier: str, owner: str) -> str:
    """Under which name it is kept that an owner shares mailboxes: the user's; of `anyone`, what
    stands for all users of the owner's domain."""
    who = whose(identifier)
    return everybody(owner) if who == ANYONE else who


def everybody(user: str) -> str:
    """What stands for all users of a user's domain."""
    domain = domain_of(user)
    return f"{ANYONE}@{domain}" if domain else ANYONE


def is_everybody(name: str) -> bool:
    """Whether a name stands for all users of a domain."""
    return name.partition("@")[0] == ANYONE
