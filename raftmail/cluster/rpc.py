"""Calls between nodes: what one asks of another, as frames on the peer link.

Many calls go in one frame (those of one turn of the loop), and so do their answers: CALLS and
ANSWERS, lists in msgpack, up to `FRAME_BYTES_MAX` and one call. A long call has a frame of its own,
and so has a long answer: CALL and ANSWER, which other frames may overtake. `length of the head
u32`, big-endian, the head in msgpack, then the bodies of the call, or the bytes of the answer, as
they are: they are never copied to be encoded or decoded. All is decoded strictly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from struct import Struct
from typing import Any, Final, TypeAlias

import msgpack

from raftmail.mail.packing import pack

CALLS_PER_FRAME_MAX: Final = 8192
FRAME_BYTES_MAX: Final = 1 << 20
"""Of the calls or answers that go in one frame together."""
LONG_BYTES_MIN: Final = 64 << 10
"""A call or answer from this length on has a frame of its own."""
HEAD_BYTES_MAX: Final = 32 << 20
"""What of a long call or answer is msgpack: a request without its bodies, or what an operator asked
for."""

_LENGTH: Final = Struct(">I")
_ARRAY_HEAD_BYTES: Final = 3

Item: TypeAlias = list[Any]
"""A call or an answer, as it is encoded."""
Part: TypeAlias = bytes | memoryview
Frame: TypeAlias = "tuple[RpcFrameKind, Sequence[Part]]"


class BadCall(Exception):
    """A frame of calls or answers that cannot be decoded."""


class CallKind(IntEnum):
    SUBMIT = 1  # request, [[sha256, body], …]; in a frame of its own the length of each body
    BARRIER = 2
    QUERY = 3  # encoded query
    ADMIN = 4  # what, {key: value}


class RpcFrameKind(StrEnum):
    """Frames between routers; `shard.replica.FrameKind` has those between replicas."""

    CALLS = "CALLS"
    ANSWERS = "ANSWERS"
    WATCH = "WATCH"  # users whose changes the sender wants to hear of, or no more
    CHANGES = "CHANGES"  # what changed of users that the other node watches
    CALL = "CALL"
    ANSWER = "ANSWER"
    STATE = "STATE"  # the revision of the cluster's state that the sender knows, 8 bytes


BULK: Final = (RpcFrameKind.CALL, RpcFrameKind.ANSWER)
"""Frames that others may overtake."""


@dataclass(frozen=True, slots=True)
class RpcCall:
    """`number` is the asking node's; `relay_to` names the node to pass the call on to ("" is:
    answer it yourself)."""

    number: int
    kind: CallKind
    shard: int
    deadline_ms: int
    relay_to: str
    data: list[Any]

    @property
    def size_bytes(self) -> int:
        """About what it holds in memory."""
        return size_of(self.kind, self.data)


_CALL_SHAPE = (int, int, int, int, str, list)
_DATA_SHAPES: dict[CallKind, tuple[type, ...]] = {
    CallKind.SUBMIT: (bytes, list),
    CallKind.BARRIER: (),
    CallKind.QUERY: (bytes,),
    CallKind.ADMIN: (str, dict),
}
_STATUSES = ("ok", "moved", "failed")


def size_of(kind: int, data: Sequence[Any]) -> int:
    """About how many bytes a call is."""
    if kind == CallKind.SUBMIT:
        return len(data[0]) + sum(len(blob[1]) for blob in data[1])
    return len(data[0]) if kind == CallKind.QUERY else 0


# -- encoding --------------------------------------------------------------------------------------


def encode(items: list[Item]) -> bytes:
    """The payload of a CALLS or ANSWERS frame with all of these."""
    return b"".join(_list_of([pack(item) for item in items]))


def call_frames(items: Iterable[Item]) -> Iterator[Frame]:
    """The frames of some calls. Raises ValueError for one that cannot be encoded."""
    batch = _Batch(RpcFrameKind.CALLS)
    for item in items:
        if size_of(item[1], item[5]) < LONG_BYTES_MIN:
            packed = pack(item)
            if len(packed) < LONG_BYTES_MIN:
                yield from batch.add(packed)
            else:
                yield RpcFrameKind.CALL, _long(item, ())
        elif item[1] == CallKind.SUBMIT:
            request, blobs = item[5]
            lengths = [[digest, len(body)] for digest, body in blobs]
            yield RpcFrameKind.CALL, _long([*item[:5], [request, lengths]], [b[1] for b in blobs])
        else:
            yield RpcFrameKind.CALL, _long(item, ())
    yield from batch.rest()


def answer_frames(items: Iterable[Item]) -> Iterator[Frame]:
    """The frames of some answers, made as they are asked for. One that cannot be encoded becomes a
    failure that says so."""
    batch = _Batch(RpcFrameKind.ANSWERS)
    for item in items:
        value = item[2]
        if isinstance(value, bytes | memoryview) and len(value) >= LONG_BYTES_MIN:
            yield RpcFrameKind.ANSWER, _long([item[0], item[1], len(value)], [value], is_bytes=True)
            continue
        try:
            packed = pack(item)
            if len(packed) >= LONG_BYTES_MIN:
                yield RpcFrameKind.ANSWER, _long(item, ())
                continue
        except ValueError as e:
            why = [f"the answer cannot be sent: {e}", False, False, True]
            packed = pack([item[0], "failed", why])
        yield from batch.add(packed)
    yield from batch.rest()


def _long(head: Item, bodies: Sequence[Part], *, is_bytes: bool = False) -> Sequence[Part]:
    packed = pack([head, is_bytes])
    if len(packed) > HEAD_BYTES_MAX:
        raise ValueError(f"a call or answer of {len(packed)} bytes, more than {HEAD_BYTES_MAX}")
    return [_LENGTH.pack(len(packed)), packed, *bodies]


class _Batch:
    """Gathers what goes in one frame."""

    def __init__(self, kind: RpcFrameKind) -> None:
        self._kind = kind
        self._items: list[bytes] = []
        self._bytes = 0

    def add(self, packed: bytes) -> Iterator[Frame]:
        """Take one more; the frame that is full before it."""
        full = len(self._items) >= CALLS_PER_FRAME_MAX
        if full or self._bytes + len(packed) > FRAME_BYTES_MAX - _ARRAY_HEAD_BYTES:
            yield from self.rest()
        self._items.append(packed)
        self._bytes += len(packed)

    def rest(self) -> Iterator[Frame]:
        """The frame of what was gathered."""
        if self._items:
            items, self._items, self._bytes = self._items, [], 0
            yield self._kind, _list_of(items)


def _list_of(packed: Sequence[bytes]) -> list[bytes]:
    return [b"\xdc" + len(packed).to_bytes(2, "big"), *packed]


# -- decoding --------------------------------------------------------------------------------------


def _unpack(data: bytes | memoryview) -> Any:
    try:
        return msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True)
    except Exception as e:  # msgpack raises many kinds
        raise BadCall(f"a frame that cannot be decoded: {e}") from None


def _unpack_list(data: bytes | memoryview) -> list[Any]:
    items = _unpack(data)
    if type(items) is not list or len(items) > CALLS_PER_FRAME_MAX:
        raise BadCall("a frame that is no list of calls or answers")
    return items


def decode_calls(data: bytes | memoryview) -> list[RpcCall]:
    """The calls of a CALLS frame. Raises `BadCall`."""
    return [_read_call(item, bytes) for item in _unpack_list(data)]


def decode_call(data: bytes | memoryview) -> RpcCall:
    """The call of a CALL frame; its bodies are parts of `data`. Raises `BadCall`."""
    head, _, rest = _split(data)
    call = _read_call(head, int)
    if call.kind is not CallKind.SUBMIT:
        return call
    blobs = []
    at = 0
    for digest, length in call.data[1]:
        blobs.append([digest, rest[at : at + length]])
        at += length
        if length < 0 or at > len(rest):
            raise BadCall("SUBMIT: a body that is not whole")
    if at != len(rest):
        raise BadCall("SUBMIT: more than the bodies")
    call.data[1] = blobs
    return call


def _split(data: bytes | memoryview) -> tuple[Any, bool, memoryview]:
    """The head of a frame with one call or answer, whether its value is what follows, and what
    follows."""
    whole = memoryview(data)
    start = _LENGTH.size
    if len(whole) < start:
        raise BadCall("a frame that is cut short")
    (length,) = _LENGTH.unpack_from(whole)
    if length > HEAD_BYTES_MAX or start + length > len(whole):
        raise BadCall("a frame whose head is not whole")
    pair = _unpack(whole[start : start + length])
    if type(pair) is not list or len(pair) != 2 or type(pair[1]) is not bool:
        raise BadCall("a frame that is no call and no answer")
    return pair[0], pair[1], whole[start + length :]


def _read_call(item: Any, body: type) -> RpcCall:
    """A call whose bodies are given as this type."""
    if type(item) is not list or tuple(map(type, item)) != _CALL_SHAPE:
        raise BadCall("a call of the wrong shape")
    try:
        kind = CallKind(item[1])
    except ValueError as e:
        raise BadCall(str(e)) from None
    if tuple(map(type, item[5])) != _DATA_SHAPES[kind]:
        raise BadCall(f"{kind.name}: arguments of the wrong shape")
    if kind is CallKind.SUBMIT:
        for blob in item[5][1]:
            if type(blob) is not list or tuple(map(type, blob)) != (bytes, body):
                raise BadCall("SUBMIT: a body of the wrong shape")
    return RpcCall(item[0], kind, item[2], item[3], item[4], item[5])


def decode_answers(data: bytes | memoryview) -> list[tuple[int, str, Any]]:
    """The answers of an ANSWERS frame: (number, status, value) each; status is "ok", "moved" (not
    here), "failed". The value of "moved" is the node to ask ("": not known), and the revision of
    the cluster's state by which the sender says so. Raises `BadCall`."""
    return [_read_answer(item) for item in _unpack_list(data)]


def decode_answer(data: bytes | memoryview) -> tuple[int, str, Any]:
    """The answer of an ANSWER frame, as those of `decode_answers`; a long value is a part of
    `data`. Raises `BadCall`."""
    head, is_bytes, rest = _split(data)
    number, status, value = _read_answer(head)
    if not is_bytes:
        return number, status, value
    if value != len(rest):
        raise BadCall("an answer that is not whole")
    return number, status, rest


def _read_answer(item: Any) -> tuple[int, str, Any]:
    if type(item) is not list or len(item) != 3:
        raise BadCall("an answer of the wrong shape")
    if type(item[0]) is not int or item[1] not in _STATUSES:
        raise BadCall("an answer of the wrong shape")
    if item[1] == "moved" and (
        type(item[2]) is not list or tuple(map(type, item[2])) != (str, int)
    ):
        raise BadCall("an answer of the wrong shape")
    return item[0], item[1], item[2]


def encode_revision(revision: int) -> bytes:
    """The payload of a STATE frame."""
    return revision.to_bytes(8, "big")


def decode_revision(data: bytes | memoryview) -> int:
    """Raises `BadCall`."""
    if len(data) != 8:
        raise BadCall("a revision has 8 bytes")
    return int.from_bytes(data, "big")
