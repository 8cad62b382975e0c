"""What a replica tells its observer: everything that somebody outside may want to follow, as
values.

A simulator judges by these, and nobody has to subclass a replica, or to patch one, to see what it
does. They come while the replica is at work, on its thread, in the order in which things happen.
Changes of users' mail are told by `watchers` instead, to who asks for a user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from raftmail.consensus.journal import Journal


@dataclass(frozen=True, slots=True)
class LogOpened:
    """At the start: the log was read, and nothing is changed in it yet."""

    journal: Journal


@dataclass(frozen=True, slots=True)
class OwnTablesForgotten:
    """At the start: the tables that are this replica's own were damaged, and are made again from
    its files."""

    why: str


@dataclass(frozen=True, slots=True)
class Applying:
    """An entry is applied now. `Applied` or `NotApplied` follows."""

    index: int


@dataclass(frozen=True, slots=True)
class Applied:
    """An entry was applied. `payload` is b"" of a no-op."""

    index: int
    term: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class NotApplied:
    """An entry could not be applied: there is no space, or a record that it needs is damaged."""

    index: int


@dataclass(frozen=True, slots=True)
class WentBack:
    """The state machine went back to its last commit. What follows `index` is applied again."""

    index: int


@dataclass(frozen=True, slots=True)
class Jumped:
    """A resync took the state machine to entry `index`, over entries that were never applied here,
    and the log followed."""

    index: int


@dataclass(frozen=True, slots=True)
class Restated:
    """A resync ended where the state machine stood already, at entry `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class IndexCommitted:
    """The index has everything up to entry `index` in its file. It is durable with the next
    commit."""

    index: int


@dataclass(frozen=True, slots=True)
class LogTrimmed:
    """The log begins with entry `first_index` now."""

    first_index: int


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The replica came under other conditions (bits of `status.Condition`), as far as its ticks
    see."""

    before: int
    after: int


ReplicaEvent: TypeAlias = (
    LogOpened
    | OwnTablesForgotten
    | Applying
    | Applied
    | NotApplied
    | WentBack
    | Jumped
    | Restated
    | IndexCommitted
    | LogTrimmed
    | StatusChanged
)

Observer: TypeAlias = Callable[[ReplicaEvent], None]
"""Hears every event of a replica. What it raises ends the piece of work that the replica is in."""
