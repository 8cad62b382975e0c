"""How two peers agree on one connection: PEER HELLO, and who yields. No I/O.

Both may dial. What must never be is two live streams between them (messages would overtake each
other), on either side, not even for a moment. So each side, asked for a new one while it has or
wants one, decides by what the hello says:

- It comes from another start of the peer: the old connection is dead, whether or not it shows.
- It was dialled after the live one, by the same peer: that peer has lost the live one.
- The live one is ours, and the peer knows that it was up (`seen`): the peer has lost it.
- The live one is ours, and the peer did not know: it dialled before it heard from us. Refused.
- None is live, but we have said hello too: the dial of the node whose name is lower goes on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from raftmail.net.lines import Line, quote, quote_text
from raftmail.net.tls import holder

VERSION = 1
_ID = re.compile(rb"[0-9a-f]{1,32}")


class HelloRefused(Exception):
    """The other side cannot be a peer on this connection; the text is for its log and ours."""

    code = b"CANNOT"
    by_peer = False
    """Whether the other side said so."""


class Removed(HelloRefused):
    """The node that asks was removed from the cluster, for ever."""

    code = b"NONEXISTENT"


class Twin(HelloRefused):
    """Another process is this node, and its link is live."""

    code = b"ALREADYEXISTS"


class Older(HelloRefused):
    """The data folder of the node that asks went back in time."""

    code = b"STALE"


@dataclass(frozen=True, slots=True)
class Hello:
    """What the dialling side says. `boot` is new with every start of a process, and `dial` counts
    up within it. `link` names this connection, `seen` the last one that was live ("0": none).
    `start` tells by which start of its data folder it runs (`starts.Start`), and `at` where it
    listens. Both are "" in earlier releases.
    """

    cluster: str
    node: str
    to: str
    boot: str
    dial: int
    link: str
    seen: str
    compress: bool = False
    version: int = VERSION
    start: str = ""
    at: str = ""

    def line(self, tag: bytes) -> bytes:
        """As it is sent."""
        return (
            b"%b PEER HELLO version=%d cluster=%b node=%b to=%b boot=%b dial=%d link=%b "
            b"seen=%b%b%b\r\n"
            % (
                tag,
                self.version,
                quote(self.cluster.encode()),
                quote(self.node.encode()),
                quote(self.to.encode()),
                self.boot.encode(),
                self.dial,
                self.link.encode(),
                self.seen.encode(),
                _told(self.start, self.at),
                b" compress=deflate" if self.compress else b"",
            )
        )


@dataclass(frozen=True, slots=True)
class Live:
    """The connection to a peer that is up."""

    boot: str
    dialled_by_peer: bool
    dial: int
    link: str


def read_hello(line: Line) -> Hello:
    """Of PEER HELLO. Raises `HelloRefused`."""
    if [word.upper() for word in line.words[2:]] != [b"HELLO"]:
        raise HelloRefused("PEER HELLO is all that a peer begins with")
    named = line.named
    try:
        version = int(named[b"version"])
        if version != VERSION:
            raise HelloRefused(f"version {version} of the peer protocol; here it is {VERSION}")
        for name in (b"boot", b"link", b"seen"):
            if _ID.fullmatch(named[name]) is None:
                raise ValueError
        return Hello(
            named[b"cluster"].decode(),
            named[b"node"].decode(),
            named[b"to"].decode(),
            named[b"boot"].decode(),
            int(named[b"dial"]),
            named[b"link"].decode(),
            named[b"seen"].decode(),
            named.get(b"compress") == b"deflate",
            version,
            named.get(b"start", b"").decode("ascii"),
            named.get(b"at", b"").decode(),
        )
    except (KeyError, ValueError):
        raise HelloRefused("PEER HELLO lacks something, or it makes no sense") from None


def check_hello(
    hello: Hello,
    *,
    cluster: str,
    node: str,
    peers: Collection[str],
    certified: tuple[str, str] | None,
    removed: Collection[str] = (),
) -> None:
    """Whether the other side is who it says, and belongs here. `certified` is cluster and node of
    its verified certificate, `removed` are nodes that belonged here once. Raises `HelloRefused`."""
    if certified is None:
        raise HelloRefused(
            f"a peer shows a certificate of cluster {cluster}; this connection has none"
        )
    if certified[0] != cluster or hello.cluster != cluster:
        raise HelloRefused(
            f"this is cluster {cluster}, not {hello.cluster} (certificate: {certified[0]})"
        )
    if certified[1] != holder(hello.node):
        raise HelloRefused(f"the certificate is of node {certified[1]}, not of {hello.node}")
    if hello.to != node:
        raise HelloRefused(f"this is node {node}, not {hello.to}: is the address right?")
    if hello.node in removed:
        raise Removed(
            f"node {hello.node} was removed from the cluster; to bring the machine back, invite "
            f"it under"
            " another name and have it join with an empty folder"
        )
    if hello.node not in peers:
        raise HelloRefused(f"node {hello.node} is no member that {node} knows")


def may_take(node: str, hello: Hello, live: Live | None, *, greeting: bool) -> None:
    """Whether a hello may become the live connection, in the place of `live`. `greeting` tells that
    we have sent that peer a hello that has no answer yet. Raises `HelloRefused`."""
    if live is not None and live.boot == hello.boot:
        if live.dialled_by_peer:
            if hello.dial <= live.dial:
                raise HelloRefused("a later connection is up already")
        elif hello.seen != live.link:
            raise HelloRefused("connected already, the other way round")
    elif live is None and greeting and node < hello.node:
        raise HelloRefused(f"both dialled: the connection of {node} goes on")


def _told(start: str, at: str) -> bytes:
    return b" start=%b at=%b" % (start.encode(), quote(at.encode())) if start else b""


def answer(
    tag: bytes, hello: Hello, boot: str, compress: bool, start: str = "", at: str = ""
) -> bytes:
    """To a hello that is taken."""
    return b"%b OK version=%d node=%b boot=%b%b%b\r\n" % (
        tag,
        VERSION,
        quote(hello.to.encode()),
        boot.encode(),
        _told(start, at),
        b" compress=deflate" if compress else b"",
    )


def refusal(tag: bytes, error: HelloRefused) -> bytes:
    """To one that is not."""
    return b"%b NO %b %b\r\n" % (tag, error.code, quote_text(str(error)))


def refused(words: Sequence[bytes]) -> HelloRefused:
    """What an answer that is no OK means, by its words after the tag and NO."""
    kinds = {kind.code: kind for kind in (Removed, Twin, Older)}
    kind = kinds.get(words[0] if words else b"", HelloRefused)
    error = kind(" ".join(word.decode("utf-8", "replace") for word in words))
    error.by_peer = True
    return error
