"""Who may become a peer, and which of two connections goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.net.limits import BEFORE_AUTH
from raftmail.net.lines import Line, LineReader
from raftmail.peering.handshake import Hello, HelloRefused, Live, check_hello, may_take, read_hello

HELLO = Hello("blue", "b", "a", "0b", 5, "1234", "0")
PEERS = {"b": None, "c": None}


def parse(text: bytes) -> Line:
    reader = LineReader(BEFORE_AUTH)
    reader.feed(text)
    item = reader.take_one()
    assert isinstance(item, list)
    return Line.of(item)


@pytest.mark.parametrize("compress", [False, True])
def test_a_hello_reads_back(compress: bool) -> None:
    hello = replace(HELLO, compress=compress)
    assert read_hello(parse(hello.line(b"p1"))) == hello


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((b"version=1", b"version=2"), "version 2 of the peer protocol"),
        ((b"boot=0b", b"boot=XX"), "makes no sense"),
        ((b" dial=5", b""), "lacks something"),
        ((b"dial=5", b"dial=x"), "makes no sense"),
        ((b"HELLO", b"GOODBYE"), "all that a peer begins with"),
    ],
)
def test_a_hello_that_is_none_is_refused(change: tuple[bytes, bytes], said: str) -> None:
    with pytest.raises(HelloRefused, match=said):
        read_hello(parse(HELLO.line(b"p1").replace(*change)))


def test_a_worker_shows_the_certificate_of_its_node_and_of_no_other() -> None:
    worker = replace(HELLO, node="b.2")
    peers = {"b": None, "b.2": None}
    check_hello(worker, cluster="blue", node="a", peers=peers, certified=("blue", "b"))
    with pytest.raises(HelloRefused, match="of node c, not of b"):
        check_hello(worker, cluster="blue", node="a", peers=peers, certified=("blue", "c"))


@pytest.mark.parametrize(
    ("hello", "certified", "said"),
    [
        (HELLO, None, "this connection has none"),
        (HELLO, ("red", "b"), r"this is cluster blue, not blue \(certificate: red\)"),
        (replace(HELLO, cluster="red"), ("blue", "b"), "this is cluster blue, not red"),
        (HELLO, ("blue", "c"), "the certificate is of node c, not of b"),
        (replace(HELLO, to="c"), ("blue", "b"), "this is node a, not c: is the address right"),
        (replace(HELLO, node="x"), ("blue", "x"), "node x is no member that a knows"),
    ],
)
def test_who_does_not_belong_is_told_why(
    hello: Hello, certified: tuple[str, str] | None, said: str
) -> None:
    with pytest.raises(HelloRefused, match=said):
        check_hello(hello, cluster="blue", node="a", peers=PEERS, certified=certified)


def test_who_belongs_is_taken() -> None:
    check_hello(HELLO, cluster="blue", node="a", peers=PEERS, certified=("blue", "b"))


OURS = Live("0b", False, 3, "77")
THEIRS = Live("0b", True, 3, "77")


@pytest.mark.parametrize(
    ("live", "greeting", "hello"),
    [
        (None, False, HELLO),
        (replace(OURS, boot="0a"), False, HELLO),
        (replace(THEIRS, boot="0a", dial=99), False, HELLO),
        (THEIRS, False, replace(HELLO, dial=4)),
        (OURS, False, replace(HELLO, seen="77")),
    ],
    ids=["none live", "restarted", "restarted too", "dialled later", "has lost ours"],
)
def test_a_later_connection_takes_the_place(
    live: Live | None, greeting: bool, hello: Hello
) -> None:
    may_take("a", hello, live, greeting=greeting)


@pytest.mark.parametrize(
    ("live", "hello"),
    [(THEIRS, replace(HELLO, dial=3)), (THEIRS, replace(HELLO, dial=2)), (OURS, HELLO)],
    ids=["the same", "dialled earlier", "has not heard of ours"],
)
def test_an_earlier_connection_does_not(live: Live, hello: Hello) -> None:
    with pytest.raises(HelloRefused):
        may_take("a", hello, live, greeting=False)


def test_of_two_hellos_that_cross_exactly_one_side_yields() -> None:
    with pytest.raises(HelloRefused, match="the connection of a goes on"):
        may_take("a", HELLO, None, greeting=True)
    may_take("b", replace(HELLO, node="a", to="b"), None, greeting=True)


def test_a_removed_node_is_told_that_it_was_removed_and_how_it_comes_back() -> None:
    with pytest.raises(
        HelloRefused, match=r"node b was removed from the cluster.* invite it under another name"
    ):
        check_hello(
            HELLO,
            cluster="blue",
            node="a",
            peers={"c": None},
            certified=("blue", "b"),
            removed={"b"},
        )
