"""Sets of sequence numbers or UIDs as clients write them (RFC 9051 section 9, `sequence-set`)."""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.mail.uidset import UidSet


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """`numbers` has `*` as `uidset.STAR`. With `saved` it is `$`, the result of the last search
    (RFC 5182), and `numbers` is empty."""

    numbers: UidSet
    saved: bool = False
