"""Calls and answers as frames: bounded, and what comes is not trusted."""

from __future__ import annotations

from struct import pack
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.cluster import rpc as c
from raftmail.cluster.rpc import BadCall, CallKind, RpcFrameKind

DIGEST = bytes(32)


def submit(number: int, *body_bytes: int, request_bytes: int = 10) -> c.Item:
    blobs = [[DIGEST, bytes([number % 256]) * size] for size in body_bytes]
    return [number, 1, 3, 1000, "", [bytes(request_bytes), blobs]]


def read_calls(frames: list[c.Frame]) -> list[c.Item]:
    found: list[c.Item] = []
    for kind, parts in frames:
        payload = memoryview(b"".join(parts))
        if kind is RpcFrameKind.CALLS:
            assert len(payload) <= c.FRAME_BYTES_MAX
            calls = c.decode_calls(payload)
        else:
            calls = [c.decode_call(payload)]
        for call in calls:
            data = call.data
            if call.kind is CallKind.SUBMIT:
                data = [data[0], [[digest, bytes(body)] for digest, body in data[1]]]
            found.append(
                [call.number, int(call.kind), call.shard, call.deadline_ms, call.relay_to, data]
            )
    return found


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 5, 70_000, 300_000]),
            st.lists(st.sampled_from([0, 1000, 60_000, 70_000, 2_000_000]), max_size=3),
        ),
        max_size=40,
    )
)
def test_calls_of_any_sizes_arrive_in_frames_within_the_limit(
    shapes: list[tuple[int, list[int]]],
) -> None:
    items = [submit(n, *bodies, request_bytes=size) for n, (size, bodies) in enumerate(shapes)]
    arrived = read_calls(list(c.call_frames(items)))
    assert sorted(arrived) == sorted(items)


def test_an_answer_that_cannot_be_encoded_is_a_failure_and_keeps_no_other_from_leaving() -> None:
    items: list[c.Item] = [
        [1, "ok", object()],
        [2, "ok", 5],
        [3, "ok", "x" * (c.HEAD_BYTES_MAX + 1)],
    ]
    answers = []
    for kind, parts in c.answer_frames(items):
        assert kind is RpcFrameKind.ANSWERS
        answers += c.decode_answers(b"".join(parts))
    assert [(number, status) for number, status, _ in answers] == [
        (1, "failed"), (2, "ok"), (3, "failed"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [bytes(3_000_000), "x" * 300_000, {"key": ["y" * 100_000]}])
def test_a_long_answer_has_a_frame_of_its_own(value: Any) -> None:
    ((kind, parts),) = c.answer_frames([[7, "ok", value]])
    assert kind is RpcFrameKind.ANSWER
    assert c.decode_answer(memoryview(b"".join(parts))) == (7, "ok", value)


def framed(head: Any, rest: bytes = b"") -> bytes:
    packed: bytes = msgpack.packb(head, use_bin_type=True)
    return pack(">I", len(packed)) + packed + rest


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0",
        pack(">I", 2**32 - 1) + b"x",
        framed(7),
        framed([[1, 1, 3, 9, "", [b"", []]], "no"]),
        framed([[1, 1, 3, 9, "", [b"", [[DIGEST, 5]]]], False], b"four"),
        framed([[1, 1, 3, 9, "", [b"", [[DIGEST, 5]]]], False], b"longer"),
        framed([[1, 1, 3, 9, "", [b"", [[DIGEST, -1]]]], False]),
        framed([[1, 1, 3, 9, "", [b"", [[DIGEST, b"body"]]]], False]),
        framed([[1, 9, 3, 9, "", []], False]),
    ],
)
def test_a_long_call_of_the_wrong_shape_is_refused(payload: bytes) -> None:
    with pytest.raises(BadCall):
        c.decode_call(payload)


@pytest.mark.parametrize(
    "payload", [b"", framed([[1, "ok", 5], True], b"four"), framed([[1, "no", 4], True], b"four")]
)
def test_a_long_answer_of_the_wrong_shape_is_refused(payload: bytes) -> None:
    with pytest.raises(BadCall):
        c.decode_answer(payload)
