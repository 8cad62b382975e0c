"""POP3 as far as it goes before a log-in (RFC 1939 section 4, RFC 2449, RFC 5034), without I/O."""

from __future__ import annotations

from typing import Final

from raftmail.net.web import is_no_command
from raftmail.proxy.first_message import FirstMessage, NotSasl, decode, encode, password_shown
from raftmail.proxy.steps import (
    BeginTls,
    EndWithClient,
    FrontStep,
    LogInWanted,
    SayToClient,
)

LINE_BYTES_MAX: Final = 17 * 1024
BAD_COMMANDS_MAX: Final = 20

_LATER: Final = frozenset(b"STAT LIST RETR DELE NOOP RSET TOP UIDL".split())
_CAPABILITIES: Final = (
    "TOP",
    "UIDL",
    "RESP-CODES",
    "AUTH-RESP-CODE",
    "PIPELINING",
    "EXPIRE NEVER",
    "UTF8 USER",
    "IMPLEMENTATION raftmail",
)


class Pop3Front:
    """Give it bytes; do what `next` says, until it says nothing."""

    def __init__(self, mechanisms: tuple[str, ...], *, may_start_tls: bool, trusted: bool) -> None:
        """`trusted`: a password may be sent on this connection as it is."""
        self._mechanisms = mechanisms
        self._may_start_tls = may_start_tls
        self._trusted = trusted
        self._unread = b""
        self._user = b""
        self._utf8 = False
        self._exchange: FirstMessage | None = None
        self._bad_commands = 0
        self.is_client = False
        """It has said what only a client of POP3 says."""

    @property
    def unread_bytes(self) -> int:
        """What was not looked at."""
        return len(self._unread)

    def greeting(self) -> bytes:
        """The first line."""
        return b"+OK raftmail is ready\r\n"

    def secured(self) -> None:
        """TLS has begun: what was said in the clear counts no more (RFC 2595 section 4)."""
        self._may_start_tls = False
        self._trusted = True
        self._unread = self._user = b""
        self._utf8 = False

    def feed(self, data: bytes) -> None:
        """Add what came."""
        self._unread += data

    def take_rest(self) -> bytes:
        """All that was not looked at: it is the node's now."""
        rest, self._unread = self._unread, b""
        return rest

    def take_line(self) -> bytes | None:
        """A line, without its end; None until one has come."""
        end = self._unread.find(b"\n")
        if end < 0:
            return None
        line, self._unread = self._unread[:end], self._unread[end + 1 :]
        return line.removesuffix(b"\r")

    def next(self) -> FrontStep | None:
        """What to do now; None: wait for more."""
        line = self.take_line()
        if line is None or len(line) > LINE_BYTES_MAX:
            if line is not None or len(self._unread) > LINE_BYTES_MAX:
                return EndWithClient(b"-ERR a line before a log-in is not so long\r\n")
            return None
        if self._exchange is not None:
            first, self._exchange = self._exchange, None
            try:
                first.answer(decode(line))
            except NotSasl as error:
                return self._err(str(error).encode())
            return self._go_on(first)
        if not self.is_client and is_no_command(line + b"\r\n"):
            return EndWithClient(b"-ERR this is POP3, and that was something else\r\n")
        verb, _, text = line.partition(b" ")
        try:
            return self._perform(verb.upper(), text)
        except NotSasl as error:
            return self._err(str(error).encode())

    def _perform(self, verb: bytes, text: bytes) -> FrontStep:
        match verb:
            case b"CAPA":
                return self._ok(b"this is what there is", self._capabilities())
            case b"QUIT":
                return EndWithClient(b"+OK bye\r\n")
            case b"STLS":
                return self._start_tls()
            case b"UTF8":
                self._utf8 = True
                return self._ok(b"UTF-8 it is")
            case b"USER":
                if not self._trusted:
                    return self._err(b"begin TLS first")
                if not text:
                    return self._err(b"USER has a name")
                self._user = text
                return self._ok(b"and the password?")
            case b"PASS":
                user, self._user = self._user, b""
                if not user:
                    return self._err(b"USER comes first")
                return LogInWanted(password_shown(user, text), utf8=self._utf8)
            case b"AUTH":
                return self._authenticate(text.split())
        return self._err(b"log in first" if verb in _LATER else b"there is no such command")

    def _capabilities(self) -> bytes:
        lines = list(_CAPABILITIES)
        if self._trusted:
            lines += ["USER", f"SASL {' '.join(self._mechanisms)}"]
        if self._may_start_tls:
            lines.append("STLS")
        return "\r\n".join((*lines, ".", "")).encode()

    def _ok(self, text: bytes, behind: bytes = b"") -> SayToClient:
        self.is_client = True
        return SayToClient(b"+OK %b\r\n%b" % (text, behind))

    def _err(self, text: bytes) -> FrontStep:
        self._bad_commands += 1
        if self._bad_commands > BAD_COMMANDS_MAX:
            return EndWithClient(b"-ERR too many commands that make no sense\r\n")
        return SayToClient(b"-ERR %b\r\n" % text)

    def _start_tls(self) -> FrontStep:
        if not self._may_start_tls:
            return self._err(b"there is no STLS here")
        if self._unread:
            return EndWithClient(b"-ERR nothing is sent behind STLS before TLS has begun\r\n")
        self.is_client = True
        return BeginTls(b"+OK begin TLS now\r\n")

    def _authenticate(self, words: list[bytes]) -> FrontStep:
        if not self._trusted:
            return self._err(b"begin TLS first")
        name = words[0].upper().decode("ascii", "replace") if words else ""
        if name not in self._mechanisms or len(words) > 2:
            return self._err(f"the mechanisms here are {', '.join(self._mechanisms)}".encode())
        self.is_client = True
        return self._go_on(FirstMessage(name, decode(words[1]) if len(words) == 2 else None))

    def _go_on(self, first: FirstMessage) -> FrontStep:
        if first.shown is not None:
            return LogInWanted(first.shown, utf8=self._utf8)
        self._exchange = first
        return SayToClient(b"+ %b\r\n" % encode(first.question))
