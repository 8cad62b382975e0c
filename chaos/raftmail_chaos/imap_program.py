"""A mail program of the load: it reads and writes one user's mail over IMAP and TLS.

When its node dies it goes to another, with QRESYNC. What it does and believes is the reader's.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from raftmail.mail.endpoint import split_address
from raftmail_chaos.imap_answers import BadImapAnswer
from raftmail_chaos.imap_mirror import MirrorBroken
from raftmail_chaos.imap_reader import ImapReader

CONNECT_S = 5.0
PATIENCE_S = 75.0
"""How long one answer is waited for; a node answers NO within 60 s, whatever happens."""
THINK_S = (0.02, 0.5)
IDLE_S = (0.5, 5.0)
_READ_BYTES = 64 << 10


class ImapProgram:
    """`addresses` are those of the nodes now. `broken` is told what breaks a promise."""

    def __init__(
        self,
        reader: ImapReader,
        rng: random.Random,
        addresses: Callable[[], Sequence[str]],
        trust: ssl.SSLContext | None,
        broken: Callable[[str], None],
    ) -> None:
        self.reader = reader
        self._rng = rng
        self._addresses = addresses
        self._trust = trust
        self._broken = broken
        self._address = ""
        self._stopping = False

    def stop(self) -> None:
        """Have it end when what is under way is answered."""
        self._stopping = True

    async def run(self) -> None:
        """Until it is stopped, or a promise is broken."""
        try:
            while not self._stopping:
                with suppress(OSError, EOFError, TimeoutError):
                    await self._connection()
                self.reader.lost()
                await asyncio.sleep(self._rng.uniform(*THINK_S))
        except (MirrorBroken, BadImapAnswer) as error:
            self._broken(f"{self.reader.name} of {self.reader.user}, at {self._address}: {error}")
        finally:
            self.reader.lost()

    async def _connection(self) -> None:
        """Raises OSError, EOFError, TimeoutError, `MirrorBroken`, `BadImapAnswer`."""
        others = [one for one in self._addresses() if one != self._address]
        self._address = self._rng.choice(others or [self._address])
        host, port = split_address(self._address)
        async with asyncio.timeout(CONNECT_S):
            incoming, outgoing = await asyncio.open_connection(host, port, ssl=self._trust)
        try:
            self.reader.connected()
            while not (self._stopping and self.reader.is_ready):
                await self._turn(incoming, outgoing)
        finally:
            outgoing.close()

    async def _turn(self, incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        reader = self.reader
        if reader.is_ready:
            await asyncio.sleep(self._rng.uniform(*THINK_S))
            outgoing.write(reader.next_command(time.monotonic()))
        patience_s = self._rng.uniform(*IDLE_S) if reader.idles else PATIENCE_S
        try:
            async with asyncio.timeout(patience_s):
                data = await incoming.read(_READ_BYTES)
        except TimeoutError:
            if not reader.idles:
                raise
            outgoing.write(reader.end_idle())
            return
        if not data:
            raise EOFError
        reader.hear(data, time.monotonic())


def trusting(ca: str | None) -> ssl.SSLContext | None:
    """TLS to the nodes of a cluster with this authority; None: without."""
    return None if ca is None else ssl.create_default_context(cafile=str(Path(ca)))
