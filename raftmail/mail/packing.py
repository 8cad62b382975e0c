"""msgpack under strict rules: what cannot be written raises ValueError, what cannot be read raises
`CodecError`."""

from __future__ import annotations

from collections.abc import Callable
from struct import error
from typing import Any, TypeAlias

import msgpack

Raw: TypeAlias = tuple[Any, ...]
"""A request, result, query or answer as msgpack gives it: arrays are tuples."""


class CodecError(Exception):
    """Bytes that are not what they are taken for."""


_packer = msgpack.Packer(use_bin_type=True, autoreset=True)
pack_fast: Callable[[object], bytes] = _packer.pack
"""`pack` for values that are known to be writable."""


def pack(value: object) -> bytes:
    """msgpack of lists, tuples, str, bytes, int, bool and None. Raises ValueError for what it
    cannot write."""
    try:
        return pack_fast(value)
    except (ValueError, OverflowError, TypeError) as e:
        _packer.reset()
        raise ValueError(f"cannot be encoded: {e}") from e


def unpack(data: bytes | memoryview) -> Any:
    """Decode msgpack; arrays become tuples. Raises `CodecError`."""
    try:
        return msgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, MemoryError) as e:
        raise CodecError(f"not well-formed: {str(e)[:200] or type(e).__name__}") from None
    except (msgpack.UnpackException, error) as e:
        raise CodecError(f"not well-formed: {str(e)[:200] or type(e).__name__}") from None


def unpack_versioned(data: bytes, version: int, what: str) -> Raw:
    """Decode a version byte and a msgpack array that begins with an integer. Raises
    `CodecError`."""
    if not data or data[0] != version:
        raise CodecError(f"{what}: not of version {version}")
    raw = unpack(memoryview(data)[1:])
    if type(raw) is not tuple or not raw or type(raw[0]) is not int:
        raise CodecError(f"{what}: an array that begins with its kind was expected")
    return raw
