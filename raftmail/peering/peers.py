"""All links of a node: dials its peers, takes those that dial, keeps one live link for each."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import cast

from raftmail.mail.endpoint import split_address
from raftmail.net import tls
from raftmail.net.connection import is_loopback
from raftmail.net.errors import contained, describe, start_task
from raftmail.net.limits import BEFORE_AUTH
from raftmail.net.lines import Line, LineReader, ProtocolViolation
from raftmail.peering import handshake
from raftmail.peering.handshake import Hello, HelloRefused, Live
from raftmail.peering.link import LinkLimits, OnFrame, Payload, PeerLink
from raftmail.peering.starts import PeerStarts

_log = logging.getLogger(__name__)

SAY_AGAIN_S = 600.0
"""A refusal that goes on is logged again after this."""
REFUSALS_MAX = 256
_TAG = b"p1"
_NEVER = "0"
_CLOSED = "closed before it answered, as a node does that does not trust our certificate"
_OTHER_TAKEN = "the other side's connection is taken instead"


def address_problem(address: str) -> str:
    """Why a peer at an address cannot be dialled; "": it can."""
    try:
        split_address(address)
    except ValueError as error:
        return str(error)
    return ""


class _Peer:
    """What is known of one peer. Invariant: `link` is live or None, and `on_up` was called for
    it."""

    __slots__ = (
        "address",
        "boot",
        "dial",
        "down",
        "greeting",
        "link",
        "live",
        "name",
        "seen",
        "task",
    )

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.link: PeerLink | None = None
        self.live: Live | None = None
        self.dial = 0
        self.seen = _NEVER
        self.greeting: _Dial | None = None  # has said hello, and has no answer
        self.down = asyncio.Event()
        self.down.set()
        self.task: asyncio.Task[None] | None = None


class _Dial(asyncio.Protocol):
    """A connection that we began, until it has become a link. `outcome` has the answer to the hello
    and what came after it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.outcome: asyncio.Future[tuple[Line, bytes]] = (
            asyncio.get_running_loop().create_future()
        )
        self._reader = LineReader(BEFORE_AUTH)

    @contained
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's TLS transport is no subclass of asyncio.Transport, but has all it has.
        transport = cast(asyncio.Transport, transport)
        self.transport = transport

    @contained
    def data_received(self, data: bytes) -> None:
        if self.outcome.done():
            return
        self._reader.feed(data)
        try:
            while (item := self._reader.take_one()) is not None:
                words = item if isinstance(item, list) else getattr(item, "words", [b"*"])
                if words[0] == b"*":
                    continue
                line = item if isinstance(item, Line) else Line.of(words)
                assert self.transport is not None
                self.transport.pause_reading()
                self.outcome.set_result((line, self._reader.rest()))
                return
        except (ProtocolViolation, ValueError) as error:
            self.fail(HelloRefused(f"its answer makes no sense: {error}"))

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(exc or ConnectionError(_CLOSED))

    def failed(self, error: Exception) -> None:
        """See `net.errors.Contained`."""
        self.fail(HelloRefused(f"its answer could not be handled: {describe(error)}"))
        if self.transport is not None:
            self.transport.abort()

    def fail(self, error: Exception) -> None:
        """Give up."""
        if not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # whether anybody waits for it or not


