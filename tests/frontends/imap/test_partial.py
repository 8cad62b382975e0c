"""PARTIAL (RFC 9394): a part of what a search has found, or of what UID FETCH names."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap.partial_range import PartialRange
from tests.frontends.imap.imap_kit import ImapClient, filled, run
from tests.frontends.twin_service import TwinService


@pytest.mark.parametrize(
    ("start", "stop", "from_end", "chosen"),
    [
        (1, 2, False, "ab"),
        (2, 1, False, "ab"),
        (4, 9, False, "de"),
        (6, 9, False, ""),
        (1, 2, True, "de"),
        (2, 1, True, "de"),
        (5, 5, True, "a"),
        (4, 9, True, "ab"),
        (6, 9, True, ""),
        (1, 2**32 - 1, True, "abcde"),
    ],
)
def test_a_range_counts_from_either_end(start: int, stop: int, from_end: bool, chosen: str) -> None:
    assert PartialRange(start, stop, from_end).of("abcde") == chosen
    assert PartialRange(start, stop, from_end).of("") == ""


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ("PARTIAL 1:2", b"UID PARTIAL (1:2 1:2)"),
        ("PARTIAL 2:1", b"UID PARTIAL (2:1 1:2)"),
        ("PARTIAL -1:-2", b"UID PARTIAL (-1:-2 4:5)"),
        ("PARTIAL 5:9 COUNT", b"UID PARTIAL (5:9 5) COUNT 5"),
        ("MIN PARTIAL 6:9", b"UID MIN 1 PARTIAL (6:9 NIL)"),
        ("PARTIAL 1:1 SAVE", b"UID PARTIAL (1:1 1)"),
    ],
)
def test_a_search_tells_the_part_that_is_asked_for(returns: str, said: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 5)
        (line,) = await client.ok(f"UID SEARCH RETURN ({returns}) ALL")
        assert line.endswith(b") " + said), line

    run(talk)


@pytest.mark.parametrize(
    ("returns", "saved"),
    [
        ("SAVE PARTIAL 2:3", "2 3"),
        ("SAVE PARTIAL -1:-2 MIN", "1 4 5"),
        ("SAVE PARTIAL 2:2 MIN MAX", "1 2 5"),
        ("SAVE PARTIAL 2:2 COUNT", "1 2 3 4 5"),
        ("SAVE PARTIAL 8:9", ""),
    ],
)
def test_what_is_saved_is_the_part_unless_all_were_counted(returns: str, saved: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 5)
        await client.ok(f"SEARCH RETURN ({returns}) ALL")
        assert await client.ok("SEARCH $") == [f"* SEARCH {saved}".rstrip().encode()]

    run(talk)


def test_uid_fetch_tells_of_a_part_and_then_of_what_has_changed() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 5)
        said = await client.ok("UID FETCH 1:9 (FLAGS) (PARTIAL -1:-2)")
        assert [line.split(b" ")[1] for line in said] == [b"4", b"5"]
        await client.ok("STORE 2,5 +FLAGS.SILENT (\\Seen)")
        said = await client.ok("UID FETCH 1:9 (FLAGS) (CHANGEDSINCE 6 PARTIAL 3:9)")
        assert [line.split(b" ")[1] for line in said] == [b"5"]

    run(talk)


@pytest.mark.parametrize(
    "command",
    [
        "FETCH 1:5 (FLAGS) (PARTIAL 1:2)",
        "UID FETCH 1:5 (FLAGS) (PARTIAL 1:-2)",
        "UID FETCH 1:5 (FLAGS) (PARTIAL 0:2)",
        "UID FETCH 1:5 (FLAGS) (PARTIAL 1:*)",
        "UID FETCH 1:5 (FLAGS) (PARTIAL 1:4294967296)",
        "UID FETCH 1:5 (FLAGS) (PARTIAL 1:2 PARTIAL 1:2)",
        "SEARCH RETURN (PARTIAL 1:2 ALL) ALL",
        "SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL",
        "SEARCH RETURN (PARTIAL) ALL",
    ],
)
def test_a_range_that_makes_no_sense_is_bad(command: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        _, answer = await client.do(command)
        assert answer.startswith(b"BAD"), answer

    run(talk)
