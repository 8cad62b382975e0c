"""Real nodes: a quota is set by an operator, and enforced by the shard that holds the user, whoever
asks for what."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from pathlib import Path

import pytest

from raftmail.client.errors import Refused
from raftmail.mail.results import Code, CopyResult
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster

ALL = UidSet.parse("1:*")
MESSAGE = b"From: bob@example.org\r\nSubject: hello\r\n\r\n" + b"x" * 2000 + b"\r\n"


def test_a_user_over_quota_gets_no_more_mail_and_everybody_else_does(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", shards=2) as cluster:
        for shard in range(3):
            cluster.master(shard)
        users = [f"u{at}@example.org" for at in range(6)]
        with cluster.client("n1") as client:
            for user in users:
                client.add_user(user, "secret-password")
            shards = {user: client.save(user, "INBOX", MESSAGE).shard for user in users}
            full = users[0]
            other = next(user for user in users if shards[user] != shards[full])
            client.create_mailbox(full, "x")
            row = client.admin("quota-set", address=full, bytes="4000")
            assert (row["quota_bytes"], row["used_bytes"]) == (4000, len(MESSAGE))

            # SAVE, COPY within the shard and from another one are refused; what is there can be
            # moved.
            refused: list[Callable[[], object]] = [
                lambda: client.save(full, "INBOX", MESSAGE),
                lambda: client.copy(full, "INBOX", ALL, "x"),
                lambda: client.copy(other, "INBOX", ALL, "INBOX", target_user=full),
                lambda: client.copy(other, "INBOX", ALL, "INBOX", target_user=full, move=True),
            ]
            for attempt in refused:
                with pytest.raises(Refused, match=f"{full} is over quota: has 2") as caught:
                    attempt()
                assert caught.value.code is Code.OVERQUOTA
            moved = client.copy(full, "INBOX", ALL, "x", move=True).result
            assert isinstance(moved, CopyResult) and len(moved.target_uids) == 1
            assert len(list(client.messages(other, "INBOX", ALL))) == 1, "the move took nothing"

        # Of one message, each recipient has an answer of the own.
        host, port = cluster.lmtp["n1"].split(":")
        with smtplib.LMTP(host, int(port)) as lmtp:
            lmtp.ehlo_or_helo_if_needed()
            assert lmtp.mail("bob@example.org")[0] == 250
            assert [lmtp.rcpt(user)[0] for user in users] == [250] * 6
            assert lmtp.docmd("DATA")[0] == 354
            lmtp.send(MESSAGE + b".\r\n")
            answers = {user: lmtp.getreply() for user in users}
        code, text = answers.pop(full)
        assert code == 552 and text.startswith(b"5.2.2 ") and b"over quota" in text
        assert full.encode() not in text and b"4000" not in text, "that is the user's business"
        assert {code for code, _ in answers.values()} == {250}

        shown = cluster.run("user", "show", full).stdout
        assert "4.0 kB" in shown and "the user" in shown
        assert cluster.run("domain", "set", "example.org", "--quota", "1MB").exit_code == 0
        assert cluster.run("user", "quota", full, "default").exit_code == 0
        rows = cluster.ask("user", "list", "--usage")
        assert {row["address"] for row in rows} == set(users)
        assert {row["quota_bytes"] for row in rows} == {1_000_000}
        whole = cluster.ask("domain", "show", "example.org")
        assert (whole["users"], whole["messages"]) == (6, 11)
        assert cluster.run("user", "quota", "nobody@example.org", "1G").exit_code == 1
        verified = cluster.run("verify")
        assert verified.exit_code == 0, verified.output
