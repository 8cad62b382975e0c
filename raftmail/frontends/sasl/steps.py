"""What a mechanism asks for, and what it is given.

A mechanism is a generator. For a `Challenge` it is sent the client's answer, for a `ScramAsked` a
`ScramOffer`, and for what the client has shown the outcome. It returns the outcome of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

from raftmail.mail.addresses import spellings
from raftmail.service.login import (
    LogInOutcome,
    LogInRefused,
    RefusalReason,
    ScramOffer,
    Shown,
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """To be sent to the client, which answers."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScramAsked:
    """Who wants to log in by SCRAM: the salt is needed."""

    user: str


SaslStep = Challenge | ScramAsked | Shown
SaslReply = bytes | ScramOffer | LogInOutcome
Mechanism = Generator[SaslStep, SaslReply, LogInOutcome]


def challenge(data: bytes) -> Generator[SaslStep, SaslReply, bytes]:
    """Have the client answer."""
    answer = yield Challenge(data)
    assert isinstance(answer, bytes)
    return answer


def show(shown: Shown) -> Mechanism:
    """Have it judged what the client has shown."""
    outcome = yield shown
    assert not isinstance(outcome, (bytes, ScramOffer))
    return outcome


NOT_FOR_OTHERS: Final = LogInRefused(
    RefusalReason.NOT_ALLOWED, "nobody logs in to act for another user"
)

_ESCAPE = re.compile(r"=(2C|3D)?")


class SaslMalformed(Exception):
    """What the client said is not what the mechanism says; the text repeats none of it."""

    @property
    def refusal(self) -> LogInRefused:
        """The outcome of such a log-in."""
        return LogInRefused(RefusalReason.MALFORMED, str(self))


def gs2_header(message: bytes) -> tuple[bytes, str, int]:
    """The flag, whom the client acts as ("" is itself), and the length of a GS2 header (RFC 5801
    section 4). Raises `SaslMalformed`."""
    flag, _, rest = message.partition(b",")
    acts_as, comma, _ = rest.partition(b",")
    if not comma:
        raise SaslMalformed("it begins with n, y or p=, and two commas")
    if acts_as and not acts_as.startswith(b"a="):
        raise SaslMalformed("between the first two commas there is a= or nothing")
    return flag, saslname(acts_as[2:]), len(flag) + len(acts_as) + 2


def saslname(escaped: bytes) -> str:
    """A name, in which =2C is a comma and =3D the sign itself. Raises `SaslMalformed`."""
    text = user_name(escaped)
    if any(found[1] is None for found in _ESCAPE.finditer(text)):
        raise SaslMalformed("in a user name = is written =3D, and a comma =2C")
    return _ESCAPE.sub(lambda found: "," if found[1] == "2C" else "=", text)


def user_name(data: bytes) -> str:
    """Raises `SaslMalformed`."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SaslMalformed("a user name is UTF-8") from None
    if "\x00" in text:
        raise SaslMalformed("a user name has no NUL")
    return text


def is_same_user(one: str, other: str) -> bool:
    """Whether two addresses are the same account; one that is no address is equal to itself."""
    try:
        return one == other or spellings(one)[0] == spellings(other)[0]
    except ValueError:
        return False
