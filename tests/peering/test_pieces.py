"""Long frames in pieces."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.net.lines import ProtocolViolation
from raftmail.peering.frames import Frame, FrameReader
from raftmail.peering.pieces import BEGUN_BYTES_MAX, PIECE, PIECE_BYTES, Cutter, Joiner

MIB = 1 << 20


def taken(cutter: Cutter) -> list[bytes | memoryview]:
    frame = cutter.take()
    assert frame is not None
    return frame


def through(cutter: Cutter, joiner: Joiner) -> list[Frame]:
    """What arrives of all that waits; a longer frame than a piece and its head is never sent."""
    reader = FrameReader(PIECE_BYTES + 64)
    found: list[Frame] = []
    while cutter:
        for shard, kind, payload in reader.feed(b"".join(taken(cutter))):
            whole = joiner.take(shard, payload) if kind == PIECE else (shard, kind, payload)
            if whole is not None:
                found.append((whole[0], whole[1], bytes(whole[2])))
    return found


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["LONG", "OTHER"]),
            st.lists(st.integers(0, 3 * PIECE_BYTES), min_size=1, max_size=4),
        ),
        max_size=6,
    )
)
def test_long_frames_arrive_whole_and_in_the_order_of_their_shard_and_kind(
    frames: list[tuple[int, str, list[int]]],
) -> None:
    cutter = Cutter()
    sent: list[Frame] = []
    for at, (shard, kind, sizes) in enumerate(frames):
        parts = [bytes([at]) * size for size in sizes]
        cutter.add(shard, kind, parts, sum(sizes))
        sent.append((shard, kind, b"".join(parts)))
    assert cutter.waiting_bytes == sum(len(frame[2]) for frame in sent)
    arrived = through(cutter, Joiner(12 * PIECE_BYTES, 100 * PIECE_BYTES))
    for line in {(frame[0], frame[1]) for frame in sent}:
        assert [f for f in arrived if f[:2] == line] == [f for f in sent if f[:2] == line]
    assert len(arrived) == len(sent) and cutter.waiting_bytes == 0


def test_one_line_does_not_wait_for_the_long_frames_of_another() -> None:
    cutter = Cutter()
    cutter.add(1, "LONG", [bytes(10 * MIB)], 10 * MIB)
    cutter.add(2, "LONG", [b"short"], 5)
    arrived = through(cutter, Joiner(10 * MIB, 20 * MIB))
    assert [frame[0] for frame in arrived] == [2, 1]


def test_no_more_has_begun_than_the_other_side_holds_and_the_short_never_wait() -> None:
    cutter = Cutter()
    joiner = Joiner(BEGUN_BYTES_MAX, BEGUN_BYTES_MAX + 9 * PIECE_BYTES)
    longest = BEGUN_BYTES_MAX * 3 // 4
    for shard in range(4):
        cutter.add(shard, "LONG", [bytes(longest)], longest)
    for shard in range(4, 7):
        cutter.add(shard, "LONG", [bytes(3 * PIECE_BYTES)], 3 * PIECE_BYTES)
    arrived = [frame[0] for frame in through(cutter, joiner)]
    assert set(arrived[:3]) == {4, 5, 6} and sorted(arrived) == list(range(7))


def test_the_short_are_taken_without_the_long_and_in_the_order_of_their_line() -> None:
    cutter = Cutter()
    cutter.add(1, "LONG", [bytes(10 * MIB)], 10 * MIB)
    cutter.add(1, "LONG", [b"behind"], 6)
    cutter.add(2, "LONG", [b"short"], 5)
    frame = cutter.take(short=True)
    assert frame is not None and bytes(frame[-1]) == b"short"
    assert cutter.take(short=True) is None and cutter


def test_frames_that_have_begun_are_forgotten_with_the_rest() -> None:
    cutter = Cutter()
    for _ in range(2):
        cutter.add(1, "LONG", [bytes(BEGUN_BYTES_MAX)], BEGUN_BYTES_MAX)
        cutter.add(2, "LONG", [bytes(BEGUN_BYTES_MAX)], BEGUN_BYTES_MAX)
        first, second = taken(cutter), taken(cutter)
        assert bytes(first[0]).split()[:2] == bytes(second[0]).split()[:2], "the other line waits"
        cutter.clear()
        assert not cutter


def piece(number: int, offset: int, total: int, data: bytes, kind: bytes = b"LONG") -> bytes:
    return pack(">IQQB", number, offset, total, len(kind)) + kind + data


@pytest.mark.parametrize(
    "pieces",
    [
        [b"short"],
        [piece(1, 0, 2000, b"x")],
        [piece(1, 0, 10, b"x" * 11)],
        [piece(1, 1, 10, b"x")],
        [piece(1, 0, 10, b"x"), piece(1, 2, 10, b"x")],
        [piece(1, 0, 10, b"x"), piece(1, 1, 11, b"x")],
        [piece(1, 0, 10, b"x", b"low")],
        [piece(1, 0, 10, b"x", b"X" * 17)],
        [piece(1, 0, 10, b"")],
        [piece(1, 0, 0, b"")],
        [piece(1, 0, 0, b"x")],
        [piece(n, 0, 900, b"x") for n in range(4)],
    ],
)
def test_pieces_that_do_not_fit_together_end_the_link(pieces: list[bytes]) -> None:
    joiner = Joiner(1000, 3000)
    with pytest.raises(ProtocolViolation):
        for one in pieces:
            joiner.take(1, one)
