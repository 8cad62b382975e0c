"""Mail programs on real nodes: what one is told, the next one sees through any other node, also
after a kill."""

from __future__ import annotations

import imaplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raftmail.mail.endpoint import split_address
from raftmail.mail.results import SaveResult
from tests.frontends.imap.strict_imaplib import StrictImaplib
from tests.node.cluster import Cluster

USER = "alice@example.org"
PASSWORD = "secret-password"
LATE = '"27-Dec-2025 23:30:00 -0800"'
BODY = b"From: a@example.org\r\nSubject: one\r\n\r\nhello\r\n"


class ImapCluster(Cluster):
    """Three nodes that listen for mail programs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, programs=True)

    def trust(self) -> ssl.SSLContext:
        """Of a mail program that believes the cluster's authority."""
        return ssl.create_default_context(cafile=str(self.made.ca))

    @contextmanager
    def box(self, name: str, *, tls: bool = False) -> Iterator[Any]:
        """Logged in through a node."""
        host, port = split_address(self.programs[name].imap)
        with StrictImaplib(host, port, timeout=30) as box:
            if tls:
                box.starttls(self.trust())
            box.login(USER, PASSWORD)
            yield box


def test_what_one_client_is_told_the_next_one_sees_through_another_node_also_after_a_kill(
    tmp_path: Path,
) -> None:
    with ImapCluster(tmp_path / "c") as cluster:
        cluster.master(0)
        master = cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, PASSWORD)
            saved = client.save(USER, "INBOX", BODY).result
            assert isinstance(saved, SaveResult)
        others = [name for name in cluster.folders if name != master]
        with cluster.box(master, tls=True) as box:
            assert box.select("INBOX") == ("OK", [b"1"])
            status, told = box.append("INBOX", None, LATE, BODY)
            assert status == "OK" and b"APPENDUID" in told[0]
            assert box.store("1", "+FLAGS", "(\\Flagged)")[0] == "OK"
        host, port = split_address(cluster.programs[master].imaps)
        with imaplib.IMAP4_SSL(host, port, ssl_context=cluster.trust(), timeout=30) as box:
            box.login(USER, PASSWORD)
            assert box.select("INBOX", readonly=True) == ("OK", [b"2"])
        cluster.kill(master)
        for name in others:
            with cluster.box(name) as box:
                assert box.select("INBOX") == ("OK", [b"2"])
                assert b"\\Flagged" in box.fetch("1", "(FLAGS)")[1][0]
                _, found = box.fetch("2", "(BODY.PEEK[])")
                assert found[0][1] == BODY
                assert LATE.encode() in box.fetch("2", "(INTERNALDATE)")[1][0]
                assert box.search(None, "ON", "27-Dec-2025") == ("OK", [b"2"])
                assert box.noop()[0] == "OK"
