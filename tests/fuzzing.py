"""Bytes that are nearly right: what a disk, a peer or another release may hand to a decoder.

`altered` takes good bytes and does to them what rot, torn writes and strangers do. `bounded_memory`
sees that a length in them is never believed before it is checked.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import settings

EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 64) - 1,
)
MEMORY_BYTES_MAX = 48 << 20

bounded = settings(derandomize=True, max_examples=60, deadline=None, database=None)
"""The same examples in every run, and few of them: `HYPOTHESIS_PROFILE` does not change it."""


def altered(good: bytes, seed: int) -> bytes:
    """Good bytes with one to four things done to them."""
    rng = random.Random(seed)
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 40)))
        elif kind == 3:
            width, order = rng.choice((1, 2, 4, 8)), rng.choice(("little", "big"))
            value = rng.choice(EXTREMES) & ((1 << 8 * width) - 1)
            data[at : at + width] = value.to_bytes(width, "little" if order == "little" else "big")
        elif kind == 4:
            del data[at : at + rng.choice((1, 4, 32))]
        elif kind == 5:
            other = rng.randrange(len(data) + 1)
            low, high = sorted((at, other))
            data[low:low] = data[low:high][:4096]
        elif kind == 6:
            data[at : at + 32] = rng.randbytes(len(data[at : at + 32]))
        else:
            data += rng.randbytes(rng.choice((1, 8, 600)))
    return bytes(data)


@contextmanager
def bounded_memory(bytes_max: int = MEMORY_BYTES_MAX) -> Iterator[None]:
    """Fails when what is done inside holds more memory than this at any moment."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak <= bytes_max, f"{peak} bytes were held, at most {bytes_max} may be"
