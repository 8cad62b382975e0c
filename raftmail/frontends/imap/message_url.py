"""URLs of messages and their parts, as CATENATE takes them (RFC 4469 section 3, RFC 5092).

Taken are those that are relative: to the user's own mailboxes, or to the mailbox that is selected.

    /Drafts;UIDVALIDITY=385759045/;UID=20/;SECTION=1.MIME/;PARTIAL=0.1024
    ;UID=20/;SECTION=HEADER
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from raftmail.frontends.imap.fetch_items import BodySection, Partial, SectionKind
from raftmail.frontends.imap.grammar_message import read_section
from raftmail.frontends.imap.scanner import NUMBER63_MAX, NUMBER_MAX

URL_BYTES_MAX: Final = 4096

_URL = re.compile(
    rb"(?:(?P<mailbox>/?[^;/][^;]*?)(?:;UIDVALIDITY=(?P<validity>[1-9][0-9]{0,9}))?/)?"
    rb";UID=(?P<uid>[1-9][0-9]{0,9})"
    rb"(?:/;SECTION=(?P<section>[^;/?#]+))?"
    rb"(?:/;PARTIAL=(?P<first>[0-9]{1,19})(?:\.(?P<count>[1-9][0-9]{0,18}))?)?",
    re.IGNORECASE,
)
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ALL = BodySection((), SectionKind.ALL, (), None, True, b"BODY[]")


class BadUrlError(ValueError):
    """No URL of a message that can be reached from here. The text says why."""


@dataclass(frozen=True, slots=True)
class MessageUrl:
    """`mailbox` is a name, not yet looked at; None: the one that is selected. `uidvalidity` is 0
    where the URL has none."""

    mailbox: str | None
    uidvalidity: int
    uid: int
    section: BodySection


def read_url(text: bytes, selected: str | None) -> MessageUrl:
    """The URL in a text, relative to the mailbox that is selected. Raises `BadUrlError`."""
    if len(text) > URL_BYTES_MAX:
        raise BadUrlError(f"a URL has at most {URL_BYTES_MAX} bytes")
    found = _URL.fullmatch(text)
    if found is None or _SCHEME.match(text) or _ESCAPE.search(text):
        raise BadUrlError("it is no relative URL of a message, such as /Drafts/;UID=7")
    uid, validity = int(found["uid"]), int(found["validity"] or 0)
    if max(uid, validity) > NUMBER_MAX:
        raise BadUrlError("a number is too large")
    try:
        mailbox = _mailbox(found["mailbox"], selected)
        section = _section(found["section"])
    except ValueError as e:
        raise BadUrlError(str(e)) from None
    return MessageUrl(mailbox, validity, uid, _part(section, found["first"], found["count"]))


def _mailbox(path: bytes | None, selected: str | None) -> str | None:
    """A path that does not begin with `/` stands beside the mailbox that is selected (RFC 3986
    section 5.2.3)."""
    if path is None:
        if selected is None:
            raise BadUrlError("no mailbox is selected that it could be relative to")
        return None
    name = unquote_to_bytes(path).decode()
    if name.startswith("/"):
        return name[1:]
    above = (selected or "").rpartition("/")[0]
    return f"{above}/{name}" if above else name


def _section(text: bytes | None) -> BodySection:
    if text is None:
        return _ALL
    return read_section(unquote_to_bytes(text))


def _part(section: BodySection, first: bytes | None, count: bytes | None) -> BodySection:
    if first is None:
        return section
    partial = Partial(min(int(first), NUMBER63_MAX), min(int(count or NUMBER63_MAX), NUMBER63_MAX))
    return BodySection(
        section.part, section.kind, section.fields, partial, section.peek, section.shown
    )
