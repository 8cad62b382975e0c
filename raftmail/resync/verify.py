"""The proof that replicas are equal, by reading every record and every body; and where they are
not, the exact difference.

Each replica reads its own snapshot at the same applied index (`DeepVerify`); what comes out is
small and is compared in one place (`compare`). For mailboxes that differ, `listing` gives what is
in them, page by page, and `differences` tells mailbox, UID and field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol
from zlib import crc32

from raftmail.mail.packing import CodecError, pack, unpack
from raftmail.resync.source import state_of
from raftmail.storage.blobs import BlobDamaged, BlobMissing
from raftmail.storage.index import REPLICATED
from raftmail.storage.kv import Tables, scan
from raftmail.storage.mailboxes import read_mailbox
from raftmail.storage.records import (
    FIXED,
    MESSAGE_KEY,
    NUMBER,
    IndexDamaged,
    unpack_message,
    unseal,
)

_BY_MAILBOX = ("mailboxes", "messages", "summaries", "changes", "expunges")
_WHOLE = tuple(name for name in REPLICATED if name not in _BY_MAILBOX)
PROBLEMS_MAX = 1000
LISTED_MAX = 1000

_FIELDS = (
    "modseq",
    "system flags",
    "keywords",
    "received date",
    "size",
    "GUID",
    "body hash",
    "summary",
)
_MAILBOX_FIELDS = (
    "number",
    "user",
    "name",
    "GUID",
    "UIDVALIDITY",
    "special use",
    "UIDNEXT",
    "HIGHESTMODSEQ",
    "messages",
    "unseen",
    "size",
    "digest",
    "keywords",
    "expunge rows",
    "expunge floor",
)


@dataclass(frozen=True, slots=True)
class DeepDigest:
    """What one replica has at an index. `tables` are those that are of no single mailbox.
    `bad_bodies` could not be read, of at most `PROBLEMS_MAX`."""

    applied_index: int
    digest: bytes
    tables: dict[str, bytes]
    mailboxes: dict[int, bytes]
    bodies: int
    body_bytes: int
    bad_bodies: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        return pack(
            (
                self.applied_index,
                self.digest,
                list(self.tables.items()),
                list(self.mailboxes.items()),
                self.bodies,
                self.body_bytes,
                self.bad_bodies,
            )
        )

    @staticmethod
    def decode(data: bytes) -> DeepDigest:
        """Raises `CodecError`."""
        raw = unpack(data)
        try:
            applied, digest, tables, mailboxes, bodies, body_bytes, bad = raw
            tables, mailboxes = dict(tables), dict(mailboxes)
        except (TypeError, ValueError) as e:
            raise CodecError(f"a deep digest is not as it should be: {e}") from None
        numbers = (applied, bodies, body_bytes, *mailboxes)
        strings = (digest, *tables.values(), *mailboxes.values())
        if (
            set(map(type, numbers)) - {int}
            or set(map(type, strings)) - {bytes}
            or set(map(type, tables)) - {str}
            or type(bad) is not tuple
            or set(map(type, bad)) - {bytes}
        ):
            raise CodecError("a deep digest is not as it should be")
        return DeepDigest(applied, digest, tables, mailboxes, bodies, body_bytes, bad)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that two replicas do not have alike, in words; None: it is not there at all."""

    user: str
    mailbox: str
    uid: int
    """0: of the mailbox itself."""

    what: str
    mine: str | None
    theirs: str | None

    def __str__(self) -> str:
        where = f"{self.user}/{self.mailbox}" + (f" UID {self.uid}" if self.uid else "")
        return (
            f"{where}: {self.what} is {self.mine or 'missing'} here, "
            f"{self.theirs or 'missing'} there"
        )


class Readable(Protocol):
    """Where bodies are read from."""

    @property
    def get(self) -> Callable[[bytes], bytes]:
        """Raises `BlobMissing`, `BlobDamaged`."""


