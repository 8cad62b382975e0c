"""Real nodes: a rule gives a domain shards of its own and moves nobody; aliases and catch-alls get
their mail."""

from __future__ import annotations

import smtplib
import time
from pathlib import Path

import pytest

from raftmail.client.errors import ClientError
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster, wait_for

ALL = UidSet.parse("1:*")
MESSAGE = b"From: bob@example.org\r\nSubject: hello\r\n\r\nA text.\r\n"


def _deliver(lmtp: smtplib.LMTP, to: str, text: str) -> None:
    """A node that has yet to hear of an alias says so with 451, never with 550."""
    deadline = time.monotonic() + 20
    while True:
        try:
            assert lmtp.sendmail("bob@example.org", [to], MESSAGE + text.encode()) == {}
            return
        except smtplib.SMTPRecipientsRefused as e:
            assert e.recipients[to][0] == 451 and time.monotonic() < deadline, e.recipients
        time.sleep(0.1)


def test_rules_domains_and_aliases_hold_on_every_node(tmp_path: Path) -> None:
    with Cluster(tmp_path / "c", shards=2) as cluster:
        for shard in range(3):
            cluster.master(shard)
        with cluster.client("n1") as client:
            users = [f"u{at}@example.org" for at in range(4)]
            for user in users:
                client.add_user(user, "secret-password")
            before = {user: client.save(user, "INBOX", MESSAGE).shard for user in users}
            for what in ("hold-here", "change-here"):
                with pytest.raises(ClientError, match="is for nodes alone"):
                    client.admin(what)
            with pytest.raises(ClientError, match="no active node is in zone mars"):
                client.admin("rule-set", domain="example.org", zones="mars")
            client.admin("rule-set", domain="example.org", shards="2")
        deadline = time.monotonic() + 30
        with cluster.client("n2") as client:
            while (rules := client.admin("rules"))["rules"][0]["state"] != "active":
                assert time.monotonic() < deadline, rules
                time.sleep(0.1)
            (own,) = [pool for pool in rules["pools"] if pool["name"] == "example.org"]
            assert own["shards"] == [3, 4]
            client.add_user("new@example.org", "secret-password")
            client.admin(
                "alias-set", address="team@example.org", to="u0@example.org,new@example.org"
            )
            client.admin("domain-set", name="example.net", catch_all="u1@example.org")
            with pytest.raises(
                ClientError, match=r"no user or alias of this cluster: 'a@else\.com"
            ):
                client.admin("alias-set", address="out@example.org", to="u0@example.org,a@else.com")
        for count, name in enumerate(cluster.clients, 1):
            host, port = cluster.lmtp[name].split(":")
            with smtplib.LMTP(host, int(port)) as lmtp:
                for to in ("team@example.org", "whoever@example.net"):
                    _deliver(lmtp, to, name)
            with cluster.client(name) as client:
                for user in users:
                    assert client.save(user, "INBOX", MESSAGE).shard == before[user], "nobody moved"
                assert client.save("new@example.org", "INBOX", MESSAGE).shard in (3, 4)
                held = {
                    u: len(list(client.messages(u, "INBOX", ALL)))
                    for u in [*users, "new@example.org"]
                }
                assert held == {users[0]: 1 + 2 * count, users[1]: 1 + 2 * count} | {
                    users[2]: 1 + count,
                    users[3]: 1 + count,
                    "new@example.org": 2 * count,
                }
        _a_change_of_a_rule_tells_which_node_it_waits_for(cluster)


def _a_change_of_a_rule_tells_which_node_it_waits_for(cluster: Cluster) -> None:
    cluster.kill("n3")
    with cluster.client("n1") as client:
        client.admin("rule-set", domain="example.com", shards="1")

    def waits() -> str:
        rules = cluster.ask("rule", "list")["rules"]
        return str({r["domain"]: r["waits_for"] for r in rules}["example.com"])

    wait_for("the rule to wait for n3", lambda: waits().startswith("n3 (silent for "))
    cluster.start("n3")
    wait_for("the rule to go on", lambda: not waits())
