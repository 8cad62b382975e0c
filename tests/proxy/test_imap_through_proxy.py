"""IMAP through the proxy, before nodes that refuse, hang, die and answer late."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from raftmail.net import tls
from raftmail.proxy.context import ProxyLimits
from raftmail.proxy.hang_watch import HangWatch
from tests.proxy.proxy_kit import (
    PASSWORD,
    USER,
    Before,
    MailNode,
    Streams,
    before,
    files_of,
    mail_nodes,
    until,
)

LOGIN = b"a LOGIN %b %b\r\n" % (USER, PASSWORD)


async def _logged_in(proxy: Before) -> Streams:
    client = await proxy.client("imap")
    assert (await client.line()).startswith(b"* OK [CAPABILITY IMAP4rev1")
    client.say(LOGIN)
    assert await client.line() == b"a OK [CAPABILITY IMAP4rev1 IDLE] logged in\r\n"
    return client


async def _selected(proxy: Before) -> Streams:
    client = await _logged_in(proxy)
    client.say(b"s SELECT INBOX\r\n")
    while not (await client.line()).startswith(b"s OK"):
        pass
    return client


def _served_by(nodes: list[MailNode]) -> MailNode:
    return next(node for node in nodes if any(b"AUTHENTICATE" in line for line in node.said))


def test_a_log_in_goes_to_the_users_node_and_bytes_pass_unchanged(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 3)
        nodes[0].fetched = b"* 1 FETCH (BODY[] {11}\r\n* BYE\r\nab\x00\xff)\r\n" * 500
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            client.say(b"b FETCH 1 BODY[]\r\n")
            got = await client.reader.readexactly(len(nodes[0].fetched))
            assert got == nodes[0].fetched
            assert await client.line() == b"b OK fetched by n1\r\n"
            assert nodes[0].clients == ["127.0.0.1"], "it says for whom it speaks"

    asyncio.run(check())


def test_what_came_with_the_log_in_reaches_the_node_behind_it(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 1)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("imap")
            await client.line()
            client.say(b"a LOGIN {16+}\r\n%b {6}\r\n" % USER)
            assert (await client.line()).startswith(b"+ ")
            client.say(PASSWORD + b"\r\nb NOOP\r\nc LIST\r\n")
            assert (await client.line()).startswith(b"a OK")
            assert await client.line() == b"b OK done by n1\r\n"
            assert await client.line() == b"c OK done by n1\r\n"

    asyncio.run(check())


@pytest.mark.parametrize("fault", ["dead", "hangs", "bye", "garbage", "unavailable"])
def test_a_node_that_cannot_is_passed_over(tmp_path: Path, fault: str) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            if fault == "dead":
                await nodes[0].kill()
            elif fault == "hangs":
                nodes[0].hangs = True
            elif fault == "unavailable":
                nodes[0].refuses = b"NO [UNAVAILABLE] no master"
            else:
                nodes[0].play = lambda one: _say(one, fault)
            client = await _logged_in(proxy)
            client.say(b"b NOOP\r\n")
            assert await client.line() == b"b OK done by n2\r\n"

    async def _say(one: Streams, what: str) -> None:
        one.say(b"* BYE full\r\n" if what == "bye" else b"\x00" * 100_000)
        await one.writer.drain()

    asyncio.run(check())


@pytest.mark.parametrize("fault", ["dead", "hangs", "unavailable"])
def test_nodes_that_are_all_down_never_read_as_a_wrong_password(tmp_path: Path, fault: str) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        limits = ProxyLimits(patience_s=0.5)
        async with before(tmp_path / "pki", [*nodes], limits=limits) as proxy:
            for node in nodes:
                node.refuses = b"NO [UNAVAILABLE] no master"
                if fault == "hangs":
                    node.hangs = True
                if fault == "dead":
                    await node.kill()
            client = await proxy.client("imap")
            await client.line()
            for _ in range(4):
                client.say(LOGIN)
                assert (await client.line()).startswith(b"a NO [UNAVAILABLE]")
            if fault != "dead":
                for node in nodes:
                    node.refuses, node.hangs = b"", False
                client.say(LOGIN)
                assert (await client.line()).startswith(b"a OK"), "it may try again"

    asyncio.run(check())


def test_a_wrong_password_is_told_as_such_and_the_fourth_ends_it(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("imap")
            await client.line()
            for _ in range(3):
                client.say(b"a LOGIN anna wrong\r\n")
                assert (await client.line()).startswith(b"a NO [AUTHENTICATIONFAILED]")
            assert (await client.line()).startswith(b"* BYE")
            tried = sum(line.count(b"AUTHENTICATE") for node in nodes for line in node.said)
            assert tried == 3, "each was looked at once"

    asyncio.run(check())


def test_a_session_without_a_mailbox_goes_on_at_another_node(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            await nodes[0].kill()
            client.say(b"b NOOP\r\n")
            assert await client.line() in (
                b"b OK done by n2\r\n",
                b"* BYE [UNAVAILABLE] the node of this session is gone: connect again\r\n",
            )

    asyncio.run(check())


def test_a_selected_mailbox_that_has_not_changed_is_selected_again_unseen(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _selected(proxy)
            await nodes[0].kill()
            await until(lambda: b"moved SELECT INBOX\r\n" in nodes[1].said)
            client.say(b"b FETCH 1 FLAGS\r\n")
            assert await client.line() == b"* 1 FETCH (FLAGS (\\Seen))\r\n"
            assert await client.line() == b"b OK fetched by n2\r\n"

    asyncio.run(check())


def test_a_client_that_idles_goes_on_idling_and_hears_what_comes(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _selected(proxy)
            client.say(b"i IDLE\r\n")
            assert await client.line() == b"+ idling\r\n"
            await nodes[0].kill()
            await until(lambda: b"i IDLE\r\n" in nodes[1].said)
            nodes[1].streams[-1].say(b"* 4 EXISTS\r\n")
            assert await client.line() == b"* 4 EXISTS\r\n", "and no second go-ahead"
            client.say(b"DONE\r\n")
            assert await client.line() == b"i OK idled\r\n"

    asyncio.run(check())


@pytest.mark.parametrize("change", ["EXISTS", "UIDVALIDITY", "UIDNEXT", "HIGHESTMODSEQ"])
def test_a_mailbox_that_has_changed_ends_the_session_by_bye(tmp_path: Path, change: str) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        nodes[1].mailbox[change.encode()] += 1
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _selected(proxy)
            await nodes[0].kill()
            assert (await client.line()).startswith(b"* BYE [UNAVAILABLE]")
            assert await client.line() == b""

    asyncio.run(check())


@pytest.mark.parametrize(
    "before_it",
    [
        b"n NOTIFY NONE\r\n",
        b"n X-SOMETHING\r\n",
        b"n UID SEARCH RETURN (SAVE) ALL\r\n",
        b"n FETCH 1 (MODSEQ)\r\n",
    ],
)
def test_a_session_with_more_than_can_be_made_again_ends_by_bye(
    tmp_path: Path, before_it: bytes
) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _selected(proxy)
            client.say(before_it)
            while not (await client.line()).startswith(b"n OK"):
                pass
            await nodes[0].kill()
            assert (await client.line()).startswith(b"* BYE [UNAVAILABLE]")

    asyncio.run(check())


def test_a_command_under_way_when_the_node_dies_ends_the_session_by_bye(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            client.say(b"w WAIT\r\n")
            await until(lambda: b"w WAIT\r\n" in nodes[0].said)
            await nodes[0].kill()
            assert (await client.line()).startswith(b"* BYE [UNAVAILABLE]")
            assert await client.line() == b""

    asyncio.run(check())


def test_half_a_literal_is_followed_by_nothing_at_all(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        half = b"* 1 FETCH (BODY[] {1000}\r\n" + b"x" * 500
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            nodes[0].streams[-1].say(half)
            assert await client.reader.readexactly(len(half)) == half
            await nodes[0].kill()
            assert await client.reader.read() == b"", "no bytes of anybody else"

    asyncio.run(check())


def test_a_node_that_stops_in_order_is_left_before_its_bye_is_told(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            proxy.context.dialler.table.memories["n1"].failed_at = 1e12
            nodes[0].streams[-1].say(b"* BYE the node stops\r\n")
            await until(lambda: any(b"AUTHENTICATE" in line for line in nodes[1].said))
            client.say(b"b NOOP\r\n")
            assert await client.line() == b"b OK done by n2\r\n"

    asyncio.run(check())


def test_the_bye_of_a_log_out_is_the_nodes_own(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 1)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            client.say(b"z LOGOUT\r\n")
            await client.line()
            one = nodes[0].streams[-1]
            one.say(b"* BYE the node's own\r\n")
            assert await client.line() == b"* BYE the node's own\r\n"
            one.writer.close()
            assert await client.line() == b""

    asyncio.run(check())


def test_a_log_in_that_is_not_kept_is_not_repeated(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes], keeps_log_ins=False) as proxy:
            client = await _logged_in(proxy)
            await nodes[0].kill()
            assert (await client.line()).startswith(b"* BYE [UNAVAILABLE]")
            assert not nodes[1].said

    asyncio.run(check())


def test_a_session_whose_node_hangs_is_continued_elsewhere(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            nodes[0].hangs = True  # who is connected hears nothing, who connects neither
            watch = HangWatch(proxy.context.dialler, hang_s=0.5, probe_s=0.1)
            watching = asyncio.create_task(watch.run())
            await until(lambda: any(b"AUTHENTICATE" in line for line in nodes[1].said))
            client.say(b"b NOOP\r\n")
            assert await client.line() == b"b OK done by n2\r\n"
            watching.cancel()

    asyncio.run(check())


def test_a_node_that_answers_is_left_by_nobody_however_idle_its_sessions_are(
    tmp_path: Path,
) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            watch = HangWatch(proxy.context.dialler, hang_s=0.2, probe_s=0.1)
            watching = asyncio.create_task(watch.run())
            await asyncio.sleep(1.0)
            client.say(b"b NOOP\r\n")
            assert await client.line() == b"b OK done by n1\r\n"
            watching.cancel()

    asyncio.run(check())


def test_a_slow_client_holds_its_node_back_and_gets_every_byte(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 1)
        body = b"x" * 20_000_000
        nodes[0].fetched = b"* 1 FETCH (BODY[] {%d}\r\n%b)\r\n" % (len(body), body)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await _logged_in(proxy)
            client.say(b"b FETCH 1 BODY[]\r\n")
            await until(lambda: proxy.unsent_bytes > 0)
            await asyncio.sleep(0.3)
            assert proxy.unsent_bytes < 3_000_000, "the proxy took it all"
            got = await client.reader.readexactly(len(nodes[0].fetched))
            assert got == nodes[0].fetched
            assert await client.line() == b"b OK fetched by n1\r\n"

    asyncio.run(check())


def test_a_proof_is_led_between_client_and_node_and_ends_with_its_node(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("imap")
            await client.line()
            client.say(b"a AUTHENTICATE SCRAM-SHA-256\r\n")
            assert await client.line() == b"+ \r\n"
            client.say(b"bixhPSxuPWFubmE9MkN4LHI9YWJj\r\n")
            assert await client.line() == b"+ c2VydmVyLWZpcnN0\r\n"
            client.say(b"Y2xpZW50LWZpbmFs\r\nb NOOP\r\n")
            assert (await client.line()).startswith(b"a OK")
            assert await client.line() == b"b OK done by n1\r\n"
            assert nodes[0].said[0] == (
                b"a AUTHENTICATE SCRAM-SHA-256 bixhPSxuPWFubmE9MkN4LHI9YWJj\r\n"
            )
            assert nodes[0].said[1] == b"Y2xpZW50LWZpbmFs\r\n"
            await nodes[0].kill()
            assert (await client.line()).startswith(b"* BYE [UNAVAILABLE]")

    asyncio.run(check())


def test_a_node_that_dies_in_the_middle_of_a_proof_reads_as_unavailable(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 2)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            client = await proxy.client("imap")
            await client.line()
            client.say(b"a AUTHENTICATE SCRAM-SHA-256 bixhPSxuPWFubmE9MkN4LHI9YWJj\r\n")
            assert await client.line() == b"+ c2VydmVyLWZpcnN0\r\n"
            await nodes[0].kill()
            assert (await client.line()).startswith(b"a NO [UNAVAILABLE]")
            assert not nodes[1].said, "what another node asked is nothing to this one"

    asyncio.run(check())


def test_clients_begin_tls_at_once_or_by_starttls(tmp_path: Path) -> None:
    async def check() -> None:
        nodes = mail_nodes(tmp_path / "pki", "imaps", 1)
        async with before(tmp_path / "pki", [*nodes]) as proxy:
            shown = files_of(tmp_path / "pki", "n1")
            proxy.context.tls = tls.program_context(shown.certificate, shown.key)
            trust = ssl.create_default_context(cafile=shown.ca)
            port = await proxy.port("imap", secure=True)
            client = Streams(*await asyncio.open_connection("127.0.0.1", port, ssl=trust))
            assert b"STARTTLS" not in await client.line()
            client.say(LOGIN)
            assert (await client.line()).startswith(b"a OK")
            client = await proxy.client("imap")
            assert b"STARTTLS" in await client.line()
            client.say(b"s STARTTLS\r\n")
            assert (await client.line()).startswith(b"s OK")
            await client.writer.start_tls(trust, server_hostname="127.0.0.1")
            client.say(LOGIN + b"b NOOP\r\n")
            assert (await client.line()).startswith(b"a OK")
            assert await client.line() == b"b OK done by n1\r\n"

    asyncio.run(check())
