"""Large messages and those for many recipients: given again until they are taken, the same bytes,
and never more than they may weigh."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from raftmail_chaos import lmtp, mta
from raftmail_chaos.mta import Mass, Mta, compose
from raftmail_chaos.record import Delivery, read_user

PLENTY = 1 << 40


@dataclass
class Server:
    """Speaks LMTP, answering recipients of a message by `replies`, one list for each message; ""
    closes the connection instead."""

    replies: list[list[str]]
    given: list[tuple[list[str], bytes]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        host, port = server.sockets[0].getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        recipients: list[str] = []
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                verb = line.split(b" ", 1)[0].strip().upper()
                if verb == b"RCPT":
                    recipients.append(line.decode().strip()[9:-1])
                if verb != b"DATA":
                    writer.write(b"250 ok\r\n")
                    continue
                writer.write(b"354 go on\r\n")
                body = await reader.readuntil(b"\r\n.\r\n")
                self.given.append((recipients, body[:-3]))
                for reply in self.replies.pop(0):
                    if not reply:
                        break
                    writer.write(reply.encode() + b"\r\n")
                else:
                    recipients = []
                    continue
                break
            await writer.drain()
        writer.close()


def _mta(folder: Path, node: str, bytes_max: int = PLENTY) -> tuple[Mta, list[str]]:
    problems: list[str] = []

    async def make_user(user: str) -> None: ...

    agent = Mta(
        0, 1, bytes_max, 1.0, folder, lambda: [node], make_user, lambda: None, problems.append
    )
    return agent, problems


def _mass(folder: Path, *users: str) -> Mass:
    for user in users:
        (folder / user.partition("@")[0]).mkdir(parents=True)
    return Mass("m0-1", b"Subject: x\r\n\r\n.dot\r\n", 1.0, len(users), list(users))


def _deliveries(folder: Path, user: str) -> list[Delivery]:
    return [one for one in read_user(folder / user) if isinstance(one, Delivery)]


def test_each_recipient_has_a_reply_of_its_own_and_those_without_one_are_not_known() -> None:
    server = Server([["250 ok", "451 later", ""]])

    async def run() -> list[lmtp.MtaReply]:
        async with server.listening() as node:
            connection = await lmtp.MtaConnection.open(node)
            return await connection.deliver_all("s@x", ("a@x", "b@x", "c@x"), b"x\r\n", 5)

    first, second, third = asyncio.run(run())
    assert (first.code, second.code, third.code) == (250, 451, 0)
    assert first.sent and second.sent and third.sent


def test_the_same_bytes_are_given_again_to_those_who_lack_them_and_to_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server([["250 ok", "451 later", ""], ["452 full", "250 ok"], ["250 ok"]])

    async def run() -> None:
        async with server.listening() as node:
            agent, problems = _mta(tmp_path, node)
            mass = _mass(tmp_path, "a@x", "b@x", "c@x")
            agent._open[mass.token] = mass
            await agent._hand_over(random.Random(1), mass)
            assert not problems and not agent._open
            assert agent.spent_bytes == len(mass.body) * (3 + 2 + 1)

    monkeypatch.setattr(mta, "_PAUSE_S", (0.0, 0.0))
    asyncio.run(run())
    assert [to for to, _ in server.given] == [
        ["a+lmtp@x", "b+lmtp@x", "c+lmtp@x"], ["b+lmtp@x", "c+lmtp@x"], ["b+lmtp@x"],
    ]  # fmt: skip
    assert {body for _, body in server.given} == {b"Subject: x\r\n\r\n..dot\r\n"}
    noted = [_deliveries(tmp_path, user)[0] for user in "abc"]
    assert [(one.code, one.tries, one.sent) for one in noted] == [
        (250, 1, True), (250, 3, True), (250, 2, True),
    ]  # fmt: skip


def test_what_was_never_taken_is_noted_as_not_known_and_a_refusal_for_good_is_told(
    tmp_path: Path,
) -> None:
    server = Server([["550 no", ""]])

    async def run() -> list[str]:
        async with server.listening() as node:
            agent, problems = _mta(tmp_path, node)
            mass = _mass(tmp_path, "a@x", "b@x")
            agent._open[mass.token] = mass
            agent._take(mass, await agent._try(node, mass))
            agent.give_up()
            return problems

    (problem,) = asyncio.run(run())
    assert "a@x" in problem and "550" in problem
    (left,) = _deliveries(tmp_path, "b")
    assert (left.code, left.sent, left.recipients) == (0, True, 2)


def test_no_more_is_begun_once_the_bytes_of_the_whole_run_are_spent(tmp_path: Path) -> None:
    async def run() -> Mta:
        agent, _ = _mta(tmp_path, "127.0.0.1:1", bytes_max=1 << 20)
        agent.spent_bytes = 1 << 20
        stopping = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, stopping.set)
        await agent.run(stopping)
        return agent

    assert asyncio.run(run()).spent_bytes == 1 << 20


def test_the_first_messages_are_the_largest_and_the_one_with_the_most_recipients(
    tmp_path: Path,
) -> None:
    async def run() -> list[Mass]:
        found = []
        for index in (0, 1):
            agent, _ = _mta(tmp_path, "127.0.0.1:1")
            agent.index = index
            found.append(await agent._next(random.Random(index)))
        return found

    large, crowded = asyncio.run(run())
    assert len(large.body) >= mta.MESSAGE_BYTES_MAX and len(large.waiting) == 2
    assert len(set(crowded.waiting)) == mta.RECIPIENTS_MAX


def test_a_message_ends_in_crlf_and_has_its_token_in_the_header() -> None:
    body = compose(random.Random(1), "m0-7", 100_000)
    assert body.endswith(b"\r\n") and b"\n" not in body.replace(b"\r\n", b"")
    assert b"\r\nX-Chaos-Token: m0-7\r\n" in body[:500]
    assert 99_000 < len(body) < 106_000
