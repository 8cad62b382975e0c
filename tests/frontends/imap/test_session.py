"""Whole sessions over real sockets: what a client says, and what it hears."""

from __future__ import annotations

import asyncio
import base64
import imaplib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from raftmail.frontends.imap import client as client_module
from raftmail.frontends.imap import message_commands
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.mail.failures import Failure
from tests.frontends.imap.imap_kit import PASSWORD, USER, ImapClient, filled, message, run
from tests.frontends.twin_service import TwinService


def test_a_message_that_was_appended_is_read_as_it_was() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        said, answer = await client.do("APPEND INBOX (\\Seen) {}", message("one"))
        assert answer.startswith(b"OK [APPENDUID ")
        said = await client.ok("SELECT INBOX")
        assert b"* 1 EXISTS" in said and b"* FLAGS (" in b"\n".join(said)
        (line,) = await client.ok("FETCH 1 (FLAGS RFC822.SIZE BODY[])")
        body = message("one")
        assert line == b"* 1 FETCH (FLAGS (\\Seen) RFC822.SIZE %d BODY[] {%d}\r\n%b)" % (
            len(body),
            len(body),
            body,
        )

    run(talk)


def test_a_wrong_password_is_refused_and_the_third_ends_the_connection() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        for _ in range(3):
            _, answer = await client.do(f"LOGIN {USER} wrong")
            assert answer.startswith(b"NO [AUTHENTICATIONFAILED]")
        assert (await client.response()).startswith(b"* BYE")

    run(talk)


def test_authenticate_plain_with_and_without_its_first_answer() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        word = base64.b64encode(b"\0%b\0%b" % (USER.encode(), PASSWORD.encode()))
        await client.connect()
        client.send(b"a AUTHENTICATE PLAIN\r\n")
        assert await client.response() == b"+ \r\n"
        client.send(word + b"\r\n")
        _, answer = await client.answer(b"a")
        assert answer.startswith(b"OK [CAPABILITY IMAP4rev1")
        other = await ImapClient(client.port).connect()
        await other.ok(b"AUTHENTICATE PLAIN " + word)
        await other.close()

    run(talk)


def test_numbers_change_only_when_the_client_is_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 4)
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        await other.ok("STORE 2 +FLAGS (\\Deleted)")
        assert await other.ok("EXPUNGE") == [b"* 2 EXPUNGE"]
        (line,) = await client.ok("FETCH 3 (UID)")
        assert line == b"* 3 FETCH (UID 3)", "number 3 is what it was"
        said, answer = await client.do("FETCH 2 (UID)")
        assert not said and answer.startswith(b"OK [EXPUNGEISSUED]")
        assert await client.ok("NOOP") == [b"* 2 EXPUNGE"]
        (line,) = await client.ok("FETCH 3 (UID)")
        assert line == b"* 3 FETCH (UID 4)"
        await other.close()

    run(talk)


def test_who_is_in_idle_hears_what_others_do() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        client.send(b"i IDLE\r\n")
        assert (await client.response()).startswith(b"+ ")
        other = await ImapClient(client.port).log_in()
        await other.ok("SELECT INBOX")
        await other.ok("APPEND INBOX {}", message("three"))
        assert await client.response() == b"* 3 EXISTS\r\n"
        assert (await client.response()).startswith(b"* 3 FETCH (UID 3 FLAGS (")
        await other.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        assert await client.response() == b"* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n"
        client.send(b"DONE\r\n")
        assert (await client.answer(b"i"))[1].startswith(b"OK")
        await other.close()

    run(talk)


def test_copy_and_move_say_where_messages_went() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        await client.ok("CREATE Archive/2026")
        _, answer = await client.do("COPY 1:2 Archive/2026")
        assert b"[COPYUID " in answer and answer.split(b"]")[0].endswith(b" 1:2 1:2")
        said, answer = await client.do("MOVE 3 Archive/2026")
        assert said[0].startswith(b"* OK [COPYUID ") and said[1] == b"* 3 EXPUNGE"
        _, answer = await client.do("COPY 1 Nowhere")
        assert answer.startswith(b"NO [TRYCREATE]")

    run(talk)


