"""What keeps a replica from its work, and what it may do all the same: the one rule, which elections, hand-overs, the balancer, reads and
status ask.

A replica is under any number of conditions at once. Each follows from a fact that its part of the replica knows; `Replica.conditions` has
them as a set of bits. `CAPABILITIES` says, for each condition, what the replica may still do. Under several it may do what all allow.

How a leader's place follows from it:

1. A replica that may not `LEAD` hands over at once to one that says that it may, and goes on as well as it can while there is none.
2. One that may `STAND` but not `LEAD` stands for election only when nobody else was elected for a while (`Elections.tick`).
3. One that may not `STAND` never does.
4. Followers say with each answer to a heartbeat whether they may lead. Only those are handed the leader's place, by themselves, by an
   operator, or by the balancer; one that can lead no more by then refuses it.
"""

from __future__ import annotations

from enum import IntEnum, unique

from raftmail.consensus.fitness import Fitness


@unique
class Condition(IntEnum):
    """What a replica may be under, the worst first; values are bits."""

    REMOVED = 1
    """Its group goes on without it, for ever."""

    RESYNCING = 2
    """Its records are being exchanged with another replica's: its index is no one's state."""

    DAMAGED = 4
    """A record of its index cannot be verified, and has yet to be fetched or made again: nothing is applied or read."""

    WITHHOLDING = 8
    """Its log names bodies that are not here and may be nowhere else: nobody could take its log."""

    LACKS_BODIES = 16
    """Bodies of messages that it has are not here, and have not come within `LACKING_GRACE_S`."""

    SUSPECT = 32
    """Records of it are to be compared with another replica's, because some were found bad or somebody ordered it."""

    DISK_FULL = 64
    """Its disk has less space than the reserve."""

    DISK_SLOW = 128
    """A sync hangs, or syncs take far longer than they should (`Replica.disk_slow`)."""

    @property
    def text(self) -> str:
        """As operators read it."""
        return _TEXTS[self]


_TEXTS = {
    Condition.REMOVED: "removed",
    Condition.RESYNCING: "resyncing",
    Condition.DAMAGED: "damaged",
    Condition.WITHHOLDING: "lacks bodies",
    Condition.LACKS_BODIES: "lacks bodies",
    Condition.SUSPECT: "to be compared",
    Condition.DISK_FULL: "disk full",
    Condition.DISK_SLOW: "disk slow",
}


@unique
class Capability(IntEnum):
    """What a replica may do; values are bits."""

    APPLY = 1
    """Apply committed entries to its index."""
    READ = 2
    """Answer reads from its index."""
    VOTE = 4
    """Vote for others, and take entries from a leader."""
    ACKNOWLEDGE = 8
    """Count as one that has an entry (with `WITHHOLDING`: those before the first that is withheld)."""
    STAND = 16
    """Stand for election when nobody better does."""
    LEAD = 32
    """Lead, take over as leader, and stand for election at once."""
    SOURCE = 64
    """Give others its records and bodies."""


_APPLY, _READ, _VOTE = Capability.APPLY, Capability.READ, Capability.VOTE
_ACK, _STAND, _SOURCE = Capability.ACKNOWLEDGE, Capability.STAND, Capability.SOURCE
_ALL = sum(Capability)

CAPABILITIES: dict[Condition, int] = {
    Condition.REMOVED: 0,
    Condition.RESYNCING: 0,
    Condition.DAMAGED: _VOTE | _ACK | _STAND,
    Condition.WITHHOLDING: _APPLY | _READ | _VOTE | _ACK,
    Condition.LACKS_BODIES: _APPLY | _READ | _VOTE | _ACK | _STAND,
    Condition.SUSPECT: _APPLY | _READ | _VOTE | _ACK | _STAND,
    Condition.DISK_FULL: _APPLY | _READ | _VOTE | _ACK | _STAND | _SOURCE,
    Condition.DISK_SLOW: _APPLY | _READ | _VOTE | _ACK | _STAND | _SOURCE,
}
"""What a replica under a condition may do; under none, everything."""

LACKING_GRACE_S = 2.0
"""A body that a read or the scrub found damaged is fetched sooner than this, and costs nobody the leader's place."""


def allowed(conditions: int) -> int:
    """The capabilities, as bits, of a replica that is under `conditions`."""
    return _ALLOWED[conditions]


def fitness_under(conditions: int) -> Fitness:
    """What elections make of the conditions."""
    may = _ALLOWED[conditions]
    if may & Capability.LEAD:
        return Fitness.ABLE
    return Fitness.LAST_RESORT if may & Capability.STAND else Fitness.UNFIT


def conditions_of(bits: int) -> list[Condition]:
    """The single conditions, the worst first."""
    return [condition for condition in Condition if bits & condition]


def describe(bits: int) -> str:
    """The worst condition as operators read it; "ok" under none."""
    found = conditions_of(bits)
    return found[0].text if found else "ok"


def _allowed(bits: int) -> int:
    may = _ALL
    for condition in conditions_of(bits):
        may &= CAPABILITIES[condition]
    return may


_ALLOWED = tuple(_allowed(bits) for bits in range(2 * max(Condition)))
