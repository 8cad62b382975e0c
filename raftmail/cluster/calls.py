"""Calls between nodes: what one asks of another, as frames on the peer link.

Many calls go in one frame (those of one turn of the loop), and so do their answers. Encoded with msgpack and decoded strictly.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import msgpack

CALLS_PER_FRAME_MAX = 8192


class BadCall(Exception):
    """A frame of calls or answers that cannot be decoded."""


class CallKind(IntEnum):
    SUBMIT = 1  # request, [[sha256, body], …]
    BARRIER = 2
    QUERY = 3  # encoded query
    ADMIN = 4  # what, {key: value}


class FrameKind(StrEnum):
    """Frames between routers; `shard.replica.FrameKind` has those between replicas."""

    CALLS = "CALLS"
    ANSWERS = "ANSWERS"
    WATCH = "WATCH"  # users whose changes the sender wants to hear of, or no more
    CHANGES = "CHANGES"  # what changed of users that the other node watches
    STATE = "STATE"  # the revision of the cluster's state that the sender knows, 8 bytes


@dataclass(frozen=True, slots=True)
class Call:
    """`number` is the asking node's; `relay_to` names the node to pass the call on to ("" is: answer it yourself)."""

    number: int
    kind: CallKind
    shard: int
    deadline_ms: int
    relay_to: str
    data: list[Any]


_CALL_SHAPE = (int, int, int, int, str, list)
_DATA_SHAPES: dict[CallKind, tuple[type, ...]] = {
    CallKind.SUBMIT: (bytes, list),
    CallKind.BARRIER: (),
    CallKind.QUERY: (bytes,),
    CallKind.ADMIN: (str, dict),
}


def encode(items: list[list[Any]]) -> bytes:
    return bytes(msgpack.packb(items, use_bin_type=True))


def _unpack(data: bytes) -> list[Any]:
    try:
        items = msgpack.unpackb(data, raw=False, use_list=True, strict_map_key=True)
    except Exception as e:  # msgpack raises many kinds
        raise BadCall(f"a frame that cannot be decoded: {e}") from None
    if type(items) is not list or len(items) > CALLS_PER_FRAME_MAX:
        raise BadCall("a frame that is no list of calls or answers")
    return items


def decode_calls(data: bytes) -> list[Call]:
    """Raises `BadCall`."""
    calls = []
    for item in _unpack(data):
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
                if type(blob) is not list or tuple(map(type, blob)) != (bytes, bytes):
                    raise BadCall("SUBMIT: a body of the wrong shape")
        calls.append(Call(item[0], kind, item[2], item[3], item[4], item[5]))
    return calls


def decode_answers(data: bytes) -> list[tuple[int, str, Any]]:
    """(number, status, value) each; status is "ok", "moved" (not here), "failed". The value of "moved" is the node to ask ("": not
    known), and the revision of the cluster's state by which the sender says so. Raises `BadCall`."""
    answers = []
    for item in _unpack(data):
        if type(item) is not list or len(item) != 3:
            raise BadCall("an answer of the wrong shape")
        if type(item[0]) is not int or item[1] not in ("ok", "moved", "failed"):
            raise BadCall("an answer of the wrong shape")
        if item[1] == "moved" and (
            type(item[2]) is not list or tuple(map(type, item[2])) != (str, int)
        ):
            raise BadCall("an answer of the wrong shape")
        answers.append((item[0], item[1], item[2]))
    return answers


def encode_revision(revision: int) -> bytes:
    """The payload of a STATE frame."""
    return revision.to_bytes(8, "big")


def decode_revision(data: bytes) -> int:
    """Raises `BadCall`."""
    if len(data) != 8:
        raise BadCall("a revision has 8 bytes")
    return int.from_bytes(data, "big")
