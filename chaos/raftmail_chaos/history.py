"""What clients saw: every operation with when it was asked and answered, by one clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import TypeAlias

from raftmail.mail.commands import Command
from raftmail.mail.queries import Query
from raftmail.mail.results import Code, Refused

Call: TypeAlias = Command | Query


class Fate(Enum):
    """What the client knows of an operation when it stops waiting."""

    ANSWERED = "answered"
    LOST = "lost"
    """No answer: a write may have happened once, at any time after it was asked, or may yet."""
    NOTHING = "nothing"
    """It was said that there was no effect, and that there will be none."""


@dataclass(frozen=True, slots=True)
class Untold:
    """The answer to a STORE or EXPUNGE over IMAP: it was carried out, and what it found to change
    is not told."""


@dataclass(slots=True)
class Operation:
    """`answer` is a Result of a command or an Answer of a query. Times are seconds of one clock;
    `returned` is infinite until the operation is answered."""

    number: int
    process: str
    call: Call
    invoked: float
    returned: float = inf
    fate: Fate = Fate.LOST
    answer: object = None
    index: int = 0
    """Raft index at which a command was applied, if it is known; only for people to read."""

    def __str__(self) -> str:
        end = "…" if self.returned == inf else f"{self.returned:.4f}"
        answer = self.answer if self.fate is Fate.ANSWERED else self.fate.value
        return f"#{self.number} {self.process} [{self.invoked:.4f}, {end}] {self.call} -> {answer}"


@dataclass(slots=True)
class History:
    """Operations in the order in which they were asked."""

    operations: list[Operation] = field(default_factory=list)

    def invoke(self, process: str, call: Call, now: float) -> Operation:
        """A client asks."""
        operation = Operation(len(self.operations), process, call, now)
        self.operations.append(operation)
        return operation

    @staticmethod
    def answer(operation: Operation, answer: object, now: float, index: int = 0) -> None:
        """The answer that the client got."""
        operation.returned = now
        operation.answer = answer
        operation.index = index
        stale = isinstance(answer, Refused) and answer.code is Code.STALE
        # STALE: the result was given to someone else and is forgotten; there may have been an
        # effect.
        operation.fate = Fate.LOST if stale else Fate.ANSWERED

    @staticmethod
    def nothing(operation: Operation, now: float) -> None:
        """The client was told that nothing happened."""
        operation.returned = now
        operation.fate = Fate.NOTHING
