"""The server on real sockets, with clients that others wrote and clients that behave badly."""

import asyncio
import datetime
import os
import smtplib
import socket
import ssl
import stat
import struct
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from raftmail.frontends.lmtp.config import ServerConfig
from raftmail.frontends.lmtp.server import LmtpServer
from tests.frontends.lmtp.server_kit import PATIENCE_S, Store, Wire, exists, run, until


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


# -- a client that others wrote --------------------------------------------------------------


def test_smtplib_delivers_over_tcp() -> None:
    def talk(port: int) -> None:
        with smtplib.LMTP("127.0.0.1", port, local_hostname="client.example") as client:
            for number in range(3):
                refused = client.sendmail(
                    "a@example.org",
                    ["Bob+lists@example.com", "unknown@example.com"],
                    f"Subject: {number}\n\n.dot\nlast\n",
                )
                assert list(refused) == ["unknown@example.com"]

    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        await asyncio.to_thread(talk, port)

    store = run(client)
    assert [body for _, body, _ in store.messages] == [
        b"Subject: %d\r\n\r\n.dot\r\nlast\r\n" % number for number in range(3)
    ]
    envelope, _, recipient = store.messages[0]
    assert recipient == "Bob+lists@example.com"
    assert len({envelope.transaction_id for envelope, _, _ in store.messages}) == 3
    assert envelope.trace.prefix(None) == (
        b"Return-Path: <a@example.org>\r\n"
        b"Received: from client.example ([127.0.0.1])\r\n"
        b"\tby mx.example with LMTP id %b;\r\n"
        b"\tTue, 14 Nov 2023 22:13:20 +0000\r\n" % envelope.transaction_id.encode()
    )


def test_smtplib_gets_a_reply_for_each_recipient() -> None:
    def talk(port: int) -> None:
        with smtplib.LMTP("127.0.0.1", port) as client:
            client.ehlo()
            client.mail("a@example.org")
            for user in ("bob", "full", "carol"):
                client.rcpt(f"{user}@example.com")
            assert client.data("hello")[0] == 250
            assert client.getreply() == (452, b"4.2.2 Mailbox is full")
            assert client.getreply() == (250, b"2.0.0 Stored for carol")
            assert client.noop()[0] == 250

    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        await asyncio.to_thread(talk, port)

    assert len(run(client).messages) == 3


def test_smtplib_delivers_over_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")

    def talk() -> None:
        with smtplib.LMTP(path) as client:
            client.sendmail("", ["bob@example.com"], "hi\r\n")

    async def client(server: LmtpServer, _port: int, _store: Store) -> None:
        await server.listen_unix(path, mode=0o600)
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        await asyncio.to_thread(talk)

    store = run(client)
    envelope, body, _ = store.messages[0]
    assert (envelope.sender, envelope.peer, body) == (None, "local", b"hi\r\n")
    assert not exists(path)


def test_smtplib_delivers_over_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    def talk(port: int) -> None:
        with smtplib.LMTP("localhost", port) as client:
            client.starttls(context=client_tls)
            client.sendmail(
                "a@example.org",
                ["jürgen@example.com"],
                b"x" * 300_000,
                mail_options=["SMTPUTF8", "BODY=8BITMIME"],
            )
            assert not client.has_extn("starttls")

    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        await asyncio.to_thread(talk, port)

    store = run(client, tls=server_tls)
    envelope, body, recipient = store.messages[0]
    assert envelope.tls and envelope.utf8
    assert b"with UTF8LMTPS id" in envelope.trace.received
    assert recipient == "jürgen@example.com"
    assert body == b"x" * 300_000 + b"\r\n"


# -- TLS -------------------------------------------------------------------------------------


