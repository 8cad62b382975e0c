"""`top`: the cluster as it is now, again and again, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from raftmail.admin.api.calls import GetStatus
from raftmail.admin.api.status import OK, UNREACHABLE, ClusterStatus, MemberStatus, ShardStatus
from raftmail_cli.errors import TryLater
from raftmail_cli.output import Format, make_console, make_table, plural, printable, show, size
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.troubles import Trouble, troubles_of

_TROUBLES_MAX = 5
_HEAD_LINES = 8


@dataclass(slots=True)
class Rates:
    """Commands and entries a second, from two looks at the counters."""

    before: dict[str, tuple[float, int]] = field(default_factory=dict)

    def of(self, name: str, count: int, now: float) -> float:
        """How much a counter rose a second since it was last looked at; 0 when it began anew."""
        then, old = self.before.get(name, (now, count))
        self.before[name] = (now, count)
        return max(0.0, (count - old) / (now - then)) if now > then else 0.0


@click.command()
@click.option("--interval", type=click.FloatRange(0.2, 60), default=1.0, show_default=True)
@click.option("--once", is_flag=True, help="Look twice, print once, and end.")
@common_options
@pass_settings
def top(settings: Settings, interval: float, once: bool) -> None:
    """Watch nodes and shards: who leads, how much is written, who lags. Ctrl-C ends it."""
    rates = Rates()
    console = make_console()
    if once or settings.output is Format.JSON or not console.is_terminal:
        with settings.connect() as session:
            look(session.admin(GetStatus()), rates, time.monotonic())
            time.sleep(interval)
            seen = look(session.admin(GetStatus()), rates, time.monotonic())
        show(settings.output, seen, lambda c: c.print(picture(seen, c.height)))
        return
    _watch(settings, console, rates, interval)


def _watch(settings: Settings, console: Console, rates: Rates, interval: float) -> None:
    with Live(Text("asking …"), console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                with settings.connect() as session:
                    while True:
                        seen = look(session.admin(GetStatus()), rates, time.monotonic())
                        live.update(picture(seen, console.height), refresh=True)
                        time.sleep(interval)
            except TryLater as error:
                live.update(Text(str(error), style="bold red"), refresh=True)
                time.sleep(interval)


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node, with what it leads."""

    node: str
    up: bool
    masters: int
    replicas: int
    lag: int
    writes_s: float
    disk_free_bytes: int | None


@dataclass(frozen=True, slots=True)
class ShardLine:
    """A shard, with what is written to it; `states` are those of replicas that are not as they
    should be."""

    shard: int
    master: str | None
    writes_s: float
    sync_ms: float | None
    lag: int
    states: tuple[str, ...]
    replicas: int
    unreachable: int


@dataclass(frozen=True, slots=True)
class TopView:
    """What is shown of a status: the busiest shards first, before them those with troubles."""

    cluster: str
    users: int | None
    troubles: list[Trouble]
    nodes: list[NodeLine]
    shards: list[ShardLine]


def look(status: ClusterStatus, rates: Rates, now: float) -> TopView:
    """What is shown of a status."""
    writes = {
        (shard.shard, row.node): rates.of(f"{shard.shard} {row.node}", row.opened.requests, now)
        for shard in status.shards
        for row in shard.replicas
        if row.opened is not None
    }
    shards = [_shard_line(shard, writes) for shard in status.shards]
    shards.sort(
        key=lambda line: (
            line.master is not None,
            not (line.states or line.unreachable),
            -line.writes_s,
            line.shard,
        )
    )
    return TopView(
        status.cluster,
        status.users,
        troubles_of(status),
        [_node_line(node, status.shards, writes) for node in status.nodes],
        shards,
    )


def _shard_line(shard: ShardStatus, writes: Mapping[tuple[int, str], float]) -> ShardLine:
    leading = next((row.opened for row in shard.replicas if row.node == shard.master), None)
    states = [row.state for row in shard.replicas]
    return ShardLine(
        shard.shard,
        shard.master,
        round(writes.get((shard.shard, shard.master or ""), 0.0), 1),
        None if leading is None else leading.sync_ms,
        shard.lag,
        tuple(sorted({*states} - {OK, UNREACHABLE})),
        len(states),
        states.count(UNREACHABLE),
    )


def _node_line(
    node: MemberStatus,
    shards: Sequence[ShardStatus],
    writes: Mapping[tuple[int, str], float],
) -> NodeLine:
    led = [shard.shard for shard in shards if shard.master == node.name]
    rows = [row for shard in shards for row in shard.replicas if row.node == node.name]
    return NodeLine(
        node.name,
        node.up,
        len(led),
        len(rows),
        max((row.lag or 0 for row in rows), default=0),
        round(sum((writes.get((shard, node.name), 0.0) for shard in led), 0.0), 1),
        None if node.report is None else node.report.disk_free_bytes,
    )


def _state_of(shard: ShardLine) -> str:
    states = list(shard.states)
    if shard.unreachable:
        states.append(f"{shard.unreachable} of {plural(shard.replicas, 'replica')} unreachable")
    return ", ".join(states) or "ok"


def picture(seen: TopView, lines: int) -> Group:
    """It on a screen of so many lines."""
    writes = sum(node.writes_s for node in seen.nodes)
    up = sum(node.up for node in seen.nodes)
    head = f"{up} of {len(seen.nodes)} nodes up, {len(seen.shards)} shards, {writes:.0f} writes/s"
    parts: list[object] = [Text(head, style="bold")]
    parts += [
        Text(f"! {printable(one.text)}", style="bold red") for one in seen.troubles[:_TROUBLES_MAX]
    ]
    room = max(6, lines - _HEAD_LINES - len(parts))
    nodes = seen.nodes[: max(3, room // 2)]
    parts.append(
        make_table(
            ("node", "state", "masters", "replicas", "lag", "writes/s", "disk free"),
            [
                (
                    n.node,
                    "up" if n.up else "DOWN",
                    n.masters,
                    n.replicas,
                    n.lag,
                    n.writes_s,
                    size(n.disk_free_bytes),
                )
                for n in nodes
            ],
            right=("masters", "replicas", "lag", "writes/s", "disk free"),
        )
    )
    shards = seen.shards[: max(3, room - len(nodes))]
    parts.append(Text())
    parts.append(
        make_table(
            ("shard", "master", "writes/s", "sync ms", "lag", "state"),
            [
                (
                    s.shard,
                    s.master or "NONE",
                    s.writes_s,
                    "-" if s.sync_ms is None else f"{s.sync_ms:.2f}",
                    s.lag,
                    _state_of(s),
                )
                for s in shards
            ],
            right=("shard", "writes/s", "sync ms", "lag"),
        )
    )
    if len(shards) < len(seen.shards):
        parts.append(Text(f"and {len(seen.shards) - len(shards)} shards more"))
    return Group(*parts)  # type: ignore[arg-type]


COMMANDS = [top]
