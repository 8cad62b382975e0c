"""Framing between peers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.net.lines import ProtocolViolation
from raftmail.peering.frames import Frame, FrameReader, frame_prefix

FRAMES = st.lists(
    st.tuples(
        st.integers(0, 999_999_999),
        st.from_regex(r"\A[A-Z]{1,16}\Z"),
        st.one_of(st.binary(max_size=40), st.just(b"x" * 400), st.just(b"S1 A {3}\r\nabc")),
    ),
    max_size=8,
)


def encode(frames: list[Frame]) -> bytes:
    return b"".join(
        b"%b%d}\r\n%b" % (frame_prefix(shard, kind), len(payload), payload)
        for shard, kind, payload in frames
    )


@settings(max_examples=100, deadline=None)
@given(FRAMES, st.lists(st.integers(0, 3000), max_size=10))
def test_frames_arrive_whole_however_the_stream_is_cut(
    frames: list[Frame], cuts: list[int]
) -> None:
    stream = encode(frames)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader(1000)
    read = [frame for a, b in pairwise(edges) for frame in reader.feed(stream[a:b])]
    assert read == frames


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b"S1 RAFT {3}\r\n", b"S1 ", b"{3}\r\n", b"\r\n", b"S0 A {9999}\r\n"]),
        ),
        max_size=12,
    )
)
def test_whatever_comes_it_is_frames_or_a_protocol_error_and_bounded(pieces: list[bytes]) -> None:
    reader = FrameReader(100)
    try:
        for piece in pieces:
            for shard, kind, payload in reader.feed(piece):
                assert (shard >= 0, kind.isupper(), len(payload) <= 100) == (True, True, True)
            assert len(reader._rest) <= 64
            assert reader._body is None or len(reader._body) <= 100
    except ProtocolViolation:
        pass


@pytest.mark.parametrize(
    "head",
    [
        b"X1 RAFT {3}",
        b"S1 raft {3}",
        b"S01 RAFT {3}",
        b"S1  RAFT {3}",
        b"S1 RAFT 3",
        b"S1 RAFT {-3}",
    ],
)
def test_what_is_no_head_is_refused(head: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="no frame begins with"):
        FrameReader(100).feed(head + b"\r\nabc")


def test_a_frame_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(ProtocolViolation, match="a frame of 101 bytes, more than 100"):
        FrameReader(100).feed(b"S1 RAFT {101}\r\n")


@pytest.mark.parametrize(("shard", "kind"), [(-1, "RAFT"), (1, "raft"), (10**9, "RAFT"), (1, "")])
def test_what_no_reader_takes_is_not_sent(shard: int, kind: str) -> None:
    with pytest.raises(ValueError, match="a frame has a shard"):
        frame_prefix(shard, kind)
