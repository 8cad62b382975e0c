"""CONFIGURE, and what changed since: the root's records, of which the state machine knows little
but their keys and revisions (`cluster/records.py` knows what they mean).

The one that it looks into is a domain's rule: while that is being changed, no users of the domain
are made, for nodes could disagree on where their mail is (`cluster/rules.py`)."""

from __future__ import annotations

from raftmail.mail import queries as q
from raftmail.mail.codec_results import CONFIGURED
from raftmail.mail.commands import Configure
from raftmail.mail.names import quoted
from raftmail.mail.packing import Raw
from raftmail.mail.record_rules import object_of
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
                f"the record {quoted(key)} has revision {found}, and {revision} was expected: "
                "somebody else has changed it",
            )
    return (CONFIGURED, config.put(command.puts))


def check_new_user(state: State, address: str) -> None:
    """Raises `Refusal` when no user of the address's domain can be made at the moment."""
    domain = address.rpartition("@")[2]
    value = state.index.config.get(f"rule/{domain}")[1]
    if value is None:
        return
    try:
        now = object_of(value).get("state", "active")
    except ValueError:
        return  # of before such records were refused; no node can read it
    if now in ("pinning", "spreading"):
        raise Refusal(
            Code.CANNOT,
            f"the rule of {domain} is being changed ({now}), and no users are made until that is "
            "done; try again in a moment",
        )


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
