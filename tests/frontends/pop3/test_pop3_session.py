"""Whole POP3 sessions over sockets: what a mail program is told, and what is done for it."""

from __future__ import annotations

import asyncio
import base64
import poplib
from dataclasses import replace
from pathlib import Path

import pytest

from raftmail.frontends.pop3.limits import Pop3Limits
from raftmail.mail import commands as c
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import FetchBody, GetMailbox
from raftmail.mail.results import Result
from raftmail.mail.uidset import UidSet
from raftmail.net.tls import client_context, server_context
from tests.frontends.pop3.pop3_kit import PASSWORD, USER, Pop3Client, deliver, run3, small
from tests.frontends.sasl.talking import ScramClient
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates

PLAIN = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
CLUSTER = "c" * 32


def test_mail_is_counted_listed_read_and_deleted() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        first, second = small("one"), small("two", "a longer text")
        box = deliver(service, first, second)
        await client.log_in()
        assert await client.ok("STAT") == b"2 %d" % (len(first) + len(second))
        assert await client.many("LIST") == [b"1 %d" % len(first), b"2 %d" % len(second)]
        assert await client.ok("LIST 2") == b"2 %d" % len(second)
        assert await client.message("RETR 2") == second
        assert await client.message("TOP 1 0") == first[: -len(b"hello\r\n")]
        assert await client.ok("DELE 1")
        assert await client.ok("STAT") == b"1 %d" % len(second)
        assert list(box.messages) == [1, 2]
        assert b"deleted" in await client.ok("QUIT")
        assert list(box.messages) == [2]
        assert await client.ended() == b""

    run3(talk)


def test_numbers_stay_and_what_is_deleted_is_there_for_no_command() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, *(small(f"n{n}") for n in range(3)))
        await client.log_in()
        ids = await client.many("UIDL")
        await client.ok("DELE 1")
        for command in ("RETR 1", "TOP 1 0", "LIST 1", "UIDL 1", "DELE 1"):
            assert b"deleted" in await client.err(command)
        for command in ("LIST 0", "LIST 99", "RETR 0", "RETR 4", "UIDL 4", "DELE 9999999999"):
            assert b"no such message" in await client.err(command)
        for command in ("TOP", "TOP 1", "TOP 1 -1", "RETR x", "RETR", "DELE", "LIST 1 2"):
            await client.err(command)
        assert await client.many("UIDL") == ids[1:]
        assert [line.split()[0] for line in await client.many("LIST")] == [b"2", b"3"]
        await client.ok("RSET")
        assert await client.many("UIDL") == ids
        await client.ok("QUIT")
        assert len(box.messages) == 3

    run3(talk)


def test_a_connection_that_is_dropped_deletes_nothing() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, small("one"))
        await client.log_in()
        await client.ok("DELE 1")
        client.writer.transport.abort()
        await asyncio.sleep(0.05)
        assert list(box.messages) == [1]
        assert not [r for r in service.requests if isinstance(r[-1], c.Expunge)]

    run3(talk)


def test_quit_deletes_by_one_command_that_names_uids_whatever_came_since() -> None:
    done: list[c.Command] = []

    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, *(small(f"n{n}") for n in range(4)))
        await client.log_in()
        for number in (3, 1, 4):
            await client.ok(f"DELE {number}")
        deliver(service, small("later"))
        execute = service._execute

        def noted(command: c.Command) -> Result:
            done.append(command)
            return execute(command)

        service._execute = noted  # type: ignore[method-assign]
        await client.ok("QUIT")
        assert list(box.messages) == [2, 5]

    run3(talk)
    wanted = UidSet.from_uids([1, 3, 4])
    assert [one.uids for one in done if isinstance(one, c.Expunge)] == [wanted]
    assert len(done) == 1


def test_who_hangs_up_after_quit_without_waiting_has_the_messages_deleted() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, small("one"), small("two"))
        await client.log_in()
        await client.ok("DELE 1")
        execute, asked, go_on = service.execute, asyncio.Event(), asyncio.Event()

        async def late(command: c.Command, *, deadline_s: float) -> object:
            asked.set()
            await go_on.wait()
            return await execute(command, deadline_s=deadline_s)

        service.execute = late  # type: ignore[method-assign, assignment]
        client.send(b"QUIT\r\n")
        await asked.wait()
        client.writer.transport.abort()
        await asyncio.sleep(0.05)
        go_on.set()
        while list(box.messages) != [2]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    run3(talk)


def test_quit_says_so_when_it_is_not_known_whether_anything_was_deleted() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one"))
        await client.log_in()
        await client.ok("DELE 1")

        async def execute(*_: object, **__: object) -> None:
            raise Unavailable(Failure("no master"))

        service.execute = execute  # type: ignore[method-assign, assignment]
        assert (await client.err("QUIT")).startswith(b"[SYS/TEMP] ")
        assert await client.ended() == b""

    run3(talk)


