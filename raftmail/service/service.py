"""What a front end asks of its node: the seam between the protocols (text, LMTP) and the cluster.

Implemented by `raftmail.cluster.router`; protocol tests put a small twin in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from raftmail.mail.admin import ADMIN_S, JSON
from raftmail.mail.changes import Change
from raftmail.mail.commands import Blob, Command, Copy
from raftmail.mail.failures import Failure
from raftmail.mail.queries import Answer, Query
from raftmail.mail.results import Executed


class Watch(Protocol):
    """A session's interest in a user's mail."""

    def close(self) -> None:
        """Hear nothing more. May be called twice."""


class Service(Protocol):
    """All calls are made on the event loop; deadlines are seconds from now."""

    def submit(
        self,
        shard: int,
        request: bytes,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Callable[[Executed | Failure], None],
    ) -> None:
        """Have an encoded request (`codec.encode_request`) applied; `done` is called exactly once, possibly at once.
        The hot path: no task, no coroutine."""

    async def execute(
        self, command: Command, *, blobs: Sequence[Blob] = (), deadline_s: float
    ) -> Executed:
        """Have a command applied under the node's own client id. Raises `Unavailable`."""

    async def cross(
        self, client: bytes, seq: int, floor: int, command: Copy, *, deadline_s: float
    ) -> Executed:
        """Have messages copied or moved to a mailbox in another shard, under a client id and number as in a request.
        Raises `Unavailable`."""

    async def query(self, query: Query, *, deadline_s: float) -> Answer:
        """Read, behind a barrier (P5). Raises `Unavailable`."""

    def watch(self, user: str, hear: Callable[[Change], None]) -> Watch:
        """Have `hear` called with every change to a user's mail from now on, first of all with
        `Missed` where it is not heard from the beginning. It must not raise, nor block."""

    def shard_of(self, user: str) -> int:
        """The shard that holds a user's mail. Users themselves are in shard 0."""

    def quota_of(self, user: str) -> int:
        """How many bytes all messages of a user may have together, as commands that add some must say; 0: there is no limit."""

    async def admin(
        self, what: str, arguments: Mapping[str, str], deadline_s: float = ADMIN_S
    ) -> JSON:
        """Operators' calls: "status", "transfer", "verify", "log". Raises `Unavailable`, or ValueError for bad arguments."""
