"""An LMDB file that would end the process is told by its pages, before LMDB looks at it."""

from __future__ import annotations

import errno
import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raftmail.storage.kv import LmdbEngine
from raftmail.storage.lmdbcheck import FILE, check_pages

PAGE = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Short records and long ones, some of them gone again."""
    engine = LmdbEngine(tmp_path / "index", ("a", "b", "empty"))
    rng = random.Random(1)
    for _ in range(10):
        for _ in range(150):
            name = rng.choice("ab")
            engine.table(name).put(rng.randbytes(12), rng.randbytes(rng.choice((5, 300, 9000))))
            row = engine.table("a").last(b"", None)
            if row is not None and rng.random() < 0.3:
                engine.table("a").delete(row[0])
        engine.commit()
    engine.close()
    return tmp_path / "index"


def _cut(data: bytearray) -> None:
    del data[len(data) // 2 :]


def _cut_to_nothing(data: bytearray) -> None:
    data.clear()


def _zeros(data: bytearray) -> None:
    half = len(data) // 2 // PAGE * PAGE
    data[half:] = bytes(len(data) - half)


def _other_pages(data: bytearray) -> None:
    rng = random.Random(2)
    for at in range(2 * PAGE, len(data), 5 * PAGE):
        data[at : at + PAGE] = rng.randbytes(PAGE)


def _other_file(data: bytearray) -> None:
    data[:] = b"something else " * 10_000


def test_good_pages_are_good(folder: Path) -> None:
    assert check_pages(folder) == ""


@pytest.mark.parametrize("damage", [_cut, _cut_to_nothing, _zeros, _other_pages, _other_file])
def test_pages_that_are_not_what_they_should_be_are_told(
    folder: Path, damage: Callable[[bytearray], None]
) -> None:
    data = bytearray((folder / FILE).read_bytes())
    damage(data)
    (folder / FILE).write_bytes(data)
    assert FILE in check_pages(folder)


def test_whatever_was_written_and_removed_has_good_pages(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path / "index", ("a", "b"))
    rng = random.Random(4)
    keys = [rng.randbytes(rng.choice((4, 40, 400))) for _ in range(1500)]
    for turn in range(60):
        snapshot = engine.snapshot() if turn % 7 == 3 else None
        table = engine.table(rng.choice("ab"))
        for _ in range(rng.choice((3, 200))):
            key = rng.choice(keys)
            if turn % 10 > 5 or rng.random() < 0.4:
                table.delete(key)
            else:
                table.put(key, rng.randbytes(rng.choice((0, 30, 900, 20_000))))
        if turn % 11 == 5:
            engine.abort()
        engine.commit(sync=turn % 3 == 0)
        if snapshot is not None:
            snapshot.close()
        assert check_pages(tmp_path / "index") == "", turn
    engine.close()


def _free_records(data: bytes) -> Iterator[int]:
    """Where the records of the list of free pages lie, of one whose tree is a single page."""
    meta = max((0, PAGE), key=lambda at: _number(data, at + 144))
    root = _number(data, meta + 16 + 24 + 40)
    at = root * PAGE
    for node in struct.unpack_from(
        f"<{(struct.unpack_from('<H', data, at + 12)[0] - 16) // 2}H", data, at + 16
    ):
        _, _, flags, key = struct.unpack_from("<4H", data, at + node)
        assert not flags
        yield at + node + 8 + key


def _number(data: bytes | bytearray, at: int) -> int:
    found: int = struct.unpack_from("<Q", data, at)[0]
    return found


def test_damage_of_the_list_of_free_pages_is_told(folder: Path) -> None:
    """LMDB would end the process at each start with a failed assertion, or write over what is
    used."""
    good = (folder / FILE).read_bytes()
    for at in _free_records(good):
        count = _number(good, at)
        for word, value in (
            (0, count | 1 << 17),
            (0, (1 << 64) - 1),
            (1, 1),
            (1, 1 << 40),
            (1, _number(good, at + 8 * count)),
            (count, 0),
            (count, _used_page(good)),
        ):
            data = bytearray(good)
            struct.pack_into("<Q", data, at + 8 * word, value)
            (folder / FILE).write_bytes(data)
            if count > 1 or value != _number(good, at + 8 * word):
                assert FILE in check_pages(folder), (at, word, value)


def _used_page(data: bytes | bytearray) -> int:
    """The root of the table of tables."""
    return _number(data, max((0, PAGE), key=lambda at: _number(data, at + 144)) + 16 + 24 + 48 + 40)


def test_a_key_that_is_out_of_order_is_told(folder: Path) -> None:
    data = bytearray((folder / FILE).read_bytes())
    at = _used_page(data) * PAGE
    first, second = struct.unpack_from("<2H", data, at + 16)
    data[at + first + 8] = data[at + second + 8] + 1
    (folder / FILE).write_bytes(data)
    assert "its keys are out of order" in check_pages(folder)


def test_sectors_that_cannot_be_read_are_an_error_and_no_signal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fails)
    with pytest.raises(OSError, match="Input/output error"):
        check_pages(folder)


def test_no_damage_ends_the_check_with_another_error(folder: Path) -> None:
    good = (folder / FILE).read_bytes()
    rng = random.Random(3)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.choice((1, 20, 400))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (folder / FILE).write_bytes(data)
        check_pages(folder)


def test_a_new_environment_has_good_pages(tmp_path: Path) -> None:
    LmdbEngine(tmp_path / "index", ("a",)).close()
    assert check_pages(tmp_path / "index") == ""
