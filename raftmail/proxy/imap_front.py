"""IMAP as far as it goes before a log-in (RFC 9051 sections 6.1 and 6.2), without I/O."""

from __future__ import annotations

import re
from typing import Final

from raftmail.net.web import is_web_line
from raftmail.proxy.first_message import FirstMessage, NotSasl, decode, encode, password_shown
from raftmail.proxy.steps import (
    BeginTls,
    EndWithClient,
    FrontStep,
    LogInWanted,
    SayToClient,
)

LINE_BYTES_MAX: Final = 24 * 1024
LITERAL_BYTES_MAX: Final = 4 * 1024
REQUEST_BYTES_MAX: Final = 32 * 1024
BAD_COMMANDS_MAX: Final = 20

_LITERAL: Final = re.compile(rb"~?\{(\d{1,20})([+-]?)\}$")
_TAG: Final = re.compile(rb"[!#$&',-\[\]^-z|}~./0-9:;<=>?@A-Z]{1,64}")
_WORD: Final = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"|([^\x00-\x20"(){%*\\\x7f]+)')
_ESCAPED: Final = re.compile(rb"\\(.)")
_LATER: Final = frozenset(
    b"SELECT EXAMINE CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE LIST LSUB NAMESPACE STATUS APPEND "
    b"IDLE ENABLE CHECK CLOSE UNSELECT EXPUNGE SEARCH FETCH STORE COPY MOVE UID SORT THREAD".split()
)


class _BadRequest(Exception):
    """A request is none; the text says why."""


