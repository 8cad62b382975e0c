"""The configuration of a node, beyond what single keys allow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from raftmail.node.bootstrap import make_cluster, plan_loopback
from raftmail.node.config import load


def _folder(folder: Path, added: str) -> Path:
    made = make_cluster(folder / "c", plan_loopback(1, 9000), shards=1, now=datetime.now(UTC))
    with open(made.folders[0] / "node.toml", "a", encoding="utf-8") as config:
        config.write(added)
    return made.folders[0]


def test_a_key_of_an_earlier_release_is_read_past_and_told(tmp_path: Path) -> None:
    found = load(_folder(tmp_path, "\n[tls]\nclients_on_loopback_without = true\n"))
    assert [text.partition(" ")[0] for text in found.retired] == ["tls.clients_on_loopback_without"]


def test_a_new_file_has_no_key_of_an_earlier_release(tmp_path: Path) -> None:
    assert load(_folder(tmp_path, "")).retired == ()
