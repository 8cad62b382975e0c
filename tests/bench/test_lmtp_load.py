"""The LMTP load generator against a scripted server: what it sends and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from bench.closed_loop import LoadResult
from bench.lmtp_load import LoadPlan, drive, run_load
from bench.runtime import BenchError, free_ports

Answer = Callable[[bytes], bytes]


class Server:
    """Answers every command line with what ``answer`` says; keeps writes and messages."""

    def __init__(self, answer: Answer, hang_up_after: int = 0) -> None:
        self.answer = answer
        self.hang_up_after = hang_up_after
        self.reads: list[bytes] = []
        self.messages: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(b"220 ready\r\n")
        while data := await reader.read(65_536):
            self.reads.append(data)
            for line in data.splitlines(keepends=True):
                reply = self.answer(line)
                writer.write(reply)
                if reply.startswith(b"354"):
                    self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                    if len(self.messages) == self.hang_up_after:
                        writer.close()
                        return
                    writer.write(self.answer(b"."))
        writer.close()


def polite(line: bytes) -> bytes:
    if line.startswith(b"LHLO"):
        return b"250-mail.example.org\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
    if line.startswith(b"DATA"):
        return b"354 go on\r\n"
    if line.startswith(b"QUIT"):
        return b"221 bye\r\n"
    return b"250 fine\r\n"


def but(prefix: bytes, reply: bytes) -> Answer:
    return lambda line: reply if line.startswith(prefix) else polite(line)


def load(server: Server, pipelining: bool = True, connections: int = 2) -> LoadResult:
    async def both() -> LoadResult:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            plan = LoadPlan(
                address=f"127.0.0.1:{port}",
                recipients=("ann@example.org", "bob@example.org"),
                connections=connections,
                seconds=0.1,
                warmup_s=0.05,
                message_bytes=1000,
                pipelining=pipelining,
            )
            return await drive(plan)

    return asyncio.run(both())


def test_every_message_has_the_size_asked_for_and_no_two_are_equal() -> None:
    server = Server(polite)
    load(server)
    assert server.messages
    assert {len(message) for message in server.messages} == {1000 + len(b".\r\n")}
    assert len(set(server.messages)) == len(server.messages)


def test_messages_have_no_line_that_begins_with_a_dot_and_no_bare_line_ending() -> None:
    server = Server(polite)
    load(server)
    for message in server.messages:
        text = message.removesuffix(b".\r\n")
        assert b"\n." not in text
        unbroken = text.replace(b"\r\n", b"")
        assert b"\r" not in unbroken
        assert b"\n" not in unbroken


def test_what_is_reported_as_accepted_is_what_the_server_acknowledged() -> None:
    server = Server(polite)
    result = load(server)
    assert result.accepted_total == len(server.messages)
    assert 0 < result.done <= result.accepted_total
    assert result.failures == {}


def test_commands_go_out_in_one_write_where_pipelining_is_offered() -> None:
    server = Server(polite)
    result = load(server)
    assert result.notes == {"pipelined": True}
    assert any(read.count(b"\r\n") == 3 and read.startswith(b"MAIL") for read in server.reads)


@pytest.mark.parametrize(
    ("pipelining", "answer"),
    [(False, polite), (True, but(b"LHLO", b"250 mail.example.org\r\n"))],
    ids=["not wanted", "not offered"],
)
def test_commands_go_out_one_by_one_otherwise(pipelining: bool, answer: Answer) -> None:
    server = Server(answer)
    result = load(server, pipelining)
    assert result.notes == {"pipelined": False}
    assert result.accepted_total == len(server.messages) > 0
    assert all(read.count(b"\r\n") == 1 for read in server.reads)


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    ("prefix", "reply", "code"),
    [
        (b"MAIL", b"452 full\r\n", "452"),
        (b"RCPT", b"550 who\r\n", "550"),
        (b".", b"451 no\r\n", "451"),
    ],
)
def test_refusals_are_counted_by_code_and_the_connection_goes_on(
    pipelining: bool, prefix: bytes, reply: bytes, code: str
) -> None:
    refused = False

    def answer(line: bytes) -> bytes:
        nonlocal refused
        if line.startswith(prefix):
            refused = True
            return reply
        if line.startswith(b"DATA") and refused and prefix != b".":
            return b"503 no recipient\r\n"
        if line.startswith(b"RSET"):
            refused = False
        return polite(line)

    server = Server(answer)
    result = load(server, pipelining, connections=1)
    assert result.done == 0
    assert set(result.failures) == {code}
    assert result.failures[code] > 1
    assert server.connections == 2, "the probe and one connection"


def test_a_lost_connection_is_counted_and_opened_again() -> None:
    server = Server(polite, hang_up_after=3)
    result = load(server, connections=1)
    assert result.failures == {"lost": 1}
    assert len(server.messages) > 3
    assert result.accepted_total == len(server.messages) - 1


def test_nobody_listening_is_an_error_that_names_the_address() -> None:
    (port,) = free_ports(1)
    with pytest.raises(BenchError, match=f"127.0.0.1:{port}"):
        run_load(LoadPlan(f"127.0.0.1:{port}", ("ann@example.org",), seconds=0.1))


@pytest.mark.parametrize(
    "plan",
    [
        LoadPlan("127.0.0.1:24", ()),
        LoadPlan("127.0.0.1:24", ("ann@example.org",), connections=0),
        LoadPlan("127.0.0.1:24", ("ann@example.org",), message_bytes=100),
        LoadPlan("somewhere", ("ann@example.org",)),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(plan: LoadPlan) -> None:
    with pytest.raises(BenchError):
        asyncio.run(drive(plan))
