"""`status` and `transfer`: looking after a cluster."""

from __future__ import annotations

import click
from rich.console import Console

from raftmail_cli.output import duration, make_table, show, size
from raftmail_cli.session import JSON
from raftmail_cli.settings import Settings, common_options, pass_settings


@click.command()
@common_options
@pass_settings
def status(settings: Settings) -> None:
    """Show the nodes, who leads each shard, and how far the replicas are."""
    with settings.connect() as session:
        answer = session.admin("status", {})
    show(settings.output, answer, lambda console: render_status(console, answer))


def render_status(console: Console, answer: JSON) -> None:
    """A summary, the nodes, and the replicas of every shard."""
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
    for trouble in _troubles(answer):
        console.print(f"! {trouble}", style="bold red")
    console.print()
    console.print(
        make_table(
            ("node", "state", "peer", "version", "pid", "up for", "disk free"),
            [
                (
                    node["name"],
                    "up" if node["up"] else "DOWN",
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
            [_replica_row(shard, replica) for shard in shards for replica in shard["replicas"]],
            right=("shard", "term", "commit", "applied", "lag", "log", "index", "bodies"),
        )
    )


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


def _troubles(answer: JSON) -> list[str]:
    """What an operator should look at, in words."""
    found = [f"node {node['name']} is down" for node in answer["nodes"] if not node["up"]]
    for shard in answer["shards"]:
        if shard["master"] is None:
            found.append(
                f"shard {shard['shard']} has no master: its mail can be neither read nor saved"
            )
        for replica in shard["replicas"]:
            state = replica.get("state", "ok")
            where = f"shard {shard['shard']} on node {replica['node']}"
            if state not in ("ok", "unreachable"):
                found.append(f"{where}: {state}{_progress(replica)}")
            if replica.get("lost_bodies"):
                found.append(
                    f"{where}: {replica['lost_bodies']} bodies are lost, no replica has them (raftmail resync status)"
                )
            found += [f"{where}: {text}" for text in replica.get("files", [])]
            if replica.get("scrub", {}).get("late"):
                found.append(f"{where}: the scrub is late; raise scrub.rate_bytes_s")
        verified = shard.get("verified")
        if verified and verified["differing"]:
            found.append(
                f"shard {shard['shard']}: the replica on {', '.join(verified['differing'])} differs from the others "
                f"(at entry {verified['index']})"
            )
    return found


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
        lambda console: console.print(f"Shard {shard} is led by {answer.get('master', node)}."),
    )


COMMANDS = [status, transfer]
