"""The program of docs/client-library.md, against a twin of a node."""

from __future__ import annotations

from pathlib import Path

from raftmail.client import Client
from raftmail.mail.uidset import UidSet
from tests.client import archive
from tests.client.flaky_server import TOKEN, Node, run_with
from tests.repository.source_tree import ROOT


def test_the_document_shows_the_program_as_it_is() -> None:
    code = Path(archive.__file__).read_text(encoding="utf-8")
    document = (ROOT / "docs/client-library.md").read_text(encoding="utf-8")
    assert f"```python\n{code}```" in document


def test_the_program_saves_and_moves_only_what_was_read() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address, token=TOKEN) as client:
            await client.create_mailbox("ann", "INBOX")
            assert (await archive.save(client, "ann", b"one\r\n")).startswith("saved: a majority")
            await client.save("ann", "INBOX", b"two\r\n", ["\\Seen"])
            assert await archive.archive(client, "ann") == UidSet.single(2)
            assert await archive.archive(client, "ann") == UidSet()
            left = [m.uid async for m in client.messages("ann", "INBOX", UidSet.parse("1:*"))]
            assert left == [1]

    run_with(1, body)
