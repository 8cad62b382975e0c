"""Requests of a sink and answers of a source as bytes. Version 1: a msgpack array, whose kind
stands in the frame.

Every request has one answer, of the kind `ANSWER + request`, in the order of the requests. An
answer may end early, saying where to go on. Whatever does not have exactly the right shape raises
`CodecError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from raftmail.mail.limits import NUMBER_MAX
from raftmail.mail.packing import CodecError, Raw, pack, unpack
from raftmail.mail.uidset import STAR, UID_MAX
from raftmail.resync.ranges import DIGEST_BYTES, Piece, Range
from raftmail.storage.kv import KEY_BYTES_MAX, Row
from raftmail.storage.records import MESSAGE_BODY

ANSWER = 128
HASH_BYTES = 32
RANGES_MAX = 256
PIECES_MAX = 65_536
ROWS_MAX = 65_536
UIDS_MAX = 4096
HASHES_MAX = 1024
TEXT_MAX = 1000
_U64 = 2**64 - 1
_INDEX_MAX = 2**62


class RequestKind(IntEnum):
    """What a sink asks for. `REFUSED` is an answer to any of them, and ends the session. It and
    `PROBE`, which asks nothing but a sign of life, have no place in the order of requests and
    answers."""

    HELLO = 1
    CUT = 2
    ROWS = 3
    EXPUNGES = 4
    CHANGES = 5
    SUMMARIES = 6
    DIGEST = 7
    RELEASE = 8
    BODIES = 9
    BYE = 10
    REFUSED = 11
    PROBE = 12


@dataclass(frozen=True, slots=True)
class ResyncHello:
    """Begins a session. `records`: it is not for bodies alone. A source that is not ahead of
    `applied_index` is of use only to a sink that says so (`equal_serves`). So is one that lacks
    bodies itself (`lacking_serves`).
    """

    applied_index: int
    records: bool
    equal_serves: bool
    lacking_serves: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """The state that the source's snapshot has, and how many rows there are.

    Also the membership of the group that is in force there, with the index of its entry.
    """

    applied_index: int
    applied_term: int
    next_mailbox: int
    last_uidvalidity: int
    mailboxes: int
    messages: int
    membership_index: int = 0
    membership: bytes = b""


@dataclass(frozen=True, slots=True)
class Cut:
    """Digests of ranges of a table, in pieces of `piece_rows` rows."""

    table: str
    piece_rows: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """`whole` ranges were cut to their end; the next up to `at` (b"": not begun)."""

    pieces: tuple[Piece, ...]
    whole: int
    at: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """The rows of ranges of a table."""

    table: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """As `Pieces`."""

    rows: tuple[Row, ...]
    whole: int
    at: bytes


@dataclass(frozen=True, slots=True)
class Expunges:
    """The expunge log of a mailbox after modseq `after`; all of it, where `digest` (b"": unknown)
    is not that of the rows up to `since`. Asking on, `since` and `digest` stay away."""

    number: int
    since: int
    digest: bytes
    after: int


@dataclass(frozen=True, slots=True)
class ExpungeRows:
    """`all_rows`: the sink's own are to be dropped first. `more`: ask on after the last."""

    all_rows: bool
    more: bool
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """The messages of a mailbox that changed, from behind (`modseq`, `uid`) on, in that order;
    with summaries for UIDs from `unknown_from` on."""

    number: int
    modseq: int
    uid: int
    unknown_from: int


@dataclass(frozen=True, slots=True)
class Changed:
    """`bodies` are `records.MESSAGE_BODY`, one behind the other; `more`: ask on after the last."""

    more: bool
    bodies: bytes
    summaries: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Summaries:
    """The summaries of messages, by UID."""

    number: int
    uids: tuple[int, ...]


_MEMBERSHIP_BYTES_MAX = 4096


def _bad(what: str) -> CodecError:
    return CodecError(f"{what} is not as it should be")


def _array(data: bytes, count: int, what: str) -> Raw:
    raw = unpack(data)
    if type(raw) is not tuple or len(raw) != count:
        raise _bad(what)
    return raw


