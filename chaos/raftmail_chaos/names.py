"""Which mailbox each name stood for: whether some order of CREATE, RENAME and DELETE explains
everything that was seen of it.

For the names that a history renames or deletes. They begin without a mailbox. Whoever names one has
to be told, or have asked for, nothing that depends on which mailbox that was. Excepted are SAVE and
the reads whose answers tell its number.

The search is that of `lives`, over maps from names to mailbox numbers. A read takes effect as soon
as what it saw is so: that changes nothing, and leaves nothing out. The number of a mailbox whose
CREATE was not answered is 0, and may be any.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.history import Fate, Operation
from raftmail_chaos.lives import Found, Taken, TooMany

STATES_MAX = 20_000

Names: TypeAlias = frozenset[tuple[str, int]]
"""Names that stand for a mailbox, each with its number."""

_State: TypeAlias = tuple[Names, Taken]

_CHANGES = (c.CreateMailbox, c.DeleteMailbox, c.RenameMailbox)


def moving_names(operations: Iterable[Operation]) -> frozenset[tuple[str, str]]:
    """User and name of all that is renamed or deleted, or named anew."""
    found: set[tuple[str, str]] = set()
    for o in operations:
        call = o.call
        if isinstance(call, c.DeleteMailbox | c.RenameMailbox):
            assert isinstance(call.mailbox, str), "histories name mailboxes that they rename"
            found.add((call.user, call.mailbox))
            if isinstance(call, c.RenameMailbox):
                found.add((call.user, call.name))
    return frozenset(found)


@dataclass(slots=True)
class _Step:
    """An operation as the names meet it."""

    operation: Operation
    is_change: bool
    returned: float


def check_names(operations: Iterable[Operation], moving: Set[str]) -> Found | None:
    """What is wrong with one user's names that move: the rule, a text, and the operations that show
    it. Raises `TooMany`."""
    steps = [step for o in operations if (step := _step(o, moving)) is not None]
    moments = [(s.operation.invoked, 0, i) for i, s in enumerate(steps)]
    moments += [(s.returned, 1, i) for i, s in enumerate(steps) if s.returned != inf]
    search = _Search(steps, moving)
    for at, is_end, i in sorted(moments):
        if not is_end:
            search.begin(i)
            continue
        search.end(i)
        if not search.states:
            shown = [s.operation for s in steps if s.operation.invoked <= at]
            shown.sort(key=lambda o: o.invoked)
            return "names", "no order of the operations explains what was seen", tuple(shown[-12:])
    return None


def _step(o: Operation, moving: Set[str]) -> _Step | None:
    """None for what tells nothing about these names."""
    call = o.call
    answered = o.fate is Fate.ANSWERED
    refused = o.answer.code if answered and isinstance(o.answer, r.Refused) else None
    if refused not in (None, r.Code.NONEXISTENT, r.Code.ALREADYEXISTS):
        return None
    if isinstance(call, _CHANGES):
        name = call.name if isinstance(call, c.CreateMailbox) else str(call.mailbox)
        is_about = name in moving
    elif not answered:
        return None
    elif isinstance(call, c.Save):
        is_about = any(name in moving for name in _targets(call))
    elif isinstance(call, q.GetMailbox | q.FetchMessages):
        is_about = call.mailbox in moving
    else:
        is_about = isinstance(call, q.ListMailboxes)
    if not is_about:
        return None
    is_change = isinstance(call, _CHANGES) and refused is None
    return _Step(o, is_change, o.returned if answered else inf)


def _targets(call: c.Save) -> list[str]:
    return [str(target.mailbox) for message in call.messages for target in message.targets]


class _Search:
    """All that the names may stand for now, as operations begin and end."""

    def __init__(self, steps: list[_Step], moving: Set[str]) -> None:
        self.steps = steps
        self.moving = moving
        self.states: set[_State] = {(frozenset(), frozenset())}
        self.changes: set[int] = set()
        self.reads: set[int] = set()
        self.lost = frozenset(i for i, s in enumerate(steps) if s.returned == inf)

    def begin(self, i: int) -> None:
        (self.changes if self.steps[i].is_change else self.reads).add(i)
        self.states = {self._with_reads(*state) for state in self.states}

    def end(self, i: int) -> None:
        """Only what may have been once operation `i` has taken effect, others before it as they
        may."""
        done: set[_State] = set()
        kept: dict[object, list[tuple[Taken, Taken]]] = {}
        count = 0
        # By how many changes they took: what a state leads to has taken one more.
        levels: dict[int, list[_State]] = {}
        for names, taken in self.states:
            levels.setdefault(len(taken & self.changes), []).append((names, taken))
        while levels:
            size = min(levels)
            for names, taken in levels.pop(size):
                if not self._adds(kept, names, taken):
                    continue
                count += 1
                if count > STATES_MAX:
                    raise TooMany
                if i in taken:
                    done.add((names, taken - {i}))
                    continue
                for at in self.changes - taken:
                    after = _changed(self.steps[at].operation, names)
                    if after is not None:
                        state = self._with_reads(after, taken | {at})
                        levels.setdefault(size + 1, []).append(state)
        self.states = done
        self.changes.discard(i)
        self.reads.discard(i)

    def _adds(
        self, kept: dict[object, list[tuple[Taken, Taken]]], names: Names, taken: Taken
    ) -> bool:
        """False for a state that can do nothing that one before it cannot: one with the same names
        from which no more unanswered changes took effect, and no fewer reads."""
        known = kept.setdefault((names, taken & self.changes - self.lost), [])
        lost, reads = taken & self.lost, taken & self.reads
        if any(before <= lost and seen >= reads for before, seen in known):
            return False
        known.append((lost, reads))
        return True

    def _with_reads(self, names: Names, taken: Taken) -> _State:
        numbers = dict(names)
        seen = [
            i
            for i in self.reads
            if i not in taken and _is_so(self.steps[i].operation, numbers, self.moving)
        ]
        return names, taken.union(seen)


def _is_so(o: Operation, numbers: dict[str, int], moving: Set[str]) -> bool:
    """Whether this answer can be given now, by what changes nothing."""
    call, answer = o.call, o.answer
    if isinstance(call, c.RenameMailbox):  # refused, as the next two
        missing = str(call.mailbox) not in numbers
        return (
            missing if _says(answer, r.Code.NONEXISTENT) else not missing and call.name in numbers
        )
    if isinstance(call, c.CreateMailbox):
        return call.name in numbers
    if isinstance(call, c.DeleteMailbox):
        return str(call.mailbox) not in numbers
    if isinstance(call, c.Save):
        if not isinstance(answer, r.SaveResult):
            return any(name in moving and name not in numbers for name in _targets(call))
        told = zip(_targets(call), answer.saved, strict=True)
        return all(_stands(numbers, name, s.mailbox) for name, s in told if name in moving)
    if isinstance(call, q.ListMailboxes):
        assert isinstance(answer, tuple)
        listed = {info.name: info.number for info in answer if info.name in moving}
        return listed.keys() == numbers.keys() and all(
            _stands(numbers, name, number) for name, number in listed.items()
        )
    assert isinstance(call, q.GetMailbox | q.FetchMessages)
    if answer is None:
        return str(call.mailbox) not in numbers
    info = answer.mailbox if isinstance(answer, q.MessagePage) else answer
    assert isinstance(info, q.MailboxInfo)
    # By its name when it was found, even if it has another when it is read.
    return _stands(numbers, str(call.mailbox), info.number)


def _says(answer: object, code: r.Code) -> bool:
    return isinstance(answer, r.Refused) and answer.code is code


def _stands(numbers: dict[str, int], name: str, number: int) -> bool:
    return name in numbers and numbers[name] in (number, 0)


def _changed(o: Operation, names: Names) -> Names | None:
    """The names after a change; None when it cannot have happened so, or would change nothing."""
    call, numbers = o.call, dict(names)
    number = o.answer.number if isinstance(o.answer, r.MailboxResult) else 0
    if isinstance(call, c.CreateMailbox):
        if call.name in numbers or (number and number in numbers.values()):
            return None
        return names | {(call.name, number)}
    assert isinstance(call, c.DeleteMailbox | c.RenameMailbox)
    before = numbers.pop(str(call.mailbox), None)
    if before is None or (number and before not in (number, 0)):
        return None
    if isinstance(call, c.RenameMailbox):
        if call.name in numbers or call.name == call.mailbox:
            return None
        numbers[call.name] = number or before
    return frozenset(numbers.items())
