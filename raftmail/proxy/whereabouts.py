"""Where users live: asked of the cluster, remembered for a moment, never waited for long."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from raftmail.admin.api.calls import Call, LocateUser
from raftmail.admin.api.policies import UserPlace
from raftmail.client.errors import ClientError
from raftmail.net.errors import describe

_log = logging.getLogger("raftmail.proxy")

ASK_S: Final = 0.5
REMEMBERED_S: Final = 10.0
USERS_MAX: Final = 10_000
"""Users that are remembered; at the bound the one that was asked for first is forgotten."""
USER_CHARS_MAX: Final = 320


class Asking(Protocol):
    """What this needs of the client."""

    async def operate(self, call: Call[UserPlace], *, timeout_s: float | None = None) -> UserPlace:
        """See `client.Client`."""


@dataclass(slots=True, repr=False)
class Whereabouts:
    """A hint and no more: every node serves every user, by way of the others."""

    client: Asking
    _known: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    _silent_until: float = 0.0

    async def nodes_of(self, user: str, now: float) -> Sequence[str]:
        """The nodes with a user's mail, the master first; none when nobody tells in time."""
        if not user or len(user) > USER_CHARS_MAX or now < self._silent_until:
            return ()
        known = self._known.get(user)
        if known is not None and now - known[0] < REMEMBERED_S:
            return known[1]
        try:
            place = await self.client.operate(LocateUser(user), timeout_s=ASK_S)
        except (ClientError, ValueError) as error:
            # The next ones need not wait for the same silence.
            self._silent_until = now + ASK_S
            _log.info("nobody tells where a user lives, any node is taken: %s", describe(error))
            return ()
        found = tuple(
            dict.fromkeys(one.partition(".")[0] for one in (place.master, *place.nodes) if one)
        )
        self._known.pop(user, None)
        if len(self._known) >= USERS_MAX:
            del self._known[next(iter(self._known))]
        self._known[user] = (now, found)
        return found

    def forget(self, user: str) -> None:
        """What is known of a user was of no use."""
        self._known.pop(user, None)
