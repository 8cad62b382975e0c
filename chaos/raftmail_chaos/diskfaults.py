"""Faults of disks: full, read-only, failing at work, and bits that flip at rest. Each is undone, as
those of `faults` are.

With a disk of its own (`disks`) a node meets what happens on real ones. Without, a reserve that the
disk does not have and modes of files stand in for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raftmail.consensus.records import HEADER_BYTES
from raftmail_chaos.cluster import MAIL_SHARD, NodeProcess
from raftmail_chaos.faults import Arena, surely
from raftmail_chaos.leash import leashed
from raftmail_chaos.rot import surely_durable

_POLL_S = 0.1
_REFUSES_S = 60.0
_SETTLE_S = 5.0
_FSCK_S = 120.0
_MAIL_SECTION = "\n[mail]\n"
_HUGE_RESERVE_BYTES = 1 << 50
_REFUSED, _STOPPED = 1, 70
"""How a node ends that cannot start, and one that cannot go on."""


async def full_disk(arena: Arena, node: NodeProcess, for_s: float) -> None:
    """Let a node's disk be full: it must refuse writes, and take them again later."""
    if node.disk is None:
        await _full_by_reserve(arena, node, for_s)
        return
    disk = node.disk
    restarts = arena.rng.random() < 0.5
    async with node.lock:
        text = "full to the last block" + (", and started anew" if restarts else "")
        with arena.noted("disk", node.name, f"{text} for {for_s:.1f} s"):
            offset = node.log_size()
            try:
                disk.fill()
                if restarts:
                    await asyncio.sleep(for_s / 2)
                    node.kill()
                    disk.fill()
                    node.start()
                await asyncio.sleep(for_s)
                if not restarts and not node.is_running:
                    text = f"node {node.name} ended on a full disk: {node.log_tail()[-600:]}"
                    arena.blame("P6", text)
                if restarts and not node.is_running:
                    _must_have_said(arena, node, offset, "No space left")
            finally:
                disk.clear()
                if not node.is_running:
                    node.kill()
                    node.start()


async def _full_by_reserve(arena: Arena, node: NodeProcess, for_s: float) -> None:
    """Start a node anew with a reserve that its disk does not have."""
    async with node.lock:
        path = node.folder / "node.toml"
        before = path.read_text(encoding="utf-8")
        with arena.noted("disk", node.name, f"full (its reserve) for {for_s:.1f} s"):
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


async def read_only_disk(arena: Arena, node: NodeProcess) -> None:
    """Start a node on a disk that cannot be written to: it must refuse, and say why. Then undo
    it."""
    async with node.lock:
        await _stop(arena, node)
        try:
            with arena.noted("disk", node.name, "read-only at the start"), _read_only(node):
                offset = node.log_size()
                node.start()
                if await _ended(node):
                    _must_have_said(arena, node, offset, "Read-only" if node.disk else "denied")
                else:
                    arena.blame("P8", f"node {node.name} runs on a read-only disk")
                node.kill()
        finally:
            node.start()


@contextlib.contextmanager
def _read_only(node: NodeProcess) -> Iterator[None]:
    if node.disk is not None:
        node.disk.protect()
        try:
            yield
        finally:
            node.kill()
            node.disk.unprotect()
        return
    modes = {path: path.stat().st_mode for path in (node.data, *node.data.rglob("*"))}
    try:
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        yield
    finally:
        node.kill()
        for path, mode in modes.items():
            path.chmod(mode)


async def failing_disk(arena: Arena, node: NodeProcess, for_s: float) -> None:
    """Let the file system turn itself read-only under a node at work. What was not synced is lost,
    as in a power cut. The node may end, saying why, or wait; it must not acknowledge. Then the disk
    is repaired, and the node started anew."""
    disk = node.disk
    assert disk is not None
    async with node.lock:
        text = f"the file system fails and turns read-only, repaired after {for_s:.1f} s"
        with arena.noted("disk", node.name, text):
            offset = node.log_size()
            try:
                disk.fail()
                await asyncio.sleep(for_s)
                if not node.is_running:
                    _must_have_said(arena, node, offset, "")
            finally:
                node.kill()
                await surely(disk.repair())
                node.start()


async def _ended(node: NodeProcess) -> bool:
    """Whether a node that was started ends by itself, rather than serve."""
    deadline = time.monotonic() + _REFUSES_S
    while node.is_running and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
        if node.status is not None:
            break  # it serves
    return node.process is not None and not node.is_running


