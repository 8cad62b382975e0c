"""Faults: each a coroutine that does harm, waits, and undoes it, also when it is cancelled meanwhile.

A fault that does something to a process holds that node's lock, so that faults of several profiles do not undo each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raftmail_chaos.cluster import MAIL_SHARD, Cluster, Node
from raftmail_chaos.leash import leashed
from raftmail_chaos.toxiproxy import Links, Way

_POLL_S = 0.1
_REFUSES_S = 30.0
_SETTLE_S = 5.0
_FSCK_S = 120.0
_MAIL_SECTION = "\n[mail]\n"
_HUGE_RESERVE_BYTES = 1 << 50


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


@dataclass(slots=True)
class Arena:
    """What faults act on, and where they are noted. `problems` takes what breaks a promise and no history can show."""

    cluster: Cluster
    links: Links | None
    rng: random.Random
    faults: list[Fault] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    news: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(1000))

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

    @property
    def in_force(self) -> list[Fault]:
        return [fault for fault in self.faults if fault.ended is None]

    async def find_master(self, timeout_s: float) -> Node | None:
        """The node that leads the mail shard now and whose process nobody hurts; None when there is none in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            name = self.cluster.master(MAIL_SHARD)
            if name is not None and not self.cluster.nodes[name].lock.locked():
                return self.cluster.nodes[name]
            await asyncio.sleep(_POLL_S)
        return None

    def any_free(self) -> Node | None:
        free = [node for node in self.cluster.nodes.values() if not node.lock.locked()]
        return self.rng.choice(free) if free else None


# -- processes


async def kill(arena: Arena, node: Node, kind: str, away_s: float) -> None:
    """SIGKILL a node, and start it again after a while."""
    async with node.lock:
        with arena.noted(kind, node.name, f"SIGKILL, back after {away_s:.1f} s"):
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
                if node.process is not None:
                    node.process.kill()
            for node in nodes:
                node.kill()
            try:
                await asyncio.sleep(away_s)
            finally:
                for node in nodes:
                    node.start()


async def pause(arena: Arena, node: Node, for_s: float) -> None:
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
    """Cut these ways for a while. With `refused` connections are ended and refused in both directions, else they go silent."""
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
    """One way in which a network is bad: a toxic, its attributes, and the share of connections that meet it. With `every_s` the toxic
    is there for a moment only, again and again."""

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


# -- disks


async def full_disk(arena: Arena, node: Node, for_s: float) -> None:
    """Start a node anew with a reserve that its disk does not have: it must refuse writes, and take them again later."""
    async with node.lock:
        path = node.folder / "node.toml"
        before = path.read_text(encoding="utf-8")
        with arena.noted("disk", node.name, f"full for {for_s:.1f} s"):
            try:
                await _stop(arena, node)
                changed = f"{before}{_MAIL_SECTION}disk_reserve_bytes = {_HUGE_RESERVE_BYTES}\n"
                path.write_text(changed, encoding="utf-8")
                node.start()
                await asyncio.sleep(for_s)
                if not node.is_running:
                    arena.blame(
                        "P6", f"node {node.name} ended on a full disk: {node.log_tail()[-600:]}"
                    )
            finally:
                node.kill()
                path.write_text(before, encoding="utf-8")
                node.start()


async def _stop(arena: Arena, node: Node) -> None:
    wrong = await node.stop()
    if wrong:
        arena.blame("P6", wrong)


async def rot_journal(arena: Arena, node: Node) -> None:
    """Flip a bit in the older part of a stopped node's journal: the node must refuse to start and say why. Then undo it."""
    async with node.lock:
        node.kill()
        try:
            files = sorted((node.data / "shards" / str(MAIL_SHARD) / "journal").glob("*"))
            flip = _flip(arena.rng, files[:1], older=True)
            if flip is None:
                return
            with arena.noted(
                "disk", node.name, f"a bit flipped in {flip.path.name}, offset {flip.offset}"
            ):
                try:
                    offset = node.log_size()
                    node.start()
                    await _must_refuse(arena, node, flip, offset)
                finally:
                    node.kill()
                    flip.undo()
        finally:
            node.start()


