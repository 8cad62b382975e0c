"""The message that answers another while its reader is away (RFC 5230 section 5)."""

from __future__ import annotations

import base64
import re
from typing import Final

from raftmail.sieve.rule_dates import moment_of, std11
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import VacationReply
from raftmail.sieve.run_state import Surroundings

SUBJECT_CHARS_MAX: Final = 256
REFERENCES_MAX: Final = 20
"""Of the messages before, so many are named: the newest."""

_LINE_BYTES_MAX = 998
_WORD_BYTES_MAX = 45
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]+").sub
_PRINTABLE = re.compile("[ -~]*").fullmatch
_ID = re.compile(rb"<[!-;=?-~]{1,250}>").findall
_LINE_END = re.compile("\r\n|\r|\n")


def compose_reply(
    reply: VacationReply, message: RuleMessage, around: Surroundings, message_id: str
) -> bytes:
    """The whole message, with lines that end in CRLF. `message_id` is what stands between the angle
    brackets, and is to be unique. It goes out with the null path, so that nothing answers it."""
    ids = [one for raw in message.raw_values(b"message-id")[:1] for one in _ID(raw)[:1]]
    before = [one for raw in message.raw_values(b"references")[:1] for one in _ID(raw)]
    if not before:
        before = [one for raw in message.raw_values(b"in-reply-to")[:1] for one in _ID(raw)[:1]]
    lines = [
        f"From: {_sender(reply.sender) or f'<{around.recipient.whole.decode()}>'}",
        f"To: <{reply.to}>",
        f"Subject: {_encoded(reply.subject or _subject(message))}",
        f"Date: {std11(moment_of(around.now_unix_s, around.zone_minutes))}",
        f"Message-ID: <{message_id}>",
    ]
    if ids:
        lines.append(f"In-Reply-To: {ids[0].decode('ascii')}")
        references = [one.decode("ascii") for one in (*before[-REFERENCES_MAX:], ids[0])]
        lines.append("References: " + "\r\n ".join(references))
    lines += ["Auto-Submitted: auto-replied (vacation)", "Precedence: bulk", "MIME-Version: 1.0"]
    body = "\r\n".join(_LINE_END.split(reply.reason))
    if reply.is_mime:
        return ("\r\n".join([*lines, ""]) + body).encode()
    lines.append("Content-Type: text/plain; charset=utf-8")
    octets = body.encode()
    if body.isascii() and all(len(one) <= _LINE_BYTES_MAX for one in octets.split(b"\r\n")):
        lines.append("Content-Transfer-Encoding: 7bit")
    else:
        lines.append("Content-Transfer-Encoding: base64")
        octets = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    return "\r\n".join([*lines, "", ""]).encode() + octets.removesuffix(b"\r\n") + b"\r\n"


def _subject(message: RuleMessage) -> str:
    """RFC 5230 section 5.3: what tells that a machine answers, and what it answers."""
    values = message.values(b"subject", _free)
    return "Auto: " + (values[0].decode("utf-8", "replace") if values else "your message")


def _free(octets: int) -> None:
    """One field: no rule pays for it."""


def _sender(text: str) -> str:
    """`Name <address>` for a field; the name is encoded where it has to be."""
    name, opened, address = text.strip().rpartition("<")
    if not opened:
        return f"<{text.strip()}>" if text.strip() else ""
    name = name.strip()
    shown = _CONTROLS(" ", name) if _PRINTABLE(name) else _encoded(name.strip('"'))
    return f"{shown} <{address}".lstrip()


def _encoded(text: str) -> str:
    """Unstructured text for a field, in words of RFC 2047 where it is not ASCII. What would end the
    field is a blank."""
    text = _CONTROLS(" ", text)[:SUBJECT_CHARS_MAX]
    if _PRINTABLE(text) and "=?" not in text:
        return text
    words: list[str] = []
    piece = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(piece) + len(octets) > _WORD_BYTES_MAX:
            words.append(base64.b64encode(piece).decode())
            piece = b""
        piece += octets
    words.append(base64.b64encode(piece).decode())
    return "\r\n ".join(f"=?utf-8?b?{one}?=" for one in words)
