"""What a client did itself is known from the answer of the cluster: nothing has to be read."""

from __future__ import annotations

import pytest

from raftmail.mail import queries as q
from tests.frontends.imap.imap_kit import ImapClient, filled, message, run
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService


class Asked(MachineService):
    """Counts what is read."""

    reads = 0

    def _query(self, query: q.Query) -> q.Answer:
        self.reads += 1
        return super()._query(query)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (r"STORE 1:2 +FLAGS.SILENT (\Seen)", []),
        (r"UID STORE 1:2 -FLAGS.SILENT (\Seen)", []),
        ("EXPUNGE", [b"* 3 EXPUNGE"]),
        ("UID EXPUNGE 3", [b"* 3 EXPUNGE"]),
        ("MOVE 2 x", [b"* 2 EXPUNGE"]),
        ("COPY 2 x", []),
    ],
)
def test_a_write_of_who_knows_the_mailbox_reads_nothing(command: str, told: list[bytes]) -> None:
    service = Asked()

    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 4)
        await client.ok("CREATE x")
        await client.ok(r"STORE 3 +FLAGS (\Deleted)")
        await client.ok("NOOP")
        before = service.reads
        said = await client.ok(command)
        assert [line for line in said if not line.startswith(b"* OK [COPYUID")] == told
        assert service.reads == before
        assert await client.ok("NOOP") == [], "there was nothing else to tell"

    run(talk, service=service)


def test_an_own_message_is_told_without_a_read_and_as_others_read_it() -> None:
    service = Asked()

    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 1)
        before = service.reads
        body = message("new")
        said = await client.ok(r"APPEND INBOX (\flagged \Seen) {}", body)
        assert said == [b"* 2 EXISTS", rb"* 2 FETCH (UID 2 FLAGS (\Seen \Flagged))"]
        assert service.reads == before
        (line,) = await client.ok("UID FETCH 2 (FLAGS)")
        assert line == said[1]
        said = await client.ok("APPEND INBOX ($Mine) {}", body)
        assert said[-1] == b"* 3 FETCH (UID 3 FLAGS ($Mine))", "a keyword is spelled as it is kept"

    run(talk, service=service)


def test_a_silent_store_tells_the_modseq_of_all_without_a_read() -> None:
    service = Asked()

    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 2)
        await client.ok("ENABLE CONDSTORE")
        await client.ok("NOOP")
        before = service.reads
        await client.ok(r"STORE 1:2 +FLAGS.SILENT (\Seen)")
        told = {one.number: one.value["MODSEQ"] for one in client.heard if one.kind == "FETCH"}
        assert service.reads == before
        await client.ok("FETCH 1:2 (MODSEQ)")
        assert told == {one.number: one.value["MODSEQ"] for one in client.heard if one.number}

    run(talk, service=service)


def test_a_mailbox_is_closed_without_a_write_where_nothing_is_marked() -> None:
    service = Asked()

    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 3)
        before = service.executions
        assert await client.ok("CLOSE") == []
        assert service.executions == before
        await client.ok("SELECT INBOX")
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        await other.ok(r"STORE 2 +FLAGS.SILENT (\Deleted)")
        await other.close()
        await client.ok("CLOSE")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 2)"]
        await client.ok("CREATE x")
        await client.ok("SELECT x")
        other = await ImapClient(client.port).log_in()
        await other.ok("DELETE x")
        await other.close()
        assert await client.ok("CLOSE") == []

    run(talk, service=service)


def test_what_others_did_before_an_own_change_is_told_with_its_answer() -> None:
    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 3)
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        for own, theirs, told in (
            (r"STORE 1 +FLAGS.SILENT (\Deleted)", r"STORE 2 +FLAGS.SILENT (\Seen)", b"\\Seen"),
            ("EXPUNGE", r"STORE 3 +FLAGS.SILENT (\Flagged)", b"\\Flagged"),
        ):
            await other.ok(theirs)
            said = await client.ok(own)
            assert any(told in line for line in said), said
        await other.close()

    run(talk, service=MachineService())
