"""UIDONLY (RFC 9586): no sequence number goes in either direction."""

from __future__ import annotations

import pytest

from tests.frontends.imap.imap_kit import ImapClient, filled, message, run
from tests.frontends.twin_service import TwinService


async def _enabled(client: ImapClient, count: int = 3) -> None:
    await filled(client, count)
    assert await client.ok("ENABLE UIDONLY") == [b"* ENABLED UIDONLY"]


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1 (FLAGS)",
        "STORE 1 FLAGS ()",
        "SEARCH ALL",
        "SORT (DATE) UTF-8 ALL",
        "THREAD REFERENCES UTF-8 ALL",
        "COPY 1 x",
        "MOVE 1 x",
        "UID SEARCH 1",
        "UID SEARCH NOT (OR SEEN 1:*)",
        "UID SORT (DATE) UTF-8 2",
        "SELECT INBOX (QRESYNC (1 5 (1,3 1,3)))",
    ],
)
def test_sequence_numbers_are_refused(command: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        _, answer = await client.do(command)
        assert answer.startswith(b"BAD [UIDREQUIRED] "), answer
        await client.ok("NOOP")

    run(talk)


def test_messages_are_told_by_uid() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        await client.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok("EXPUNGE") == [b"* VANISHED 1"]
        assert await client.ok("UID FETCH 2 (FLAGS)") == [b"* 2 UIDFETCH (FLAGS ())"]
        assert await client.ok("UID FETCH 2 (UID FLAGS)") == [b"* 2 UIDFETCH (UID 2 FLAGS ())"]
        assert await client.ok("UID STORE 3 +FLAGS (\\Seen)") == [b"* 3 UIDFETCH (FLAGS (\\Seen))"]
        assert await client.ok("UID SEARCH UNSEEN") == [b"* SEARCH 2"]
        await client.ok("UID SEARCH RETURN (SAVE) UNSEEN")
        assert await client.ok("UID SEARCH $") == [b"* SEARCH 2"]

    run(talk)


def test_what_others_do_is_told_by_uid() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        await other.ok("STORE 1 +FLAGS (\\Deleted)")
        await other.ok("EXPUNGE")
        await other.ok("STORE 1 +FLAGS (\\Flagged)")
        await other.ok("APPEND INBOX {}", message("four"))
        assert await client.ok("NOOP") == [
            b"* VANISHED 1",
            b"* 3 EXISTS",
            b"* 2 UIDFETCH (FLAGS (\\Flagged))",
            b"* 4 UIDFETCH (FLAGS ())",
        ]
        await other.close()

    run(talk)


def test_select_tells_no_sequence_number() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        assert any(b"[UNSEEN 1]" in line for line in await _selected_by_another(client))
        assert not any(b"[UNSEEN" in line for line in await client.ok("SELECT INBOX"))
        await client.ok("UID FETCH 1 (FLAGS)")

    run(talk)


async def _selected_by_another(client: ImapClient) -> list[bytes]:
    other = await ImapClient(client.port).log_in()
    said = await other.ok("SELECT INBOX")
    await other.close()
    return said


def test_qresync_tells_what_changed_by_uid() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        await client.ok("ENABLE QRESYNC")
        said = await client.ok("SELECT INBOX")
        validity = next(line for line in said if b"UIDVALIDITY" in line).split(b"]")[0].split()[-1]
        await client.ok("UID STORE 2 +FLAGS (\\Seen)")
        said = await client.ok(b"SELECT INBOX (QRESYNC (%b 4))" % validity)
        assert said[-1].startswith(b"* 2 UIDFETCH (FLAGS (\\Seen) MODSEQ (")

    run(talk)
