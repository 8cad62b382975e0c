"""What a peer sends is decoded, or refused with the one error that is declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.cluster import rpc

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sampled_from([0, 1, 2, 3, 4, "", "ok", "moved", "failed", "n1", b"", b"\xff" * 32]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=7),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 9)), inner, max_size=3),
    ),
    max_leaves=24,
)
DECODERS: list[Callable[[bytes], Any]] = [
    rpc.decode_calls,
    rpc.decode_call,
    rpc.decode_answers,
    rpc.decode_answer,
    rpc.decode_revision,
]
HOSTILE = [
    b"",
    b"\x91" * 5000,
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xd9\x02\xff\xfe",
    b"\x82\xc0\xc0\x90\x90",
    b"\xc7\x08\xff" + b"\xff" * 8,
    msgpack.packb(float("nan")),
    msgpack.packb([[2**64 - 1, 1, 0, 0, "", []]]),
]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_bytes_are_refused(decode: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(rpc.BadCall):
        decode(data)


@given(st.sampled_from(DECODERS), st.binary(max_size=64))
def test_any_bytes_are_decoded_or_refused(decode: Callable[[bytes], Any], data: bytes) -> None:
    try:
        decode(data)
    except rpc.BadCall:
        pass


@given(st.sampled_from(DECODERS), VALUES, st.binary(max_size=8))
def test_any_values_are_decoded_or_refused(
    decode: Callable[[bytes], Any], value: Any, rest: bytes
) -> None:
    try:
        decode(msgpack.packb(value, use_bin_type=True) + rest)
    except rpc.BadCall:
        pass
