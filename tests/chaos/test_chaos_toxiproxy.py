"""Links through Toxiproxy: which programs are taken, and which way what is cut is cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from raftmail_chaos import toxiproxy
from raftmail_chaos.cluster import ChaosCluster, Ports
from raftmail_chaos.errors import ChaosError
from raftmail_chaos.faults import Arena, Weather, bad_network
from raftmail_chaos.toxiproxy import ProxyLinks, check_version, find_server

_ANSWER_S = 10.0
_RESETS_S = 60.0


def _program(folder: Path, says: str) -> Path:
    path = folder / "toxiproxy-server"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_server_is_found_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(tmp_path, "")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert find_server() == program


@pytest.mark.parametrize("says", ["toxiproxy-server version 2.8.0", "toxiproxy-server version git"])
def test_toxiproxy_2_is_taken_whether_or_not_it_knows_its_version(
    tmp_path: Path, says: str
) -> None:
    assert check_version(_program(tmp_path, says)) == says


@pytest.mark.parametrize("says", ["toxiproxy-server version 1.2.1", "something else", ""])
def test_another_program_or_version_is_refused_with_what_to_do(tmp_path: Path, says: str) -> None:
    with pytest.raises(ChaosError, match="make toxiproxy"):
        check_version(_program(tmp_path, says))


def test_a_server_that_ends_at_once_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    program = _program(tmp_path, "toxiproxy-server version git")
    with pytest.raises(ChaosError, match=r"ended with status 0: .*tox\.log"):
        ProxyLinks.start(program, tmp_path / "tox.log", {"a": "127.0.0.1:1"}, Ports(1).take)


class _Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@contextlib.asynccontextmanager
async def _links(folder: Path) -> AsyncIterator[ProxyLinks]:
    """Proxies between two servers that echo."""
    program = find_server()
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{toxiproxy.PROGRAM} is not there: make toxiproxy")
        pytest.skip(f"{toxiproxy.PROGRAM} is not there: make toxiproxy")
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(_Echo, "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    peers = {name: f"127.0.0.1:{port}" for name, port in zip("ab", ports, strict=True)}
    links = ProxyLinks.start(program, folder / "tox.log", peers, Ports(3).take)
    try:
        yield links
    finally:
        links.stop()
        for server in servers:
            server.close()


async def _echoes(links: ProxyLinks, i: str, j: str) -> bool:
    """Whether what i sends to j on a connection of its own comes back."""
    host, _, port = links.addresses[i, j].rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except ConnectionError:
        return False
    try:
        writer.write(b"ping\n")
        async with asyncio.timeout(0.5 if links._toxics else _ANSWER_S):
            return await reader.readline() == b"ping\n"
    except (TimeoutError, ConnectionError):
        return False
    finally:
        writer.close()


def test_a_cut_is_silent_and_a_cure_ends_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with _links(tmp_path) as links:
            assert await _echoes(links, "a", "b")
            await links.cut("f1", [("a", "b")])
            # Whoever dialled: an echo needs both ways, and one of them is cut.
            assert not await _echoes(links, "a", "b")
            assert not await _echoes(links, "b", "a")
            await links.cure("f1")
            assert await _echoes(links, "a", "b")
            assert await _echoes(links, "b", "a")

    asyncio.run(run())


def test_links_that_two_faults_closed_open_when_both_are_over(tmp_path: Path) -> None:
    async def run() -> None:
        async with _links(tmp_path) as links:
            await links.close([("a", "b")])
            await links.close([("b", "a")])
            await links.open([("a", "b")])
            assert not await _echoes(links, "b", "a")
            await links.open([("a", "b")])
            assert await _echoes(links, "b", "a")

    asyncio.run(run())


def test_healing_undoes_everything(tmp_path: Path) -> None:
    async def run() -> None:
        async with _links(tmp_path) as links:
            await links.close([("a", "b")])
            await links.cut("f1", [("a", "b"), ("b", "a")])
            await links.heal()
            assert await _echoes(links, "a", "b")
            assert await _echoes(links, "b", "a")

    asyncio.run(run())


def test_resets_break_connections_that_carried_data_and_let_new_ones_through(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with _links(tmp_path) as links:
            arena = Arena(ChaosCluster(tmp_path, {}), links, random.Random(1))
            weather = Weather("resets", "reset_peer", {"timeout": 0}, every_s=0.2)
            fault = asyncio.create_task(bad_network(arena, [("a", "b")], weather, 3600.0))
            host, _, port = links.addresses["a", "b"].rpartition(":")
            broken = echoes = 0
            async with asyncio.timeout(_RESETS_S):
                while broken < 2 or echoes <= broken:
                    with contextlib.suppress(ConnectionError):
                        reader, writer = await asyncio.open_connection(host, int(port))
                        try:
                            while True:
                                writer.write(b"ping\n")
                                if not await reader.readline():
                                    break
                                echoes += 1
                                await asyncio.sleep(0.01)
                        finally:
                            writer.close()
                    broken += 1
            fault.cancel()
            await asyncio.gather(fault, return_exceptions=True)
            assert await _echoes(links, "a", "b")

    asyncio.run(run())


def test_a_fault_that_is_broken_off_while_it_begins_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with _links(tmp_path) as links:
            proxy, asked = links.proxies["a", "b"], threading.Event()
            add = proxy.add_toxic

            def add_late(**arguments: Any) -> Any:
                asked.set()
                time.sleep(0.1)
                return add(**arguments)

            monkeypatch.setattr(proxy, "add_toxic", add_late)
            arena = Arena(ChaosCluster(tmp_path, {}), links, random.Random(1))
            weather = Weather("slow", "latency", {"latency": 1, "jitter": 0})
            fault = asyncio.create_task(bad_network(arena, [("a", "b")], weather, 3600.0))
            await asyncio.to_thread(asked.wait)
            fault.cancel()
            await asyncio.gather(fault, return_exceptions=True)
            await asyncio.sleep(0.2)  # for one that would come late
            assert await asyncio.to_thread(proxy.toxics) == {}

    asyncio.run(run())


class _SlowProxy:
    """A proxy of a server that answers nothing when a toxic is put, and puts it all the same."""

    def __init__(self) -> None:
        self.toxics: list[str] = []

    def add_toxic(self, *, name: str, **_: object) -> None:
        self.toxics.append(name)
        raise ValueError("Expecting value: line 1 column 1 (char 0)")

    def destroy_toxic(self, name: str) -> bool:
        self.toxics.remove(name)
        return True


def test_a_toxic_that_the_server_was_late_with_is_no_failure_and_is_taken_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(toxiproxy, "_LATE_S", 0.01)

    async def run() -> None:
        slow = {("a", "b"): _SlowProxy(), ("b", "a"): _SlowProxy()}
        links = ProxyLinks(cast(Any, None), None, cast(Any, slow))
        await links.cut("fault", [("a", "b")])
        assert all(proxy.toxics for proxy in slow.values())
        await links.cure("fault")
        assert not any(proxy.toxics for proxy in slow.values())

    asyncio.run(run())
