"""Heartbeats of groups in which nothing happens, and the answers to them: records of one size,
cheap to make and to take.

A leader whose follower has everything sends a beat in place of an empty APPEND. The follower
answers with one in place of ROUND and ACK. They mean the same; what a beat does not find as it
should be is handled as the message that it stands for. Beats carry their group, so whoever drives
many groups may put all that go to one node into one frame: `Group.take_beats`, `unpack`,
`Group.receive_beat`.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, error
from typing import Final

from raftmail.consensus.messages import BadMessage

RECORD: Final = Struct("<BBIIIQQQQQ")
"""Fields, in order:

- `BEAT` or `ANSWER`;
- of an answer, what an ACK says (`messages.ACK_WHOLE` or `ACK_LACKS`, perhaps with `ACK_UNABLE`);
- group, sender, receiver, term;
- index and term of the last entry;
- of a beat, the commit index;
- the round of reads, or 0.
"""

Beat = tuple[int, int, int, int, int, int, int, int, int, int]

BEAT: Final = 1
ANSWER: Final = 2

pack = RECORD.pack


def unpack(payload: bytes | bytearray | memoryview) -> Iterator[Beat]:
    """The beats of a frame, of any groups; field 2 is the group. Raises `BadMessage`."""
    try:
        return RECORD.iter_unpack(payload)
    except error:
        raise BadMessage(
            f"a frame of beats of {len(payload)} bytes, which is no number of them"
        ) from None
