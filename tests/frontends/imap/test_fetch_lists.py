"""FETCH of lists says what FETCH of each message says, and costs one barrier."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap import fetch_lists
from raftmail.mail import queries as q
from tests.frontends.imap.imap_kit import ImapClient, filled, message, run
from tests.frontends.twin_service import TwinService


def values(lines: list[bytes]) -> list[bytes]:
    """Without what only one of the forms says."""
    return [
        line.replace(b" EMAILID", b"EMAILID").split(b"EMAILID")[0].rstrip(b")") for line in lines
    ]


@pytest.mark.parametrize(
    "items", ["FLAGS", "UID FLAGS ENVELOPE", "BODYSTRUCTURE BODY RFC822.SIZE", "MODSEQ UID"]
)
def test_lists_are_told_as_each_message_is(items: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_lists, "SUMMARIES_MAX", 3)
    monkeypatch.setattr(fetch_lists, "RECORDS_MAX", 2)

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 9)
        await client.ok("STORE 2,4 +FLAGS (\\Seen $odd)")
        await client.ok("UID STORE 5 +FLAGS (\\Deleted)")
        await client.ok("EXPUNGE")
        listed = await client.ok(f"FETCH 2:* ({items})")
        each = await client.ok(f"FETCH 2:* ({items} EMAILID)")
        assert len(listed) == 7
        assert values(listed) == values(each)

    run(talk)


def test_a_command_waits_for_one_barrier_and_a_write_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch_lists, "RECORDS_MAX", 2)

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 9)
        for command, barriers in (
            ("FETCH 1:* (FLAGS)", 1),
            ("NOOP", 1),
            ("FETCH 1:* (ENVELOPE)", 0),
            ("FETCH 1 (BODY.PEEK[])", 0),
            ("STORE 1:* +FLAGS (\\Seen)", 0),
            ("SEARCH UNSEEN", 1),
            ("SELECT INBOX", 1),
        ):
            before = service.barriers
            await client.ok(command)
            assert service.barriers - before == barriers, command

    run(talk)


def test_messages_that_are_gone_are_left_out_of_a_list() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 4)
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        await other.ok("STORE 2 +FLAGS (\\Deleted)")
        await other.ok("EXPUNGE")
        said, answer = await client.do("FETCH 1:4 (RFC822.SIZE)")
        assert [line.split()[1] for line in said] == [b"1", b"3", b"4"]
        assert answer.startswith(b"OK [EXPUNGEISSUED]")
        await other.close()

    run(talk)


def test_flags_that_a_list_has_told_are_not_told_again() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        await other.ok("STORE 2 +FLAGS (\\Flagged)")
        said = await client.ok("FETCH 1:* (FLAGS)")
        assert said == [
            b"* 1 FETCH (FLAGS ())",
            b"* 2 FETCH (FLAGS (\\Flagged))",
            b"* 3 FETCH (FLAGS ())",
        ]
        assert await client.ok("NOOP") == []
        await other.close()

    run(talk)


def test_what_never_changes_is_told_of_a_message_that_came_since() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        other = await ImapClient(client.port).log_in()
        await other.ok("APPEND INBOX {}", message("late"))
        await client.ok("NOOP")
        said = await client.ok("FETCH 2 (ENVELOPE)")
        assert b"late" in said[0]
        await other.close()

    run(talk)


class _OneByOne(TwinService):
    """Brings no messages together."""

    def _query(self, query: q.Query) -> q.Answer:
        if isinstance(query, q.FetchBodies):
            return q.MessageBodies(())
        return super()._query(query)


class _Counting(TwinService):
    """Notes which queries bring messages."""

    def __init__(self) -> None:
        super().__init__()
        self.brought: list[type] = []

    def _query(self, query: q.Query) -> q.Answer:
        if isinstance(query, q.FetchBodies | q.FetchBody):
            self.brought.append(type(query))
        return super()._query(query)


@pytest.mark.parametrize("service", [_OneByOne(), TwinService()])
def test_text_is_found_whether_messages_come_together_or_not(service: TwinService) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for at in range(20):
            text = "needle" if at % 3 else "straw"
            await client.ok("APPEND INBOX {}", message(f"m{at}", text * (1 if at % 5 else 20_000)))
        await client.ok("SELECT INBOX")
        expected = b"".join(b" %d" % (at + 1) for at in range(20) if at % 3)
        assert await client.ok("SEARCH BODY needle") == [b"* SEARCH" + expected]
        assert await client.ok("SEARCH OR BODY needle SUBJECT m0") == [b"* SEARCH 1" + expected]

    run(talk, service=service)


def test_a_search_has_short_messages_brought_together() -> None:
    service = _Counting()

    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 2 * q.TOGETHER_MAX + 1)
        await client.ok("SEARCH BODY nothing")
        assert service.brought == [q.FetchBodies] * 3

    run(talk, service=service)
