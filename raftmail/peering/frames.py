"""Framing between peers: `S<shard> <KIND> {n}` CRLF and n bytes, one way, nothing answered.

What the bytes mean is the business of whoever registered the kind.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from raftmail.net.lines import ProtocolViolation

Frame: TypeAlias = tuple[int, str, bytes]
"""Shard, kind, payload."""

HEAD_BYTES_MAX = 64
_ROUTES_MAX = 4096
_ROUTE = re.compile(rb"S(0|[1-9][0-9]{0,8}) ([A-Z]{1,16}) ")


def frame_prefix(shard: int, kind: str) -> bytes:
    """What stands before the length; `b"%b%d}\\r\\n" % (prefix, n)` is the head of a frame."""
    prefix = b"S%d %b {" % (shard, kind.encode())
    if _ROUTE.fullmatch(prefix[:-1]) is None:
        raise ValueError(
            f"a frame has a shard from 0 to 999999999 and a kind in capitals: {prefix!r}"
        )
    return prefix


class FrameReader:
    """Takes bytes as they come, gives frames.

    Invariant: it holds at most one payload of `frame_bytes_max`, and one head."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._rest = b""  # the beginning of a head, or of head and payload
        self._body: bytearray | None = None  # the beginning of a payload that `_rest` would copy
        self._want = 0
        self._route = (0, "")
        self._routes: dict[bytes, tuple[int, str]] = {}

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that have become complete. Raises `ProtocolViolation`; it is of no use after
        that."""
        frames: list[Frame] = []
        at = 0
        body = self._body
        if body is not None:
            want = self._want
            if len(data) < want:
                body += data
                self._want = want - len(data)
                return frames
            body += memoryview(data)[:want]
            frames.append((*self._route, bytes(body)))
            self._body = None
            at = want
        elif self._rest:
            data = self._rest + data
            self._rest = b""
        routes = self._routes
        size = len(data)
        find = data.find
        while at < size:
            end = find(b"\r\n", at, at + HEAD_BYTES_MAX)
            if end < 0:
                if size - at >= HEAD_BYTES_MAX:
                    raise ProtocolViolation(f"no frame begins with {data[at : at + 20]!r}")
                self._rest = data[at:]
                break
            brace = find(b"{", at, end)
            count = data[brace + 1 : end - 1]
            if brace < 0 or data[end - 1] != 125 or not count.isdigit():
                raise ProtocolViolation(f"no frame begins with {data[at:end]!r}")
            prefix = data[at:brace]
            route = routes.get(prefix) or self._learn(prefix)
            start = end + 2
            stop = start + int(count)
            if stop > size:
                if stop - start > self._frame_bytes_max:
                    raise ProtocolViolation(
                        f"a frame of {stop - start} bytes, more than {self._frame_bytes_max}"
                    )
                self._route = route
                self._body = bytearray(memoryview(data)[start:])
                self._want = stop - size
                break
            frames.append((*route, data[start:stop]))
            at = stop
        return frames

    def _learn(self, prefix: bytes) -> tuple[int, str]:
        match = _ROUTE.fullmatch(prefix)
        if match is None:
            raise ProtocolViolation(f"no frame begins with {prefix!r}")
        if len(self._routes) >= _ROUTES_MAX:
            self._routes.clear()
        route = self._routes[prefix] = int(match[1]), match[2].decode()
        return route
