"""The STORE and SAVE load generator against a scripted node: what it sends and what it counts."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.closed_loop import LoadResult
from bench.runtime import BenchError
from bench.store_load import StorePlan, drive

PLAN = StorePlan(
    (), ("ann@example.org",), connections=2, pipeline=8, messages=20, touched=10, seconds=0.1
)


class Node:
    """Answers in batches, newest first: a node may answer in any order."""

    def __init__(self, messages: int, answer: Callable[[bytes], bytes]) -> None:
        self.messages = messages
        self.answer = answer
        self.stores: list[list[bytes]] = []
        self.saves: list[bytes] = []
        self.most_outstanding = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* HELLO raftmail version=1\r\n")
        sent: list[bytes] = []
        self.stores.append(sent)
        rest = b""
        while data := await reader.read(65_536):
            tags = []
            lines = (rest + data).split(b"\r\n")
            rest = lines.pop()
            at = 0
            while at < len(lines):
                line = lines[at]
                at += 1
                tag, name = line.split()[:2]
                if name == b"MAILBOX":
                    writer.write(b"%b OK number=1 messages=%d\r\n" % (tag, self.messages))
                elif name == b"STORE":
                    sent.append(line)
                    tags.append(tag)
                elif name == b"SAVE":
                    end = lines.index(b"A short text.", at)
                    self.saves.append(b"\r\n".join(lines[at : end + 1]) + b"\r\n")
                    assert re.search(rb"\{%d\}$" % len(self.saves[-1]), line)
                    at = end + 2
                    self.messages += 1
                    tags.append(tag)
            self.most_outstanding = max(self.most_outstanding, len(tags))
            for tag in reversed(tags):
                writer.write(self.answer(tag))
        writer.close()


def ok(tag: bytes) -> bytes:
    return tag + b" OK changed=1\r\n"


def load(node: Node, plan: StorePlan = PLAN, listeners: int = 1) -> LoadResult:
    async def both() -> LoadResult:
        servers = [await asyncio.start_server(node.serve, "127.0.0.1", 0) for _ in range(listeners)]
        addresses = [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
        try:
            return await drive(replace(plan, addresses=tuple(addresses), warmup_s=0.02))
        finally:
            for server in servers:
                server.close()

    return asyncio.run(both())


def test_every_store_changes_its_message() -> None:
    node = Node(20, ok)
    load(node)
    flagged: Counter[bytes] = Counter()
    for line in (line for sent in node.stores for line in sent):
        _, _, _, uid, operation, _ = line.split()
        flagged[uid] += 1 if operation == b"+FLAGS" else -1
        assert flagged[uid] in (0, 1)
    assert len(flagged) == 10


def test_the_messages_that_are_changed_are_spread_over_the_mailbox() -> None:
    node = Node(20, ok)
    load(node)
    uids = {int(line.split()[3]) for sent in node.stores for line in sent}
    assert uids == set(range(1, 20, 2))


def test_no_more_is_outstanding_than_was_asked_for() -> None:
    node = Node(20, ok)
    load(node)
    assert node.most_outstanding == 8


def test_what_is_acknowledged_is_what_was_sent() -> None:
    node = Node(20, ok)
    result = load(node)
    assert result.accepted_total == sum(map(len, node.stores)) > 0
    assert result.failures == {}


def test_other_answers_are_failures_and_not_acknowledgements() -> None:
    result = load(Node(20, lambda tag: tag + b' RETRY "no master"\r\n'))
    assert result.done == 0
    assert set(result.failures) == {'RETRY "no master"'}


def test_a_mailbox_is_filled_to_what_was_asked_for_and_no_further() -> None:
    node = Node(13, ok)
    load(node)
    assert len(node.saves) == 7


def test_saved_messages_are_all_different() -> None:
    node = Node(20, ok)
    result = load(node, replace(PLAN, operation="save"))
    assert result.accepted_total == len(node.saves) == len(set(node.saves)) > 0


def test_connections_are_dealt_to_the_addresses_in_turn() -> None:
    node = Node(20, ok)
    load(node, listeners=2)
    # The first one filled the mailbox, and had nothing to do.
    assert sorted(bool(sent) for sent in node.stores) == [False, True, True]


def test_a_node_that_is_not_there_is_told_in_words() -> None:
    plan = replace(PLAN, addresses=("127.0.0.1:1",))
    with pytest.raises(BenchError, match=r"nobody listens at 127\.0\.0\.1:1"):
        asyncio.run(drive(plan))


def test_mailboxes_are_dealt_to_the_connections_and_every_one_is_worked_in() -> None:
    node = Node(20, ok)
    users = tuple(f"user{at}@example.org" for at in range(5))
    result = load(node, replace(PLAN, users=users))
    # The first connection filled the mailboxes. Of the others, one has three users and one two.
    worked_in = [{line.split()[2] for line in sent} for sent in node.stores[1:]]
    assert sorted(worked_in, key=len) == [{b"1", b"2"}, {b"1", b"2", b"3"}]
    assert result.failures == {}


def test_connections_that_share_a_mailbox_change_other_messages() -> None:
    node = Node(20, ok)
    load(node, replace(PLAN, users=("a@example.org", "b@example.org"), connections=4))
    uids = sorted(sorted({int(line.split()[3]) for line in sent}) for sent in node.stores[1:])
    assert uids == [[1, 3, 5, 7, 9]] * 2 + [[11, 13, 15, 17, 19]] * 2