class PeerNet:
    """The links to all peers.

    Invariants (they hold at every call of `on_up`, `on_down`, `on_frame`):
    1. Between an `on_up(p)` and the next `on_down(p)`, all frames from `p` came on one connection.
    2. A connection is aborted, and `on_down` called, before the next is announced; nothing that was
       received on it is handed out afterwards.
    3. Each queue is bounded by `LinkLimits.queue_bytes_max`."""

    def __init__(
        self,
        node: str,
        cluster: str,
        peers: Mapping[str, str],
        *,
        tls_context: ssl.SSLContext | None,
        kinds: Iterable[str],
        on_frame: OnFrame,
        on_up: Callable[[str], None],
        on_down: Callable[[str], None],
        on_removed: Callable[[str], None] | None = None,
        bulk: Iterable[str] = (),
        limits: LinkLimits | None = None,
        compress: bool = False,
    ) -> None:
        """`peers` maps names to `host:port`. `tls_context` is `tls.peer_context`; None is for
        trials on one machine: then only loopback addresses are dialled and taken. Frames whose kind
        is not in `kinds` are counted and dropped. `on_removed` is called with a peer that says that
        this node was removed from the cluster. Frames whose kind is in `bulk` leave in pieces, and
        may be overtaken by all others. With `compress`, links are compressed if both sides say so.
        A peer whose address cannot be is not dialled (`unusable`)."""
        self.node = node
        self.cluster = cluster
        self.tls_context = tls_context
        """Of connections that are dialled from now on."""
        self._kinds = frozenset(kinds)
        self._bulk = frozenset(bulk)
        self._on_frame = on_frame
        self._on_up = on_up
        self._on_down = on_down
        self._on_removed = on_removed
        self._limits = limits or LinkLimits()
        self._compress = compress
        self._boot = os.urandom(8).hex()
        self._peers: dict[str, _Peer] = {}
        self._removed: frozenset[str] = frozenset()
        self.welcoming = False
        """While this node does not know who the members are, it takes every node of the cluster
        that calls: all that it knew by name may be gone."""
        self.starts: PeerStarts | None = None
        """The last starts of the peers, for who wants twins and older folders refused."""
        self.start_told = self.listens_at = ""
        """By which start of its data folder this node runs, and where it listens, as peers are
        told."""
        self.on_outlawed: Callable[[str, HelloRefused], None] = lambda peer, error: None
        """Called with a peer that refused this node as a twin, or as one whose data folder went
        back, and with what it said."""
        self._refusals: dict[str, float] = {}
        self._outlaws: dict[str, tuple[float, str]] = {}
        self._running = False
        self._ticking: asyncio.TimerHandle | None = None
        self.unknown_frames = 0
        """Frames of kinds that nobody registered here."""
        self.unusable: dict[str, str] = {}
        """Peers that are not dialled, for what stands in their record is no address: the reason.
        They may dial this node."""
        for name, address in self._usable(peers).items():
            self._peers[name] = _Peer(name, address)

    # For the node

    def start(self) -> None:
        """Begin to dial. Needs a running loop."""
        self._running = True
        for peer in self._peers.values():
            if peer.address:
                self._begin_dialling(peer)
        self._tick()

    async def close(self) -> None:
        """End all links, calling `on_down` for each, and dial no more."""
        self._running = False
        if self._ticking is not None:
            self._ticking.cancel()
        for name in list(self._peers):
            await self._remove(name)

    async def set_peers(self, peers: Mapping[str, str], removed: Collection[str] = ()) -> None:
        """Let the membership be this: links to others end; a changed address counts from the next
        dial on. Nodes in `removed` are told so when they ask for a link. A peer whose address
        cannot be is not dialled (`unusable`)."""
        peers = self._usable(peers)
        self._removed = frozenset(removed)
        for name in self._peers.keys() - peers.keys():
            if self._peers[name].address or not self.welcoming:
                await self._remove(name)
        for name, address in peers.items():
            peer = self._peers.setdefault(name, _Peer(name, address))
            peer.address = address
            if self._running and peer.task is None and address:
                self._begin_dialling(peer)

    def _usable(self, peers: Mapping[str, str]) -> dict[str, str]:
        """The peers with an address each, "" where what is told is none."""
        before, self.unusable = self.unusable, {}
        usable = {}
        for name, address in peers.items():
            problem = address_problem(address)
            usable[name] = "" if problem else address
            if problem:
                self.unusable[name] = problem
                if before.get(name) != problem:
                    _log.error("%s cannot be dialled: %s", name, problem)
        return usable

    def send(self, peer: str, shard: int, kind: str, payload: bytes | Sequence[Payload]) -> bool:
        """Queue a frame. False when the link is down, also when it goes down over this one because
        too much waits. The frames queued so far are lost then, and `on_down` follows. A frame of a
        kind in `bulk` is not taken when too much waits: False, and the link stays.
        """
        known = self._peers.get(peer)
        if known is None or known.link is None:
            return False
        if kind in self._bulk:
            return known.link.send_bulk(
                shard, kind, [payload] if isinstance(payload, bytes) else payload
            )
        return known.link.send(shard, kind, payload)

    def has_room(self, peer: str, size_bytes: int) -> bool:
        """Whether `send` takes a frame of this size, of a kind that others may overtake, for a peer
        now."""
        known = self._peers.get(peer)
        return known is not None and known.link is not None and known.link.has_room(size_bytes)

    def waiting_bytes(self, peer: str) -> int:
        """What was sent to a peer, of kinds that nothing overtakes, and the system has not
        taken."""
        known = self._peers.get(peer)
        return 0 if known is None or known.link is None else known.link.waiting_bytes

    def flush(self) -> None:
        """Hand what is queued on any link to its transport now."""
        for peer in self._peers.values():
            if peer.link is not None:
                peer.link.flush()

    def is_up(self, peer: str) -> bool:
        """Whether the link to a peer is live."""
        known = self._peers.get(peer)
        return known is not None and known.link is not None

    @property
    def up(self) -> frozenset[str]:
        """Peers whose link is live."""
        return frozenset(name for name, peer in self._peers.items() if peer.link is not None)

    def outlaws(self) -> dict[str, str]:
        """Why processes that call themselves a peer were refused lately, by the peer's name."""
        since = asyncio.get_running_loop().time() - SAY_AGAIN_S
        return {peer: text for peer, (at, text) in self._outlaws.items() if at >= since}

    # Links

    def accept(self, transport: asyncio.Transport, line: Line, rest: bytes) -> None:
        """See `frontends.text.session.PeerAcceptor`."""
        tag = line.words[0][:64]
        hello: Hello | None = None
        try:
            hello = handshake.read_hello(line)
            certified = self._certified(transport, hello)
            handshake.check_hello(
                hello,
                cluster=self.cluster,
                node=self.node,
                peers={*self._peers, hello.node} if self.welcoming else self._peers,
                certified=certified,
                removed=self._removed,
            )
            peer = self._peers.setdefault(hello.node, _Peer(hello.node, ""))
            greeting = peer.greeting is not None
            handshake.may_take(self.node, hello, peer.live, greeting=greeting)
            if not self._running:
                raise HelloRefused(f"node {self.node} is stopping")
            self._meet(peer, hello.boot, hello.start, hello.at)
        except HelloRefused as error:
            self._say_refused(error)
            transport.write(handshake.refusal(tag, error))
            transport.close()
            return
        if peer.greeting is not None:
            peer.greeting.fail(HelloRefused(_OTHER_TAKEN))
        compress = self._compress and hello.compress
        transport.write(
            handshake.answer(tag, hello, self._boot, compress, self.start_told, self.listens_at)
        )
        live = Live(hello.boot, True, hello.dial, hello.link)
        self._go_live(peer, transport, live, rest, compress=compress)

    def _meet(self, peer: _Peer, boot: str, start: str, at: str) -> None:
        """See whether a process is the peer that it says it is. Raises `HelloRefused`."""
        if self.starts is not None:
            another = peer.live is not None and peer.live.boot != boot
            try:
                self.starts.meet(peer.name, start, at, live=another)
            except HelloRefused as error:
                self._outlaws[peer.name] = (asyncio.get_running_loop().time(), str(error))
                raise

    def _say_refused(self, error: HelloRefused) -> None:
        """Once in a while: who is refused tries again."""
        text, now = str(error), asyncio.get_running_loop().time()
        said = self._refusals
        if now >= said.get(text, -1e18) + SAY_AGAIN_S:
            said.pop(text, None)
            said[text] = now
            _log.warning("a peer was refused: %s", text)
            while len(said) > REFUSALS_MAX:
                del said[next(iter(said))]

    def _certified(self, transport: asyncio.Transport, hello: Hello) -> tuple[str, str] | None:
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            return tls.identity(ssl_object.getpeercert())
        if self.tls_context is None and is_loopback(transport):
            return hello.cluster, tls.holder(hello.node)
        return None

    def _go_live(
        self, peer: _Peer, transport: asyncio.Transport, live: Live, rest: bytes, *, compress: bool
    ) -> None:
        old = peer.link
        if old is not None:
            old.close("the peer has a new connection")
            self._lost(old, "the peer has a new connection")
        link = PeerLink(
            peer.name, transport, self._limits, self._receive, self._lost, compress=compress
        )
        transport.set_protocol(link)
        peer.link = link
        peer.live = live
        peer.seen = live.link
        peer.down.clear()
        _log.info("link to %s is up", peer.name)
        self._on_up(peer.name)
        if rest:
            link.receive(rest)
        transport.resume_reading()

    def _receive(self, peer: str, shard: int, kind: str, payload: Payload) -> None:
        if kind in self._kinds:
            self._on_frame(peer, shard, kind, payload)
        else:
            self.unknown_frames += 1

    def _lost(self, link: PeerLink, reason: str) -> None:
        peer = self._peers.get(link.peer)
        if peer is None or peer.link is not link:
            return
        peer.link = None
        peer.live = None
        _log.info("link to %s is down: %s", peer.name, reason)
        self._on_down(peer.name)
        peer.down.set()

    async def _remove(self, name: str) -> None:
        peer = self._peers[name]
        if peer.task is not None:
            peer.task.cancel()
            await asyncio.gather(peer.task, return_exceptions=True)
        if peer.link is not None:
            peer.link.close("not a peer any more")
        del self._peers[name]

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for peer in list(self._peers.values()):
            if peer.link is not None:
                peer.link.tick(now)
        self._ticking = loop.call_later(self._limits.ping_s / 2, self._tick)

    # Dialling

    def _begin_dialling(self, peer: _Peer) -> None:
        peer.task = start_task(asyncio.get_running_loop(), self._keep_dialling(peer))

    async def _keep_dialling(self, peer: _Peer) -> None:
        limits = self._limits
        backoff_s = limits.backoff_min_s
        said = ""
        while True:
            while not peer.down.is_set():
                await peer.down.wait()
            dial = _Dial()
            try:
                async with asyncio.timeout(limits.dial_s):
                    await self._dial(peer, dial)
                backoff_s = limits.backoff_min_s
                said = ""
                continue
            except (OSError, HelloRefused, TimeoutError, ValueError) as error:
                # ValueError: a host that cannot be looked up, such as one with a label of 64
                # characters.
                if isinstance(error, handshake.Removed) and self._on_removed is not None:
                    self._on_removed(peer.name)
                if isinstance(error, handshake.Twin | handshake.Older) and error.by_peer:
                    self.on_outlawed(peer.name, error)
                text = tls.explain(error)
                if text != said:
                    _log.info("dialling %s at %s: %s", peer.name, peer.address, text)
                    said = text
            finally:
                peer.greeting = None
                if dial.transport is not None and dial.transport.get_protocol() is dial:
                    dial.transport.abort()
            await asyncio.sleep(backoff_s * (0.5 + random.random() / 2))
            backoff_s = min(2 * backoff_s, limits.backoff_max_s)

    async def _dial(self, peer: _Peer, dial: _Dial) -> None:
        """Make a link, unless the peer has made one meanwhile. Raises OSError, `HelloRefused`."""
        host, port = split_address(peer.address)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: dial, host, port, ssl=self.tls_context)
        transport = dial.transport
        assert transport is not None
        if self.tls_context is None and not is_loopback(transport):
            raise HelloRefused("without TLS, peers are on this machine only")
        if self.tls_context is not None:
            shown = tls.identity(transport.get_extra_info("ssl_object").getpeercert())
            if shown != (self.cluster, tls.holder(peer.name)):
                raise HelloRefused(f"the certificate there is of {shown}, not of {peer.name}")
        if peer.link is not None:
            raise HelloRefused(_OTHER_TAKEN)
        peer.dial += 1
        hello = Hello(
            self.cluster,
            self.node,
            peer.name,
            self._boot,
            peer.dial,
            os.urandom(8).hex(),
            peer.seen,
            self._compress,
            start=self.start_told,
            at=self.listens_at,
        )
        peer.greeting = dial
        transport.write(hello.line(_TAG))
        line, rest = await dial.outcome
        if peer.link is not None:
            raise HelloRefused(_OTHER_TAKEN)  # it was dialled after our hello was answered
        words = line.words
        if words[1:2] != [b"OK"]:
            raise handshake.refused(words[2:])
        named = line.named
        boot = named.get(b"boot", b"").decode("ascii", "replace")
        told = [named.get(name, b"").decode("utf-8", "replace") for name in (b"start", b"at")]
        self._meet(peer, boot, *told)
        compress = line.named.get(b"compress") == b"deflate"
        peer.greeting = None
        live = Live(boot, False, hello.dial, hello.link)
        self._go_live(peer, transport, live, rest, compress=compress)