def test_what_stands_in_the_wrong_state_is_refused_and_the_connection_stays() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        for command in ("SELECT INBOX", "FETCH 1 (UID)", "NONSENSE", "LOGIN"):
            _, answer = await client.do(command)
            assert answer.startswith(b"BAD"), command
        await client.ok(f"LOGIN {USER} {PASSWORD}")
        _, answer = await client.do("FETCH 1 (UID)")
        assert answer.startswith(b"BAD")
        await client.ok("NOOP")

    run(talk)


def test_a_client_that_sends_nonsense_for_ever_is_told_bye() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(b"x nonsense\r\n" * 20)
        said = [line async for line in _lines(client)]
        assert said[-1].startswith(b"* BYE")

    run(talk, ImapLimits(bad_commands_max=5))


async def _lines(client: ImapClient) -> AsyncIterator[bytes]:
    while line := await client.response():
        yield line


def test_qresync_tells_what_changed_since_in_one_answer() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 4)
        said = b"\n".join(await client.ok("SELECT INBOX"))
        modseq = int(said.split(b"HIGHESTMODSEQ ")[1].split(b"]")[0])
        validity = int(said.split(b"UIDVALIDITY ")[1].split(b"]")[0])
        await client.ok("STORE 3 +FLAGS.SILENT (\\Deleted)")
        await client.ok("EXPUNGE")
        await client.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        again = await ImapClient(client.port).log_in()
        assert b"* ENABLED QRESYNC" in await again.ok("ENABLE QRESYNC")
        told = await again.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
        assert b"* VANISHED (EARLIER) 3" in told
        assert any(line.startswith(b"* 1 FETCH (UID 1 FLAGS (\\Flagged) MODSEQ (") for line in told)
        assert b"* 3 EXISTS" in told
        await again.close()

    run(talk)


