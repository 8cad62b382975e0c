"""The base subject of a message: what it has in common with its replies (RFC 5256 section 2.1)."""

from __future__ import annotations

import re
from typing import NamedTuple

from raftmail.frontends.imap.header_text import fold
from raftmail.mail.encoded_words import decode_words
from raftmail.mail.headers import unfold

_SPACES = re.compile(r"[ \t\r\n]+").sub
_BLOB = r"\[[^\[\]]*+\]\ *+"
_BLOBS = re.compile(rf"(?:{_BLOB})++").match
_LEADER = re.compile(rf"(?:{_BLOB})*+(?:re|fwd?)\ *+(?:{_BLOB})?+:\ *+", re.IGNORECASE).match
_TRAILER = "(fwd)"
_FORWARDED = "[fwd:"


class BaseSubject(NamedTuple):
    """`text` is folded, ready to be compared. `reply` tells that something was taken off that makes
    the message a reply to another, or one forwarded."""

    text: str
    reply: bool


def base_subject(raw: bytes) -> BaseSubject:
    """The base subject of a raw Subject value, in time linear in its length."""
    text = _SPACES(" ", decode_words(unfold(raw)))
    start, end = 0, len(text)
    reply = False
    while True:
        start, end, trailed = _without_trailers(text, start, end)
        start, led = _without_leaders(text, start, end)
        reply = reply or trailed or led
        if not (text.startswith("[", start, end) and text.endswith("]", start, end)):
            break
        if text[start : start + len(_FORWARDED)].lower() != _FORWARDED or end - start < 6:
            break
        reply = True
        start, end = start + len(_FORWARDED), end - 1
    return BaseSubject(fold(text[start:end]), reply)


def _without_trailers(text: str, start: int, end: int) -> tuple[int, int, bool]:
    """Step 2: `(fwd)` and space at the end; with it goes space at the start."""
    trailed = False
    while True:
        while start < end and text[end - 1] == " ":
            end -= 1
        if end - start < len(_TRAILER) or text[end - len(_TRAILER) : end].lower() != _TRAILER:
            break
        end -= len(_TRAILER)
        trailed = True
    while start < end and text[start] == " ":
        start += 1
    return start, end, trailed


def _without_leaders(text: str, start: int, end: int) -> tuple[int, bool]:
    """Steps 3 to 5: `re:` and its like, and blobs in brackets that something comes after."""
    led = False
    while (leader := _LEADER(text, start, end)) is not None:
        start = leader.end()
        led = True
    blobs = _BLOBS(text, start, end)
    if blobs is None:
        return start, led
    if blobs.end() < end:
        return blobs.end(), led
    return text.rindex("[", start, end), led
