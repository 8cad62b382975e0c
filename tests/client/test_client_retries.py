"""The client library when connections, answers and nodes are lost: one effect, one outcome."""

from __future__ import annotations

import asyncio

import pytest

from raftmail.client import Client, TryAgain
from raftmail.mail.commands import StoreMode
from raftmail.mail.failures import Failure
from raftmail.mail.results import MailboxResult, SaveResult
from tests.client.flaky_server import Node, drop_after_executing, run_with
from tests.frontends.twin_service import TwinService


def test_a_write_whose_answer_is_lost_is_sent_again_and_has_one_effect() -> None:
    async def body(node: Node) -> None:
        drop_after_executing(node, 3)
        async with Client(node.address) as client:
            saved = await client.save("ann", "INBOX", b"once")
            assert isinstance(saved.result, SaveResult)
            assert saved.result.saved[0].uid == 1
            assert (len(node.twin.requests), node.twin.executions) == (4, 1)
            assert (await client.mailboxes("ann"))[0].messages == 1

    run_with(1, body)


def test_many_writes_under_way_when_the_connection_drops_have_one_effect_each() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.create_mailbox("ann", "x")
            calls = []
            for at in range(400):
                calls.append(client.save("ann", "x", b"%d" % at))
                if at % 50 == 25:
                    await asyncio.sleep(0.002)
                    node.cut()
            saved = await asyncio.gather(*calls)
            uids = sorted(one.result.saved[0].uid for one in saved)  # type: ignore[union-attr]
            assert uids == list(range(1, 401))
            assert node.twin.executions == 401

    run_with(1, body)


def test_calls_go_on_over_another_node_when_theirs_stops() -> None:
    async def body(first: Node, second: Node) -> None:
        async with Client([first.address, second.address]) as client:
            await client.create_mailbox("ann", "x")
            assert first.connections == 1
            first.twin.hold = True
            call = client.save("ann", "x", b"moved")
            await asyncio.sleep(0.02)
            first.twin.hold = False
            await first.stop()
            saved = await call
            assert isinstance(saved.result, SaveResult)
            assert second.connections == 1
            assert first.twin.executions == 2

    run_with(2, body)


def test_a_client_finds_the_node_that_lives() -> None:
    async def body(first: Node, second: Node) -> None:
        await first.stop()
        async with Client([first.address, second.address]) as client:
            await client.ping()
            assert second.connections == 1

    run_with(2, body)


def test_a_node_that_starts_late_is_waited_for() -> None:
    async def body(node: Node) -> None:
        await node.stop()
        async with Client(node.address) as client:
            call = asyncio.ensure_future(client.create_mailbox("ann", "x"))
            await asyncio.sleep(0.1)
            assert not call.done()
            await node.start()
            assert isinstance((await call).result, MailboxResult)

    run_with(1, body)


def test_retry_answers_are_tried_again_until_there_is_a_result() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            node.twin.failures += [Failure("no master"), Failure("lost", unknown=True)]
            created = await client.create_mailbox("ann", "x")
            assert isinstance(created.result, MailboxResult)
            node.twin.failures += [Failure("no master")]
            assert len(await client.mailboxes("ann")) == 1

    run_with(1, body)


@pytest.mark.parametrize("unknown", [False, True])
def test_at_the_deadline_the_outcome_is_unknown_only_if_it_is(unknown: bool) -> None:
    async def body(node: Node) -> None:
        async with Client(node.address, timeout_s=0.3) as client:
            node.twin.failures += [Failure("first", unknown=unknown)]
            node.twin.failures += [Failure("no master")] * 1000
            with pytest.raises(TryAgain, match="no master") as again:
                await client.create_mailbox("ann", "x")
            assert again.value.outcome_unknown is unknown
            node.twin.failures.clear()
            assert (await client.create_mailbox("ann", "y")).shard == 1

    run_with(1, body)


def test_a_write_without_an_answer_ends_at_its_deadline_with_its_outcome_unknown() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.create_mailbox("ann", "x")
            node.twin.hold = True
            with pytest.raises(TryAgain) as again:
                await client.save("ann", "x", b"?", timeout_s=0.15)
            assert again.value.outcome_unknown
            node.twin.hold = False
            node.twin.release()
            await client.save("ann", "x", b"!")

    run_with(1, body)


