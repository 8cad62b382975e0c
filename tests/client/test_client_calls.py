"""The client library: every method against a twin of a node, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from raftmail.client import (
    Client,
    ClientError,
    MailboxState,
    NewMail,
    ProtocolError,
    Refused,
    SyncClient,
    TryAgain,
)
from raftmail.frontends.text.server import TextListener
from raftmail.mail.commands import StoreMode
from raftmail.mail.failures import Failure
from raftmail.mail.queries import ScriptInfo
from raftmail.mail.results import (
    Code,
    CopyResult,
    Done,
    ExpungeResult,
    MailboxResult,
    Saved,
    SaveResult,
    StoreResult,
)
from raftmail.mail.summary import decode_summary
from raftmail.mail.uidset import UidSet
from raftmail.net import tls
from tests.client.flaky_server import TOKEN, Node, run_with
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates


def uids(text: str) -> UidSet:
    return UidSet.parse(text)


@pytest.mark.parametrize("compress", [False, True])
def test_messages_are_saved_listed_changed_copied_fetched_and_expunged(compress: bool) -> None:
    async def body(node: Node) -> None:
        async with Client(node.address, compress=compress) as client:
            created = await client.create_mailbox("ann", "INBOX")
            assert isinstance(created.result, MailboxResult)
            number, validity = created.result.number, created.result.uidvalidity
            saved = await client.save(
                "ann", "inbox", b"Subject: x\r\n\r\n\0\xff", ["\\Seen", "a,b=c"]
            )
            assert saved.result == SaveResult((Saved("ann", number, validity, 1, 2),))
            assert (saved.shard, saved.index, saved.master) == (1, 2, "n1")
            await client.create_mailbox("bob", "other", special_use="\\Sent")
            both = [("ann", "INBOX"), ("bob", "other")]
            guid = bytes(range(16))
            mails = [NewMail(both, b"one", (), 1_700_000_000_123_456, guid), NewMail(both, b"two")]
            result = (await client.save_all(mails)).result
            assert isinstance(result, SaveResult)
            assert [(one.user, one.uid) for one in result.saved] == [
                ("ann", 2),
                ("bob", 1),
                ("ann", 3),
                ("bob", 2),
            ]
            page = await client.message_page("ann", "INBOX", uids("1:*"), summaries=True)
            assert [message.uid for message in page.messages] == [1, 2, 3]
            assert page.messages[0].flags == ("\\Seen", "a,b=c")
            assert page.messages[1].received_us == 1_700_000_000_123_456
            assert page.messages[1].guid == guid
            assert decode_summary(page.messages[0].summary).size == 16
            assert (page.mailbox.name, page.mailbox.messages, page.more) == ("INBOX", 3, False)
            short = await client.message_page("ann", "INBOX", uids("1:*"), limit=2)
            assert ([message.uid for message in short.messages], short.more) == ([1, 2], True)
            assert short.mailbox == page.mailbox

            stored = await client.store("ann", "INBOX", uids("1:2"), StoreMode.ADD, ["\\Deleted"])
            assert stored.result == StoreResult(uids("1:2"), UidSet(), 5, 5)
            stale = await client.store(
                "ann", "INBOX", uids("1:3"), StoreMode.REPLACE, [], unchanged_since=4
            )
            assert stale.result == StoreResult(uids("3"), uids("1:2"), 6, 6)
            changed = [
                m async for m in client.messages("ann", "INBOX", uids("1:*"), changed_since=5)
            ]
            assert [message.uid for message in changed] == [3]

            copied = await client.copy("ann", "INBOX", 2, "other", target_user="bob", guids=[guid])
            assert isinstance(copied.result, CopyResult)
            assert (copied.result.source_uids, copied.result.target_uids) == (uids("2"), uids("3"))
            assert await client.body("bob", "other", 3) == b"one"
            expunged = await client.expunge("ann", "INBOX", uids("1:*"), only_deleted=True)
            assert expunged.result == ExpungeResult(uids("1:2"), 7)
            assert await client.vanished("ann", "INBOX", 6) == uids("1:2")
            assert await client.vanished("ann", "INBOX", 7) == UidSet()
            moved = await client.copy("bob", "other", uids("1"), "other", move=True)
            assert isinstance(moved.result, CopyResult)
            with pytest.raises(Refused) as refused:
                await client.body("ann", "INBOX", 1)
            assert refused.value.code is Code.NONEXISTENT

    run_with(1, body)


def test_scripts_are_put_listed_activated_renamed_and_deleted() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.add_user("ann@x.org", "password")
            ann, name = "ann@x.org", 'my "rules" {5}'
            for one in (name, "x=y"):
                assert (await client.put_script(ann, one, b"keep;\r\n")).result == Done()
            with pytest.raises(Refused, match="line 2, column 1: there is no command kepe") as bad:
                await client.put_script(ann, name, b"\nkepe;")
            assert bad.value.code is Code.CANNOT
            with pytest.raises(Refused, match="the script has 1048576 bytes") as large:
                await client.put_script(ann, name, b"#" * (1 << 20))
            assert large.value.code is Code.CANNOT
            node.twin.strict = True
            with pytest.raises(Refused) as nobody:
                await client.put_script("eve@x.org", name, b"keep;")
            assert nobody.value.code is Code.UNKNOWNUSER
            await client.activate_script(ann, "x=y")
            await client.rename_script(ann, "x=y", "z")
            assert await client.scripts(ann) == (
                ScriptInfo(name, 7, False),
                ScriptInfo("z", 7, True),
            )
            assert await client.script(ann, name) == b"keep;\r\n"
            await client.activate_script(ann, "")
            await client.delete_script(ann, "z")
            with pytest.raises(Refused) as gone:
                await client.script(ann, "z")
            assert gone.value.code is Code.NONEXISTENT

    run_with(1, body)


def test_mailboxes_subscriptions_and_users() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            for name in ("INBOX", 'odd "name" {5}', "ümläut/a=b"):
                await client.create_mailbox("ann", name)
            infos = await client.mailboxes("ann")
            assert [info.name for info in infos] == ["INBOX", 'odd "name" {5}', "ümläut/a=b"]
            state = await client.mailbox_state("ann", "INBOX", uidnext=1, messages=7)
            assert state == MailboxState(
                infos[0].number, infos[0].uidvalidity, 1, 0, 1, ("messages",)
            )
            await client.rename_mailbox("ann", "INBOX", "old")
            await client.delete_mailbox("ann", 'odd "name" {5}')
            assert [info.name for info in await client.mailboxes("ann")] == ["old", "ümläut/a=b"]
            assert (await client.subscribe("ann", "ümläut/a=b")).result == Done()
            await client.subscribe("ann", "x")
            await client.subscribe("ann", "x", subscribed=False)
            assert await client.subscriptions("ann") == ("ümläut/a=b",)

            for user in ("ann", "bob", "eve"):
                await client.add_user(f"{user}@x.org", 'pass "word"')
            with pytest.raises(Refused) as refused:
                await client.add_user("ann@x.org", "other")
            assert refused.value.code is Code.ALREADYEXISTS
            await client.set_password("bob@x.org", "new")
            await client.remove_user("eve@x.org")
            await client.purge_user("eve@x.org")
            assert [user async for user in client.users()] == ["ann@x.org", "bob@x.org"]
            assert await client.user_page(after="ann@x.org", limit=1) == ("bob@x.org",)
            assert await client.user_exists("bob@x.org")
            assert not await client.user_exists("eve@x.org")

    run_with(1, body)


def test_operators_get_what_the_node_offers_and_its_refusals() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            assert await client.admin("echo", node="n 2") == {
                "what": "echo",
                "arguments": {"node": "n 2"},
            }
            with pytest.raises(ProtocolError, match="there is no frob"):
                await client.admin("frob")
            with pytest.raises(TryAgain, match="no master") as again:
                await client.admin("fail")
            assert not again.value.outcome_unknown
            await client.ping()

    run_with(1, body)


def test_listings_and_writes_under_way_together_do_not_mix_their_lines() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            for user in ("ann", "bob"):
                await client.create_mailbox(user, "x")
                await client.save_all([NewMail([(user, "x")], user.encode())] * 600)
            pages = asyncio.gather(
                *(client.message_page(user, "x", uids("1:*")) for user in ("ann", "bob") * 3)
            )
            names = asyncio.gather(*(client.mailboxes("ann") for _ in range(3)))
            stores = [client.store("ann", "x", uid, StoreMode.ADD, ["k"]) for uid in range(1, 300)]
            for at, page in enumerate(await pages):
                assert len(page.messages) == 600
                assert page.mailbox.user == ("ann", "bob")[at % 2]
                assert {message.size_bytes for message in page.messages} == {3}
            assert [len(infos) for infos in await names] == [1, 1, 1]
            assert {store.shard for store in await asyncio.gather(*stores)} == {1}

    run_with(1, body)


def test_thousands_of_calls_under_way_are_each_answered() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.create_mailbox("ann", "x")
            await client.save("ann", "x", b"hi")
            calls = [client.store("ann", "x", 1, StoreMode.ADD, ["k"]) for _ in range(9000)]
            modseqs = [call.result.modseq for call in await asyncio.gather(*calls)]  # type: ignore[union-attr]
            assert modseqs == list(range(3, 9003))
            floors = [floor for _, _, seq, floor, _ in node.twin.requests if seq > 4000]
            assert max(floors) > 0

    run_with(1, body)


def test_more_mailboxes_than_numbers_take_turns() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            await client.ping()
            client._engine._numbers_max = 3
            for name in "abcde":
                await client.create_mailbox("ann", name)
            calls = [client.save("ann", name, name.encode()) for name in "abcdeabcde"]
            await asyncio.gather(*calls)
            for name in "abcde":
                assert await client.body("ann", name, 2) == name.encode()

    run_with(1, body)


def test_a_mailbox_made_anew_is_the_one_that_is_meant_after_one_refusal() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client, Client(node.address) as other:
            await client.create_mailbox("ann", "x")
            await client.save("ann", "x", b"one")
            await client.mailbox_state("ann", "x")
            await other.delete_mailbox("ann", "x")
            await other.create_mailbox("ann", "x")
            with pytest.raises(Refused):
                await client.save("ann", "x", b"two")
            assert (await client.save("ann", "x", b"two")).shard == 1

    run_with(1, body)


@asynccontextmanager
async def listening(
    certificates: Certificates, *, node: str = "n1", trust: bool = False
) -> AsyncIterator[tuple[Node, str]]:
    """A node that speaks TLS, and its address."""
    twin = Node(TwinService())
    listener = TextListener(
        twin.front, trust_loopback=trust, tls=tls.server_context(certificates.files(node))
    )
    _, port = await listener.listen("127.0.0.1", 0)
    try:
        yield twin, f"127.0.0.1:{port}"
    finally:
        await listener.close()


def test_without_the_token_calls_are_refused_and_with_it_done(tmp_path: Path) -> None:
    mine = Certificates(tmp_path / "tls", "test")

    async def run() -> None:
        async with listening(mine) as (_, address):
            async with Client(address, ca=mine.ca) as client:
                with pytest.raises(Refused, match="AUTH TOKEN"):
                    await client.ping()
            async with Client(address, ca=mine.ca, token=64 * "0") as client:
                with pytest.raises(Refused, match="not the token"):
                    await client.ping()
            async with Client(address, ca=mine.ca, token=TOKEN) as client:
                await client.ping()

    asyncio.run(run())


def test_the_token_is_never_sent_without_tls() -> None:
    heard = bytearray()

    async def greedy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* HELLO raftmail version=1 authenticated=no\r\n")
        while data := await reader.readline():
            heard.extend(data)
            writer.write(b'%b NO PERMISSION "AUTH TOKEN first"\r\n' % data.split()[0])
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(greedy, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with Client(address, token=TOKEN, timeout_s=2) as client:
            with pytest.raises(ClientError):
                await client.ping()
        server.close()

    asyncio.run(run())
    assert heard, "the client spoke to it"
    assert TOKEN.encode() not in heard and b"AUTH" not in heard


@pytest.mark.parametrize("what", ["root:x:0:0", "", 63 * "a", 65 * "a", 64 * "g", 64 * "\u0661"])
def test_what_is_no_token_is_never_sent(what: str) -> None:
    with pytest.raises(ValueError, match="holds no token") as refused:
        Client("127.0.0.1:1", token=what)
    assert not what or what not in str(refused.value)


def test_a_certificate_that_is_no_nodes_gets_no_token(tmp_path: Path) -> None:
    mine = Certificates(tmp_path / "tls", "test")
    authority = tls.Authority.read(mine.ca)
    authority.check({"subjectAltName": (("URI", "raftmail://test/n1"),)})
    for names in ((), (("DNS", "n1"),), (("URI", "raftmail://another/n1"),)):
        with pytest.raises(tls.TlsError, match="its certificate is of"):
            authority.check({"subjectAltName": names})


def test_a_cluster_with_another_authority_is_not_spoken_to(tmp_path: Path) -> None:
    mine, other = Certificates(tmp_path / "a", "test"), Certificates(tmp_path / "b", "test")

    async def run() -> None:
        node = Node(TwinService())
        listener = TextListener(
            node.front, trust_loopback=True, tls=tls.server_context(mine.files("n1"))
        )
        _, port = await listener.listen("127.0.0.1", 0)
        try:
            async with Client(f"127.0.0.1:{port}", ca=mine.ca) as client:
                await client.ping()
            async with Client(f"127.0.0.1:{port}", ca=other.ca, timeout_s=0.3) as client:
                with pytest.raises(ProtocolError, match="certificate is not of this cluster"):
                    await client.ping()
        finally:
            await listener.close()

    asyncio.run(run())


def test_names_that_cannot_be_are_said_at_once() -> None:
    with pytest.raises(ValueError, match="write host:port"):
        Client("localhost")
    with pytest.raises(ValueError, match="address of a node"):
        Client([])

    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            with pytest.raises(ValueError, match="no empty part"):
                await client.body("ann", "a//b", 1)
            with pytest.raises(ProtocolError, match="no empty part"):
                await client.create_mailbox("ann", "a//b")

    run_with(1, body)


def test_the_synchronous_client_does_the_same_from_a_thread() -> None:
    async def body(node: Node) -> None:
        outcome: list[object] = []

        def work() -> None:
            with SyncClient(node.address) as client:
                client.create_mailbox("ann", "INBOX")
                for size in range(5):
                    client.save("ann", "INBOX", b"x" * size)
                client.store("ann", "INBOX", 1, StoreMode.ADD, ["k"])
                sizes = [m.size_bytes for m in client.messages("ann", "INBOX", uids("1:*"))]
                outcome.append((sizes, client.body("ann", "INBOX", 5), client.admin("echo")))
                client.add_user("ann@x.org", "secret")
                outcome.append(list(client.users()))
                try:
                    client.delete_mailbox("ann", "x")
                except Refused as refused:
                    outcome.append(refused.code)

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():  # noqa: ASYNC110 - a thread has no event
            await asyncio.sleep(0.01)
        assert outcome == [
            ([0, 1, 2, 3, 4], b"xxxx", {"what": "echo", "arguments": {}}),
            ["ann@x.org"],
            Code.NONEXISTENT,
        ]

    run_with(1, body)


def test_a_full_disk_is_told_at_once() -> None:
    async def body(node: Node) -> None:
        async with Client(node.address) as client:
            node.twin.failures.append(Failure("the disks are nearly full", full=True))
            with pytest.raises(TryAgain, match="nearly full") as again:
                await client.create_mailbox("ann", "x")
            assert again.value.full
            assert not again.value.outcome_unknown

    run_with(1, body)
