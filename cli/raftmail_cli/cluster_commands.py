"""`status` and `transfer`: looking after a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import click
from rich.console import Console

from raftmail_cli.output import duration, make_table, show, size
from raftmail_cli.session import JSON
from raftmail_cli.settings import Settings, common_options, pass_settings

ROWS_MAX = 24
"""With more nodes and replicas than this, `status` shows what wants looking at."""
NODES_SHOWN_MAX = 16
WRONG_SHOWN_MAX = 10
TROUBLES_SHOWN_MAX = 6
LAG_MAX = 1000


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also what is as it should be.")
@common_options
@pass_settings
def status(settings: Settings, everything: bool) -> None:
    """Show the nodes, who leads each shard, and how far the replicas are.

    Of a large cluster, what fits on a screen: troubles, and shards that are not as they should be.
    """
    with settings.connect() as session:
        answer = session.admin("status", {})
    show(
        settings.output,
        answer,
        lambda console: render_status(console, answer, everything=everything),
    )


def render_status(console: Console, answer: JSON, *, everything: bool = True) -> None:
    """A line for each node and each replica, after what is wrong; without `everything`, of a large cluster those that want looking at."""
    nodes = answer["nodes"]
    shards = answer["shards"]
    up = sum(bool(node["up"]) for node in nodes)
    led = sum(shard["master"] is not None for shard in shards)
    users = answer.get("users")
    console.print(f"Cluster {answer['cluster']}, asked node {answer['asked']}")
    console.print(
        f"Nodes up: {up} of {len(nodes)}.  Shards with a master: {led} of {len(shards)}."
        f"  Users: {'unknown' if users is None else users}."
    )
    troubles = troubles_of(answer)
    shown = troubles if everything else troubles[:TROUBLES_SHOWN_MAX]
    for trouble in shown:
        console.print(f"! {trouble}", style="bold red")
    if len(shown) < len(troubles):
        console.print(f"! and {len(troubles) - len(shown)} more", style="bold red")
    rows = [(shard, replica) for shard in shards for replica in shard["replicas"]]
    if not everything and len(nodes) + len(rows) > ROWS_MAX:
        _render_large(console, nodes, rows)
        return
    console.print()
    console.print(
        make_table(
            ("node", "state", "peer", "version", "pid", "up for", "disk free"),
            [
                (
                    node["name"],
                    _node_state(node),
                    node.get("peer", "-"),
                    node.get("version", "-"),
                    node.get("pid", "-"),
                    duration(node.get("uptime_s")),
                    size(node.get("disk_free_bytes")),
                )
                for node in nodes
            ],
            right=("pid", "up for", "disk free"),
        )
    )
    console.print()
    console.print(
        make_table(
            (
                "shard",
                "node",
                "role",
                "term",
                "commit",
                "applied",
                "lag",
                "log",
                "index",
                "bodies",
                "state",
            ),
            [_replica_row(shard, replica) for shard, replica in rows],
            right=("shard", "term", "commit", "applied", "lag", "log", "index", "bodies"),
        )
    )


def _render_large(console: Console, nodes: list[JSON], rows: list[tuple[JSON, JSON]]) -> None:
    """A line for each node, as long as they fit, and for the replicas that are not as they should be."""
    held = Counter(replica["node"] for _, replica in rows)
    led = Counter(shard["master"] for shard, replica in rows if shard["master"] == replica["node"])
    lag: Counter[str] = Counter()
    for _, replica in rows:
        lag[replica["node"]] = max(lag[replica["node"]], replica.get("lag", 0))
    by_trouble = sorted(nodes, key=lambda node: (node["up"], node["name"]))
    console.print()
    console.print(
        make_table(
            ("node", "state", "replicas", "masters", "most lag", "up for", "disk free"),
            [
                (
                    node["name"],
                    _node_state(node, node.get("membership", "up")),
                    held[node["name"]],
                    led[node["name"]],
                    lag[node["name"]],
                    duration(node.get("uptime_s")),
                    size(node.get("disk_free_bytes")),
                )
                for node in by_trouble[:NODES_SHOWN_MAX]
            ],
            right=("replicas", "masters", "most lag", "up for", "disk free"),
        )
    )
    if len(nodes) > NODES_SHOWN_MAX:
        console.print(f"and {len(nodes) - NODES_SHOWN_MAX} nodes more")
    wrong = [
        (shard, replica)
        for shard, replica in rows
        if replica.get("state") != "ok"
        or shard["master"] is None
        or replica.get("lag", 0) > LAG_MAX
    ]
    if wrong:
        console.print()
        cells = [
            (
                shard["shard"],
                replica["node"],
                replica.get("role", "-"),
                replica.get("lag", "-"),
                replica.get("state", "-"),
            )
            for shard, replica in wrong[:WRONG_SHOWN_MAX]
        ]
        columns = ("shard", "node", "role", "lag", "state")
        console.print(make_table(columns, cells, right=("shard", "lag")))
    if len(wrong) > WRONG_SHOWN_MAX:
        console.print(f"and {len(wrong) - WRONG_SHOWN_MAX} replicas more")
    console.print("\n`raftmail status --all` shows every replica.")


def _node_state(node: JSON, as_up: str = "up") -> str:
    state = as_up if node["up"] else "DOWN"
    return f"{state}, cordoned" if node.get("cordoned") else state


def _replica_row(shard: JSON, replica: JSON) -> tuple[object, ...]:
    role = replica.get("role", "-")
    return (
        shard["shard"],
        replica["node"],
        "MASTER" if shard["master"] == replica["node"] else role,
        replica.get("term", "-"),
        replica.get("commit_index", "-"),
        replica.get("applied_index", "-"),
        replica.get("lag", "-"),
        size(replica.get("log_bytes")),
        size(replica.get("index_bytes")),
        size(replica.get("blob_bytes")),
        replica.get("state", "-"),
    )


def troubles_of(answer: JSON) -> list[str]:
    """What an operator should look at, in words."""
    found = [f"node {node['name']} is down" for node in answer["nodes"] if not node["up"]]
    found += [
        f"{alarm['text']} (says {', '.join(alarm['nodes'])})" for alarm in answer.get("alarms", ())
    ]
    for shard in answer["shards"]:
        if shard["master"] is None:
            found.append(
                f"shard {shard['shard']} has no master: its mail can be neither read nor saved"
            )
        for replica in shard["replicas"]:
            state = replica.get("state", "ok")
            where = f"shard {shard['shard']} on node {replica['node']}"
            if state not in ("ok", "unreachable"):
                why = f": {replica['why']}" if replica.get("why") else ""
                found.append(f"{where}: {state}{why}{_progress(replica)}")
            if replica.get("lost_bodies"):
                found.append(
                    f"{where}: {replica['lost_bodies']} bodies are lost, no replica has them (raftmail resync status)"
                )
            found += [f"{where}: {text}" for text in replica.get("files", [])]
            found += [f"{where}: {text}" for text in _scrub_notes(replica.get("scrub", {}))]
        verified = shard.get("verified")
        if verified and verified["differing"]:
            found.append(
                f"shard {shard['shard']}: the replica on {', '.join(verified['differing'])} differs from the others "
                f"(at entry {verified['index']})"
            )
    return found


def _scrub_notes(scrub: JSON) -> Iterator[str]:
    rate, needed = scrub.get("rate_bytes_s", 0), scrub.get("needed_bytes_s", 0)
    if scrub.get("late"):
        yield "the scrub takes longer than scrub.period_s: this machine does not let it read as much"
    if 0 < rate < needed:
        yield (
            f"scrub.rate_bytes_s = {rate} is too low to read all within scrub.period_s: {needed} are needed, and taken"
        )


def _progress(replica: JSON) -> str:
    """How far it is on the way to being whole."""
    resync = replica.get("resync")
    text = ""
    if replica.get("missing_bodies"):
        text += f", {replica['missing_bodies']} bodies ({size(replica['missing_bytes'])}) to come"
    if resync and resync["phase"] not in ("idle", "waiting"):
        text += f", {resync['phase']} from {resync['peer']} at {size(resync['rate_bytes_s'])}/s"
    if resync and resync["error"]:
        text += f"; {resync['error']}"
    return text


@click.command()
@click.argument("shard", type=click.IntRange(0))
@click.argument("node")
@common_options
@pass_settings
def transfer(settings: Settings, shard: int, node: str) -> None:
    """Have NODE lead SHARD, for example before the maintenance of the node that leads it now."""
    with settings.connect() as session:
        answer = session.admin("transfer", {"shard": str(shard), "node": node})
    show(
        settings.output,
        answer,
        lambda console: console.print(_transferred(shard, answer)),
    )


def _transferred(shard: int, answer: JSON) -> str:
    text = f"Shard {shard} is led by {answer['master']}."
    if held_s := answer.get("hold_s"):
        text += f" For {duration(held_s)} the cluster leaves it there; `raftmail member cordon` keeps masters away from a node for longer."
    return text


COMMANDS = [status, transfer]
