"""Large mail through real nodes."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.node.cluster import Cluster

BODY = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 60 * 1024 * 43 + b"\r\n"


def _deliver(address: str, recipients: list[str]) -> list[bytes]:
    """The replies to a message for these recipients."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=90) as connection:
        lines = connection.makefile("rb")
        connection.sendall(b"LHLO x\r\n")
        while not lines.readline().startswith(b"250 "):
            pass
        offered = b"".join(b"RCPT TO:<%b>\r\n" % name.encode() for name in recipients)
        connection.sendall(b"MAIL FROM:<>\r\n" + offered + b"DATA\r\n")
        begun = [lines.readline() for _ in range(len(recipients) + 2)]
        assert begun[-1].startswith(b"354"), begun
        connection.sendall(BODY + b".\r\n")
        return [lines.readline() for _ in recipients]


def test_large_mail_for_two_through_a_node_that_does_not_lead_is_answered(tmp_path: Path) -> None:
    names = ["ann@example.org", "bob@example.org"]
    with Cluster(tmp_path) as cluster:
        master = cluster.master()
        with cluster.client() as client:
            for name in names:
                client.add_user(name, "secret-password")
        other = next(name for name in cluster.lmtp if name != master)
        replies = _deliver(cluster.lmtp[other], names)
        assert all(reply[:1] in (b"2", b"4") for reply in replies), replies
        assert all(process.poll() is None for process in cluster.processes.values())
