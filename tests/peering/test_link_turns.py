"""What a peer sends takes a bounded part of each turn of the loop, in order."""

from __future__ import annotations

import asyncio
import zlib
from typing import cast

import pytest

from raftmail.peering.link import LinkLimits, PeerLink


class Transport:
    """Takes what a link does to its transport."""

    def __init__(self) -> None:
        self.reading = True
        self.aborted = False
        self.written: list[bytes] = []

        self.more = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.more.set()

    async def has_written(self, size_bytes: int) -> None:
        while sum(map(len, self.written)) < size_bytes:
            self.more.clear()
            await self.more.wait()

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("compress", [False, True])
def test_many_tiny_frames_are_handed_out_over_several_turns(compress: bool) -> None:
    async def run() -> None:
        got: list[bytes] = []
        transport = Transport()
        link = PeerLink(
            "b",
            cast(asyncio.Transport, transport),
            LinkLimits(),
            lambda peer, shard, kind, payload: got.append(bytes(payload)),
            lambda link, reason: None,
            compress=compress,
        )
        frames = [b"%d" % number for number in range(20_000)]
        data = b"".join(b"S1 RAFT {%d}\r\n%b" % (len(one), one) for one in frames)
        if compress:
            deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
            data = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        link.data_received(data)
        turns = 0
        while not transport.reading:
            assert len(got) <= 1000 * (turns + 1)
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 19
        assert got == frames

    asyncio.run(run())


def test_a_frame_that_cannot_be_handled_ends_the_link_and_no_other_is_handed_out() -> None:
    async def run() -> None:
        got: list[bytes] = []
        lost: list[str] = []

        def on_frame(peer: str, shard: int, kind: str, payload: object) -> None:
            got.append(b"")
            raise KeyError("unforeseen")

        transport = Transport()
        link = PeerLink(
            "b",
            cast(asyncio.Transport, transport),
            LinkLimits(),
            on_frame,
            lambda link, reason: lost.append(reason),
            compress=False,
        )
        link.data_received(b"S1 RAFT {1}\r\nx" * 3)
        await asyncio.sleep(0)
        assert (len(got), lost, transport.aborted) == (1, ["a frame could not be handled"], True)

    asyncio.run(run())


def test_long_frames_rest_between_turns_and_others_do_not_wait_for_that() -> None:
    async def run() -> None:
        transport = Transport()
        link = PeerLink(
            "b",
            cast(asyncio.Transport, transport),
            LinkLimits(),
            lambda peer, shard, kind, payload: None,
            lambda link, reason: None,
            compress=False,
        )
        assert link.send_bulk(1, "BODY", [bytes(1 << 20)])
        link.flush()
        first = sum(map(len, transport.written))
        assert 0 < first < 1 << 18  # a part of it, in this turn
        link.flush()
        link.flush()
        assert sum(map(len, transport.written)) == first  # no more before it has rested
        link.send(1, "RAFT", b"short")
        link.flush()
        assert transport.written[-1] == b"S1 RAFT {5}\r\nshort"
        for number in range(3):
            assert link.send_bulk(2, "CALL", [b"%d" % number])
            link.flush()
            assert transport.written[-1] == b"S2 CALL {1}\r\n%d" % number
        async with asyncio.timeout(60):
            await transport.has_written(1 << 20)

    asyncio.run(run())
