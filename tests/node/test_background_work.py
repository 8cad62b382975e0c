"""A real node does with junk, trash and new mail what its configuration says."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from raftmail.mail.endpoint import split_address
from raftmail.mail.uidset import UidSet
from tests.frontends.imap.strict_imaplib import StrictImaplib
from tests.node.cluster import Cluster, wait_for

USER, PASSWORD = "alice@example.org", "secret-password"
MESSAGE = b"From: Zoe <zoe@example.org>\r\nSubject: number %d\r\n\r\nhello\r\n"
ALL = UidSet.parse("1:*")
LATER = "import time\nreal = time.time\ntime.time = lambda: real() + 3 * 86_400\n"
LEARN = "import sys\nopen(sys.argv[1], 'a').write(sys.argv[2] + sys.stdin.read()[-7:-2])\n"


@contextmanager
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL, and the events that came there."""
    events: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events.extend(json.loads(body)["events"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/mail", events
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def configuration(folder: Path, url: str) -> str:
    """Of a node that does all of it. The secret is whatever file there is."""
    script, learnt = folder / "learn.py", folder / "learnt"
    script.write_text(LEARN)
    return f"""
[expire]
trash_days = 2
period_s = 1
[junk]
learn_spam = "{sys.executable} {script} {learnt} spam:"
learn_ham = "{sys.executable} {script} {learnt} ham:"
[push]
secret_file = "tls/token"
details = true
[hooks]
"*" = "{url}"
"""


@pytest.mark.long
def test_a_node_makes_mailboxes_teaches_filters_tells_of_mail_and_expunges_what_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as (url, events):
        text = configuration(tmp_path, url)
        cluster = Cluster(tmp_path / "c", 1, config=text, replicas=1, programs=True)
        home = cluster.folders["n1"] / "node.toml"
        home.write_text('mail.first_mailboxes = "Spam=Junk, Trash"\n' + home.read_text())
        with cluster:
            work_with(cluster, tmp_path / "learnt")
            wait_for("two events", lambda: len(events) == 2)
            assert [(one["mailbox"], one["uid"]) for one in events] == [("INBOX", 1), ("INBOX", 2)]
            assert events[0]["from"] == "Zoe <zoe@example.org>"
            status = cluster.status()["nodes"][0]["background"]
            assert status["push"]["done"] == 2
            assert status["expunged"] == 0
            cluster.terminate("n1")
            later = tmp_path / "later"
            later.mkdir()
            (later / "sitecustomize.py").write_text(LATER)
            monkeypatch.setenv("PYTHONPATH", str(later))
            cluster.start("n1")
            cluster.master(1)
            with cluster.client() as client:
                client.save(USER, "Trash", MESSAGE % 3, received_us=1_000_000)
                wait_for(
                    "the end of what is old",
                    lambda: [one.uid for one in client.messages(USER, "Trash", ALL)] == [2],
                )


def work_with(cluster: Cluster, learnt: Path) -> None:
    """A user gets two messages, calls one of them junk and takes that back, and throws the other
    away."""
    cluster.master(0)
    cluster.master(1)
    host, port = split_address(cluster.programs["n1"].imap)
    with cluster.client() as client, StrictImaplib(host, port, timeout=30) as box:
        client.add_user(USER, PASSWORD)
        uses = {one.name: (one.special_use, one.subscribed) for one in client.mailboxes(USER)}
        assert uses == {
            "INBOX": ("", True),
            "Spam": ("\\Junk", True),
            "Trash": ("\\Trash", True),
        }
        for number in (1, 2):
            client.save(USER, "INBOX", MESSAGE % number)
        box.login(USER, PASSWORD)
        box.select("INBOX")
        assert box.uid("MOVE", "2", "Trash")[0] == "OK"
        assert box.uid("MOVE", "1", "Spam")[0] == "OK"
        wait_for("a lesson", lambda: learnt.exists() and learnt.read_text() == "spam:hello")
        box.select("Spam")
        assert box.uid("MOVE", "1", "INBOX")[0] == "OK"
        wait_for("another", lambda: learnt.read_text() == "spam:helloham:hello")
