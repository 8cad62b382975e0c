"""What is the same address, everywhere: accounts, recipients, aliases, quotas, catch-alls, whoever
names them and through which door.

`account` gives an address its one form:

* the local part in NFC, with A to Z made small. Nothing else is folded: `straße` and `strasse` are
  two people, and so are names that end in a final sigma or not. Quotes go where they are not
  needed: `"anna"@x` is `anna@x`;
* the domain as DNS has it: small letters, A-labels (`xn--…`), so that both spellings of a domain
  are the same (IDNA 2008, UTS 46).

It refuses what no delivery can reach, or what cannot be seen: with the reason. This needs Unicode's
tables, and so it is done before a command is made. `check_new` has fixed rules, and is asked again
when the command is applied.

Users who were made under earlier rules are found as well: `spellings` has their form, too. A
recipient stands for the first of its `recipients` that exists: the whole address, then what is
before the separators, the longest first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import idna

from raftmail.mail.names import check_user_name, code_point, is_user_name, quoted, unseen
from raftmail.mail.new_accounts import DOMAIN_BYTES_MAX, check_new

GIVEN_CHARS_MAX: Final = 1000
DETAILS_MAX: Final = 4
"""So many separators of a local part are tried, from the end; and the first."""

POSTMASTER: Final = "postmaster"
"""The one address without a domain that mail is sent to (RFC 5321 section 4.1.1.3): an alias can
have it."""

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"@([^@]*)', re.ASCII | re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SMALL = {ord(capital): ord(capital) + 32 for capital in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def account(text: str) -> str:
    """The one form of an address that somebody gives. Raises ValueError that says what is wrong."""
    if len(text) > GIVEN_CHARS_MAX:
        raise ValueError(f"an address of {len(text)} characters is too long")
    if character := unseen(text):
        raise ValueError(
            f"{quoted(text)}: an address has no spaces and nothing that cannot be seen "
            f"({character})"
        )
    local, domain_ = _split(text)
    made = f"{local_form(local)}@{domain(domain_)}" if domain_ is not None else local_form(local)
    check_new(made)
    if not made.isascii():
        _check_letters(made)
    return made


def alias_address(text: str) -> str:
    """`account`, of an address that an alias may have. Raises ValueError."""
    return POSTMASTER if text.lower() == POSTMASTER else account(text)


def spellings(text: str) -> tuple[str, ...]:
    """The names under which the user of an address may be there, the right one first: after it
    those that earlier releases gave, which let everything pass. Raises ValueError with the reason
    when there can be none."""
    found: dict[str, None] = {}
    reason: ValueError | None = None
    try:
        found[account(text)] = None
    except ValueError as e:
        reason = e
    try:
        found[_earlier(text)] = None
    except ValueError as e:
        reason = reason or e
    if not found:
        raise reason or ValueError(f"{quoted(text)} is no address")
    return tuple(found)


def named(text: str) -> str:
    """The name that a user of an address has who is there: the right one, or for what could not be
    made today the earlier one. Raises ValueError."""
    return spellings(text)[0]


def domain(text: str) -> str:
    """The one form of a domain: small letters, A-labels. Raises ValueError."""
    if character := unseen(text):
        raise ValueError(f"{quoted(text)}: a domain has nothing that cannot be seen ({character})")
    return _domain(text)


def parse_domains(text: str) -> list[str]:
    """Domains with commas between them, each in its one form. Raises ValueError as `domain`."""
    return [domain(part.strip()) for part in text.split(",") if part.strip()]


def local_form(local: str) -> str:
    """The one form of a local part without quotes."""
    if local.isascii():
        return local.lower()
    return _nfc(_nfc(local).translate(_SMALL))


def recipients(local: str, domain_: str, separator: str) -> Iterator[tuple[str, str]]:
    """The accounts that a recipient may stand for, each with the detail for it (as it was sent): of
    those that exist the first gets the mail. `local` is without quotes; `separator` "" is none."""
    domains = _domains(domain_)
    for user, detail in _details(local, separator):
        forms = [local_form(user)]
        if not user.isascii():  # as earlier releases named who was made then
            forms.append(_nfc(_nfc(user).lower()))
        for form in dict.fromkeys(forms):
            for one in domains:
                name = f"{form}@{one}" if one else form
                if is_user_name(name):
                    yield name, detail


def _details(local: str, separator: str) -> list[tuple[str, str]]:
    """The whole local part, and what is before and behind its separators, the longest first."""
    found = [(local, "")]
    if not separator or separator not in local:
        return found
    places = [at for at in range(1, len(local)) if local.startswith(separator, at)]
    tried = places[-DETAILS_MAX:]
    if places and places[0] not in tried:
        tried.insert(0, places[0])
    found += [(local[:at], local[at + len(separator) :]) for at in reversed(tried)]
    return found


def _domains(domain_: str) -> tuple[str, ...]:
    """The forms of a recipient's domain: the right one, and that of users who were made when
    domains were not turned into A-labels."""
    if not domain_:
        return ("",)
    if domain_.isascii() and "xn--" not in domain_.lower():
        return (domain_.lower(),)
    try:
        right = _domain(domain_)
        unicode = _nfc(".".join(map(idna.ulabel, right.split("."))).lower())
    except (ValueError, idna.IDNAError):
        return (_nfc(domain_.lower()),)
    return tuple(dict.fromkeys((right, unicode, _nfc(domain_.lower()))))


def _split(text: str) -> tuple[str, str | None]:
    """Local part, without quotes, and domain; None: there is no @."""
    found = _QUOTED.fullmatch(text)
    if found is not None:
        return _ESCAPE.sub(r"\1", found[1]), found[2]
    local, at, domain_ = text.rpartition("@")
    if not at:
        return text, None
    if not local or not domain_:
        raise ValueError(f"{quoted(text)}: something stands on both sides of the @ of an address")
    return local, domain_


@lru_cache(maxsize=4096)
def _domain(text: str) -> str:
    shown = quoted(text)
    if len(text) > DOMAIN_BYTES_MAX:
        raise ValueError(f"{shown}: a domain has at most {DOMAIN_BYTES_MAX} bytes")
    if text.isascii() and "xn--" not in text.lower():
        return text.lower()
    try:
        mapped = idna.uts46_remap(text, std3_rules=False, transitional=False)
        labels = []
        for label in mapped.split("."):
            alabel = label
            if not label.isascii():
                alabel = idna.alabel(label).decode()
            elif label.startswith("xn--"):
                idna.ulabel(label)  # raises for what no label in Unicode gives
            labels.append(alabel)
    except (ValueError, idna.IDNAError) as e:
        raise ValueError(f"{shown} is no domain: {str(e)[:200]}") from None
    return ".".join(labels)


def _check_letters(address: str) -> None:
    """Of what is not ASCII: everything is assigned, and of no kind that is not seen. Raises
    ValueError."""
    for character in address:
        kind = unicodedata.category(character)
        if kind[0] in "CZ":
            raise ValueError(
                f"{quoted(address)}: an address has nothing that cannot be seen "
                f"({code_point(character)})"
            )
    if unicodedata.category(address[0])[0] == "M":
        raise ValueError(
            f"{quoted(address)}: an address does not begin with a mark that belongs to the letter "
            f"before it"
        )


def _earlier(text: str) -> str:
    """The name that earlier releases gave: NFC, all made small. Raises ValueError."""
    if len(text) > GIVEN_CHARS_MAX:
        raise ValueError(f"an address of {len(text)} characters is too long")
    name = text.lower() if text.isascii() else _nfc(_nfc(text).lower())
    check_user_name(name)
    return name


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
