"""What a follower makes of an append before the engine sees it (guards G2 and G4).

PySyncObj cuts off everything after the previous index of every append, matching or not, and so
takes back what it had acknowledged. `judge` compares the append with the log and leaves the engine
only what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Log(Protocol):
    """The part of the journal that is compared."""

    @property
    def first_index(self) -> int: ...

    @property
    def last_index(self) -> int: ...

    def term_of(self, index: int) -> int: ...


class Diverged(Exception):
    """A leader's append contradicts entries that are committed here. Some replica broke the rules
    of Raft (a restored old disk, a replica id used twice): the append is refused, and an operator
    must look."""


class AppendVerdict(NamedTuple):
    """What to do with an append.

    `verified`: up to this index the log equals the leader's. `keep`: how many entries at the front
    of the append are already here. With `ask` >= 0 the append could not be verified; the leader is
    asked for entries from there on."""

    verified: int
    keep: int
    ask: int = -1


def judge(
    log: Log, commit_index: int, prev_index: int, prev_term: int, terms: Sequence[int]
) -> AppendVerdict:
    """Compare an append with the log (Raft paper, section 5.3). Raises `Diverged`.

    Everything up to `commit_index` is known to be the same in every log. So entries at or below it
    are never compared with a trimmed log, and never cut.
    """
    last = log.last_index
    if prev_index > last:
        return AppendVerdict(0, 0, ask=commit_index + 1)
    first = log.first_index
    if prev_index >= first and log.term_of(prev_index) != prev_term:
        if prev_index <= commit_index:
            raise _diverged(prev_index, log.term_of(prev_index), prev_term, commit_index)
        return AppendVerdict(0, 0, ask=commit_index + 1)
    keep = 0
    index = prev_index
    for term in terms:
        index += 1
        if index > last:
            break
        if index >= first and log.term_of(index) != term:
            if index <= commit_index:
                raise _diverged(index, log.term_of(index), term, commit_index)
            break
        keep += 1
    return AppendVerdict(prev_index + keep, keep)


def _diverged(index: int, own: int, theirs: int, commit_index: int) -> Diverged:
    return Diverged(
        f"entry {index} is committed here with term {own}, but the leader has it with term "
        f"{theirs} "
        f"(commit index {commit_index}): this replica or its leader was restored from an old disk "
        f"or "
        "shares its replica id with another; compare them with `raftmail log show`"
    )
