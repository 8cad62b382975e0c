"""The demonstration's senders, and how it judges."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from raftmail_cli.demo import judge
from raftmail_cli.demo_load import (
    REPLY_LOST_EVERY,
    DemoLedger,
    DemoLoad,
    DemoMessage,
    make_messages,
    number_of,
)
from raftmail_cli.lmtp import DemoLmtpClient, DemoLmtpLost, DemoLmtpReply

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """An LMTP server. `final` gives the reply to each message in turn; b"" drops the connection
    instead, and None drops it before the message is read."""

    def __init__(self, *final: bytes | None, recipient: bytes = b"250 ok") -> None:
        self.final = list(final)
        self.recipient = recipient
        self.received: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220-hello\r\n220 there\r\n")
        while line := await reader.readline():
            if line == b"DATA\r\n":
                if self.final and self.final[0] is None:
                    self.final.pop(0)
                    break
                writer.write(b"354 go\r\n")
                self.received.append(await reader.readuntil(b"\r\n.\r\n"))
                reply = self.final.pop(0) if self.final else b"250 ok"
                if not reply:
                    break
                writer.write(reply + b"\r\n")
            else:
                writer.write((self.recipient if line.startswith(b"RCPT") else b"250 ok") + b"\r\n")
        writer.close()


async def listen(server: Server) -> tuple[asyncio.Server, tuple[str, int]]:
    listener = await asyncio.start_server(server, "127.0.0.1", 0, limit=1 << 20)
    host, port = listener.sockets[0].getsockname()
    return listener, (host, port)


def deliver(server: Server, body: bytes) -> DemoLmtpReply:
    async def work() -> DemoLmtpReply:
        listener, address = await listen(server)
        async with listener:
            client = await DemoLmtpClient.open(*address, 5.0)
            try:
                return await client.deliver("s@x.example", "r@x.example", body, 5.0)
            finally:
                client.close()

    return asyncio.run(work())


def send(messages: list[DemoMessage], *servers: Server) -> DemoLedger:
    async def work() -> DemoLedger:
        listening = [await listen(server) for server in servers]
        load = DemoLoad([address for _, address in listening], messages, 0.0, senders=1)
        await load.run()
        for listener, _ in listening:
            listener.close()
        return load.ledger

    return asyncio.run(work())


def test_dots_are_doubled_at_the_beginning_of_lines_only() -> None:
    server = Server()
    assert deliver(server, b".a\r\nb.\r\n..\r\n\n.c\r\n").is_positive
    assert server.received == [b"..a\r\nb.\r\n...\r\n\n.c\r\n.\r\n"]


def test_a_reply_says_whether_it_is_about_a_whole_message() -> None:
    later = deliver(Server(b"451 4.3.0 later"), b"a\r\n")
    assert (later.code, later.is_transient, later.after_data) == (451, True, True)
    refused = deliver(Server(recipient=b"550 nobody"), b"a\r\n")
    assert (refused.code, refused.is_positive, refused.after_data) == (550, False, False)


@pytest.mark.parametrize(("final", "unknown"), [(b"", True), (None, False)])
def test_a_lost_connection_leaves_the_outcome_open_only_after_the_message(
    final: bytes | None, unknown: bool
) -> None:
    with pytest.raises(DemoLmtpLost) as raised:
        deliver(Server(final), b"a\r\n")
    assert raised.value.unknown is unknown


def test_a_sender_goes_to_another_node_until_the_message_is_taken() -> None:
    bad, good = Server(b"451 later", None, b""), Server()
    messages = [DemoMessage(n, "u@x.example", b"m%d\r\n" % n) for n in range(3)]
    ledger = send(messages, bad, good)
    assert ledger.acknowledged == {0, 1, 2}
    assert not ledger.refused
    assert ledger.unknown == {0}
    assert good.received == [b"m%d\r\n.\r\n" % n for n in range(3)]


def test_messages_that_are_held_wait_until_they_are_released() -> None:
    async def work() -> tuple[int, DemoLoad]:
        listener, address = await listen(Server())
        messages = [DemoMessage(n, "u@x.example", b"m\r\n") for n in range(4)]
        load = DemoLoad([address], messages, 0.0, senders=1, held_from=2)
        running = asyncio.create_task(load.run())
        while load.ledger.settled < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        before = load.ledger.settled
        load.release()
        await running
        listener.close()
        return before, load

    before, load = asyncio.run(work())
    assert (before, load.ledger.settled) == (2, 4)


def test_a_message_that_nobody_wants_is_refused_at_once() -> None:
    ledger = send([DemoMessage(0, "u@x.example", b"m\r\n")], Server(b"552 too big"))
    assert (ledger.acknowledged, ledger.attempts) == (set(), 1)
    assert ledger.refused == ["message 0: 552 too big"]


def test_the_mail_is_all_examples_with_an_id_each() -> None:
    messages = make_messages(60, ["a", "b"])
    assert [number_of(b"Received: x\r\n" + m.body) for m in messages] == list(range(60))
    assert {m.user for m in messages} == {"a", "b"}
    assert sum(len(m.body) > 19_000_000 for m in messages) == 1
    assert sum(900_000 < len(m.body) < 1_100_000 for m in messages) == 3
    assert all(m.body.endswith(b"\r\n") for m in messages)


def ledger_of(*acknowledged: int, unknown: set[int] | None = None) -> DemoLedger:
    ledger = DemoLedger(unknown=unknown or set())
    for at, number in enumerate(acknowledged):
        ledger.acknowledge(number, float(at * at))
    return ledger


def test_what_one_node_lacks_is_lost() -> None:
    counts = [Counter({1: 1, 2: 1}), Counter({1: 1})]
    verdict = judge(ledger_of(1, 2), counts, 2, 2, equal=True, over_imap=Counter({1: 1, 2: 1}))
    assert (verdict.found, verdict.lost, verdict.doubled) == (1, 1, 0)
    assert not verdict.is_good


def test_what_was_never_acknowledged_is_neither_found_nor_lost() -> None:
    found = Counter({1: 1, 2: 1})
    verdict = judge(ledger_of(1), [found], 2, 2, equal=True, over_imap=found)
    assert (verdict.found, verdict.lost, verdict.is_good) == (1, 0, True)


def test_two_copies_are_doubled_also_when_a_reply_was_lost() -> None:
    counts = [Counter({1: 2, 2: 2, 3: 1})]
    ledger = ledger_of(1, 2, 3, unknown={2, 3})
    verdict = judge(ledger, counts, 3, 2, equal=True, over_imap=counts[0])
    assert (verdict.doubled, verdict.sent_again) == (2, 2)
    assert not verdict.is_good


def test_of_some_messages_the_reply_is_thrown_away_and_they_are_sent_again_elsewhere() -> None:
    one, other = Server(), Server()
    messages = [DemoMessage(n, "u@x.example", b"m%d\r\n" % n) for n in range(REPLY_LOST_EVERY + 1)]
    ledger = send(messages, one, other)
    assert ledger.acknowledged == set(range(REPLY_LOST_EVERY + 1))
    assert ledger.unknown == {0, REPLY_LOST_EVERY}
    assert one.received[0] == other.received[0] == b"m0\r\n.\r\n"
    assert ledger.attempts == REPLY_LOST_EVERY + 3


def test_time_in_which_the_senders_had_to_wait_is_no_gap() -> None:
    ledger = ledger_of(1)
    ledger.resume(100.0)
    ledger.acknowledge(2, 101.5)
    assert ledger.longest_gap_s == 1.5


def test_the_longest_gap_lies_between_two_acknowledgements() -> None:
    found = Counter({5: 1, 6: 1, 7: 1})
    verdict = judge(ledger_of(5, 6, 7), [found], 3, 0, equal=True, over_imap=found)
    assert verdict.longest_gap_s == 3.0
    assert not judge(ledger_of(), [], 0, 0, equal=False, over_imap=Counter()).is_good


def test_what_is_not_read_over_imap_is_lost_and_twice_there_is_doubled() -> None:
    counts = [Counter({1: 1, 2: 1})] * 3
    verdict = judge(ledger_of(1, 2), counts, 2, 3, equal=True, over_imap=Counter({1: 2}))
    assert (verdict.read_over_imap, verdict.lost, verdict.doubled) == (1, 1, 1)
    assert not verdict.is_good
