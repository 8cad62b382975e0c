"""A real proxy before real nodes: the master dies in the middle, and clients lose nothing."""

from __future__ import annotations

import imaplib
import os
import poplib
import signal
import smtplib
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from raftmail.mail.endpoint import split_address
from tests.node.cluster import WAIT_S, Cluster, free_ports, wait_for

USER, PASSWORD = "anna@example.org", "secret password"
MESSAGES = 24
TOML = """[cluster]
file = "{file}"
[listen]
imap = "127.0.0.1:{imap}"
pop3 = "127.0.0.1:{pop3}"
lmtp = "127.0.0.1:{lmtp}"
[log_in]
patience_s = 30
[nodes]
connect_ms = 5000
hang_s = {hang_s}
"""


@contextmanager
def _proxy(
    cluster: Cluster, folder: Path, hang_s: int = 10
) -> Iterator[tuple[int, dict[str, int]]]:
    """A proxy process: its pid, and its ports by protocol."""
    ports = dict(zip(("imap", "pop3", "lmtp"), free_ports(3), strict=True))
    config = folder / "proxy.toml"
    config.write_text(TOML.format(file=cluster.file, hang_s=hang_s, **ports))
    command = [sys.executable, "-m", "raftmail_cli", "proxy", str(config)]
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for("the proxy", lambda: all(map(_is_open, ports.values())))
        yield process.pid, ports
    finally:
        process.terminate()
        assert process.wait(WAIT_S) == 0, (folder / "proxy.log").read_text()


def _is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def _holds_connection(pid: int, port: int) -> bool:
    """Whether a process has a connection to a port of this machine."""
    sockets = {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[2].rpartition(":")[2], 16) == port and f"socket:[{words[9]}]" in sockets:
            return True
    return False


def _behind_proxies(cluster: Cluster) -> None:
    for folder in cluster.folders.values():
        config = folder / "node.toml"
        text = config.read_text().replace("[listen]", '[listen]\nproxy_networks = "127.0.0.1"', 1)
        config.write_text(text)


def _subjects(port: int) -> Counter[bytes]:
    with imaplib.IMAP4("127.0.0.1", port, timeout=WAIT_S) as box:
        box.login(USER, PASSWORD)
        status, (count,) = box.select("INBOX", readonly=True)
        assert status == "OK"
        _, rows = box.fetch("1:*", "(BODY[HEADER.FIELDS (SUBJECT)])") if count != b"0" else ("", [])
        return Counter(row[1].strip() for row in rows if isinstance(row, tuple))


def _log_in_over_and_over(port: int, stop: threading.Event, said: list[str]) -> None:
    """What log-ins with the right password come to."""
    while not stop.is_set():
        try:
            with imaplib.IMAP4("127.0.0.1", port, timeout=WAIT_S) as box:
                said.append(box.login(USER, PASSWORD)[0])
        except imaplib.IMAP4.abort:
            said.append("BYE")
        except imaplib.IMAP4.error as error:
            said.append(str(error))


def test_a_master_killed_in_the_middle_loses_and_doubles_nothing_through_the_proxy(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path / "c", programs=True)
    _behind_proxies(cluster)
    with cluster:
        cluster.master(0)
        master = cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, PASSWORD)
        with _proxy(cluster, tmp_path) as (_, ports):
            resting = imaplib.IMAP4("127.0.0.1", ports["imap"], timeout=WAIT_S)
            resting.login(USER, PASSWORD)
            stop, said = threading.Event(), list[str]()
            args = (ports["imap"], stop, said)
            thread = threading.Thread(target=_log_in_over_and_over, args=args)
            thread.start()
            try:
                with smtplib.LMTP("127.0.0.1", ports["lmtp"], timeout=WAIT_S * 2) as mta:
                    for number in range(MESSAGES):
                        if number == MESSAGES // 3:
                            cluster.kill(master)
                        text = f"Subject: {number}\r\n\r\n.x\r\n".encode()
                        assert mta.sendmail("x@x.org", [USER], text) == {}
            finally:
                stop.set()
                thread.join()
            assert "OK" in said
            assert {one for one in said if one not in ("OK", "BYE")} <= {
                one for one in said if "UNAVAILABLE" in one
            }, "nothing else was said, above all no wrong password"
            assert resting.noop()[0] == "OK", "it goes on, wherever it is now"
            resting.logout()
            expected = Counter(b"Subject: %d" % number for number in range(MESSAGES))
            assert _subjects(ports["imap"]) == expected
            box = poplib.POP3("127.0.0.1", ports["pop3"], timeout=WAIT_S)
            box.user(USER)
            box.pass_(PASSWORD)
            assert box.stat()[0] == MESSAGES
            box.quit()


@pytest.mark.long
def test_a_node_that_hangs_is_left_in_bounded_time_and_its_clients_hear_no_other_node(
    tmp_path: Path,
) -> None:
    cluster = Cluster(tmp_path / "c", programs=True)
    _behind_proxies(cluster)
    with cluster:
        cluster.master(1)
        with cluster.client() as client:
            client.add_user(USER, PASSWORD)
        with _proxy(cluster, tmp_path, hang_s=3) as (process, ports):
            box = imaplib.IMAP4("127.0.0.1", ports["imap"], timeout=WAIT_S)
            box.login(USER, PASSWORD)
            box.select("INBOX")
            hung = next(
                name
                for name, programs in cluster.programs.items()
                if _holds_connection(process, split_address(programs.imaps)[1])
            )
            pid = cluster.processes[hung].pid
            os.kill(pid, signal.SIGSTOP)
            try:
                with pytest.raises(imaplib.IMAP4.abort, match="UNAVAILABLE"):
                    box.noop()  # a command under way is not said again elsewhere
                with imaplib.IMAP4("127.0.0.1", ports["imap"], timeout=WAIT_S) as other:
                    assert other.login(USER, PASSWORD)[0] == "OK"
                    assert other.select("INBOX")[0] == "OK"
            finally:
                os.kill(pid, signal.SIGCONT)
