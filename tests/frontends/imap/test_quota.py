"""QUOTA (RFC 9208): who is limited has one root, and is told what would make room."""

from __future__ import annotations

from raftmail.service.passwords import hash_password
from tests.frontends.imap.imap_kit import PASSWORD, ImapClient, message, run
from tests.frontends.twin_service import TwinService

SMALL = "small@example.org"


async def log_in_small(client: ImapClient, service: TwinService) -> None:
    service.users[SMALL] = hash_password(PASSWORD.encode())
    await client.connect()
    await client.ok(f"LOGIN {SMALL} {PASSWORD}")


def test_who_is_limited_is_told_of_storage_and_messages() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await log_in_small(client, service)
        await client.ok("APPEND INBOX {}", message("one"))
        quota = b'* QUOTA "" (STORAGE 1 0 MESSAGE 1 4294967294)'
        assert await client.ok("GETQUOTAROOT INBOX") == [b'* QUOTAROOT INBOX ""', quota]
        assert await client.ok('GETQUOTA ""') == [quota]
        _, answer = await client.do("GETQUOTA other")
        assert answer.startswith(b"NO [NONEXISTENT]")

    run(talk)


def test_who_is_not_limited_has_no_root() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        assert await client.ok("GETQUOTAROOT INBOX") == [b"* QUOTAROOT INBOX"]
        _, answer = await client.do('GETQUOTA ""')
        assert answer.startswith(b"NO [NONEXISTENT]")

    run(talk)


def test_what_an_expunge_would_free_is_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for text in ("one", "three", "seven"):
            await client.ok("APPEND INBOX {}", message(text))
        await client.ok("SELECT INBOX")
        await client.ok("STORE 1,3 +FLAGS (\\Deleted)")
        freed = len(message("one")) + len(message("seven"))
        said = await client.ok("STATUS INBOX (DELETED DELETED-STORAGE)")
        assert said == [b"* STATUS INBOX (DELETED 2 DELETED-STORAGE %d)" % freed]

    run(talk)
