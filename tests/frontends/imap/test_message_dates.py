"""INTERNALDATE as the client gave it, and SAVEDATE (RFC 8514)."""

from __future__ import annotations

import pytest

from tests.frontends.imap.imap_kit import ImapClient, filled, message, run
from tests.frontends.twin_service import TwinService

LATE = '"27-Dec-2025 23:30:00 -0800"'


async def _appended(client: ImapClient, date: str = LATE) -> None:
    await client.log_in()
    await client.ok(f"APPEND INBOX {date} {{}}" if date else "APPEND INBOX {}", message("one"))
    await client.ok("SELECT INBOX")


@pytest.mark.parametrize(
    "date",
    [
        LATE,
        '" 3-Feb-2026 01:02:03 +0100"',
        '"01-Jan-1970 00:00:00 +1400"',
        '"31-Dec-1969 23:59:59 -0330"',
        '"29-Feb-2024 12:00:00 +0000"',
    ],
)
def test_internaldate_comes_back_in_the_zone_in_which_it_was_given(date: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _appended(client, date)
        shown = date.replace('"0', '" ').encode()
        assert await client.ok("FETCH 1 INTERNALDATE") == [b"* 1 FETCH (INTERNALDATE %b)" % shown]

    run(talk)


def test_a_message_without_a_date_is_received_now_in_utc() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _appended(client, "")
        (line,) = await client.ok("FETCH 1 (INTERNALDATE SAVEDATE)")
        now = b'"14-Nov-2023 22:13:20 +0000"'
        assert line == b"* 1 FETCH (INTERNALDATE %b SAVEDATE %b)" % (now, now)

    run(talk)


@pytest.mark.parametrize("how", ["COPY", "MOVE"])
def test_a_copy_keeps_its_zone_and_has_a_savedate_of_its_own(how: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _appended(client)
        await client.ok("CREATE Other")
        await client.ok(f"{how} 1 Other")
        await client.ok("SELECT Other")
        (line,) = await client.ok("FETCH 1 (INTERNALDATE SAVEDATE)")
        assert line == (
            b'* 1 FETCH (INTERNALDATE %b SAVEDATE "14-Nov-2023 22:13:20 +0000")' % LATE.encode()
        )

    run(talk)


@pytest.mark.parametrize(
    ("key", "is_found"),
    [
        ("ON 27-Dec-2025", True),
        ("ON 28-Dec-2025", False),
        ("BEFORE 28-Dec-2025", True),
        ("SINCE 28-Dec-2025", False),
        ("SINCE 27-Dec-2025", True),
        ("SAVEDON 14-Nov-2023", True),
        ("SAVEDON 27-Dec-2025", False),
        ("SAVEDBEFORE 15-Nov-2023", True),
        ("SAVEDBEFORE 14-Nov-2023", False),
        ("SAVEDSINCE 14-Nov-2023", True),
        ("SAVEDSINCE 15-Nov-2023", False),
        ("SAVEDATESUPPORTED", True),
        ("NOT SAVEDATESUPPORTED", False),
    ],
)
def test_a_search_goes_by_the_day_as_it_is_written(key: str, is_found: bool) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _appended(client)
        assert await client.ok(f"SEARCH {key}") == [b"* SEARCH 1" if is_found else b"* SEARCH"]

    run(talk)


def test_a_message_without_a_savedate_of_its_own_was_saved_when_it_was_received() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        assert await client.ok("SEARCH SAVEDON 14-Nov-2023") == [b"* SEARCH 1"]
        assert (await client.ok("CAPABILITY"))[0].count(b" SAVEDATE") == 1

    run(talk)
