"""CONFIGURE, and what changed since: the root's records, of which the state machine knows nothing but
their keys and revisions (`cluster/records.py` knows what they mean)."""

from __future__ import annotations

from raftmail.mail import queries as q
from raftmail.mail.codec_results import CONFIGURED
from raftmail.mail.commands import Configure
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.shard.state import Refusal, State

PAGE_BYTES_MAX = 1 << 20
"""A page ends after the revision that goes over this."""


def configure(state: State, command: Configure) -> Raw:
    """Raises `Refusal`."""
    config = state.index.config
    for key, revision in command.expected:
        found = config.get(key)[0]
        if found != revision:
            raise Refusal(
                Code.CONFLICT,
                f"the record {key!r} has revision {found}, and {revision} was expected: "
                "somebody else has changed it",
            )
    return (CONFIGURED, config.put(command.puts))


def changes(state: State, query: q.GetConfiguration) -> q.Configuration:
    """Raises `IndexDamaged`."""
    config = state.index.config
    revision, floor = config.revision, config.floor
    since = query.since
    # Who reads everything in pages is below the floor too, until the last page.
    whole = since > revision or since == 0 or (since < floor != query.floor)
    found: list[tuple[str, int, bytes | None]] = []
    budget = PAGE_BYTES_MAX
    told = since = 0 if whole else since
    for record in config.since(since):
        if budget <= 0 and record[1] != told:
            return q.Configuration(told, tuple(found), whole, floor, True)
        key, told, value = record
        found.append(record)
        budget -= len(key) + len(value or b"") + 16
    return q.Configuration(revision, tuple(found), whole, floor, False)
