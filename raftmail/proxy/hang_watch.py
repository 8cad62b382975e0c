"""Nodes that hang: their connections are open, and nothing comes any more.

A node that is stopped takes connections and bytes for a long time, since its kernel does. So each
node that is in use, and has sent nothing for a while, is asked for a greeting now and then.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from raftmail.proxy.dialler import Dialler
from raftmail.proxy.node_connection import NodeLost
from raftmail.proxy.nodes import NodeMemory

_log = logging.getLogger("raftmail.proxy")

PROBE_S: Final = 2.0


@dataclass(slots=True, repr=False)
class HangWatch:
    """A node hangs when for `hang_s` nothing came from it, and no greeting either."""

    dialler: Dialler
    hang_s: float = 10.0
    probe_s: float = PROBE_S

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self.probe_s)
            used = [one for one in self.dialler.table.memories.values() if one.connections]
            await asyncio.gather(*(self._look(memory) for memory in used))

    async def _look(self, memory: NodeMemory) -> None:
        now = asyncio.get_running_loop().time
        if now() - memory.heard_at < self.probe_s:
            return
        protocol = next(iter(memory.node.addresses))
        try:
            (await self.dialler.dial(memory, protocol, "")).let_go()
        except NodeLost as error:
            if memory.connections and now() - memory.heard_at >= self.hang_s:
                _log.warning("%s: it hangs, and is left by all sessions", error)
                memory.abandon()
