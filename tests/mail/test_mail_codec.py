"""What is written is read again, and what nobody writes is refused as `CodecError` and nothing
else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.codec import (
    CodecError,
    Request,
    decode_answer,
    decode_entry,
    decode_query,
    decode_request,
    decode_result,
    encode_answer,
    encode_entry,
    encode_query,
    encode_request,
    encode_result,
    entry_blobs,
    inspect_request,
    open_entry,
    request_of,
    validate,
    validate_query,
)
from raftmail.mail.limits import ENTRY_BYTES_MAX, MESSAGES_MAX
from raftmail.mail.uidset import UidSet
from tests.mail import values

CLIENT = bytes(range(16))
_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=33),
    lambda inner: (
        st.lists(inner, max_size=11) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=20,
)


@given(values.commands, st.integers(1, 2**63 - 1), st.data())
def test_a_request_is_read_as_it_was_written(
    command: c.Command, seq: int, data: st.DataObject
) -> None:
    floor = data.draw(st.integers(0, seq - 1))
    validate(command)
    request = encode_request(CLIENT, seq, floor, command)
    assert decode_request(request) == Request(CLIENT, seq, floor, command)
    client, seq_, _, blobs = inspect_request(request)
    assert (client, seq_) == (CLIENT, seq)
    if isinstance(command, c.Save | c.CopyIn):
        assert set(blobs) == {message.blob for message in command.messages}
    else:
        assert blobs == ()


@given(st.lists(values.commands, min_size=1, max_size=20), st.lists(values.hashes, max_size=3))
def test_an_entry_is_its_requests_and_shows_its_blobs(
    commands: list[c.Command], blobs: list[bytes]
) -> None:
    requests = [encode_request(CLIENT, i + 1, i, command) for i, command in enumerate(commands)]
    entry = encode_entry(requests, blobs)
    assert entry_blobs(entry) == tuple(blobs)
    assert [request_of(raw).command for raw in decode_entry(entry)] == commands


@given(values.results)
def test_a_result_is_read_as_it_was_written(result: r.Result) -> None:
    assert decode_result(encode_result(result)) == result


@given(values.queries)
def test_a_query_is_read_as_it_was_written(query: q.Query) -> None:
    validate_query(query)
    assert decode_query(encode_query(query)) == query


@given(values.answers)
def test_an_answer_is_read_as_it_was_written(answer: q.Answer) -> None:
    assert decode_answer(encode_answer(answer)) == answer


_DECODERS: list[Callable[[bytes], Any]] = [
    decode_request,
    decode_result,
    decode_query,
    decode_answer,
    open_entry,
    entry_blobs,
    inspect_request,
]


def _only_codec_errors(data: bytes) -> None:
    for decode in _DECODERS:
        try:
            decode(data)
        except CodecError as e:
            assert str(e)


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    _only_codec_errors(data)


@settings(max_examples=200)
@given(_anything, st.booleans())
def test_wrong_shapes_are_refused(value: Any, headed: bool) -> None:
    if headed and isinstance(value, list):
        value = [CLIENT, 5, 1, *value]
    packed = msgpack.packb(value)
    for data in (packed, b"\x01" + packed, b"\x01\x01\x00\x00\x00\x01\x91" + packed):
        _only_codec_errors(data)


@settings(max_examples=200)
@given(values.commands, _anything, st.integers(0, 15))
def test_a_request_with_one_wrong_field_is_refused_or_still_valid(
    command: c.Command, value: Any, at: int
) -> None:
    raw = list(msgpack.unpackb(encode_request(CLIENT, 7, 2, command)))
    raw[at % len(raw)] = value
    data = msgpack.packb(raw)
    _only_codec_errors(data)
    try:
        read = decode_request(data)
    except CodecError:
        return
    validate(read.command)
    assert decode_request(encode_request(read.client, read.seq, read.floor, read.command)) == read


@settings(max_examples=100)
@given(values.commands, st.data())
def test_a_request_with_a_flipped_byte_is_refused_or_still_valid(
    command: c.Command, data: st.DataObject
) -> None:
    request = bytearray(encode_request(CLIENT, 7, 2, command))
    at = data.draw(st.integers(0, len(request) - 1))
    request[at] ^= data.draw(st.integers(1, 255))
    _only_codec_errors(bytes(request))
    _only_codec_errors(bytes(request[:at]))


_STORE = c.Store("a", "INBOX", UidSet.single(1), c.StoreMode.ADD, ("\\Seen",))
_MESSAGE = c.NewMessage((c.Target("a", "INBOX"),), bytes(32), 1, bytes(16), 0)
_SAVE = c.Save("a", (_MESSAGE,), 1)


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (replace(_STORE, user="A"), "user"),
        (replace(_STORE, user="a\0"), "user"),
        (replace(_STORE, mailbox=0), "mailbox"),
        (replace(_STORE, mailbox="a//b"), "mailbox"),
        (replace(_STORE, flags=("\\Recent",)), "flags"),
        (replace(_STORE, flags=("k" * 65,)), "flags"),
        (replace(_STORE, unchanged_since=-2), "unchanged_since"),
        (replace(_SAVE, messages=()), "messages"),
        (replace(_SAVE, messages=(_MESSAGE,) * (MESSAGES_MAX + 1)), "messages"),
        (replace(_SAVE, messages=(replace(_MESSAGE, blob=b"x"),)), "messages[0].blob"),
        (replace(_SAVE, messages=(replace(_MESSAGE, guid=b"x"),)), "messages[0].guid"),
        (replace(_SAVE, messages=(replace(_MESSAGE, size_bytes=-1),)), "messages[0].size_bytes"),
        (replace(_SAVE, messages=(replace(_MESSAGE, targets=()),)), "messages[0].targets"),
        (replace(_SAVE, uidvalidity_seed=2**32), "uidvalidity_seed"),
        (c.CreateMailbox("a", "x" * 256, 1, bytes(16)), "name"),
        (c.CreateMailbox("a", "x", 1, bytes(16), "\\Inbox"), "special_use"),
        (c.PutUser("a@x.org", "ä"), "password_hash"),
    ],
)
def test_validate_names_the_field(command: c.Command, field: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        validate(command)
    assert str(caught.value).startswith(field)
    with pytest.raises(CodecError, match=field.rsplit(".", maxsplit=1)[-1]):
        decode_request(encode_request(CLIENT, 1, 0, command))


def test_an_entry_over_the_limit_is_not_written() -> None:
    big = replace(_SAVE, messages=(replace(_MESSAGE, summary=bytes(1 << 20)),) * 7)
    request = encode_request(CLIENT, 1, 0, big)
    encode_entry([request], [])
    with pytest.raises(ValueError, match="entry"):
        encode_entry([request, request], [])
    with pytest.raises(CodecError, match="more than"):
        open_entry(bytes(ENTRY_BYTES_MAX + 1))


def test_a_command_over_the_limit_is_not_written() -> None:
    big = replace(_SAVE, messages=(replace(_MESSAGE, summary=bytes(1 << 20)),) * 9)
    with pytest.raises(ValueError, match="limit"):
        encode_request(CLIENT, 1, 0, big)


def test_text_that_utf8_cannot_write_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="encoded"):
        encode_request(CLIENT, 1, 0, replace(_STORE, user="\ud800"))
    assert encode_request(CLIENT, 1, 0, _STORE)
