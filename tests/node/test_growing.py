"""A cluster whose nodes come and go while mail arrives: nothing that was acknowledged is lost, and
whoever must not take part does not."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from raftmail.client import ClientError
from raftmail.mail.results import SaveResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster, wait_for

USERS = ("alice@example.org", "bob@example.org", "carol@example.org")
ALL = UidSet.parse("1:*")


@contextmanager
def _mail(cluster: Cluster) -> Iterator[dict[tuple[str, int], bytes]]:
    """Mail for all users while the block runs: what was acknowledged, by user and UID."""
    acknowledged: dict[tuple[str, int], bytes] = {}
    stop = threading.Event()

    def save() -> None:
        with cluster.client() as client:
            number = 0
            while not stop.wait(0.01):
                number += 1
                user = USERS[number % len(USERS)]
                body = b"Subject: %d\r\n\r\nbody\r\n" % number
                try:
                    result = client.save(user, "INBOX", body).result
                except ClientError:
                    continue
                assert isinstance(result, SaveResult)
                acknowledged[user, result.saved[0].uid] = body

    saver = threading.Thread(target=save)
    saver.start()
    try:
        yield acknowledged
    finally:
        stop.set()
        saver.join()


def _holds(cluster: Cluster, name: str, count: int) -> bool:
    held = cluster.ask("member", "show", name)["held"]
    return len(held) == count and all(row["state"] == "voter" for row in held)


def _root_master(cluster: Cluster) -> str:
    name: str = cluster.master(0)
    return name


def _is_done(cluster: Cluster, name: str, kind: str) -> bool:
    result = cluster.run("member", "show", name, "-o", "json")
    if result.exit_code:
        return False
    answer = cluster.ask("member", "show", name)
    return any(o["kind"] == kind and o["state"] == "done" for o in answer["operations"])


def _all_there(cluster: Cluster, names: list[str], mail: dict[tuple[str, int], bytes]) -> None:
    assert mail
    for name in names:
        with cluster.client(name) as client:
            for user in USERS:
                found = {m.uid for m in client.messages(user, "INBOX", ALL)}
                wanted = {uid for to, uid in mail if to == user}
                assert wanted <= found, f"{name} lacks {wanted - found} of {user}"
            for (user, uid), body in list(mail.items())[::20]:
                assert client.body(user, "INBOX", uid) == body


def test_nodes_join_and_are_drained_removed_and_replaced_while_mail_arrives(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c", shards=2) as cluster:
        for shard in range(3):
            cluster.master(shard)
        with cluster.client() as client:
            for user in USERS:
                client.add_user(user, "secret-password")
        with _mail(cluster) as mail:
            cluster.join("n4")
            wait_for("n4 to hold the root", partial(_holds, cluster, "n4", 1))

            refused = cluster.run("member", "remove", "n1", "--yes")
            assert refused.exit_code == 1
            assert "still holds" in refused.output

            # The root's master is killed as soon as the drain has begun; whoever leads next goes
            # on.
            cluster.ask("member", "drain", "n1")
            killed = _root_master(cluster)
            cluster.kill(killed)
            cluster.start(killed)
            drained = cluster.run("--deadline", "60", "member", "drain", "n1", "--wait")
            assert drained.exit_code == 0, drained.output
            assert cluster.ask("member", "remove", "n1", "--yes")["state"] == "removed"
            wait_for("n1 to hear it", lambda: "was removed from the cluster" in cluster.log("n1"))

            cluster.kill("n2")
            shutil.rmtree(cluster.folders["n2"] / "data")
            assert cluster.start("n2").wait(60) == 1
            assert "raftmail node --replace" in cluster.log("n2")
            cluster.start("n2", "--replace")
            wait_for("n2 to be filled again", partial(_is_done, cluster, "n2", "replace"))
            ids = {row["id"] for row in cluster.ask("member", "show", "n2")["held"]}
            assert min(ids) > 3, "ids are not used again"
        _all_there(cluster, ["n2", "n3", "n4"], mail)
        with cluster.client("n2", "n3", "n4") as client:
            report = client.admin("verify")
        assert report["equal"], report
        assert {r["node"] for s in report["shards"] for r in s["replicas"]} == {"n2", "n3", "n4"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one node, for what is refused."""
    with Cluster(tmp_path_factory.mktemp("alone") / "c", nodes=1) as cluster:
        cluster.master(0)
        wait_for("the root to be written", lambda: cluster.ask("member", "list")["revision"])
        yield cluster


