"""The engine behind the index: LMDB does what the obvious twin does, and its map grows by
itself."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.storage import kv
from raftmail.storage.disk import DiskError, DiskFull
from raftmail.storage.kv import LmdbEngine, LmdbReader, MapFull, after_prefix, scan
from tests.simulation.kv import MemoryEngine

NAMES = ("a", "b")
_keys = st.binary(min_size=1, max_size=3) | st.sampled_from([b"\xff", b"\xff\xff", b"k"])
_bounds = st.one_of(st.just(b""), _keys)
_name = st.sampled_from(NAMES)
_step = st.one_of(
    st.tuples(st.just("put"), _name, _keys, st.binary(max_size=40)),
    st.tuples(st.just("put_many"), _name, st.lists(st.tuples(_keys, st.binary(max_size=9)))),
    st.tuples(st.just("put_new"), _name, _keys, st.binary(max_size=9)),
    st.tuples(st.just("delete"), _name, _keys),
    st.tuples(st.just("get"), _name, _keys),
    st.tuples(st.just("page"), _name, _bounds, st.none() | _keys, st.integers(1, 5)),
    st.tuples(st.just("last"), _name, _bounds, st.none() | _keys),
    st.tuples(st.just("around"), _name, _keys),
    st.tuples(st.just("count"), _name),
    st.tuples(st.just("commit"), st.booleans()),
    st.tuples(st.just("abort")),
    st.tuples(st.just("snapshot")),
)


def _do(engine: Any, step: tuple[Any, ...]) -> object:
    what, *rest = step
    if what in ("commit", "abort"):
        return getattr(engine, what)(*rest)
    if what == "snapshot":
        snapshot = engine.snapshot()
        rows = [list(scan(snapshot.table(name), rows=2)) for name in NAMES]
        snapshot.close()
        return rows
    return getattr(engine.table(rest[0]), what)(*rest[1:])


@settings(max_examples=40)
@given(st.lists(_step, max_size=60))
def test_lmdb_and_its_twin_answer_alike(steps: list[tuple[Any, ...]]) -> None:
    twin = MemoryEngine(NAMES)
    with tempfile.TemporaryDirectory() as folder:
        engine = LmdbEngine(Path(folder), NAMES)
        try:
            for step in steps:
                assert _do(engine, step) == _do(twin, step), step
        finally:
            engine.close()


def test_what_is_committed_is_there_when_opened_again(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, NAMES)
    engine.table("a").put(b"k", b"v")
    engine.commit()
    engine.table("a").put(b"l", b"w")
    engine.close()
    engine.close()
    engine = LmdbEngine(tmp_path, NAMES)
    assert list(scan(engine.table("a"))) == [(b"k", b"v")]
    engine.close()


def test_the_map_grows_between_transactions_before_it_is_needed(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, NAMES, map_bytes=1 << 20)
    before = engine.map_bytes()
    for round_ in range(10):
        for i in range(100):
            engine.table("a").put(b"%d %d" % (round_, i), bytes(1000))
        engine.commit(sync=False)
    assert engine.map_bytes() > before
    assert engine.table("a").count() == 1000
    engine.close()


def test_a_transaction_too_large_for_the_map_fits_after_an_abort(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, NAMES, map_bytes=1 << 20)
    for attempt in range(8):
        try:
            for i in range(3000):
                engine.table("a").put(b"%d" % i, bytes(1000))
            engine.commit()
            break
        except MapFull as e:
            assert attempt < 7
            assert engine.broken == str(e)
            engine.abort()
            assert engine.broken == ""
            assert engine.table("a").count() == 0
    assert engine.table("a").count() == 3000
    engine.close()


def test_the_map_is_left_alone_while_a_snapshot_looks_at_it(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, NAMES, map_bytes=1 << 20)
    snapshot = engine.snapshot()
    for i in range(700):
        engine.table("a").put(b"%d" % i, bytes(1000))
    engine.commit()
    assert engine.map_bytes() == 1 << 20
    assert snapshot.table("a").count() == 0
    snapshot.close()
    engine.commit()
    assert engine.map_bytes() == 2 << 20
    engine.close()


def test_a_commit_that_finds_no_space_is_lost_and_the_next_one_works(tmp_path: Path) -> None:
    """In a process of its own, whose files may not grow: that is as good as a full disk."""
    code = (
        "import pathlib, resource, sys\n"
        "from raftmail.storage.disk import DiskFull\n"
        "from raftmail.storage.kv import LmdbEngine, scan\n"
        "engine = LmdbEngine(pathlib.Path(sys.argv[1]), ('a', 'b'))\n"
        "table = engine.table('a')\n"
        "table.put(b'k', b'v')\n"
        "engine.commit()\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))\n"
        "rows = [(b'%04d' % i, bytes(1000)) for i in range(3000)]\n"
        "table.put_many(rows)\n"
        "try:\n"
        "    engine.commit()\n"
        "except DiskFull as e:\n"
        "    print('full', list(scan(table)))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "engine.abort()\n"
        "table.put_many(rows)\n"
        "engine.commit()\n"
        "print(table.count())\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:2] == ["full [(b'k', b'v')]", "3001"], done.stderr


def test_a_full_disk_is_told_from_other_trouble() -> None:
    explained = kv._explained(lmdb.DiskError("mdb_txn_commit: No space left on device"), "/x")
    assert isinstance(explained, DiskFull)
    explained = kv._explained(lmdb.Error("mdb_put: Input/output error"), "/x")
    assert not isinstance(explained, DiskFull)
    assert isinstance(kv._explained(lmdb.CorruptedError("page"), "/x"), kv.TableDamaged)


def test_another_process_reads_what_was_committed_while_the_engine_writes(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, NAMES)
    engine.table("a").put(b"k", b"committed")
    engine.commit()
    engine.table("a").put(b"k", b"not yet")
    code = (
        "import sys, pathlib\n"
        "from raftmail.storage.kv import LmdbReader, scan\n"
        "reader = LmdbReader(pathlib.Path(sys.argv[1]), ('a', 'b'))\n"
        "snapshot = reader.snapshot()\n"
        "print(list(scan(snapshot.table('a'))))\n"
        "snapshot.close(); reader.close()\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[(b'k', b'committed')]", done.stderr
    engine.close()


def test_a_reader_of_no_environment_says_so(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="nowhere"):
        LmdbReader(tmp_path / "nowhere", NAMES)


def test_the_end_of_a_prefix_is_behind_every_key_that_has_it() -> None:
    assert after_prefix(b"ab") == b"ac"
    assert after_prefix(b"a\xff") == b"b"
    assert after_prefix(b"\xff") is None


def test_a_table_that_an_earlier_release_did_not_have_is_empty_to_a_reader(tmp_path: Path) -> None:
    engine = LmdbEngine(tmp_path, NAMES[:1])
    engine.table(NAMES[0]).put(b"key", b"value")
    engine.commit(True)
    engine.close()
    reader = LmdbReader(tmp_path, (NAMES[0], "later"))
    snapshot = reader.snapshot()
    assert list(scan(snapshot.table(NAMES[0]))) == [(b"key", b"value")]
    later = snapshot.table("later")
    assert list(scan(later)) == [] and later.get(b"key") is None and later.count() == 0
    assert later.last(b"", None) is None and not later.delete(b"key")
    for write in (later.put, later.put_new):
        with pytest.raises(DiskError, match="cannot be written"):
            write(b"key", b"value")
    with pytest.raises(DiskError, match="cannot be written"):
        later.put_many([(b"key", b"value")])
    snapshot.close()
    reader.close()
