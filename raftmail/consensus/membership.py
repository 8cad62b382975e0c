"""Who is in a shard's group: the value that a membership entry of the log carries (guard G12; Raft
dissertation, chapter 4).

Voters are counted in majorities. Learners get everything that voters get and are not counted; a
replica begins as one. A replica's id is never used again, so that an id stands for one disk for
ever: who lost its disk comes back under a new one, and one node may be named by two ids for a
while.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

import msgpack

KIND: Final = b"\x03"
"""The first byte of a membership's payload in the log. (1 begins a batch of requests, 2 a mark.)"""

VOTERS_MAX: Final = 15
LEARNERS_MAX: Final = 15
ID_MAX: Final = 2**32 - 2
"""The largest replica id, as messages carry them."""

_VERSION: Final = 1
_NODE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\.[2-9])?")


class BadMembership(ValueError):
    """Bytes that are no membership of this version."""


@dataclass(frozen=True, slots=True)
class Membership:
    """Replica ids and the names of their nodes, of voters and of learners. `next_id` is above all
    ids that were ever used.

    Raises ValueError for what no group can have: no voter, an id that is both or not below
    `next_id`, too many, bad names."""

    voters: Mapping[int, str]
    learners: Mapping[int, str]
    next_id: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "voters", MappingProxyType(dict(sorted(self.voters.items()))))
        object.__setattr__(self, "learners", MappingProxyType(dict(sorted(self.learners.items()))))
        if not self.voters:
            raise ValueError("a group must have at least one voter")
        if len(self.voters) > VOTERS_MAX or len(self.learners) > LEARNERS_MAX:
            raise ValueError(
                f"a group has at most {VOTERS_MAX} voters and {LEARNERS_MAX} learners, "
                f"not {len(self.voters)} and {len(self.learners)}"
            )
        both = self.voters.keys() & self.learners.keys()
        if both:
            raise ValueError(f"replica {min(both)} cannot be both voter and learner")
        if not 1 <= self.next_id <= ID_MAX + 1:
            raise ValueError(f"next_id must be from 1 to {ID_MAX + 1}, not {self.next_id}")
        for replica, node in self.nodes.items():
            if not 1 <= replica < self.next_id:
                raise ValueError(
                    f"replica {replica} must be from 1 to below next_id, which is {self.next_id}"
                )
            if _NODE.fullmatch(node) is None:
                raise ValueError(f"{node!r}, of replica {replica}, is no name of a node")

    @staticmethod
    def founding(nodes: Mapping[int, str]) -> Membership:
        """What a group begins with: voters, whose ids are the first that are used. Must be the same
        on all founders."""
        return Membership(nodes, {}, max(nodes, default=0) + 1)

    @property
    def nodes(self) -> Mapping[int, str]:
        """Voters and learners together."""
        return {**self.voters, **self.learners}

    def __contains__(self, replica: object) -> bool:
        return replica in self.voters or replica in self.learners

    def __str__(self) -> str:
        """As an operator reads it: `voters 1=n1 2=n2 3=n3, learners 4=n4`."""
        text = "voters " + " ".join(f"{i}={name}" for i, name in self.voters.items())
        if self.learners:
            text += ", learners " + " ".join(f"{i}={name}" for i, name in self.learners.items())
        return text

    # -- what comes after it -----------------------------------------------------------------------

    def promoted(self, replica: int) -> Membership:
        """With a learner made a voter. Raises ValueError when it is none."""
        if replica in self.voters:
            raise ValueError(f"replica {replica} is a voter already")
        if replica not in self.learners:
            raise ValueError(f"replica {replica} is not in the group ({self})")
        learners = dict(self.learners)
        node = learners.pop(replica)
        return replace(self, voters={**self.voters, replica: node}, learners=learners)

    def without(self, replica: int) -> Membership:
        """With a replica removed. Raises ValueError when it is not there, or is the last voter."""
        if replica not in self:
            raise ValueError(f"replica {replica} is not in the group ({self})")
        if list(self.voters) == [replica]:
            raise ValueError(f"replica {replica} is the group's last voter")
        return replace(
            self,
            voters={i: name for i, name in self.voters.items() if i != replica},
            learners={i: name for i, name in self.learners.items() if i != replica},
        )

    def check_successor(self, new: Membership) -> None:
        """Raises ValueError, with the reason, unless `new` may follow this membership in the log:
        at most one server differs in voters, so that any majority of the one meets any majority of
        the other (Raft dissertation, section 4.1)."""
        if new.next_id < self.next_id:
            raise ValueError(f"next_id would go back from {self.next_id} to {new.next_id}")
        mine = self.nodes
        for replica, node in new.nodes.items():
            before = mine.get(replica)
            if before is None and replica < self.next_id:
                raise ValueError(f"the id {replica} was used before; the next is {self.next_id}")
            if before is not None and before != node:
                raise ValueError(f"replica {replica} is on {before} and cannot go to {node}")
            if replica in new.voters and replica not in mine:
                raise ValueError(f"replica {replica} must be a learner before it is a voter")
            if replica in new.learners and replica in self.voters:
                raise ValueError(f"replica {replica} is a voter and cannot become a learner")
        differ = new.voters.keys() ^ self.voters.keys()
        if len(differ) > 1:
            listed = ", ".join(map(str, sorted(differ)))
            raise ValueError(f"more than one server differs in voters: {listed}")

    # -- as bytes ----------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """A version byte and a msgpack array; the same bytes for the same membership."""
        fields = [
            self.next_id,
            [[replica, node] for replica, node in self.voters.items()],
            [[replica, node] for replica, node in self.learners.items()],
        ]
        return bytes([_VERSION]) + bytes(msgpack.packb(fields, use_bin_type=True))

    @staticmethod
    def decode(data: bytes) -> Membership:
        """Raises `BadMembership` for all but what `encode` gives."""
        if data[:1] != bytes([_VERSION]):
            raise BadMembership(
                f"a membership of version {data[:1].hex() or 'none'}; this release reads {_VERSION}"
            )
        try:
            next_id, voters, learners = msgpack.unpackb(data[1:], raw=False, use_list=True)
            membership = Membership(_mapping(voters), _mapping(learners), _integer(next_id))
        except BadMembership:
            raise
        except Exception as e:  # msgpack raises many kinds
            raise BadMembership(f"a membership that cannot be decoded: {e}") from None
        if membership.encode() != data:
            raise BadMembership("a membership that is not written as this release writes it")
        return membership


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise BadMembership("a membership in which an id is no integer")
    return value


def _mapping(pairs: Any) -> dict[int, str]:
    found: dict[int, str] = {}
    for replica, node in pairs:
        if type(node) is not str:
            raise BadMembership("a membership in which a node's name is no text")
        found[_integer(replica)] = node
    return found
