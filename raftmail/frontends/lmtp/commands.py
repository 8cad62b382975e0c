"""Arguments of the LMTP commands that have any (RFC 5321 section 4.1.1 and the extensions)."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from raftmail.frontends.lmtp import replies
from raftmail.mail.smtp_address import Address, AddressError, parse_path

_NAME: Final = re.compile(rb"[0-9A-Za-z._-]{1,255}|\[[0-9A-Za-z:.]{1,64}\]")
_CHUNK: Final = re.compile(rb"([0-9]{1,18})(?: +([A-Za-z]+))? *")
_SIZE: Final = re.compile(r"[0-9]{1,20}")
_RECIPIENTS_CACHED: Final = 1024
_PATHS_CACHED: Final = 1024


class CommandError(Exception):
    """The command is refused with `reply`, which the client must correct; nothing has changed."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class MailFrom:
    """MAIL: the sender, None for `<>`, and whether SMTPUTF8 was asked for."""

    sender: Address | None
    utf8: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """BDAT: how many octets follow, and whether they end the message (RFC 3030 section 2)."""

    size_bytes: int
    is_last: bool


def parse_name(argument: bytes) -> str:
    """The name in LHLO: a domain or an address literal. Underscores are let pass, as many have
    them. Raises CommandError."""
    name = argument.strip(b" ")
    if _NAME.fullmatch(name) is None:
        raise CommandError(replies.BAD_NAME)
    return name.decode()


def parse_mail(argument: bytes, message_bytes_max: int) -> MailFrom:
    """`FROM:<path> [parameters]`: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531).

    BODY says nothing that the store would have to know, as it keeps eight bits anyway. BINARYMIME
    is refused, because IMAP could not show such a message. Raises CommandError.
    """
    sender, rest = _parse_path(argument, b"FROM:", replies.BAD_SENDER, "")
    utf8 = False
    if rest:
        for keyword, value in _parameters(rest).items():
            if keyword == "SIZE":
                if value is None or _SIZE.fullmatch(value) is None:
                    raise CommandError(replies.BAD_PARAMETER)
                if int(value) > message_bytes_max:
                    raise CommandError(replies.TOO_LARGE)
            elif keyword == "BODY":
                if value is None or value.upper() not in ("7BIT", "8BITMIME"):
                    raise CommandError(replies.BAD_PARAMETER)
            elif keyword == "SMTPUTF8":
                if value is not None:
                    raise CommandError(replies.BAD_PARAMETER)
                utf8 = True
            else:
                raise CommandError(replies.UNKNOWN_PARAMETER)
    if not utf8 and not argument.isascii():
        raise CommandError(replies.UTF8_SENDER)
    return MailFrom(sender, utf8)


@lru_cache(maxsize=_RECIPIENTS_CACHED)
def parse_rcpt(argument: bytes, detail_separator: str, *, utf8: bool) -> Address:
    """`TO:<path>`. No extension offered here adds parameters. Raises CommandError.

    Cached, as a store sees the same users all the time.
    """
    address, rest = _parse_path(argument, b"TO:", replies.BAD_RECIPIENT, detail_separator)
    if address is None:
        raise CommandError(replies.BAD_RECIPIENT)
    if rest and _parameters(rest):
        raise CommandError(replies.UNKNOWN_PARAMETER)
    if not utf8 and not argument.isascii():
        raise CommandError(replies.UTF8_RECIPIENT)
    return address


def parse_bdat(argument: bytes) -> Chunk | None:
    """`size [LAST]`; None where no size can be read."""
    match = _CHUNK.fullmatch(argument)
    if match is None:
        return None
    size, word = match.groups()
    if word is not None and word.upper() != b"LAST":
        return None
    return Chunk(int(size), word is not None)


def _parse_path(
    argument: bytes, keyword: bytes, bad_path: bytes, detail_separator: str
) -> tuple[Address | None, str]:
    """The path behind `keyword`, and what follows it. Spaces before the path are let pass: clients
    that send them are common, and nothing else could be meant."""
    length = len(keyword)
    if argument[:length].upper() != keyword:
        raise CommandError(replies.BAD_ARGUMENT)
    try:
        return _split_path(argument[length:], detail_separator)
    except (AddressError, UnicodeDecodeError):
        raise CommandError(bad_path) from None


@lru_cache(maxsize=_PATHS_CACHED)
def _split_path(argument: bytes, detail_separator: str) -> tuple[Address | None, str]:
    """A path and what follows it. Raises AddressError, UnicodeDecodeError."""
    text = argument.decode().lstrip(" ")
    address, end = parse_path(text, detail_separator)
    rest = text[end:]
    if rest and rest[0] != " ":
        raise AddressError("something touches the path")
    return address, rest


def _parameters(text: str) -> dict[str, str | None]:
    """Keywords in upper case, each with its value; None where it has none."""
    found: dict[str, str | None] = {}
    for parameter in text.split():
        keyword, equals, value = parameter.partition("=")
        keyword = keyword.upper()
        if keyword in found or not keyword or (equals and not value):
            raise CommandError(replies.BAD_PARAMETER)
        found[keyword] = value if equals else None
    return found
