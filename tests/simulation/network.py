"""Links between nodes, as TCP gives them: in order while a connection lasts, and whatever happens
between connections.

- A connection delivers every frame once, in order, each with its delay.
- A blocked direction (a partition, one way or both) holds frames back. When it lasts, the
  connection breaks: both ends notice, each in its time, and what was on its way is lost from some
  frame on.
- A new connection needs both directions. Frames of the old one, delivered or lost, may come late,
  between those of the new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from tests.simulation.world import Event, World

Payload = tuple[str, bytes]
"""A frame's kind and content."""

REPEATED_MAX = 12


class Endpoint(Protocol):
    """A node as the network sees it; only one that runs is connected."""

    def connected(self, peer: str) -> None: ...
    def disconnected(self, peer: str) -> None: ...
    def receive(self, peer: str, frames: Sequence[Payload]) -> None: ...


@dataclass(slots=True)
class _Way:
    """One direction of a connection."""

    blocked: bool = False
    waiting: deque[list[Payload]] = field(default_factory=deque)
    arrives: float = 0.0
    last: deque[Payload] = field(default_factory=lambda: deque(maxlen=REPEATED_MAX))


class Network:
    """All links. Times are of the world."""

    def __init__(self, world: World, names: Sequence[str]) -> None:
        self.world = world
        self.names = list(names)
        self.delay_s = (0.0002, 0.002)
        self.slow_chance = 0.0
        self.slow_s = (0.02, 0.3)
        self.repeat_chance = 0.0
        self._endpoints: dict[str, Endpoint] = {}
        self._epochs: dict[frozenset[str], int] = {}
        self._open: set[frozenset[str]] = set()
        self._dialing: set[frozenset[str]] = set()
        self._ways = {(a, b): _Way() for a in names for b in names if a != b}

    # -- nodes

    def up(self, name: str, endpoint: Endpoint) -> None:
        """A node runs: it connects to the others, and they to it."""
        self._endpoints[name] = endpoint
        for other in self.names:
            if other != name:
                self._dial(name, other)

    def down(self, name: str) -> None:
        """A node's process is gone: its connections break at once."""
        self._endpoints.pop(name, None)
        for other in self.names:
            if other != name:
                self._break(name, other)

    # -- faults

    def block(self, source: str, target: str) -> None:
        """Hold back what goes from `source` to `target`; after a while the connection breaks."""
        way = self._ways[source, target]
        if way.blocked:
            return
        way.blocked = True
        pair = frozenset((source, target))
        epoch = self._epochs.get(pair, 0)

        def give_up() -> None:
            if way.blocked and self._epochs.get(pair, 0) == epoch:
                self._break(source, target)

        self.world.after(self.world.between(0.3, 5.0), give_up)

    def unblock(self, source: str, target: str) -> None:
        way = self._ways[source, target]
        if not way.blocked:
            return
        way.blocked = False
        while way.waiting:
            self._schedule(source, target, way, way.waiting.popleft())
        self._dial(source, target)

    def unblock_all(self) -> None:
        for source, target in self._ways:
            self.unblock(source, target)

    def reset(self, a: str, b: str) -> None:
        """Break a connection; it is made again at once."""
        self._break(a, b)
        self._dial(a, b)

    def reaches(self, source: str, target: str) -> bool:
        """Whether a request or answer outside of the links (a client's node to another) gets
        there."""
        return (
            source == target or frozenset((source, target)) in self._open
        ) and not self._blocked(source, target)

    def is_open(self, source: str, target: str) -> bool:
        """Whether what one node sends to another is not held back."""
        return not self._blocked(source, target)

    def _blocked(self, source: str, target: str) -> bool:
        return source != target and self._ways[source, target].blocked

    # -- frames

    def send(self, source: str, target: str, frames: list[Payload]) -> None:
        """Send frames on the connection, if there is one."""
        pair = frozenset((source, target))
        if pair not in self._open:
            return
        way = self._ways[source, target]
        if way.blocked:
            way.waiting.append(frames)
        else:
            self._schedule(source, target, way, frames)

    def _schedule(self, source: str, target: str, way: _Way, frames: list[Payload]) -> None:
        world = self.world
        rng = world.rng
        low, high = self.delay_s
        delay = low + (high - low) * rng.random()
        if self.slow_chance and rng.random() < self.slow_chance:
            delay += world.between(*self.slow_s)
        arrives = world.now + delay
        if arrives < way.arrives:
            arrives = way.arrives
        way.arrives = arrives
        pair = frozenset((source, target))
        epoch = self._epochs[pair]

        def deliver() -> None:
            if self._epochs[pair] == epoch and pair in self._open:
                if way.blocked:
                    way.waiting.append(frames)
                    return
                endpoint = self._endpoints.get(target)
                if endpoint is not None:
                    way.last.extend(frames)
                    for _, content in frames:
                        world.note(content)
                    endpoint.receive(source, frames)

        world.at(arrives, deliver)

    # -- connections

    def _dial(self, a: str, b: str) -> None:
        pair = frozenset((a, b))
        if pair in self._open or pair in self._dialing:
            return
        self._dialing.add(pair)
        self.world.after(self.world.between(0.005, 0.15), lambda: self._connect(a, b))

    def _connect(self, a: str, b: str) -> None:
        pair = frozenset((a, b))
        self._dialing.discard(pair)
        if pair in self._open or a not in self._endpoints or b not in self._endpoints:
            return
        if self._ways[a, b].blocked or self._ways[b, a].blocked:
            return  # `unblock` tries again
        self._open.add(pair)
        self._epochs[pair] = self._epochs.get(pair, 0) + 1
        self.world.log(f"link {min(a, b)}-{max(a, b)} up")
        for source, target in ((a, b), (b, a)):
            way = self._ways[source, target]
            again = list(way.last)
            way.last.clear()
            way.waiting.clear()
            way.arrives = self.world.now
            self._endpoints[target].connected(source)
            if again and self.repeat_chance and self.world.chance(self.repeat_chance):
                self._late(source, target, again)

    def _late(self, source: str, target: str, again: list[Payload]) -> None:
        """Some frames of the old connection come once more, or only now, each at a time of its own
        between those of the new one."""
        world = self.world
        pair = frozenset((source, target))
        epoch = self._epochs[pair]

        def come(frame: Payload) -> None:
            endpoint = self._endpoints.get(target)
            if self._epochs[pair] == epoch and pair in self._open and endpoint is not None:
                endpoint.receive(source, [frame])

        for frame in world.rng.sample(again, world.rng.randint(1, min(4, len(again)))):
            world.after(
                world.rng.choice((0.0, 0.01, 1.0)) * world.rng.random(), partial(come, frame)
            )

    def _break(self, a: str, b: str) -> None:
        pair = frozenset((a, b))
        if pair not in self._open:
            return
        self._open.discard(pair)
        self._epochs[pair] += 1
        self.world.log(f"link {min(a, b)}-{max(a, b)} down")
        for source, target in ((a, b), (b, a)):
            way = self._ways[source, target]
            for frames in way.waiting:
                way.last.extend(frames)
            way.waiting.clear()
            endpoint = self._endpoints.get(target)
            if endpoint is not None:
                delay = 0.0 if self.world.chance(0.7) else self.world.between(0.0, 0.5)
                epoch = self._epochs[pair]
                self.world.after(delay, self._notice(endpoint, source, target, pair, epoch))
        if a in self._endpoints and b in self._endpoints:
            self._dial(a, b)

    def _notice(
        self, endpoint: Endpoint, source: str, target: str, pair: frozenset[str], epoch: int
    ) -> Event:
        def notice() -> None:
            # Whoever was connected anew before it noticed hears of the new connection only.
            if self._epochs[pair] == epoch and self._endpoints.get(target) is endpoint:
                endpoint.disconnected(source)

        return notice
