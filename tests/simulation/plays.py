"""Little plays: one thing is done to the cluster, then, once something has come of it, the next.

What does not come in time is left, and all ends with the faults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from raftmail.resync.sink import SinkPhase
from tests.simulation.faults import Injector
from tests.simulation.node import SimNode

LOOK_S = 0.02
"""How often it is looked whether what a play waits for has come."""


CROWD = (8, 24)
"""How many requests are given to a master that is alone."""


class Crowd(Protocol):
    """Clients of their own, each of which asks a node once, and waits for no answer."""

    def __call__(self, node: SimNode, count: int) -> None:
        """Have so many messages be saved at once."""

    def look(self, node: SimNode) -> None:
        """Have all mailboxes be read there, as at a master."""

    def come_again(self, node: SimNode, gone: Callable[[], None]) -> None:
        """Have a message be saved and removed; then call `gone`, and have another with the same
        body be saved."""


class Plays(Injector):
    """The injector, with what plays are made of."""

    crowd: Crowd

    is_playing = False
    """A play goes on that another would spoil."""

    def _once(
        self,
        is_so: Callable[[], bool],
        then: Callable[[], None],
        within_s: float,
        otherwise: Callable[[], None] = lambda: None,
    ) -> None:
        """Do something as soon as it is so; or something else when it has not become so."""
        end = self.world.now + within_s

        def look() -> None:
            if not self.active:
                return
            if is_so():
                then()
            elif self.world.now < end:
                self.world.after(LOOK_S, look)
            else:
                otherwise()

        look()

    def _again(self, act: Callable[[], None], every_s: float, for_s: float) -> None:
        """Do something again and again."""
        end = self.world.now + for_s

        def once_more() -> None:
            if self.active and self.world.now < end:
                act()
                self.world.after(every_s, once_more)

        once_more()

    def _part(self, some: Sequence[SimNode], others: Sequence[SimNode]) -> Callable[[], None]:
        """Hold back everything between two sides. Returns what heals it."""
        sides = [[n.name for n in side] for side in (some, others)]
        self.world.log(f"fault: {sides[0]} and {sides[1]} are parted")
        for source, target in _pairs(some, others):
            self.network.block(source, target)
        return partial(self._heal, some, others)

    def _cut(self, node: SimNode) -> Callable[[], None]:
        """Part one from all others, with what is on its way. Returns what heals it."""
        heal = self._part([node], self._others(node))
        for other in self._others(node):
            self.network.reset(node.name, other.name)
        return heal

    def _heal(self, some: Sequence[SimNode], others: Sequence[SimNode]) -> None:
        if self.active:
            for source, target in _pairs(some, others):
                self.network.unblock(source, target)

    def _others(self, *some: SimNode) -> list[SimNode]:
        return [node for node in self.nodes if node not in some]

    def _followers(self, leader: SimNode) -> list[SimNode]:
        """Voters that run, in any order."""
        found = [n for n in self._others(leader) if n.running and n.number in leader.group.voters]
        self.rng.shuffle(found)
        return found

    def _die(self, node: SimNode) -> None:
        if node.running:
            if self.rng.random() < 0.5:
                node.kill()
            else:
                node.power_off()

    def _play_ends(self) -> None:
        self.is_playing = False


def _pairs(some: Sequence[SimNode], others: Sequence[SimNode]) -> list[tuple[str, str]]:
    """The directions between two sides."""
    there = [(a.name, b.name) for a in some for b in others if a is not b]
    return there + [(b, a) for a, b in there]


def is_left_behind(node: SimNode, leader: SimNode) -> bool:
    """Whether the leader's log does not reach back to what a node has."""
    if not (node.running and leader.running):
        return False
    return leader.group.journal.begins_at > node.group.last_index


def fetches_bodies(node: SimNode) -> bool:
    """Whether records are whole, and bodies lack."""
    sink = node.replica.recovery.manager.sink
    return sink.phase == SinkPhase.BODIES and sink.missing.total()[0] > 0
