"""The load with large mail against a scripted server: what it makes of replies, and of missing
ones."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from bench.large_clients import Timings
from bench.large_mail import Case, Outcome, Sent, message_of, private_bytes, report_of, send

TO = ["a@x.org", "b@x.org", "c@x.org"]
WHERE_ALL_ARE_ACCEPTED = [b"250 ok", b"250 ok", b"250 ok"]


@contextmanager
def server(recipients: Sequence[bytes], replies: Sequence[bytes]) -> Iterator[str]:
    """Gives the replies to recipients and message, then hangs up."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 x\r\n")
            lines.readline()
            connection.sendall(b"250-x\r\n250 SIZE\r\n")
            while lines.readline() != b"DATA\r\n":
                pass
            connection.sendall(b"".join(b"%b\r\n" % line for line in (b"250 ok", *recipients)))
            connection.sendall(b"354 go on\r\n")
            while lines.readline() != b".\r\n":
                pass
            connection.sendall(b"".join(b"%b\r\n" % line for line in replies))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_every_recipient_has_its_own_reply() -> None:
    with server([b"250 ok", b"550 no", b"250 ok"], [b"250 done", b"451 later"]) as address:
        sent = send(address, TO, message_of(1000))
    assert sent.replies == ["250 done", "550 no", "451 later"]
    assert sent.without(TO) == ["b@x.org", "c@x.org"]


def test_replies_that_do_not_come_are_missing() -> None:
    with server(WHERE_ALL_ARE_ACCEPTED, [b"250 done"]) as address:
        sent = send(address, TO, message_of(1000))
    assert sent.replies == ["250 done", "", ""]
    assert sent.counts() == {"250": 1, "none": 2}


def test_a_message_has_its_size_and_is_unlike_others() -> None:
    one, two = message_of(100_000), message_of(100_000)
    assert len(one) == len(two) == 100_000
    assert one != two
    assert all(len(line) < 100 and line[:1] != b"." for line in one.split(b"\r\n"))


@pytest.mark.parametrize(
    ("via", "fate", "replies", "wrong"),
    [
        ("other", "killed", ["250 x", "451 x", "452 x"], 0),
        ("other", "killed", ["250 x", "552 x", ""], 2),
        ("master", "killed", ["", "", ""], 0),
        ("master", "stopped", ["", "250 x", "250 x"], 1),
    ],
)
def test_wrong_is_all_but_250_and_4xx_where_the_node_lives(
    via: str, fate: str, replies: list[str], wrong: int
) -> None:
    sent = Sent(replies, 1.0)
    outcome = Outcome(Case(via, fate), sent, 0, 0, 0, {"n1": 1 << 20}, (1.0, 2.0), (3.0, 4.0), 0)
    assert outcome.wrong == wrong
    report = report_of([outcome], 1 << 30, "x")
    assert report.targets[0].is_met is (wrong == 0)
    assert not report.targets[-1].is_met  # three times what it was


def test_timings_are_of_the_answers_that_came_in_a_time() -> None:
    timings = Timings([(1.0, 0.5), (2.0, 0.1), (2.5, 0.3), (3.0, 9.0)])
    assert timings.between(2.0, 3.0) == [0.1, 0.3]
    assert timings.p(0.5, 2.0, 3.0) == 100.0


def test_memory_is_read_of_processes_that_live() -> None:
    with open("/proc/self/stat") as stat:
        own = int(stat.read().split()[0])
    assert private_bytes(own) > 1 << 20
    assert private_bytes(1 << 30) == 0
