"""SEARCH, SORT and sets as mail programs in the field send them."""

from __future__ import annotations

import pytest

from tests.frontends.imap.imap_kit import ImapClient, filled, run, saved
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.imap.odd_messages import ODD, crlf
from tests.frontends.twin_service import TwinService

GREETINGS = "Grüße".encode()


async def found(client: ImapClient, command: str | bytes, *literals: bytes) -> list[int]:
    """The numbers of a SEARCH or SORT."""
    await client.ok(command, *literals)
    (numbers,) = [one.value[0] for one in client.heard if one.kind in ("SEARCH", "SORT")]
    return list(numbers)


def test_text_beyond_ascii_is_found_in_decoded_headers_however_it_is_sent() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await saved(client, b"Subject: =?utf-8?q?Viele_GR=C3=9C=C3=9FE?=\r\n\r\nx")
        await saved(client, b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n\r\nx")
        await saved(client, b"Subject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nx")
        await saved(client, b"Subject: other\r\n\r\nx")
        await client.ok("SELECT INBOX")
        client.send(b"a SEARCH CHARSET UTF-8 SUBJECT {7}\r\n")
        assert (await client.response()).startswith(b"+ ")
        client.send(GREETINGS + b"\r\n")
        said, _ = await client.answer(b"a")
        assert said == [b"* SEARCH 1 2 3"]
        assert await found(client, "SEARCH SUBJECT {}", GREETINGS) == [1, 2, 3]
        _, answer = await client.do("SEARCH CHARSET X-NO SUBJECT a")
        assert answer.startswith(b"NO [BADCHARSET (") and b"UTF-8" in answer
        client.send(b"b SEARCH CHARSET X-NO SUBJECT {7+}\r\n%b\r\nc NOOP\r\n" % GREETINGS)
        assert (await client.answer(b"b"))[1].startswith(b"NO [BADCHARSET (")
        assert (await client.answer(b"c"))[1].startswith(b"OK")
        await client.ok("ENABLE IMAP4rev2")
        await client.ok(b'SEARCH SUBJECT "%b"' % GREETINGS)
        assert client.heard[0].value["ALL"] == [(1, 3)]

    run(talk, service=MachineService())


def test_no_charset_or_encoding_of_a_message_fails_a_search() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        names = [name for name in ODD if ODD[name]]
        for name in names:
            await saved(client, ODD[name])
        await client.ok("SELECT INBOX")
        numbers = await found(client, "SEARCH BODY abc")
        assert [names[number - 1] for number in numbers] == [
            "unknown charset",
            "8 bits without a charset",
            "broken base64",
        ]

    run(talk, service=MachineService())


def test_a_keyword_that_nobody_uses_is_on_no_message_and_keywords_have_no_case() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        assert await found(client, "SEARCH KEYWORD Zed") == []
        assert await found(client, "SEARCH UNKEYWORD Zed") == [1, 2, 3]
        assert await found(client, "SEARCH NOT KEYWORD zed") == [1, 2, 3]
        await client.ok("STORE 2 +FLAGS (Zed)")
        assert await found(client, "SEARCH KEYWORD zED") == [2]
        assert await found(client, "SEARCH UNKEYWORD ZED") == [1, 3]

    run(talk, service=MachineService())


def test_not_takes_one_key_and_or_takes_two() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 4)
        await client.ok("STORE 1,2 +FLAGS.SILENT (\\Seen)")
        await client.ok("STORE 2,3 +FLAGS.SILENT (\\Flagged)")
        assert await found(client, "SEARCH NOT SEEN FLAGGED") == [3]
        assert await found(client, "SEARCH NOT (SEEN FLAGGED)") == [1, 3, 4]
        assert await found(client, "SEARCH NOT (OR NEW UNSEEN)") == [1, 2]
        assert await found(client, "SEARCH OR SEEN NOT FLAGGED 1:2") == [1, 2]
        assert await found(client, "SEARCH (1 (1:2))") == [1]
        _, answer = await client.do("SEARCH ()")
        assert answer.startswith(b"BAD")

    run(talk, service=MachineService())


def test_two_words_are_found_as_one_text_also_over_a_soft_line_break() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await saved(client, b"Subject: a\r\n\r\nhere are two words\r\n")
        await saved(client, b"Subject: b\r\n\r\ntwo other words\r\n")
        await saved(
            client,
            b"Subject: c\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ntwo =\r\nwords\r\n",
        )
        await client.ok("SELECT INBOX")
        assert await found(client, 'SEARCH BODY "two words"') == [1, 3]

    run(talk, service=MachineService())


def test_a_range_that_ends_in_a_star_always_has_the_last_message() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 9)
        await client.ok("UID STORE 8 +FLAGS.SILENT (\\Deleted)")
        await client.ok("EXPUNGE")
        assert await client.ok("UID FETCH 10:* (UID)") == [b"* 8 FETCH (UID 9)"]
        assert await found(client, "UID SEARCH UID 500:*") == [9]
        assert len(await client.ok("UID FETCH *:1 (UID)")) == 8
        assert [line.split()[1] for line in await client.ok("FETCH 2:1 (UID)")] == [b"1", b"2"]
        assert await client.ok("UID FETCH 8 (UID)") == []

    run(talk, service=MachineService())


