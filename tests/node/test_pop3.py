"""POP3 on real nodes: the same mail and the same unique ids through each, also after a kill."""

from __future__ import annotations

import poplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from raftmail.mail.endpoint import split_address
from raftmail.mail.uidset import UidSet
from tests.node.cluster import Cluster

USER = "alice@example.org"
PASSWORD = "secret password"
MESSAGES = (
    b"Subject: one\r\n\r\n.\r\n..\r\n.x\r\nend\r\n",
    b"Subject: two\r\n\r\n" + b".a line\r\n" * 40_000,
    b"Subject: three\r\n\r\nhello\r\n",
)


@contextmanager
def maildrop(cluster: Cluster, name: str, *, tls: bool) -> Iterator[poplib.POP3]:
    """Logged in through a node, over the port that begins with TLS or by STLS."""
    trust = ssl.create_default_context(cafile=str(cluster.made.ca))
    programs = cluster.programs[name]
    host, port = split_address(programs.pop3s if tls else programs.pop3)
    if tls:
        box: poplib.POP3 = poplib.POP3_SSL(host, port, timeout=60, context=trust)
    else:
        box = poplib.POP3(host, port, timeout=60)
        box.stls(trust)
    try:
        box.user(USER)
        box.pass_(PASSWORD)
        yield box
    finally:
        box.close()


def test_mail_and_unique_ids_are_the_same_through_each_node_and_quit_survives_the_master(
    tmp_path: Path,
) -> None:
    with Cluster(tmp_path / "c", programs=True) as cluster:
        cluster.master(0)
        master = cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, PASSWORD)
            for message in MESSAGES:
                client.save(USER, "INBOX", message)
        ids = []
        for name in cluster.folders:
            with maildrop(cluster, name, tls=name == master) as box:
                found = [b"\r\n".join([*box.retr(n)[1], b""]) for n in (1, 2, 3)]
                assert found == list(MESSAGES), name
                assert box.stat() == (3, sum(map(len, MESSAGES)))
                ids.append(box.uidl()[1])
                box.dele(2)  # and no QUIT: it stays
        assert ids[0] == ids[1] == ids[2]
        one, other = (name for name in cluster.folders if name != master)
        with maildrop(cluster, one, tls=True) as box:
            box.dele(1)
            box.dele(3)
            cluster.kill(master)
            assert box.quit().startswith(b"+OK")
        with maildrop(cluster, other, tls=False) as box:
            assert box.uidl()[1] == [b"1 " + ids[0][1].split()[1]]
            assert b"\r\n".join([*box.retr(1)[1], b""]) == MESSAGES[1]
        with cluster.client() as client:
            left = client.messages(USER, "INBOX", UidSet.parse("1:*"))
            assert [message.uid for message in left] == [2]
