"""`top`: the cluster as it is now, again and again, until Ctrl-C."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from raftmail_cli.errors import TryLater
from raftmail_cli.output import Format, make_console, make_table, plural, printable, show, size
from raftmail_cli.session import JSON
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.troubles import troubles_of

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
            look(session.admin("status", {}), rates, time.monotonic())
            time.sleep(interval)
            seen = look(session.admin("status", {}), rates, time.monotonic())
        show(settings.output, seen, lambda c: c.print(picture(seen, c.height)))
        return
    _watch(settings, console, rates, interval)


def _watch(settings: Settings, console: Console, rates: Rates, interval: float) -> None:
    with Live(Text("asking …"), console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                with settings.connect() as session:
                    while True:
                        seen = look(session.admin("status", {}), rates, time.monotonic())
                        live.update(picture(seen, console.height), refresh=True)
                        time.sleep(interval)
            except TryLater as error:
                live.update(Text(str(error), style="bold red"), refresh=True)
                time.sleep(interval)


def look(status: JSON, rates: Rates, now: float) -> JSON:
    """What is shown of a status: nodes with what they lead, shards with what is written, the
    busiest first."""
    nodes = {
        node["name"]: {
            "node": node["name"],
            "up": node["up"],
            "masters": 0,
            "replicas": 0,
            "lag": 0,
            "writes_s": 0.0,
            "disk_free_bytes": node.get("disk_free_bytes"),
        }
        for node in status["nodes"]
    }
    shards = []
    for shard in status["shards"]:
        row = {"shard": shard["shard"], "master": shard["master"], "writes_s": 0.0, "sync_ms": None}
        row["lag"] = max([r.get("lag", 0) for r in shard["replicas"]], default=0)
        states = [r.get("state", "-") for r in shard["replicas"]]
        row["states"] = sorted({*states} - {"ok", "unreachable"})
        row["replicas"], row["unreachable"] = len(states), states.count("unreachable")
        for replica in shard["replicas"]:
            node = nodes.get(replica["node"])
            name = f"{shard['shard']} {replica['node']}"
            writes = rates.of(name, replica.get("requests", 0), now)
            leads = replica["node"] == shard["master"]
            if leads:
                row |= {"writes_s": round(writes, 1), "sync_ms": replica.get("sync_ms")}
            if node is not None:
                node["replicas"] += 1
                node["masters"] += leads
                node["lag"] = max(node["lag"], replica.get("lag", 0))
                node["writes_s"] += writes if leads else 0.0
        shards.append(row)
    for node in nodes.values():
        node["writes_s"] = round(node["writes_s"], 1)
    shards.sort(
        key=lambda r: (
            r["master"] is not None,
            not (r["states"] or r["unreachable"]),
            -r["writes_s"],
            r["shard"],
        )
    )
    return {
        "cluster": status["cluster"],
        "users": status.get("users"),
        "troubles": troubles_of(status),
        "nodes": list(nodes.values()),
        "shards": shards,
    }


def _state_of(shard: JSON) -> str:
    states = list(shard["states"])
    if shard["unreachable"]:
        states.append(
            f"{shard['unreachable']} of {plural(shard['replicas'], 'replica')} unreachable"
        )
    return ", ".join(states) or "ok"


def picture(seen: JSON, lines: int) -> Group:
    """It on a screen of so many lines."""
    writes = sum(node["writes_s"] for node in seen["nodes"])
    up = sum(bool(node["up"]) for node in seen["nodes"])
    head = (
        f"{up} of {len(seen['nodes'])} nodes up, {len(seen['shards'])} shards, {writes:.0f} "
        f"writes/s"
    )
    parts: list[object] = [Text(head, style="bold")]
    parts += [
        Text(f"! {printable(one.text)}", style="bold red")
        for one in seen["troubles"][:_TROUBLES_MAX]
    ]
    room = max(6, lines - _HEAD_LINES - len(parts))
    nodes = seen["nodes"][: max(3, room // 2)]
    parts.append(
        make_table(
            ("node", "state", "masters", "replicas", "lag", "writes/s", "disk free"),
            [
                (
                    n["node"],
                    "up" if n["up"] else "DOWN",
                    n["masters"],
                    n["replicas"],
                    n["lag"],
                    n["writes_s"],
                    size(n["disk_free_bytes"]),
                )
                for n in nodes
            ],
            right=("masters", "replicas", "lag", "writes/s", "disk free"),
        )
    )
    shards = seen["shards"][: max(3, room - len(nodes))]
    parts.append(Text())
    parts.append(
        make_table(
            ("shard", "master", "writes/s", "sync ms", "lag", "state"),
            [
                (
                    s["shard"],
                    s["master"] or "NONE",
                    s["writes_s"],
                    "-" if s["sync_ms"] is None else f"{s['sync_ms']:.2f}",
                    s["lag"],
                    _state_of(s),
                )
                for s in shards
            ],
            right=("shard", "writes/s", "sync ms", "lag"),
        )
    )
    if len(shards) < len(seen["shards"]):
        parts.append(Text(f"and {len(seen['shards']) - len(shards)} shards more"))
    return Group(*parts)  # type: ignore[arg-type]


COMMANDS = [top]
