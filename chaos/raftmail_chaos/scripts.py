"""What reads of scripts may tell: the text of each is a register, and which one is active is
another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.history import Fate, Operation
from raftmail_chaos.lives import Found
from raftmail_chaos.registers import NEVER_SET, RegisterWrite, can_tell, last_of

_Register: TypeAlias = tuple[str, str]
"""User and script; "" is which script is active."""


def check_scripts(operations: Iterable[Operation]) -> Iterable[Found]:
    """What is wrong: the rule, a text, and the operations that show it. Scripts of who renames
    some are passed over."""
    writes: dict[_Register, list[RegisterWrite]] = defaultdict(lambda: [NEVER_SET])
    reads: list[Operation] = []
    renamed: set[str] = set()
    for o in operations:
        if isinstance(o.call, c.RenameScript):
            renamed.add(o.call.user)
        elif isinstance(o.call, q.GetScript | q.ActiveScript):
            if o.fate is Fate.ANSWERED:
                reads.append(o)
        elif not isinstance(o.answer, r.Refused):
            for register, value in _written(o.call):
                writes[register].append(RegisterWrite(value, o.invoked, o.returned, o))
    for read in reads:
        for register, told in _told(read):
            known = writes[register]
            if register[0] not in renamed and not can_tell(read, told, known):
                what = f"script {register[1]!r}" if register[1] else "the active script"
                yield "scripts", f"{what} cannot be {told!r}", (*last_of(known), read)


def _written(call: object) -> Iterator[tuple[_Register, bytes | None]]:
    match call:
        case c.PutScript(user, name, script):
            yield (user, name), script
        case c.DeleteScript(user, name):
            yield (user, name), None
        case c.ActivateScript(user, name):
            yield (user, ""), name.encode() or None


def _told(read: Operation) -> Iterator[tuple[_Register, bytes | None]]:
    answer = read.answer
    match read.call:
        case q.GetScript(user, name):
            assert answer is None or isinstance(answer, bytes)
            yield (user, name), answer
        case q.ActiveScript(user, b"") if isinstance(answer, q.RulesInForce):
            yield (user, ""), answer.name.encode()
            for name, text in ((answer.name, answer.script), *answer.others):
                yield (user, name), text
        case q.ActiveScript(user, b""):
            yield (user, ""), None
