"""Faults of processes and links: each a coroutine that does harm, waits, and undoes it, also when
it is cancelled meanwhile.

A fault that does something to a process holds that node's lock, so that faults of several profiles
do not undo each other. Those of disks are in `diskfaults`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from raftmail_chaos.cluster import MAIL_SHARD, ChaosCluster, NodeProcess
from raftmail_chaos.networks import Networks
from raftmail_chaos.toxiproxy import ProxyLinks, Way

_POLL_S = 0.1


@dataclass(slots=True)
class Fault:
    """One fault. Times are seconds of the run's clock; `ended` is None while it is in force."""

    number: int
    kind: str
    target: str
    text: str
    began: float
    ended: float | None = None

    @property
    def name(self) -> str:
        return f"f{self.number}"

    def __str__(self) -> str:
        return f"{self.kind} {self.target}: {self.text}"


@dataclass(slots=True, repr=False)
class Arena:
    """What faults act on, and where they are noted. `problems` takes what breaks a promise and no
    history can show."""

    cluster: ChaosCluster
    links: ProxyLinks | None
    rng: random.Random
    networks: Networks | None = None
    faults: list[Fault] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    news: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(1000))
    ended: list[str] = field(default_factory=list)
    """Nodes that ended and were not killed, with status and last words."""
    absence: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever takes a replica away for long: without two of three nothing can go on, and
    nothing is learnt meanwhile."""

    @contextlib.contextmanager
    def noted(self, kind: str, target: str, text: str) -> Iterator[Fault]:
        """Note a fault while it is in force."""
        fault = Fault(len(self.faults) + 1, kind, target, text, time.monotonic())
        self.faults.append(fault)
        self.tell(str(fault))
        try:
            yield fault
        finally:
            fault.ended = time.monotonic()

    def tell(self, text: str) -> None:
        if not self.news.full():
            self.news.put_nowait(text)

    def blame(self, rule: str, text: str) -> None:
        """A promise was broken."""
        self.problems.append((rule, text))
        self.tell(f"BROKEN {rule}: {text}")

    def blame_end(self, node: NodeProcess) -> bool:
        """Of a node that should be running: whether it ended by itself, which breaks a promise."""
        process = node.process
        code = None if process is None else process.poll()
        if code is None:
            return False
        text = f"node {node.name} ended by itself with status {code}: {node.log_tail()[-800:]}"
        self.ended.append(text)
        self.blame("P6", text)
        return True

    @property
    def in_force(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.ended is None]

    async def find_master(self, timeout_s: float) -> NodeProcess | None:
        """The node that leads the mail shard now and whose process nobody hurts; None when there is
        none in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            name = self.cluster.master(MAIL_SHARD)
            if name is not None and not self.cluster.nodes[name].lock.locked():
                return self.cluster.nodes[name]
            await asyncio.sleep(_POLL_S)
        return None

    def any_free(self) -> NodeProcess | None:
        free = [node for node in self.cluster.nodes.values() if not node.lock.locked()]
        return self.rng.choice(free) if free else None


async def surely(undoing: Coroutine[Any, Any, None]) -> None:
    """Do it to its end, also when this task is cancelled meanwhile."""
    task = asyncio.create_task(undoing)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


# -- processes


async def kill(arena: Arena, node: NodeProcess, kind: str, away_s: float) -> None:
    """SIGKILL a node, and start it again after a while."""
    async with node.lock:
        with arena.noted(kind, node.name, f"SIGKILL, back after {away_s:.1f} s"):
            arena.blame_end(node)  # before: nobody had the time to look
            node.kill()
            try:
                await asyncio.sleep(away_s)
            finally:
                node.start()


async def kill_all(arena: Arena, away_s: float) -> None:
    """SIGKILL all nodes at once, as a power cut of the whole place does, and start them again."""
    nodes = list(arena.cluster.nodes.values())
    async with contextlib.AsyncExitStack() as locks:
        for node in nodes:
            await locks.enter_async_context(node.lock)
        with arena.noted("kill-all", "all", f"SIGKILL, back after {away_s:.1f} s"):
            for node in nodes:
                arena.blame_end(node)
                if node.process is not None:
                    node.process.kill()
            for node in nodes:
                node.kill()
            try:
                await asyncio.sleep(away_s)
            finally:
                for node in nodes:
                    node.start()


async def pause(arena: Arena, node: NodeProcess, for_s: float) -> None:
    """SIGSTOP a node for a while: it wakes up and believes that no time has passed."""
    async with node.lock:
        with arena.noted("pause", node.name, f"SIGSTOP for {for_s:.1f} s"):
            node.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(for_s)
            finally:
                node.signal(signal.SIGCONT)


# -- links


async def partition(
    arena: Arena,
    target: str,
    text: str,
    ways: Sequence[Way],
    for_s: float,
    *,
    refused: bool = False,
) -> None:
    """Cut these ways for a while. With `refused` connections are ended and refused in both
    directions, else they go silent."""
    links = arena.links
    assert links is not None
    with arena.noted("partition", target, f"{text} for {for_s:.1f} s") as fault:
        try:
            if refused:
                await links.close(ways)
            else:
                await links.cut(fault.name, ways)
            await asyncio.sleep(for_s)
        finally:
            if refused:
                await links.open(ways)
            else:
                await links.cure(fault.name)


@dataclass(frozen=True, slots=True)
class Weather:
    """One way in which a network is bad: a toxic, its attributes, and the share of connections that
    meet it. With `every_s` the toxic is there for a moment only, again and again."""

    text: str
    kind: str
    attributes: dict[str, int]
    toxicity: float = 1.0
    every_s: float = 0.0


async def bad_network(arena: Arena, ways: Sequence[Way], weather: Weather, for_s: float) -> None:
    """Make links bad for a while."""
    links = arena.links
    assert links is not None
    target = " ".join(sorted({f"{i}-{j}" for i, j in ways}))
    with arena.noted("bad-network", target, f"{weather.text} for {for_s:.1f} s") as fault:
        over = time.monotonic() + for_s
        try:
            while True:
                await links.poison(
                    fault.name, ways, weather.kind, weather.attributes, weather.toxicity
                )
                if not weather.every_s:
                    await asyncio.sleep(for_s)
                    return
                await links.cure(fault.name)
                await asyncio.sleep(weather.every_s)
                if time.monotonic() >= over:
                    return
        finally:
            await links.cure(fault.name)


async def lose_packets(arena: Arena, names: Sequence[str], per_mille: int, for_s: float) -> None:
    """Drop some of the packets that arrive at these nodes or leave them, for a while: those of
    clients as well."""
    networks = arena.networks
    assert networks is not None
    text = f"{per_mille / 10:g} % of all packets lost for {for_s:.1f} s"
    with arena.noted("packet-loss", " ".join(names), text):
        try:
            await networks.lose(names, per_mille)
            await asyncio.sleep(for_s)
        finally:
            await surely(networks.keep(names))
