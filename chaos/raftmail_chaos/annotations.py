"""What reads of annotations may tell.

An annotation is a register: a read tells the value of a write that it can have seen. That is one
that began before the read ended, and that no other write followed which was over when the read
began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.history import Fate, Operation
from raftmail_chaos.lives import Found

_Register: TypeAlias = tuple[str, c.MailboxRef | None, str]


@dataclass(frozen=True, slots=True)
class _Write:
    """`value` is None where the annotation was taken away, or has not been set yet."""

    value: bytes | None
    invoked: float
    returned: float
    operation: Operation | None


_NEVER_SET = _Write(None, -inf, -inf, None)


def check_annotations(
    operations: Iterable[Operation], moving: Set[tuple[str, str]]
) -> Iterable[Found]:
    """What is wrong: the rule, a text, and the operations that show it. Names that move (of user
    and mailbox) are passed over."""
    writes: dict[_Register, list[_Write]] = defaultdict(lambda: [_NEVER_SET])
    reads: list[Operation] = []
    for o in operations:
        call = o.call
        if not isinstance(call, c.SetAnnotations | q.GetAnnotations):
            continue
        if isinstance(call.mailbox, str) and (call.user, call.mailbox) in moving:
            continue
        if isinstance(call, q.GetAnnotations):
            if o.fate is Fate.ANSWERED and isinstance(o.answer, q.AnnotationValues):
                reads.append(o)
        elif not isinstance(o.answer, r.Refused):
            for name, value in call.entries:
                write = _Write(value, o.invoked, o.returned, o)
                writes[call.user, call.mailbox, name].append(write)
    for read in reads:
        assert isinstance(read.call, q.GetAnnotations)
        assert isinstance(read.answer, q.AnnotationValues)
        told = dict(read.answer.entries)
        names = {name for user, ref, name in writes if (user, ref) == _owner(read.call)}
        for name in sorted(names | told.keys()):
            known = writes[(*_owner(read.call), name)]
            if not any(_can_be(read, told.get(name), write, known) for write in known):
                shown = [w.operation for w in known[-5:] if w.operation is not None]
                yield "annotations", f"{name} cannot be {told.get(name)!r}", (*shown, read)


def _owner(call: q.GetAnnotations) -> tuple[str, c.MailboxRef | None]:
    return call.user, call.mailbox


def _can_be(read: Operation, value: bytes | None, write: _Write, known: list[_Write]) -> bool:
    if write.value != value or write.invoked > read.returned:
        return False
    return not any(
        write.returned < other.invoked and other.returned < read.invoked for other in known
    )