def test_pythons_own_client_reads_and_changes_mail() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        def use() -> None:
            box: Any
            with imaplib.IMAP4("127.0.0.1", client.port) as box:
                box.login(USER, PASSWORD)
                assert box.append("INBOX", "(\\Flagged)", None, message("by imaplib"))[0] == "OK"
                assert box.select("INBOX") == ("OK", [b"1"])
                assert box.uid("STORE", "1", "+FLAGS", "(\\Seen)")[0] == "OK"
                _, found = box.fetch("1", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
                assert b"Subject: by imaplib" in found[0][1]
                assert box.create("Sent")[0] == "OK"
                assert {line.split()[-1] for line in box.list()[1]} == {b"INBOX", b"Sent"}
                assert box.status("Sent", "(MESSAGES UIDNEXT)")[1] == [
                    b"Sent (MESSAGES 0 UIDNEXT 1)"
                ]

        await client.connect()
        await asyncio.to_thread(use)

    run(talk)


def test_mailboxes_are_listed_with_what_is_below_them() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE Work/Reports")
        await client.ok("CREATE Sent (USE (\\Sent))")
        await client.ok("SUBSCRIBE Work/Reports")
        await client.ok("APPEND INBOX {}", message("one"))
        said = await client.ok('LIST "" %')
        assert set(said) == {
            b'* LIST (\\HasNoChildren) "/" INBOX',
            b'* LIST (\\HasNoChildren \\Sent) "/" Sent',
            b'* LIST (\\NonExistent \\Noselect \\HasChildren) "/" Work',
        }
        assert await client.ok('LSUB "" *') == [b'* LSUB () "/" Work/Reports']
        assert await client.ok('LSUB "" %') == [b'* LSUB (\\Noselect) "/" Work']
        assert await client.ok('LIST "" ""') == [b'* LIST (\\Noselect) "/" ""']
        said = await client.ok('LIST (SUBSCRIBED) "" * RETURN (STATUS (MESSAGES))')
        assert said == [
            b'* LIST (\\HasNoChildren \\Subscribed) "/" Work/Reports',
            b"* STATUS Work/Reports (MESSAGES 0)",
        ]

    run(talk)


def test_names_beyond_ascii_go_as_the_client_reads_them() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE Entw&APw-rfe")
        assert [box.name for box in service.boxes.values()] == ["Entwürfe"]
        line, _ = await client.ok('LIST "" *')
        assert line.endswith(b" Entw&APw-rfe")
        await client.ok("ENABLE IMAP4rev2")
        line, _ = await client.ok('LIST "" *')
        assert line.endswith(b' "Entw\xc3\xbcrfe"')
        await client.ok('SELECT "Entw\u00fcrfe"')

    run(talk)


def test_search_finds_by_record_by_header_and_by_text() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        await client.ok("APPEND INBOX (\\Seen) {}", message("odd", "a needle in hay"))
        await client.ok("NOOP")
        assert await client.ok("SEARCH SEEN") == [b"* SEARCH 4"]
        assert await client.ok('SEARCH SUBJECT "NUMBER 2"') == [b"* SEARCH 2"]
        assert await client.ok("UID SEARCH TEXT needle") == [b"* SEARCH 4"]
        assert await client.ok("SEARCH NOT BODY hello") == [b"* SEARCH 4"]
        (line,) = await client.ok("SEARCH RETURN (MIN MAX COUNT SAVE) UNSEEN")
        assert line.endswith(b" MIN 1 MAX 3 COUNT 3")
        said = await client.ok("FETCH $ (UID)")
        assert [line.split()[1] for line in said] == [b"1", b"2", b"3"]
        (line,) = await client.ok("SEARCH RETURN () SUBJECT odd")
        assert line.endswith(b"ALL 4")

    run(talk)


def test_a_literal_is_asked_for_and_one_that_is_too_long_is_refused_before_it_comes() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        body = message("one")
        client.send(b"a APPEND INBOX {%d}\r\n" % len(body))
        assert (await client.response()).startswith(b"+ ")
        client.send(body + b"\r\n")
        assert (await client.answer(b"a"))[1].startswith(b"OK [APPENDUID")
        client.send(b"b APPEND INBOX {100000000}\r\n")
        said, answer = await client.answer(b"b")
        assert not said and answer.startswith((b"NO", b"BAD"))
        await client.ok("NOOP")

    run(talk)


def test_reading_marks_as_seen_unless_the_client_peeks_or_only_examines() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        (line,) = await client.ok("FETCH 1 (BODY.PEEK[TEXT])")
        assert b"FLAGS" not in line
        (line,) = await client.ok("FETCH 1 (BODY[TEXT])")
        assert line.endswith(b"FLAGS (\\Seen))")
        await client.ok("EXAMINE INBOX")
        (line,) = await client.ok("FETCH 2 (BODY[TEXT])")
        assert b"FLAGS" not in line
        for command in ("STORE 2 +FLAGS (\\Seen)", "EXPUNGE", "MOVE 2 INBOX"):
            _, answer = await client.do(command)
            assert answer.startswith(b"NO"), command

    run(talk)


def test_a_store_that_came_too_late_changes_nothing_and_says_of_which() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        (line,) = await client.ok("FETCH 1 (MODSEQ)")
        modseq = int(line.split(b"(")[-1].rstrip(b")"))
        await client.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        _, answer = await client.do(
            f"STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Deleted)"
        )
        assert b"[MODIFIED 1" in answer
        (line,) = await client.ok("FETCH 1 (FLAGS)")
        assert b"\\Deleted" not in line

    run(talk)


def test_when_the_cluster_cannot_answer_the_command_is_refused_and_the_connection_stays() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        service.failures.append(Failure("an election is under way"))
        _, answer = await client.do("FETCH 1 (UID)")
        assert answer == b"NO [UNAVAILABLE] an election is under way"
        assert await client.ok("FETCH 1 (UID)") == [b"* 1 FETCH (UID 1)"]

    run(talk)


def test_who_has_a_mailbox_open_that_is_deleted_is_told_bye() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE Old")
        await client.ok("SELECT Old")
        other = await ImapClient(client.port).log_in()
        await other.ok("DELETE Old")
        client.send(b"n NOOP\r\n")
        assert (await client.response()).startswith(b"* BYE")
        await other.close()

    run(talk)


def test_mail_is_sorted_and_threaded() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for subject in ("beta", "alpha", "Re: beta"):
            await client.ok("APPEND INBOX {}", message(subject))
        await client.ok("SELECT INBOX")
        assert await client.ok("SORT (SUBJECT) UTF-8 ALL") == [b"* SORT 2 1 3"]
        assert await client.ok("UID SORT (REVERSE ARRIVAL) UTF-8 ALL") == [b"* SORT 1 2 3"]
        (line,) = await client.ok("THREAD ORDEREDSUBJECT UTF-8 ALL")
        assert line == b"* THREAD (1 3)(2)"
        assert await client.ok("THREAD REFERENCES UTF-8 SEEN") == [b"* THREAD"]

    run(talk)


def test_sets_that_need_several_commands_are_copied_and_expunged_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "TOUCHED_MAX", 2)
    monkeypatch.setattr(message_commands, "COPIED_MAX", 2)

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 5)
        await client.ok("CREATE Copy")
        _, answer = await client.do("COPY 1:5 Copy")
        assert answer.split(b"]")[0].endswith(b" 1:5 1:5")
        await client.ok("STORE 1:3 +FLAGS.SILENT (\\Deleted)")
        assert len(await client.ok("EXPUNGE")) == 3
        await client.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        await client.ok("CLOSE")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]

    run(talk)


