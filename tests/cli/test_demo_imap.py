"""The demonstration reads mail as a mail program does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.server import ImapServer
from raftmail.mail.budget import Budget
from raftmail.mail.failures import Failure, Unavailable
from raftmail.net.tls import program_context
from raftmail_cli.demo_imap import BATCH, mail_over_imap
from raftmail_cli.errors import CliError
from tests.frontends.pop3 import pop3_kit
from tests.frontends.pop3.pop3_kit import USER, deliver, small
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates


@pytest.fixture
def service() -> TwinService:
    found = TwinService()
    found.users[USER] = pop3_kit._HASHED
    return found


def read(service: TwinService, folder: Path, *, wrong_authority: bool = False) -> list[bytes]:
    """All mail of the user, from a server over the twin."""
    certificates = Certificates(folder / "tls", "c" * 32)
    files = certificates.files("n1")
    trusted = Certificates(folder / "other", "d" * 32).ca if wrong_authority else files.ca

    async def work() -> list[bytes]:
        tls = program_context(files.certificate, files.key)
        budget, fetching = Budget(1 << 26), asyncio.Semaphore(4)
        context = ImapContext(service, lambda: 1_700_000_000.0, budget, fetching, tls=tls)
        server = ImapServer(context, implicit_tls=True)
        _, port = await server.listen_tcp("127.0.0.1", 0)
        address = f"127.0.0.1:{port}"
        try:
            return await asyncio.to_thread(
                lambda: list(mail_over_imap(address, trusted, USER, "secret password"))
            )
        finally:
            await server.stop(1.0)

    return asyncio.run(work())


def test_all_messages_are_read_in_batches_and_what_cannot_be_had_now_is_asked_again(
    tmp_path: Path, service: TwinService
) -> None:
    messages = [small(f"n{n}", ".\r\nhello") for n in range(2 * BATCH + 1)]
    deliver(service, *messages)
    query, failures = service.query, [Failure("no master")] * 3

    async def failing(asked: object, **options: object) -> object:
        if failures:
            raise Unavailable(failures.pop())
        return await query(asked, **options)  # type: ignore[arg-type]

    service.query = failing  # type: ignore[method-assign, assignment]
    assert read(service, tmp_path) == messages
    assert not failures


def test_a_node_of_another_authority_is_told_nothing(tmp_path: Path, service: TwinService) -> None:
    with pytest.raises(CliError, match="could not be read over IMAP"):
        read(service, tmp_path, wrong_authority=True)