def _int(value: Any, high: int = _U64, low: int = 0) -> int:
    if type(value) is not int or not low <= value <= high:
        raise CodecError(f"an integer from {low} to {high} was expected")
    return value


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise CodecError("a truth value was expected")
    return value


def _key(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > KEY_BYTES_MAX + 1:
        raise CodecError(f"a key of at most {KEY_BYTES_MAX} bytes was expected")
    return value


def _text(value: Any, most: int = TEXT_MAX) -> str:
    if type(value) is not str or len(value) > most:
        raise CodecError(f"a text of at most {most} characters was expected")
    return value


def _tuple(value: Any, most: int, what: str) -> Raw:
    if type(value) is not tuple or len(value) > most:
        raise CodecError(f"{what}: an array of at most {most} was expected")
    return value


def _digest(value: Any, *, or_none: bool = False) -> bytes:
    if type(value) is bytes and (len(value) == DIGEST_BYTES or (or_none and not value)):
        return value
    raise CodecError("a digest was expected")


def _ranges(value: Any) -> tuple[Range, ...]:
    found = []
    for pair in _tuple(value, RANGES_MAX, "ranges"):
        if type(pair) is not tuple or len(pair) != 2:
            raise CodecError("a range is a pair of keys")
        start, end = _key(pair[0]), _key(pair[1])
        if end and end <= start:
            raise CodecError("a range ends after it begins")
        found.append((start, end))
    if not found:
        raise CodecError("no range is asked for")
    return tuple(found)


def _rows(value: Any) -> tuple[Row, ...]:
    rows = _tuple(value, ROWS_MAX, "rows")
    for row in rows:
        if (
            type(row) is not tuple
            or len(row) != 2
            or type(row[0]) is not bytes
            or type(row[1]) is not bytes
            or not 0 < len(row[0]) <= KEY_BYTES_MAX
        ):
            raise CodecError("a row is a key and a record")
    return rows


def encode_hello(x: ResyncHello) -> bytes:
    return pack((x.applied_index, x.records, x.equal_serves, x.lacking_serves))


def decode_hello(data: bytes) -> ResyncHello:
    raw = _array(data, 4, "a greeting")
    return ResyncHello(_int(raw[0]), _bool(raw[1]), _bool(raw[2]), _bool(raw[3]))


def encode_accepted(x: Accepted) -> bytes:
    return pack(
        (
            x.applied_index,
            x.applied_term,
            x.next_mailbox,
            x.last_uidvalidity,
            x.mailboxes,
            x.messages,
            x.membership_index,
            x.membership,
        )
    )


def decode_accepted(data: bytes) -> Accepted:
    raw = _array(data, 8, "an acceptance")
    membership = raw[7]
    if type(membership) is not bytes or len(membership) > _MEMBERSHIP_BYTES_MAX:
        raise _bad("a membership must be a few bytes")
    applied, term, mailbox, uidvalidity, mailboxes, messages, at = map(_int, raw[:7])
    if max(applied, term, at) > _INDEX_MAX:
        raise _bad(f"it stands at entry {applied} of term {term}, which no log comes to")
    return Accepted(applied, term, mailbox, uidvalidity, mailboxes, messages, at, membership)


def encode_cut(x: Cut) -> bytes:
    return pack((x.table, x.piece_rows, x.ranges))


def decode_cut(data: bytes) -> Cut:
    raw = _array(data, 3, "a request for digests")
    return Cut(_text(raw[0], 20), _int(raw[1], 1 << 20, 1), _ranges(raw[2]))


def encode_pieces(x: Pieces) -> bytes:
    return pack((x.pieces, x.whole, x.at))


def decode_pieces(data: bytes) -> Pieces:
    raw = _array(data, 3, "an answer of digests")
    pieces = []
    for piece in _tuple(raw[0], PIECES_MAX, "pieces"):
        if type(piece) is not tuple or len(piece) != 3:
            raise CodecError("a piece has a range, an end and a digest")
        pieces.append((_int(piece[0], RANGES_MAX), _key(piece[1]), _digest(piece[2])))
    return Pieces(tuple(pieces), _int(raw[1], RANGES_MAX), _key(raw[2]))


def encode_fetch(x: Fetch) -> bytes:
    return pack((x.table, x.ranges))


def decode_fetch(data: bytes) -> Fetch:
    raw = _array(data, 2, "a request for rows")
    return Fetch(_text(raw[0], 20), _ranges(raw[1]))


def encode_rows(x: Rows) -> bytes:
    return pack((x.rows, x.whole, x.at))


def decode_rows(data: bytes) -> Rows:
    raw = _array(data, 3, "an answer of rows")
    return Rows(_rows(raw[0]), _int(raw[1], RANGES_MAX), _key(raw[2]))


def encode_expunges(x: Expunges) -> bytes:
    return pack((x.number, x.since, x.digest, x.after))


def decode_expunges(data: bytes) -> Expunges:
    raw = _array(data, 4, "a request for expunges")
    return Expunges(
        _int(raw[0], NUMBER_MAX), _int(raw[1]), _digest(raw[2], or_none=True), _int(raw[3])
    )


def encode_expunge_rows(x: ExpungeRows) -> bytes:
    return pack((x.all_rows, x.more, x.rows))


def decode_expunge_rows(data: bytes) -> ExpungeRows:
    raw = _array(data, 3, "an answer of expunges")
    return ExpungeRows(_bool(raw[0]), _bool(raw[1]), _rows(raw[2]))


def encode_changes(x: Changes) -> bytes:
    return pack((x.number, x.modseq, x.uid, x.unknown_from))


def decode_changes(data: bytes) -> Changes:
    raw = _array(data, 4, "a request for changes")
    return Changes(_int(raw[0], NUMBER_MAX), _int(raw[1]), _int(raw[2], STAR), _int(raw[3], STAR))


def encode_changed(x: Changed) -> bytes:
    return pack((x.more, x.bodies, x.summaries))


def decode_changed(data: bytes) -> Changed:
    raw = _array(data, 3, "an answer of changes")
    if type(raw[1]) is not bytes or len(raw[1]) % MESSAGE_BODY.size:
        raise CodecError("changes are records of equal length")
    return Changed(_bool(raw[0]), raw[1], decode_parts(raw[2], len(raw[1]) // MESSAGE_BODY.size))


def encode_summaries(x: Summaries) -> bytes:
    return pack((x.number, x.uids))


def decode_summaries(data: bytes) -> Summaries:
    raw = _array(data, 2, "a request for summaries")
    uids = _tuple(raw[1], UIDS_MAX, "UIDs")
    return Summaries(_int(raw[0], NUMBER_MAX), tuple([_int(uid, UID_MAX, 1) for uid in uids]))


def decode_parts(value: Any, most: int) -> tuple[bytes, ...]:
    """An array of byte strings."""
    parts = _tuple(value, most, "parts")
    if set(map(type, parts)) - {bytes}:
        raise CodecError("byte strings were expected")
    return parts


def encode_parts(parts: Sequence[bytes | None]) -> bytes:
    return pack(parts)


def decode_bodies(data: bytes, most: int) -> tuple[bytes | None, ...]:
    """Bodies in the order they were asked for; None for one that the source does not have."""
    parts: tuple[bytes | None, ...] = _tuple(unpack(data), most, "bodies")
    if set(map(type, parts)) - {bytes, type(None)} or not parts:
        raise CodecError("bodies were expected")
    return parts


def encode_hashes(hashes: Sequence[bytes]) -> bytes:
    return b"".join(hashes)


def decode_hashes(data: bytes) -> list[bytes]:
    count, rest = divmod(len(data), HASH_BYTES)
    if rest or not 0 < count <= HASHES_MAX:
        raise _bad("a request for bodies")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def encode_refusal(text: str, *, elsewhere: bool) -> bytes:
    """Why there is no session, and whether another source may do."""
    return bytes([elsewhere]) + text[:TEXT_MAX].encode()


def decode_refusal(data: bytes) -> tuple[str, bool]:
    return data[1 : 1 + 4 * TEXT_MAX].decode("utf-8", "replace")[:TEXT_MAX], data[:1] != b"\0"
