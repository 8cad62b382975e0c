"""An LMDB file that would end the process is told by its pages, before LMDB looks at it."""

from __future__ import annotations

import random
from collections.abc import Callable
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