class ImapFront:
    """Give it bytes; do what `next` says, until it says nothing."""

    def __init__(self, mechanisms: tuple[str, ...], *, may_start_tls: bool, trusted: bool) -> None:
        """`trusted`: a password may be sent on this connection as it is."""
        self._mechanisms = mechanisms
        self._may_start_tls = may_start_tls
        self._trusted = trusted
        self._unread = b""
        self._parts: list[bytes] = []
        """Of a request with literals: text and literals in turn."""
        self._literal_bytes: int | None = None
        self._exchange: tuple[bytes, FirstMessage] | None = None
        self._bad_commands = 0
        self.is_client = False
        """It has said what only a client of IMAP says."""

    @property
    def unread_bytes(self) -> int:
        """What was not looked at."""
        return len(self._unread)

    def greeting(self) -> bytes:
        """The first line."""
        return b"* OK [CAPABILITY %b] raftmail is ready\r\n" % self.capabilities()

    def capabilities(self) -> bytes:
        """As a node tells before a log-in (RFC 9051 section 6.1.1)."""
        words = [b"IMAP4rev1", b"IMAP4rev2", b"LITERAL+", b"SASL-IR", b"ID", b"ENABLE"]
        if self._may_start_tls:
            words.append(b"STARTTLS")
        if self._trusted:
            words += [b"AUTH=" + name.encode() for name in self._mechanisms]
        else:
            words.append(b"LOGINDISABLED")
        return b" ".join(words)

    def secured(self) -> None:
        """TLS has begun: what was said in the clear counts no more (RFC 9051 section 6.2.1)."""
        self._may_start_tls = False
        self._trusted = True
        self._unread = b""
        self._parts = []
        self._literal_bytes = None

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
        if self._literal_bytes is not None:
            size = self._literal_bytes
            if len(self._unread) < size:
                return None
            self._parts.append(self._unread[:size])
            self._unread = self._unread[size:]
            self._literal_bytes = None
        line = self.take_line()
        if line is None or len(line) > LINE_BYTES_MAX:
            if line is not None or len(self._unread) > LINE_BYTES_MAX:
                return EndWithClient(b"* BYE a line before a log-in is not so long\r\n")
            return None
        if self._exchange is not None:
            return self._answer(*self._exchange, line)
        if not self._parts and not self.is_client and is_web_line(line):
            return EndWithClient(b"* BYE this is IMAP, and that was something else\r\n")
        return self._take(line)

    def _take(self, line: bytes) -> FrontStep | None:
        found = _LITERAL.search(line)
        self._parts.append(line if found is None else line[: found.start()])
        if found is None:
            parts, self._parts = self._parts, []
            return self._perform(parts)
        size, mark = int(found[1]), found[2]
        held = sum(map(len, self._parts))
        if size > LITERAL_BYTES_MAX or held + size > REQUEST_BYTES_MAX:
            tag = self._parts[0].split(b" ")[0]
            self._parts = []
            if mark or _TAG.fullmatch(tag) is None:
                return EndWithClient(b"* BYE a literal before a log-in is not so long\r\n")
            return self._bad(tag, b"a literal before a log-in is not so long")
        self._literal_bytes = size
        return SayToClient(b"" if mark else b"+ go on\r\n")

    def _perform(self, parts: list[bytes]) -> FrontStep:
        tag, _, rest = parts[0].partition(b" ")
        if _TAG.fullmatch(tag) is None:
            return self._bad(b"*", b"a command begins with a tag")
        verb, _, rest = rest.partition(b" ")
        verb = verb.upper()
        try:
            match verb:
                case b"CAPABILITY":
                    told = b"* CAPABILITY %b\r\n" % self.capabilities()
                    return self._ok(tag, b"that is what there is", told)
                case b"NOOP":
                    return self._ok(tag, b"nothing was to be done")
                case b"ID":
                    return self._ok(tag, b"it is raftmail", b'* ID ("name" "raftmail")\r\n')
                case b"LOGOUT":
                    return EndWithClient(b"* BYE bye\r\n%b OK bye\r\n" % tag)
                case b"STARTTLS":
                    return self._start_tls(tag)
                case b"LOGIN":
                    return self._log_in(tag, _words([rest, *parts[1:]]))
                case b"AUTHENTICATE":
                    return self._authenticate(tag, _words([rest, *parts[1:]]))
        except (_BadRequest, NotSasl) as error:
            return self._bad(tag, str(error).encode())
        known = verb in _LATER
        return self._bad(tag, b"log in first" if known else b"there is no such command")

    def _ok(self, tag: bytes, text: bytes, told: bytes = b"") -> SayToClient:
        self.is_client = True
        return SayToClient(b"%b%b OK %b\r\n" % (told, tag, text))

    def _bad(self, tag: bytes, text: bytes) -> FrontStep:
        self._bad_commands += 1
        if self._bad_commands > BAD_COMMANDS_MAX:
            return EndWithClient(b"* BYE too many commands that make no sense\r\n")
        return SayToClient(b"%b BAD %b\r\n" % (tag, text))

    def _start_tls(self, tag: bytes) -> FrontStep:
        if not self._may_start_tls:
            return self._bad(tag, b"there is no STARTTLS here")
        if self._unread:
            return EndWithClient(b"* BYE nothing is sent behind STARTTLS before TLS has begun\r\n")
        self.is_client = True
        return BeginTls(b"%b OK begin TLS now\r\n" % tag)

    def _log_in(self, tag: bytes, words: list[bytes]) -> FrontStep:
        if len(words) != 2:
            raise _BadRequest("LOGIN has a user and a password")
        if not self._trusted:
            return SayToClient(b"%b NO [PRIVACYREQUIRED] begin TLS first\r\n" % tag)
        self.is_client = True
        return LogInWanted(password_shown(*words), tag)

    def _authenticate(self, tag: bytes, words: list[bytes]) -> FrontStep:
        if len(words) not in (1, 2):
            raise _BadRequest("AUTHENTICATE has a mechanism, and perhaps a first answer")
        if not self._trusted:
            return SayToClient(b"%b NO [PRIVACYREQUIRED] begin TLS first\r\n" % tag)
        name = words[0].upper().decode("ascii", "replace")
        if name not in self._mechanisms:
            return SayToClient(
                b"%b NO [CANNOT] the mechanisms here are %b\r\n"
                % (tag, ", ".join(self._mechanisms).encode())
            )
        self.is_client = True
        first = FirstMessage(name, decode(words[1]) if len(words) == 2 else None)
        return self._go_on(tag, first)

    def _answer(self, tag: bytes, first: FirstMessage, line: bytes) -> FrontStep:
        self._exchange = None
        try:
            first.answer(decode(line))
        except NotSasl as error:
            return self._bad(tag, str(error).encode())
        return self._go_on(tag, first)

    def _go_on(self, tag: bytes, first: FirstMessage) -> FrontStep:
        if first.shown is not None:
            return LogInWanted(first.shown, tag)
        self._exchange = (tag, first)
        return SayToClient(b"+ %b\r\n" % encode(first.question))


def _words(parts: list[bytes]) -> list[bytes]:
    """The arguments of a command: atoms, strings, and literals between texts."""
    found: list[bytes] = []
    for at, part in enumerate(parts):
        if at % 2:
            found.append(part)
            continue
        rest = part.strip(b" ")
        while rest:
            word = _WORD.match(rest)
            if word is None or rest[word.end() : word.end() + 1] not in (b"", b" "):
                raise _BadRequest("what stands behind the command cannot be read")
            quoted = word[1]
            found.append(word[2] if quoted is None else _ESCAPED.sub(rb"\1", quoted))
            rest = rest[word.end() :].lstrip(b" ")
    return found
