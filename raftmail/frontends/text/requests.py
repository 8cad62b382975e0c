"""What the lines of a client ask for: from words to commands, without I/O.

Two errors: `ValueError` for a line that makes no sense (answered BAD), `RequestRefused` for one
that makes sense and cannot be done (answered NO). Neither has an effect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from raftmail.frontends.text.values import read_date, read_flags, read_uids
from raftmail.mail.addresses import account, named
from raftmail.mail.commands import Copy, Expunge, MailboxRef, Store, StoreMode, Target
from raftmail.mail.limits import GUID_BYTES, NUMBER_MAX
from raftmail.mail.names import mailbox_name
from raftmail.mail.results import Code
from raftmail.net.lines import Line

DEFAULT = b"-"
"""Stands in MSAVE for a field that is left to the server."""

STORE_MODES = {
    b"+FLAGS": StoreMode.ADD,
    b"-FLAGS": StoreMode.REMOVE,
    b"FLAGS": StoreMode.REPLACE,
}

_MAILBOX_NUMBER = re.compile(rb"[1-9][0-9]{0,9}")
_DEADLINE = re.compile(rb"[0-9]{1,6}(\.[0-9]{1,6})?")


class RequestRefused(Exception):
    """The request is understood and cannot be done."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@final
class MailboxNumber:
    """What a mailbox number of the client stands for.

    At first its name. As soon as the server knows it, the shard-local number. So neither RENAME nor
    another mailbox under the old name changes what is meant.
    """

    __slots__ = ("name", "ref", "shard", "target", "user")

    def __init__(self, user: str, ref: MailboxRef, shard: int) -> None:
        self.user = user
        self.shard = shard
        self.name = str(ref)
        """As the client introduced it, for what it is told."""
        self.pin(ref)

    def pin(self, ref: MailboxRef) -> None:
        """Let it stand for the shard-local number from here on."""
        self.ref = ref
        self.target = Target(self.user, ref)


@dataclass(slots=True, repr=False)
class MailboxNumbers:
    """The numbers that a client has introduced. Invariant: no more than `count_max` of them."""

    count_max: int
    by_number: dict[bytes, MailboxNumber]

    def bind(self, number: bytes, mailbox: MailboxNumber) -> None:
        """Introduce, or let a number stand for something else. Raises ValueError,
        `RequestRefused`."""
        if _MAILBOX_NUMBER.fullmatch(number) is None:
            raise ValueError("a mailbox number is from 1 to 9999999999, without leading zeros")
        if number not in self.by_number and len(self.by_number) >= self.count_max:
            raise RequestRefused(
                Code.LIMIT, f"a session has at most {self.count_max} mailbox numbers"
            )
        self.by_number[number] = mailbox

    def get(self, number: bytes) -> MailboxNumber:
        """Raises `RequestRefused`."""
        mailbox = self.by_number.get(number)
        if mailbox is None:
            shown = number[:20].decode("ascii", "replace")
            raise RequestRefused(
                Code.NONEXISTENT, f"mailbox number {shown} was not introduced (MAILBOX) here"
            )
        return mailbox

    def several(self, numbers: bytes) -> list[MailboxNumber]:
        """Of `1,2,3`, all in one shard. Raises `RequestRefused`."""
        mailboxes = [self.get(number) for number in numbers.split(b",")]
        same_shard(*mailboxes)
        return mailboxes


def same_shard(*mailboxes: MailboxNumber) -> int:
    """The shard that holds them all. Raises `RequestRefused` when they are in several."""
    shard = mailboxes[0].shard
    for mailbox in mailboxes:
        if mailbox.shard != shard:
            raise RequestRefused(
                Code.CANNOT,
                f"{mailboxes[0].user} is in shard {shard}, {mailbox.user} in shard"
                f" {mailbox.shard}: one command changes one shard",
            )
    return shard


# Values


