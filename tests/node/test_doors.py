"""The doors of a node process: web requests, floods, signals, and what it says when it cannot
start."""

from __future__ import annotations

import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from raftmail.node.config import load
from tests.node.cluster import WAIT_S, Cluster, wait_for

USER = "anna@example.org"
POST = (
    b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\r\n"
    b"LHLO x\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<anna@example.org>\r\nDATA\r\nforged\r\n.\r\n"
    b"a USER ADD mallory x\r\n"
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("doors"), nodes=1, replicas=1) as cluster:
        cluster.master()
        with cluster.client() as client:
            client.add_user(USER, "x")
        yield cluster


def _lmtp(cluster: Cluster, name: str = "n1") -> socket.socket:
    host, port = cluster.lmtp[name].split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def _all(connection: socket.socket) -> bytes:
    got = b""
    try:
        while piece := connection.recv(65536):
            got += piece
    except (ConnectionResetError, ssl.SSLError):
        pass
    return got


def _is_told(cluster: Cluster, text: str) -> bool:
    return text in cluster.log("n1")


def _messages(cluster: Cluster) -> int:
    with cluster.client() as client:
        return client.mailbox_state(USER, "INBOX").messages


def test_a_web_request_to_the_lmtp_port_delivers_nothing(one: Cluster) -> None:
    with _lmtp(one) as connection:
        connection.sendall(POST)
        assert _all(connection).splitlines()[1:] == [b"421 4.7.0 This is no web server, closing"]
    assert _messages(one) == 0


def test_a_web_request_to_the_client_port_executes_nothing(one: Cluster) -> None:
    with one.connection("n1", auth=False) as connection:
        connection.sendall(POST)
        assert _all(connection) == b'* BYE "this port is not for the web"\r\n'
    assert one.ask("user", "list") == [USER]


def test_without_tls_the_client_port_answers_nothing(one: Cluster) -> None:
    host, port = one.clients["n1"].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"a USER ADD mallory x\r\n")
        assert b"OK" not in _all(connection)


def test_a_bomb_of_empty_lines_ends_its_connection_and_others_are_served(one: Cluster) -> None:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    with one.connection("n1") as bomb, one.connection("n1") as other:
        bomb.sendall(b"c COMPRESS DEFLATE\r\n")
        assert bomb.recv(100) == b"c OK\r\n"
        bomb.sendall(deflate.compress(b"\n" * (192 << 20)) + deflate.flush())
        other.sendall(b"n NOOP\r\n")
        assert other.recv(100) == b"n OK\r\n"
        inflate = zlib.decompressobj(-15)
        assert inflate.decompress(_all(bomb)) == b'* BYE "nothing but empty lines"\r\n'


def test_signals_that_mean_nothing_do_not_end_a_node(one: Cluster) -> None:
    process = one.processes["n1"]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        process.send_signal(number)
        wait_for("a line", partial(_is_told, one, f"{number.name} has no meaning"))
    assert process.poll() is None


def test_hangup_takes_over_what_can_change_and_refuses_what_is_wrong(one: Cluster) -> None:
    process = one.processes["n1"]
    config = one.folders["n1"] / "node.toml"
    before = config.read_text()
    try:
        config.write_text(before + "\n[mail]\nrecipients_max = 1\n[raft]\nheartbeat_ms = 90\n")
        process.send_signal(signal.SIGHUP)
        wait_for(
            "the reload",
            lambda: (
                "changed: mail.recipients_max; changes with the next start: raft.heartbeat_ms"
                in one.log("n1")
            ),
        )
        with _lmtp(one) as connection:
            connection.sendall(
                b"LHLO x\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<anna@example.org>\r\n"
                b"RCPT TO:<anna@example.org>\r\nQUIT\r\n"
            )
            assert b"452 4.5.3" in _all(connection)
        config.write_text(before + "\n[mail]\nrecipients_max = -1\n")
        process.send_signal(signal.SIGHUP)
        wait_for("the refusal", lambda: "not reloaded, everything stays as it was" in one.log("n1"))
        assert "mail.recipients_max: -1 is not allowed" in one.log("n1")
    finally:
        config.write_text(before)
    assert one.status("n1") is not None


