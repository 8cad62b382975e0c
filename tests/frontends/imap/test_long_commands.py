"""One line may name thousands of things. It never costs thousands of things for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.grammar_mailbox import PATTERNS_MAX
from raftmail.frontends.imap.grammar_message import ITEMS_MAX
from raftmail.frontends.imap.grammar_notify import GROUPS_MAX
from raftmail.frontends.imap.grammar_search import KEYS_MAX
from tests.frontends.imap.imap_kit import ImapClient, filled, message, run, saved
from tests.frontends.imap.parsing import parsed, wrong
from tests.frontends.twin_service import TwinService
from tests.fuzzing import bounded_memory


def many(form: bytes, count: int) -> bytes:
    return b" ".join(form % number for number in range(count))


@pytest.mark.parametrize(
    ("command", "most"),
    [
        (lambda count: b'LIST "" (%b)' % many(b"a%d", count), PATTERNS_MAX),
        (lambda count: b"FETCH 1 (%b)" % many(b"BODY[]<%d.9>", count), ITEMS_MAX),
        (lambda count: b"SEARCH (%b)" % many(b"LARGER %d", count), KEYS_MAX),
        (lambda count: b"SEARCH NOT (%b)" % many(b"SMALLER %d", count), KEYS_MAX),
        (lambda count: b"SORT (DATE) UTF-8 %b" % many(b"LARGER %d", count), KEYS_MAX),
        (lambda count: b"NOTIFY SET %b" % many(b"(SUBTREE a%d NONE)", count), GROUPS_MAX),
    ],
)
def test_so_many_things_are_taken_and_no_more(command: Callable[[int], bytes], most: int) -> None:
    parsed(command(most))
    refused = wrong(command(most + 1))
    assert "[LIMIT]" in refused and str(most) in refused


def test_sort_looks_at_a_criterion_once() -> None:
    command = parsed(b"SORT (REVERSE DATE SIZE DATE REVERSE SIZE) UTF-8 ALL")
    assert isinstance(command, c.Sort)
    assert command.criteria == (
        c.SortCriterion(c.SortKey.DATE, True),
        c.SortCriterion(c.SortKey.SIZE, False),
    )


def test_sections_that_are_many_times_the_message_are_refused_and_others_are_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await saved(client, message("long", "x" * 2_000_000))
        await saved(client, message("short"))
        await client.ok("SELECT INBOX")
        for sections in (b"BODY.PEEK[]<%d.1999000>", b"BINARY.PEEK[1]<%d.1>"):
            asked = many(sections, 20)
            with bounded_memory(16 << 20):
                said, answer = await client.do(b"FETCH 1:2 (%b)" % asked)
            assert answer.startswith(b"NO [LIMIT] ") and b"UID 1 " in answer
            assert [line[:10] for line in said] == [b"* 2 FETCH "]
        for section in ("BODY.PEEK[] BODY.PEEK[TEXT] BODY.PEEK[1]", "BINARY.PEEK[1] RFC822.SIZE"):
            await client.ok(f"FETCH 1 ({section})")

    run(talk)


@pytest.mark.parametrize(
    "command",
    [
        b"FETCH 1:* BODY",
        b"FETCH 1:* (%b)" % many(b"BODY.PEEK[HEADER.FIELDS (To)]<%d.1>", 900),
        b"SEARCH" + b" SUBJECT number" * 900,
        b"SEARCH" + b" BODY hello" * 900,
        b"SEARCH" + b" HEADER Received x" * 900,
        b'LIST "" (%b)' % many(b"a%d", 100),
        b'LSUB "" %',
    ],
)
def test_others_have_turns_while_much_is_looked_at(command: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 40)
        for number in range(450 if b"LSUB" in command else 0):
            await client.ok(f"SUBSCRIBE s{number}")
        for number in range(40 if b"LIST" in command else 0):
            await client.ok(f"CREATE m{number}")
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await client.ok("NOOP")
        before, turns = turns, 0
        await client.ok(command)
        task.cancel()
        assert turns > before + 4

    run(talk)


def test_a_long_part_is_decoded_beside_the_others() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for encoding in (b"quoted-printable", b"x-odd"):
            head = b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n"
            await saved(client, head + b"=41 \r\n" * 50_000)
        await client.ok("SELECT INBOX")
        said, answer = await client.do("FETCH 1:2 (BINARY.PEEK[1] BINARY.SIZE[1])")
        assert answer.startswith(b"NO [UNKNOWN-CTE] ")
        decoded = b"A\r\n" * 50_000
        assert said == [
            b"* 1 FETCH (BINARY[1] {%d}\r\n%b BINARY.SIZE[1] 150000)" % (len(decoded), decoded)
        ]

    run(talk)
