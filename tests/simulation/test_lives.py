"""The search that leaves most states out finds what the one that looks at all of them finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail import commands as c
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos import lives
from raftmail_chaos.history import Call, Fate, Operation
from raftmail_chaos.lives import Life, State, Taken, check_life

USER, UID = "user@example.org", 1
UIDS, NONE = UidSet.from_uids([UID]), UidSet()
READ = c.Save(USER, (), 0)


class Dumb:
    """Takes every state that it has not seen."""

    def __init__(self, steps: object) -> None:
        self._seen: set[tuple[State, Taken]] = set()

    def add(self, state: State, taken: Taken) -> bool:
        new = (state, taken) not in self._seen
        self._seen.add((state, taken))
        return new


@dataclass
class World:
    """A message that operations change at times which no client knows, and what clients are told of
    it."""

    flags: frozenset[str] = frozenset()
    modseq: int = 2
    there: bool = True
    answers: dict[int, Callable[[Life, Operation], None]] = field(default_factory=dict)

    def carry_out(self, life: Life, operation: Operation, *, lost: bool, lie: bool) -> None:
        call = operation.call
        if isinstance(call, c.Store):
            named = frozenset(call.flags)
            kinds = {
                c.StoreMode.ADD: self.flags | named,
                c.StoreMode.REMOVE: self.flags - named,
                c.StoreMode.REPLACE: named,
            }
            after = kinds[call.mode]
            rejected = self.there and 0 <= call.unchanged_since < self.modseq
            changes = self.there and not rejected and (after != self.flags) is not lie
            if changes:
                self.flags, self.modseq = after, self.modseq + 1
            changed, refused = (UIDS if flag else NONE for flag in (changes, rejected))
            operation.answer = r.StoreResult(changed, refused, self.modseq, self.modseq)
        elif isinstance(call, c.Expunge):
            operation.answer = r.ExpungeResult(UIDS if self.there else NONE, self.modseq)
            self.there = lie
        else:
            seen = (self.flags, self.modseq + lie) if self.there else None
            life.see(operation, seen)
            return
        if lost:
            operation.answer = None
        life.add(operation)


flags = st.sets(st.sampled_from(("\\seen", "\\deleted", "$x")), min_size=1, max_size=2).map(tuple)
stores = st.builds(
    lambda mode, flags, since: c.Store(USER, "INBOX", UIDS, mode, flags, since),
    st.sampled_from(c.StoreMode),
    flags,
    st.sampled_from((-1, -1, -1, 3, 4)),
)
calls: st.SearchStrategy[Call] = st.one_of(
    stores, stores, stores, st.just(READ), st.just(READ), st.just(c.Expunge(USER, "INBOX", UIDS))
)
times = st.sampled_from((0.2, 0.8, 2.5, 6.5))
told = st.lists(
    st.tuples(calls, times, times, st.sampled_from((False, True)), st.integers(0, 29)),
    min_size=3,
    max_size=9,
)


@given(told)
def test_leaving_states_out_changes_no_verdict(
    told: list[tuple[Call, float, float, bool, int]],
) -> None:
    birth = Operation(0, "c", READ, 0.0, 0.5, Fate.ANSWERED, r.SaveResult(()))
    made: list[tuple[float, Operation, bool, bool]] = []
    for at, (call, late, lasts, lost, lie) in enumerate(told):
        operation = Operation(at, "c", call, 1.0 + at)
        lost = lost and call is not READ
        if not lost:
            operation.returned = operation.invoked + max(late, lasts) + 0.1
            operation.fate = Fate.ANSWERED
        made.append((operation.invoked + late, operation, lost, lie == 0))

    def verdict() -> bool:
        life, world = Life(UID, birth, frozenset(), 2), World()
        for _, operation, lost, lie in sorted(made, key=lambda item: item[0]):
            world.carry_out(life, operation, lost=lost, lie=lie)
        return check_life(life) is None

    found = verdict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lives, "_Least", Dumb)
        patch.setattr(lives, "_twins", lambda steps, birth: {})
        patch.setattr(lives, "_at_once", lambda life, steps, state, due: [])
        assert found is verdict()
    assert found or any(lie for _, _, _, lie in made)
