"""What happens to a cluster, and how often. Profiles combine: each is a coroutine of its own that
goes on until it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raftmail_chaos import diskfaults, faults, members
from raftmail_chaos.cluster import NodeProcess
from raftmail_chaos.faults import Arena, Weather
from raftmail_chaos.toxiproxy import Way

_MASTER_WAIT_S = 30.0
_LOST_PER_MILLE = 20
_LOSS_SHARE = 0.3
"""Of the times in which the network is bad, where packets can be lost."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often: `kill_every_s` for kills of masters, and `stretch` for how much rarer everything
    is when many profiles combine."""

    kill_every_s: float = 3.0
    stretch: float = 1.0


Act = Callable[[Arena, Pace], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    text: str
    act: Act
    needs_links: bool = False
    likes_networks: bool = False
    """Does more where each node has a network of its own."""
    likes_disks: bool = False
    """Does more where each node has a disk of its own."""
    needs_spares: int = 0
    """Nodes that come in the course of it."""


@contextlib.asynccontextmanager
async def _children() -> AsyncIterator[Callable[[Any], None]]:
    """Faults that go on beside what comes next; all are undone at the end."""
    tasks: set[asyncio.Task[None]] = set()

    def begin(work: Any) -> None:
        for task in [task for task in tasks if task.done()]:
            tasks.discard(task)
            task.result()
        tasks.add(asyncio.create_task(work))

    try:
        yield begin
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _kill_masters(arena: Arena, pace: Pace) -> None:
    rng = arena.rng
    async with _children() as begin:
        while True:
            await asyncio.sleep(pace.kill_every_s * pace.stretch)
            node = await arena.find_master(_MASTER_WAIT_S)
            if node is not None:
                begin(faults.kill(arena, node, "kill-master", rng.uniform(0.1, 2.5)))


async def _kill_all(arena: Arena, pace: Pace) -> None:
    rng = arena.rng
    while True:
        await asyncio.sleep(rng.uniform(6, 12) * pace.stretch)
        await faults.kill_all(arena, rng.uniform(0.0, 2.0))


async def _left_behind(arena: Arena, pace: Pace) -> None:
    """Long enough for the others to forget what the node lacks: it has to be brought back by what
    differs."""
    rng = arena.rng
    while True:
        await asyncio.sleep(rng.uniform(5, 20) * pace.stretch)
        async with arena.absence:
            node = arena.any_free()
            if node is not None:
                await faults.kill(arena, node, "left-behind", rng.uniform(30, 90))


async def _pause(arena: Arena, pace: Pace) -> None:
    rng = arena.rng
    while True:
        await asyncio.sleep(rng.uniform(2, 6) * pace.stretch)
        node = await _master_or_any(arena)
        if node is not None:
            await faults.pause(
                arena, node, rng.choice((0.3, 1.0, 2.0, 4.0)) * rng.uniform(0.7, 1.3)
            )


async def _master_or_any(arena: Arena) -> NodeProcess | None:
    if arena.rng.random() < 0.5:
        return await arena.find_master(1.0) or arena.any_free()
    return arena.any_free()


async def _partition(arena: Arena, pace: Pace) -> None:
    rng = arena.rng
    while True:
        await asyncio.sleep(rng.uniform(2, 6) * pace.stretch)
        names = list(arena.cluster.nodes)
        target, text, ways = cut_of(rng.choice(CUTS), names, arena.cluster.master(), rng)
        refused = text != "one-way" and rng.random() < 0.4
        how = "refused" if refused else "silent"
        for_s = rng.choice((0.5, 2.0, 5.0)) * rng.uniform(0.7, 1.3)
        await faults.partition(arena, target, f"{text}, {how}", ways, for_s, refused=refused)


CUTS = ("one node", "the master", "halves", "one-way", "ring")


def cut_of(
    kind: str, names: Sequence[str], master: str | None, rng: random.Random
) -> tuple[str, str, list[Way]]:
    """Who is cut off, what it is called, and the ways that are cut. `ring`: every node sees its
    neighbours only, so that three nodes become A–B–C without A–C."""
    shuffled = rng.sample(list(names), len(names))
    if kind == "ring":
        n = len(shuffled)
        gap = n == 3  # three in a ring all see each other: open it
        ways = [
            (shuffled[i], shuffled[j])
            for i in range(n)
            for j in range(n)
            if i != j and ((abs(i - j) not in (1, n - 1)) or (gap and abs(i - j) == 2))
        ]
        return "-".join(shuffled), kind, ways
    if kind == "halves":
        left = shuffled[: len(shuffled) // 2]
    elif kind == "the master" and master is not None:
        left = [master]
    else:
        left = shuffled[:1]
    right = [name for name in shuffled if name not in left]
    out = [(i, j) for i in left for j in right]
    back = [(j, i) for i, j in out]
    target = "+".join(sorted(left))
    if kind == "one-way":
        return target, kind, out if rng.random() < 0.5 else back
    return target, kind, out + back


async def _bad_network(arena: Arena, pace: Pace) -> None:
    rng = arena.rng
    while True:
        await asyncio.sleep(rng.uniform(1, 4) * pace.stretch)
        names = list(arena.cluster.nodes)
        if arena.networks is not None and rng.random() < _LOSS_SHARE:
            some = rng.sample(names, rng.randint(1, len(names)))
            await faults.lose_packets(arena, some, _LOST_PER_MILLE, rng.uniform(3.0, 10.0))
            continue
        all_ways = [(i, j) for i in names for j in names if i != j]
        ways = (
            all_ways if rng.random() < 0.3 else rng.sample(all_ways, rng.randint(1, len(all_ways)))
        )
        await faults.bad_network(arena, ways, weather_of(rng), rng.uniform(1.5, 6.0))


def weather_of(rng: random.Random) -> Weather:
    """One of the ways in which networks are bad."""
    latency = rng.choice((2, 20, 100, 400))
    rate = rng.choice((30, 200, 2000))
    stall = rng.randint(50, 3000)
    reset_ms = rng.randint(300, 2000)
    share = rng.choice((0.02, 0.3))
    kinds = (
        Weather(
            f"latency {latency} ms ± {latency // 2}",
            "latency",
            {"latency": latency, "jitter": latency // 2},
        ),
        Weather(f"bandwidth {rate} KB/s", "bandwidth", {"rate": rate}),
        Weather(
            "slicer",
            "slicer",
            {"average_size": 200, "size_variation": 150, "delay": 500},
        ),
        # With a timeout the toxic lets nothing through before it resets, and takes as long to
        # remove.
        Weather(
            f"resets every {reset_ms} ms", "reset_peer", {"timeout": 0}, every_s=reset_ms / 1000
        ),
        Weather(
            f"stalls of {stall} ms on {share:.0%} of connections",
            "latency",
            {"latency": stall, "jitter": 0},
            share,
        ),
    )
    return kinds[rng.randrange(len(kinds))]


async def _disk(arena: Arena, pace: Pace) -> None:
    """A body is damaged on one node only: of three copies two must be left."""
    rng = arena.rng
    rotten = rng.choice(list(arena.cluster.nodes.values()))
    while True:
        await asyncio.sleep(rng.uniform(2, 5) * pace.stretch)
        node = arena.any_free()
        if node is None:
            continue
        if rotten.is_gone:
            rotten = node
        kind = rng.choice(_disk_faults(node))
        if kind == "full":
            await diskfaults.full_disk(arena, node, rng.uniform(3.0, 6.0))
        elif kind == "read-only":
            await diskfaults.read_only_disk(arena, node)
        elif kind == "failing":
            await diskfaults.failing_disk(arena, node, rng.uniform(1.0, 5.0))
        elif kind == "journal":
            await diskfaults.rot_journal(arena, node)
        elif kind == "index":
            await diskfaults.rot_index(arena, node)
        elif not rotten.lock.locked():
            await diskfaults.rot_body(arena, rotten)


async def _members(arena: Arena, pace: Pace) -> None:
    rng = arena.rng
    while True:
        await asyncio.sleep(rng.uniform(3, 10) * pace.stretch)
        cluster = arena.cluster
        kinds = ["replace"]
        if cluster.spares:
            kinds += ["join", "join"]
        if len(cluster.nodes) > members.NODES_MIN:
            kinds += ["leave", "leave", "stay"]
        kind = rng.choice(kinds)
        node = rng.choice(list(cluster.nodes.values()))
        if kind == "join":
            await members.join(arena)
        elif kind == "replace":
            await members.replace(arena, node)
        else:
            await members.leave(arena, node, change_of_mind=kind == "stay")


def _disk_faults(node: NodeProcess) -> list[str]:
    kinds = ["full", "journal", "body", "index"]
    if node.disk is not None:
        kinds += ["read-only", "failing"]
    elif os.geteuid() != 0:  # modes of files stop everybody but root
        kinds.append("read-only")
    return kinds


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("kill-masters", "SIGKILL whoever leads the mail", _kill_masters),
        Profile("kill-all", "SIGKILL all nodes at once", _kill_all),
        Profile(
            "left-behind", "SIGKILL a node, and start it when the log has moved on", _left_behind
        ),
        Profile("pause", "SIGSTOP and SIGCONT", _pause),
        Profile("partition", "links that let nothing through", _partition, needs_links=True),
        Profile(
            "bad-network",
            "slow, thin, chopped, reset links, and lost packets",
            _bad_network,
            needs_links=True,
            likes_networks=True,
        ),
        Profile(
            "disk",
            "full, read-only and failing disks, and bits that flip at rest",
            _disk,
            likes_disks=True,
        ),
        Profile(
            "members",
            "nodes that join, leave, and lose their disks for good",
            _members,
            needs_spares=members.SPARES,
        ),
    )
}
EVERYTHING = "everything"
NAMES = (*PROFILES, EVERYTHING)


def parse(text: str) -> tuple[Profile, ...]:
    """The profiles of a list with commas. Raises ValueError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"no profile is named; there are {', '.join(NAMES)}")
    for name in names:
        if name not in NAMES:
            raise ValueError(f"there is no profile {name!r}; there are {', '.join(NAMES)}")
    if EVERYTHING in names:
        return tuple(PROFILES.values())
    return tuple(PROFILES[name] for name in dict.fromkeys(names))


def pace_of(chosen: Sequence[Profile], kill_every_s: float) -> Pace:
    """Rarer each, the more there are."""
    return Pace(kill_every_s, 1.0 if len(chosen) < 3 else len(chosen) / 2)