def test_the_maildrop_is_that_of_the_log_in() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, small("one"), small("two"))
        await client.log_in()
        deliver(service, small("three"))
        del box.messages[1]
        assert len(await client.many("LIST")) == 2
        assert b"gone" in await client.err("RETR 1")
        assert await client.message("RETR 2") == small("two")
        await client.err("RETR 3")
        await client.ok("DELE 1")
        await client.ok("QUIT")
        assert list(box.messages) == [2, 3]

    run3(talk)


def test_a_user_without_mail_has_an_empty_maildrop() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.log_in()
        assert await client.ok("STAT") == b"0 0"
        assert await client.many("LIST") == await client.many("UIDL") == []
        await client.err("RETR 1")
        await client.ok("QUIT")
        assert not service.boxes

    run3(talk)


def test_unique_ids_are_those_of_every_session_and_of_two_equal_mails() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("same"), small("same"))
        await client.log_in()
        before = await client.many("UIDL")
        await client.ok("QUIT")
        deliver(service, small("new"))
        await client.log_in()
        after = await client.many("UIDL")
        assert after[:2] == before and len(set(after)) == 3
        for line in after:
            word = line.split()[1]
            assert 1 <= len(word) <= 70 and all(0x21 <= byte <= 0x7E for byte in word)
        assert await client.ok("UIDL 3") == after[2]

    run3(talk)


ODD = [
    b"",
    b"no final line end",
    b"A: b\r\n\r\n.\r\n..\r\n.x\r\nend",
    b"A: b\n\na\n.\nb\r\n",
    b"A: b\r\n\r\n" + b"x" * 65_000 + b"\r\n.\r\n" + b"\n." * 5000,
    b"A: \xff\xfe\r\n\r\n\x80\x81\r\n",
]


@pytest.mark.parametrize("message", ODD, ids=range(len(ODD)))
def test_a_message_comes_as_it_is_stored_and_has_the_size_that_is_listed(message: bytes) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, message)
        await client.log_in()
        assert await client.ok("LIST 1") == b"1 %d" % len(message)
        answer = await client.ok("RETR 1")
        assert answer.startswith(b"%d octets" % len(message))
        found = await client.rest()
        assert found[: len(message)] == message
        assert found[len(message) :] in (b"", b"\r\n")
        assert await client.ok("NOOP")

    run3(talk)


def test_commands_may_be_sent_ahead() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one"))
        await client.connect()
        client.send(f"USER {USER}\r\nPASS {PASSWORD}\r\n".encode())
        client.send(b"STAT\r\nRETR 1\r\nLIST\r\nDELE 1\r\nQUIT\r\n")
        for wanted in (b"+OK now", b"+OK the maildrop", b"+OK 1 ", b"+OK "):
            assert (await client.line()).startswith(wanted)
        assert await client.rest() == small("one")
        assert (await client.line()).startswith(b"+OK 1 messages")
        assert len(await client.rest()) > 3
        assert (await client.ended()).count(b"+OK") == 2

    run3(talk)


def test_the_standard_library_reads_mail() -> None:
    def work(port: int) -> None:
        box = poplib.POP3("127.0.0.1", port, timeout=20)
        box.user(USER)
        box.pass_(PASSWORD)
        assert box.stat() == (1, len(small("one")))
        assert b"\r\n".join(box.retr(1)[1]) + b"\r\n" == small("one")
        assert len(box.uidl()[1]) == 1
        assert {"UIDL", "TOP", "PIPELINING"} <= set(box.capa())
        box.dele(1)
        assert box.quit().startswith(b"+OK")

    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, small("one"))
        await asyncio.to_thread(work, client.port)
        assert not box.messages

    run3(talk)


# -- who it is ----------


def test_capabilities_are_those_that_are_there() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        assert client.greeting.startswith(b"+OK ") and b"<" not in client.greeting, "no APOP"
        found = await client.many("CAPA")
        assert set(found) >= {
            b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER",
            b"UTF8 USER", b"IMPLEMENTATION raftmail", b"USER",
        }  # fmt: skip
        assert [line for line in found if line.startswith(b"SASL ") and b" PLAIN" in line]
        assert b"STLS" not in found, "there is no certificate"
        await client.ok(f"AUTH PLAIN {PLAIN}")
        assert await client.many("CAPA") == found

    run3(talk)


