"""TLS over a transport that tests drive, with OpenSSL's client in memory on the other side."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raftmail.net import tls
from raftmail.net.secured import RECORD_BYTES, TURN_BYTES_MAX, SecuredTransport

READ_BYTES = 64 * 1024


class Below(asyncio.Transport):
    """The transport in the clear: keeps what is written until `deliver`."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = bytearray()
        self.writes: list[int] = []
        self.high = READ_BYTES
        self.full = False
        self.reading = True
        self.closed = self.aborted = False
        self.upper: SecuredTransport | None = None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closed
        self.waiting += data
        self.writes.append(len(data))
        if len(self.waiting) > self.high and not self.full:
            self.full = True
            assert self.upper is not None
            self.upper.pause_writing()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class App(asyncio.BufferedProtocol):
    """Whoever speaks through TLS."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(READ_BYTES))
        self.heard = bytearray()
        self.said: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.said.append("made")

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.heard += self.buffer[:nbytes]

    def eof_received(self) -> bool:
        self.said.append("eof")
        return False

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost")


class Two:
    """Both sides of a connection."""

    def __init__(self, folder: Path) -> None:
        ca = tls.create_ca("moss", datetime.now(UTC))
        tls.save(
            tls.issue(ca, "n1", ["127.0.0.1"], datetime.now(UTC)), folder / "crt", folder / "key"
        )
        client = ssl.create_default_context()
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(self.incoming, self.outgoing)
        self.app, self.below = App(), Below()
        context = tls.program_context(folder / "crt", folder / "key")
        self.server = SecuredTransport(context, self.app, tells=True)
        self.below.upper = self.server
        self.server.connection_made(self.below)
        self.heard = bytearray()

    def send(self, data: bytes) -> None:
        """Bytes for the server, as it asks for them."""
        while data:
            view = self.server.get_buffer(-1)
            count = min(len(data), len(view))
            view[:count] = data[:count]
            self.server.buffer_updated(count)
            data = data[count:]

    def deliver(self) -> None:
        """What the server wrote arrives; the transport below has room again."""
        self.incoming.write(bytes(self.below.waiting))
        self.below.waiting.clear()
        if self.below.full:
            self.below.full = False
            self.server.resume_writing()

    def read(self) -> bool:
        """The client reads on; whether it was told goodbye."""
        try:
            while data := self.client.read(RECORD_BYTES):
                self.heard += data
        except ssl.SSLWantReadError:
            return False
        return True

    def say(self, data: bytes) -> None:
        self.client.write(data)
        self.send(self.outgoing.read())

    async def shake_hands(self) -> None:
        waits = asyncio.ensure_future(self.server.handshake(10.0))
        while not waits.done():
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.send(self.outgoing.read())
            self.deliver()
            await asyncio.sleep(0)
        await waits

    async def settle(self, turns: int = 200) -> None:
        for _ in range(turns):
            self.deliver()
            await asyncio.sleep(0)


@pytest.fixture
def talk(tmp_path: Path) -> Callable[[Callable[[Two], Coroutine[Any, Any, None]]], None]:
    def run(what: Callable[[Two], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            two = Two(tmp_path)
            await two.shake_hands()
            await what(two)

        asyncio.run(main())

    return run


def test_what_is_said_arrives_in_both_directions(talk: Any) -> None:
    async def what(two: Two) -> None:
        long = bytes(range(256)) * 20_000
        two.say(b"hello")
        two.say(long)
        two.server.write(b"what")
        two.server.write(long)
        await two.settle()
        two.read()
        assert two.app.heard == b"hello" + long
        assert two.heard == b"what" + long
        assert two.app.said[0] == "made"

    talk(what)


def test_a_long_write_leaves_in_pieces_one_in_each_turn(talk: Any) -> None:
    async def what(two: Two) -> None:
        two.below.writes.clear()
        two.server.write(bytes(20 * TURN_BYTES_MAX))
        assert len(two.below.writes) == 1
        await two.settle(40)
        assert len(two.below.writes) == 20
        assert max(two.below.writes) < TURN_BYTES_MAX + 2 * RECORD_BYTES
        two.read()
        assert two.heard == bytes(20 * TURN_BYTES_MAX)

    talk(what)


def test_nothing_is_encrypted_while_the_other_side_does_not_read(talk: Any) -> None:
    async def what(two: Two) -> None:
        two.server.set_write_buffer_limits(high=4 * TURN_BYTES_MAX)
        two.server.write(bytes(10 * TURN_BYTES_MAX))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(two.below.waiting) < 2 * TURN_BYTES_MAX
        assert two.server.get_write_buffer_size() > 9 * TURN_BYTES_MAX
        assert two.app.said == ["made", "pause"]
        await two.settle(100)
        assert two.app.said == ["made", "pause", "resume"]
        assert not two.server.get_write_buffer_size()

    talk(what)


@pytest.mark.parametrize("high", [1, 1000, 100_000])
def test_whoever_was_told_to_wait_is_told_to_go_on(talk: Any, high: int) -> None:
    async def what(two: Two) -> None:
        two.server.set_write_buffer_limits(high=high)
        two.server.write(bytes(200_000))
        assert two.app.said[-1] == "pause"
        await two.settle(50)
        assert two.app.said[-1] == "resume"

    talk(what)


def test_openssl_is_given_one_record_at_a_time(talk: Any) -> None:
    """Its buffers stay as long as what they had at once."""

    async def what(two: Two) -> None:
        assert len(two.server.get_buffer(1 << 20)) == RECORD_BYTES

    talk(what)


def test_nothing_is_told_while_reading_is_paused_and_all_of_it_afterwards(talk: Any) -> None:
    async def what(two: Two) -> None:
        two.server.pause_reading()
        assert not two.below.reading
        two.say(b"what came before the loop knew")
        assert not two.app.heard
        two.server.resume_reading()
        assert two.below.reading
        await asyncio.sleep(0)
        assert two.app.heard == b"what came before the loop knew"

    talk(what)


def test_goodbye_follows_all_that_was_written(talk: Any) -> None:
    async def what(two: Two) -> None:
        two.server.write(bytes(5 * TURN_BYTES_MAX))
        two.server.close()
        two.server.write(b"too late")
        await two.settle(20)
        assert two.read()
        assert two.heard == bytes(5 * TURN_BYTES_MAX)

    talk(what)


def test_the_transport_is_closed_once_the_other_side_has_said_goodbye_too(talk: Any) -> None:
    async def what(two: Two) -> None:
        two.server.pause_reading()
        two.server.close()
        assert two.below.reading
        two.say(b"what nobody reads any more")
        assert not two.below.closed
        await two.settle(1)
        assert two.read()
        two.client.unwrap()
        two.send(two.outgoing.read())
        assert two.below.closed
        assert not two.below.aborted
        assert not two.app.heard
        two.server.connection_lost(None)
        assert two.app.said == ["made", "lost"]

    talk(what)


def test_whoever_says_goodbye_is_answered_and_the_connection_closed(talk: Any) -> None:
    async def what(two: Two) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            two.client.unwrap()
        two.send(two.outgoing.read())
        assert two.app.said == ["made", "eof"]
        assert two.below.closed
        two.deliver()
        two.client.unwrap()

    talk(what)


def test_what_is_no_tls_ends_the_connection(talk: Any) -> None:
    async def what(two: Two) -> None:
        two.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert two.below.aborted
        assert not two.app.heard

    talk(what)


def test_a_client_that_speaks_in_the_clear_fails_the_handshake(tmp_path: Path) -> None:
    async def main() -> None:
        two = Two(tmp_path)
        waits = asyncio.ensure_future(two.server.handshake(10.0))
        two.send(b"a1 LOGIN anna secret\r\n")
        with pytest.raises(ssl.SSLError):
            await waits
        two.server.connection_lost(None)
        assert two.below.aborted
        assert not two.app.said

    asyncio.run(main())


def test_a_client_that_leaves_in_the_handshake_fails_it(tmp_path: Path) -> None:
    async def main() -> None:
        two = Two(tmp_path)
        waits = asyncio.ensure_future(two.server.handshake(10.0))
        await asyncio.sleep(0)
        two.server.connection_lost(None)
        with pytest.raises(ConnectionResetError):
            await waits
        assert not two.app.said

    asyncio.run(main())


def test_a_handshake_that_takes_too_long_ends(tmp_path: Path) -> None:
    async def main() -> None:
        two = Two(tmp_path)
        with pytest.raises(TimeoutError):
            await two.server.handshake(0.0)
        assert two.below.aborted
        assert not two.app.said

    asyncio.run(main())


def test_an_error_of_the_protocol_ends_this_connection_alone(talk: Any) -> None:
    async def what(two: Two) -> None:
        def fails(nbytes: int) -> None:
            raise RuntimeError("a fault")

        two.app.buffer_updated = fails  # type: ignore[method-assign]
        two.say(b"hello")
        assert two.below.aborted

    talk(what)
