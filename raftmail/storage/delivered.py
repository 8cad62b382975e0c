"""The table of what was delivered: what makes a delivery that is sent again happen once (P9).

For each message that was delivered to a user under a key (see `mail.commands.NewMessage`) it has
where the message went first. Nothing here reads a clock. What is forgotten, and when, follows from
the order of the log and from the dates of receipt in it. So all replicas forget alike.

Rows, all sealed:

| table | key | record |
|---|---|---|
| deliveries | number, in the order of the log, from 1 | `_ROW`, and the user |
| deliveries | 0 | the next number, how many rows there are, and the sum of their digests |
| delivered | user NUL key | the number of the row |

Limits: a row is kept for the time that the deliveries name, and longer while the shard has not had
`KEPT_MIN` others since. So no clock that is wrong makes a shard forget its newest deliveries, and a
delivery makes it forget `FORGOTTEN_AT_ONCE_MAX` at most. A shard has `ROWS_MAX` rows, a user
`USER_ROWS_MAX`: above these the oldest go, of a user a quarter at once.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import TypeAlias
from zlib import crc32

from raftmail.storage.kv import KEY_BYTES_MAX, KvEngine, Row, Table, Tables, after_prefix, scan
from raftmail.storage.records import (
    CRC,
    DIGEST_MASK,
    NUMBER,
    IndexDamaged,
    seal,
    seal_packed,
    unseal,
    unseal_packed,
)
from raftmail.storage.rotten_keys import RottenKeys

KEY_BYTES = 32
KEPT_MIN = 10_000
"""The newest rows of a shard, which stay however old the dates say that they are."""

ROWS_MAX = 1_000_000
"""Of a shard; some 250 bytes each on the disk."""

USER_ROWS_MAX = 16_384
FORGOTTEN_AT_ONCE_MAX = 2
UNSETTLED_MAX = 16_384
"""Rows held back; with more they are written before the transaction ends."""

_COUNTS_MAX = 100_000
"""Users of whom it is known in memory how many rows they have."""

STATE = NUMBER.pack(0)
_ROW = Struct("<qQIIQ32s")
"""When it was received (microseconds since 1970), mailbox number, UIDVALIDITY, UID, modseq, key."""

Place: TypeAlias = tuple[int, int, int, int]
"""Where a message went: mailbox number, UIDVALIDITY, UID, modseq."""


class Delivered:
    """Keys by user. What is added is held back, and written by `settle`."""

    def __init__(
        self,
        engine: KvEngine,
        *,
        kept_min: int = KEPT_MIN,
        rows_max: int = ROWS_MAX,
        user_rows_max: int = USER_ROWS_MAX,
    ) -> None:
        """Raises `IndexDamaged`."""
        self._rows = engine.table("deliveries")
        self._numbers = engine.table("delivered")
        self._rotten = RottenKeys("delivered", self._numbers, check_number)
        self._kept_min = kept_min
        self._rows_max = rows_max
        self._user_rows_max = user_rows_max
        self._next, self._count, self._digest = read_state(self._rows)
        self._new: dict[bytes, tuple[int, bytes]] = {}
        self._first_new = self._next
        self._head: tuple[int, int] | None = None
        self._counts: dict[str, int] = {}
        self._dirty = False
        self._asked = "", b"", b""
        """User, key and both together, as asked for last: mostly what is added next."""

    def __len__(self) -> int:
        return self._count

    def find(self, user: str, key: bytes) -> Place | None:
        """Where a message went that was delivered to a user under this key. Raises
        `IndexDamaged`."""
        value = self._value(user, key)
        return None if value is None else _ROW.unpack_from(value)[1:5]

    def received_us(self, user: str, key: bytes) -> int | None:
        """When a message was received that was delivered to a user under this key. Raises
        `IndexDamaged`."""
        value = self._value(user, key)
        return None if value is None else int(_ROW.unpack_from(value)[0])

    def _value(self, user: str, key: bytes) -> bytes | None:
        filed = b"%b\0%b" % (user.encode(), key)
        self._asked = user, key, filed
        new = self._new.get(filed)
        if new is not None:
            return new[1]
        if len(filed) > KEY_BYTES_MAX:
            return None  # no user can have that name
        record = self._numbers.get(filed)
        if record is None:
            self._rotten.check_missing(filed)
            return None
        number = read_number(filed, record)
        value = self._row(number)
        if value[_ROW.size - KEY_BYTES : _ROW.size] != key or value[_ROW.size :] != user.encode():
            raise IndexDamaged("delivered", filed, f"row {number} is another delivery's")
        return value

    def renew(self, user: str, key: bytes, place: Place, received_us: int, kept_us: int) -> None:
        """`add` for one that may be known, and is younger from now on. Raises `IndexDamaged`."""
        if self._value(user, key) is not None:
            self.settle()
            filed = delivered_key(user, key)
            record = self._numbers.get(filed)
            assert record is not None
            self._remove(user, filed, read_number(filed, record))
        self.add(user, key, place, received_us, kept_us)

    def add(self, user: str, key: bytes, place: Place, received_us: int, kept_us: int) -> None:
        """Remember a delivery that is not known, and forget what is too old or too much. Raises
        `IndexDamaged`."""
        count = self._counts.get(user)
        if count is None:
            count = self._count_of(user)
        if count >= self._user_rows_max:
            count -= self._forget_some(user)
        if self._count >= self._kept_min or self._count >= self._rows_max:
            before = self._count
            self._forget_oldest(received_us, kept_us)
            if self._count != before:
                count = self._counts.get(user, count)
        number = self._next
        asked = self._asked
        filed = asked[2] if asked[1] is key and asked[0] == user else delivered_key(user, key)
        self._new[filed] = number, _ROW.pack(received_us, *place, key) + filed[: -KEY_BYTES - 1]
        self._counts[user] = count + 1
        self._next += 1
        self._count += 1
        self._dirty = True
        if len(self._new) > UNSETTLED_MAX:
            self.settle()

    def forget_user(self, user: str) -> None:
        """Forget all that was delivered to a user. Raises `IndexDamaged`."""
        self.settle()
        for filed, record in self._of(user):
            self._remove(user, filed, read_number(filed, record))

    def settle(self) -> None:
        """Write what is held back."""
        if self._new:
            rows: list[Row] = []
            numbers: list[Row] = []
            pack_number, pack_crc, digest_of = NUMBER.pack, CRC.pack, row_digest
            digest = self._digest
            for filed, (number, value) in self._new.items():
                at = pack_number(number)
                rows.append((at, value + pack_crc(crc32(value, crc32(at)))))
                numbers.append((filed, at + pack_crc(crc32(at, crc32(filed)))))
                digest += digest_of(at, value)
            self._digest = digest
            self._new.clear()
            self._rows.put_many(rows)
            numbers.sort()
            self._numbers.put_many(numbers)
        self._first_new = self._next

    def flush(self) -> None:
        """Write everything into the open transaction."""
        self.settle()
        if self._dirty:
            self._dirty = False
            self._digest &= DIGEST_MASK
            state = (self._next, self._count, self._digest.to_bytes(16, "little"))
            self._rows.put(STATE, seal_packed(STATE, state))

    # Forgetting

    def _forget_oldest(self, received_us: int, kept_us: int) -> None:
        """Drop a few of the oldest rows, if there are too many or they are too old."""
        for _ in range(FORGOTTEN_AT_ONCE_MAX):
            number, then_us = self._head or self._find_head()
            is_old = self._count >= self._kept_min and abs(received_us - then_us) > kept_us
            if not is_old and self._count < self._rows_max:
                return
            if number >= self._first_new:
                self.settle()
            value = self._row(number)
            user = value[_ROW.size :].decode()
            key = value[_ROW.size - KEY_BYTES : _ROW.size]
            self._remove(user, delivered_key(user, key), number)

    def _forget_some(self, user: str) -> int:
        """Drop the oldest quarter of a user's rows; how many."""
        self.settle()
        found = sorted((read_number(filed, record), filed) for filed, record in self._of(user))
        oldest = found[: max(1, len(found) // 4)]
        for number, filed in oldest:
            self._remove(user, filed, number)
        return len(oldest)

    def _remove(self, user: str, filed: bytes, number: int) -> None:
        at = NUMBER.pack(number)
        self._digest -= row_digest(at, self._row(number))
        self._rows.delete(at)
        self._numbers.delete(filed)
        self._count -= 1
        self._dirty = True
        if user in self._counts:
            self._counts[user] -= 1
        if self._head is not None and self._head[0] == number:
            self._head = None

    def _find_head(self) -> tuple[int, int]:
        """The number of the oldest row, and when it was received. Raises `IndexDamaged`."""
        self.settle()
        page = self._rows.page(NUMBER.pack(1), None, 1)
        if not page:
            raise IndexDamaged("deliveries", STATE, "it counts rows, and there are none")
        number = NUMBER.unpack(page[0][0])[0]
        self._head = number, _ROW.unpack_from(self._row(number))[0]
        return self._head

    # Reading

    def _of(self, user: str) -> list[Row]:
        prefix = user.encode() + b"\0"
        return list(scan(self._numbers, prefix, after_prefix(prefix)))

    def _count_of(self, user: str) -> int:
        """How many rows a user has; those that are held back are among them, for then it is
        known."""
        if len(self._counts) >= _COUNTS_MAX:
            self._counts.clear()
            self.settle()
        return len(self._of(user))

    def _row(self, number: int) -> bytes:
        at = NUMBER.pack(number)
        record = self._rows.get(at)
        if record is None:
            raise IndexDamaged("deliveries", at, "it is missing")
        return read_row(at, record)


def delivered_key(user: str, key: bytes) -> bytes:
    """Where the number of a row is filed."""
    return b"%b\0%b" % (user.encode(), key)


def read_number(filed: bytes, record: bytes) -> int:
    """The number of a row. Raises `IndexDamaged`."""
    value = unseal("delivered", filed, record)
    if len(value) != NUMBER.size or len(filed) <= KEY_BYTES or filed[-KEY_BYTES - 1]:
        raise IndexDamaged("delivered", filed, "it is no number of a delivery")
    return int(NUMBER.unpack(value)[0])


def read_row(at: bytes, record: bytes) -> bytes:
    """A row without its checksum. Raises `IndexDamaged`."""
    value = unseal("deliveries", at, record)
    if len(at) != NUMBER.size or len(value) <= _ROW.size:
        raise IndexDamaged("deliveries", at, "it is no delivery")
    return value


def row_digest(at: bytes, value: bytes) -> int:
    """The part of a row in the table's digest, which is the sum of them modulo 2^128."""
    return int.from_bytes(blake2b(at + value, digest_size=16).digest(), "little")


def read_state(table: Table) -> tuple[int, int, int]:
    """Next number, number of rows, sum of the digests. Raises `IndexDamaged`."""
    record = table.get(STATE)
    return (1, 0, 0) if record is None else _read_state(record)


def _read_state(record: bytes) -> tuple[int, int, int]:
    raw = unseal_packed("deliveries", STATE, record)
    try:
        following, count, digest = raw
        if type(following) is int and type(count) is int and 0 <= count < following:
            return following, count, int.from_bytes(digest, "little")
    except (TypeError, ValueError):
        pass
    raise IndexDamaged("deliveries", STATE, "it is not a number, a count and a digest")


def digested_rows(tables: Tables) -> list[Row]:
    """What a shard's digest covers of all this: one row, which has the digest of the others."""
    record = tables.table("deliveries").get(STATE)
    return [] if record is None else [(STATE, record)]


def check_row(at: bytes, record: bytes) -> None:
    """Whether a row of `deliveries` is well-formed in itself. Raises `IndexDamaged`."""
    if at == STATE:
        _read_state(record)
        return
    try:
        read_row(at, record)[_ROW.size :].decode()
    except UnicodeDecodeError:
        raise IndexDamaged("deliveries", at, "its user is no UTF-8") from None


def check_number(filed: bytes, record: bytes) -> None:
    """Whether a row of `delivered` is well-formed in itself. Raises `IndexDamaged`."""
    read_number(filed, record)


def check(tables: Tables) -> list[IndexDamaged]:
    """fsck: what is wrong with both tables. Raises nothing."""
    found: list[IndexDamaged] = []
    rows, numbers = tables.table("deliveries"), tables.table("delivered")
    state = (1, 0, 0)
    count = digest = highest = 0
    for at, record in scan(rows):
        try:
            check_row(at, record)
            if at == STATE:
                state = _read_state(record)
                continue
            value = read_row(at, record)
            highest = NUMBER.unpack(at)[0]
            count += 1
            digest += row_digest(at, value)
            filed = value[_ROW.size :] + b"\0" + value[_ROW.size - KEY_BYTES : _ROW.size]
            if numbers.get(filed) != seal(filed, at):
                raise IndexDamaged("deliveries", at, "no key leads to it")
        except IndexDamaged as e:
            found.append(e)
    for filed, record in scan(numbers):
        try:
            at = NUMBER.pack(read_number(filed, record))
            if rows.get(at) is None:
                raise IndexDamaged("delivered", filed, "it leads to no delivery")
        except IndexDamaged as e:
            found.append(e)
    told, own = (state[1], state[2]), (count, digest & DIGEST_MASK)
    if not found and (told != own or highest >= state[0]):
        found.append(
            IndexDamaged(
                "deliveries",
                STATE,
                f"it tells of {state[1]} deliveries below number {state[0]}, but there are {count} "
                f"up to number {highest}, or their digest is another",
            )
        )
    return found
