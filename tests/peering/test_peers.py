"""Links of peers with real sockets: one live link a pair, in order, bounded, authenticated."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.server import TextListener
from raftmail.mail.endpoint import split_address
from raftmail.net import tls
from raftmail.peering.handshake import Hello
from raftmail.peering.link import LinkLimits, Payload
from raftmail.peering.peers import PeerNet
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates

FAST = LinkLimits(backoff_min_s=0.01, backoff_max_s=0.05)


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port


class Node:
    """A listener and its links. `events` has what it was told, in order: `+b`, `-b`, and frames."""

    def __init__(
        self,
        name: str,
        ports: dict[str, int],
        *,
        files: tls.TlsFiles | None = None,
        limits: LinkLimits = FAST,
        compress: bool = False,
        cluster: str = "blue",
        dials: bool = True,
    ) -> None:
        self.name = name
        self.port = ports[name]
        self.events: list[str] = []
        self.payloads: list[Payload] = []
        self.dials = dials
        self.net = PeerNet(
            name,
            cluster,
            {peer: f"127.0.0.1:{port}" for peer, port in ports.items() if peer != name},
            tls_context=tls.peer_context(files) if files else None,
            kinds=["RAFT", "BLOB", "LONG"],
            bulk=["LONG"],
            on_frame=self.on_frame,
            on_up=lambda peer: self.events.append(f"+{peer}"),
            on_down=lambda peer: self.events.append(f"-{peer}"),
            limits=limits,
            compress=compress,
        )
        front = TextContext(TwinService(), name, cluster, lambda: 0.0)
        context = tls.server_context(files) if files else None
        self.listener = TextListener(front, peers=self.net, tls=context)

    def on_frame(self, peer: str, shard: int, kind: str, payload: Payload) -> None:
        self.events.append(f"{peer} S{shard} {kind} {len(payload)}")
        self.payloads.append(payload)

    async def start(self) -> None:
        await self.listener.listen("127.0.0.1", self.port)
        if self.dials:
            self.net.start()
        else:
            self.net._running = True

    async def stop(self) -> None:
        await self.net.close()
        await self.listener.close()

    def ups(self) -> list[str]:
        return [event for event in self.events if event[0] in "+-"]


@contextlib.asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    for node in nodes:
        await node.start()
    try:
        yield
    finally:
        for node in nodes:
            await node.stop()


async def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


def ports_of(*names: str) -> dict[str, int]:
    return {name: free_port() for name in names}


def alternates(events: list[str], peer: str) -> bool:
    """Whether ups and downs of a peer take turns, beginning with an up, and frames come only while
    it is up."""
    up = False
    for event in events:
        if event == f"+{peer}":
            if up:
                return False
            up = True
        elif event == f"-{peer}" or event.startswith(f"{peer} "):
            if not up:
                return False
            up = up and event[0] != "-"
    return True


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("with_tls", [False, True])
def test_frames_arrive_in_order_and_whole(tmp_path: Path, with_tls: bool, compress: bool) -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        certificates = Certificates(tmp_path / "tls", "blue")
        a, b = (
            Node(
                name, ports, files=certificates.files(name) if with_tls else None, compress=compress
            )
            for name in ports
        )
        async with running(a, b):
            await until(lambda: a.net.up and b.net.up)
            sent = [b"%d" % i * (i % 50) for i in range(500)] + [b"x" * 3_000_000, b"end"]
            for at, payload in enumerate(sent):
                assert a.net.send("b", 7, "RAFT", payload if at % 2 else [payload[:9], payload[9:]])
            await until(lambda: len(b.payloads) == len(sent))
            assert b.payloads == sent
            assert b.events[1] == "a S7 RAFT 0"

    asyncio.run(run())


def test_when_all_dial_at_once_each_pair_has_one_link_and_tells_it_once() -> None:
    async def run() -> None:
        ports = ports_of("a", "b", "c", "d")
        nodes = [Node(name, ports) for name in ports]
        async with running(*nodes):
            await until(lambda: all(len(node.net.up) == 3 for node in nodes))
            await asyncio.sleep(0.1)
            for node in nodes:
                assert len(node.net.up) == 3
                for peer in ports:
                    assert alternates(node.events, peer)
                    assert node.name == peer or node.net.send(peer, 1, "RAFT", node.name.encode())
            for node in nodes:
                others = {other.encode() for other in ports if other != node.name}
                await until(lambda node=node, others=others: set(node.payloads) == others)  # type: ignore[misc]

    asyncio.run(run())


def test_a_lost_link_is_told_and_comes_again() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a, b = (Node(name, ports) for name in ports)
        async with running(a, b):
            await until(lambda: a.net.up and b.net.up)
            for count in range(2, 6):
                link = a.net._peers["b"].link
                assert link is not None
                link._transport.abort()
                await until(lambda count=count: a.ups().count("+b") >= count)  # type: ignore[misc]
                await until(lambda: a.net.up and b.net.up)
            assert alternates(a.events, "b")
            assert alternates(b.events, "a")

    asyncio.run(run())


def test_a_peer_that_started_anew_takes_the_place_of_its_dead_link() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a = Node("a", ports, dials=False)
        async with running(a):
            streams = []
            for boot in (b"01", b"02"):
                reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
                streams.append((reader, writer))
                hello = Hello("blue", "b", "a", boot.decode(), 1, "aa" + boot.decode(), "0")
                writer.write(hello.line(b"p1") + b"S1 RAFT {2}\r\n" + boot)
                await until(lambda boot=boot: boot in a.payloads)  # type: ignore[misc]
            assert a.events == ["+b", "b S1 RAFT 2", "-b", "+b", "b S1 RAFT 2"]
            old, new = streams
            old[1].write(b"S1 RAFT {3}\r\nold")
            new[1].write(b"S1 RAFT {3}\r\nnew")
            await until(lambda: b"new" in a.payloads)
            assert b"old" not in a.payloads
            for _, writer in streams:
                writer.transport.abort()

    asyncio.run(run())


def test_an_earlier_hello_does_not_take_the_place_of_a_later_one() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a = Node("a", ports, dials=False)
        async with running(a):
            streams = []
            for dial in (2, 1):
                reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
                streams.append((reader, writer))
                writer.write(Hello("blue", "b", "a", "01", dial, f"{dial}", "0").line(b"p1"))
                await reader.readline()
                if dial == 2:
                    assert (await reader.readline()).startswith(b"p1 OK version=1 node=a boot=")
                else:
                    refused = b'p1 NO CANNOT "a later connection is up already"\r\n'
                    assert await reader.readline() == refused
            assert a.events == ["+b"]
            for _, writer in streams:
                writer.transport.abort()

    asyncio.run(run())


def test_a_silent_peer_is_dropped_and_one_that_only_pings_is_not() -> None:
    async def run() -> None:
        ports = ports_of("a", "b", "c")
        quick = LinkLimits(silence_s=0.4, ping_s=0.1, backoff_min_s=0.01, backoff_max_s=0.05)
        a, b = Node("a", ports, limits=quick), Node("b", ports, limits=quick)
        async with running(a, b):
            await until(lambda: "b" in a.net.up)
            _, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(Hello("blue", "c", "a", "01", 1, "01", "0").line(b"p1"))
            await until(lambda: "+c" in a.events)
            await until(lambda: "-c" in a.events)
            assert [event for event in a.ups() if "b" in event] == ["+b"]
            writer.transport.abort()

    asyncio.run(run())


def test_a_link_whose_queue_is_full_ends_instead_of_growing() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a = Node("a", ports, limits=LinkLimits(queue_bytes_max=2_000_000), dials=False)
        async with running(a):
            reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(Hello("blue", "b", "a", "01", 1, "01", "0").line(b"p1"))
            await until(lambda: "+b" in a.events)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            sent = 0
            while a.net.send("b", 1, "BLOB", b"x" * 100_000):
                sent += 1
                assert sent < 200
                await asyncio.sleep(0)
            assert a.events == ["+b"], "not told inside send"
            assert not a.net.send("b", 1, "BLOB", b"")
            await until(lambda: a.events == ["+b", "-b"])
            writer.transport.abort()
            del reader

    asyncio.run(run())


@pytest.mark.parametrize("with_tls", [False, True])
def test_long_frames_are_overtaken_by_others_and_arrive_whole_in_their_order(
    tmp_path: Path, with_tls: bool
) -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        certificates = Certificates(tmp_path / "tls", "blue")
        a, b = (Node(n, ports, files=certificates.files(n) if with_tls else None) for n in ports)
        async with running(a, b):
            await until(lambda: a.net.up and b.net.up)
            longs = [bytes([at]) * (8_000_000 + at) for at in range(3)]
            for long in longs:
                assert a.net.send("b", 7, "LONG", [long[:33], long[33:]])
            assert a.net.send("b", 8, "LONG", b"of another shard")
            assert a.net.send("b", 7, "RAFT", b"urgent")
            await until(lambda: len(b.payloads) == 5)
            assert set(b.payloads[:2]) == {b"urgent", b"of another shard"}
            assert [bytes(payload) for payload in b.payloads[2:]] == longs
            await until(lambda: a.net.waiting_bytes("b") == 0)

    asyncio.run(run())


def test_long_frames_above_the_limit_are_not_taken_and_the_link_stays() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a = Node("a", ports, limits=LinkLimits(bulk_bytes_max=2_000_000), dials=False)
        async with running(a):
            _, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(Hello("blue", "b", "a", "01", 1, "01", "0").line(b"p1"))
            await until(lambda: "+b" in a.events)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            assert a.net.send("b", 1, "LONG", b"x" * 30_000_000), "one frame alone is always taken"
            assert not a.net.has_room("b", 1)
            assert not a.net.send("b", 1, "LONG", b"x")
            assert a.net.send("b", 1, "RAFT", b"x")
            await asyncio.sleep(0.05)
            assert a.events == ["+b"]
            writer.transport.abort()

    asyncio.run(run())


def test_a_new_connection_right_after_a_full_queue_is_announced_after_the_end_of_the_old() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a = Node("a", ports, dials=False)
        async with running(a):
            _, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(Hello("blue", "b", "a", "01", 1, "01", "0").line(b"p1"))
            await until(lambda: "+b" in a.events)
            peer = a.net._peers["b"]
            old = peer.link
            assert old is not None
            old._fail("too slow")
            _, second = await asyncio.open_connection("127.0.0.1", a.port)
            second.write(Hello("blue", "b", "a", "01", 2, "02", "01").line(b"p1"))
            await until(lambda: a.events == ["+b", "-b", "+b"])
            assert peer.link is not old
            for stream in (writer, second):
                stream.transport.abort()

    asyncio.run(run())


def test_frames_of_kinds_that_nobody_registered_are_counted_and_dropped() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a, b = (Node(name, ports) for name in ports)
        async with running(a, b):
            await until(lambda: a.net.up and b.net.up)
            a.net.send("b", 1, "FUTURE", b"x")
            a.net.send("b", 1, "RAFT", b"y")
            await until(lambda: b.payloads)
            assert (b.payloads, b.net.unknown_frames) == ([b"y"], 1)

    asyncio.run(run())


def test_what_is_no_frame_ends_the_link() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a = Node("a", ports, dials=False)
        async with running(a):
            _, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(Hello("blue", "b", "a", "01", 1, "01", "0").line(b"p1") + b"rubbish\r\n")
            await until(lambda: a.events == ["+b", "-b"])
            writer.transport.abort()

    asyncio.run(run())


def test_members_that_leave_lose_their_link_and_those_that_join_get_one() -> None:
    async def run() -> None:
        ports = ports_of("a", "b", "c")
        a, b, c = (Node(name, ports) for name in ports)
        async with running(a, b, c):
            await until(lambda: a.net.up == {"b", "c"})
            await a.net.set_peers({"b": f"127.0.0.1:{b.port}"})
            assert a.net.up == {"b"}
            await until(lambda: "a" not in c.net.up)
            await a.net.set_peers({"b": f"127.0.0.1:{b.port}", "c": f"127.0.0.1:{c.port}"})
            await until(lambda: a.net.up == {"b", "c"})

    asyncio.run(run())


def test_a_node_that_knows_none_of_the_members_any_more_takes_those_that_call() -> None:
    async def run() -> None:
        ports = ports_of("a", "b", "gone")
        a = Node("a", {name: ports[name] for name in ("a", "gone")})
        b = Node("b", {name: ports[name] for name in ("a", "b")})
        a.net.welcoming = True
        async with running(a, b):
            await until(lambda: a.net.up == {"b"} and b.net.up == {"a"})
            # Told the same again, and then who there is.
            await a.net.set_peers({"gone": f"127.0.0.1:{ports['gone']}"})
            assert a.net.up == {"b"}
            a.net.welcoming = False
            await a.net.set_peers({"b": f"127.0.0.1:{b.port}"})
            assert a.net.up == {"b"} and a.ups() == ["+b"]
            await a.net.set_peers({})
            await until(lambda: not b.net.up)

    asyncio.run(run())


# Who is refused


async def say_hello(port: int, context: ssl.SSLContext | None, hello: Hello) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(hello.line(b"p1"))
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.transport.abort()


def test_only_members_with_a_certificate_of_their_own_are_taken(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "blue", "blue")
    other = Certificates(tmp_path / "other", "blue")

    async def run() -> None:
        ports = ports_of("a", "b", "c")
        a = Node("a", ports, files=certificates.files("a"), dials=False)
        hello = Hello("blue", "b", "a", "01", 1, "01", "0")
        async with running(a):
            none = tls.client_context(certificates.ca)
            said = await say_hello(a.port, none, hello)
            assert b'NO CANNOT "a peer shows a certificate of cluster blue' in said
            c = tls.peer_context(certificates.files("c"))
            said = await say_hello(a.port, c, hello)
            assert b'NO CANNOT "the certificate is of node c, not of b"' in said
            stranger = tls.peer_context(certificates.files("x"))
            said = await say_hello(a.port, stranger, Hello("blue", "x", "a", "01", 1, "01", "0"))
            assert b'NO CANNOT "node x is no member that a knows"' in said
            # Another authority does not get through the handshake, even if it trusts us.
            foreign = tls.peer_context(other.files("b"))
            foreign.load_verify_locations(certificates.ca)
            said = b""
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                said = await say_hello(a.port, foreign, hello)
            assert said == b""
            assert a.events == []

    asyncio.run(run())


def test_a_dialler_says_why_it_does_not_take_what_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = Certificates(tmp_path / "blue", "blue")
    other = Certificates(tmp_path / "red", "red")
    caplog.set_level(logging.INFO, logger="raftmail.peering.peers")

    async def run() -> None:
        ports = ports_of("a", "b", "c")
        ports["c"] = ports["b"]
        b = Node("b", ports, files=certificates.files("b"), dials=False)
        a = Node("a", ports, files=other.files("a"))
        also_a = Node("a", {**ports, "a": free_port()}, files=certificates.files("a"))
        async with running(b, a, also_a):
            await until(lambda: "is not of this cluster" in caplog.text)
            await until(lambda: "('blue', 'b'), not of c" in caplog.text)
            assert a.events == []

    asyncio.run(run())


def test_without_tls_only_this_machine_is_taken() -> None:
    with pytest.raises(ValueError, match="write host:port"):
        split_address("127.0.0.1")
    assert split_address("[::1]:25") == ("::1", 25)

    async def run() -> None:
        ports = ports_of("a", "b")
        certless = Node("a", ports, dials=False)
        certless.net.tls_context = ssl.create_default_context()
        async with running(certless):
            said = await say_hello(certless.port, None, Hello("blue", "b", "a", "01", 1, "01", "0"))
            assert b"this connection has none" in said

    asyncio.run(run())


def test_a_peer_whose_address_cannot_be_is_not_dialled_and_keeps_no_other_from_it() -> None:
    async def run() -> None:
        ports = ports_of("a", "b")
        a, b = (Node(name, ports) for name in ports)
        bad = {"c": "garbage", "d": f"{'x' * 70}:25", "e": "x:\u00b2", "f": ""}
        async with running(a, b):
            await a.net.set_peers(bad | {"b": f"127.0.0.1:{ports['b']}"})
            assert set(a.net.unusable) == {"c", "d", "e", "f"}
            await until(lambda: a.net.is_up("b") and b.net.is_up("a"))
            await a.net.set_peers({"b": f"127.0.0.1:{ports['b']}", "c": "127.0.0.1:1"})
            assert not a.net.unusable

    asyncio.run(run())
