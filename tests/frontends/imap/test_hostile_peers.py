"""Peers that send far too much, or too slowly, or do not read. They are told why, and others go
on."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Coroutine
from typing import Any

import pytest

from raftmail.frontends.imap.limits import ImapLimits
from raftmail.net.connection import Connection
from tests.frontends.imap.imap_kit import ImapClient, filled, message, run, saved
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService
from tests.fuzzing import bounded_memory


async def ends(client: ImapClient) -> bytes:
    """What is said until the connection is closed."""
    said = b""
    while line := await client.response():
        said += line
    return said


def test_a_set_of_a_million_uids_is_refused_and_the_session_goes_on() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        other = await ImapClient(client.port).log_in()
        million = b",".join(b"%d" % (2 * number + 1) for number in range(1_000_000))
        with bounded_memory(24 << 20):
            client.send(b"a UID FETCH ")
            for at in range(0, len(million), 1 << 16):
                client.send(million[at : at + (1 << 16)])
                await client.writer.drain()
                if not at % (1 << 20):
                    await other.ok("NOOP")
            client.send(b" (UID)\r\n")
            _, answer = await client.answer(b"a")
        assert answer.startswith(b"BAD")
        assert await client.ok("FETCH 1 (UID)") == [b"* 1 FETCH (UID 1)"]
        await other.close()

    run(talk, service=MachineService())


def test_a_million_uids_as_one_range_are_nothing_special() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        with bounded_memory(4 << 20):
            assert len(await client.ok("UID FETCH 1:4294967294 (UID)")) == 2
            assert await client.ok("UID SEARCH UID 1:1000000,2000000:4294967295") == [
                b"* SEARCH 1 2"
            ]

    run(talk, service=MachineService())


def test_a_client_that_sends_octet_by_octet_is_answered() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        for octet in b"a APPEND INBOX {5+}\r\nab\r\nc\r\nb NOOP\r\n":
            client.send(bytes((octet,)))
            await client.writer.drain()
        assert (await client.answer(b"a"))[1].startswith(b"OK [APPENDUID")
        assert (await client.answer(b"b"))[1].startswith(b"OK")

    run(talk, service=MachineService())


def test_who_begins_a_command_and_says_nothing_more_is_told_bye() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        client.send(b"a APPEND INBOX {100+}\r\nhalf")
        assert b"* BYE half a command" in await ends(client)

    run(talk, ImapLimits(request_s=0.3), service=MachineService())


def test_who_closes_its_own_side_is_answered_and_let_go() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        client.send(b"a FETCH 1 (UID)\r\nb NOOP\r\n")
        client.writer.write_eof()
        said = await ends(client)
        assert said == b"" or said.startswith(b"* 1 FETCH (UID 1)\r\na OK")

    run(talk, service=MachineService())


def test_a_client_that_does_not_read_is_cut_off_and_the_others_go_on() -> None:
    watched = MachineService()

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 0)
        for _ in range(4):
            await saved(client, message("long", "x" * 1_000_000))
        deaf = await ImapClient(client.port).log_in()
        await deaf.ok("SELECT INBOX")
        with bounded_memory(40 << 20):
            deaf.send(b"".join(b"f%d FETCH 1:* (BODY.PEEK[])\r\n" % n for n in range(30)))
            while watched.watching > 1:
                await client.ok("NOOP")
        await deaf.close()
        await client.ok("FETCH 1 (UID)")

    run(talk, ImapLimits(slow_reader_s=0.5), service=watched)


def test_a_command_whose_client_is_gone_before_it_begins_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that is cancelled before its first step runs none of it."""
    begun = asyncio.Event()

    def spawn(self: Connection, work: Coroutine[Any, Any, None]) -> None:
        work.close()
        begun.set()

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        with monkeypatch.context() as patched, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            patched.setattr(Connection, "spawn", spawn)
            client.send(b"a FETCH 1 (FLAGS)\r\n")
            await begun.wait()
            gc.collect()
        assert not [one for one in warned if one.category is RuntimeWarning]

    run(talk, service=MachineService())
