"""An environment that LMDB cannot use is told as a damaged one, whatever LMDB calls it."""

from __future__ import annotations

import random
from pathlib import Path

from raftmail.storage.kv import LmdbEngine, TableDamaged, scan
from raftmail.storage.lmdbcheck import FILE, check_pages

NAMES = ("a", "b", "c")


def _use(folder: Path) -> None:
    engine = LmdbEngine(folder, NAMES)
    try:
        for name in NAMES:
            list(scan(engine.table(name)))
            engine.table(name).last(b"", None)
            engine.table(name).count()
        snapshot = engine.snapshot()
        for name in NAMES:
            list(scan(snapshot.table(name)))
        snapshot.close()
    finally:
        engine.close()


def test_rot_of_the_pages_that_name_the_tables_is_damage(tmp_path: Path) -> None:
    """What the check of the pages would find is left out: LMDB may end the process there."""
    engine = LmdbEngine(tmp_path / "good", NAMES)
    for name in NAMES:
        engine.table(name).put(b"key", b"value")
    engine.commit()
    engine.close()
    good = (tmp_path / "good" / FILE).read_bytes()
    rng = random.Random(5)
    folder = tmp_path / "rotten"
    folder.mkdir()
    written = [at for at in range(len(good)) if good[at]]
    damaged = 0
    for _ in range(250):
        data = bytearray(good)
        data[rng.choice(written)] ^= 1 << rng.randrange(8)
        (folder / FILE).write_bytes(data)
        if check_pages(folder):
            continue
        try:
            _use(folder)
        except TableDamaged:
            damaged += 1
    assert damaged
