"""The web on a real node: with and without TLS, and while somebody holds connections open."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

from tests.node.cluster import Cluster, free_ports

PAGE = "/mail/config-v1.1.xml?emailaddress=anna@example.org"
SETUP = """
[setup]
imaps = "mail.example.org:993"
"""


def test_pages_come_over_http_and_https_and_a_stop_waits_for_nobody(tmp_path: Path) -> None:
    web, webs = free_ports(2)
    config = f'[listen]\nweb = "127.0.0.1:{web}"\nwebs = "127.0.0.1:{webs}"\n'
    cluster = Cluster(tmp_path / "c", nodes=1, config=SETUP)
    ((name, folder),) = cluster.folders.items()
    file = folder / "node.toml"
    file.write_text(file.read_text().replace("[listen]\n", config))
    with cluster:
        cluster.master(0)
        trust = ssl.create_default_context(cafile=str(cluster.made.ca))
        plain = http.client.HTTPConnection("127.0.0.1", web, timeout=30)
        secured = http.client.HTTPSConnection("127.0.0.1", webs, timeout=30, context=trust)
        for connection in (plain, secured, plain, secured):
            connection.request("GET", PAGE)
            answer = connection.getresponse()
            assert answer.status == 200 and b"mail.example.org" in answer.read()
        with socket.create_connection(("127.0.0.1", web)) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\n")
            assert cluster.terminate(name) == 0
