"""Whole sessions (RFC 5804): what is told, and what is kept."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from raftmail.frontends.managesieve.limits import ManageSieveLimits
from raftmail.mail.failures import Failure, Unavailable
from raftmail.net.tls import client_context, server_context
from tests.frontends.managesieve.sieve_kit import PASSWORD, USER, SieveClient, plain, run_sieve
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates

GOOD = b'require "fileinto";\r\nfileinto "Work";\r\n'


def test_scripts_are_put_listed_read_set_renamed_and_deleted() -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.log_in()
        assert await client.ok("LISTSCRIPTS") == [b""]
        for name in ("main", 'odd "\\ name'):
            told = await client.put(name.replace("\\", "\\\\").replace('"', '\\"'), GOOD)
            assert told[-1].startswith(b"OK"), told
        await client.ok('SETACTIVE "main"')
        assert await client.ok("LISTSCRIPTS") == [b'"main" ACTIVE', b'"odd \\"\\\\ name"', b""]
        assert await client.ok('GETSCRIPT "main"') == [b"{%d}\r\n%b" % (len(GOOD), GOOD), b""]
        assert (await client.no('DELETESCRIPT "main"')).startswith(b"(ACTIVE)")
        await client.ok('RENAMESCRIPT "main" "new"')
        assert (await client.ok("LISTSCRIPTS"))[0] == b'"new" ACTIVE'
        await client.ok('SETACTIVE ""')
        await client.ok('DELETESCRIPT "new"')
        for command in ('GETSCRIPT "new"', 'DELETESCRIPT "new"', 'SETACTIVE "new"'):
            assert (await client.no(command)).startswith(b"(NONEXISTENT)")
        await client.put("b", GOOD)
        taken = await client.no('RENAMESCRIPT "b" "odd \\"\\\\ name"')
        assert taken.startswith(b"(ALREADYEXISTS)")
        assert await client.ok("LOGOUT") == [b'"goodbye"']
        assert await client.ended() == b""

    run_sieve(talk)


def test_what_is_wrong_with_a_script_is_told_with_its_place_and_nothing_is_kept() -> None:
    async def talk(client: SieveClient, service: TwinService) -> None:
        await client.log_in()
        (told,) = await client.put("main", b"keep;\r\nnonsense;\r\n")
        assert told.startswith(b"NO ") and b"line 2" in told
        (told,) = await client.do(b"CHECKSCRIPT {5+}\r\nkeep,")
        assert told.startswith(b"NO ") and b"line 1" in told
        assert (await client.do(b"CHECKSCRIPT {5+}\r\nkeep;"))[-1].startswith(b"OK")
        assert not service.scripts.texts.get(USER)

    run_sieve(talk)


def test_room_is_told_of_before_and_what_has_none_is_refused() -> None:
    async def talk(client: SieveClient, service: TwinService) -> None:
        await client.log_in()
        limits = service.script_limits
        await client.ok('HAVESPACE "a" 100')
        told = await client.no(f'HAVESPACE "a" {limits.script_bytes_max + 1}')
        assert told.startswith(b"(QUOTA/MAXSIZE)")
        (told,) = await client.put("large", b"#" * (1 << 20))
        assert told.startswith(b"NO (QUOTA/MAXSIZE)") and b"1048576" in told
        for number in range(limits.scripts_max):
            await client.put(f"s{number}", b"keep;")
        (told,) = await client.put("more", b"keep;")
        assert told.startswith(b"NO (QUOTA/MAXSCRIPTS)")
        assert (await client.no('HAVESPACE "more" 5')).startswith(b"(QUOTA/MAXSCRIPTS)")
        await client.ok('HAVESPACE "s1" 5')

    run_sieve(talk)


def test_capabilities_are_told_at_the_greeting_and_when_they_are_asked_for() -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.connect()
        told = b"\n".join(client.greeting)
        assert b'"SIEVE" "body ' in told and b"fileinto" in told
        assert b'"SASL" "SCRAM-SHA-256 PLAIN' in told
        assert b'"VERSION" "1.0"' in told and b"STARTTLS" not in told
        await client.ok(f'AUTHENTICATE "plain" "{plain()}"')
        told = b"\n".join(await client.ok("CAPABILITY"))
        assert b'"OWNER" "anna@example.org"' in told and b'"SASL" ""' in told
        assert await client.ok('NOOP "a\\"b"') == [b'(TAG "a\\"b") "nothing done"']
        await client.ok("UNAUTHENTICATE")
        assert b"no place" in await client.no("LISTSCRIPTS")

    run_sieve(talk)


def test_a_log_in_may_come_in_steps_and_be_given_up() -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.connect()
        client.send(b'AUTHENTICATE "PLAIN"\r\n')
        assert await client.line() == b'""'
        assert b"gave" in await client.no('"*"')
        client.send(b'AUTHENTICATE "PLAIN"\r\n')
        await client.line()
        await client.ok(f'"{plain()}"')

    run_sieve(talk)


def test_scram_ends_with_the_server_s_signature_in_the_ok() -> None:
    from hashlib import pbkdf2_hmac, sha256
    from hmac import digest

    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.connect()
        bare = f"n={USER},r=abc".encode()
        first = base64.b64encode(b"n,," + bare).decode()
        client.send(f'AUTHENTICATE "SCRAM-SHA-256" "{first}"\r\n'.encode())
        server_first = base64.b64decode((await client.line()).strip(b'"'))
        nonce, salt, rounds = (part[2:] for part in server_first.split(b","))
        salted = pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(salt), int(rounds))
        key = digest(salted, b"Client Key", "sha256")
        signed = b",".join((bare, server_first, b"c=biws,r=" + nonce))
        signature = digest(sha256(key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
        last = base64.b64encode(b"c=biws,r=" + nonce + b",p=" + proof).decode()
        (told,) = await client.do(f'"{last}"')
        server = digest(digest(salted, b"Server Key", "sha256"), signed, "sha256")
        proved = base64.b64encode(b"v=" + base64.b64encode(server))
        assert told.startswith(b'OK (SASL "%b")' % proved)
        await client.ok("LISTSCRIPTS")

    run_sieve(talk)


def test_wrong_passwords_end_the_connection_after_a_few() -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.connect()
        for _n in range(2):
            assert await client.no(f'AUTHENTICATE "PLAIN" "{plain(password="x")}"')
        client.send(f'AUTHENTICATE "PLAIN" "{plain(password="x")}"\r\n'.encode())
        assert b"BYE" in await client.ended()

    run_sieve(talk)


def test_tls_is_offered_and_what_was_sent_before_it_counts_no_more(
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path / "tls", "managesieve.test")

    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.connect()
        assert b'"STARTTLS"' in client.greeting
        client.send(b"STARTTLS\r\nLOGOUT\r\n")
        assert (await client.answer())[-1].startswith(b"OK")
        await client.start_tls(client_context(certificates.ca))
        assert b'"STARTTLS"' not in client.greeting
        assert b"no STARTTLS" in await client.no("STARTTLS")
        await client.ok(f'AUTHENTICATE "PLAIN" "{plain()}"')

    run_sieve(talk, tls=server_context(certificates.files("n1")))


def test_an_election_is_told_as_such_and_the_connection_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def nobody(*_: object, **__: object) -> None:
        raise Unavailable(Failure("shard 1 has no master"))

    async def talk(client: SieveClient, service: TwinService) -> None:
        await client.log_in()
        for name in ("query", "execute", "put_script"):
            monkeypatch.setattr(service, name, nobody)
        for command in ("LISTSCRIPTS", 'SETACTIVE "a"', 'PUTSCRIPT "a" "keep;"'):
            assert await client.no(command) == b'(TRYLATER) "shard 1 has no master"'
        await client.ok("NOOP")

    run_sieve(talk)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"something else"),
        (b"AUTHENTICATE {4294967296+}\r\n", b"too long"),
        (b"x" * 26_000, b"at most"),
        (b'"' + b"x" * 26_000, b"at most"),
        (b"NONSENSE\r\n" * 60, b"make no sense"),
    ],
)
def test_hostile_bytes_before_the_log_in_end_the_connection_alone(sent: bytes, told: bytes) -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.connect()
        client.send(sent)
        assert told in await client.ended()
        await client.connect()
        await client.ok("NOOP")

    run_sieve(talk)


def test_thousands_of_commands_in_one_write_are_answered_in_order() -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.log_in()
        client.send(b"".join(b'NOOP "%d"\r\nLISTSCRIPTS\r\n' % n for n in range(2000)))
        for number in range(2000):
            assert (await client.line()).startswith(b'OK (TAG "%d")' % number)
            assert await client.line() == b"OK"

    run_sieve(talk)


def test_who_finds_no_room_for_a_script_is_told_to_come_again() -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.log_in()
        client.send(b'PUTSCRIPT "a" {60000+}\r\n' + b"#" * 40_000)
        assert b"BYE (TRYLATER)" in await client.ended()

    run_sieve(talk, budget_bytes=20_000)


def test_who_says_nothing_for_too_long_is_closed() -> None:
    async def talk(client: SieveClient, _: TwinService) -> None:
        await client.connect()
        assert b"BYE" in await client.ended()

    run_sieve(talk, ManageSieveLimits(login_s=0.05))


def test_a_stop_waits_for_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(client: SieveClient, service: TwinService) -> None:
        await client.log_in()
        going_on, asked = asyncio.Event(), asyncio.Event()
        query: Callable[..., object] = service.query

        async def slow(*args: object, **options: object) -> object:
            asked.set()
            await going_on.wait()
            return await query(*args, **options)  # type: ignore[misc]

        monkeypatch.setattr(service, "query", slow)
        client.send(b"LISTSCRIPTS\r\n")
        await asked.wait()
        stopping = asyncio.create_task(client.server.stop(30.0))
        await asyncio.sleep(0)
        going_on.set()
        assert await client.line() == b"OK"
        assert (await client.line()).startswith(b"BYE (TRYLATER)")
        await stopping

    run_sieve(talk)
