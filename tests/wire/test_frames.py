"""Framing between peers, and calls on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.wire.calls import ANSWER, ASK, Answer, Calls
from raftmail.wire.codec import ProtocolError
from raftmail.wire.frames import Frame, FrameReader, frame_prefix

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
    except ProtocolError:
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
    with pytest.raises(ProtocolError, match="no frame begins with"):
        FrameReader(100).feed(head + b"\r\nabc")


def test_a_frame_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(ProtocolError, match="a frame of 101 bytes, more than 100"):
        FrameReader(100).feed(b"S1 RAFT {101}\r\n")


@pytest.mark.parametrize(("shard", "kind"), [(-1, "RAFT"), (1, "raft"), (10**9, "RAFT"), (1, "")])
def test_what_no_reader_takes_is_not_sent(shard: int, kind: str) -> None:
    with pytest.raises(ValueError, match="a frame has a shard"):
        frame_prefix(shard, kind)


class Wire:
    """Two `Calls` that hand each other frames when told to."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, int, str, bytes]] = []
        self.up = True
        self.asked: list[tuple[bytes, Answer]] = []
        self.a = Calls(self.send, self.serve, calls_max=3)
        self.b = Calls(self.send, self.serve)
        self.outcomes: list[bytes | None] = []

    def send(self, peer: str, shard: int, kind: str, payload: bytes | Sequence[bytes]) -> bool:
        if self.up:
            whole = payload if isinstance(payload, bytes) else b"".join(payload)
            self.frames.append((peer, shard, kind, whole))
        return self.up

    def serve(self, peer: str, shard: int, payload: bytes, answer: Answer) -> None:
        self.asked.append((payload, answer))

    def call(self, payload: bytes, deadline: float = 10.0) -> bool:
        return self.a.call("b", 1, payload, deadline, self.outcomes.append)

    def deliver(self) -> None:
        frames, self.frames = self.frames, []
        for peer, shard, kind, payload in frames:
            to, sender = (self.b, "a") if peer == "b" else (self.a, "b")
            to.on_frame(sender, shard, kind, payload)


def test_answers_find_their_calls_in_any_order() -> None:
    wire = Wire()
    assert wire.call(b"one")
    assert wire.call(b"two")
    wire.deliver()
    assert [payload for payload, _ in wire.asked] == [b"one", b"two"]
    for payload, answer in reversed(wire.asked):
        answer([payload, b"!"])
    wire.deliver()
    assert wire.outcomes == [b"two!", b"one!"]


def test_a_call_ends_once_by_the_link_the_clock_or_an_answer() -> None:
    wire = Wire()
    wire.call(b"one", deadline=5.0)
    wire.call(b"two", deadline=20.0)
    wire.a.expire(5.0)
    assert wire.outcomes == [None]
    wire.a.on_down("c")
    assert wire.outcomes == [None]
    wire.a.on_down("b")
    assert wire.outcomes == [None, None]
    wire.deliver()
    for _, answer in wire.asked:
        answer(b"late")
    wire.deliver()
    wire.a.expire(100.0)
    assert wire.outcomes == [None, None]


def test_a_call_that_was_not_sent_has_no_outcome() -> None:
    wire = Wire()
    wire.up = False
    assert not wire.call(b"one")
    wire.up = True
    assert [wire.call(b"x") for _ in range(4)] == [True, True, True, False]
    wire.a.on_down("b")
    assert wire.outcomes == [None, None, None]


def test_an_answer_from_another_peer_or_to_nothing_is_ignored() -> None:
    wire = Wire()
    wire.call(b"one")
    number = (1).to_bytes(8, "big")
    wire.a.on_frame("c", 1, ANSWER, number + b"forged")
    wire.a.on_frame("b", 1, ANSWER, (9).to_bytes(8, "big"))
    wire.a.on_frame("b", 1, ASK, b"short")
    assert (wire.outcomes, wire.asked) == ([], [])
    wire.a.on_frame("b", 1, ANSWER, number + b"good")
    assert wire.outcomes == [b"good"]
