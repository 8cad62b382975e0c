"""What is said of a shard that nobody leads."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

import pytest

from raftmail.cluster.router import Router


@dataclass
class View:
    nodes: tuple[str, ...]
    revision: int = 1

    def members(self, shard: int) -> tuple[str, ...]:
        return self.nodes


@dataclass
class Links:
    up: Collection[str]

    def is_up(self, node: str) -> bool:
        return node in self.up


def told(node: str, members: tuple[str, ...], up: Collection[str]) -> str:
    router = Router(node, {}, cast(Any, View(members)), cast(Any, Links(up)), lambda: 0.0)
    return router.no_master(1)


@pytest.mark.parametrize(
    ("node", "up", "words"),
    [
        (
            "n1",
            (),
            "shard 1 has no master: n2 and n3 do not answer, and 1 of 3 replicas is no majority",
        ),
        ("n9", (), "n1, n2 and n3 do not answer, and 0 of 3 replicas are no majority"),
        ("n1", ("n2",), "n3 does not answer, and the others have not elected one"),
        ("n1", ("n2", "n3"), "its replicas answer, and have not elected one"),
    ],
)
def test_who_does_not_answer_is_named(node: str, up: tuple[str, ...], words: str) -> None:
    assert words in told(node, ("n1", "n2", "n3"), up)
