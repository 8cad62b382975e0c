"""The sealed bundle of an invitation that is open now, for a machine that is no node yet."""

from __future__ import annotations

import base64

from raftmail.admin.config_writer import ConfigSource
from raftmail.cluster.changes import ChangeDenied, find_invite
from raftmail.cluster.state import ClusterState

ASK_ROOT_S = 5.0
"""How long the root may take to tell whether an invitation is still open."""


async def sealed_bundle(config_source: ConfigSource, invite: str, now_s: int) -> bytes | None:
    """The bundle of an invitation; None when there is none that is open. Raises `Unavailable`.

    What this node knows may lag: an invitation that was withdrawn through another node must not be
    given out any more, so the root is asked. One that this node does not know costs the root
    nothing, since anybody may ask. `now_s` is Unix time."""
    if _bundle(config_source.state, invite, now_s) is None:
        return None
    return _bundle(await config_source.newest(ASK_ROOT_S), invite, now_s)


def _bundle(state: ClusterState, invite: str, now_s: int) -> bytes | None:
    try:
        return base64.b64decode(find_invite(state, invite, now_s).bundle)
    except (ChangeDenied, ValueError):  # ValueError: what stands there is no base64
        return None
