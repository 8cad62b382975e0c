"""Debian's Thunderbird reads, moves and sends while the master of its mailboxes is killed."""

from __future__ import annotations

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from tests.frontends.imap.imap_kit import message
from tests.node.cluster import wait_for
from tests.peers.door import door
from tests.peers.mail_cluster import MailCluster, subjects
from tests.peers.program import need, program_folder
from tests.peers.smtp_sink import SmtpSink, smtp_sink
from tests.peers.thunderbird import HOST, Thunderbird, thunderbird

pytestmark = pytest.mark.long

ALL: Final = [f"number {number}" for number in range(20)]
MOVED: Final = ALL[4:]
SENT: Final = [f"sent {number}" for number in range(5)]
HELD_AT: Final = 3
"""Sending the third message, Thunderbird is held until the master is dead."""

AWAY_S: Final = 2.0

_FLAGS: Final = re.compile(rb"FLAGS \(([^)]*)\)")
_MESSAGES: Final = re.compile(rb"MESSAGES (\d+)")


class Killed:
    """A cluster whose master is killed, and the server that Thunderbird was told."""

    def __init__(self, cluster: MailCluster, way: str) -> None:
        self.cluster = cluster
        self.master = cluster.master(1)
        near, self.far = (name for name in cluster.folders if name != self.master)
        self._comes_back = way == "waits for the node"
        nodes = {
            "goes elsewhere": [self.master, near],
            "stays where it is": [near],
            "waits for the node": [self.master],
        }[way]
        self.protocol = "imap" if way == "stays where it is" else "imaps"
        self.ports = [cluster.port(name, self.protocol) for name in nodes]

    def kill(self) -> None:
        """The master dies and comes back: at once where it is waited for, else when there is
        another one."""
        self.cluster.kill(self.master)
        if self._comes_back:
            time.sleep(AWAY_S)
        else:
            self.cluster.master(1)
        self.cluster.start_again(self.master)

    def lead_again(self) -> None:
        """The node that died has the shard again."""
        self.cluster.ask("transfer", "1", self.master)
        wait_for("the master", lambda: self.cluster.master(1) == self.master)


@pytest.mark.parametrize("way", ["goes elsewhere", "stays where it is", "waits for the node"])
def test_nothing_is_lost_or_doubled_while_the_master_is_killed(tmp_path: Path, way: str) -> None:
    """Thunderbird is told one server. It is an address of several nodes, the first of which dies; a
    node that lives; or the node that dies and comes back."""
    need("thunderbird", "thunderbird")
    with ExitStack() as stack:
        cluster = stack.enter_context(MailCluster(tmp_path / "c", host=HOST))
        cluster.add_users()
        cluster.fill([message(one) for one in ALL])
        killed = Killed(cluster, way)
        place = stack.enter_context(program_folder())
        sink = stack.enter_context(smtp_sink(HELD_AT))
        port = stack.enter_context(door(killed.ports)).port
        bird = stack.enter_context(
            thunderbird(place, killed.protocol, port, smtp=sink.port, trusted=cluster.trusted)
        )
        box = stack.enter_context(cluster.box(killed.far))
        read(bird)
        move(bird, killed, box)
        killed.lead_again()
        send(bird, killed, box, sink)
        # Another client, at a node that Thunderbird has never talked to, sees the same.
        assert found(box, "INBOX") == [
            (ALL[0], ""), (ALL[1], "\\Seen"), (ALL[2], "\\Flagged"), (ALL[3], "")
        ]  # fmt: skip
        assert found(box, "Kept") == [(one, "") for one in MOVED]
        assert sorted(found(box, "Sent")) == [(one, "\\Seen") for one in SENT]
        for folder, there in (("INBOX", ALL[:4]), ("Kept", MOVED), ("Sent", SENT)):
            assert bird.do("update", folder) == 0
            assert sorted(bird.do("subjects", folder)) == sorted(there)
        assert subjects(sink.messages) == Counter(SENT)


def read(bird: Thunderbird) -> None:
    """List, open and flag mail, and make a folder."""

    def listed() -> bool:
        status, told = bird.do("update", "INBOX"), bird.do("subjects", "INBOX")
        return bool(status == 0 and told == ALL)

    wait_for("all mail", listed)
    subject, text = bird.do("show", "INBOX", ALL[1])
    assert subject.endswith(ALL[1]) and "hello" in text
    bird.do("flag", "INBOX", ALL[2])
    bird.do("create", "Kept")


def move(bird: Thunderbird, killed: Killed, box: Any) -> None:
    """Move one message after the other while the master dies. What was not moved is moved when the
    folders have been looked at again."""
    with ThreadPoolExecutor(1) as threads:
        moving = threads.submit(bird.do, "move", "INBOX", "Kept", MOVED)
        wait_for("the first of them", lambda: moving.done() or count(box, "Kept"))
        assert not moving.done(), moving.result()
        killed.kill()
        print(f"moved at first: {moving.result()}")
    for _ in range(5):
        for folder in ("INBOX", "Kept"):
            bird.do("update", folder)
        there = bird.do("subjects", "INBOX")
        if left := [one for one in MOVED if one in there]:
            print(f"moved then: {bird.do('move', 'INBOX', 'Kept', left)}")


def send(bird: Thunderbird, killed: Killed, box: Any, sink: SmtpSink) -> None:
    """Send while the master dies: what was sent before has its copies, the others get theirs. The
    first one has Thunderbird make the folder."""
    assert bird.do("send", "bob@example.net", SENT[:1]) == [0]
    wait_for("the first copy", lambda: count(box, "Sent") == 1)
    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(bird.do, "send", "bob@example.net", SENT[1:])
        assert sink.held.wait(60)
        wait_for("the copies before", lambda: count(box, "Sent") == HELD_AT - 1)
        killed.cluster.kill(killed.master)
        sink.go.set()
        assert sending.result() == [0] * len(SENT[1:])
        time.sleep(AWAY_S)
        killed.cluster.start_again(killed.master)

    def copied() -> bool:
        if question := bird.answer():
            print(f"Thunderbird asked: {question}")
        return count(box, "Sent") >= len(SENT)

    wait_for("all copies", copied, timeout_s=120)


def count(box: Any, folder: str) -> int:
    """How many messages a folder has; none where there is no such folder."""
    _, told = box.status(folder, "(MESSAGES)")
    found = _MESSAGES.search(told[0])
    return int(found[1]) if found else 0


def found(box: Any, folder: str) -> list[tuple[str, str]]:
    """The messages of a folder in order: subject, and flags."""
    assert box.select(folder, readonly=True)[0] == "OK"
    _, told = box.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    messages = []
    for one in told:
        if isinstance(one, tuple):
            flags = _FLAGS.search(one[0])
            assert flags, one
            subject = one[1].strip().decode().removeprefix("Subject: ")
            messages.append((subject, flags[1].decode()))
    return messages
