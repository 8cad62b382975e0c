"""The nodes behind the proxy, and what is remembered of each: how it did when it was last tried."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

AVOIDED_S: Final = 5.0
"""A node that did not accept is tried after all others for so long."""


@dataclass(frozen=True, slots=True)
class ProxiedNode:
    """A node, and where it speaks each protocol: `imaps` and `pop3s` with TLS, `managesieve` and
    `lmtp`. An address is `host:port`."""

    name: str
    addresses: Mapping[str, str]


class Abandoned(Protocol):
    """A connection to a node, as far as it can be given up."""

    def abort(self) -> None:
        """Close at once."""


@dataclass(slots=True, repr=False, eq=False)
class NodeMemory:
    """How a node does, by the loop's clock. `connections` are those that are open."""

    node: ProxiedNode
    failed_at: float = float("-inf")
    heard_at: float = float("-inf")
    """When it last sent anything on any connection."""
    connections: set[Abandoned] = field(default_factory=set)
    said: str = ""
    """What was wrong the last time; "" when nothing was."""

    def is_avoided(self, now: float) -> bool:
        """Whether others are tried first."""
        return now - self.failed_at < AVOIDED_S

    def abandon(self) -> None:
        """Close every connection, since the node hangs; whoever uses one is told."""
        for connection in list(self.connections):
            connection.abort()


@dataclass(slots=True, repr=False)
class NodeTable:
    """All nodes of the cluster file, by name."""

    memories: dict[str, NodeMemory] = field(default_factory=dict)

    @staticmethod
    def of(nodes: Iterable[ProxiedNode]) -> NodeTable:
        """Nothing is known of them yet."""
        return NodeTable({node.name: NodeMemory(node) for node in nodes})

    def order(self, protocol: str, first: Iterable[str], now: float) -> list[NodeMemory]:
        """Whom to try for a protocol, one after the other: `first` those with the mail, the others
        in any order, and behind all of them who has failed just now."""
        rank = {name: at for at, name in enumerate(first)}
        found = [one for one in self.memories.values() if one.node.addresses.get(protocol)]
        random.shuffle(found)
        return sorted(found, key=lambda one: (one.is_avoided(now), rank.get(one.node.name, 99)))