class DeepVerify:
    """Reads a view in steps. Without `bodies` they are not read."""

    def __init__(self, tables: Tables, bodies: Readable | None) -> None:
        self._tables = tables
        self._bodies = bodies
        self._state = state_of(tables)
        self._hashes: dict[int, Any] = {}
        self._table_digests: dict[str, bytes] = {}
        self._counted = [0, 0]
        self._bad: list[bytes] = []
        self._work = self._run()
        self.result: DeepDigest | None = None

    def step(self, rows: int, body_bytes: int) -> bool:
        """Read about so much more. True: `result` is there."""
        for cost_rows, cost_bytes in self._work:
            rows -= cost_rows
            body_bytes -= cost_bytes
            if rows <= 0 or body_bytes <= 0:
                return False
        return True

    def _run(self) -> Iterator[tuple[int, int]]:
        for name in _BY_MAILBOX:
            for key, record in scan(self._tables.table(name)):
                number = int.from_bytes(key[:8], "big")
                found = self._hashes.get(number)
                if found is None:
                    found = self._hashes[number] = blake2b(digest_size=16)
                found.update(b"%s %d %d " % (name.encode(), len(key), len(record)))
                found.update(key)
                found.update(record)
                yield 1, 0
        for name in _WHOLE:
            total = blake2b(digest_size=16)
            for key, record in scan(self._tables.table(name)):
                total.update(b"%d %d " % (len(key), len(record)))
                total.update(key)
                total.update(record)
                yield 1, 0
            self._table_digests[name] = total.digest()
        if self._bodies is not None:
            for key, _ in scan(self._tables.table("blobrefs")):
                yield 1, self._read_body(self._bodies, key)
        self._conclude()

    def _read_body(self, bodies: Readable, digest: bytes) -> int:
        try:
            size = len(bodies.get(digest))
        except (BlobMissing, BlobDamaged):
            if len(self._bad) < PROBLEMS_MAX:
                self._bad.append(digest)
            return 0
        self._counted[0] += 1
        self._counted[1] += size
        return size

    def _conclude(self) -> None:
        mailboxes = {number: found.digest() for number, found in self._hashes.items()}
        total = blake2b(digest_size=16)
        total.update(pack(self._state))
        for number, digest in sorted(mailboxes.items()):
            total.update(NUMBER.pack(number) + digest)
        for name in _WHOLE:
            total.update(self._table_digests[name])
        self.result = DeepDigest(
            self._state[0],
            total.digest(),
            self._table_digests,
            mailboxes,
            self._counted[0],
            self._counted[1],
            tuple(self._bad),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where two replicas differ. `comparable`: they were read at the same index."""

    comparable: bool
    equal: bool
    mailboxes: tuple[int, ...] = ()
    tables: tuple[str, ...] = ()


def compare(mine: DeepDigest, theirs: DeepDigest) -> Comparison:
    """Which mailboxes and tables are not alike. Bodies are no part of it: whether they are good is
    in `bad_bodies` of either."""
    if mine.applied_index != theirs.applied_index:
        return Comparison(False, False)
    numbers = mine.mailboxes.keys() | theirs.mailboxes.keys()
    mailboxes = sorted(n for n in numbers if mine.mailboxes.get(n) != theirs.mailboxes.get(n))
    names = mine.tables.keys() | theirs.tables.keys()
    tables = sorted(n for n in names if mine.tables.get(n) != theirs.tables.get(n))
    return Comparison(True, mine.digest == theirs.digest, tuple(mailboxes), tuple(tables))


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a mailbox: its record's fields (none: there is no such mailbox, or its record is
    damaged), and by UID the fields of messages (none: damaged), of one page. `next_uid` 0: that
    was all."""

    number: int
    record: tuple[Any, ...] = ()
    messages: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    next_uid: int = 0

    def encode(self) -> bytes:
        return pack((self.number, self.record, list(self.messages.items()), self.next_uid))

    @staticmethod
    def decode(data: bytes) -> Listing:
        """Raises `CodecError`."""
        try:
            number, record, messages, next_uid = unpack(data)
            found = dict(messages)
        except (TypeError, ValueError) as e:
            raise CodecError(f"a listing is not as it should be: {e}") from None
        if (
            type(number) is not int
            or type(next_uid) is not int
            or len(record) not in (0, len(_MAILBOX_FIELDS))
            or set(map(type, found)) - {int}
            or {type(value) for value in found.values()} - {tuple}
            or {len(value) for value in found.values()} - {0, len(_FIELDS)}
        ):
            raise CodecError("a listing is not as it should be")
        return Listing(number, record, found, next_uid)


def listing(tables: Tables, number: int, from_uid: int = 1, limit: int = LISTED_MAX) -> Listing:
    """A page of what is in a mailbox, from a UID on."""
    key = NUMBER.pack(number)
    sealed = tables.table("mailboxes").get(key)
    record: tuple[Any, ...] = ()
    if sealed is not None:
        try:
            record = tuple(read_mailbox(key, sealed).packed())
        except IndexDamaged:
            record = ()
    end = NUMBER.pack(number + 1)
    page = tables.table("messages").page(MESSAGE_KEY.pack(number, from_uid), end, limit + 1)
    summaries = tables.table("summaries")
    messages: dict[int, tuple[Any, ...]] = {}
    for message_key, message in page[:limit]:
        uid = MESSAGE_KEY.unpack(message_key)[1]
        messages[uid] = _message_fields(message_key, message, summaries.get(message_key))
    following = MESSAGE_KEY.unpack(page[limit][0])[1] if len(page) > limit else 0
    return Listing(number, record, messages, following)


def _message_fields(key: bytes, record: bytes, sealed: bytes | None) -> tuple[Any, ...]:
    try:
        fields = unpack_message(key, record)
    except IndexDamaged:
        return ()
    received, size, guid, blob, summary_crc = FIXED.unpack(fields[5])
    try:
        summary = unseal("summaries", key, sealed or b"")
        good = crc32(summary) == summary_crc
    except IndexDamaged:
        good = False
    keywords = f"{fields[3] | fields[4] << 64:x}"
    told = f"{summary_crc:08x}" if good else "damaged"
    return (fields[1], fields[2], keywords, received, size, guid.hex(), blob.hex(), told)


def differences(mine: Listing, theirs: Listing) -> list[Difference]:
    """Where two pages from the same UID on differ. Of UIDs that only one page reaches nothing is
    told: ask on from the lower of the two `next_uid`."""
    record = mine.record or theirs.record
    user, name = (record[1], record[2]) if record else ("", f"number {mine.number}")
    found = []
    if bool(mine.record) != bool(theirs.record):
        found.append(
            Difference(
                user,
                name,
                0,
                "the mailbox",
                "there" if mine.record else None,
                "there" if theirs.record else None,
            )
        )
    else:
        found += _unlike(user, name, 0, _MAILBOX_FIELDS, mine.record, theirs.record)
    reach = min(x.next_uid or 1 << 33 for x in (mine, theirs))
    for uid in sorted(mine.messages.keys() | theirs.messages.keys()):
        if uid >= reach:
            break
        one, other = mine.messages.get(uid), theirs.messages.get(uid)
        if one and other:
            found += _unlike(user, name, uid, _FIELDS, one, other)
        elif one != other:
            found.append(Difference(user, name, uid, "the message", _state(one), _state(other)))
    return found


def _unlike(
    user: str, name: str, uid: int, names: Sequence[str], one: Sequence[Any], other: Sequence[Any]
) -> list[Difference]:
    return [
        Difference(user, name, uid, what, _words(a), _words(b))
        for what, a, b in zip(names, one, other, strict=False)
        if a != b and not (isinstance(a, list | tuple) and list(a) == list(b))
    ]


def _words(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _state(fields: tuple[Any, ...] | None) -> str | None:
    return None if fields is None else ("there" if fields else "damaged")
