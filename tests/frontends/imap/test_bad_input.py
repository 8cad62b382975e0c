"""What no client should send: it is refused with the reason, in bounded memory, and other sessions
notice nothing."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap.limits import ImapLimits
from tests.frontends.imap.imap_kit import ImapClient, filled, run
from tests.frontends.twin_service import TwinService


async def _ends(client: ImapClient) -> bytes:
    """What is said until the connection is closed."""
    said = b""
    while line := await client.response():
        said += line
    return said


@pytest.mark.parametrize(
    "line",
    [
        b"a LOGIN {4294967296+}\r\n",
        b"a LOGIN {100000000000000000000+}\r\n",
        b"a NOOP {8192+}\r\n",
        b"x" * (16 << 10),
        b"a LOGIN " + b"y" * (16 << 10),
    ],
    ids=["4 GiB", "no number", "8 KiB", "an endless line", "an endless word"],
)
def test_before_login_nothing_long_is_read(line: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(line)
        assert b"* BYE" in await _ends(client)

    run(talk)


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1 " + "(" * 10_000 + "UID" + ")" * 10_000,
        "SEARCH " + "(" * 10_000 + "SEEN" + ")" * 10_000,
        "SEARCH " + "NOT " * 10_000 + "SEEN",
        "FETCH 99 (UID)",
        "FETCH 0 (UID)",
        "FETCH 1 (NONSENSE)",
        "STORE 1 +FLAGS (\\Recent)",
        "APPEND INBOX nothing",
        'SELECT "',
        "CREATE &",
        'LIST "" "*" RETURN (NONSENSE)',
        "UID FETCH 4294967296 (UID)",
    ],
    ids=lambda command: command[:30],
)
def test_a_command_that_makes_no_sense_is_refused_and_the_session_goes_on(command: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        _, answer = await client.do(command)
        assert answer.startswith((b"BAD", b"NO")), answer
        assert await client.ok("FETCH 1 (UID)") == [b"* 1 FETCH (UID 1)"]

    run(talk)


def test_a_set_of_many_ranges_is_answered_or_refused() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        wanted = ",".join(str(2 * number + 1) for number in range(8_000))
        assert await client.ok(f"UID FETCH {wanted} (UID)") == [b"* 1 FETCH (UID 1)"]

    run(talk)


def test_who_does_not_log_in_in_time_is_told_bye() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        assert b"* BYE" in await _ends(client)

    run(talk, ImapLimits(login_s=0.2))


def test_bytes_that_are_no_text_are_refused() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(bytes(range(128, 256)) + b"\r\n\x00\r\na NOOP\r\n")
        said = b""
        while b"a OK" not in said:
            line = await client.response()
            assert line
            said += line
        assert said.count(b" BAD ") == 2

    run(talk)
