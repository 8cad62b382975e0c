"""The messages of a Raft group, and their encoding (G3: each carries group, sender, receiver and
term).

Encoded as a fixed header and a msgpack array; nothing that comes off the wire is unpickled.
Decoding is strict: anything that is not exactly a message of this version raises `BadMessage`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgpack

VERSION = 1
ENTRIES_PER_MESSAGE_MAX = 4096

NUMBER_MAX = 2**62
"""The highest term and the highest index that are taken from anybody: what follows from them fits
into 64 bits, as the journal has them. A group that elects a leader ten times a second gets there in
billions of years."""

TERM_LEAP_MAX = 2**28
"""A message whose term is farther above the own is refused: to get there takes a year without
pause. So no message can use up the terms that are left, and a replica that was away for long still
follows."""

_HEADER = struct.Struct("<BBIIIQ")
_HEADER_BYTES = _HEADER.size

_packer = msgpack.Packer(use_bin_type=True)


class BadMessage(Exception):
    """Bytes that are no message of this protocol version; they are dropped and counted."""


class Kind(IntEnum):
    APPEND = 1
    ACK = 2
    PREVOTE = 3
    PREVOTE_GRANTED = 4
    VOTE = 5
    VOTE_GRANTED = 6
    TIMEOUT_NOW = 7
    TICKET = 8
    ROUND = 9
    NEWER_TERM = 10
    REMOVED = 11
    ASK = 12
    TELL = 13


APPEND, ACK, PREVOTE, PREVOTE_GRANTED, VOTE = tuple(Kind)[:5]
"""For who handles every message: to look one up in the class takes ten times as long."""

ACK_NO, ACK_YES, ACK_WHOLE, ACK_LACKS = 0, 1, 3, 5
"""What an acknowledgement says: send from there on; everything before is on my disk; and I have all
bodies; but bodies are missing."""

ACK_UNABLE = 8
"""Added to the last two: do not hand me the leader's place."""


@dataclass(slots=True)
class Message:
    """A decoded message. `fields` by kind:

    - APPEND: round, commit index, previous index, previous term, terms of the entries, commands of
      the entries
    - ACK: next index wanted, success (`ACK_NO`, `ACK_YES`, `ACK_WHOLE`, `ACK_LACKS`; the last two
      perhaps with `ACK_UNABLE`)
    - PREVOTE, VOTE: last log index, last log term, transfer (0/1)
    - PREVOTE_GRANTED, VOTE_GRANTED, TIMEOUT_NOW, NEWER_TERM: none
    - REMOVED: none (the receiver is no member any more)
    - TICKET: applied index of the leader (the follower needs entries that left the log)
    - ROUND: the round of reads that the follower confirms
    - ASK: a nonce, term and index of the promise that the sender's disk can keep (`proof`)
    - TELL, in this order:
      - the nonce of the question;
      - term and index of the highest promise that the sender remembers of the receiver;
      - index and term of the sender's last entry;
      - flags (`proof.LEADS`, `proof.LOST`), and above them `proof.VOTER` for each voter
    """

    kind: Kind
    group: int
    sender: int
    receiver: int
    term: int
    fields: list[Any]


def encode_fields(fields: list[Any]) -> bytes:
    """The body of a message; the same for all its receivers."""
    try:
        packed: bytes = _packer.pack(fields)
    except BaseException:
        _packer.reset()
        raise
    return packed


def header(kind: Kind, group: int, sender: int, receiver: int, term: int) -> bytes:
    return _HEADER.pack(VERSION, kind, group, sender, receiver, term)


_ANSWERS = frozenset(
    (ACK_NO, ACK_YES, ACK_WHOLE, ACK_LACKS, ACK_WHOLE | ACK_UNABLE, ACK_LACKS | ACK_UNABLE)
)
NONCE_MAX = 2**64 - 1
_WITH_NONCE = frozenset((Kind.ASK, Kind.TELL))
_SHAPES: dict[Kind, tuple[type, ...]] = {
    Kind.APPEND: (int, int, int, int, list, list),
    Kind.ACK: (int, int),
    Kind.PREVOTE: (int, int, int),
    Kind.VOTE: (int, int, int),
    Kind.PREVOTE_GRANTED: (),
    Kind.VOTE_GRANTED: (),
    Kind.TIMEOUT_NOW: (),
    Kind.TICKET: (int,),
    Kind.ROUND: (int,),
    Kind.NEWER_TERM: (),
    Kind.REMOVED: (),
    Kind.ASK: (int, int, int),
    Kind.TELL: (int, int, int, int, int, int),
}
_OF_START = (bytes([Kind.ASK]), bytes([Kind.TELL]))
_KINDS = {int(kind): (kind, shape) for kind, shape in _SHAPES.items()}


def is_of_start(data: bytes) -> bool:
    """Whether bytes that may be a message are one that a replica is asked, or told, when it or
    another one starts."""
    return data[1:2] in _OF_START


def decode(data: bytes) -> Message:
    """Raises `BadMessage`."""
    if len(data) < _HEADER_BYTES:
        raise BadMessage("a Raft message is shorter than its header")
    version, number, group, sender, receiver, term = _HEADER.unpack_from(data)
    if version != VERSION:
        raise BadMessage(f"a Raft message of version {version}; this node speaks {VERSION}")
    try:
        kind, shape = _KINDS[number]
        fields = msgpack.unpackb(memoryview(data)[_HEADER_BYTES:], raw=False, use_list=True)
    except Exception as e:  # msgpack raises many kinds
        raise BadMessage(f"a Raft message that cannot be decoded: {e}") from None
    if type(fields) is not list or len(fields) != len(shape):
        raise BadMessage(f"{kind.name}: wrong number of fields")
    if tuple(map(type, fields)) != shape:
        raise BadMessage(f"{kind.name}: a field of the wrong type")
    for at, value in enumerate(fields):
        high = NONCE_MAX if not at and kind in _WITH_NONCE else NUMBER_MAX
        if type(value) is int and not 0 <= value <= high:
            raise BadMessage(f"{kind.name}: a field is not from 0 to {high}")
    if term > NUMBER_MAX:
        raise BadMessage(f"{kind.name}: a term above {NUMBER_MAX}")
    if kind is APPEND:
        if fields[3] > term:
            raise BadMessage("APPEND: it follows an entry of a later term than its own")
        _check_entries(fields[4], fields[5], term)
    elif kind is ACK:
        if not fields[0] or fields[1] not in _ANSWERS:
            raise BadMessage("ACK: it wants no entry, or says what no acknowledgement says")
    elif kind in (PREVOTE, VOTE) and fields[1] > term:
        raise BadMessage(f"{kind.name}: its log ends in a later term than its own")
    return Message(kind, group, sender, receiver, term, fields)


def _check_entries(terms: list[Any], commands: list[Any], term: int) -> None:
    if len(terms) != len(commands) or len(terms) > ENTRIES_PER_MESSAGE_MAX:
        raise BadMessage("APPEND: terms and commands do not pair")
    before = 0
    for t in terms:
        if type(t) is not int or t < before or t > term:
            raise BadMessage("APPEND: the terms of the entries do not ascend to the message's")
        before = t
    for c in commands:
        if type(c) is not bytes or not c:
            raise BadMessage("APPEND: an entry that is not bytes")
