"""ManageSieve through the proxy, before nodes that are down or say no, and strangers before it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from raftmail.proxy.context import ProxyLimits
from raftmail.proxy.managesieve_front import ManageSieveFront
from raftmail.proxy.steps import BeginTls, EndWithClient, LogInWanted, SayToClient
from tests.proxy.proxy_kit import PASSWORD, USER, Streams, before, sieve_nodes

PLAIN = base64.b64encode(b"\x00%b\x00%b" % (USER, PASSWORD))
MECHANISMS = ("SCRAM-SHA-256", "PLAIN", "LOGIN")


async def greeted(client: Streams) -> list[bytes]:
    lines = [await client.line()]
    while not lines[-1].startswith(b"OK"):
        assert lines[-1]
        lines.append(await client.line())
    return lines


@pytest.mark.parametrize(
    "log_in",
    [
        b'AUTHENTICATE "PLAIN" "%b"\r\n' % PLAIN,
        b'AUTHENTICATE "plain" {%d+}\r\n%b\r\n' % (len(PLAIN), PLAIN),
    ],
)
def test_a_log_in_goes_to_a_node_that_is_there_and_what_follows_is_its_own(
    tmp_path: Path, log_in: bytes
) -> None:
    async def check() -> None:
        nodes = sieve_nodes(tmp_path / "pki")
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            await nodes[0].kill()
            client = await proxy.client("managesieve")
            assert any(line.startswith(b'"SIEVE" "body') for line in await greeted(client))
            client.say(b'NOOP "x"\r\n' + log_in + b"LISTSCRIPTS\r\n")
            assert await client.line() == b"OK (TAG {1}\r\n"
            assert await client.line() == b"x)\r\n"
            assert await client.line() == b'OK "logged in"\r\n'
            assert await client.line() == b'OK "by n2"\r\n'
            assert nodes[1].said[-1] == b"LISTSCRIPTS\r\n"

    asyncio.run(check())


def test_an_exchange_of_more_steps_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = sieve_nodes(tmp_path / "pki", 1)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("managesieve")
            await greeted(client)
            first = base64.b64encode(b"n,,n=%b,r=abc" % USER)
            client.say(b'AUTHENTICATE "SCRAM-SHA-256" "%b"\r\n' % first)
            assert await client.line() == b'"c2VydmVyLWZpcnN0"\r\n'
            client.say(b'"Y2xpZW50"\r\n')
            assert await client.line() == b'OK "logged in"\r\n'
            assert nodes[0].said[-1] == b'"Y2xpZW50"\r\n'

    asyncio.run(check())


@pytest.mark.parametrize("is_dead", [True, False])
def test_nodes_that_are_down_never_read_as_a_wrong_password(tmp_path: Path, is_dead: bool) -> None:
    async def check() -> None:
        nodes = sieve_nodes(tmp_path / "pki")
        limits = ProxyLimits(patience_s=0.5)
        async with before(tmp_path / "pki", [*nodes], limits=limits) as proxy:
            for node in nodes:
                node.refuses = b'NO (TRYLATER) "no master"'
                if is_dead:
                    await node.kill()
            client = await proxy.client("managesieve")
            await greeted(client)
            for _ in range(4):
                client.say(b'AUTHENTICATE "PLAIN" "%b"\r\n' % PLAIN)
                assert (await client.line()).startswith(b"NO (TRYLATER)")

    asyncio.run(check())


def test_a_wrong_password_is_told_and_a_node_that_dies_ends_the_session(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = sieve_nodes(tmp_path / "pki", 1)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("managesieve")
            await greeted(client)
            client.say(b'AUTHENTICATE "PLAIN" "AGEAYg=="\r\n')
            assert await client.line() == b'NO "that is wrong"\r\n'
            client.say(b'AUTHENTICATE "PLAIN" "%b"\r\n' % PLAIN)
            assert await client.line() == b'OK "logged in"\r\n'
            await nodes[0].kill()
            assert await client.line() == b"", "a word could stand in the middle of an answer"

    asyncio.run(check())


def test_tls_begins_before_a_password_where_the_connection_is_not_trusted() -> None:
    front = ManageSieveFront(MECHANISMS, may_start_tls=True, trusted=False)
    assert b'"SASL" ""' in front.greeting() and b'"STARTTLS"' in front.greeting()
    front.feed(b'AUTHENTICATE "PLAIN" "%b"\r\nSTARTTLS\r\n' % PLAIN)
    told = front.next()
    assert isinstance(told, SayToClient) and told.data.startswith(b"NO (ENCRYPT-NEEDED)")
    assert isinstance(front.next(), BeginTls)
    front.secured()
    assert b"PLAIN" in front.greeting() and b'"STARTTLS"' not in front.greeting()
    front.feed(b'AUTHENTICATE "PLAIN"\r\n')
    assert front.next() == SayToClient(b'""\r\n')
    front.feed(b'"%b"\r\n' % PLAIN)
    assert isinstance(front.next(), LogInWanted)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"x" * 100_000,
        b'"' + b"x" * 100_000,
        b"NOOP {4294967296+}\r\n" * 30,
        b"NOOP {17000+}\r\n" + b"x" * 30_000,
        b"STARTTLS\r\nNOOP\r\n",
        b"\x16\x03\x01\n" * 30,
        b"LISTSCRIPTS\r\n" * 30,
        b'"a"\r\n' * 30,
    ],
)
def test_hostile_bytes_before_the_log_in_end_the_connection(data: bytes) -> None:
    front = ManageSieveFront(MECHANISMS, may_start_tls=True, trusted=True)
    for at in range(0, len(data), 1000):
        front.feed(data[at : at + 1000])
        while (step := front.next()) is not None:
            if isinstance(step, EndWithClient):
                return
    raise AssertionError("it goes on")