def test_inbox_is_there_for_a_user_who_never_had_mail() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        assert await client.ok('LIST "" %') == [b'* LIST (\\HasNoChildren) "/" INBOX']
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 0)"]
        assert b"* 0 EXISTS" in await client.ok("SELECT inbox")

    run(talk)


def test_names_whose_children_alone_are_subscribed_are_listed_when_that_is_asked_for() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE Work/Reports")
        await client.ok("SUBSCRIBE Work/Reports")
        assert await client.ok('LIST (SUBSCRIBED) "" %') == []
        assert await client.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" %') == [
            b'* LIST (\\NonExistent \\Noselect \\HasChildren) "/" Work ("CHILDINFO" ("SUBSCRIBED"))'
        ]

    run(talk)


def test_a_compressed_session_goes_on_and_is_not_compressed_twice() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("COMPRESS DEFLATE")
        squeeze, inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        for command, answer in ((b"NOOP", b"OK"), (b"COMPRESS DEFLATE", b"NO [COMPRESSIONACTIVE]")):
            data = squeeze.compress(b"z " + command + b"\r\n")
            client.send(data + squeeze.flush(zlib.Z_SYNC_FLUSH))
            said = b""
            while not said.endswith(b"\r\n"):
                said += inflate.decompress(await client.reader.read(1000))
            assert said.startswith(b"z " + answer)

    run(talk)


def test_many_commands_at_once_are_answered_in_order() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        client.send(b"".join(b"p%d NOOP\r\n" % number for number in range(20_000)))
        for number in range(20_000):
            assert (await client.response()).startswith(b"p%d OK" % number)

    run(talk)


def test_a_client_that_idles_while_nothing_can_be_read_costs_a_question_now_and_then() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        service.failures += [Failure("no master")] * 100
        client.send(b"i IDLE\r\n")
        assert (await client.response()).startswith(b"+ ")
        await asyncio.sleep(0.5)
        assert len(service.failures) >= 98
        service.failures.clear()
        client.send(b"DONE\r\n")
        assert (await client.answer(b"i"))[1].startswith(b"OK")

    run(talk)


def test_a_body_for_which_there_is_no_room_is_refused_for_now() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("APPEND INBOX {}", message("long", "x" * 1000))
        await client.ok("SELECT INBOX")
        client.budget.bytes_max = 500
        _, answer = await client.do("FETCH 1 (BODY.PEEK[])")
        assert answer.startswith(b"NO [UNAVAILABLE]")
        client.budget.bytes_max = 5000
        assert len(await client.ok("FETCH 1 (BODY.PEEK[])")) == 1

    run(talk, ImapLimits(deadline_s=0.2))