@pytest.mark.parametrize("command", ["STAT", "LIST", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 1"])
def test_nothing_about_messages_is_said_before_the_log_in(command: str) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one"))
        await client.connect()
        assert b"before you have logged in" in await client.err(command)

    run3(talk)


def test_sasl_takes_the_first_answer_with_the_command_and_after_it() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        assert await client.do("AUTH PLAIN") == b"+ "
        assert (await client.err("*")).startswith(b"the client gave")
        assert await client.do("auth plain") == b"+ "
        await client.err("no base64!")
        assert await client.do("AUTH PLAIN") == b"+ "
        await client.ok(PLAIN)
        await client.ok("STAT")
        await client.err(f"AUTH PLAIN {PLAIN}")

    run3(talk)


def test_what_is_wrong_is_told_by_a_code_and_three_times_is_the_end() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        await client.err(f"PASS {PASSWORD}")
        for user, password in ((USER, "wrong"), ("nobody@example.org", PASSWORD)):
            await client.ok(f"USER {user}")
            answer = await client.err(f"PASS {password}")
            assert answer.startswith(b"[AUTH] ")
        await client.err(f"PASS {PASSWORD}")
        wrong = base64.b64encode(f"\0{USER}\0wrong".encode()).decode()
        assert (await client.err(f"AUTH PLAIN {wrong}")).startswith(b"[AUTH] ")
        assert b"too many" in await client.ended()

    run3(talk)


def test_no_master_is_no_wrong_password_and_the_connection_stays() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one"))
        query = service.query
        failing = {GetMailbox, FetchBody}

        async def failing_query(asked: object, **options: object) -> object:
            if type(asked) in failing:
                raise Unavailable(Failure("no master"))
            return await query(asked, **options)  # type: ignore[arg-type]

        service.query = failing_query  # type: ignore[method-assign, assignment]
        await client.connect()
        await client.ok(f"USER {USER}")
        assert (await client.err(f"PASS {PASSWORD}")).startswith(b"[SYS/TEMP] ")
        failing.remove(GetMailbox)
        await client.ok(f"USER {USER}")
        await client.ok(f"PASS {PASSWORD}")
        assert (await client.err("RETR 1")).startswith(b"[SYS/TEMP] ")
        failing.clear()
        assert await client.message("RETR 1") == small("one")

    run3(talk)


def test_an_address_and_a_password_may_have_letters_of_all_kinds_and_blanks() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        password = " Zoë's  pass word "
        service.users[USER] = await service.hash_password(USER, password.encode())
        await client.connect()
        await client.ok("UTF8")
        await client.ok(f"USER {USER}")
        await client.ok(f"PASS {password}")

    run3(talk)


# -- TLS ----------


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "tls", CLUSTER)


def test_stls_begins_tls_and_forgets_what_was_said_before(certificates: Certificates) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        assert b"STLS" in await client.many("CAPA")
        await client.ok(f"USER {USER}")
        await client.ok("STLS")
        await client.start_tls(client_context(certificates.ca))
        await client.err(f"PASS {PASSWORD}")
        assert b"STLS" not in await client.many("CAPA")
        await client.err("STLS")
        await client.ok(f"AUTH PLAIN {PLAIN}")
        assert await client.ok("STAT") == b"0 0"

    run3(talk, tls=server_context(certificates.files("n1")))


def test_what_is_sent_behind_stls_is_never_run(certificates: Certificates) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        client.send(f"STLS\r\nUSER {USER}\r\nPASS {PASSWORD}\r\nCAPA\r\n".encode())
        assert (await client.line()).startswith(b"+OK begin TLS")
        await client.start_tls(client_context(certificates.ca))
        assert b"before you have logged in" in await client.err("STAT")
        await client.err(f"PASS {PASSWORD}")
        await client.ok("QUIT")
        assert await client.ended() == b""

    run3(talk, tls=server_context(certificates.files("n1")))


def test_a_handshake_that_fails_ends_the_session(certificates: Certificates) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        await client.ok("STLS")
        client.send(b"CAPA\r\nthis is no handshake\r\n")
        assert b"+OK" not in await client.ended()

    run3(talk, tls=server_context(certificates.files("n1")))


def test_stls_has_no_place_after_utf8_nor_after_the_log_in(certificates: Certificates) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        await client.ok("UTF8")
        await client.err("STLS")
        await client.ok(f"AUTH PLAIN {PLAIN}")
        await client.err("STLS")
        await client.err("UTF8")

    run3(talk, tls=server_context(certificates.files("n1")))


def test_a_port_may_begin_with_tls(certificates: Certificates) -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        context = client_context(certificates.ca)
        client.reader, client.writer = await asyncio.open_connection(
            "127.0.0.1", client.port, ssl=context, server_hostname="localhost"
        )
        assert (await client.line()).startswith(b"+OK")
        assert b"STLS" not in await client.many("CAPA")
        await client.ok(f"AUTH PLAIN {PLAIN}")

    run3(talk, tls=server_context(certificates.files("n1")), implicit_tls=True)


def test_who_is_far_away_begins_tls_before_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmail.net.connection.Connection.is_loopback", False)

    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        found = await client.many("CAPA")
        assert b"USER" not in found and not [line for line in found if line.startswith(b"SASL")]
        for command in (f"USER {USER}", f"PASS {PASSWORD}", f"AUTH PLAIN {PLAIN}"):
            assert b"TLS" in await client.err(command)
        await client.err("STAT")

    run3(talk)


# -- limits ----------


def test_a_large_maildrop_is_listed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmail.frontends.pop3.session._TURN_LINES", 7)

    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, *(small(f"n{n}") for n in range(100)))
        await client.log_in()
        await client.ok("DELE 50")
        lines = await client.many("LIST")
        ids = await client.many("UIDL")
        numbers = [n for n in range(1, 101) if n != 50]
        assert [int(line.split()[0]) for line in lines] == numbers
        assert [int(line.split()[0]) for line in ids] == numbers

    run3(talk)


