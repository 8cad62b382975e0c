"""APPEND, flags, COPY and MOVE as mail programs in the field send them."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap.limits import ImapLimits
from tests.frontends.imap.imap_kit import USER, ImapClient, filled, message, run, saved
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService


@pytest.mark.parametrize(
    ("date", "shown"),
    [
        (" 3-Feb-2026 01:02:03 +0100", True),
        ("03-Feb-2026 01:02:03 +0100", True),
        ("3-Feb-2026 01:02:03 +0100", True),
        ("03-feb-2026 01:02:03 +0100", True),
        ("31-Feb-2026 01:02:03 +0100", False),
        ("3-Foo-2026 01:02:03 +0100", False),
        ("3-Feb-2026 25:02:03 +0100", False),
        ("3-Feb-2026", False),
    ],
)
def test_a_date_is_taken_as_telephones_send_it_and_one_that_there_is_not_is_refused(
    date: str, shown: bool
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        _, answer = await client.do(f'APPEND INBOX "{date}" {{}}', message("x"))
        await client.ok("SELECT INBOX")
        if not shown:
            assert answer.startswith(b"BAD")
            assert client.heard[-2].kind != "FETCH" and not await client.ok("FETCH 1:* (UID)")
            return
        assert answer.startswith(b"OK")
        (line,) = await client.ok("FETCH 1 (INTERNALDATE)")
        assert b'INTERNALDATE " 3-Feb-2026' in line

    run(talk, service=MachineService())


def test_what_is_too_large_is_refused_before_it_is_sent_or_read_past_and_never_executed() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        client.send(b"a APPEND INBOX {999999999999}\r\n")
        said, answer = await client.answer(b"a")
        assert not said and answer.startswith(b"NO [TOOBIG]")
        client.send(b"b APPEND nope {5+}\r\nx NOO\r\nc NOOP\r\n")
        assert (await client.answer(b"b"))[1].startswith(b"NO [TRYCREATE]")
        assert (await client.answer(b"c"))[1].startswith(b"OK")
        client.send(b"d APPEND INBOX (\\Seen) {2000+}\r\n" + b"y LOGOUT\r\n" * 200 + b"\r\n")
        assert (await client.answer(b"d"))[1].startswith(b"NO [TOOBIG]")
        await client.ok("NOOP")

    run(talk, ImapLimits(message_bytes_max=1000), service=MachineService())


def test_a_literal_beyond_all_bounds_that_comes_unasked_ends_the_connection_with_words() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        client.send(b"d APPEND INBOX {999999999999+}\r\nx LOGOUT\r\n")
        said = b""
        while line := await client.response():
            said += line
        assert b"* BYE" in said and b"x OK" not in said

    run(talk, service=MachineService())


def test_a_long_message_without_flags_is_taken() -> None:
    octets = message("long", "x" * 3_000_000)

    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("APPEND INBOX {}", octets)
        await client.ok("SELECT INBOX")
        await client.ok("FETCH 1 (RFC822.SIZE BODY.PEEK[]<2999990.100>)")
        assert client.heard[0].value["RFC822.SIZE"] == len(octets)

    run(talk, service=MachineService())


def test_the_crlf_behind_a_literal_ends_its_command_and_empty_lines_are_nothing() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE x")
        client.send(b"a APPEND x {4+}\r\nhi\r\n\r\nb NOOP\r\n\r\n\r\nc NOOP\r\n")
        for tag in (b"a", b"b", b"c"):
            said, answer = await client.answer(tag)
            assert not said and answer.startswith(b"OK")

    run(talk, service=MachineService())


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        ("+FLAGS \\Deleted", b"OK"),
        ("+FLAGS \\deleted \\SEEN", b"OK"),
        ('+FLAGS (ab"c)', b"BAD"),
        ("+FLAGS (foo]bar)", b"BAD"),
        ("+FLAGS (+)", b"OK"),
        ("+FLAGS (\\Bogus)", b"BAD"),
        ("+FLAGS (\\Recent)", b"BAD"),
        ("+FLAGS (a(b)", b"BAD"),
        ("+FLAGS (\\*)", b"BAD"),
        ("FLAGS ()", b"OK"),
        ("-FLAGS (\\Seen never)", b"OK"),
        (f"FLAGS ({' '.join(f'k{number}' for number in range(300))})", b"NO [LIMIT]"),
    ],
)
def test_flags_are_atoms_and_those_that_are_not_never_reach_other_sessions(
    flags: str, answer: bytes
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        _, got = await client.do(f"STORE 1 {flags}")
        assert got.startswith(answer), got
        _, got = await client.do(f"APPEND INBOX {flags.split(' ', 1)[1]} {{}}", message("x"))
        if "(" in flags:
            assert got.startswith(answer), got
        await client.ok("SELECT INBOX")
        await client.ok("FETCH 1:* (FLAGS)")

    run(talk, service=MachineService())


def test_more_keywords_than_a_mailbox_may_have_are_refused_and_change_nothing() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        refused = b""
        for first in range(0, 2000, 50):
            names = " ".join(f"k{number}" for number in range(first, first + 50))
            _, answer = await client.do(f"STORE 1 FLAGS.SILENT ({names})")
            if not answer.startswith(b"OK"):
                refused = answer
                break
        assert refused.startswith(b"NO [LIMIT]")
        await client.ok("STORE 1 +FLAGS (\\Seen)")

    run(talk, service=MachineService())


def test_several_messages_are_appended_together_and_their_uids_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE x")
        for number in range(4):
            await saved(client, message(f"{number}"), "x")
        _, answer = await client.do(
            "APPEND x (\\Seen) {} (\\Flagged) {}", message("five"), message("six")
        )
        assert b" 5:6]" in answer and answer.startswith(b"OK [APPENDUID ")
        await client.ok("SELECT x")
        await client.ok("FETCH 5:6 (FLAGS)")
        assert [one.value["FLAGS"] for one in client.heard if one.kind == "FETCH"] == [
            [b"\\Seen"],
            [b"\\Flagged"],
        ]

    run(talk, service=MachineService())


def test_of_several_messages_that_do_not_all_fit_none_is_kept() -> None:
    service = MachineService()
    small = message("small")
    service.quotas[USER] = 2 * len(small)

    async def talk(client: ImapClient, same: TwinService) -> None:
        await client.log_in()
        big = message("big", "x" * 1000)
        _, answer = await client.do("APPEND INBOX {} {}", small, big)
        assert answer.startswith(b"NO [OVERQUOTA]")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]
        _, answer = await client.do("APPEND nowhere {} {}", small, small)
        assert answer.startswith(b"NO [TRYCREATE]")

    run(talk, service=service)


def test_over_the_quota_appends_and_copies_are_refused_and_moves_and_expunges_are_not() -> None:
    service = MachineService()

    async def talk(client: ImapClient, same: TwinService) -> None:
        await filled(client, 2)
        await client.ok("CREATE Trash")
        service.quotas[USER] = 100
        _, answer = await client.do("APPEND INBOX {}", message("more"))
        assert answer.startswith(b"NO [OVERQUOTA]")
        _, answer = await client.do("COPY 1 Trash")
        assert answer.startswith(b"NO [OVERQUOTA]")
        assert b"EXPUNGE" in b"".join(await client.ok("MOVE 1 Trash"))
        await client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok("EXPUNGE") == [b"* 1 EXPUNGE"]

    run(talk, service=service)


def test_copyuid_has_the_uidvalidity_of_the_target_and_comes_before_what_a_move_expunges() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 4)
        await client.ok("CREATE B")
        await client.ok("STATUS B (UIDVALIDITY)")
        validity = client.heard[0].value[1]["UIDVALIDITY"]
        await client.ok("STATUS INBOX (UIDVALIDITY)")
        assert client.heard[0].value[1]["UIDVALIDITY"] != validity
        _, answer = await client.do("UID COPY 2,4 B")
        assert answer.startswith(b"OK [COPYUID %d 2,4 1:2]" % validity)
        said = await client.ok("UID MOVE 1:2 B")
        assert said[0].startswith(b"* OK [COPYUID %d 1:2 3:4]" % validity)
        assert sorted(said[1:]) == [b"* 1 EXPUNGE", b"* 2 EXPUNGE"] or said[1:] == [
            b"* 1 EXPUNGE",
            b"* 1 EXPUNGE",
        ]

    run(talk, service=MachineService())


def test_copies_keep_flags_and_dates_and_go_into_the_own_mailbox_too() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        date = '" 3-Feb-2026 01:02:03 +0000"'
        await client.ok(f"APPEND INBOX (\\Flagged kw) {date} {{}}", message("x"))
        await client.ok("SELECT INBOX")
        said, answer = await client.do("COPY 1 INBOX")
        assert answer.startswith(b"OK [COPYUID ") and b"* 2 EXISTS" in said
        await client.ok("FETCH 1:2 (FLAGS INTERNALDATE RFC822.SIZE)")
        one, two = [heard.value for heard in client.heard if heard.kind == "FETCH"]
        assert one == two and one["INTERNALDATE"] == date.encode()

    run(talk, service=MachineService())