def _must_have_said(arena: Arena, node: NodeProcess, offset: int, words: str) -> None:
    """Of a node that ended: that it knew the error, and told it."""
    said = node.log_since(offset)
    assert node.process is not None
    code = node.process.returncode
    if code not in (_REFUSED, _STOPPED) or "Traceback" in said or words not in said:
        text = (
            f"node {node.name} does not say what is wrong with its disk; it ended with status "
            f"{code}: {said[-600:]}"
        )
        arena.blame("P6", text)


async def _stop(arena: Arena, node: NodeProcess) -> None:
    wrong = await node.stop()
    if wrong:
        arena.blame("P6", wrong)


async def rot_journal(arena: Arena, node: NodeProcess) -> None:
    """Flip a bit of a stopped node's journal, where the journal itself proves that it was on the
    disk: the node must set that replica aside and say why. Then undo it."""
    async with node.lock:
        node.kill()
        try:
            flip = _flip_in_journal(arena.rng, node.data / "shards" / str(MAIL_SHARD) / "journal")
            if flip is None:
                return
            with arena.noted(
                "disk", node.name, f"a bit flipped in {flip.path.name}, offset {flip.offset}"
            ):
                try:
                    offset = node.log_size()
                    node.start()
                    await _must_set_aside(arena, node, flip, offset)
                finally:
                    node.kill()
                    flip.undo()
        finally:
            node.start()


async def _must_set_aside(arena: Arena, node: NodeProcess, flip: Flip, log_offset: int) -> None:
    """The node starts, says which file is damaged, and does not open the replica; its other
    replicas serve."""
    deadline = time.monotonic() + _REFUSES_S
    while node.is_running and time.monotonic() < deadline:
        if _names_damage(node.log_since(log_offset), flip):
            return
        await asyncio.sleep(_POLL_S)
    said = node.log_since(log_offset)
    if "Traceback" in said or not _names_damage(said, flip):
        arena.blame(
            "P8",
            f"node {node.name} does not set aside the replica of a damaged journal "
            f"({flip.path}, offset {flip.offset}): {said[-600:]}",
        )


def _names_damage(said: str, flip: Flip) -> bool:
    return any("set aside" in line and flip.path.name in line for line in said.splitlines())


async def rot_body(arena: Arena, node: NodeProcess) -> None:
    """Flip a bit in a body of a stopped node, and leave it: the body must be refused, and fetched
    again from another node. A node that refuses to start has to say why, and gets its bit back.
    Nothing is done while the body might be the only one."""
    async with node.lock:
        if not arena.cluster.can_lose(node):
            return
        node.kill()
        try:
            folder = node.data / "shards" / str(MAIL_SHARD) / "blobs"
            flip = _flip(arena.rng, sorted(folder.glob("*")))
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


async def rot_index(arena: Arena, node: NodeProcess) -> None:
    """Flip a bit in a stopped node's index, have `raftmail fsck` look at it, and put the file back:
    fsck must come to a verdict.

    The node is not started on it: LMDB's own pages carry no checksums, and a flip in them is beyond
    what a reader can notice."""
    async with node.lock:
        await _stop(arena, node)
        try:
            path = node.data / "shards" / str(MAIL_SHARD) / "index" / "data.mdb"
            copy = node.data.parent / "index.copy"  # of the same file system
            flip = _flip(arena.rng, [path])
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
                        arena.blame("P8", f"fsck of {path} with a bit flipped at {flip.offset} "
                                          f"ended with "
                                    f"status {code}: {said[-600:]}")  # fmt: skip
                finally:
                    os.replace(copy, path)
        finally:
            node.start()


async def fsck(node: NodeProcess) -> tuple[int, str]:
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


def _flip_in_journal(rng: random.Random, folder: Path) -> Flip | None:
    """As `_flip`, in a part of a journal that a start has to read."""
    files = {int(path.stem, 16): path for path in folder.glob("*.log")}
    ends = surely_durable({n: path.read_bytes() for n, path in files.items()})
    return _flip_within(rng, [(files[n], HEADER_BYTES, end) for n, end in ends.items()])


def _flip(rng: random.Random, files: Sequence[Path]) -> Flip | None:
    """Turn over a bit where something is written; None when there is nothing."""
    sizes = [(path, 64, len(path.read_bytes().rstrip(b"\0"))) for path in files if path.exists()]
    return _flip_within(rng, sizes)


def _flip_within(rng: random.Random, files: Sequence[tuple[Path, int, int]]) -> Flip | None:
    """The same in one of several files, each between two offsets."""
    for path, start, end in rng.sample(files, len(files)):
        if end < 4096:
            continue
        data = path.read_bytes()
        for _ in range(100):
            offset = rng.randrange(start, end)
            if data[offset]:
                flip = Flip(path, offset, 1 << rng.randrange(8))
                flip.undo()
                return flip
    return None