async def _must_refuse(arena: Arena, node: Node, flip: Flip, log_offset: int) -> None:
    deadline = time.monotonic() + _REFUSES_S
    while node.is_running and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
        if node.status is not None:
            break  # it serves
    said = node.log_since(log_offset)
    where = f"{flip.path}, offset {flip.offset}"
    if node.process is None or node.is_running:
        arena.blame("P8", f"node {node.name} runs on a damaged journal ({where})")
    elif node.process.returncode != 1 or "Traceback" in said or flip.path.name not in said:
        arena.blame(
            "P8",
            f"node {node.name} does not say what is wrong with its journal ({where}); it ended with "
            f"status {node.process.returncode}: {said[-600:]}",
        )


async def rot_body(arena: Arena, node: Node) -> None:
    """Flip a bit in a body of a stopped node, and leave it: the body must be refused, and fetched again from another node. A node that
    refuses to start has to say why, and gets its bit back."""
    async with node.lock:
        node.kill()
        try:
            folder = node.data / "shards" / str(MAIL_SHARD) / "blobs"
            flip = _flip(arena.rng, sorted(folder.glob("*")), older=False)
            if flip is None:
                return
            with arena.noted(
                "disk", node.name, f"a bit flipped in {flip.path.name}, offset {flip.offset}"
            ):
                node.damaged = True
                offset = node.log_size()
                node.start()
                try:
                    await asyncio.sleep(_SETTLE_S)
                    if not node.is_running:
                        said = node.log_since(offset)
                        if "Traceback" in said or flip.path.name not in said:
                            arena.blame("P8", f"node {node.name} does not say what is wrong with "
                                        f"{flip.path}: {said[-600:]}")  # fmt: skip
                finally:
                    if not node.is_running:
                        flip.undo()
                        node.damaged = False
        finally:
            if not node.is_running:
                node.start()


async def rot_index(arena: Arena, node: Node) -> None:
    """Flip a bit in a stopped node's index, have `raftmail fsck` look at it, and put the file back: fsck must come to a verdict.

    The node is not started on it: LMDB's own pages carry no checksums, and a flip in them is beyond what a reader can notice."""
    async with node.lock:
        await _stop(arena, node)
        try:
            path = node.data / "shards" / str(MAIL_SHARD) / "index" / "data.mdb"
            copy = node.folder / "index.copy"
            flip = _flip(arena.rng, [path], older=False)
            if flip is None:
                return
            flip.undo()
            shutil.copyfile(path, copy)
            with arena.noted(
                "disk", node.name, f"a bit flipped in the index, offset {flip.offset}"
            ):
                try:
                    flip.undo()
                    code, said = await fsck(node)
                    if code not in (0, 1) or "Traceback" in said:
                        arena.blame("P8", f"fsck of {path} with a bit flipped at {flip.offset} ended with "
                                    f"status {code}: {said[-600:]}")  # fmt: skip
                finally:
                    os.replace(copy, path)
        finally:
            node.start()


async def fsck(node: Node) -> tuple[int, str]:
    """`raftmail fsck` of a stopped node: its exit status, and what it said."""
    argv = leashed([sys.executable, "-m", "raftmail_cli", "fsck", str(node.folder), "-o", "json"])
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_FSCK_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return -1, f"no answer within {_FSCK_S:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode("utf-8", "replace").strip()


def fsck_problems(said: str) -> list[str]:
    """What `raftmail fsck -o json` found, as text; all that was said when that is no JSON."""
    try:
        return [
            f"shard {problem['shard']}, {problem['part']}: {problem['text']}"
            for shard in json.loads(said)
            for problem in shard["problems"]
        ]
    except (ValueError, KeyError, TypeError):
        return [said[-600:]]


@dataclass(frozen=True, slots=True)
class Flip:
    """One bit of a file that was turned over; turning it once more undoes it."""

    path: Path
    offset: int
    mask: int

    def undo(self) -> None:
        """Also what does it. Harmless when the file is gone."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.path, os.O_RDWR)
            try:
                byte = os.pread(fd, 1, self.offset)
                if byte:
                    os.pwrite(fd, bytes([byte[0] ^ self.mask]), self.offset)
                    os.fsync(fd)
            finally:
                os.close(fd)


def _flip(rng: random.Random, files: Sequence[Path], *, older: bool) -> Flip | None:
    """Turn over a bit where something is written; None when there is nothing. `older` leaves the last two thirds alone."""
    for path in rng.sample(files, len(files)):
        data = path.read_bytes()
        written = len(data.rstrip(b"\0"))
        if written < 4096:
            continue
        last = written // 3 if older else written
        for _ in range(100):
            offset = rng.randrange(64, last)
            if data[offset]:
                flip = Flip(path, offset, 1 << rng.randrange(8))
                flip.undo()
                return flip
    return None
