"""How many may be inside at once: of each port, from each address, and of all that the process can
have open.

A connection is a stranger until it has said something that only a client or a peer says. Strangers
cost little and prove nothing, so at their limit the oldest one from the busiest address makes way
for whoever comes: nobody keeps others out by coming first.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

LOCAL = ""
"""The address of a unix socket, which has no limit of its own."""


class Stranger(Protocol):
    """A connection that has not said who it is."""

    def make_way(self) -> None:
        """Close now, so that another may come in."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Connections. At `connections_max` and `address_connections_max` the next is told so and
    closed; at `strangers_max` one of the strangers is."""

    connections_max: int = 2000
    address_connections_max: int = 1000
    strangers_max: int = 256


@dataclass(slots=True, repr=False, eq=False)
class Descriptors:
    """What a process may have open. `others` are the descriptors that are no connections, measured
    now and then.

    Invariant: `connections` are those of all gates of the process."""

    limit: int = 1 << 30
    reserve: int = 0
    """Kept free for files, whatever comes in."""
    others: int = 0
    connections: int = 0

    @property
    def has_room(self) -> bool:
        """Whether one more connection may be open."""
        return self.connections + self.others + self.reserve < self.limit


@dataclass(slots=True, repr=False, eq=False)
class Guests:
    """Connections that are served, at one port or at all that share a limit, and how many of them
    come from each address."""

    inside: dict[Stranger, str] = field(default_factory=dict)
    at: Counter[str] = field(default_factory=Counter)

    def add(self, one: Stranger, address: str) -> None:
        """It is served from now on."""
        self.inside[one] = address
        self.at[address] += 1

    def remove(self, one: Stranger) -> None:
        """It is served no more. Harmless for one that is not."""
        if one in self.inside:
            _count_down(self.at, self.inside.pop(one))


@dataclass(slots=True, repr=False, eq=False)
class Gate:
    """Of one port; `guests` may be those of other ports, too. Used on one event loop only.

    Invariants: `strangers` has at most `strangers_max`; every connection that `enter` let in leaves
    once, by `leave`."""

    limits: GateLimits
    descriptors: Descriptors = field(default_factory=Descriptors)
    guests: Guests = field(default_factory=Guests)
    turned_away: int = 0
    """For want of descriptors."""
    made_way: int = 0
    """Strangers that were closed, so that others could come in."""
    _inside: dict[Stranger, str] = field(default_factory=dict)
    _strangers: dict[Stranger, None] = field(default_factory=dict)
    _strangers_at: Counter[str] = field(default_factory=Counter)

    @property
    def strangers(self) -> int:
        """Connections that have not said who they are."""
        return len(self._strangers)

    def enter(self, one: Stranger, address: str) -> bool:
        """A connection was accepted; False when there is no room, and none can be made."""
        if not self.descriptors.has_room and not self._clear_one():
            self.turned_away += 1
            return False
        if len(self._strangers) >= self.limits.strangers_max:
            self._clear_one()
        self._inside[one] = address
        self._strangers[one] = None
        self._strangers_at[address] += 1
        self.descriptors.connections += 1
        return True

    def speaks_for(self, one: Stranger, address: str) -> None:
        """A proxy's connection is counted where its client is."""
        if one in self._inside:
            if one in self._strangers:
                _count_down(self._strangers_at, self._inside[one])
                self._strangers_at[address] += 1
            self._inside[one] = address

    def admit(self, one: Stranger) -> str:
        """Count a connection among those that are served; `""`, or why it may not be."""
        address = self._inside.get(one, LOCAL)
        limits = self.limits
        if len(self.guests.inside) >= limits.connections_max:
            return f"{limits.connections_max} connections already"
        if address != LOCAL and self.guests.at[address] >= limits.address_connections_max:
            return f"{limits.address_connections_max} connections from this address already"
        self.guests.add(one, address)
        return ""

    def dismiss(self, one: Stranger) -> None:
        """It is served no more, or has become a peer."""
        self.guests.remove(one)

    def know(self, one: Stranger) -> None:
        """It has said who it is."""
        if one in self._strangers:
            del self._strangers[one]
            _count_down(self._strangers_at, self._inside[one])

    def leave(self, one: Stranger) -> None:
        """It is closed. Harmless the second time."""
        if one not in self._inside:
            return
        self.know(one)
        self.dismiss(one)
        del self._inside[one]
        self.descriptors.connections -= 1

    def _clear_one(self) -> bool:
        """Have one stranger make way; False when there is none."""
        if not self._strangers:
            return False
        busiest = max(self._strangers_at.values())
        oldest = next(s for s in self._strangers if self._strangers_at[self._inside[s]] == busiest)
        self.leave(oldest)
        self.made_way += 1
        oldest.make_way()
        return True


def _count_down(counter: Counter[str], address: str) -> None:
    counter[address] -= 1
    if not counter[address]:
        del counter[address]
