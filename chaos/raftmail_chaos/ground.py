"""What root can give a run of its own: network namespaces, in which packets can be lost, and file
systems that can be full or fail.

This process goes into a network and a mount namespace without names, and stays there until it ends.
Everything that is made inside (other namespaces, their devices, rules, mounts, loop devices) goes
away with the last process in it. So nothing is left on the machine, however a run ends.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from raftmail_chaos.errors import ChaosError

NEWNET = 0x40000000
NEWNS = 0x00020000
OWN_NETWORK = "/proc/thread-self/ns/net"
_COMMAND_S = 30.0
_PROBE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Ground:
    """What there is, and `notes`: what there is not although it was wanted, why, and what is done
    instead."""

    networks: bool = False
    disks: bool = False
    notes: tuple[str, ...] = ()


class NotHere(Exception):
    """This machine or user cannot have it; the text says why."""


def prepare(*, networks: bool, disks: bool) -> Ground:
    """Go into namespaces of one's own, as far as they are wanted and can be had. From the main
    thread, once, before any other thread."""
    notes: list[str] = []
    if networks:
        networks = _have(_enter_network, "no packets are lost, only held up", notes)
    if disks:
        disks = _have(_enter_mounts, "full disks are made believe, and none fails at work", notes)
    return Ground(networks, disks, tuple(notes))


def _have(enter: Callable[[], None], without: str, notes: list[str]) -> bool:
    try:
        enter()
    except NotHere as reason:
        notes.append(f"{reason}: {without}")
        return False
    return True


def program(name: str) -> str:
    """Where a program is; root's PATH may lack the folders of the system's own. Raises
    `NotHere`."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise NotHere(f"{name} is not installed")
    return found


def unshare(kind: int) -> None:
    """Put this thread into a new namespace. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(kind) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter_network(fd: int) -> None:
    """Put this thread into a network namespace. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def run(argv: Sequence[str | Path], *, pass_fds: Sequence[int] = ()) -> str:
    """Run a program of the system to its end: what it printed. Raises `ChaosError`."""
    what = " ".join(map(str, argv[:4]))
    try:
        done = subprocess.run(
            [*map(str, argv)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
            pass_fds=pass_fds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ChaosError(f"{what}: {error}") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().replace("\n", " | ")
        raise ChaosError(f"{what}: ended with status {done.returncode}: {said[-300:]}")
    return done.stdout


def _must_be_root() -> None:
    if os.geteuid() != 0:
        raise NotHere("this is not root")


def _enter_network() -> None:
    _must_be_root()
    nft, _ = program("nft"), program("ip")
    before = os.open(OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        unshare(NEWNET)
        try:
            run([nft, "add", "table", "inet", "probe"])
        except ChaosError as error:
            enter_network(before)
            raise NotHere(f"nftables do not work here ({error})") from None
    except OSError as error:
        raise NotHere(f"network namespaces cannot be made ({error.strerror})") from None
    finally:
        os.close(before)


def _enter_mounts() -> None:
    _must_be_root()
    mkfs, mount, umount = program("mkfs.ext4"), program("mount"), program("umount")
    program("e2fsck")
    try:
        unshare(NEWNS)
    except OSError as error:
        raise NotHere(f"mount namespaces cannot be made ({error.strerror})") from None
    with tempfile.TemporaryDirectory(prefix="raftmail-chaos-probe-") as name:
        image, place = Path(name, "image"), Path(name, "place")
        try:
            run([mount, "--make-rprivate", "/"])
            with open(image, "wb") as file:
                file.truncate(_PROBE_BYTES)
            run([mkfs, "-q", "-F", image])
            place.mkdir()
            run([mount, "-o", "loop", image, place])
            run([umount, place])
        except (OSError, ChaosError) as error:
            raise NotHere(f"file systems cannot be made here ({error})") from None
