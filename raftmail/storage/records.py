"""The records of the index as bytes: fixed-size structs for messages, msgpack for what is rarely
written.

Every record ends in a CRC32 over itself and what it is filed under. So neither a flipped bit nor a
record in the wrong place is taken for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from struct import Struct
from typing import Any
from zlib import crc32

from raftmail.mail.packing import CodecError, Raw, pack, unpack
from raftmail.storage.disk import DiskError

DIGEST_MASK = 2**128 - 1
CRC = Struct("<I")
RESIDUE = 0x2144DF1C
"""The CRC32 of anything with its own CRC32, little-endian, behind it."""

MESSAGE_KEY = Struct(">QI")
"""Mailbox number, UID."""

CHANGE_KEY = Struct(">QQI")
"""Mailbox number, modseq, UID."""

EXPUNGE_KEY = Struct(">QQ")
"""Mailbox number, modseq."""

NUMBER = Struct(">Q")

MESSAGE_BODY = Struct("<IQBQQ64s")
"""UID, modseq, system flags, keyword bits 0-63 and 64-127, and the fields that never change, see
`FIXED`."""

MESSAGE = Struct("<IQBQQ64s16sI")
"""`MESSAGE_BODY`, the digest of it, and the CRC32."""

_COLUMNS = "IQ17sqI72x"
"""Of `MESSAGE`: UID, modseq, flags and keywords together, received date, size in bytes."""

_COLUMNS_COUNT = 5


@lru_cache(maxsize=8)
def _many(count: int) -> tuple[Struct, Struct]:
    """The keys, and the columns, of so many messages at once: no object is made for each of them.
    Few counts are common, which are those of whole pages."""
    return Struct(">" + MESSAGE_KEY.format[1:] * count), Struct("<" + _COLUMNS * count)


FIXED = Struct("<qI16s32sI")
"""Received date (microseconds since 1970), size in bytes, GUID, sha256 of the body, CRC32 of the
summary."""

BLOBREF = Struct("<QI")
"""How many messages have this body, and its size in bytes."""


LOCAL = ("meta", "places", "local")
"""The tables of a replica's own."""


class IndexDamaged(DiskError):
    """A record of the index fails its checksum or does not decode."""

    def __init__(self, table: str, key: bytes, why: str = "its checksum does not fit") -> None:
        super().__init__(f"the record {key.hex()} of table {table!r} is damaged: {why}")
        self.table = table
        self.key = key

    @property
    def is_local(self) -> bool:
        """Whether it is a record of this replica's own, which no other replica has: it is made
        again from what is on this disk."""
        return self.table in LOCAL


def seal(key: bytes, value: bytes) -> bytes:
    """`value` with the checksum that `unseal` checks."""
    return value + CRC.pack(crc32(value, crc32(key)))


def unseal(table: str, key: bytes, record: bytes) -> bytes:
    """The value in a sealed record. Raises `IndexDamaged`."""
    if len(record) < 4 or crc32(record, crc32(key)) != RESIDUE:
        raise IndexDamaged(table, key)
    return record[:-4]


def seal_packed(key: bytes, value: object) -> bytes:
    return seal(key, pack(value))


def unseal_packed(table: str, key: bytes, record: bytes) -> Any:
    try:
        return unpack(unseal(table, key, record))
    except CodecError as e:
        raise IndexDamaged(table, key, str(e)) from None


def message_digest(body: bytes) -> bytes:
    """The part of a message (its `MESSAGE_BODY`) in its mailbox's digest, which is the sum of them
    modulo 2^128."""
    return blake2b(body, digest_size=16).digest()


def unpack_message(key: bytes, record: bytes) -> Raw:
    """The fields of `MESSAGE`. Raises `IndexDamaged`."""
    mailbox, uid = MESSAGE_KEY.unpack(key)
    if len(record) == MESSAGE.size and crc32(record, mailbox & 0xFFFFFFFF) == RESIDUE:
        fields = MESSAGE.unpack(record)
        if fields[0] == uid:
            return fields
    raise IndexDamaged("messages", key)


def unpack_columns(
    mailbox: int, rows: Sequence[tuple[bytes, bytes]]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[bytes, ...], tuple[int, ...], tuple[int, ...]]:
    """Of records of one mailbox, of which there are some: UIDs, modseqs, flags (a byte of system
    flags, and the mask of keywords in 16, little-endian), received dates and sizes in bytes. Raises
    `IndexDamaged`."""
    count = len(rows)
    keys, records = zip(*rows, strict=True)
    checked = list(map(crc32, records, repeat(mailbox & 0xFFFFFFFF)))
    if checked.count(RESIDUE) == count and list(map(len, records)).count(MESSAGE.size) == count:
        of_keys, of_records = _many(count)
        fields = of_records.unpack(b"".join(records))
        uids, modseqs, flags, received_us, sizes = [
            fields[at::_COLUMNS_COUNT] for at in range(_COLUMNS_COUNT)
        ]
        if of_keys.unpack(b"".join(keys))[1::2] == uids:
            return uids, modseqs, flags, received_us, sizes
    for key, record in rows:
        unpack_message(key, record)
    raise IndexDamaged("messages", rows[0][0], "it is another mailbox's")


