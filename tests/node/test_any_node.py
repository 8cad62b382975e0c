"""Three real nodes: any of them takes any command, reads see what was acknowledged, mail comes in
by LMTP."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftmail.client import Refused
from raftmail.mail.commands import StoreMode
from raftmail.mail.results import Code, SaveResult, StoreResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster

USER = "alice@example.org"
ALL = UidSet.parse("1:*")
MESSAGE = b"From: bob@example.org\r\nTo: alice@example.org\r\nSubject: hello\r\n\r\nA text.\r\n"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Path(tmp_path_factory.mktemp("cluster")) / "c") as made:
        made.master(0)
        made.master(1)
        with made.client() as client:
            client.add_user(USER, "secret-password")
        yield made


def test_any_node_takes_a_save_and_names_the_master(cluster: Cluster) -> None:
    for name in cluster.clients:
        with cluster.client(name) as client:
            executed = client.save(USER, "INBOX", MESSAGE)
            assert isinstance(executed.result, SaveResult)
            assert executed.master in cluster.clients


def test_a_read_at_any_node_sees_what_was_just_acknowledged_at_another(cluster: Cluster) -> None:
    names = list(cluster.clients)
    for i, name in enumerate(names):
        with cluster.client(name) as writer, cluster.client(names[(i + 1) % 3]) as reader:
            for n in range(5):
                body = MESSAGE + b"%d %d\r\n" % (i, n)
                saved = writer.save(USER, "INBOX", body).result
                assert isinstance(saved, SaveResult)
                assert reader.body(USER, "INBOX", saved.saved[0].uid) == body


def test_a_user_added_at_one_node_gets_mail_at_every_other(cluster: Cluster) -> None:
    with cluster.client("n1") as client:
        client.add_user("carol@example.org", "secret-password")
        client.create_mailbox("carol@example.org", "lists")
    for name, address in cluster.lmtp.items():
        host, port = address.split(":")
        with smtplib.LMTP(host, int(port)) as lmtp:
            for to in ("carol@example.org", "carol+lists@example.org", "carol+none@example.org"):
                mail = b"X-Node: %b\r\n" % name.encode() + MESSAGE
                assert lmtp.sendmail("bob@example.org", [to], mail) == {}, name
    with cluster.client("n2") as client:
        inbox = list(client.messages("carol@example.org", "INBOX", ALL))
        lists = list(client.messages("carol@example.org", "lists", ALL))
        assert (len(inbox), len(lists)) == (6, 3)
        body = client.body("carol@example.org", "lists", lists[0].uid)
    assert body.endswith(MESSAGE)
    head = body[: -len(MESSAGE)]
    assert head.startswith(b"Return-Path: <bob@example.org>\r\n")
    assert b"\r\nDelivered-To: carol+lists@example.org\r\n" in head
    assert b"\r\nReceived: from " in head


def test_a_delivery_that_is_repeated_through_other_nodes_is_made_once(cluster: Cluster) -> None:
    users = [f"twice{number}@example.org" for number in range(4)]
    with cluster.client("n1") as client:
        for user in users:
            client.add_user(user, "secret-password")
        client.admin("alias-set", address="all@example.org", to=",".join(users))
    recipients = [users[0], "all@example.org", users[0], "Twice0+x@EXAMPLE.org"]
    for _ in range(2):
        for address in cluster.lmtp.values():
            host, port = address.split(":")
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                with smtplib.LMTP(host, int(port)) as lmtp:
                    lmtp.ehlo_or_helo_if_needed()
                    lmtp.mail("bob@example.org")
                    if {lmtp.rcpt(to)[0] for to in recipients} != {250}:
                        continue  # the node has yet to hear of the alias
                    assert lmtp.docmd("DATA")[0] == 354
                    lmtp.send(MESSAGE + b".\r\n")
                    assert [lmtp.getreply()[0] for _ in recipients] == [250] * 4
                    break
    with cluster.client("n2") as client:
        held = [len(list(client.messages(user, "INBOX", ALL))) for user in users]
        assert held == [3, 1, 1, 1], "directly, by the alias, and with a detail"


def test_lmtp_refuses_an_unknown_user_with_550_at_every_node(cluster: Cluster) -> None:
    for address in cluster.lmtp.values():
        host, port = address.split(":")
        with smtplib.LMTP(host, int(port)) as lmtp:
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                lmtp.sendmail("bob@example.org", ["nobody@example.org"], MESSAGE)
            assert refused.value.recipients["nobody@example.org"][0] == 550


def test_a_command_sent_twice_through_different_nodes_has_one_effect(cluster: Cluster) -> None:
    line = b"s SAVE 1 seq=1 {%d}\r\n%b\r\n" % (len(MESSAGE), MESSAGE)
    answers = []
    for name in cluster.clients:
        with cluster.connection(name) as connection:
            lines = connection.makefile("rb")
            connection.sendall(b"h HELLO 1 client=%b\r\n" % (b"ab" * 16))
            assert lines.readline().startswith(b"h OK")
            connection.sendall(b"m MAILBOX 1 %b INBOX\r\n" % USER.encode())
            assert lines.readline().startswith(b"m OK")
            connection.sendall(line)
            answers.append(lines.readline())
    assert all(answer.startswith(b"s OK saved=") for answer in answers), answers
    assert len({answer.split()[2] for answer in answers}) == 1, answers


def test_unchangedsince_rejects_what_changed_and_applies_the_rest(cluster: Cluster) -> None:
    with cluster.client("n3") as client:
        client.create_mailbox(USER, "Flags")
        uids = []
        for _ in range(3):
            saved = client.save(USER, "Flags", MESSAGE).result
            assert isinstance(saved, SaveResult)
            uids.append(saved.saved[0].uid)
        before = client.mailbox_state(USER, "Flags").highestmodseq
        client.store(USER, "Flags", UidSet.single(uids[1]), StoreMode.ADD, ["\\Seen"])
        result = client.store(
            USER,
            "Flags",
            UidSet.from_uids(uids),
            StoreMode.ADD,
            ["\\Flagged"],
            unchanged_since=before,
        ).result
        assert isinstance(result, StoreResult)
        assert list(result.rejected) == [uids[1]]
        assert list(result.changed) == [uids[0], uids[2]]


def test_a_refusal_names_the_thing_and_its_code(cluster: Cluster) -> None:
    with cluster.client("n2") as client, pytest.raises(Refused, match="no mailbox 'Nowhere'") as e:
        client.save(USER, "Nowhere", MESSAGE)
    assert e.value.code is Code.NONEXISTENT


def test_mastership_goes_where_an_operator_sends_it(cluster: Cluster) -> None:
    for name in cluster.clients:
        with cluster.client() as client:
            assert client.admin("transfer", shard="1", node=name)["master"] == name
        assert cluster.master(1) == name


def test_all_replicas_are_equal_by_digest(cluster: Cluster) -> None:
    with cluster.client("n2") as client:
        report = client.admin("verify")
    assert report["equal"], report
    assert all(len(s["replicas"]) == 3 for s in report["shards"])


def test_a_name_means_what_it_means_after_this_client_renamed_or_deleted_something(
    cluster: Cluster,
) -> None:
    with cluster.client("n2") as client:
        client.create_mailbox(USER, "Before")
        client.save(USER, "Before", MESSAGE)
        client.rename_mailbox(USER, "Before", "After")
        with pytest.raises(Refused) as refused:
            client.save(USER, "Before", MESSAGE)
        assert refused.value.code is Code.NONEXISTENT
        client.create_mailbox(USER, "Before")
        client.save(USER, "Before", MESSAGE)
        assert len(list(client.messages(USER, "Before", ALL))) == 1
        assert len(list(client.messages(USER, "After", ALL))) == 1
        client.delete_mailbox(USER, "Before")
        client.rename_mailbox(USER, "After", "Before")
        assert client.mailbox_state(USER, "Before").messages == 1
        client.save(USER, "Before", MESSAGE)
        assert len(list(client.messages(USER, "Before", ALL))) == 2
