"""Whatever stands in the small files of a node's folder: each is read, or refused by the error that
its reader declares."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.cluster.state import BadState, ClusterState
from raftmail.consensus.membership import Membership
from raftmail.node import folder, index_folder, join
from raftmail.node.config import Config
from raftmail.node.config_follower import load_state
from raftmail.node.examine import ExamineError, _cluster_of
from raftmail.node.folder import FolderError
from raftmail.storage.disk import RealDisk
from tests.cluster.clusters import cluster
from tests.fuzzing import altered, bounded_memory

CLUSTER = "ab" * 16
TRIES = 120
STRANGE = [
    b"", b"null", b"7", b"[]", b"{}", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
    b'{"replicas": [], "crc32": 0}', b'{"replicas": null, "crc32": null}', b'{"damaged": 7}',
    b'{"format": 1, "cluster": 7, "node": []}', b'{"invite": {}, "place": 7}',
    b'{"place": {"zone": [[]]}}',
    b'{"rebuild": 1e999, "compare": 0, "bodies": [], "damaged": "ab"}', b"1e999", b"9" * 5000,
    b'{"format": 1, "cluster": "zz", "node": "n1"}',
]  # fmt: skip


def _config(root: Path) -> Config:
    made = SimpleNamespace(
        data=root,
        folder=root,
        path=root / "node.toml",
        replica_id=1,
        worker=1,
        node=SimpleNamespace(name="n1"),
        cluster=SimpleNamespace(id=CLUSTER),
    )
    return cast(Config, made)


def _orders(root: Path) -> None:
    orders = index_folder.read_orders(RealDisk(root))
    assert all(len(digest) == 32 for digest in orders.damaged)


def _made(root: Path) -> None:
    found = folder._read_made(_config(root))
    assert all(type(number) is int for pair in found.items() for number in pair)
    folder.holds_none(root)


def _first(root: Path) -> None:
    told = Membership.founding({1: "n9"})
    membership, known = index_folder.made_with(RealDisk(root), told, made=True)
    assert known == (membership != told)


def _state(root: Path) -> None:
    load_state(_config(root), founding=False).revision + 0
    ClusterState.from_bytes((root / "cluster.json").read_bytes())


def _place(root: Path) -> None:
    join.begun_by(root)
    assert all(type(word) is str for pair in join.place_of(root).items() for word in pair)


FILES: dict[str, tuple[bytes, Callable[[Path], Any], tuple[type[Exception], ...]]] = {
    "repair.json": (
        json.dumps(
            {"rebuild": "", "compare": True, "bodies": False, "damaged": ["cd" * 32]}
        ).encode(),
        _orders,
        (),
    ),
    "replicas.json": (
        json.dumps(
            {"format": 1, "replicas": {"0": 1, "3": 2}, "crc32": folder._crc({"0": 1, "3": 2})}
        ).encode(),
        _made,
        (FolderError,),
    ),
    "node.json": (
        json.dumps({"format": folder.FORMAT, "cluster": CLUSTER, "node": "n1"}).encode(),
        lambda root: folder._check_identity(_config(root)),
        (FolderError,),
    ),
    "cluster.json": (cluster(3).to_bytes(), _state, (BadState,)),
    "invitation.json": (b'{"invite": "ab", "place": {"zone": "a"}}', _place, (FolderError,)),
    "index.closed.json": (b'{"bytes": 1, "mtime_ns": 2}', index_folder._was_closed, ()),
    "membership.first": (b"", _first, ()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_or_refused_by_the_declared_error(name: str, tmp_path: Path) -> None:
    good, read, errors = FILES[name]
    if name == "membership.first":
        index_folder.made_with(RealDisk(tmp_path), Membership.founding({1: "n1"}), made=False)
        good = (tmp_path / name).read_bytes()
    if name == "index.closed.json":
        (tmp_path / "index").mkdir()
        (tmp_path / "index" / "data.mdb").write_bytes(b"no pages")
    (tmp_path / name).write_bytes(good)
    read(tmp_path)
    rng = random.Random(name)
    with bounded_memory():
        for data in [*STRANGE, *[altered(good, rng.getrandbits(32)) for _ in range(TRIES)]]:
            (tmp_path / name).write_bytes(data)
            try:
                read(tmp_path)
            except errors as e:
                assert str(e)


def test_the_identity_of_a_folder_that_is_examined_is_read_or_refused(tmp_path: Path) -> None:
    good = FILES["node.json"][0]
    for data in [*STRANGE, *[altered(good, seed) for seed in range(TRIES)]]:
        (tmp_path / "node.json").write_bytes(data)
        try:
            assert len(_cluster_of(tmp_path)) <= 16
        except ExamineError as e:
            assert "node.json" in str(e)