def test_a_maildrop_of_many_pages_waits_for_one_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmail.frontends.pop3.session.PAGE_MESSAGES_MAX", 10)

    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, *(small(f"n{n}") for n in range(35)))
        await client.connect()
        await client.ok(f"USER {USER}")
        before = service.barriers
        assert (await client.ok(f"PASS {PASSWORD}")).startswith(b"the maildrop has 35 messages")
        assert service.barriers - before <= 2  # the user is looked up, too

    run3(talk)


def test_of_too_many_messages_the_oldest_are_in_the_maildrop() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, *(small(f"n{n}") for n in range(5)))
        await client.log_in()
        assert (await client.ok("STAT")).startswith(b"3 ")
        assert await client.message("RETR 3") == small("n2")

    run3(talk, Pop3Limits(messages_max=3))


def test_a_message_that_the_budget_has_no_room_for_is_refused_for_now() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one", "x" * 5000))
        await client.log_in()
        assert (await client.err("RETR 1")).startswith(b"[SYS/TEMP] ")
        await client.ok("NOOP")

    run3(talk, Pop3Limits(deadline_s=0.05), budget_bytes=4000)


def test_a_maildrop_that_the_budget_has_no_room_for_is_refused_for_now() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, *(small(f"n{n}") for n in range(5)))
        await client.connect()
        await client.ok(f"USER {USER}")
        assert (await client.err(f"PASS {PASSWORD}")).startswith(b"[SYS/TEMP] ")
        assert not client.budget.used_bytes

    run3(talk, budget_bytes=20)


def test_who_is_silent_for_too_long_is_closed_without_a_word_and_nothing_is_deleted() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        box = deliver(service, small("one"))
        await client.log_in()
        await client.ok("DELE 1")
        assert await client.ended() == b""
        assert list(box.messages) == [1]

    run3(talk, Pop3Limits(idle_s=0.3))


def test_who_never_logs_in_is_closed() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        await client.connect()
        assert await client.ended() == b""

    run3(talk, Pop3Limits(login_s=0.3))


def test_a_node_that_stops_finishes_what_is_under_way_and_says_why() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        deliver(service, small("one", "x" * 400_000))
        await client.log_in()
        client.send(b"RETR 1\r\n")
        assert (await client.line()).startswith(b"+OK")
        stopping = asyncio.create_task(client.server.stop(5.0))
        assert await client.rest() == small("one", "x" * 400_000)
        assert (await client.ended()).startswith(b"-ERR [SYS/TEMP] the node stops")
        await stopping

    run3(talk)


def test_a_program_logs_in_by_scram_and_has_so_many_sessions() -> None:
    async def talk(client: Pop3Client, service: TwinService) -> None:
        service.log_ins.limits = replace(service.log_ins.limits, user_connections_max=1)
        await client.connect()
        scram = ScramClient(USER, PASSWORD.encode())
        first = base64.b64encode(scram.first).decode()
        line = await client.do(f"AUTH SCRAM-SHA-256 {first}")
        for make in (scram.final, scram.end):
            assert line.startswith(b"+ ")
            line = await client.do(base64.b64encode(make(base64.b64decode(line[2:]))).decode())
        assert line.startswith(b"+OK ")
        other = Pop3Client(client.port, client.server, client.budget)
        await other.connect()
        assert (await other.err(f"AUTH PLAIN {PLAIN}")).startswith(b"[IN-USE] ")
        await client.ok("QUIT")
        await client.ended()
        await other.ok(f"AUTH PLAIN {PLAIN}")
        await other.close()

    run3(talk)
