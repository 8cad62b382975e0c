"""Nodes that come, go, and lose their disks while everything else happens, by what operators have:
`raftmail member` and `node join`.

One thing at a time, and to its end: a node that was drained is removed, one whose data was lost is
whole again, before the next begins. What the cluster refuses it may refuse. Whatever was begun has
to come to its end, at the latest when all faults are over.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

from raftmail.admin.api.codec import decode
from raftmail.admin.api.members import VOTER, MemberDetails
from raftmail_chaos.cluster import NodeProcess
from raftmail_chaos.errors import ChaosError
from raftmail_chaos.faults import Arena, surely
from raftmail_chaos.leash import leashed

NODES_MIN = 3
SPARES = 4
"""Nodes that may come in the course of a run; each name is used once."""

_COMMAND_S = 60.0
_PATIENCE_S = 150.0
_LOOK_S = 1.0
_AGAIN_S = 1.0
_UP_S = 60.0
_LATER = 75


class NotDone(Exception):
    """The cluster refused it, or could not be asked; the text says why."""


async def join(arena: Arena) -> None:
    """Have the next spare node join."""
    cluster = arena.cluster
    if not cluster.spares:
        return
    node = cluster.spares.pop(0)
    with arena.noted("members", node.name, "joins"):
        # A node that the cluster has taken in has to be started.
        await surely(_join(arena, node))
        await _until_up(arena, node)


async def _join(arena: Arena, node: NodeProcess) -> None:
    where = ["--client", node.client, "--lmtp", node.lmtp]
    where += [word for option in node.programs for word in option]
    try:
        made = await _raftmail(arena, "member", "invite", f"{node.name}={node.peer}", *where)
        await _raftmail(arena, "node", "join", "--no-run", made["token"], str(node.folder))
    except NotDone as why:
        arena.tell(f"{node.name} does not join: {why}")
        return
    arena.cluster.admit(node)


async def leave(arena: Arena, node: NodeProcess, *, change_of_mind: bool) -> None:
    """Drain a node and remove it; with `change_of_mind`, take it back instead when it is half
    empty."""
    name = node.name
    text = "is drained" + (" and taken back" if change_of_mind else ", and removed")
    with arena.noted("members", name, text):
        try:
            await _raftmail(arena, "member", "drain", name)
            if change_of_mind:
                await asyncio.sleep(arena.rng.uniform(0.1, 3.0))
                await _raftmail(arena, "member", "undrain", name)
                return
            if not await _until(arena, lambda shown: not shown.replicas, name):
                arena.tell(f"{name} is not empty after {_PATIENCE_S:.0f} s, and stays")
                await _raftmail(arena, "member", "undrain", name)
                return
            async with node.lock:
                await surely(_remove(arena, node))
        except NotDone as why:
            arena.tell(f"{name} is not removed: {why}")


async def _remove(arena: Arena, node: NodeProcess) -> None:
    await _raftmail(arena, "member", "remove", node.name, "--yes")
    await arena.cluster.dismiss(node)


async def replace(arena: Arena, node: NodeProcess) -> None:
    """Let a node lose its data for good, and have it made anew from the others."""
    async with arena.absence:
        await _replace(arena, node)


async def _replace(arena: Arena, node: NodeProcess) -> None:
    if node.is_gone or not arena.cluster.can_lose(node):
        return
    with arena.noted("members", node.name, "loses its data, and gets it from the others"):
        async with node.lock:
            node.kill()
            shutil.rmtree(node.data)
            node.damaged = False
            node.start("--replace")
            # Before it has noted that it is being replaced it must not be started in any other way.
            await _until_up(arena, node)
        # However long: a second one that loses its data before the first is whole would be a
        # majority of three.
        while not await _until(arena, _is_settled, node.name):
            arena.tell(f"{node.name} has lost its data, and is not whole yet")


async def settle(arena: Arena, timeout_s: float) -> str:
    """ "" once nothing is under way in the cluster, or what is when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = await _unsettled(arena)
        if not left or time.monotonic() > deadline:
            return "; ".join(left)
        await asyncio.sleep(_LOOK_S)


async def _unsettled(arena: Arena) -> list[str]:
    left = []
    for name in arena.cluster.nodes:
        try:
            shown = await _shown(arena, name)
        except NotDone as why:
            left.append(f"{name} cannot be looked at: {why}")
            continue
        if not _is_settled(shown):
            moving = [f"shard {r.shard} {r.state}" for r in shown.held if r.state != VOTER]
            left.append(f"{name}: {', '.join(moving) or shown.operations}")
    return left


def _is_settled(shown: MemberDetails) -> bool:
    under_way = [one for one in shown.operations if one.is_running]
    return not under_way and all(row.state == VOTER for row in shown.held)


async def _shown(arena: Arena, name: str) -> MemberDetails:
    """What `member show` tells of a node. Raises `NotDone`."""
    return decode(MemberDetails, await _raftmail(arena, "member", "show", name))


async def _until(arena: Arena, is_so: Callable[[MemberDetails], bool], name: str) -> bool:
    """Wait until what `member show` tells is so; False when it is not in time."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if is_so(await _shown(arena, name)):
                return True
        except NotDone:
            pass
        await asyncio.sleep(_LOOK_S)
    return False


async def _until_up(arena: Arena, node: NodeProcess) -> None:
    """Wait until a node that was started answers; one that ends instead broke a promise."""
    deadline = time.monotonic() + _UP_S
    while node.status is None and time.monotonic() < deadline:
        if node.process is None:
            return  # it did not join, or is being killed by somebody who starts it again
        if node.process is not None and not node.is_running:
            arena.blame("P6", f"node {node.name} does not start: {node.log_tail()[-600:]}")
            return
        await asyncio.sleep(_LOOK_S / 10)


async def _raftmail(arena: Arena, *arguments: str) -> Any:
    """The JSON of a `raftmail` command, asked again while it cannot be had. Raises `NotDone`."""
    deadline = time.monotonic() + _COMMAND_S
    while True:
        code, out, errors = await _run(arena, arguments)
        if code == 0:
            try:
                return json.loads(out)
            except ValueError:
                raise ChaosError(
                    f"raftmail {' '.join(arguments)}: printed no JSON: {out}"
                ) from None
        if "Traceback" in errors:
            arena.blame("P6", f"raftmail {' '.join(arguments[:3])} failed: {errors[-800:]}")
        said = errors.strip().replace("\n", " | ")[-300:]
        if code != _LATER or time.monotonic() > deadline:
            raise NotDone(said)
        await asyncio.sleep(_AGAIN_S)


async def _run(arena: Arena, arguments: tuple[str, ...]) -> tuple[int, str, str]:
    where = ["--cluster", str(arena.cluster.folder / "cluster.json"), "-o", "json"]
    argv = leashed([sys.executable, "-m", "raftmail_cli", *where, *arguments])
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(2 * _COMMAND_S):
            out, errors = await process.communicate()
    except TimeoutError:
        return _LATER, "", f"no end after {2 * _COMMAND_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(), errors.decode("utf-8", "replace")
