"""Debian's mbsync keeps a maildir and a mailbox on three nodes the same, in both directions."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.frontends.imap.imap_kit import message
from tests.peers.mail_cluster import PASSWORD, USER, MailCluster, subjects
from tests.peers.program import ProgramFolder, need, program_folder

pytestmark = pytest.mark.long

_CONFIG = """\
IMAPAccount raftmail
Host 127.0.0.1
Port {port}
User {user}
Pass {password}
{tls} None
AuthMechs LOGIN
Timeout 60

IMAPStore far
Account raftmail

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
"""


class Mbsync:
    """mbsync, with a configuration for each node."""

    def __init__(self, place: ProgramFolder, cluster: MailCluster) -> None:
        self.program = need("mbsync", "isync")
        self.place = place
        self.mail = place.make("mail")
        version = place.ok(self.program, "--version").decode()
        found = re.search(r"([0-9]+)\.([0-9]+)", version)
        newer = found is not None and (int(found[1]), int(found[2])) >= (1, 5)
        for name, port in cluster.imap.items():
            text = _CONFIG.format(
                port=port,
                user=USER,
                password=PASSWORD,
                folder=place.folder,
                tls="TLSType" if newer else "SSLType",
            )
            place.write(f"{name}.rc", text)

    def sync(self, node: str) -> bool:
        """Whether it all went well."""
        done = self.place.run(self.program, "-q", "-c", str(self.place.folder / f"{node}.rc"), "-a")
        self.said = done.stdout + done.stderr
        return done.returncode == 0

    def put(self, folder: str, messages: Iterable[bytes]) -> None:
        """Messages that somebody saves in the maildir."""
        for part in ("cur", "new", "tmp"):
            self.place.make("mail", folder, part)
        for number, one in enumerate(messages):
            name = f"mail/{folder}/new/{time.time_ns()}.{number}.here"
            self.place.write(name, one.replace(b"\r\n", b"\n"))

    def files(self, folder: str) -> list[Path]:
        return [
            one for part in ("cur", "new") for one in sorted((self.mail / folder / part).iterdir())
        ]


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[tuple[MailCluster, Mbsync]]:
    need("mbsync", "isync")
    with program_folder() as place, MailCluster(tmp_path / "c") as cluster:
        cluster.add_users()
        yield cluster, Mbsync(place, cluster)


def test_mail_flags_folders_and_removals_go_both_ways(
    synced: tuple[MailCluster, Mbsync],
) -> None:
    cluster, mbsync = synced
    one, two, three = cluster.imap
    cluster.fill([message(f"far {number}") for number in range(5)])
    mbsync.put("INBOX", [message(f"near {number}") for number in range(5)])
    mbsync.put("Work", [message("near work")])
    with cluster.box(one) as box:
        box.create("Played")
        box.append("Played", None, None, message("far played"))
    assert mbsync.sync(one), mbsync.said
    assert mbsync.sync(two), mbsync.said
    everything = Counter(f"{side} {number}" for side in ("far", "near") for number in range(5))
    assert subjects(cluster.messages()) == everything
    assert subjects(path.read_bytes() for path in mbsync.files("INBOX")) == everything
    assert subjects(cluster.messages("Work")) == Counter(["near work"])
    assert len(mbsync.files("Played")) == 1

    with cluster.box(three) as box:
        box.select("INBOX")
        _, found = box.search(None, "SUBJECT", '"far 1"')
        box.store(found[0].decode(), "+FLAGS", "(\\Flagged)")
        _, found = box.search(None, "SUBJECT", '"far 2"')
        box.store(found[0].decode(), "+FLAGS", "(\\Deleted)")
    for path in mbsync.files("INBOX"):
        if b"Subject: near 3" in path.read_bytes():
            path.unlink()
        elif b"Subject: near 4" in path.read_bytes():
            path.rename(path.parent.parent / "cur" / (path.name.split(":")[0] + ":2,S"))
    assert mbsync.sync(three), mbsync.said
    assert mbsync.sync(one), mbsync.said
    left = everything - Counter(["far 2", "near 3"])
    assert subjects(cluster.messages()) == left
    assert subjects(path.read_bytes() for path in mbsync.files("INBOX")) == left
    flagged = [path for path in mbsync.files("INBOX") if "F" in path.name.rpartition(":2,")[2]]
    assert subjects(path.read_bytes() for path in flagged) == Counter(["far 1"])
    with cluster.box(two) as box:
        box.select("INBOX")
        seen = box.search(None, "SEEN", "SUBJECT", '"near 4"')[1][0]
        assert len(seen.split()) == 1


def test_nothing_is_lost_or_doubled_while_nodes_are_killed(
    synced: tuple[MailCluster, Mbsync],
) -> None:
    cluster, mbsync = synced
    count = 150
    cluster.fill([message(f"far {number}", "x" * 2000) for number in range(count)])
    mbsync.put("INBOX", [message(f"near {number}", "y" * 2000) for number in range(count)])
    stop = Event()

    def kill() -> None:
        """One after the other, the master first; each is back before the next goes."""
        while not stop.wait(0.7):
            name = cluster.master(1)
            cluster.kill(name)
            if stop.wait(1.5):
                cluster.start(name)
                return
            cluster.start(name)
            cluster.master(1)

    killer = Thread(target=kill)
    killer.start()
    failed = 0
    try:
        deadline = time.monotonic() + 90
        for name in cycle(cluster.imap):
            done = mbsync.sync(name)
            failed += not done
            whole = len(mbsync.files("INBOX")) >= 2 * count
            if time.monotonic() > deadline or (done and whole and failed >= 2):
                break
    finally:
        stop.set()
        killer.join()
    cluster.master(1)
    deadline = time.monotonic() + 60
    for name in cycle(cluster.imap):
        if mbsync.sync(name) or time.monotonic() > deadline:
            break
    assert mbsync.sync(next(iter(cluster.imap))), mbsync.said
    everything = Counter(f"{side} {number}" for side in ("far", "near") for number in range(count))
    assert subjects(cluster.messages()) == everything
    assert subjects(path.read_bytes() for path in mbsync.files("INBOX")) == everything
