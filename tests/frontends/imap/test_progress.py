"""INPROGRESS (RFC 9585): who waits long is told how far it is, and who does not hears nothing."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap import progress
from raftmail.frontends.imap.progress import TOLD_EVERY_S, CommandProgress
from tests.frontends.imap.imap_kit import ImapClient, filled, run
from tests.frontends.twin_service import TwinService


def test_progress_is_told_now_and_then_and_never_at_the_end() -> None:
    said: list[bytes] = []
    now = 0.0
    told = CommandProgress(said.append, b"a1", 10, lambda: now)
    told.add(1)
    assert not said
    now = TOLD_EVERY_S
    told.add(2)
    told.add(1)
    assert said == [b'* OK [INPROGRESS ("a1" 3 10)] this takes a while\r\n']
    now *= 2
    told.add(6)
    assert len(said) == 1, "it is done"


def test_a_long_search_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        monkeypatch.setattr(progress, "TOLD_EVERY_S", 0.0)
        said = await client.ok("SEARCH BODY hello")
        assert said == [
            b'* OK [INPROGRESS ("t6" 1 3)] this takes a while',
            b'* OK [INPROGRESS ("t6" 2 3)] this takes a while',
            b"* SEARCH 1 2 3",
        ]

    run(talk)


def test_a_quick_command_tells_nothing() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        assert await client.ok("SEARCH BODY hello") == [b"* SEARCH 1 2 3"]

    run(talk)