def test_without_any_node_nothing_was_done_and_the_reason_is_told() -> None:
    async def body(node: Node) -> None:
        await node.stop()
        async with Client(node.address, timeout_s=0.2) as client:
            with pytest.raises(TryAgain, match=node.address) as again:
                await client.create_mailbox("ann", "x")
            assert not again.value.outcome_unknown

    run_with(1, body)


def test_an_operators_call_is_not_sent_twice() -> None:
    class Silent(TwinService):
        asked = 0

        async def admin(self, what: str, arguments: object, deadline_s: float = 0) -> object:
            self.asked += 1
            await asyncio.sleep(60)
            return None

    twin = Silent()

    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            call = asyncio.ensure_future(client.admin("transfer"))
            while not twin.asked:  # noqa: ASYNC110 - the twin has no event
                await asyncio.sleep(0.005)
            node.cut()
            with pytest.raises(TryAgain) as again:
                await call
            assert again.value.outcome_unknown
            await client.ping()
            assert twin.asked == 1

    run_with(1, body, twin)


def test_the_floor_stays_below_a_write_that_may_be_sent_again() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.create_mailbox("ann", "x")
            await client.save("ann", "x", b"hi")
            node.twin.hold = True
            slow = client.store("ann", "x", 1, StoreMode.ADD, ["slow"])
            await asyncio.sleep(0.02)
            held, node.twin.held = node.twin.held, []
            node.twin.hold = False
            for _ in range(50):
                await client.store("ann", "x", 1, StoreMode.ADD, ["fast"])
            slow_seq = next(
                seq
                for _, _, seq, _, c in node.twin.requests
                if getattr(c, "flags", ()) == ("slow",)
            )
            assert max(floor for _, _, _, floor, _ in node.twin.requests) < slow_seq
            node.cut()
            assert (await slow).shard == 1
            del held

    run_with(1, body)


def test_a_node_that_hangs_is_left_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmail.client.dispatcher._PING_S", 0.1)
    monkeypatch.setattr("raftmail.client.dispatcher._SILENCE_S", 0.3)

    async def body(good: Node) -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"* HELLO raftmail version=1 authenticated=yes\r\n")
            for _ in range(2):
                await reader.readline()
                writer.write(b"h OK\r\n")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with Client([f"127.0.0.1:{port}", good.address]) as client:
                created = await client.create_mailbox("ann", "x")
                assert isinstance(created.result, MailboxResult)
                assert good.connections == 1
        finally:
            server.close()

    run_with(1, body)


def test_a_slow_but_living_node_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmail.client.dispatcher._PING_S", 0.1)
    monkeypatch.setattr("raftmail.client.dispatcher._SILENCE_S", 0.3)

    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.create_mailbox("ann", "x")
            node.twin.hold = True
            call = client.save("ann", "x", b"slow")
            await asyncio.sleep(0.8)
            node.twin.release()
            await call
            assert len(node.twin.requests) == 2

    run_with(1, body)


def test_closing_ends_what_is_under_way() -> None:
    async def body(node: Node) -> None:
        client = Client(node.address)
        await client.create_mailbox("ann", "x")
        node.twin.hold = True
        call = client.save("ann", "x", b"?")
        await asyncio.sleep(0.02)
        await client.close()
        with pytest.raises(TryAgain, match="closed") as again:
            await call
        assert again.value.outcome_unknown
        with pytest.raises(TryAgain, match="closed"):
            await client.ping()

    run_with(1, body)


def test_a_client_id_goes_on_after_a_restart_of_its_program() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.create_mailbox("ann", "x")
            identity, last = client.client_id, client.last_seq
        async with Client(node.address, client_id=identity, last_seq=last) as client:
            await client.create_mailbox("ann", "y")
        assert [(c, seq) for _, c, seq, _, _ in node.twin.requests] == [
            (identity, 1),
            (identity, 2),
        ]

    run_with(1, body)
