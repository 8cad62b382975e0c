"""APPEND by CATENATE (RFC 4469), and REPLACE (RFC 8508)."""

from __future__ import annotations

from typing import Any

import pytest

from raftmail.frontends.imap import catenate
from raftmail.frontends.imap.grammar_mailbox import CATENATED_MAX
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.mail import commands as c
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.results import Executed
from tests.frontends.imap.imap_kit import USER, ImapClient, filled, message, run
from tests.frontends.twin_service import TwinService

TWO_PARTS = (
    b"Subject: two\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n"
    b"--bb\r\nContent-Type: text/plain\r\n\r\none\r\n--bb\r\nContent-Type: text/html\r\n\r\n"
    b"<p>two</p>\r\n--bb--\r\n"
)


async def _body(client: ImapClient, mailbox: str, number: int) -> bytes:
    other = await ImapClient(client.port).log_in()
    await other.ok(f"SELECT {mailbox}")
    (line,) = await other.ok(f"FETCH {number} (BODY.PEEK[])")
    await other.close()
    head, _, rest = line.partition(b"}\r\n")
    return rest[: int(head.rpartition(b"{")[2])]


def _recorded(service: TwinService, monkeypatch: pytest.MonkeyPatch) -> list[c.Command]:
    """What is executed from here on."""
    commands: list[c.Command] = []
    execute = service.execute

    async def recorded(command: c.Command, **how: Any) -> Executed:
        commands.append(command)
        return await execute(command, **how)

    monkeypatch.setattr(service, "execute", recorded)
    return commands


# -- CATENATE ----------


def test_a_message_is_put_together_from_texts_and_parts() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE Drafts")
        _, answer = await client.do("APPEND Drafts {}", TWO_PARTS)
        validity = answer.split(b"APPENDUID ")[1].split(b" ")[0]
        _, answer = await client.do(
            b'APPEND INBOX (\\Seen) CATENATE (URL "/Drafts;UIDVALIDITY=%b/;UID=1/;SECTION=HEADER"'
            b' TEXT {} URL /Drafts/;UID=1/;section=2 TEXT {} URL "/Drafts/;UID=1/;PARTIAL=9.3")'
            % validity,
            b"first\r\n",
            b"\r\nlast ",
        )
        assert answer.startswith(b"OK [APPENDUID "), answer
        header = TWO_PARTS[: TWO_PARTS.index(b"\r\n\r\n") + 4]
        assert await _body(client, "INBOX", 1) == header + b"first\r\n<p>two</p>\r\nlast two"

    run(talk)


def test_a_url_may_be_relative_to_the_mailbox_that_is_selected() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        _, answer = await client.do('APPEND INBOX CATENATE (URL ";UID=2")')
        assert answer.startswith(b"OK"), answer
        assert await _body(client, "INBOX", 3) == message("number 2")
        (line,) = await client.ok("FETCH 2 (FLAGS)")
        assert line == b"* 2 FETCH (FLAGS ())", "what is copied from is not seen"

    run(talk)


def test_several_messages_are_one_command_also_when_some_are_put_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        commands = _recorded(service, monkeypatch)
        _, answer = await client.do(
            "APPEND INBOX (\\Seen) CATENATE (URL ;UID=1 TEXT {}) {}", b"more\r\n", message("x")
        )
        assert b" 2:3]" in answer
        assert await _body(client, "INBOX", 2) == message("number 1") + b"more\r\n"
        assert [type(one) for one in commands] == [c.Save]

    run(talk)


