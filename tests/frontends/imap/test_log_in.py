"""Who logs in over IMAP, how, and what else is said."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.imap.server import ImapServer
from raftmail.mail.app_passwords import AppPassword, UserPasswords
from raftmail.mail.budget import Budget
from raftmail.mail.failures import Failure
from raftmail.net import tls
from raftmail.service.credentials import make_credentials, make_quick_credentials
from raftmail.service.failed_log_ins import LogInLimits
from raftmail.service.log_ins import LogIns
from tests.frontends.imap.imap_kit import (
    NOW_S,
    PASSWORD,
    PATIENCE_S,
    USER,
    ImapClient,
    Talk,
    run,
)
from tests.frontends.sasl.talking import ScramClient
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates
from tests.service import test_token_issuer as tokens

MANY = ImapLimits(failed_logins_max=1000)


async def authenticate(client: ImapClient, mechanism: str, scram: ScramClient) -> bytes:
    """By SCRAM, with the first answer; the tagged answer."""
    client.send(b"s AUTHENTICATE %b %b\r\n" % (mechanism.encode(), base64.b64encode(scram.first)))
    for make in (scram.final, scram.end):
        line = await client.response()
        if not line.startswith(b"+ "):
            return line[2:-2]
        client.send(base64.b64encode(make(base64.b64decode(line[2:-2]))) + b"\r\n")
    return (await client.answer(b"s"))[1]


def test_an_app_password_logs_in_by_password_and_by_scram() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        made = b"abcde-fghij-klmno-pqrst"
        app = AppPassword("phone", 1, make_quick_credentials(made, b"salt of the tests"))
        service.users[USER] = UserPasswords(service.users[USER], (app,)).format()
        await client.connect()
        scram = ScramClient(USER, made)
        assert (await authenticate(client, "SCRAM-SHA-256", scram)).startswith(b"OK ")
        other = await ImapClient(client.port).connect()
        await other.ok(f"LOGIN {USER} {made.decode()}")
        await other.close()

    run(talk)


def test_what_is_offered_is_what_is_there() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        for mechanism in (b"SCRAM-SHA-256", b"PLAIN", b"LOGIN"):
            assert b" AUTH=%b " % mechanism in client.greeting.replace(b"]", b" ")
        assert b"OAUTHBEARER" not in client.greeting and b"PLUS " not in client.greeting
        for name in ("OAUTHBEARER", "SCRAM-SHA-256-PLUS", "CRAM-MD5", "X"):
            _, answer = await client.do(f"AUTHENTICATE {name}")
            assert answer.startswith(b"NO [CANNOT] ")

    run(talk)


def test_a_client_logs_in_by_scram() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        answer = await authenticate(client, "SCRAM-SHA-256", ScramClient(USER, PASSWORD.encode()))
        assert answer.startswith(b"OK [CAPABILITY ")
        await client.ok("SELECT INBOX")

    run(talk)


def test_a_wrong_proof_is_refused_like_a_wrong_password_and_the_right_one_follows() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        for user, password in ((USER, b"wrong"), ("bert@example.org", b"x")):
            answer = await authenticate(client, "SCRAM-SHA-256", ScramClient(user, password))
            assert answer == b"NO [AUTHENTICATIONFAILED] that is no user and password"
        _, answer = await client.do(f"LOGIN {USER} wrong")
        assert answer == b"NO [AUTHENTICATIONFAILED] that is no user and password"
        scram = ScramClient(USER, PASSWORD.encode())
        assert (await authenticate(client, "SCRAM-SHA-256", scram)).startswith(b"OK ")

    run(talk, MANY)


def test_a_token_of_the_issuer_logs_in_and_another_is_told_before_it_is_refused() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        service.log_ins.issuer = tokens.issuer()
        await client.connect()
        assert b" AUTH=OAUTHBEARER" in client.greeting
        expired = tokens.token(exp=tokens.NOW_S - 100)
        for token, code in (
            (b"x.y.z", b"AUTHENTICATIONFAILED"),
            (expired, b"EXPIRED"),
        ):
            said = base64.b64encode(b"n,,\x01auth=Bearer %b\x01\x01" % token)
            client.send(b"a AUTHENTICATE OAUTHBEARER %b\r\n" % said)
            line = await client.response()
            assert b'"status"' in base64.b64decode(line[2:-2])
            client.send(b"AQ==\r\n")
            assert (await client.answer(b"a"))[1].startswith(b"NO [%b] " % code)
        said = base64.b64encode(b"n,,\x01auth=Bearer %b\x01\x01" % tokens.token())
        await client.ok(b"AUTHENTICATE OAUTHBEARER " + said)

    run(talk, MANY)


def test_the_login_mechanism_asks_for_user_and_password() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(b"a AUTHENTICATE LOGIN\r\n")
        assert await client.response() == b"+ VXNlcm5hbWU6\r\n"
        client.send(base64.b64encode(USER.encode()) + b"\r\n")
        assert await client.response() == b"+ UGFzc3dvcmQ6\r\n"
        client.send(base64.b64encode(PASSWORD.encode()) + b"\r\n")
        assert (await client.answer(b"a"))[1].startswith(b"OK ")

    run(talk)


@pytest.mark.parametrize(
    ("line", "begins"),
    [
        (b"*", b"BAD "),
        (b"nonsens", b"BAD "),
        (b"=", b"BAD "),
        (b"AA", b"BAD "),
        (b"", b"NO [CLIENTBUG] "),
        (b"AAAA", b"NO [CLIENTBUG] "),
        (base64.b64encode(b"bert\0anna@example.org\0x"), b"NO [AUTHORIZATIONFAILED] "),
    ],
)
def test_what_is_no_answer_ends_the_log_in_and_not_the_session(line: bytes, begins: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(b"a AUTHENTICATE PLAIN\r\n")
        assert await client.response() == b"+ \r\n"
        client.send(line + b"\r\n")
        assert (await client.answer(b"a"))[1].startswith(begins)
        await client.ok(f"LOGIN {USER} {PASSWORD}")

    run(talk)


def test_an_endless_answer_ends_the_session() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(b"a AUTHENTICATE PLAIN\r\n")
        await client.response()
        client.send(b"A" * 100_000)
        assert (await client.response()).startswith(b"* BAD ")
        assert (await client.response()).startswith(b"* BYE ")

    run(talk)


def test_commands_behind_a_log_in_wait_for_its_outcome() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(f"a LOGIN {USER} {PASSWORD}\r\nb SELECT INBOX\r\n".encode())
        assert (await client.answer(b"a"))[1].startswith(b"OK ")
        assert (await client.answer(b"b"))[1].startswith(b"OK ")

    run(talk)


def test_a_cluster_that_does_not_answer_is_no_wrong_password() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        scram = ScramClient(USER, PASSWORD.encode())
        plain = base64.b64encode(b"\0%b\0%b" % (USER.encode(), PASSWORD.encode())).decode()
        for command in (f"LOGIN {USER} {PASSWORD}", f"AUTHENTICATE PLAIN {plain}"):
            service.failures.append(Failure("no master"))
            _, answer = await client.do(command)
            assert answer == b"NO [UNAVAILABLE] no master"
        service.failures.append(Failure("no master"))
        answer = await authenticate(client, "SCRAM-SHA-256", scram)
        assert answer == b"NO [UNAVAILABLE] no master"
        await client.ok(f"LOGIN {USER} {PASSWORD}")

    run(talk)


def test_a_user_has_so_many_connections_and_the_next_is_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        limits = replace(service.log_ins.limits, user_connections_max=2)
        service.log_ins.limits = limits
        await client.log_in()
        second = await ImapClient(client.port).log_in()
        third = await ImapClient(client.port).connect()
        _, answer = await third.do(f"LOGIN {USER} {PASSWORD}")
        assert answer.startswith(b"NO [LIMIT] ")
        await second.do("LOGOUT")
        await second.reader.read()
        await second.close()
        await third.ok(f"LOGIN {USER} {PASSWORD}")
        await third.close()

    run(talk)


def test_after_too_many_wrong_log_ins_none_is_looked_at() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        strict = LogInLimits(delay_s=0.01, delay_max_s=0.01, failures_max=2, forget_s=1e9)
        service.log_in = LogIns(service, limits=strict).log_in
        await client.connect()
        for _ in range(2):
            _, answer = await client.do(f"LOGIN {USER} wrong")
            assert answer.startswith(b"NO [AUTHENTICATIONFAILED] ")
        _, answer = await client.do(f"LOGIN {USER} {PASSWORD}")
        assert answer.startswith(b"NO [LIMIT] ")

    run(talk, MANY)


def test_no_secret_is_logged_nor_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[bytes] = []
    secret = b"hunter2hunter2"
    coded = base64.b64encode(b"\0anna@example.org\0" + secret)

    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        for line in (
            b"LOGIN anna@example.org " + secret,
            b"LOGIN " + secret,
            b'LOGIN "anna@example.org" "%b' % secret,
            b"LOGIN anna@example.org %b extra" % secret,
            b"LOGIN %b anna@example.org" % secret,
            b"AUTHENTICATE PLAIN " + coded,
            b"AUTHENTICATE PLAIN " + coded[:-3],
            b"AUTHENTICATE PLAIN %b %b" % (coded, secret),
        ):
            untagged, answer = await client.do(line)
            said.extend((*untagged, answer))
        client.send(b"z AUTHENTICATE PLAIN\r\n")
        await client.response()
        client.send(secret + b"\r\n")
        said.append((await client.answer(b"z"))[1])

    run(talk, MANY)
    everything = b"\n".join(said).decode() + caplog.text
    for hidden in (secret, coded, coded[10:-5]):
        assert hidden.decode() not in everything


def _over_tls(tmp_path: Path, talk: Talk, *, binds: bool, implicit_tls: bool) -> None:
    """Have a client talk over TLS."""
    files = Certificates(tmp_path / "ca", "test").files("n1")

    async def main() -> None:
        service = TwinService()
        service.users[USER] = make_credentials(PASSWORD.encode(), b"salt of the tests")
        server_tls, client_tls = (
            tls.program_context(files.certificate, files.key, binds=binds),
            tls.client_context(files.ca),
        )
        context = ImapContext(
            service, lambda: NOW_S, Budget(1 << 20), asyncio.Semaphore(1), tls=server_tls
        )
        server = ImapServer(context, implicit_tls=implicit_tls)
        _, port = await server.listen_tcp("127.0.0.1", 0)
        client = ImapClient(port, context.budget)
        try:
            async with asyncio.timeout(PATIENCE_S):
                if implicit_tls:
                    streams = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls)
                    client.reader, client.writer = streams
                    client.greeting = await client.response()
                else:
                    await client.connect()
                    assert b"PLUS " not in client.greeting
                    await client.ok("STARTTLS")
                    await client.writer.start_tls(client_tls)
                await talk(client, service)
        finally:
            await client.close()
            await server.stop(1.0)

    asyncio.run(main())


@pytest.mark.parametrize("implicit_tls", [True, False])
def test_a_log_in_is_bound_to_the_certificate_where_that_is_configured(
    tmp_path: Path, implicit_tls: bool
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        (line,) = await client.ok("CAPABILITY")
        assert b" AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 " in line
        secured = client.writer.get_extra_info("ssl_object")
        bound = hashlib.sha256(secured.getpeercert(binary_form=True)).digest()
        header = b"p=tls-server-end-point,,"
        wrong = ScramClient(USER, PASSWORD.encode(), header, bytes(32))
        hidden = ScramClient(USER, PASSWORD.encode(), b"y,,")
        for one, name in ((wrong, "SCRAM-SHA-256-PLUS"), (hidden, "SCRAM-SHA-256")):
            assert (await authenticate(client, name, one)).startswith(b"NO [CLIENTBUG] ")
        right = ScramClient(USER, PASSWORD.encode(), header, bound)
        assert (await authenticate(client, "SCRAM-SHA-256-PLUS", right)).startswith(b"OK ")

    _over_tls(tmp_path, talk, binds=True, implicit_tls=implicit_tls)


def test_where_it_is_not_configured_nothing_is_bound(tmp_path: Path) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        assert b"PLUS " not in client.greeting
        could = ScramClient(USER, PASSWORD.encode(), b"y,,")
        assert (await authenticate(client, "SCRAM-SHA-256", could)).startswith(b"OK ")

    _over_tls(tmp_path, talk, binds=False, implicit_tls=True)


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\na LOGIN x y\r\n",
        b"GET http://x/ HTTP/1.0\r\na LOGIN x y\r\n",
        b"Host: localhost\r\na LOGIN x y\r\n",
    ],
)
def test_a_web_browser_is_let_go_and_what_it_sends_is_not_read(request_: bytes) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.connect()
        client.send(request_)
        assert (await client.response()).startswith(b"* BYE this is IMAP")
        assert await client.response() == b""

    run(talk)
