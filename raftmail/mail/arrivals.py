"""What a replica tells of each message that a Save puts into a mailbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias


class Arrival(NamedTuple):
    """One message in one mailbox, by number and name, as it was when it came. `system` are its
    system flags as a mask (`mail.flags`)."""

    user: str
    mailbox: int
    name: str
    special_use: str
    uidvalidity: int
    uid: int
    system: int


HearArrivals: TypeAlias = Callable[[Sequence[Arrival]], None]
"""Called on the event loop, in the order of the entries."""
