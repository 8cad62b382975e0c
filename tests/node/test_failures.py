"""Real nodes that are killed, stopped and cut off: what was acknowledged stays, and service goes
on."""

from __future__ import annotations

import re
import signal
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from raftmail.client import ClientError
from raftmail.mail.results import SaveResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster, wait_for

USER = "alice@example.org"
ALL = UidSet.parse("1:*")


def _begin(cluster: Cluster) -> None:
    cluster.master(0)
    cluster.master(1)
    with cluster.client() as client:
        client.add_user(USER, "secret-password")


def _more_than(acknowledged: dict[int, bytes], count: int) -> bool:
    return len(acknowledged) > count


def _all_there(cluster: Cluster, acknowledged: dict[int, bytes]) -> None:
    """Through every node: each acknowledged message once, under its UID, with its bytes."""
    for name in cluster.clients:
        with cluster.client(name) as client:
            found = {m.uid for m in client.messages(USER, "INBOX", ALL)}
            assert acknowledged.keys() <= found, f"{name} lacks {acknowledged.keys() - found}"
            for uid, body in acknowledged.items():
                assert client.body(USER, "INBOX", uid) == body


def test_no_acknowledged_mail_is_lost_when_the_master_is_killed_again_and_again(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c") as cluster:
        _begin(cluster)
        acknowledged: dict[int, bytes] = {}
        stop = threading.Event()

        def save() -> None:
            with cluster.client() as client:
                number = 0
                while not stop.is_set():
                    number += 1
                    body = b"Subject: %d\r\n\r\nbody\r\n" % number
                    try:
                        result = client.save(USER, "INBOX", body).result
                    except ClientError:
                        continue
                    assert isinstance(result, SaveResult)
                    assert result.saved[0].uid not in acknowledged
                    acknowledged[result.saved[0].uid] = body

        saver = threading.Thread(target=save)
        saver.start()
        try:
            for _ in range(3):
                have = len(acknowledged)
                wait_for("mail to be saved", partial(_more_than, acknowledged, have + 20))
                master = cluster.master(1)
                cluster.kill(master)
                have = len(acknowledged)
                wait_for("mail to be saved without it", partial(_more_than, acknowledged, have))
                cluster.start(master)
        finally:
            stop.set()
            saver.join()
        _all_there(cluster, acknowledged)
        with cluster.client() as client:
            report = client.admin("verify")
        assert report["equal"], report


def test_everything_is_there_after_all_nodes_were_killed_at_once(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c") as cluster:
        _begin(cluster)
        acknowledged = {}
        with cluster.client() as client:
            for number in range(30):
                body = b"Subject: %d\r\n\r\nbody\r\n" % number
                result = client.save(USER, "INBOX", body).result
                assert isinstance(result, SaveResult)
                acknowledged[result.saved[0].uid] = body
        for name in cluster.clients:
            cluster.processes[name].kill()
        for name in cluster.clients:
            cluster.processes[name].wait()
            cluster.start(name)
        cluster.master(1)
        _all_there(cluster, acknowledged)


def test_sigterm_ends_a_node_with_exit_code_0_and_hands_mastership_over(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c") as cluster:
        _begin(cluster)
        master = cluster.master(1)
        assert cluster.terminate(master) == 0
        assert "stopped" in cluster.log(master)
        assert cluster.master(1) != master
        with cluster.client(*[n for n in cluster.clients if n != master]) as client:
            client.save(USER, "INBOX", b"Subject: after\r\n\r\n")


def test_a_master_that_was_paused_serves_no_stale_read(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c") as cluster:
        _begin(cluster)
        old = cluster.master(1)
        others = [n for n in cluster.clients if n != old]
        cluster.processes[old].send_signal(signal.SIGSTOP)
        with cluster.client(*others) as client:
            saved = client.save(USER, "INBOX", b"Subject: new\r\n\r\n").result
        assert isinstance(saved, SaveResult)
        cluster.processes[old].send_signal(signal.SIGCONT)
        with cluster.client(old) as client:
            uids = [m.uid for m in client.messages(USER, "INBOX", ALL)]
        assert saved.saved[0].uid in uids


def test_a_node_without_a_link_to_the_master_reaches_it_through_the_third(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "c")
    dead = "127.0.0.1:9"  # the discard port: nobody listens there
    for name, other in (("n1", "n3"), ("n3", "n1")):
        path = cluster.folders[name] / "node.toml"
        text = path.read_text()
        changed = re.sub(rf'(\[cluster\.nodes\.{other}\]\npeer = ")[^"]+', rf"\g<1>{dead}", text)
        assert changed != text
        path.write_text(changed)
    # Both dial in vain, so no link between n1 and n3 ever comes up.
    with cluster:
        _begin(cluster)
        with cluster.client("n2") as client:
            client.admin("transfer", shard="1", node="n2", timeout_s=40.0)  # n1 cannot hand to n3
            client.admin("transfer", shard="1", node="n3", timeout_s=40.0)
        body = b"Subject: around\r\n\r\n"
        with cluster.client("n1") as client:
            executed = client.save(USER, "INBOX", body)
            assert isinstance(executed.result, SaveResult)
            assert executed.master == "n3"
            assert client.body(USER, "INBOX", executed.result.saved[0].uid) == body


POISON = """
from raftmail.shard import machine

create = machine._COMMANDS[machine.CREATE]


def poisoned(state, command):
    if command.name == "poison":
        raise TypeError("a fault in the code")
    return create(state, command)


machine._COMMANDS[machine.CREATE] = poisoned
"""


def test_a_fault_in_the_code_that_an_entry_meets_stops_its_shard_alone_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(POISON)
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        cluster = Cluster(tmp_path / "c", nodes=1, replicas=1, shards=2)
        cluster.start("n1")
    users = [f"user{number}@example.org" for number in range(8)]
    body = b"Subject: on\r\n\r\n"
    try:
        with cluster.client() as client:
            for user in users:
                client.add_user(user, "secret-password")
            with pytest.raises(ClientError):
                client.create_mailbox(users[0], "poison", timeout_s=2.0)

            def why() -> str:
                status = cluster.status() or {"shards": []}
                rows = [row for shard in status["shards"] for row in shard["replicas"]]
                return next((row["why"] for row in rows if row["state"] == "cannot be opened"), "")

            assert "a fault in the code" in wait_for("the replica to be shown", why)
            served = 0
            for user in users[1:]:
                with suppress(ClientError):
                    client.save(user, "INBOX", body, timeout_s=1.0)
                    served += 1
            assert served
        assert cluster.processes["n1"].poll() is None
        assert cluster.terminate("n1") == 0
        cluster.start("n1")
        with cluster.client() as client:
            client.save(users[0], "poison", body)
    finally:
        cluster.__exit__()
