"""What root gives a run of its own: networks that lose packets, disks that are full or fail, and
nothing of it left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftmail_chaos import ground

_WAIT_S = 30.0
_NOT_HERE = 77

# Namespaces are entered for good, so each test is a process of its own.
_BEGIN = f"""
import asyncio, errno, os, socket, subprocess, sys
from pathlib import Path
from raftmail_chaos import ground
from raftmail_chaos.disks import NodeDisk, bring_home
from raftmail_chaos.leash import leashed
from raftmail_chaos.networks import Networks

home = Path(sys.argv[1])
on = ground.prepare(networks=sys.argv[2] == "networks", disks=sys.argv[2] == "disks")
if on.notes:
    print(*on.notes)
    sys.exit({_NOT_HERE})

def fails_with(number, act):
    try:
        act()
    except OSError as error:
        assert error.errno == number, error
    else:
        raise AssertionError("did not fail")

def disk():
    made = NodeDisk(home)
    made.make(64 << 20)
    return made
"""

_SERVER = """
import socket
with socket.create_server(("", 7000)) as server:
    print("up", flush=True)
    while True:
        server.accept()[0].sendall(b"hello")
"""


def _inside(tmp_path: Path, what: str, script: str) -> str:
    """Run a script with networks or disks: what it printed. Skips where they cannot be had."""
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + script, str(tmp_path), what],
        capture_output=True,
        text=True,
        timeout=_WAIT_S,
    )
    if done.returncode == _NOT_HERE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_packets_of_one_node_are_lost_and_counted_until_they_are_kept(tmp_path: Path) -> None:
    said = _inside(
        tmp_path,
        "networks",
        f"""
networks = Networks.make()
hosts = {{name: networks.add(name) for name in "ab"}}
servers = []
for name in "ab":
    argv = leashed([sys.executable, "-c", {_SERVER!r}], networks.path(name))
    servers.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
    servers[-1].stdout.readline()

def hears(name):
    try:
        with socket.create_connection((hosts[name], 7000), timeout=0.3) as s:
            return s.recv(5) == b"hello"
    except TimeoutError:
        return False

async def run():
    assert hears("a") and hears("b")
    await networks.lose(["a"], 999)
    assert not hears("a") and hears("b")
    await networks.keep(["a"])
    assert hears("a")
    print(networks.lost)

asyncio.run(run())
for server in servers:
    server.kill()
    server.wait()
""",
    )
    assert int(said) > 0


def test_a_full_disk_takes_nothing_until_it_is_cleared(tmp_path: Path) -> None:
    _inside(
        tmp_path,
        "disks",
        """
made = disk()
made.fill()
assert made.free_bytes() < 4096
fails_with(errno.ENOSPC, lambda: (made.place / "mail").write_bytes(bytes(8192)))
made.clear()
(made.place / "mail").write_bytes(bytes(8192))
""",
    )


def test_a_protected_disk_is_read_only_until_it_is_not(tmp_path: Path) -> None:
    _inside(
        tmp_path,
        "disks",
        """
made = disk()
made.protect()
fails_with(errno.EROFS, lambda: (made.place / "mail").write_bytes(b"x"))
made.unprotect()
(made.place / "mail").write_bytes(b"x")
""",
    )


def test_a_failing_disk_keeps_what_was_synced_and_is_repaired(tmp_path: Path) -> None:
    _inside(
        tmp_path,
        "disks",
        """
made = disk()
for name in ("synced", "not-synced"):
    fd = os.open(made.place / name, os.O_RDWR | os.O_CREAT)
    os.write(fd, b"mail")
    if name == "synced":
        os.fsync(fd)
        os.close(fd)
made.fail()
fails_with(errno.EROFS, lambda: os.write(fd, b"more"))
os.close(fd)
asyncio.run(made.repair())
assert (made.place / "synced").read_bytes() == b"mail"
assert not (made.place / "not-synced").exists()
(made.place / "mail").write_bytes(b"x")
""",
    )


@pytest.mark.parametrize("keep", [True, False])
def test_disks_are_seen_by_nobody_else_and_brought_home_when_wanted(
    tmp_path: Path, *, keep: bool
) -> None:
    _inside(
        tmp_path,
        "disks",
        f"""
made = disk()
(made.place / "mail").write_bytes(b"x")
assert not os.path.exists("/proc/" + str(os.getppid()) + "/root" + str(made.place / "mail"))
bring_home([home], keep={keep})
""",
    )
    assert not (tmp_path / "disk.img").exists()
    assert (tmp_path / "disk" / "mail").exists() is keep


def test_a_killed_run_leaves_its_disks_as_files_and_nothing_mounted(tmp_path: Path) -> None:
    _inside(
        tmp_path,
        "disks",
        """
if os.fork() == 0:
    made = disk()
    (made.place / "mail").write_bytes(b"x")
    os.kill(os.getpid(), 9)
os.wait()
""",
    )
    assert (tmp_path / "disk.img").exists()
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    backing = [path.read_text() for path in Path("/sys/block").glob("loop*/loop/backing_file")]
    assert not any(str(tmp_path) in text for text in backing)


def test_without_what_it_needs_the_ground_says_so_and_gives_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = ground.prepare(networks=True, disks=True)
    assert (found.networks, found.disks) == (False, False)
    assert len(found.notes) == 2
    assert all("this is not root" in note for note in found.notes)


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ground.NotHere, match="nft-of-nowhere is not installed"):
        ground.program("nft-of-nowhere")


def test_a_node_that_has_joined_takes_what_it_has_to_its_new_disk(tmp_path: Path) -> None:
    _inside(
        tmp_path,
        "disks",
        """
from raftmail_chaos.cluster import NodeProcess
node = NodeProcess("n4", home, "", "", "", "")
(home / "node.toml").write_text('data = "data"')
(home / "data").mkdir()
(home / "data" / "node.json").write_text("joined")
node.give_disk(64 << 20)
assert (home / "node.toml").read_text() == 'data = "disk/data"'
assert (home / "disk" / "data" / "node.json").read_text() == "joined"
assert node.disk is not None and node.disk.free_bytes() < 64 << 20
node.disk.fail()
asyncio.run(node.disk.repair())
assert (home / "disk" / "data" / "node.json").read_text() == "joined"
""",
    )
