"""POP3 through the proxy, before nodes that are down or say no."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftmail.proxy.context import ProxyLimits
from tests.proxy.proxy_kit import PASSWORD, USER, before, mail_nodes


def test_user_and_pass_log_in_at_a_node_and_what_follows_is_its_own(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "pop3s", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            await nodes[0].kill()
            client = await proxy.client("pop3")
            assert await client.line() == b"+OK raftmail is ready\r\n"
            client.say(b"UTF8\r\nUSER %b\r\nPASS %b\r\nSTAT\r\n" % (USER, PASSWORD))
            assert (await client.line()).startswith(b"+OK UTF-8")
            assert (await client.line()).startswith(b"+OK")
            assert [await client.line() for _ in range(2)] == [b"+OK by n2\r\n"] * 2
            assert nodes[1].said[0] == b"UTF8\r\n", "what was said before counts there, too"
            assert nodes[1].said[-1] == b"STAT\r\n"

    asyncio.run(check())


@pytest.mark.parametrize("is_dead", [True, False])
def test_nodes_that_are_down_never_read_as_a_wrong_password(tmp_path: Path, is_dead: bool) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "pop3s", 2)
        limits = ProxyLimits(patience_s=0.5)
        async with before(tmp_path / "pki", [*nodes], limits=limits) as proxy:
            for node in nodes:
                node.refuses = b"-ERR [SYS/TEMP] no master"
                if is_dead:
                    await node.kill()
            client = await proxy.client("pop3")
            await client.line()
            for _ in range(4):
                client.say(b"USER %b\r\nPASS %b\r\n" % (USER, PASSWORD))
                await client.line()
                assert (await client.line()).startswith(b"-ERR [SYS/TEMP]")

    asyncio.run(check())


def test_a_wrong_password_is_told_as_the_node_tells_it(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "pop3s", 1)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("pop3")
            await client.line()
            client.say(b"AUTH PLAIN AGEAYg==\r\n")
            assert await client.line() == b"-ERR [AUTH] that is wrong\r\n"

    asyncio.run(check())


def test_a_node_that_dies_in_a_session_ends_it_without_a_word(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "pop3s", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("pop3")
            await client.line()
            client.say(b"USER %b\r\nPASS %b\r\n" % (USER, PASSWORD))
            await client.line()
            assert await client.line() == b"+OK by n1\r\n"
            await nodes[0].kill()
            assert await client.line() == b"", "a word could be taken for an answer"

    asyncio.run(check())
