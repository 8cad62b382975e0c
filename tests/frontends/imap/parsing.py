"""What a client's bytes become, for tests."""

from __future__ import annotations

from raftmail.frontends.imap.commands import ImapCommand
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.grammar import parse
from raftmail.frontends.imap.request_reader import Event, ImapRequest, RequestLimits, RequestReader
from raftmail.frontends.imap.scanner import ParseError
from raftmail.net.lines import Admit, ProtocolViolation

SMALL = RequestLimits(
    line_bytes_max=60,
    literal_bytes_max=40,
    string_bytes_max=20,
    request_bytes_max=200,
    discard_bytes_max=100,
    literals_max=3,
)
UTF8 = Dialect(utf8=True)
UTF8_ACCEPT = Dialect(utf8=True, utf8_accept=True)


def drained(reader: RequestReader) -> list[Event]:
    """All events that there are, past those that change how the stream is read on."""
    found: list[Event] = []
    while events := reader.take():
        found += events
    return found


def events_of(
    *chunks: bytes, limits: RequestLimits | None = None, admit: Admit | None = None
) -> list[Event | str]:
    """The events of bytes that come in these chunks; the text of the violation is the last."""
    reader = RequestReader(limits or RequestLimits(), admit)
    found: list[Event | str] = []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            while events := reader.take():
                found += events
    except ProtocolViolation as error:
        found.append(str(error))
    return found


def request_of(text: bytes) -> ImapRequest:
    """The one request that a text without tag is; its literals are non-synchronising."""
    (event,) = events_of(b"a " + text + b"\r\n")
    assert isinstance(event, ImapRequest), event
    return event


def parsed(text: bytes, dialect: Dialect | None = None) -> ImapCommand:
    """The command that a text without tag is."""
    return parse(request_of(text), dialect or Dialect())


def wrong(text: bytes, dialect: Dialect | None = None) -> str:
    """What a text without tag is refused with, as the answer begins; "" when it is a command."""
    try:
        parsed(text, dialect)
    except ParseError as error:
        code = f"[{error.code}] " if error.code else ""
        return f"{'NO' if error.no else 'BAD'} {code}{error}"
    return ""
