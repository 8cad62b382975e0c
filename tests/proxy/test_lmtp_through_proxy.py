"""LMTP through the proxy: what is held, what is said, and what comes of nodes that die."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raftmail.proxy.held_mail import HeldMail
from raftmail.proxy.lmtp_session import HoldLimits
from tests.proxy.proxy_kit import LmtpPlayed, Streams, before, lmtp_nodes, until

ENVELOPE = b"MAIL FROM:<x@x.org>\r\nRCPT TO:<a@x.org>\r\nRCPT TO:<b@x.org>\r\nDATA\r\n"
TEXT = b"Subject: x\r\n\r\n..dot\r\n.\r\n"


async def _greeted(client: Streams) -> None:
    assert (await client.line()).startswith(b"220")
    client.say(b"LHLO mx\r\n")
    while (await client.line()).startswith(b"250-"):
        pass


async def _replies(client: Streams, count: int) -> list[bytes]:
    return [await client.line() for _ in range(count)]


async def _sent(client: Streams) -> list[bytes]:
    """The replies to one message, those of its two recipients last."""
    client.say(ENVELOPE)
    replies = await _replies(client, 4)
    assert replies[3].startswith(b"354"), replies
    client.say(TEXT)
    return await _replies(client, 2)


def _taken(nodes: list[LmtpPlayed]) -> list[bytes]:
    return [recipient for node in nodes for recipient, _ in node.mail]


def test_a_message_goes_through_to_the_byte_and_further_ones_by_the_same_node(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        nodes = lmtp_nodes(tmp_path / "pki", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("lmtp")
            await _greeted(client)
            for _ in range(3):
                assert await _sent(client) == [b"250 2.0.0 Ok\r\n"] * 2
            assert [text for node in nodes for _, text in node.mail] == [TEXT] * 6
            assert len([node for node in nodes if node.mail]) == 1
            assert sum(len(node.clients) for node in nodes) == 1, "one connection did it"

    asyncio.run(check())


@pytest.mark.parametrize("dies_at", ["text", "end"])
def test_a_node_that_dies_with_a_message_leaves_it_to_another(tmp_path: Path, dies_at: str) -> None:
    async def check() -> None:
        nodes = lmtp_nodes(tmp_path / "pki", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("lmtp")
            await _greeted(client)
            client.say(b"MAIL FROM:<x@x.org>\r\n")
            await client.line()
            asked = next(node for node in nodes if node.clients)
            other = next(node for node in nodes if node is not asked)
            asked.dies_at = dies_at
            client.say(b"RCPT TO:<a@x.org>\r\nRCPT TO:<b@x.org>\r\nDATA\r\n")
            await _replies(client, 3)
            client.say(TEXT)
            assert await _replies(client, 2) == [b"250 2.0.0 Ok\r\n"] * 2
            assert [text for _, text in other.mail] == [TEXT] * 2, "the same bytes"

    asyncio.run(check())


def test_mail_is_held_while_an_election_makes_nodes_say_451(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = lmtp_nodes(tmp_path / "pki", 2)
        for node in nodes:
            node.final = b"451 4.3.0 no master"
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("lmtp")
            await _greeted(client)
            sending = asyncio.create_task(_sent(client))
            await until(lambda: sum(n.said.count(b"DATA\r\n") for n in nodes) >= 2)
            assert not sending.done()
            for node in nodes:
                node.final = b"250 2.0.0 Ok"
            assert await sending == [b"250 2.0.0 Ok\r\n"] * 2
            assert len(_taken(nodes)) == 2

    asyncio.run(check())


def test_a_recipient_is_held_while_nobody_can_tell_whether_it_is_there(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = lmtp_nodes(tmp_path / "pki", 2)
        for node in nodes:
            node.rcpt = b"451 4.3.0 no master"
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("lmtp")
            await _greeted(client)
            sending = asyncio.create_task(_sent(client))
            await until(lambda: sum(len(n.clients) for n in nodes) >= 3)
            for node in nodes:
                node.rcpt = b"250 2.1.5 Ok"
            assert await sending == [b"250 2.0.0 Ok\r\n"] * 2

    asyncio.run(check())


def test_what_is_refused_for_good_is_told_at_once(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = lmtp_nodes(tmp_path / "pki", 2)
        for node in nodes:
            node.final = b"552 5.2.2 over quota"
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("lmtp")
            await _greeted(client)
            assert await _sent(client) == [b"552 5.2.2 over quota\r\n"] * 2
            for node in nodes:
                node.rcpt = b"550 5.1.1 nobody"
            client.say(b"MAIL FROM:<>\r\nRCPT TO:<c@x.org>\r\nDATA\r\n")
            replies = await _replies(client, 3)
            assert replies[1:] == [b"550 5.1.1 nobody\r\n", b"503 5.5.1 No valid recipients\r\n"]

    asyncio.run(check())


def test_with_no_node_the_client_hears_451_within_a_bound_and_may_try_again(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        nodes = lmtp_nodes(tmp_path / "pki", 1)
        hold = HoldLimits(hold_s=0.5)
        async with before(tmp_path / "pki", [*nodes], hold=hold) as proxy:
            await nodes[0].kill()
            client = await proxy.client("lmtp")
            await _greeted(client)
            client.say(b"MAIL FROM:<x@x.org>\r\n")
            assert (await client.line()).startswith(b"451")
            client.say(b"RCPT TO:<a@x.org>\r\n")
            assert (await client.line()).startswith(b"503")

    asyncio.run(check())


def test_a_message_that_is_too_long_is_read_past_and_refused(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = lmtp_nodes(tmp_path / "pki", 1)
        hold = HoldLimits(hold_s=5.0, message_bytes_max=1000)
        async with before(tmp_path / "pki", [*nodes], hold=hold) as proxy:
            client = await proxy.client("lmtp")
            await _greeted(client)
            client.say(ENVELOPE)
            await _replies(client, 4)
            client.say(b"x" * 100_000 + b"\r\n.\r\nNOOP\r\n")
            replies = await _replies(client, 3)
            assert replies[:2] == [b"552 5.3.4 Message too large\r\n"] * 2
            assert replies[2].startswith(b"250")
            assert not _taken(nodes)

    asyncio.run(check())


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_the_end_of_a_text_is_found_however_it_is_cut(piece: int) -> None:
    data = b"a\r\n..\r\n.x\r\n\n.\n\r\n.\r\nNOOP\r\n"
    mail, at, end = HeldMail(b""), 0, -1
    while end < 0:
        end = mail.add(data[at : at + piece], 1000)
        at += piece if end < 0 else end
    assert data[at:] == b"NOOP\r\n"
    assert mail.text == data[:at]


def test_a_text_without_a_line_ends_at_once() -> None:
    mail = HeldMail(b"")
    assert mail.add(b".\r\n", 1000) == 3
