"""UTF8=ACCEPT (RFC 9755): UTF-8 in strings, names and headers, for those who have asked for it."""

from __future__ import annotations

import pytest

from tests.frontends.imap.imap_kit import ImapClient, filled, run
from tests.frontends.twin_service import TwinService

GREETING = "Gr\u00fc\u00dfe"
WITH_UTF8 = (
    f"From: J\u00f6rg <j\u00f6rg@example.org>\r\nSubject: {GREETING}\r\n\r\nhello\r\n"
).encode()


async def _enabled(client: ImapClient) -> None:
    await client.log_in()
    assert b"UTF8=ACCEPT" in (await client.ok("CAPABILITY"))[0].split()
    assert await client.ok("ENABLE UTF8=ACCEPT") == [b"* ENABLED UTF8=ACCEPT"]


def test_mailbox_names_go_as_utf8_in_quotes() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        name = f'"{GREETING}"'.encode()
        await client.ok(b"CREATE " + name)
        assert await client.ok('LIST "" "G*"') == [b'* LIST (\\HasNoChildren) "/" ' + name]
        await client.ok(b"SUBSCRIBE " + name)
        assert await client.ok('LSUB "" "G%"') == [b'* LSUB () "/" ' + name]
        assert await client.ok(b"STATUS " + name + b" (MESSAGES)") == [
            b"* STATUS " + name + b" (MESSAGES 0)"
        ]
        await client.ok(b"SELECT " + name)
        other = await ImapClient(client.port).log_in()
        (line,) = await other.ok('LIST "" "G*"')
        assert line.endswith(b"Gr&APwA3w-e"), "another has not asked for UTF-8"
        await other.close()

    run(talk)


def test_a_message_with_a_header_in_utf8_is_appended_and_read_as_it_is() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        size = len(WITH_UTF8)
        await client.ok(b"APPEND INBOX (\\Seen) UTF8 (~{%d+}\r\n%b)" % (size, WITH_UTF8))
        await client.ok("SELECT INBOX")
        (line,) = await client.ok("FETCH 1 (BODY.PEEK[])")
        assert line == b"* 1 FETCH (BODY[] {%d}\r\n%b)" % (size, WITH_UTF8)
        (line,) = await client.ok("FETCH 1 ENVELOPE")
        assert GREETING.encode() in line and "j\u00f6rg".encode() in line

    run(talk)


@pytest.mark.parametrize("extension", ["UTF8=ACCEPT", "IMAP4rev2"])
def test_a_part_of_a_catenation_may_be_utf8(extension: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok(f"ENABLE {extension}")
        head = WITH_UTF8[:-7]
        command = b"APPEND INBOX CATENATE (UTF8 (~{%d+}\r\n%b) TEXT {})" % (len(head), head)
        _, answer = await client.do(command, b"hello\r\n")
        assert answer.startswith(b"OK"), answer

    run(talk)


@pytest.mark.parametrize(
    "command",
    [
        b"APPEND INBOX UTF8 (~{%d+}\r\n%b)",
        b"APPEND INBOX CATENATE (UTF8 (~{%d+}\r\n%b))",
        b"REPLACE 1 INBOX UTF8 (~{%d+}\r\n%b)",
    ],
)
def test_utf8_is_refused_to_those_who_have_not_asked_for_it(command: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        _, answer = await client.do(command % (len(WITH_UTF8), WITH_UTF8))
        assert answer.startswith(b"NO [CANNOT]"), answer
        assert await client.ok("SEARCH ALL") == [b"* SEARCH 1"]

    run(talk)


@pytest.mark.parametrize("header", [b"Gr\xfc\xdfe", b"Gr\xc3\xbc\xc3\x9fe"])
def test_mail_that_is_copied_as_it_is_comes_in_whatever_its_header(header: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        body = b"Subject: %b\r\n\r\nGr\xfc\xdfe\r\n" % header
        await client.ok("APPEND INBOX {}", body)
        await client.ok("SELECT INBOX")
        (line,) = await client.ok("FETCH 1 (BODY.PEEK[])")
        assert body in line

    run(talk)


def test_a_search_takes_utf8_in_quotes_and_no_charset() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        await client.ok(b"APPEND INBOX UTF8 (~{%d+}\r\n%b)" % (len(WITH_UTF8), WITH_UTF8))
        await client.ok("SELECT INBOX")
        assert await client.ok(f'SEARCH SUBJECT "{GREETING}"'.encode()) == [b"* SEARCH 1"]
        assert await client.ok("SEARCH SUBJECT {}", GREETING.encode()) == [b"* SEARCH 1"]
        _, answer = await client.do(f'SEARCH CHARSET UTF-8 SUBJECT "{GREETING}"'.encode())
        assert answer.startswith(b"BAD"), answer

    run(talk)


@pytest.mark.parametrize("octets", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_what_is_no_utf8_in_quotes_is_bad(octets: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        await client.ok("SELECT INBOX")
        _, answer = await client.do(b'SEARCH SUBJECT "a%b"' % octets)
        assert answer.startswith(b"BAD"), answer
        _, answer = await client.do(b'CREATE "a%b"' % octets)
        assert answer.startswith(b"BAD"), answer

    run(talk)


def test_answers_of_rfc_3501_stay_those_of_rfc_3501() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await _enabled(client)
        assert b"* 0 RECENT" in await client.ok("SELECT INBOX")
        assert await client.ok("SEARCH ALL") == [b"* SEARCH"]

    run(talk)
