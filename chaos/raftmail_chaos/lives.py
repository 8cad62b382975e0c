"""One message's life: whether some order of the operations explains everything that was seen of it.

A message is unborn, then there, then gone for ever. While it is there it has flags and a modseq
that grows with every change. The search goes through the operations in the order of time and keeps
the set of all states that the message may be in. Each has the operations that have taken effect
without being answered yet. (Lowe, "Testing for linearizability", 2017.) A write that was never
answered may take effect at any later time.

Many unanswered writes would make many states, most of which need not be looked at:

- two states may differ in unanswered writes only. Then the one from which fewer of them took effect
  can still do all that the other can;
- unanswered writes that say the same are one as good as the other: the one asked first goes first;
- a modseq that is known as a lower bound only can be all that a greater one can;
- what was answered and changes nothing, a read above all, takes effect as soon as it can.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TypeAlias

from raftmail.mail import commands as c
from raftmail.mail import results as r
from raftmail_chaos.history import Fate, Operation, Untold

STATES_MAX = 20_000
"""Of one message at one moment; no history that a load makes comes near."""

_DELETED = "\\deleted"

Seen: TypeAlias = tuple[frozenset[str], int] | tuple[()] | None
"""Of a read: flags and modseq; () for "it is there"; None for "it is not there"."""

Flags: TypeAlias = frozenset[str] | None
"""None: whatever the source of the copy had."""

State: TypeAlias = tuple[int, Flags, int, bool]
"""0 unborn, 1 there, 2 gone; flags; modseq, and whether that is exact or the least it can be."""

UNBORN: State = (0, None, 0, True)
GONE: State = (2, None, 0, True)

Found: TypeAlias = tuple[str, str, tuple[Operation, ...]]

Taken: TypeAlias = frozenset[int]
"""Steps, by number, that have taken effect and have not ended."""


class TooMany(Exception):
    """There are more than `STATES_MAX` states to look at: no verdict."""


@dataclass(slots=True)
class _Step:
    """An operation as this message meets it. `seen` counts for reads only."""

    operation: Operation
    is_read: bool
    seen: Seen
    invoked: float
    returned: float


@dataclass(slots=True)
class Life:
    """Everything about one message. `modseq` at birth is 0 when it is not known."""

    uid: int
    birth: Operation
    flags: Flags
    modseq: int
    steps: list[_Step] = field(default_factory=list)
    there: dict[Seen, tuple[_Step, _Step]] = field(default_factory=dict)
    absent: list[_Step] = field(default_factory=list)

    def add(self, operation: Operation) -> None:
        """A STORE, EXPUNGE or COPY that names the message, or the DELETE of its mailbox. Its end is
        open unless it was answered."""
        if operation.fate is Fate.ANSWERED:
            if isinstance(operation.answer, r.Refused):
                return
            end = operation.returned
        elif isinstance(operation.call, c.Copy) and not operation.call.move:
            return
        else:
            end = inf
        self.steps.append(_Step(operation, False, None, operation.invoked, end))

    def see(self, operation: Operation, seen: Seen) -> None:
        """A read. Of those that saw the same, only the first to end and the last to begin tell
        anything: a modseq comes once."""
        step = _Step(operation, True, seen, operation.invoked, operation.returned)
        if seen is None:
            self.absent.append(step)
            return
        before = self.there.get(seen)
        if before is None or not seen:
            self.there[seen] = (step, step) if before is None else _outer(before, step)
        else:
            self.there[seen] = _outer(before, step)


def _outer(pair: tuple[_Step, _Step], step: _Step) -> tuple[_Step, _Step]:
    first, last = pair
    if step.returned < first.returned:
        first = step
    if step.invoked > last.invoked:
        last = step
    return first, last


def check_life(life: Life) -> Found | None:
    """What is wrong: the rule, a text, and the operations that show it. Raises `TooMany`."""
    birth = life.birth
    born_at = birth.returned if birth.fate is Fate.ANSWERED else inf
    removals = [s for s in life.steps if _removes(s.operation)]
    first_removal = min((s.invoked for s in removals), default=inf)
    gone_at = min((s.returned for s in removals if _removed(s.operation, life.uid)), default=inf)
    steps = list(life.steps)
    for first, last in life.there.values():
        steps.append(first)
        if last is not first:
            steps.append(last)
        if last.invoked > gone_at:
            remover = min(removals, key=lambda s: s.returned)
            return "EXPUNGE", "came back", (remover.operation, last.operation)
    for step in life.absent:
        if step.returned < birth.invoked or step.invoked > gone_at:
            continue
        if step.invoked > born_at and step.returned < first_removal:
            return "SAVE", "is acknowledged and not there", (birth, step.operation)
        steps.append(step)
    if not steps:
        return None
    return _search(life, steps)


def _removes(operation: Operation) -> bool:
    call = operation.call
    if isinstance(call, c.Copy):
        return call.move
    return isinstance(call, c.Expunge | c.DeleteMailbox)


def _removed(operation: Operation, uid: int) -> bool:
    answer = operation.answer
    if operation.fate is not Fate.ANSWERED:
        return False
    if isinstance(answer, r.ExpungeResult):
        return uid in answer.uids
    if isinstance(answer, r.MailboxResult):  # of a DELETE
        return True
    return isinstance(answer, r.CopyResult) and uid in answer.source_uids


def _search(life: Life, steps: list[_Step]) -> Found | None:
    born = life.birth
    end = born.returned if born.fate is Fate.ANSWERED else inf
    steps.append(_Step(born, False, None, born.invoked, end))
    birth = len(steps) - 1
    moments = [(s.invoked, 0, i) for i, s in enumerate(steps)]
    moments += [(s.returned, 1, i) for i, s in enumerate(steps) if s.returned != inf]
    moments.sort()
    pending: set[int] = set()
    twins = _twins(steps, birth)
    states: set[tuple[State, Taken]] = {(UNBORN, frozenset())}
    for _, is_end, i in moments:
        if not is_end:
            pending.add(i)
            continue
        states = _until(life, steps, birth, pending, twins, states, i)
        pending.discard(i)
        if not states:
            shown = [s.operation for s in steps if s.invoked <= steps[i].returned]
            shown.sort(key=lambda o: o.invoked)
            return "order", "no order of the operations explains what was seen", tuple(shown[-12:])
    return None


def _twins(steps: list[_Step], birth: int) -> dict[int, int]:
    """For an unanswered write, the one asked before it that says the same."""
    last: dict[object, int] = {}
    twins: dict[int, int] = {}
    for i in sorted(range(len(steps)), key=lambda i: steps[i].invoked):
        call = steps[i].operation.call
        if i == birth or steps[i].returned != inf:
            continue
        same: object
        if isinstance(call, c.Store):
            same = call.mode, frozenset(f.lower() for f in call.flags), call.unchanged_since
        elif isinstance(call, c.Expunge):
            same = c.Expunge, call.only_deleted
        elif isinstance(call, c.DeleteMailbox):
            same = c.DeleteMailbox
        else:
            same = c.Copy
        if same in last:
            twins[i] = last[same]
        last[same] = i
    return twins


class _Least:
    """The states that are worth looking at: none can do all that another can."""

    def __init__(self, steps: list[_Step]) -> None:
        self._lost = frozenset(i for i, step in enumerate(steps) if step.returned == inf)
        self._reads = frozenset(i for i, step in enumerate(steps) if step.is_read)
        self._kept: dict[object, list[tuple[int, bool, Taken, Taken]]] = {}
        self._count = 0

    def add(self, state: State, taken: Taken) -> bool:
        """False for one that adds nothing to those before it. Fewest steps first, for the most to
        be left out."""
        there, flags, modseq, exact = state
        lost, reads = taken & self._lost, taken & self._reads
        known = self._kept.setdefault((there, flags, taken - lost - reads), [])
        for least, is_exact, before, seen in known:
            is_as_able = (exact and modseq == least) if is_exact else modseq >= least
            if is_as_able and before <= lost and seen >= reads:
                return False
        known.append((modseq, exact, lost, reads))
        self._count += 1
        if self._count > STATES_MAX:
            raise TooMany
        return True


def _until(
    life: Life,
    steps: list[_Step],
    birth: int,
    pending: set[int],
    twins: dict[int, int],
    states: set[tuple[State, Taken]],
    wanted: int,
) -> set[tuple[State, Taken]]:
    """All states that are possible once step `wanted` has taken effect, others before it as they
    may."""
    done: set[tuple[State, Taken]] = set()
    least = _Least(steps)
    # By how many steps they took: what a state leads to has taken one more.
    levels: dict[int, list[tuple[State, Taken]]] = {}
    for state, taken in states:
        levels.setdefault(len(taken), []).append((state, taken))
    due = frozenset(i for i in pending if i != birth and steps[i].returned != inf)
    while levels:
        size = min(levels)
        for state, before in levels.pop(size):
            taken = before.union(_at_once(life, steps, state, due - before))
            if not least.add(state, taken):
                continue
            if wanted in taken:
                done.add((state, taken - {wanted}))
                continue
            for i in pending:
                if i in taken or twins.get(i, i) not in (taken | {i}):
                    continue
                after = _born(life, state) if i == birth else _after(life.uid, state, steps[i])
                if after:
                    levels.setdefault(len(taken) + 1, []).extend(
                        (new, taken | {i}) for new in after
                    )
    return done


def _at_once(life: Life, steps: list[_Step], state: State, due: Taken) -> list[int]:
    """Which of these can take effect now and change nothing. What is not told may change something
    later on."""
    return [
        i
        for i in due
        if not isinstance(steps[i].operation.answer, Untold)
        and _after(life.uid, state, steps[i]) == [state]
    ]


def _born(life: Life, state: State) -> list[State]:
    if state[0] != 0:
        return []
    return [(1, life.flags, life.modseq or 1, life.modseq != 0)]


def _after(uid: int, state: State, step: _Step) -> list[State]:
    """The states after a step; none when it cannot have happened so."""
    if step.is_read:
        return _read(state, step.seen)
    operation = step.operation
    call = operation.call
    answered = operation.fate is Fate.ANSWERED
    there = state[0] == 1
    if isinstance(call, c.Store):
        if answered and isinstance(operation.answer, Untold):
            return _untold_store(state, call)
        if answered:
            assert isinstance(operation.answer, r.StoreResult)
            return _store(uid, state, call, operation.answer)
        return _lost_store(state, call) if there else []
    if isinstance(call, c.Expunge):
        deleted = not call.only_deleted or state[1] is None or _DELETED in state[1]
        if not answered:
            return [GONE] if there and deleted else []
        if isinstance(operation.answer, Untold):
            return _untold_expunge(state, call)
        assert isinstance(operation.answer, r.ExpungeResult)
        if uid in operation.answer.uids:
            return [GONE] if there and deleted else []
        return [state] if not there or (call.only_deleted and not _surely(state, _DELETED)) else []
    if isinstance(call, c.DeleteMailbox):
        if not answered:
            return [GONE] if there else []
        return [GONE] if there else [state]
    assert isinstance(call, c.Copy)
    if not answered:
        return [GONE] if there else []  # a move
    assert isinstance(operation.answer, r.CopyResult)
    if (uid in operation.answer.source_uids) != there:
        return []
    return [GONE] if there and call.move else [state]


def _surely(state: State, flag: str) -> bool:
    return state[1] is not None and flag in state[1]


def _read(state: State, seen: Seen) -> list[State]:
    if seen is None:
        return [state] if state[0] != 1 else []
    if state[0] != 1:
        return []
    if not seen:
        return [state]
    flags, modseq = seen
    if state[1] is not None and state[1] != flags:
        return []
    if modseq != state[2] if state[3] else modseq < state[2]:
        return []
    return [(1, flags, modseq, True)]


def _changed(flags: frozenset[str], call: c.Store) -> frozenset[str]:
    named = frozenset(f.lower() for f in call.flags)
    if call.mode is c.StoreMode.ADD:
        return flags | named
    if call.mode is c.StoreMode.REMOVE:
        return flags - named
    return named


def _store(uid: int, state: State, call: c.Store, answer: r.StoreResult) -> list[State]:
    there, flags, modseq, exact = state
    if uid in answer.changed:
        if there != 1 or answer.modseq <= modseq or (exact and _too_new(call, modseq)):
            return []
        if flags is None:
            known = _changed(frozenset(), call) if call.mode is c.StoreMode.REPLACE else None
            return [(1, known, answer.modseq, True)]
        after = _changed(flags, call)
        return [(1, after, answer.modseq, True)] if after != flags else []
    if uid in answer.rejected:
        if there != 1 or (exact and not _too_new(call, modseq)):
            return []
        return [state]
    if there != 1:
        return [state]
    if (exact and _too_new(call, modseq)) or (flags is not None and _changed(flags, call) != flags):
        return []
    return [state]


def _untold_store(state: State, call: c.Store) -> list[State]:
    """It took effect, whatever there was to change."""
    there, flags, _, _ = state
    if there != 1:
        return [state]
    if flags is None:
        return [state, *_lost_store(state, call)]
    return _lost_store(state, call) or [state]


def _untold_expunge(state: State, call: c.Expunge) -> list[State]:
    there, flags, _, _ = state
    if there != 1 or (call.only_deleted and flags is not None and _DELETED not in flags):
        return [state]
    if call.only_deleted and flags is None:
        return [state, GONE]
    return [GONE]


def _too_new(call: c.Store, modseq: int) -> bool:
    return 0 <= call.unchanged_since < modseq


def _lost_store(state: State, call: c.Store) -> list[State]:
    _, flags, modseq, exact = state
    if exact and _too_new(call, modseq):
        return []
    if flags is None:
        return [(1, None, modseq, False)]
    after = _changed(flags, call)
    return [(1, after, modseq + 1, False)] if after != flags else []
