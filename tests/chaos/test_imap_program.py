"""Mail programs of the load, over real sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.server import ImapServer
from raftmail.mail import commands as c
from raftmail.mail.budget import Budget
from raftmail.service.credentials import make_credentials
from raftmail_chaos import imap_program
from raftmail_chaos.checker import check
from raftmail_chaos.history import History, Operation
from raftmail_chaos.imap_mirror import MirrorBroken
from raftmail_chaos.imap_program import ImapProgram
from raftmail_chaos.imap_reader import ImapReader
from tests.frontends.imap.machine_service import MachineService

USER = "anna@example.org"
BOXES = ("INBOX", "Work")
PATIENCE_S = 60.0


async def node(service: MachineService) -> tuple[ImapServer, str]:
    context = ImapContext(service, lambda: 1_700_000_000.0, Budget(1 << 24), asyncio.Semaphore(4))
    server = ImapServer(context)
    host, port = await server.listen_tcp("127.0.0.1", 0)
    return server, f"{host}:{port}"


def program(
    number: int, addresses: Callable[[], Sequence[str]], history: History, broken: list[str]
) -> ImapProgram:
    def record(operation: Operation) -> None:
        history.operations.append(operation)

    reader = ImapReader(
        f"imap{number}", USER, "secret", BOXES, random.Random(number), record, number
    )
    return ImapProgram(reader, random.Random(number), addresses, None, broken.append)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not done():  # noqa: ASYNC110  what is waited for tells nobody
            await asyncio.sleep(0.01)


def service() -> MachineService:
    made = MachineService()
    made.users[USER] = make_credentials(b"secret", b"salt of the tests")
    for number, name in enumerate(BOXES):
        made.feeder.do(c.CreateMailbox(USER, name, 1_700_000_000, bytes(15) + bytes((number,))))
    return made


def test_programs_go_to_another_node_when_theirs_ends_and_find_all_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(imap_program, "THINK_S", (0.0, 0.01))
    monkeypatch.setattr(imap_program, "IDLE_S", (0.01, 0.05))
    history, broken = History(), list[str]()

    async def main() -> None:
        made = service()
        (first, one), (second, two) = await node(made), await node(made)
        addresses = [one]
        programs = [program(number, lambda: addresses, history, broken) for number in range(2)]
        tasks = [asyncio.create_task(each.run()) for each in programs]
        try:
            await until(lambda: all(each.reader.looks > 3 for each in programs))
            addresses[:] = [one, two]
            opened = [each.reader.resyncs for each in programs]
            await first.stop(0.0)
            await until(
                lambda: all(
                    each.reader.resyncs > before + 1
                    for each, before in zip(programs, opened, strict=True)
                )
            )
            for each in programs:
                each.stop()
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await second.stop(0.0)

    asyncio.run(main())
    assert not broken
    history.operations.sort(key=lambda operation: operation.invoked)
    assert not check(history)
    assert {type(operation.call).__name__ for operation in history.operations} >= {
        "GetMailbox",
        "FetchMessages",
        "Store",
    }


@pytest.mark.parametrize(
    ("code", "violates"), [("UNAVAILABLE", False), ("SERVERBUG", True), ("CANNOT", True)]
)
def test_a_command_may_be_refused_for_now_and_an_error_of_the_server_is_a_violation(
    code: str, violates: bool
) -> None:
    reader = ImapReader("imap1", USER, "secret", BOXES, random.Random(1), lambda _: None)
    reader.connected()
    reader.hear(b"* OK hello\r\n", 0.0)
    tag = reader.next_command(1.0).split()[0]
    refusal = b"%b NO [%b] not now\r\n" % (tag, code.encode())
    if violates:
        with pytest.raises(MirrorBroken, match=code):
            reader.hear(refusal, 2.0)
    else:
        reader.hear(refusal, 2.0)
        assert reader.is_ready


def test_a_program_that_is_told_what_cannot_be_true_says_so_and_ends() -> None:
    broken: list[str] = []

    async def lie(incoming: asyncio.StreamReader, outgoing: asyncio.StreamWriter) -> None:
        outgoing.write(b"* OK hello\r\n")
        await incoming.readline()
        outgoing.write(b"t9 OK that was not asked\r\n")
        await incoming.read()
        outgoing.close()

    async def main() -> None:
        server = await asyncio.start_server(lie, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(PATIENCE_S):
            await program(0, lambda: [f"127.0.0.1:{port}"], History(), broken).run()
        server.close()

    asyncio.run(main())
    assert len(broken) == 1 and "t9" in broken[0]
