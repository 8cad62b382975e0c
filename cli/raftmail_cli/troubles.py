"""What an operator should look at, of a cluster's status: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raftmail.admin.api.status import (
    OK,
    UNREACHABLE,
    ClusterStatus,
    ReplicaRow,
    ReplicaStatus,
    ScrubProgress,
    ShardStatus,
)
from raftmail_cli.errors import REFUSED, UNAVAILABLE
from raftmail_cli.output import plural, size


@dataclass(frozen=True, slots=True)
class Trouble:
    """`kind` is a word for programs; `serving` is False where mail can be neither read nor saved.
    `shard` and `node` are None where the trouble has none."""

    kind: str
    text: str
    advice: str
    serving: bool = True
    shard: int | None = None
    node: str | None = None


def troubles_of(answer: ClusterStatus) -> list[Trouble]:
    """All of them, those first that keep mail from being read or saved."""
    found = [*_of_nodes(answer)]
    for shard in answer.shards:
        found += _of_shard(shard)
    return sorted(found, key=lambda trouble: trouble.serving)


def exit_code(troubles: Sequence[Trouble]) -> int:
    """Of `status --check`: 0, 1 when something is wrong, 69 when shards do not serve."""
    if any(not trouble.serving for trouble in troubles):
        return UNAVAILABLE
    return REFUSED if troubles else 0


def listed(names: Sequence[str]) -> str:
    """`n1`, `n1 and n2`, `n1, n2 and n3`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _of_nodes(answer: ClusterStatus) -> Iterator[Trouble]:
    for node in answer.nodes:
        if not node.up:
            name = node.name
            advice = (
                "start it on its machine (`raftmail node DIR`), and look at its log; if it is "
                "gone for ever, "
                f"`raftmail member remove {name} --force`"
            )
            yield Trouble("node-down", f"node {name} is down", advice, node=name)
    for alarm in answer.alarms:
        text = f"{alarm.text} (says {', '.join(alarm.nodes)})"
        yield Trouble(
            "alarm", text, "do what it says, or what the log of the node that it names says"
        )


def _of_shard(shard: ShardStatus) -> Iterator[Trouble]:
    number = shard.shard
    if shard.master is None:
        yield _no_master(shard)
    for replica in shard.replicas:
        yield from _of_replica(number, replica)
    verified = shard.verified
    if verified and verified.differing:
        names = ", ".join(verified.differing)
        yield Trouble(
            "differs",
            f"shard {number}: the replica on {names} differs from the others (at entry "
            f"{verified.index})",
            "it is resynced by itself; `raftmail resync status` shows how far it is",
            shard=number,
        )


def _no_master(shard: ShardStatus) -> Trouble:
    number = shard.shard
    silent = [row.node for row in shard.replicas if not row.is_reachable]
    what = (
        "nothing of the cluster can be changed"
        if number == 0
        else "its mail can be neither read nor saved"
    )
    text = f"shard {number} has no master: {what}"
    if not silent:
        return Trouble(
            "no-master",
            text,
            "its replicas answer, and elect one: look again in a moment",
            False,
            number,
        )
    verb = "does" if len(silent) == 1 else "do"
    advice = (
        f"start {listed(silent)}; if a majority is lost for ever, `raftmail recover {number}`"
        if 2 * len(silent) >= len(shard.replicas)
        else f"the others elect one: look again in a moment; and start {listed(silent)}"
    )
    return Trouble(
        "no-master", f"{text}; {listed(silent)} {verb} not answer", advice, False, number
    )


_ADVICE = {
    "cannot be opened": "mend what the reason names; it is tried again by itself. Where the file "
    "is lost for good, stop the node and run "
    "`raftmail node --replace DIR`",
    "disk full": "make space on its disk",
    "disk slow": "find what keeps the disk busy, or replace it; `raftmail status` shows what its "
    "syncs take",
}
"""What to do about a replica in a state that does not end by itself."""


def _of_replica(number: int, row: ReplicaRow) -> Iterator[Trouble]:
    node, state, replica = row.node, row.state, row.opened
    where = f"shard {number} on node {node}"
    if state not in (OK, UNREACHABLE):
        why = f": {row.why}" if row.why else ""
        progress = _progress(replica) if replica else ""
        advice = _ADVICE.get(
            state, "it is mended by itself; `raftmail resync status` shows how far it is"
        )
        kind = state.replace(" ", "-")
        yield Trouble(kind, f"{where}: {state}{why}{progress}", advice, True, number, node)
    if replica is None:
        return
    if lost := replica.lost_bodies:
        text = (
            f"{where}: {plural(lost, 'body is', 'bodies are')} lost, no replica has "
            f"{'it' if lost == 1 else 'them'}"
        )
        advice = "`raftmail resync status` lists them; a backup of a node's disk may have them"
        yield Trouble("lost-bodies", text, advice, True, number, node)
    for text in replica.files:
        yield Trouble(
            "files", f"{where}: {text}", "see who touches the node's files", True, number, node
        )
    for text, advice in _scrub_notes(replica.scrub):
        yield Trouble("scrub", f"{where}: {text}", advice, True, number, node)


def _scrub_notes(scrub: ScrubProgress) -> Iterator[tuple[str, str]]:
    rate, needed = scrub.rate_bytes_s, scrub.needed_bytes_s
    if scrub.late:
        text = (
            "the scrub takes longer than scrub.period_s: this machine does not let it read as much"
        )
        yield text, "give scrub.period_s more time, or the node a faster disk"
    if 0 < rate < needed:
        text = (
            f"scrub.rate_bytes_s = {rate} is too low to read all within scrub.period_s: "
            f"{needed} are needed, and taken"
        )
        yield text, "set scrub.rate_bytes_s higher, or scrub.period_s longer"


def _progress(replica: ReplicaStatus) -> str:
    """How far it is on the way to being whole."""
    resync = replica.resync
    text = ""
    if missing := replica.missing_bodies:
        text += f", {plural(missing, 'body', 'bodies')} ({size(replica.missing_bytes)}) to come"
    if resync and resync.phase not in ("idle", "waiting"):
        text += f", {resync.phase} from {resync.peer} at {size(resync.rate_bytes_s)}/s"
    if resync and resync.error:
        text += f"; {resync.error}"
    return text
