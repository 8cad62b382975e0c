"""The log-in of a client at a node: the dialogue, and what its end means."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from raftmail.proxy.first_message import encode
from raftmail.proxy.node_connection import NodeConnection, NodeLost
from raftmail.proxy.steps import LogInWanted

Relay = Callable[[bytes], Awaitable[bytes]]
"""Shows a client a node's line, and gives the client's answer, both without their ends."""


class NodeVerdict(Enum):
    """What a node says to a log-in."""

    IN = auto()
    """The client is in."""
    REFUSED = auto()
    """It is not, and another node would say the same."""
    UNAVAILABLE = auto()
    """The node cannot tell now."""


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """The end of a log-in; `said` is for the client, as it stands."""

    verdict: NodeVerdict
    said: bytes = field(repr=False)


_IMAP_VERDICTS: Final = {b"OK": NodeVerdict.IN, b"NO": NodeVerdict.REFUSED}


async def imap_log_in(connection: NodeConnection, wanted: LogInWanted, relay: Relay) -> NodeAnswer:
    """By AUTHENTICATE with a first answer (RFC 9051 section 6.2.2). Raises `NodeLost`."""
    shown, tag = wanted.shown, wanted.tag
    message = encode(shown.message) or b"="
    connection.write(b"%b AUTHENTICATE %b %b\r\n" % (tag, shown.mechanism.encode(), message))
    told = b""
    while True:
        line = await connection.line()
        if line.startswith(b"+ "):
            connection.write(await relay(line) + b"\r\n")
        elif line.startswith(b"* BYE"):
            raise NodeLost("it says BYE")
        elif line.startswith(b"* "):
            told += line + b"\r\n"
        elif line.startswith(tag + b" "):
            word, _, text = line[len(tag) + 1 :].partition(b" ")
            verdict = _IMAP_VERDICTS.get(word.upper(), NodeVerdict.REFUSED)
            if verdict is NodeVerdict.REFUSED and text.startswith(b"[UNAVAILABLE]"):
                verdict = NodeVerdict.UNAVAILABLE
            return NodeAnswer(verdict, told + line + b"\r\n")
        else:
            raise NodeLost(f"it answers a log-in with {line[:40].decode('latin-1')}")


async def pop3_log_in(connection: NodeConnection, wanted: LogInWanted, relay: Relay) -> NodeAnswer:
    """By AUTH (RFC 5034 section 4), behind UTF8 where the client has said that (RFC 6856). Raises
    `NodeLost`."""
    shown = wanted.shown
    if wanted.utf8:
        connection.write(b"UTF8\r\n")
        if not (await connection.line()).startswith(b"+OK"):
            raise NodeLost("it has no UTF8")
    message = encode(shown.message) or b"="
    connection.write(b"AUTH %b %b\r\n" % (shown.mechanism.encode(), message))
    while True:
        line = await connection.line()
        if line.startswith(b"+ "):
            connection.write(await relay(line) + b"\r\n")
        elif line.startswith(b"+OK"):
            return NodeAnswer(NodeVerdict.IN, line + b"\r\n")
        elif line.startswith(b"-ERR"):
            is_temporary = line.startswith(b"-ERR [SYS/TEMP]")
            verdict = NodeVerdict.UNAVAILABLE if is_temporary else NodeVerdict.REFUSED
            return NodeAnswer(verdict, line + b"\r\n")
        else:
            raise NodeLost(f"it answers a log-in with {line[:40].decode('latin-1')}")


async def managesieve_log_in(
    connection: NodeConnection, wanted: LogInWanted, relay: Relay
) -> NodeAnswer:
    """By AUTHENTICATE with a first answer (RFC 5804 section 2.1). Raises `NodeLost`."""
    shown = wanted.shown
    message = encode(shown.message)
    connection.write(
        b'AUTHENTICATE "%b" {%d+}\r\n%b\r\n' % (shown.mechanism.encode(), len(message), message)
    )
    while True:
        line = await connection.line()
        if line.startswith(b'"'):
            connection.write(await relay(line) + b"\r\n")
        elif line.startswith(b"OK"):
            return NodeAnswer(NodeVerdict.IN, line + b"\r\n")
        elif line.startswith(b"NO"):
            is_temporary = line.startswith(b"NO (TRYLATER)")
            verdict = NodeVerdict.UNAVAILABLE if is_temporary else NodeVerdict.REFUSED
            return NodeAnswer(verdict, line + b"\r\n")
        else:
            raise NodeLost(f"it answers a log-in with {line[:40].decode('latin-1')}")
