"""The status of a replica: what keeps it from its work, and what it may do all the same. This is
the one rule for elections, hand-overs, the balancer, reads, the apply, the commit of the index and
operators' status.

A replica is under any number of conditions at once. Each follows from a fact that one part of the
replica owns. `Replica.conditions` is the one function that puts them together, as a set of bits.
`CAPABILITIES` says, for each condition, what the replica may still do; under several it may do what
all allow. Its status, for people, is the worst of them (`describe`).

```
 opened ──▶ PROVING ──▶ (no condition) ──▶ REMOVED, for ever: its node closes it
               │              │ ▲
               ▼              │ │ how each is left
          LOST_DISK,          ├─┤ RESYNCING     the group has jumped to where the records stand
          for ever:           ├─┤ DAMAGED       a resync has brought the record
          its node gives      ├─┤ WITHHOLDING   the bodies have come, or are needed no more
          the disk up         ├─┤ LACKS_BODIES  the bodies have come, or no replica has them
                              ├─┤ SUSPECT       a resync has compared the records
                              ├─┤ DISK_FULL     there has been space for a while
                              ├─┤ DISK_SLOW     syncs are quick again
                              │
                              └──▶ FAILED: its node opens it anew, with what is to be repaired
```

How a leader's place follows from it:

1. A replica that may not `LEAD` hands over at once to one that says that it may. It goes on as well
   as it can while there is none.
2. One that may `STAND` but not `LEAD` stands for election only when nobody else was elected for a
   while (`Elections.tick`).
3. One that may not `STAND` never does.
4. Followers say with each answer to a heartbeat whether they may lead. Only those are handed the
   leader's place, by themselves, by an operator, or by the balancer. One that can lead no more by
   then refuses it.

Most of the table is asked by `Replica.may`. `TAKE_PART`, `VOTE`, `ACKNOWLEDGE` and `SOURCE` are
enforced where their facts are, as their docstrings say.

Bodies that come are taken under every condition: they prove themselves by their hash (P8).
"""

from __future__ import annotations

from enum import IntEnum, unique

from raftmail.consensus.fitness import Fitness


@unique
class Condition(IntEnum):
    """What a replica may be under, the worst first; values are bits. Each line names the fact that
    it follows from."""

    LOST_DISK = 1
    """Its disk went back in time, and has lost what it promised (G13, `Proof.lost`)."""

    PROVING = 2
    """It started, and the others have yet to say what it promised them (G13,
    `Proof.may_follow`)."""

    REMOVED = 4
    """Its group goes on without it, for ever (`Group.removed`). It answers like any other, but
    nothing of it counts."""

    FAILED = 8
    """Its index cannot be used as it is: the next step raises the error
    (`Replica.index_broken`)."""

    RESYNCING = 16
    """Its records are being exchanged with another replica's: its index is no one's state
    (`Sink.frozen`)."""

    DAMAGED = 32
    """A record of its index cannot be verified, and has yet to be fetched or made again: nothing is
    applied or read (`Recovery.damaged`, `Index.failed`)."""

    WITHHOLDING = 64
    """Its log names bodies that are not here and may be nowhere else: nobody could take its log
    (`Bodies.withheld`)."""

    LACKS_BODIES = 128
    """Bodies of messages that it has are not here, and have not come within `LACKING_GRACE_S`
    (`Missing`)."""

    SUSPECT = 256
    """Records of it are to be compared with another replica's, because some were found bad or
    somebody ordered it (`Recovery.suspect`)."""

    DISK_FULL = 512
    """Its disk has less space than the reserve. Only what frees some is taken
    (`Replica.disk_full`)."""

    DISK_SLOW = 1024
    """A sync hangs, or syncs take far longer than they should (`Replica.note_disk`)."""

    @property
    def text(self) -> str:
        """As operators read it."""
        return _TEXTS[self]


_TEXTS = {
    Condition.LOST_DISK: "disk went back",
    Condition.PROVING: "asks the others",
    Condition.REMOVED: "removed",
    Condition.FAILED: "damaged",
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

    TAKE_PART = 1
    """Take part in Raft at all: hear messages and beats, let the time of elections pass, and
    commit. Without, only what tells others of a start is heard. `Replica.takes_part` enforces it,
    by the two conditions that deny it."""

    VOTE = 2
    """Give votes to others. `Proof.grants` enforces it for `PROVING` and `LOST_DISK`,
    `Replica.takes_part` for the rest. Whether a vote counts is the candidate's affair
    (`Elections.vote_granted`)."""

    ACKNOWLEDGE = 4
    """Take entries from a leader, and count as one that has them. With `WITHHOLDING`: those before
    the first that is withheld (`Group.withhold`). `Proof.may_follow` and `Replica.takes_part`
    enforce it."""

    STAND = 8
    """Stand for election when nobody better does."""

    LEAD = 16
    """Lead, take over as leader, and stand for election at once."""

    APPLY = 32
    """Apply committed entries to its index."""

    READ = 64
    """Answer reads from its index."""

    KEEP_INDEX = 128
    """Commit its index, trim its log, and give space back; note what is missing."""

    SOURCE = 256
    """Give others its records at once. `ResyncManager` enforces it by the facts: it knows at once
    what `LACKS_BODIES` says after a while. Under that, it gives them to those that found no other
    source. Under `LOST_DISK` and `FAILED` the node closes the replica."""


_PART, _VOTE, _ACK = Capability.TAKE_PART, Capability.VOTE, Capability.ACKNOWLEDGE
_STAND, _APPLY, _READ = Capability.STAND, Capability.APPLY, Capability.READ
_KEEP, _SOURCE = Capability.KEEP_INDEX, Capability.SOURCE
_FOLLOW = _PART | _VOTE | _ACK
_ALL = sum(Capability)

CAPABILITIES: dict[Condition, int] = {
    Condition.LOST_DISK: _PART | _KEEP,
    Condition.PROVING: _PART | _APPLY | _READ | _KEEP | _SOURCE,
    Condition.REMOVED: _FOLLOW | _APPLY | _KEEP | _SOURCE,
    Condition.FAILED: 0,
    Condition.RESYNCING: 0,
    Condition.DAMAGED: _FOLLOW | _STAND | _KEEP | _SOURCE,
    Condition.WITHHOLDING: _FOLLOW | _APPLY | _READ | _KEEP | _SOURCE,
    Condition.LACKS_BODIES: _FOLLOW | _STAND | _APPLY | _READ | _KEEP,
    Condition.SUSPECT: _FOLLOW | _STAND | _APPLY | _READ | _KEEP | _SOURCE,
    Condition.DISK_FULL: _FOLLOW | _STAND | _APPLY | _READ | _KEEP | _SOURCE,
    Condition.DISK_SLOW: _FOLLOW | _STAND | _APPLY | _READ | _KEEP | _SOURCE,
}
"""What a replica under a condition may do; under none, everything."""

LACKING_GRACE_S = 2.0
"""A body that a read or the scrub found damaged is fetched sooner than this, and costs nobody the
leader's place."""


def allowed(conditions: int) -> int:
    """The capabilities, as bits, of a replica that is under `conditions`."""
    return ALLOWED[conditions]


def fitness_under(conditions: int) -> Fitness:
    """What elections make of the conditions."""
    may = ALLOWED[conditions]
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


ALLOWED = tuple(_allowed(bits) for bits in range(2 * max(Condition)))
"""`allowed` of every set of conditions."""
