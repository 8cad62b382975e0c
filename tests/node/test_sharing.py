"""Shared mailboxes on real nodes: owner and guest have their mail in different shards, and ask
different nodes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raftmail.mail.endpoint import split_address
from tests.frontends.imap.imap_kit import message
from tests.node.cluster import Cluster
from tests.peers.imap_talk import ImapTalk

PASSWORD = "secret-password"


class _Talks:
    """Sessions of users with nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def log_in(self, node: str, user: str) -> ImapTalk:
        _, port = split_address(self._cluster.programs[node].imap)
        return ImapTalk.log_in(port, user, PASSWORD)


def _ok(talk: ImapTalk, command: str, *literals: bytes) -> tuple[bytes, ...]:
    told = talk.ask(command.encode(), *literals)
    assert told.ok, (command, told.status)
    return told.untagged


@pytest.mark.long
def test_a_mailbox_is_shared_between_shards_and_nodes(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", shards=4, programs=True) as cluster:
        for shard in range(5):
            cluster.master(shard)
        with cluster.client("n1") as client:
            users = [f"u{at}@example.org" for at in range(12)]
            for user in users:
                client.add_user(user, PASSWORD)
            shards = {user: client.create_mailbox(user, "Box").shard for user in users}
        owner = users[0]
        guest = next(user for user in users if shards[user] != shards[owner])
        box = f'"Other Users/{owner}/Box"'
        talks = _Talks(cluster)
        with talks.log_in("n1", owner) as ours, talks.log_in("n2", guest) as theirs:
            _ok(ours, "APPEND Box {}", message("one"))
            _ok(ours, f"SETACL Box {guest} lrswite")
            listed = b"".join(_ok(theirs, 'LIST "" "*" RETURN (MYRIGHTS)'))
            assert b"* MYRIGHTS %b lrswited" % box.encode() in listed
            said = _ok(theirs, f"SELECT {box}")
            assert b"* 1 EXISTS\r\n" in said
            _ok(theirs, "COPY 1 INBOX")
            _ok(ours, "APPEND Box {}", message("two"))
            assert b"* 2 EXISTS\r\n" in _ok(theirs, "NOOP")
            _ok(theirs, "STORE 2 +FLAGS (\\Flagged)")
            _ok(theirs, "MOVE 1 INBOX")
            (fetched,) = _ok(ours, "EXAMINE Box") and [
                line for line in _ok(ours, "FETCH 1 FLAGS") if b"FETCH" in line
            ]
            assert b"\\Flagged" in fetched
            status = b"".join(_ok(theirs, "STATUS INBOX (MESSAGES)"))
            assert re.search(rb"MESSAGES 2\)", status)
            _ok(theirs, f"APPEND {box} {{}}", message("three"))
            _ok(ours, f"DELETEACL Box {guest}")
            told = theirs.ask(b"STORE 1 -FLAGS (\\Flagged)")
            assert not told.ok, "what is taken away is gone at once, through any node"
            assert cluster.run("mailbox", "share", owner, "Box", "anyone", "lr").exit_code == 0
        with talks.log_in("n3", guest) as theirs:
            assert box.encode() in b"".join(_ok(theirs, 'LIST "" "*"'))
            told = theirs.ask(f"APPEND {box} {{}}".encode(), message("four"))
            assert told.status.startswith(b"NO [NOPERM]"), told.status
