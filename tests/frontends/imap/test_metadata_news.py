"""Changes of annotations are told to who asked for it, by ENABLE or NOTIFY, by name alone.

RFC 5464 section 4.4.2, RFC 5465 sections 5.6 and 5.7."""

from __future__ import annotations

from raftmail.mail.changes import Missed
from raftmail.mail.failures import Failure
from tests.frontends.imap.imap_kit import USER, ImapClient, Talk, run
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService


def with_other(talk: Talk) -> None:
    """Run it with a client that has logged in, and mailboxes A and B."""

    async def prepared(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for name in ("A", "B"):
            await client.ok(f"CREATE {name}")
        await talk(client, service)

    run(prepared, service=MachineService())


async def another(client: ImapClient) -> ImapClient:
    return await ImapClient(client.port).log_in()


def test_who_enabled_metadata_is_told_with_the_next_command() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await other.ok('SETMETADATA A (/private/comment "before")')
        assert await client.ok("ENABLE METADATA") == [b"* ENABLED METADATA"]
        await other.ok('SETMETADATA A (/private/comment "x" /shared/vendor/us/y "z")')
        await other.ok('SETMETADATA "" (/private/comment "x")')
        assert await client.ok("NOOP") == [
            b'* METADATA "" /private/comment',
            b"* METADATA A /private/comment /shared/vendor/us/y",
        ]
        assert await client.ok("NOOP") == []
        await other.ok("SETMETADATA A (/private/comment NIL)")
        assert await client.ok("STATUS B (MESSAGES)") == [
            b"* STATUS B (MESSAGES 0)",
            b"* METADATA A /private/comment",
        ]
        await other.ok("DELETE A")
        assert await client.ok("NOOP") == []
        await other.close()

    with_other(talk)


def test_nobody_else_is_told_and_the_server_alone_can_be_asked_for() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await other.ok('SETMETADATA A (/private/comment "x")')
        assert await client.ok("NOOP") == []
        assert await client.ok("ENABLE METADATA-SERVER") == [b"* ENABLED METADATA-SERVER"]
        await other.ok('SETMETADATA A (/private/comment "y")')
        await other.ok('SETMETADATA "" (/private/comment "x")')
        assert await client.ok("NOOP") == [b'* METADATA "" /private/comment']
        await other.close()

    with_other(talk)


def test_a_client_is_not_told_of_what_it_set_itself() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await client.ok("ENABLE METADATA")
        assert await client.ok('SETMETADATA A (/private/x "1" /private/y "1")') == []
        assert await client.ok('SETMETADATA "" (/private/x "1")') == []
        assert await client.ok("SETMETADATA A (/private/x NIL)") == []
        assert await client.ok('SETMETADATA A (/private/specialuse "\\\\sent")') == []
        assert await client.ok("NOOP") == []
        assert await client.ok('SETMETADATA A (/private/specialuse "")') == []
        assert await client.ok("NOOP") == []
        await other.ok('SETMETADATA A (/private/y "2")')
        assert await client.ok("NOOP") == [b"* METADATA A /private/y"]
        await other.close()

    with_other(talk)


def test_who_idles_is_told_at_once() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await client.ok("ENABLE METADATA")
        client.send(b"i IDLE\r\n")
        assert (await client.response()).startswith(b"+")
        await other.ok('SETMETADATA A (/private/comment "x")')
        assert await client.response() == b"* METADATA A /private/comment\r\n"
        client.send(b"DONE\r\n")
        assert (await client.answer(b"i"))[0] == []
        await other.close()

    with_other(talk)


def test_what_was_missed_is_found_by_comparing() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        assert isinstance(service, MachineService)
        other = await another(client)
        await client.ok("ENABLE METADATA")
        await other.ok('SETMETADATA A (/private/comment "x")')
        service.watchers.missed()
        assert await client.ok("NOOP") == [b"* METADATA A /private/comment"]
        service.watchers.missed()
        assert await client.ok("NOOP") == []
        await other.close()

    with_other(talk)


def test_notify_tells_of_mailboxes_and_of_the_server_as_it_is_asked() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await client.ok("NOTIFY SET (mailboxes A (MailboxMetadataChange))")
        await other.ok('SETMETADATA B (/private/comment "not asked for")')
        await other.ok('SETMETADATA "" (/private/comment "not asked for")')
        await other.ok('SETMETADATA A (/private/comment "x")')
        assert await client.response() == b"* METADATA A /private/comment\r\n"
        await client.ok("NOTIFY SET (mailboxes B (ServerMetadataChange))")
        await other.ok('SETMETADATA A (/private/comment "not asked for")')
        await other.ok('SETMETADATA "" (/private/comment "x")')
        assert await client.response() == b'* METADATA "" /private/comment\r\n'
        await client.ok("NOTIFY NONE")
        await other.ok('SETMETADATA "" (/private/comment "y")')
        assert await client.ok("NOOP") == []
        await other.close()

    with_other(talk)


def test_a_special_use_that_changes_is_told_as_an_annotation() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await client.ok("NOTIFY SET (personal (MailboxMetadataChange))")
        await other.ok('SETMETADATA A (/private/specialuse "\\\\Junk")')
        assert await client.response() == b"* METADATA A /private/specialuse\r\n"
        await other.close()

    with_other(talk)


def test_what_cannot_be_read_now_is_told_later() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        other = await another(client)
        await client.ok("ENABLE METADATA")
        await other.ok('SETMETADATA INBOX (/private/comment "x")')
        for asks, command in ((client, "NOOP"), (other, "ENABLE METADATA")):
            service.failures.append(Failure("no master"))
            _, answer = await asks.do(command)
            assert answer.startswith(b"NO [UNAVAILABLE]"), command
        assert await client.ok("NOOP") == [b"* METADATA INBOX /private/comment"]
        await other.close()

    run(talk)


def test_a_twin_that_says_missed_to_all_leads_to_the_same() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("ENABLE METADATA")
        other = await another(client)
        await other.ok('SETMETADATA INBOX (/private/comment "x")')
        for _, watch in service.watches:
            watch.hear(Missed(USER))
        assert await client.ok("NOOP") == [b"* METADATA INBOX /private/comment"]
        await other.close()

    run(talk)