def test_in_an_empty_mailbox_a_star_is_nothing_and_a_number_is_too_many() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE x")
        await client.ok("SELECT INBOX")
        for command in (
            "FETCH 1:* (FLAGS)",
            "UID FETCH 1:* (FLAGS)",
            "SEARCH 1:*",
            "UID SEARCH UID *",
            "STORE * +FLAGS (\\Seen)",
            "UID COPY 1:* x",
            "UID STORE 1:9 +FLAGS (\\Seen)",
            "UID EXPUNGE 1:*",
            "UID MOVE 1:* x",
            "SORT (DATE) UTF-8 1:*",
            "THREAD REFERENCES UTF-8 1:*",
        ):
            said, answer = await client.do(command)
            assert answer.startswith(b"OK") and b"COPYUID" not in answer, command
            assert said in ([], [b"* SEARCH"], [b"* SORT"], [b"* THREAD"]), command
        for command in ("FETCH 1 (FLAGS)", "COPY 1 x", "STORE 1:2 +FLAGS (\\Seen)"):
            _, answer = await client.do(command)
            assert answer.startswith(b"BAD"), command

    run(talk, service=MachineService())


def test_subjects_are_sorted_by_what_is_left_without_re_and_fwd_and_a_bad_date_by_arrival() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for subject in ("re [2]: bb", "[Fwd: aa]", "Fw [x]: cc", "=?utf-8?q?AA?= (fwd)"):
            await saved(client, crlf(f"Subject: {subject}\nDate: tomorrow\n\nx"))
        await client.ok("SELECT INBOX")
        assert await found(client, "SORT (SUBJECT) UTF-8 ALL") == [2, 4, 1, 3]
        assert await found(client, "UID SORT (REVERSE DATE) UTF-8 UNDELETED") == [1, 2, 3, 4]
        assert await found(client, "SORT (SUBJECT) US-ASCII NOT 2") == [4, 1, 3]

    run(talk, service=MachineService())


def test_the_day_of_arrival_is_the_day_that_was_written_whatever_its_zone() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        octets = b"Date: Sun, 28 Dec 2025 07:30:00 +0000\r\n\r\nx"
        await client.ok('APPEND INBOX "27-Dec-2025 23:30:00 -0800" {}', octets)
        await client.ok("SELECT INBOX")
        (line,) = await client.ok("FETCH 1 (INTERNALDATE)")
        assert b'"27-Dec-2025 23:30:00 -0800"' in line
        assert await found(client, "SEARCH ON 27-Dec-2025") == [1]
        assert await found(client, "SEARCH ON 28-Dec-2025") == []
        assert await found(client, "SEARCH SENTON 28-Dec-2025") == [1]

    run(talk, service=MachineService())


@pytest.mark.parametrize("size", [1, 1000, 7000])
def test_sets_of_many_uids_are_answered_whole(size: int) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        wanted = ",".join(str(2 * number + 1) for number in range(size))
        assert len(await client.ok(f"UID FETCH {wanted} (UID)")) == (1 if size == 1 else 2)

    run(talk, service=MachineService())


def test_a_search_that_is_answered_no_empties_what_was_saved_and_one_that_is_bad_does_not() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        await client.ok("SEARCH RETURN (SAVE) ALL")
        for command, kept in (
            ("SEARCH RETURN (SAVE) NONSENSE", [1, 2]),
            ("SEARCH RETURN (COUNT) CHARSET X-NO ALL", [1, 2]),
            ("SEARCH RETURN (SAVE) CHARSET X-NO ALL", []),
        ):
            _, answer = await client.do(command)
            assert not answer.startswith(b"OK")
            assert await found(client, "SEARCH $") == kept, command

    run(talk)


def test_the_modseq_of_a_search_is_that_of_the_messages_that_are_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 4)
        modseqs = {}
        for number in (3, 1, 4, 2):  # the last change is of a message between
            (line,) = await client.ok(f"STORE {number} +FLAGS (\\Flagged)")
            (line,) = await client.ok(f"FETCH {number} (MODSEQ)")
            modseqs[number] = int(line.split(b"(")[2].rstrip(b")"))
        for options, numbers in (
            ("MIN", [1]),
            ("MAX", [4]),
            ("MIN MAX", [1, 4]),
            ("PARTIAL 3:3", [3]),
            ("PARTIAL -1:-2", [3, 4]),
            ("MIN COUNT", [1, 2, 3, 4]),
            ("MIN MAX ALL", [1, 2, 3, 4]),
        ):
            (line,) = await client.ok(f"SEARCH RETURN ({options}) MODSEQ 1")
            told = b" MODSEQ %d" % max(modseqs[one] for one in numbers)
            assert line.endswith(told), (options, line)

    run(talk, service=MachineService())
