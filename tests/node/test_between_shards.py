"""Three real nodes: COPY and MOVE to a user whose mail is in another shard, asked of every node."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftmail.client import NewMail, Refused
from raftmail.mail.results import CopyResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster

ALL = UidSet.parse("1:*")
BODY = b"Subject: over\r\n\r\nthe border\r\n"


def test_messages_are_copied_and_moved_to_a_user_in_another_shard(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", shards=4) as cluster:
        for shard in range(5):
            cluster.master(shard)
        with cluster.client("n1") as client:
            users = [f"u{at}@example.org" for at in range(12)]
            for user in users:
                client.add_user(user, "x")
            shards = {user: client.create_mailbox(user, "x").shard for user in users}
        here = users[0]
        there = next(user for user in users if shards[user] != shards[here])
        for count, name in enumerate(cluster.clients):
            with cluster.client(name) as client:
                for at in range(3):
                    client.save(here, "x", BODY + b"%d %d\r\n" % (count, at), flags=("\\Seen", "k"))
                copied = client.copy(here, "x", ALL, "INBOX", target_user=there).result
                assert isinstance(copied, CopyResult) and len(copied.target_uids) == 3
                moved = client.copy(here, "x", ALL, "x", target_user=there, move=True).result
                assert isinstance(moved, CopyResult) and moved.source_uids == copied.source_uids
                assert list(client.messages(here, "x", ALL)) == []
                for mailbox, result in (("INBOX", copied), ("x", moved)):
                    found = list(client.messages(there, mailbox, result.target_uids))
                    assert [set(m.flags) for m in found] == [{"\\Seen", "k"}] * 3
                    for at, message in enumerate(found):
                        body = client.body(there, mailbox, message.uid)
                        assert body == BODY + b"%d %d\r\n" % (count, at)
        _more_than_one_command_can_carry(cluster, here, there)


def _more_than_one_command_can_carry(cluster: Cluster, here: str, there: str) -> None:
    with cluster.client("n1") as client:
        mails = [NewMail([(here, "x")], BODY + b"%d\r\n" % (at % 7)) for at in range(600)]
        for _ in range(2):
            client.save_all(mails)
        with pytest.raises(Refused, match="name fewer UIDs"):
            client.copy(here, "x", ALL, "INBOX", target_user=there, move=True)
        client.create_mailbox(there, "large")
        parts = [
            executed.result
            for executed in client.copy_in_parts(
                here, "x", ALL, "large", target_user=there, move=True
            )
        ]
        moved = [part for part in parts if isinstance(part, CopyResult)]
        assert (
            [len(part.source_uids) for part in moved]
            == [1000, 200]
            == [len(part.target_uids) for part in moved]
        )
        assert list(client.messages(here, "x", ALL)) == []
        assert len(list(client.messages(there, "large", ALL))) == 1200
