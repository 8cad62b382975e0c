"""Addresses at which a node reaches others instead of those that the cluster knows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from raftmail.node.bootstrap import make_cluster, plan_loopback
from raftmail.node.config import Config, ConfigError, load
from raftmail.node.config_follower import first_state, peers_of


def _config(folder: Path, dial: str) -> Config:
    made = make_cluster(
        folder / "c", plan_loopback(3, 9000), shards=1, replicas=3, now=datetime.now(UTC)
    )
    with open(made.folders[0] / "node.toml", "a", encoding="utf-8") as config:
        config.write(f"\n[dial]\n{dial}\n")
    return load(made.folders[0])


def test_a_node_dials_others_where_its_configuration_says(tmp_path: Path) -> None:
    config = _config(tmp_path, 'n2 = "10.0.0.1:7"\nn9 = "10.0.0.9:7"')
    peers, _ = peers_of(first_state(config), config)
    assert peers == {"n2": "10.0.0.1:7", "n3": "127.0.0.1:9020"}


@pytest.mark.parametrize(
    "dial", ['n2 = "nowhere"', "n2 = 7", '"N 2" = "10.0.0.1:7"', '"n2.x" = "10.0.0.1:7"']
)
def test_a_wrong_address_or_name_is_told_with_its_key(tmp_path: Path, dial: str) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml: dial\."):
        _config(tmp_path, dial)
