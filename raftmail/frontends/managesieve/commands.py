"""What a client says, as values (RFC 5804 section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from raftmail.mail.sieve_words import SieveWord, SieveWordsWrong


class SieveVerb(Enum):
    """The commands; the value is how they are written, in any case."""

    AUTHENTICATE = "AUTHENTICATE"
    STARTTLS = "STARTTLS"
    LOGOUT = "LOGOUT"
    CAPABILITY = "CAPABILITY"
    NOOP = "NOOP"
    UNAUTHENTICATE = "UNAUTHENTICATE"
    HAVESPACE = "HAVESPACE"
    PUTSCRIPT = "PUTSCRIPT"
    LISTSCRIPTS = "LISTSCRIPTS"
    SETACTIVE = "SETACTIVE"
    GETSCRIPT = "GETSCRIPT"
    DELETESCRIPT = "DELETESCRIPT"
    RENAMESCRIPT = "RENAMESCRIPT"
    CHECKSCRIPT = "CHECKSCRIPT"


_STRINGS: Final = {
    SieveVerb.AUTHENTICATE: (1, 2),
    SieveVerb.NOOP: (0, 1),
    SieveVerb.HAVESPACE: (1, 1),
    SieveVerb.PUTSCRIPT: (2, 2),
    SieveVerb.SETACTIVE: (1, 1),
    SieveVerb.GETSCRIPT: (1, 1),
    SieveVerb.DELETESCRIPT: (1, 1),
    SieveVerb.RENAMESCRIPT: (2, 2),
    SieveVerb.CHECKSCRIPT: (1, 1),
}
"""How many strings each has, at least and at most; those that are not here have none."""

_VERBS: Final = {verb.value.encode(): verb for verb in SieveVerb}


@dataclass(frozen=True, slots=True)
class SieveCommand:
    """`strings` are its arguments, and nothing shows them: one may be a password. `number` is that
    of HAVESPACE. `missing` is the length of a string that was too long to be taken."""

    verb: SieveVerb
    strings: tuple[bytes, ...] = field(default=(), repr=False)
    number: int = 0
    missing: int = 0

    @property
    def name(self) -> str:
        """The first string, as a script's name. Raises `SieveWordsWrong`."""
        return name_of(self.strings[0])


def parse_command(words: Sequence[SieveWord]) -> SieveCommand:
    """Raises `SieveWordsWrong`."""
    if not words or words[0].is_string:
        raise SieveWordsWrong("a command begins with its name")
    verb = _VERBS.get(words[0].data.upper())
    if verb is None:
        raise SieveWordsWrong("there is no such command")
    rest = list(words[1:])
    number = 0
    if verb is SieveVerb.HAVESPACE:
        last = rest.pop() if rest else None
        if last is None or last.is_string or not last.data.isdigit() or len(last.data) > 10:
            raise SieveWordsWrong("HAVESPACE has the name of a script and its length")
        number = int(last.data)
    least, most = _STRINGS.get(verb, (0, 0))
    if not all(word.is_string for word in rest) or not least <= len(rest) <= most:
        count = f"{least}" if least == most else f"{least} to {most}"
        raise SieveWordsWrong(f"{verb.value} has {count} strings")
    missing = max((word.missing for word in rest), default=0)
    return SieveCommand(verb, tuple(word.data for word in rest), number, missing)


def name_of(data: bytes) -> str:
    """A script's name. Raises `SieveWordsWrong`."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SieveWordsWrong("the name of a script is UTF-8") from None