def test_a_new_token_counts_after_a_hangup(one: Cluster) -> None:
    token = one.folders["n1"] / "tls" / "token"
    before = token.read_text()
    try:
        token.write_text("ab" * 32 + "\n")
        one.processes["n1"].send_signal(signal.SIGHUP)

        def new_one() -> bool:
            with one.connection("n1", auth=False) as connection:
                connection.sendall(b"a AUTH TOKEN %b\r\n" % (b"ab" * 32))
                return connection.recv(100) == b"a OK\r\n"

        wait_for("the new token", new_one)
    finally:
        token.write_text(before)
        one.processes["n1"].send_signal(signal.SIGHUP)
        wait_for("the old token", lambda: one.status("n1"))


def _limited(open_files: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))


def _start(folder: Path, prepare: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    with (folder / "node.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "raftmail_cli", "node", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=prepare,
        )


def test_floods_at_few_descriptors_end_nothing_and_mail_goes_on(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "c", nodes=1, replicas=1)
    with ExitStack() as stack:
        stack.enter_context(cluster)
        cluster.terminate("n1")
        cluster.processes["n1"] = _start(cluster.folders["n1"], _limited(160))
        cluster.master()
        with cluster.client() as client:
            client.add_user(USER, "x")
        host, peer_port = load(cluster.folders["n1"]).listen.peer.split(":")
        lmtp_port = cluster.lmtp["n1"].split(":")[1]
        for port, count in ((peer_port, 300), (lmtp_port, 200)):
            for _ in range(count):
                silent = stack.enter_context(socket.socket())
                silent.settimeout(10)
                silent.connect((host, int(port)))
        message = b"Subject: x\r\n\r\n" + b"y" * 78 + b"\r\n" + (b"z" * 76 + b"\r\n") * 60_000
        with cluster.client() as client:
            client.save(USER, "INBOX", message)
        time.sleep(0.1)
        log = cluster.log("n1")
        assert "somebody was at its files" not in log
        assert "written anew" not in log
        assert cluster.processes["n1"].poll() is None


def _ends(folder: Path, prepare: Callable[[], None] | None = None) -> tuple[int, list[str]]:
    """How a start ends that is expected to be refused, and what it says."""
    process = _start(folder, prepare)
    code = process.wait(WAIT_S)
    log = folder / "node.log"
    lines = log.read_text(errors="replace").splitlines()
    log.unlink()
    return code, [line for line in lines if " INFO " not in line]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The folder of a node that was never started."""
    return Cluster(tmp_path / "c", nodes=1, replicas=1).folders["n1"]


def test_a_port_in_use_is_told_with_the_address(stopped: Path) -> None:
    host, port = load(stopped).listen.client.split(":")
    with socket.create_server((host, int(port))):
        code, (line,) = _ends(stopped)
    assert code == 1
    assert f"cannot listen on {host}:{port}" in line
    assert "ss -ltnp" in line


def test_an_unreadable_certificate_is_told_with_its_file(stopped: Path) -> None:
    (stopped / "tls" / "node.pem").write_text("nonsense")
    code, (line,) = _ends(stopped)
    assert (code, "tls/node.pem: no certificate in PEM" in line) == (1, True)


def test_a_data_folder_that_cannot_be_made_is_told(stopped: Path) -> None:
    (stopped / "data").write_text("a file")
    code, (line,) = _ends(stopped)
    assert code == 1
    assert "Traceback" not in line
    assert f"{stopped}/data" in line


@pytest.mark.parametrize(
    ("limit", "size", "said"),
    [
        (resource.RLIMIT_AS, 20 << 30, "RLIMIT_AS is 20480 MiB: do not limit it (ulimit -v)"),
        (resource.RLIMIT_NOFILE, 60, "raise the limit (ulimit -n, or LimitNOFILE= in systemd)"),
    ],
)
def test_a_limit_that_is_too_low_is_told_in_one_line(
    stopped: Path, limit: int, size: int, said: str
) -> None:
    code, lines = _ends(stopped, lambda: resource.setrlimit(limit, (size, size)))
    assert code == 1
    assert len(lines) == 1, lines
    assert said in lines[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_owner_is_told(stopped: Path) -> None:
    (stopped / "data").mkdir(mode=0o500)
    code, (line,) = _ends(stopped)
    assert (code, "chown" in line) == (1, True)