@pytest.mark.parametrize(
    "url",
    [
        "/Nowhere/;UID=1",
        "/INBOX/;UID=9",
        "/INBOX;UIDVALIDITY=7/;UID=1",
        "/INBOX/;UID=1/;SECTION=5",
        "imap://example.org/INBOX/;UID=1",
        "/a%2F%2Fb/;UID=1",
        "nonsense",
    ],
)
def test_a_url_that_leads_nowhere_is_told_and_nothing_is_saved(url: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        command = f'APPEND INBOX CATENATE (URL ";UID=1" URL "{url}" TEXT {{}})'
        _, answer = await client.do(command, b"x")
        assert answer.startswith(b"NO [BADURL %b] " % url.encode()), answer
        (line,) = await client.ok("STATUS INBOX (MESSAGES)")
        assert line.endswith(b"(MESSAGES 1)")

    run(talk)


def test_a_bad_url_cannot_break_the_answer() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        _, answer = await client.do("APPEND INBOX CATENATE (URL {})", b"a] b\xc3\xbc\r\n")
        assert answer.startswith(b"NO [BADURL a%5D%20b%C3%BC%0D%0A] "), answer

    run(talk)


def test_what_is_put_together_has_the_limits_of_a_message() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        urls = " ".join(["URL ;UID=1"] * 9)
        _, answer = await client.do(f"APPEND INBOX CATENATE ({urls})")
        assert answer.startswith(b"NO [TOOBIG]"), answer
        _, answer = await client.do("APPEND INBOX CATENATE (TEXT {})", b"")
        assert answer.startswith(b"NO [CANNOT]"), answer

    run(talk, ImapLimits(message_bytes_max=1000))


def test_what_one_command_puts_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        monkeypatch.setattr(catenate, "COMMAND_BYTES_MAX", 3 * len(message("number 1")))
        one = "CATENATE (URL ;UID=1)"
        await client.ok(f"APPEND INBOX {one} {one} {one}")
        _, answer = await client.do(f"APPEND INBOX {one} {one} {one} {one}")
        assert answer.startswith(b"NO [TOOBIG]"), answer
        _, answer = await client.do(f"APPEND INBOX CATENATE (URL x{' URL x' * CATENATED_MAX})")
        assert answer.startswith(b"NO [LIMIT]"), answer
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 1 2 3 4"]

    run(talk)


@pytest.mark.parametrize(
    "command",
    [
        "APPEND INBOX CATENATE ()",
        "APPEND INBOX CATENATE (TEXT quoted)",
        "APPEND INBOX CATENATE (NONE ;UID=1)",
        "APPEND INBOX CATENATE URL ;UID=1",
    ],
)
def test_a_catenation_that_makes_no_sense_is_bad(command: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        _, answer = await client.do(command)
        assert answer.startswith(b"BAD"), answer

    run(talk)


# -- BINARY (RFC 3516) ----------


def test_a_message_with_nul_comes_as_literal8_and_goes_as_one() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        body = b"Content-Transfer-Encoding: binary\r\n\r\na\0b"
        await client.ok(b"APPEND INBOX ~{%d+}\r\n%b" % (len(body), body))
        await client.ok("SELECT INBOX")
        client.send(b"b FETCH 1 (BINARY.SIZE[1] BINARY.PEEK[1]<1.9>)\r\n")
        told = b"* 1 FETCH (BINARY.SIZE[1] 3 BINARY[1]<1> ~{2}\r\n\0b)\r\n"
        assert await client.reader.readexactly(len(told)) == told
        assert (await client.answer(b"b"))[1].startswith(b"OK")
        assert await client.ok("FETCH 1 (FLAGS)") == [b"* 1 FETCH (FLAGS ())"]
        client.send(b"c FETCH 1 (BINARY[1])\r\n")
        told = b"* 1 FETCH (BINARY[1] ~{3}\r\na\0b FLAGS (\\Seen))\r\n"
        assert await client.reader.readexactly(len(told)) == told
        assert (await client.answer(b"c"))[1].startswith(b"OK")

    run(talk)


def test_what_has_an_unknown_encoding_is_refused_and_the_next_is_answered() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("APPEND INBOX {}", b"Content-Transfer-Encoding: x-none\r\n\r\nhi\r\n")
        await client.ok("SELECT INBOX")
        for item in ("BINARY.PEEK[1]", "BINARY.SIZE[1]"):
            _, answer = await client.do(f"FETCH 1 ({item})")
            assert answer.startswith(b"NO [UNKNOWN-CTE]"), answer
        await client.ok("NOOP")

    run(talk)


# -- REPLACE ----------


@pytest.mark.parametrize("command", ["REPLACE 2", "UID REPLACE 2"])
def test_replace_tells_the_new_uid_before_the_old_message_goes(command: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        said, answer = await client.do(f"{command} INBOX (\\Draft) {{}}", message("new"))
        assert answer.startswith(b"OK ")
        assert said[0].startswith(b"* OK [APPENDUID ") and said[0].split(b"]")[0].endswith(b" 4")
        assert said[1:3] == [b"* 2 EXPUNGE", b"* 3 EXISTS"]
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 1 3 4"]
        assert await _body(client, "INBOX", 3) == message("new")

    run(talk)


def test_replace_is_one_command_and_may_go_to_another_mailbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        await client.ok("CREATE Sent")
        commands = _recorded(service, monkeypatch)
        said, _ = await client.do("REPLACE * Sent {}", message("sent"))
        assert said[1:] == [b"* 2 EXPUNGE"]
        assert [type(one) for one in commands] == [c.Save]
        assert await _body(client, "Sent", 1) == message("sent")

    run(talk)


def test_replace_takes_a_catenation() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        _, answer = await client.do(
            "UID REPLACE 1 INBOX CATENATE (TEXT {} URL /INBOX/;UID=1)", b"To: a@b.example\r\n"
        )
        assert answer.startswith(b"OK"), answer
        assert await _body(client, "INBOX", 1) == b"To: a@b.example\r\n" + message("number 1")

    run(talk)


def test_replace_of_what_is_gone_saves_nothing() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        await other.ok("STORE 1 +FLAGS (\\Deleted)")
        await other.ok("EXPUNGE")
        await other.close()
        _, answer = await client.do("REPLACE 1 INBOX {}", message("new"))
        assert answer.startswith(b"NO [NONEXISTENT]"), answer
        _, answer = await client.do("UID REPLACE 77 INBOX {}", message("new"))
        assert answer.startswith(b"NO [NONEXISTENT]"), answer
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 2", b"* 1 EXPUNGE"]

    run(talk)


def test_replace_into_a_mailbox_that_is_missing_keeps_the_message() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        _, answer = await client.do("REPLACE 1 Nowhere {}", message("new"))
        assert answer.startswith(b"NO [TRYCREATE]"), answer
        _, answer = await client.do("REPLACE 9 INBOX {}", message("new"))
        assert answer.startswith(b"BAD"), answer
        assert await client.ok("UID SEARCH ALL") == [b"* SEARCH 1"]
        await client.ok("EXAMINE INBOX")
        _, answer = await client.do("REPLACE 1 INBOX {}", message("new"))
        assert answer.startswith(b"NO"), answer
        await client.ok("UNSELECT")
        _, answer = await client.do("REPLACE 1 INBOX {}", message("new"))
        assert answer.startswith(b"BAD"), answer

    run(talk)


def test_replace_that_has_no_outcome_is_never_told_as_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)

        async def none(command: c.Command, **_: object) -> None:
            raise Unavailable(Failure("no master", unknown=True))

        monkeypatch.setattr(service, "execute", none)
        said, answer = await client.do("REPLACE 1 INBOX {}", message("new"))
        assert not said and answer.startswith(b"NO [UNAVAILABLE]"), (said, answer)

    run(talk)


def test_a_large_literal_of_replace_is_a_message_and_not_a_string() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        long = message("long", "x" * 200_000)
        for command in ("REPLACE 1 INBOX {}", "UID REPLACE 2 INBOX {}"):
            _, answer = await client.do(command, long)
            assert answer.startswith(b"OK"), answer
        assert service.find(USER, "INBOX") is not None

    run(talk)
