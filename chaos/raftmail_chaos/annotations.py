"""What reads of annotations may tell: each annotation is a register."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from typing import TypeAlias

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.history import Fate, Operation
from raftmail_chaos.lives import Found
from raftmail_chaos.registers import NEVER_SET, RegisterWrite, can_tell, last_of

_Register: TypeAlias = tuple[str, c.MailboxRef | None, str]


def check_annotations(
    operations: Iterable[Operation], moving: Set[tuple[str, str]]
) -> Iterable[Found]:
    """What is wrong: the rule, a text, and the operations that show it. Names that move (of user
    and mailbox) are passed over."""
    writes: dict[_Register, list[RegisterWrite]] = defaultdict(lambda: [NEVER_SET])
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
                write = RegisterWrite(value, o.invoked, o.returned, o)
                writes[call.user, call.mailbox, name].append(write)
    for read in reads:
        assert isinstance(read.call, q.GetAnnotations)
        assert isinstance(read.answer, q.AnnotationValues)
        told = dict(read.answer.entries)
        names = {name for user, ref, name in writes if (user, ref) == _owner(read.call)}
        for name in sorted(names | told.keys()):
            known = writes[(*_owner(read.call), name)]
            if not can_tell(read, told.get(name), known):
                text = f"{name} cannot be {told.get(name)!r}"
                yield "annotations", text, (*last_of(known), read)


def _owner(call: q.GetAnnotations) -> tuple[str, c.MailboxRef | None]:
    return call.user, call.mailbox
