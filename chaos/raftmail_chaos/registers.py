"""Registers: what a read of one value may tell.

A read tells the value of a write that it can have seen. That is one that began before the read
ended, and that no other write followed which was over when the read began.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from raftmail_chaos.history import Operation


@dataclass(frozen=True, slots=True)
class RegisterWrite:
    """`value` is None where it was taken away, or has not been set yet."""

    value: bytes | None
    invoked: float
    returned: float
    operation: Operation | None


NEVER_SET = RegisterWrite(None, -inf, -inf, None)


def can_tell(read: Operation, value: bytes | None, writes: Sequence[RegisterWrite]) -> bool:
    """Whether a read can tell this value of a register, of which these are all writes."""
    return any(_can_be(read, value, write, writes) for write in writes)


def last_of(writes: Sequence[RegisterWrite]) -> list[Operation]:
    """The last few writes, to be shown."""
    return [write.operation for write in writes[-5:] if write.operation is not None]


def _can_be(
    read: Operation, value: bytes | None, write: RegisterWrite, writes: Iterable[RegisterWrite]
) -> bool:
    if write.value != value or write.invoked > read.returned:
        return False
    return not any(
        write.returned < other.invoked and other.returned < read.invoked for other in writes
    )
