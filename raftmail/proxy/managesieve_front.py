"""ManageSieve as far as it goes before a log-in (RFC 5804 sections 1.7 to 2.4), without I/O."""

from __future__ import annotations

import re
from typing import Final

from raftmail.mail.sieve_words import SieveReader, SieveWord, SieveWordsEndless, SieveWordsWrong
from raftmail.net.web import is_no_command
from raftmail.proxy.first_message import FirstMessage, NotSasl, decode, encode
from raftmail.proxy.steps import BeginTls, EndWithClient, FrontStep, LogInWanted, SayToClient
from raftmail.sieve.compiler import EXTENSIONS

COMMAND_BYTES_MAX: Final = 8 * 1024
STRING_BYTES_MAX: Final = 17 * 1024
BAD_COMMANDS_MAX: Final = 20

_LITERAL: Final = re.compile(rb"\{([0-9]{1,5})\+?\}\r?\n\Z")
_LATER: Final = frozenset(
    b"HAVESPACE PUTSCRIPT LISTSCRIPTS SETACTIVE GETSCRIPT DELETESCRIPT RENAMESCRIPT CHECKSCRIPT "
    b"UNAUTHENTICATE".split()
)


class ManageSieveFront:
    """Give it bytes; do what `next` says, until it says nothing."""

    def __init__(self, mechanisms: tuple[str, ...], *, may_start_tls: bool, trusted: bool) -> None:
        """`trusted`: a password may be sent on this connection as it is."""
        self._mechanisms = mechanisms
        self._may_start_tls = may_start_tls
        self._trusted = trusted
        self._unread = b""
        self._reader = SieveReader(COMMAND_BYTES_MAX, STRING_BYTES_MAX, STRING_BYTES_MAX)
        self._exchange: FirstMessage | None = None
        self._bad_commands = 0
        self.is_client = False
        """It has said what only a client of ManageSieve says."""

    @property
    def unread_bytes(self) -> int:
        """What was not looked at."""
        return len(self._unread)

    def greeting(self) -> bytes:
        """The capabilities, which are told again when TLS has begun."""
        told = [
            b'"IMPLEMENTATION" "raftmail"',
            b'"SASL" "%b"' % " ".join(self._mechanisms if self._trusted else ()).encode(),
            b'"SIEVE" "%b"' % " ".join(EXTENSIONS).encode(),
        ]
        told += [b'"STARTTLS"'] * self._may_start_tls
        return b"\r\n".join([*told, b'"VERSION" "1.0"', b'OK "raftmail is ready"', b""])

    def secured(self) -> None:
        """TLS has begun: what was said in the clear counts no more."""
        self._may_start_tls = False
        self._trusted = True
        self._unread = b""
        self._reader.clear()

    def feed(self, data: bytes) -> None:
        """Add what came."""
        self._unread += data

    def take_rest(self) -> bytes:
        """All that was not looked at: it is the node's now."""
        rest, self._unread = self._unread, b""
        return rest

    def take_line(self) -> bytes | None:
        """A line with its literals, without its end; None until one has come."""
        at = 0
        while (end := self._unread.find(b"\n", at)) >= 0:
            literal = _LITERAL.search(self._unread[at : end + 1])
            if literal is None:
                line, self._unread = self._unread[:end], self._unread[end + 1 :]
                return line.removesuffix(b"\r")
            at = end + 1 + int(literal[1])
            if at > len(self._unread):
                break
        return None

    def next(self) -> FrontStep | None:
        """What to do now; None: wait for more."""
        line = self.take_line()
        if line is None:
            if len(self._unread) > COMMAND_BYTES_MAX + STRING_BYTES_MAX:
                return EndWithClient(b'BYE "a command before a log-in is not so long"\r\n')
            return None
        if not self.is_client and is_no_command(line + b"\r\n"):
            return EndWithClient(b'BYE "this is ManageSieve, and that was something else"\r\n')
        try:
            self._reader.feed(line + b"\r\n")
            words = self._reader.take() or []
            if self._exchange is not None:
                return self._answered(words)
            return self._perform(words)
        except (SieveWordsWrong, NotSasl) as error:
            return self._no(str(error))
        except SieveWordsEndless as error:
            return EndWithClient(b'BYE "%b"\r\n' % str(error).encode())

    def _perform(self, words: list[SieveWord]) -> FrontStep:
        verb = b"" if not words or words[0].is_string else words[0].data.upper()
        strings = [word.data for word in words[1:] if word.is_string and not word.missing]
        if len(strings) != len(words) - 1 or not verb:
            return self._no("that is no command")
        match verb:
            case b"CAPABILITY" if not strings:
                self.is_client = True
                return SayToClient(self.greeting())
            case b"NOOP" if not strings:
                return self._ok("nothing done")
            case b"NOOP" if len(strings) == 1 and len(strings[0]) <= COMMAND_BYTES_MAX:
                self.is_client = True
                return SayToClient(b"OK (TAG {%d}\r\n%b)\r\n" % (len(strings[0]), strings[0]))
            case b"LOGOUT" if not strings:
                return EndWithClient(b'OK "goodbye"\r\n')
            case b"STARTTLS" if not strings:
                return self._start_tls()
            case b"AUTHENTICATE" if strings and len(strings) <= 2:
                return self._authenticate(strings)
        return self._no("log in first" if verb in _LATER else "there is no such command")

    def _ok(self, text: str) -> SayToClient:
        self.is_client = True
        return SayToClient(b'OK "%b"\r\n' % text.encode())

    def _no(self, text: str, code: bytes = b"") -> FrontStep:
        self._bad_commands += 1
        if self._bad_commands > BAD_COMMANDS_MAX:
            return EndWithClient(b'BYE "too many commands that make no sense"\r\n')
        return SayToClient(b'NO %b"%b"\r\n' % (code, text.encode()))

    def _start_tls(self) -> FrontStep:
        if not self._may_start_tls:
            return self._no("there is no STARTTLS here")
        if self._unread:
            return EndWithClient(b'BYE "nothing is sent behind STARTTLS before TLS has begun"\r\n')
        self.is_client = True
        return BeginTls(b'OK "begin TLS now"\r\n')

    def _authenticate(self, strings: list[bytes]) -> FrontStep:
        if not self._trusted:
            return self._no("begin TLS first: STARTTLS", b"(ENCRYPT-NEEDED) ")
        name = strings[0].upper().decode("ascii", "replace")
        if name not in self._mechanisms:
            return self._no(f"the mechanisms here are {', '.join(self._mechanisms)}")
        self.is_client = True
        return self._go_on(FirstMessage(name, decode(strings[1]) if len(strings) == 2 else None))

    def _answered(self, words: list[SieveWord]) -> FrontStep:
        first, self._exchange = self._exchange, None
        assert first is not None
        if len(words) != 1 or not words[0].is_string or words[0].missing:
            raise NotSasl("an answer to a challenge is one string")
        first.answer(decode(words[0].data))
        return self._go_on(first)

    def _go_on(self, first: FirstMessage) -> FrontStep:
        if first.shown is not None:
            return LogInWanted(first.shown)
        self._exchange = first
        return SayToClient(b'"%b"\r\n' % encode(first.question))