def text(what: str, value: bytes) -> str:
    """Raises ValueError when it is no UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not UTF-8") from None


def user_of(value: bytes) -> str:
    """A user who is there. Raises ValueError."""
    return named(text("a user", value))


def new_user_of(value: bytes) -> str:
    """A user who is to be made. Raises ValueError with the reason when mail could not be
    delivered."""
    return account(text("a user", value))


def name_of(value: bytes) -> str:
    """Raises ValueError."""
    return mailbox_name(text("a mailbox name", value))


def integer(what: str, value: bytes, low: int = 0, high: int = NUMBER_MAX) -> int:
    """Raises ValueError."""
    if not value.isdigit() or len(value) > 19 or not low <= (number := int(value)) <= high:
        raise ValueError(f"{what} is a number from {low} to {high}")
    return number


def seconds(value: bytes, seconds_max: float) -> float:
    """A deadline; a longer one than `seconds_max` is cut to it. Raises ValueError."""
    if _DEADLINE.fullmatch(value) is None:
        raise ValueError("deadline is a number of seconds, like 2.5")
    return min(float(value), seconds_max)


def guid_of(value: bytes) -> bytes:
    """Raises ValueError."""
    return _hexadecimal("a GUID", value, GUID_BYTES)


def client_of(value: bytes) -> bytes:
    """Raises ValueError."""
    return _hexadecimal("a client id", value, 16)


def _hexadecimal(what: str, value: bytes, length: int) -> bytes:
    try:
        if len(value) == 2 * length:
            return bytes.fromhex(value.decode("ascii"))
    except ValueError:
        pass
    raise ValueError(f"{what} is {2 * length} hexadecimal digits")


def date_of(value: bytes) -> int:
    """Raises ValueError."""
    try:
        return read_date(value)
    except ValueError:
        raise ValueError(
            "a date is like 2025-01-31T12:00:00Z, or microseconds since 1970"
        ) from None


def words_of(line: Line, usage: str, low: int, high: int | None = None) -> list[bytes]:
    """The positional arguments of a command, if there are from `low` to `high` of them.

    Raises ValueError that shows how it is used."""
    arguments = line.words[2:]
    if not low <= len(arguments) <= (low if high is None else high):
        raise ValueError(f"usage: {usage}")
    return arguments


# Commands


def store(
    arguments: Sequence[bytes], unchanged_since: bytes | None, mailboxes: MailboxNumbers
) -> Store:
    """Of `mailbox uids +FLAGS flags`; also without flags, for FLAGS. Raises ValueError,
    `RequestRefused`."""
    if not 3 <= len(arguments) <= 4:
        raise ValueError(
            "usage: STORE mailbox uids +FLAGS|-FLAGS|FLAGS flag,flag [unchangedsince=]"
        )
    mailbox = mailboxes.get(arguments[0])
    mode = STORE_MODES.get(arguments[2])
    if mode is None:
        mode = STORE_MODES.get(arguments[2].upper())
    if mode is None:
        raise ValueError("STORE has +FLAGS, -FLAGS or FLAGS after the UIDs")
    return Store(
        mailbox.user,
        mailbox.ref,
        read_uids(arguments[1]),
        mode,
        read_flags(arguments[3]) if len(arguments) == 4 else (),
        -1 if unchanged_since is None else integer("unchangedsince", unchanged_since),
    )


def copy(line: Line, mailboxes: MailboxNumbers, seed: int, *, move: bool) -> tuple[int, int, Copy]:
    """Of `source uids target [guids=]`, with the source's shard and the target's. Raises
    ValueError, `RequestRefused`."""
    name = "MOVE" if move else "COPY"
    source, uids, target = words_of(line, f"{name} mailbox uids mailbox [guids=]", 3)
    a, b = mailboxes.get(source), mailboxes.get(target)
    given = line.named.get(b"guids", b"")
    guids = tuple(map(guid_of, given.split(b","))) if given else ()
    command = Copy(a.user, a.ref, read_uids(uids), b.target, seed, move, guids)
    return a.shard, b.shard, command


def expunge(line: Line, mailboxes: MailboxNumbers) -> tuple[int, Expunge]:
    """Of `mailbox uids [deleted]`, with the shard. Raises ValueError, `RequestRefused`."""
    usage = "EXPUNGE mailbox uids [deleted]"
    number, uids, *rest = words_of(line, usage, 2, 3)
    if rest and rest[0].upper() != b"DELETED":
        raise ValueError(f"usage: {usage}")
    mailbox = mailboxes.get(number)
    return mailbox.shard, Expunge(mailbox.user, mailbox.ref, read_uids(uids), bool(rest))


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be saved, as the client sent it; what it left to the server is None."""

    mailboxes: tuple[MailboxNumber, ...]
    flags: tuple[str, ...]
    received_us: int | None
    guid: bytes | None
    body: bytes


def save(line: Line, mailboxes: MailboxNumbers) -> tuple[Draft, ...]:
    """Of SAVE, `mailbox,… [flags= date= guid=] body`. Raises ValueError, `RequestRefused`."""
    arguments = line.words
    if len(arguments) != 4:
        raise ValueError("usage: SAVE mailbox[,mailbox] [flags= date= guid=] {bytes}")
    named = line.named
    date = named.get(b"date")
    guid = named.get(b"guid")
    numbers = arguments[2]
    only = mailboxes.by_number.get(numbers)
    return (
        Draft(
            (only,) if only is not None else tuple(mailboxes.several(numbers)),
            read_flags(named.get(b"flags", b"")),
            None if date is None else date_of(date),
            None if guid is None else guid_of(guid),
            arguments[3],
        ),
    )


def msave(line: Line, mailboxes: MailboxNumbers) -> tuple[Draft, ...]:
    """Of MSAVE, five words for each message. Raises ValueError, `RequestRefused`."""
    arguments = line.words[2:]
    if not arguments or len(arguments) % 5:
        raise ValueError("usage: MSAVE (mailbox[,mailbox] flags|- date|- guid|- {bytes})...")
    drafts = []
    for at in range(0, len(arguments), 5):
        numbers, flags, date, guid, body = arguments[at : at + 5]
        drafts.append(
            Draft(
                tuple(mailboxes.several(numbers)),
                () if flags == DEFAULT else read_flags(flags),
                None if date == DEFAULT else date_of(date),
                None if guid == DEFAULT else guid_of(guid),
                body,
            )
        )
    same_shard(*(mailbox for draft in drafts for mailbox in draft.mailboxes))
    return tuple(drafts)