def uids_of(keys: Sequence[bytes]) -> tuple[int, ...]:
    """The UIDs in keys of messages."""
    return _many(len(keys))[0].unpack(b"".join(keys))[1::2]


_MAILBOX_TYPES = (
    int, str, str, bytes, int, str, int, int, int, int, int, bytes, tuple, int, int,
)  # fmt: skip
_NUMBER_MAX = (1 << 64) - 1


class MailboxRecord:
    """A mailbox, as it is cached and changed; written when the transaction is committed.

    Invariants: every UID is below `uidnext`, every modseq at most `highestmodseq`. `digest` is the
    sum of the messages' digests modulo 2^128. `unseen` counts messages without \\Seen.
    `expunge_rows` counts its rows of the expunge log, which is complete for what vanished after
    modseq `expunge_floor`.
    """

    __slots__ = (
        "bits",
        "digest",
        "dirty",
        "expunge_floor",
        "expunge_rows",
        "guid",
        "highestmodseq",
        "keywords",
        "messages",
        "name",
        "number",
        "size_bytes",
        "special_use",
        "uidnext",
        "uidvalidity",
        "unseen",
        "user",
    )

    def __init__(
        self, number: int, user: str, name: str, guid: bytes, uidvalidity: int, special_use: str
    ) -> None:
        self.number = number
        self.user = user
        self.name = name
        self.guid = guid
        self.uidvalidity = uidvalidity
        self.special_use = special_use
        self.uidnext = 1
        self.highestmodseq = 1
        self.messages = 0
        self.unseen = 0
        self.size_bytes = 0
        self.digest = 0
        self.keywords: list[str] = []
        self.bits: dict[str, int] = {}
        self.expunge_rows = 0
        self.expunge_floor = 0
        self.dirty = False

    def packed(self) -> Raw:
        """What is written, and what a shard's digest covers."""
        return (
            self.number,
            self.user,
            self.name,
            self.guid,
            self.uidvalidity,
            self.special_use,
            self.uidnext,
            self.highestmodseq,
            self.messages,
            self.unseen,
            self.size_bytes,
            self.digest.to_bytes(16, "little"),
            self.keywords,
            self.expunge_rows,
            self.expunge_floor,
        )

    @staticmethod
    def unpacked(raw: Any) -> MailboxRecord:
        """Raises ValueError for what `packed` does not give: also for what has a good checksum, for
        another replica, or another release, may have written it."""
        if type(raw) is not tuple or tuple(map(type, raw)) != _MAILBOX_TYPES:
            raise ValueError("a mailbox has 15 fields, each of one type")
        if len(raw[11]) != 16 or set(map(type, raw[12])) - {str}:
            raise ValueError("a mailbox has a digest of 16 bytes, and keywords")
        numbers = (raw[0], raw[4], *raw[6:11], *raw[13:])
        if min(numbers) < 0 or max(numbers) > _NUMBER_MAX:
            raise ValueError("a number of a mailbox is out of range")
        mailbox = MailboxRecord(*raw[:6])
        (
            mailbox.uidnext,
            mailbox.highestmodseq,
            mailbox.messages,
            mailbox.unseen,
            mailbox.size_bytes,
            digest,
            keywords,
            mailbox.expunge_rows,
            mailbox.expunge_floor,
        ) = raw[6:]
        mailbox.digest = int.from_bytes(digest, "little")
        mailbox.keywords = list(keywords)
        mailbox.bits = {name.lower(): bit for bit, name in enumerate(keywords)}
        return mailbox

    def add_keywords(self, names: tuple[str, ...]) -> None:
        """Give bits to keywords that have none."""
        for name in names:
            self.bits[name.lower()] = len(self.keywords)
            self.keywords.append(name)


class ClientRecord:
    """What is kept of one client (P3): everything up to `floor` is forgotten, `results` has what
    was given above it.

    `used` orders clients by their last use. `heavy` has the weight of results that are not
    small."""

    __slots__ = ("floor", "heavy", "results", "used")

    def __init__(self) -> None:
        self.floor = 0
        self.used = 0
        self.results: dict[int, Raw] = {}
        self.heavy: dict[int, int] = {}

    def packed(self) -> Raw:
        """What is written, and what a shard's digest covers."""
        return (self.used, self.floor, list(self.results.items()), list(self.heavy.items()))

    @staticmethod
    def unpacked(raw: Any) -> ClientRecord:
        """Raises ValueError for what `packed` does not give, as `MailboxRecord.unpacked` does."""
        if type(raw) is not tuple or tuple(map(type, raw)) != (int, int, tuple, tuple):
            raise ValueError("a client has four fields, each of one type")
        used, floor, results, heavy = raw
        for pairs, kind in ((results, tuple), (heavy, int)):
            for pair in pairs:
                if type(pair) is not tuple or tuple(map(type, pair)) != (int, kind):
                    raise ValueError("a client has results, and weights of some, by number")
        client = ClientRecord()
        client.used, client.floor = used, floor
        client.results = dict(results)
        client.heavy = dict(heavy)
        if min(used, floor, *client.heavy.values()) < 0 or not all(client.results.values()):
            raise ValueError("a number of a client is negative, or a result empty")
        return client
