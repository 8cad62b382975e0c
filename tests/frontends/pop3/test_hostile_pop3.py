"""What strangers send ends their connection at most, and nobody else's."""

from __future__ import annotations

import asyncio
import random

import pytest

from raftmail.frontends.pop3.limits import Pop3Limits
from tests.frontends.pop3.pop3_kit import Pop3Client, deliver, run3, small
from tests.frontends.twin_service import TwinService


async def _other(client: Pop3Client) -> None:
    """Somebody else is served."""
    other = Pop3Client(client.port, client.server, client.budget)
    await other.log_in()
    await other.ok("STAT")
    await other.ok("QUIT")
    await other.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nUSER a\r\n",
        b"POST /x HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n",
        b"{json}\r\n",
        b"x" * 60_000,
        b"USER " + b"x" * 60_000 + b"\r\n",
        b"\x00" * 5000 + b"\r\n",
    ],
    ids=["web", "form", "tls", "json", "endless", "long", "nul"],
)
def test_what_is_no_pop3_ends_with_a_reason_and_nothing_is_done(data: bytes) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        client.send(data)
        said = await client.ended()
        assert said.startswith(b"-ERR ") and said.count(b"\n") == 1, said[:200]
        await _other(client)

    run3(talk)


def test_a_long_line_after_the_log_in_ends_the_connection() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, small("one"))
        await client.log_in()
        await client.ok("DELE 1")
        client.send(b"LIST " + b"1" * 5000)
        assert b"at most" in await client.ended()
        assert box.messages

    run3(talk)


def test_commands_without_sense_are_limited() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        client.send(b"HELLO\r\n" * 100)
        said = (await client.ended()).splitlines()
        assert len(said) == 6 and b"make no sense" in said[-1]
        await _other(client)

    run3(talk, Pop3Limits(bad_commands_max=5))


def test_thousands_of_commands_sent_ahead_are_answered_in_order_with_bounded_memory() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one", "x" * 500))
        await client.log_in()
        count = 4_000
        client.send(b"NOOP\r\nLIST 1\r\nRETR 1\r\n" * count)
        for _ in range(count):
            assert (await client.line()).startswith(b"+OK nothing")
            assert (await client.line()).startswith(b"+OK 1 ")
            assert await client.line()
            assert await client.rest() == small("one", "x" * 500)

    run3(talk)


def test_who_does_not_read_is_closed_and_holds_nothing_then() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one", "x" * 8_000_000))
        client.reader, client.writer = await asyncio.open_connection(
            "127.0.0.1", client.port, limit=1024
        )
        await client.line()
        client.send(b"USER anna@example.org\r\nPASS secret password\r\n" + b"RETR 1\r\n" * 50)
        await client.line()
        await client.line()
        while client.budget.used_bytes < 8_000_000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await _other(client)
        while client.budget.used_bytes > 1000:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    run3(talk, Pop3Limits(slow_reader_s=0.5, output_bytes_max=64 * 1024))


@pytest.mark.parametrize("seed", range(20))
def test_noise_ends_the_connection_at_most(seed: int) -> None:
    rng = random.Random(seed)
    words = [
        b"USER", b"PASS", b"AUTH PLAIN", b"STLS", b"CAPA", b"LIST", b"RETR", b"TOP", b"UIDL", b"=",
        b"DELE", b"NOOP", b"RSET", b"UTF8", b" ", b"1", b"-1", b"0", b"99999999999", b"*", b"\r\n",
        b"\n", b"\r", b"\x00", b"\xff", b"anna@example.org", b"AGEAYg==", b"x" * 300,
    ]  # fmt: skip
    noise = b"".join(rng.choice(words) + rng.choice([b"", b" ", b"\r\n"]) for _ in range(400))

    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, small("one"))
        if seed % 2:
            await client.log_in()
        else:
            await client.connect()
        for at in range(0, len(noise), 97):
            client.send(noise[at : at + 97])
            await asyncio.sleep(0)
        client.writer.write_eof()
        said = await client.ended()
        for line in said.splitlines():
            assert line.startswith((b"+", b"-ERR ", b".")) or line[:1].isalnum()
        assert box.messages
        await _other(client)

    run3(talk, Pop3Limits(failed_logins_max=1000, bad_commands_max=1000))
