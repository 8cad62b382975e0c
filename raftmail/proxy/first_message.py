"""How a client begins to log in: its first message is all that the proxy looks at (RFC 4422).

What the node then asks, and what the client answers, is passed on as it is.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from raftmail.proxy.steps import LogInShown

MECHANISMS: Final = ("SCRAM-SHA-256", "PLAIN", "LOGIN")
"""What is offered. A proof that is bound to a channel would be bound to the proxy's."""
TOKENS: Final = "OAUTHBEARER"

_NAMED: Final = re.compile(rb"[nyp][^,]*,(?:a=([^,]*))?,(?:n=([^,]*),)?")
_QUESTIONS: Final = (b"Username:", b"Password:")


class NotSasl(Exception):
    """What a client answered is no answer; the text repeats none of it."""


def decode(line: bytes) -> bytes:
    """An answer in BASE64. Raises `NotSasl`."""
    if line == b"*":
        raise NotSasl("the client gave the log-in up")
    try:
        return b"" if line == b"=" else binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise NotSasl("an answer is BASE64 with its padding") from None


def encode(data: bytes) -> bytes:
    """A message in BASE64, without a line's end."""
    return binascii.b2a_base64(data, newline=False)


def password_shown(user: bytes, password: bytes) -> LogInShown:
    """User and password as PLAIN has them (RFC 4616). Raises `NotSasl`."""
    if b"\x00" in user + password or not user or not password:
        raise NotSasl("a user and a password have no NUL, and something else")
    return LogInShown("PLAIN", b"\x00%b\x00%b" % (user, password), user.decode("utf-8", "replace"))


class FirstMessage:
    """Asks for what did not come with the command: `question` is to be sent, in BASE64, until
    `shown` is there."""

    def __init__(self, mechanism: str, initial: bytes | None) -> None:
        """`initial` is what came with the command, decoded. Raises `NotSasl`."""
        self._mechanism = mechanism
        self._answers: list[bytes] = []
        self.shown: LogInShown | None = None
        if initial is not None:
            self.answer(initial)

    @property
    def question(self) -> bytes:
        """What to ask now, decoded."""
        return _QUESTIONS[len(self._answers)] if self._mechanism == "LOGIN" else b""

    def answer(self, data: bytes) -> None:
        """The client's answer, decoded. Raises `NotSasl`."""
        self._answers.append(data)
        if self._mechanism == "LOGIN":
            if len(self._answers) == len(_QUESTIONS):
                self.shown = password_shown(*self._answers)
        else:
            self.shown = LogInShown(self._mechanism, data, _user_of(self._mechanism, data))


def _user_of(mechanism: str, message: bytes) -> str:
    """Whom a first message names; "" where that cannot be read."""
    if mechanism == "PLAIN":
        parts = message.split(b"\x00")
        name = parts[1] if len(parts) == 3 else b""
    else:
        found = _NAMED.match(message)
        name = b"" if found is None else found[2] or found[1] or b""
        name = name.replace(b"=2C", b",").replace(b"=3D", b"=")
    return name.decode("utf-8", "replace")