def _refused(cluster: Cluster, *arguments: str) -> str:
    result = cluster.run(*arguments)
    assert result.exit_code == 1, result.output
    return result.output


def test_a_token_is_good_for_one_machine(alone: Cluster, tmp_path: Path) -> None:
    token = alone.invite("m2")
    assert alone.run("node", "join", token, str(tmp_path / "m2"), "--no-run").exit_code == 0
    again = alone.run("node", "join", token, str(tmp_path / "m2"), "--no-run")
    assert again.exit_code == 1
    said = _refused(alone, "node", "join", token, str(tmp_path / "other"), "--no-run")
    assert "was used, withdrawn or has expired" in said
    assert not (tmp_path / "other").exists()


def test_joining_goes_on_where_it_was_broken_off(
    alone: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster has taken the node in, and the machine never heard it."""
    token = alone.invite("m3")
    folder = tmp_path / "m3"
    with monkeypatch.context() as context:
        context.setattr("raftmail.node.join.finish", _broken_off)
        assert alone.run("node", "join", token, str(folder), "--no-run").exit_code == 1
    assert alone.run("node", "join", token, str(folder), "--no-run").exit_code == 0
    assert not (folder / "invitation.json").exists()


def _broken_off(folder: Path) -> None:
    raise OSError(5, "broken off", str(folder))


def test_names_and_addresses_that_are_taken_are_not_invited(alone: Cluster) -> None:
    peer = alone.plans[0].peer
    assert "there is a node n1 already" in _refused(alone, "member", "invite", "n1=127.0.0.1:9")
    said = _refused(alone, "member", "invite", f"m9={peer}")
    assert f"the address {peer} is that of node n1 already" in said
    client = alone.clients["n1"]
    said = _refused(alone, "member", "invite", f"m9={client}")
    assert f"the address {client} is that of node n1 already (for clients)" in said


def test_an_invitation_that_was_withdrawn_is_of_no_use(alone: Cluster, tmp_path: Path) -> None:
    token = alone.invite("m5")
    assert alone.run("member", "withdraw", "m5").exit_code == 0
    said = _refused(alone, "node", "join", token, str(tmp_path / "m5"), "--no-run")
    assert "was used, withdrawn or has expired" in said
    assert "no open invitation for a node m5" in _refused(alone, "member", "withdraw", "m5")
    assert "m5" not in alone.file.read_text()
    alone.invite("m5")


def test_an_invitation_needs_the_authority_of_the_cluster(alone: Cluster, tmp_path: Path) -> None:
    other = Cluster(tmp_path / "other", nodes=1)
    said = _refused(
        alone, "member", "invite", "m9=127.0.0.1:9", "--ca-folder", str(other.file.parent / "ca")
    )
    assert "is the authority of another cluster" in said
    said = _refused(
        alone, "member", "invite", "m9=127.0.0.1:9", "--ca-folder", str(tmp_path / "none")
    )
    assert "--ca-folder names the folder of the authority" in said


def test_a_node_that_holds_what_nobody_else_has_is_neither_drained_nor_removed(
    alone: Cluster,
) -> None:
    assert "still holds" in _refused(alone, "member", "remove", "n1", "--yes")
    assert "is alive" in _refused(alone, "member", "remove", "n1", "--force", "--yes")
    assert "there is no node n7" in _refused(alone, "member", "drain", "n7")


def test_a_node_with_data_is_not_replaced(alone: Cluster) -> None:
    log: Any = alone.log("n1")
    assert alone.start_other("n1", "--replace") == 1
    assert "has data" in alone.log("n1")[len(log) :]
