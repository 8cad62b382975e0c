"""Each node in a network namespace of its own, all joined by a bridge in the run's (`ground`):
there packets can really be lost.

Toxiproxy, the load and the run itself are in the bridge's namespace. Whatever they say to a node,
and nodes to each other, goes through the node's one device, `eth0`. Namespaces have no names: they
are there as long as this process holds them open.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from raftmail_chaos import ground
from raftmail_chaos.errors import ChaosError
from raftmail_chaos.leash import leashed

HUB = "10.99.0.1"
_NODES_FROM = 10
_BITS = 24
_TABLE = ("inet", "chaos")
_CHAINS = {"arrive": ("input", "iifname"), "leave": ("output", "oifname")}
_COUNTED = re.compile(r"counter packets ([0-9]+)")
_COMMAND_S = 30.0


@dataclass(slots=True)
class Networks:
    """The bridge, and a namespace for each node that was added. `lost` counts the packets that were
    dropped."""

    lost: int = 0
    _fds: dict[str, int] = field(default_factory=dict)

    @classmethod
    def make(cls) -> Networks:
        """In the namespace that `ground.prepare` went into. Raises `ChaosError`."""
        ip = ground.program("ip")
        ground.run([ip, "link", "set", "lo", "up"])
        ground.run([ip, "link", "add", "br0", "type", "bridge"])
        ground.run([ip, "address", "add", f"{HUB}/{_BITS}", "dev", "br0"])
        ground.run([ip, "link", "set", "br0", "up"])
        return cls()

    def add(self, name: str) -> str:
        """Make a node's namespace: its address. From the main thread. Raises `ChaosError`."""
        ip, nft = ground.program("ip"), ground.program("nft")
        address = f"{HUB.rpartition('.')[0]}.{_NODES_FROM + len(self._fds)}"
        hub = os.open(ground.OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
        try:
            ground.unshare(ground.NEWNET)
            fd = os.open(ground.OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
            ground.enter_network(hub)
        except OSError as error:
            raise ChaosError(f"a network namespace cannot be made: {error.strerror}") from None
        finally:
            os.close(hub)
        self._fds[name] = fd
        outside = f"to-{name}"
        inside = ["type", "veth", "peer", "name", "eth0", "netns", f"/proc/self/fd/{fd}"]
        ground.run([ip, "link", "add", outside, *inside], pass_fds=[fd])
        ground.run([ip, "link", "set", outside, "master", "br0", "up"])
        for command in (
            [ip, "address", "add", f"{address}/{_BITS}", "dev", "eth0"],
            [ip, "link", "set", "eth0", "up"],
            [ip, "link", "set", "lo", "up"],
            [nft, "add", "table", *_TABLE],
            *[
                [nft, "add", "chain", *_TABLE, chain, f"{{ type filter hook {hook} priority 0; }}"]
                for chain, (hook, _) in _CHAINS.items()
            ],
        ):
            ground.run(leashed(command, self.path(name)))
        return address

    def path(self, name: str) -> str:
        """The node's namespace, for `leashed`."""
        return f"/proc/{os.getpid()}/fd/{self._fds[name]}"

    async def lose(self, names: Sequence[str], per_mille: int) -> None:
        """Drop this share (below 1000) of the packets that arrive at these nodes, and of those that
        leave. Raises `ChaosError`."""
        for name in names:
            for chain, (_, device) in _CHAINS.items():
                dropped = f"{device} eth0 numgen random mod 1000 < {per_mille} counter drop"
                await self._nft(name, "add", "rule", *_TABLE, chain, *dropped.split())

    async def keep(self, names: Sequence[str]) -> None:
        """Lose nothing any more. Raises `ChaosError`."""
        for name in names:
            listed = await self._nft(name, "list", "table", *_TABLE)
            self.lost += sum(map(int, _COUNTED.findall(listed)))
            for chain in _CHAINS:
                await self._nft(name, "flush", "chain", *_TABLE, chain)

    async def _nft(self, name: str, *arguments: str) -> str:
        argv = leashed([ground.program("nft"), *arguments], self.path(name))
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_COMMAND_S):
                out, _ = await process.communicate()
        except TimeoutError:
            raise ChaosError(f"nft did not end within {_COMMAND_S:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise ChaosError(f"nft {' '.join(arguments)}: {out.decode('utf-8', 'replace').strip()}")
        return out.decode()

    def close(self) -> None:
        """Let go of the namespaces; they end with the last process in them."""
        while self._fds:
            os.close(self._fds.popitem()[1])
