"""The live connection of two peers: frames out in one write a turn, frames in, and a sign of life.

A `PeerLink` begins after the handshake and does not know who dialled. `peers.PeerNet` sees to it
that there is at most one for each peer.

Frames leave in the order of `send`, but for those that others may overtake (`send_bulk`): these
leave in pieces, and only while the connection has little to send.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from raftmail.net.errors import contained, tell
from raftmail.net.limits import KIB, MIB
from raftmail.net.lines import ProtocolViolation
from raftmail.peering.frames import Frame, FrameReader, frame_prefix
from raftmail.peering.pieces import BEGUN_BYTES_MAX, PIECE, Cutter, Joiner

_log = logging.getLogger(__name__)

Payload: TypeAlias = bytes | memoryview
"""Of a frame that came; a view is of memory that nobody else has."""

OnFrame: TypeAlias = Callable[[str, int, str, Payload], None]
"""Called with peer, shard, kind, payload; must not raise."""

PING = "PING"
_INFLATED_BYTES_MAX = 256 * 1024
_TURN_FRAMES = 1000
_TURN_S = 0.02
"""What of the frames that came is handed out in one turn of the loop; more wait, and nothing is
read meanwhile."""
_COMPRESSION_LEVEL = 1
_NO_HEADER = -15
_PREFIXES_MAX = 4096
_AHEAD_BYTES: Final = 256 * KIB
"""Pieces wait while the transport has more than this to send."""
_TURN_BYTES: Final = 128 * KIB
"""Of pieces, encrypted and written in one turn of the loop."""
_REST_TURNS: Final = 4.0
"""After a turn with pieces, no pieces for so many times as long as the turn took: what others wait
for comes first."""
_REST_S_MAX: Final = 0.1
_RECEIVE_BYTES: Final = 256 * KIB
"""What the system takes before we have read it. More would be ahead of all that the peer sends
next."""
_NOT_SENT_BYTES: Final = 128 * KIB
"""What the system takes before it was sent: what is behind it cannot be overtaken any more."""
_TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Of the links of a node."""

    frame_bytes_max: int = 64 * MIB
    """A longer frame ends the link that it comes on, and is not sent."""
    queue_bytes_max: int = 128 * MIB
    """Frames that the peer has not read; more end the link, since memory may not grow."""
    bulk_bytes_max: int = 128 * MIB
    """The same of those that others may overtake: what goes above it is not taken, unless none
    waits."""
    silence_s: float = 3.0
    """A link on which nothing comes for so long has ended."""
    ping_s: float = 1.0
    """After so long without a frame to send, a PING is sent."""
    dial_s: float = 3.0
    """Connecting, TLS and hello together take no longer."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 1.0
    """Between two dials, doubling, half of it random."""


class PeerLink(asyncio.Protocol):
    """Invariants:
    1. `on_lost` is called once, and no frame is handed out after `close` was called.
    2. Frames leave and arrive in the order of `send`, or not at all; those of `send_bulk` in the
       order of their shard and kind.
    3. At most `queue_bytes_max` bytes, and the frame that went over it, wait to be sent; and of
       `send_bulk`, `bulk_bytes_max` or one frame."""

    def __init__(
        self,
        peer: str,
        transport: asyncio.Transport,
        limits: LinkLimits,
        on_frame: OnFrame,
        on_lost: Callable[[PeerLink, str], None],
        *,
        compress: bool,
    ) -> None:
        self.peer = peer
        self.frames_received = 0
        self.bytes_received = 0
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._limits = limits
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._reader = FrameReader(limits.frame_bytes_max)
        self._deflate = (
            zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, _NO_HEADER) if compress else None
        )
        self._inflate = zlib.decompressobj(_NO_HEADER) if compress else None
        self._unread = b""  # compressed, for the next turn
        self._frames: deque[Frame] = deque()
        self._inflates = False  # there may be more to inflate than was in this turn
        self._is_going_on = False
        self._will_go_on = False
        self._out: list[Payload] = []
        self._cutter = Cutter()
        self._joiner = Joiner(limits.frame_bytes_max, BEGUN_BYTES_MAX + limits.frame_bytes_max)
        self._queued_bytes = 0
        self._full = False  # the transport has enough to send
        self._flushing = False
        self._resting = False  # no pieces for a while
        self._turn_began = 0.0  # the last one in which pieces were written
        self._prefixes: dict[tuple[int, str], bytes] = {}
        self._heard = self._sent = self._ticked = self._loop.time()
        self.closed = False
        transport.set_write_buffer_limits(high=_AHEAD_BYTES, low=_AHEAD_BYTES // 4)
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _NOT_SENT_BYTES)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)

    def send(self, shard: int, kind: str, payload: bytes | Sequence[Payload]) -> bool:
        """Queue a frame, whose payload may be given in pieces. False when the link has ended or
        ends over this. Raises ValueError for a frame that no reader takes."""
        if self.closed:
            return False
        size = len(payload) if isinstance(payload, bytes) else sum(map(len, payload))
        limits = self._limits
        if size > limits.frame_bytes_max:
            raise ValueError(f"a frame of {size} bytes, more than {limits.frame_bytes_max}")
        try:
            prefix = self._prefixes[shard, kind]
        except KeyError:
            if len(self._prefixes) >= _PREFIXES_MAX:
                self._prefixes.clear()
            prefix = self._prefixes[shard, kind] = frame_prefix(shard, kind)
        out = self._out
        out.append(b"%b%d}\r\n" % (prefix, size))
        if isinstance(payload, bytes):
            out.append(payload)
        else:
            out.extend(payload)
        self._queued_bytes += size
        if self._queued_bytes > limits.queue_bytes_max:
            self._fail(f"{self._queued_bytes} bytes wait to be sent: the peer is too slow")
            return False
        self._flush_later()
        return True

    def send_bulk(self, shard: int, kind: str, payload: Sequence[Payload]) -> bool:
        """Queue a frame that others may overtake, but for those of its shard and kind. False, and
        it is not taken, when the link has ended or more waits than may. Raises ValueError for a
        frame that no reader takes."""
        size = sum(map(len, payload))
        if size > self._limits.frame_bytes_max:
            raise ValueError(f"a frame of {size} bytes, more than {self._limits.frame_bytes_max}")
        if not self.has_room(size):
            return False
        self._cutter.add(shard, kind, payload, size)
        self._flush_later()
        return True

    def has_room(self, size_bytes: int) -> bool:
        """Whether `send_bulk` takes a frame of this size now. Where nothing waits it takes any."""
        waiting_bytes = self._cutter.waiting_bytes
        return not self.closed and (
            not waiting_bytes or waiting_bytes + size_bytes <= self._limits.bulk_bytes_max
        )

    @property
    def waiting_bytes(self) -> int:
        """What was sent, but with `send_bulk`, and the system has not taken."""
        if self.closed:
            return 0
        return sum(map(len, self._out)) + self._transport.get_write_buffer_size()

    def _flush_later(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush_soon)

    def receive(self, data: bytes) -> None:
        """What the transport brought."""
        self.data_received(data)

    def close(self, reason: str) -> None:
        """End it now: what is queued is not sent, what was received and not handed out is
        dropped."""
        if not self.closed:
            self.closed = True
            self._out.clear()
            self._cutter.clear()
            self._frames.clear()
            self._transport.abort()
            self._on_lost(self, reason)

    def tick(self, now: float) -> None:
        """Some times within `ping_s`: end the link when it is silent, ping when we are."""
        if self.closed:
            return
        limits = self._limits
        late_s = now - self._ticked - limits.ping_s
        self._ticked = now
        if late_s > limits.silence_s / 2 or self._is_going_on:
            # This process stood still, or is busy; what the peer sent meanwhile is not read yet.
            self._heard = now
        if now - self._heard > limits.silence_s:
            self.close(f"silent for {limits.silence_s:g} s")
        elif now - self._sent >= limits.ping_s:
            self.send(0, PING, b"")
        elif self._cutter:
            self.flush()

    # asyncio.Protocol

    @contained
    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            if self._inflate is None:
                self._take(data)
            else:
                self._unread += data
                self._inflate_piece(self._inflate)
        except (ProtocolViolation, zlib.error) as error:
            self._end_over(error)
            return
        self._hand_out()

    def _end_over(self, error: Exception) -> None:
        _log.warning("link to %s: what came makes no sense: %s", self.peer, error)
        self.close(f"what came makes no sense: {error}")

    def _inflate_piece(self, inflate: zlib._Decompress) -> None:
        if not self._frames:
            piece = inflate.decompress(self._unread, _INFLATED_BYTES_MAX)
            self._unread = inflate.unconsumed_tail
            self._inflates = bool(piece)
            if piece:
                self._take(piece)

    def _take(self, data: bytes) -> None:
        frames = self._reader.feed(data)
        self.bytes_received += len(data)
        self.frames_received += len(frames)
        self._frames.extend(frames)

    def _hand_out(self) -> None:
        """Hand out what came; what is too much for one turn of the loop waits for the next."""
        frames = self._frames
        on_frame = self._on_frame
        peer = self.peer
        until = self._loop.time() + _TURN_S
        left = _TURN_FRAMES
        while frames and left and not self.closed:
            shard, kind, payload = frames.popleft()
            left -= 1
            if kind == PING:
                continue
            whole = (shard, kind, payload) if kind != PIECE else self._joiner.take(shard, payload)
            if whole is not None:
                on_frame(peer, *whole)
                if self._loop.time() > until:
                    break
        if self.closed:
            return
        if frames or self._inflates:
            if not self._is_going_on:
                self._is_going_on = True
                self._transport.pause_reading()
            if not self._will_go_on:
                self._will_go_on = True
                self._loop.call_soon(self._go_on)
        elif self._is_going_on:
            self._is_going_on = False
            self._transport.resume_reading()

    @contained
    def pause_writing(self) -> None:
        self._full = True

    @contained
    def resume_writing(self) -> None:
        self._full = False
        self.flush()

    @contained
    def _go_on(self) -> None:
        self._will_go_on = False
        if self.closed:
            return
        try:
            if self._inflate is not None:
                self._inflate_piece(self._inflate)
        except (ProtocolViolation, zlib.error) as error:
            self._end_over(error)
            return
        self._hand_out()

    def failed(self, error: Exception) -> None:
        """See `net.errors.Contained`."""
        tell(_log, f"link to {self.peer}: a frame could not be handled", error)
        self.close("a frame could not be handled")

    @contained
    def connection_lost(self, exc: Exception | None) -> None:
        self.close("closed by the peer" if exc is None else f"lost: {exc}")

    # Inside

    def _fail(self, reason: str) -> None:
        """End it, but not inside the caller's `send`."""
        self.closed = True
        self._out.clear()
        self._cutter.clear()
        self._transport.abort()
        self._loop.call_soon(self._on_lost, self, reason)

    @contained
    def _flush_soon(self) -> None:
        self._flushing = False
        self.flush()

    def flush(self) -> None:
        """Hand what is queued to the transport now, not at the end of this turn of the loop. Of
        what others may overtake, so much as does not keep them waiting."""
        if self.closed:
            return
        out = self._out
        if out:
            self._out = []
            self._write(out)
        cutter = self._cutter
        while cutter and not self._is_full() and not self.closed:
            frame = cutter.take(short=True)
            if frame is None:
                break
            self._write(frame)
        if cutter and not self._resting and not self._is_full() and not self.closed:
            self._flush_long()

    def _flush_long(self) -> None:
        """Pieces of long frames, for this turn; then they rest."""
        self._resting = True
        self._turn_began = self._loop.time()
        cutter = self._cutter
        left_bytes = _TURN_BYTES
        while cutter and left_bytes > 0 and not self._is_full() and not self.closed:
            before_bytes = cutter.waiting_bytes
            frame = cutter.take()
            if frame is None:
                break
            self._write(frame)
            left_bytes -= before_bytes - cutter.waiting_bytes
        self._loop.call_soon(self._rest)

    def _rest(self) -> None:
        """In the turn of the loop behind one with pieces, when its clock tells how long that
        took."""
        took_s = self._loop.time() - self._turn_began
        self._loop.call_later(min(took_s * _REST_TURNS, _REST_S_MAX), self._rested)

    @contained
    def _rested(self) -> None:
        self._resting = False
        self.flush()

    def _is_full(self) -> bool:
        return self._full or self._transport.get_write_buffer_size() > _AHEAD_BYTES

    def _write(self, frames: Sequence[bytes | memoryview]) -> None:
        self._sent = self._loop.time()
        # Joined, because under TLS every piece would become a record of its own.
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        deflate = self._deflate
        if deflate is not None:
            data = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        self._transport.write(data)
        self._queued_bytes = self._transport.get_write_buffer_size()