def test_commands_sent_with_starttls_have_no_effect(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    def talk(port: int) -> None:
        with socket.create_connection(("localhost", port)) as plain:
            plain.settimeout(PATIENCE_S)
            lines = plain.makefile("rb")
            assert lines.readline().startswith(b"220 ")
            plain.sendall(b"LHLO x\r\n")
            while not lines.readline().startswith(b"250 "):
                pass
            plain.sendall(b"STARTTLS\r\nLHLO evil\r\nMAIL FROM:<evil@example.org>\r\n")
            assert lines.readline() == b"220 2.0.0 Ready to start TLS\r\n"
            with client_tls.wrap_socket(plain, server_hostname="localhost") as secured:
                secured.sendall(b"RCPT TO:<bob@example.com>\r\n")
                assert secured.recv(1000) == b"503 5.5.1 Bad sequence of commands\r\n"

    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        await asyncio.to_thread(talk, port)

    run(client, tls=server_tls)


def test_a_command_in_one_segment_with_the_end_of_the_handshake_is_answered(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.ask("STARTTLS")).startswith("220 ")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = client_tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                wire.writer.write(outgoing.read())
                incoming.write(await wire.reader.read(65536))
        secured.write(b"NOOP\r\n")
        wire.writer.write(outgoing.read())
        while True:
            try:
                assert secured.read() == b"250 2.0.0 Ok\r\n"
                return
            except ssl.SSLWantReadError:
                incoming.write(await wire.reader.read(65536))

    run(client, tls=server_tls)


@pytest.mark.parametrize("instead", [b"this is no handshake\r\n" * 10, b""])
def test_a_handshake_that_fails_ends_the_connection(
    server_tls: ssl.SSLContext, instead: bytes
) -> None:
    async def client(server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.ask("STARTTLS")).startswith("220 ")
        wire.writer.write(instead)
        if not instead:
            wire.close()
        await wire.rest()
        await until(lambda: server.stats().connections == 0)

    run(client, tls=server_tls)


def test_a_handshake_that_never_comes_is_not_waited_for(server_tls: ssl.SSLContext) -> None:
    async def client(server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.ask("STARTTLS")).startswith("220 ")
        assert await wire.rest() == b""
        await until(lambda: server.stats().connections == 0)

    run(client, tls=server_tls, handshake_s=0.1)


# -- a backend that fails --------------------------------------------------------------------


@pytest.mark.parametrize("user", ["breaks-resolve", "none-resolve"])
def test_a_recipient_whose_lookup_fails_is_put_off(
    user: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.send_message(user))[1].startswith("451 4.3.0 ")
        assert await wire.ask("RSET") == "250 2.0.0 Ok\r\n"
        assert (await wire.send_message("bob"))[3] == "250 2.0.0 Stored for bob\r\n"

    assert len(run(client).messages) == 1
    assert "the service failed" in caplog.text


@pytest.mark.parametrize("user", ["breaks", "short", "cancels"])
def test_a_delivery_that_fails_is_put_off_for_every_recipient(
    user: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def client(server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<a@example.org>", "RCPT TO:<bob@x>", f"RCPT TO:<{user}@x>", "DATA")
        for code in ("250", "250", "250", "354"):
            assert (await wire.reply()).startswith(code)
        wire.send("hi", ".")
        assert [(await wire.reply())[:9] for _ in range(2)] == ["451 4.3.0"] * 2
        assert (await wire.send_message("carol"))[3] == "250 2.0.0 Stored for carol\r\n"
        assert server.stats().service_failures == 1

    assert [recipient for _, _, recipient in run(client).messages] == ["carol@example.com"]
    assert "the service failed" in caplog.text


@pytest.mark.parametrize(("user", "reply"), [("hangs-resolve", 1), ("hangs", 3)])
def test_a_backend_that_hangs_is_given_up(user: str, reply: int) -> None:
    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.send_message(user))[reply].startswith("451 4.3.0 ")
        await wire.ask("RSET")
        assert (await wire.send_message("bob"))[3].startswith("250 ")

    assert run(client, service_timeout_s=0.1).cancelled == 1


# -- deliveries without a task -----------------------------------------------------------------


@pytest.mark.parametrize("user", ["bob", "at-once"])
def test_a_message_is_taken_without_a_task(user: str) -> None:
    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        for _ in range(2):
            assert (await wire.send_message(user))[3] == "250 2.0.0 Stored soon\r\n"

    assert len(run(client, soon=True).messages) == 2


def test_a_backend_that_fails_without_a_task_puts_the_message_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def client(server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.send_message("breaks"))[3].startswith("451 4.3.0 ")
        assert (await wire.send_message("bob"))[3].startswith("250 ")
        assert server.stats().service_failures == 1

    run(client, soon=True)
    assert "deliver_soon breaks" in caplog.text


def test_an_answer_without_a_task_that_comes_too_late_is_dropped() -> None:
    async def client(_server: LmtpServer, port: int, store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.send_message("gated"))[3].startswith("451 4.3.0 ")
        wire.send("MAIL FROM:<>", "RCPT TO:<gated@x>", "DATA")
        assert [(await wire.reply())[:3] for _ in range(3)] == ["250", "250", "354"]
        wire.send("hi", ".")
        await until(lambda: len(store.waiting) == 2)
        store.waiting[0]()  # of the message before
        store.waiting[1]()
        assert (await wire.reply()).startswith("250 ")
        assert await wire.ask("NOOP") == "250 2.0.0 Ok\r\n"

    run(client, soon=True, service_timeout_s=0.5)


def test_a_message_taken_without_a_task_is_stored_though_the_client_has_gone() -> None:
    async def client(server: LmtpServer, port: int, store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<>", "RCPT TO:<gated@x>", "BDAT 2 LAST", "hi")
        await until(lambda: bool(store.waiting))
        wire.close()
        await asyncio.sleep(0.05)
        assert server.stats().connections == 1
        store.waiting[0]()
        await until(lambda: server.stats().connections == 0)

    assert [body for _, body, _ in run(client, soon=True).messages] == [b"hi"]


def test_stopping_does_not_wait_for_ever_for_what_was_taken_without_a_task() -> None:
    async def client(server: LmtpServer, port: int, store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<>", "RCPT TO:<hangs@x>", "BDAT 2 LAST", "hi")
        await until(lambda: server.stats().buffered_bytes >= 2)
        await server.stop(0.05)
        assert server.stats().connections == 0

    run(client, soon=True)


# -- clients that behave badly ---------------------------------------------------------------


def test_a_silent_client_is_sent_away() -> None:
    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.open(port)
        assert (await wire.reply()).startswith("220 ")
        assert await wire.reply() == "421 4.4.2 Timed out, closing\r\n"
        assert await wire.rest() == b""

    run(client, session={"idle_timeout_s": 0.1})


def test_a_message_that_trickles_in_is_not_waited_for() -> None:
    async def client(_server: LmtpServer, port: int, store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<>", "RCPT TO:<bob@x>", "DATA")
        for _ in range(3):
            await wire.reply()
        last = asyncio.ensure_future(wire.reply())
        while not last.done():
            wire.send("x")
            await asyncio.sleep(0.02)
        assert last.result() == "421 4.4.2 Timed out, closing\r\n"
        assert not store.messages

    run(client, session={"transaction_timeout_s": 0.2})


def test_one_client_too_many_is_sent_away() -> None:
    async def client(server: LmtpServer, port: int, _store: Store) -> None:
        first, second = await Wire.ready(port), await Wire.ready(port)
        third = await Wire.open(port)
        assert (await third.reply()).startswith("421 4.3.2 ")
        assert await third.rest() == b""
        first.close()
        await until(lambda: server.stats().connections == 1)
        await Wire.ready(port)
        assert await second.ask("NOOP") == "250 2.0.0 Ok\r\n"
        assert server.stats().connections_refused == 1

    run(client, connections_max=2)


def test_a_client_that_takes_no_replies_is_not_read_from_and_then_cut_off() -> None:
    def flood(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.settimeout(PATIENCE_S)
            with pytest.raises(OSError, match=r"reset|pipe"):
                for _ in range(10_000):
                    raw.sendall(b"HELP\r\n" * 10_000)

    async def client(server: LmtpServer, port: int, _store: Store) -> None:
        flooding = asyncio.ensure_future(asyncio.to_thread(flood, port))
        while not flooding.done():
            stats = server.stats()
            assert stats.buffered_bytes <= 2 * 65536
            # asyncio stops at 64 KiB that it cannot send; one more portion was under way.
            assert stats.unsent_bytes <= 3 * 65536
            await asyncio.sleep(0.005)
        await flooding
        await until(lambda: server.stats().connections == 0)

    run(client, session={"idle_timeout_s": 0.3}, close_s=0.2)


def test_input_sent_ahead_is_bounded_while_the_backend_is_asked() -> None:
    async def client(server: LmtpServer, port: int, store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<>", "RCPT TO:<gated@x>", "DATA")
        for _ in range(3):
            await wire.reply()
        wire.send("hi", ".")
        await store.entered.wait()
        count = 3_000_000
        wire.writer.write(b"NOOP\r\n" * count)
        await until(lambda: server.stats().buffered_bytes > 2000)
        for _ in range(20):
            await asyncio.sleep(0.005)
            assert server.stats().buffered_bytes <= 3000 + 4
        store.gate.set()
        assert (await wire.reply()).startswith("250 2.0.0 Stored")
        for _ in range(100):
            assert await wire.reply() == "250 2.0.0 Ok\r\n"
        wire.writer.transport.abort()

    run(client, read_bytes_max=1000, unread_bytes_max=2000)


def test_a_client_that_goes_in_the_middle_of_a_message_leaves_nothing() -> None:
    async def client(server: LmtpServer, port: int, store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<>", "RCPT TO:<bob@x>", "BDAT 100000 LAST", "x" * 50_000)
        await until(lambda: server.stats().buffered_bytes > 40_000)
        wire.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        wire.close()
        await until(lambda: server.stats().connections == 0)
        assert server.stats().buffered_bytes == 0
        assert not store.messages

    run(client)


def test_a_message_is_stored_though_the_client_has_gone() -> None:
    async def client(server: LmtpServer, port: int, store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<>", "RCPT TO:<gated@x>", "BDAT 2 LAST", "hi")
        await store.entered.wait()
        wire.close()
        await asyncio.sleep(0.05)
        assert server.stats().buffered_bytes >= 2
        store.gate.set()
        await until(lambda: server.stats().connections == 0)

    assert [body for _, body, _ in run(client).messages] == [b"hi"]


# -- size and memory -------------------------------------------------------------------------


def test_a_large_message_arrives_unchanged() -> None:
    lines = b"".join(b"%b line %d\r\n" % (b"." * (n % 3), n) for n in range(200_000))
    stuffed = (b"\r\n" + lines).replace(b"\r\n.", b"\r\n..")[2:]

    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        wire.send("MAIL FROM:<>", "RCPT TO:<bob@x>", "DATA")
        for _ in range(3):
            await wire.reply()
        wire.writer.write(stuffed + b".\r\n")
        assert (await wire.reply()).startswith("250 ")
        wire.send("MAIL FROM:<>", "RCPT TO:<bob@x>", f"BDAT {len(lines)} LAST")
        wire.writer.write(lines)
        for _ in range(3):
            assert (await wire.reply()).startswith("250 ")

    assert [body for _, body, _ in run(client).messages] == [lines, lines]


def test_a_message_over_the_limit_is_refused_and_the_connection_goes_on() -> None:
    async def client(_server: LmtpServer, port: int, _store: Store) -> None:
        wire = await Wire.ready(port)
        assert (await wire.send_message("bob", "x" * 300_000))[3].startswith("552 5.3.4 ")
        assert (await wire.send_message("bob", "x" * 99_998))[3].startswith("250 ")

    assert len(run(client, session={"message_bytes_max": 100_000}).messages) == 1


def test_all_messages_arrive_though_together_they_are_over_the_memory_limit() -> None:
    async def client(server: LmtpServer, port: int, _store: Store) -> None:
        wires = [await Wire.ready(port) for _ in range(6)]
        highest = 0
        for wire in wires:
            wire.send("MAIL FROM:<>", "RCPT TO:<bob@x>", "BDAT 300000 LAST")
        for _ in range(30):
            for wire in wires:
                wire.writer.write(b"x" * 10_000)
            await asyncio.sleep(0)
            highest = max(highest, server.stats().buffered_bytes)
        for wire in wires:
            for _ in range(3):
                assert (await wire.reply()).startswith("250 ")
        assert highest <= 50_000 + 300_000 + 6 * 4096

    store = run(client, buffered_bytes_max=50_000, read_bytes_max=4096)
    assert [len(body) for _, body, _ in store.messages] == [300_000] * 6


# -- beginning and end -----------------------------------------------------------------------


def test_stopping_lets_a_transaction_end_and_sends_idle_clients_away() -> None:
    async def client(server: LmtpServer, port: int, store: Store) -> None:
        idle, busy, gated = [await Wire.ready(port) for _ in range(3)]
        for wire, user in ((busy, "bob"), (gated, "gated")):
            wire.send("MAIL FROM:<>", f"RCPT TO:<{user}@x>", "DATA")
            for _ in range(3):
                await wire.reply()
        gated.send("hi", ".")
        await store.entered.wait()
        stopping = asyncio.ensure_future(server.stop(grace_s=PATIENCE_S))
        assert await idle.reply() == "421 4.3.2 Stopping, try again later\r\n"
        assert await idle.rest() == b""
        with pytest.raises(OSError, match=r"refused|Connect"):
            await Wire.open(port)
        busy.send("hi", ".")
        store.gate.set()
        for wire in (busy, gated):
            assert (await wire.reply()).startswith("250 2.0.0 Stored")
            assert await wire.reply() == "421 4.3.2 Stopping, try again later\r\n"
            assert await wire.rest() == b""
        await stopping

    assert len(run(client).messages) == 2


def test_stopping_does_not_wait_for_ever() -> None:
    async def client(server: LmtpServer, port: int, store: Store) -> None:
        silent, hanging = await Wire.ready(port), await Wire.ready(port)
        await silent.ask("MAIL FROM:<>")
        hanging.send("MAIL FROM:<>", "RCPT TO:<hangs@x>", "BDAT 2 LAST", "hi")
        await store.entered.wait()
        await server.stop(grace_s=0.1)
        assert b"421 4.3.2 Stopping" in await silent.rest()
        assert b"421 4.3.2 Stopping" in await hanging.rest()
        assert store.cancelled == 1

    run(client)


def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")

    async def client(server: LmtpServer, _port: int, store: Store) -> None:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        await server.listen_unix(path)
        other = LmtpServer(store, ServerConfig(), wall_clock=lambda: 0.0)
        with pytest.raises(OSError, match="another server listens"):
            await other.listen_unix(path)
        await other.stop(0)
        assert exists(path)

    run(client)


def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    path.write_text("precious")

    async def client(server: LmtpServer, _port: int, _store: Store) -> None:
        with pytest.raises(FileExistsError, match="not a socket"):
            await server.listen_unix(str(path))

    run(client)
    assert path.read_text() == "precious"


def test_a_server_limit_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="connections_max must be above 0"):
        ServerConfig(connections_max=0)
