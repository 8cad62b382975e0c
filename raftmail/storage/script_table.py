"""The table of delivery rules: the scripts of users, and which of them is active.

| key | record |
|---|---|
| user, NUL | which script is active, and what all are together: count, bytes, sum of digests |
| user, NUL, name | name and text; see `mailboxes.name_key` for long names |

Who has no scripts has no row. All rows are sealed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from typing import Final, NamedTuple

from raftmail.mail.packing import pack
from raftmail.mail.scripts import RULES_VERSION_BYTES, check_script, check_script_name
from raftmail.storage.kv import KvEngine, Row, Tables, after_prefix, scan
from raftmail.storage.mailboxes import name_key
from raftmail.storage.records import DIGEST_MASK, IndexDamaged, seal_packed, unseal, unseal_packed
from raftmail.storage.rotten_keys import RottenKeys

TABLE: Final = "scripts"


class ScriptTotals(NamedTuple):
    """What all scripts of a user are together. `active` is the name of one of them, or "".
    `digest` is the sum of those of the rows modulo 2^128."""

    active: str = ""
    rows: int = 0
    size_bytes: int = 0
    """Of texts, without names."""

    digest: int = 0

    @property
    def version(self) -> bytes:
        """Bytes by which it is known that a script changed, or another one is active."""
        return blake2b(pack(_packed(self)), digest_size=RULES_VERSION_BYTES).digest()


_NOTHING: Final = ScriptTotals()
_NOT_THERE: Final = "the script that is active is not there"


class ScriptTable:
    """Scripts by user and name.

    Invariant: the totals are those of the rows, and the active script is one of them."""

    def __init__(self, engine: KvEngine) -> None:
        self._table = engine.table(TABLE)
        self._rotten = RottenKeys(TABLE, self._table, partial(unseal, TABLE))

    def totals(self, user: str) -> ScriptTotals:
        """Raises `IndexDamaged`."""
        key = _head(user)
        record = self._table.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return _NOTHING
        return _read_totals(key, record)

    def get(self, user: str, name: str) -> bytes | None:
        """The text. Raises `IndexDamaged`."""
        key = name_key(user, name)
        record = self._table.get(key)
        if record is None:
            self._rotten.check_missing(key)
            return None
        return _read_script(key, record)[1]

    def of(self, user: str) -> list[tuple[str, bytes]]:
        """Names and texts of all of a user, ordered by name. Raises `IndexDamaged`."""
        head = _head(user)
        totals = self.totals(user)
        if totals == _NOTHING:
            return []
        end = after_prefix(head)
        rows = list(scan(self._table, head, end))
        self._rotten.check_range(head, end, rows)
        found = sorted(_read_script(key, record) for key, record in rows if key != head)
        if len(found) != totals.rows:
            raise IndexDamaged(TABLE, head, f"there are {len(found)} rows, and not {totals.rows}")
        if totals.active and all(name != totals.active for name, _ in found):
            raise IndexDamaged(TABLE, head, _NOT_THERE)
        return found

    def put(self, user: str, name: str, script: bytes) -> None:
        """Keep a script, perhaps instead of another. Raises `IndexDamaged`."""
        key = name_key(user, name)
        active, rows, size, digest = self._without(user, name)
        self._table.put(key, seal_packed(key, (name, script)))
        digest += _row_digest(key, name, script)
        self._write(user, ScriptTotals(active, rows + 1, size + len(script), digest & DIGEST_MASK))

    def delete(self, user: str, name: str) -> None:
        """Take a script away that is there, and not active. Raises `IndexDamaged`."""
        left = self._without(user, name)
        self._table.delete(name_key(user, name))
        self._write(user, left)

    def activate(self, user: str, name: str) -> None:
        """From now on this script is active; "": none is. Raises `IndexDamaged`."""
        self._write(user, self.totals(user)._replace(active=name))

    def forget_user(self, user: str) -> None:
        """Take all of a user away."""
        head = _head(user)
        for key, _ in list(scan(self._table, head, after_prefix(head))):
            self._table.delete(key)

    def _without(self, user: str, name: str) -> ScriptTotals:
        """The totals without a script that may be there."""
        totals = self.totals(user)
        before = self.get(user, name)
        if before is None:
            return totals
        digest = totals.digest - _row_digest(name_key(user, name), name, before)
        return ScriptTotals(
            totals.active, totals.rows - 1, totals.size_bytes - len(before), digest & DIGEST_MASK
        )

    def _write(self, user: str, totals: ScriptTotals) -> None:
        head = _head(user)
        if totals.rows:
            self._table.put(head, seal_packed(head, _packed(totals)))
        else:
            self._table.delete(head)


def _head(user: str) -> bytes:
    return user.encode() + b"\0"


def _head_of(key: bytes) -> bytes:
    user, nul, _ = key.partition(b"\0")
    return user + nul


def _row_digest(key: bytes, name: str, script: bytes) -> int:
    content = pack((key, name, script))
    return int.from_bytes(blake2b(content, digest_size=16).digest(), "little")


def _packed(totals: ScriptTotals) -> tuple[str, int, int, bytes]:
    return totals.active, totals.rows, totals.size_bytes, totals.digest.to_bytes(16, "little")


def _read_totals(key: bytes, record: bytes) -> ScriptTotals:
    raw = unseal_packed(TABLE, key, record)
    if (
        type(raw) is tuple
        and tuple(map(type, raw)) == (str, int, int, bytes)
        and raw[1] > 0
        and raw[2] >= 0
        and len(raw[3]) == 16
    ):
        return ScriptTotals(raw[0], raw[1], raw[2], int.from_bytes(raw[3], "little"))
    raise IndexDamaged(TABLE, key, "it is not a name, a count, bytes and a digest")


def _read_script(key: bytes, record: bytes) -> tuple[str, bytes]:
    raw = unseal_packed(TABLE, key, record)
    if type(raw) is not tuple or len(raw) != 2:
        raise IndexDamaged(TABLE, key, "it is not a name and a script")
    try:
        check_script_name("name", raw[0])
        check_script("script", raw[1])
        filed = name_key(_head_of(key)[:-1].decode(), raw[0])
    except ValueError as e:
        raise IndexDamaged(TABLE, key, str(e)) from None
    if filed != key:
        raise IndexDamaged(TABLE, key, "the script has another name")
    return raw[0], raw[1]


def check_row(key: bytes, record: bytes) -> None:
    """Whether a row is well-formed in itself. Raises `IndexDamaged`."""
    head = _head_of(key)
    if len(head) < 2 or head[-1]:
        raise IndexDamaged(TABLE, key, "it is nobody's")
    if key == head:
        _read_totals(key, record)
    else:
        _read_script(key, record)


def digested_rows(tables: Tables) -> Iterator[Row]:
    """What a shard's digest covers of all this: the totals of each user, which have the digests of
    the rows."""
    table = tables.table(TABLE)
    start = b""
    while page := table.page(start, None, 1):
        key, record = page[0]
        yield key, record
        end = after_prefix(_head_of(key))
        if end is None or end <= start:
            return  # keys that rotted are not in order
        start = end


def check(tables: Tables) -> Iterator[IndexDamaged]:
    """fsck: what is wrong with the table. Raises nothing."""
    tally = _Tally(b"")
    for key, record in scan(tables.table(TABLE)):
        if _head_of(key) != tally.head:
            yield from tally.problems()
            tally = _Tally(_head_of(key))
        try:
            check_row(key, record)
            if key == tally.head:
                tally.told = _read_totals(key, record)
            else:
                tally.add(key, *_read_script(key, record))
        except IndexDamaged as e:
            tally.good = False
            yield e
    yield from tally.problems()


class _Tally:
    """What the rows of one user add up to."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.told = self._found = _NOTHING
        self._names: set[str] = set()
        self.good = True

    def add(self, key: bytes, name: str, script: bytes) -> None:
        _, rows, size, digest = self._found
        digest = digest + _row_digest(key, name, script) & DIGEST_MASK
        self._found = ScriptTotals("", rows + 1, size + len(script), digest)
        self._names.add(name)

    def problems(self) -> Iterator[IndexDamaged]:
        if not self.good:
            return
        told = self.told
        if told._replace(active="") != self._found:
            text = f"it tells of {told.rows} rows, but there are {self._found.rows}, or others"
            yield IndexDamaged(TABLE, self.head, text)
        elif told.active and told.active not in self._names:
            yield IndexDamaged(TABLE, self.head, _NOT_THERE)
