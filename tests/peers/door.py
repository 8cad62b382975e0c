"""One address for all nodes, as a name with several addresses or a balancer is: programs that know
one server come to whichever node answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

_PIECE_BYTES = 65536


class Door:
    """Passes each connection on to the first of its ports where somebody listens.

    `ports` may be given another order while it is open; connections that there are stay."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = tuple(ports)
        self.port = 0
        self.failed = 0
        """Connections that nobody took."""

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in self.ports:
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
            return
        self.failed += 1
        writer.close()

    async def serve(self, opened: Callable[[], None], closing: asyncio.Event) -> None:
        server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        opened()
        await closing.wait()
        server.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either side is gone; then the other one hears of it."""
    try:
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@contextmanager
def door(ports: Sequence[int]) -> Iterator[Door]:
    """An open one; it runs in a thread of its own."""
    made, opened = Door(ports), Event()
    loop = asyncio.new_event_loop()
    closing = asyncio.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(made.serve(opened.set, closing))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = Thread(target=run)
    thread.start()
    try:
        assert opened.wait(30)
        yield made
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
