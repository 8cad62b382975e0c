"""`status`, `transfer` and `verify`: looking after a cluster."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from raftmail_cli.errors import REFUSED
from raftmail_cli.output import duration, make_table, show, size
from raftmail_cli.session import JSON
from raftmail_cli.settings import Settings, common_options, pass_settings

_DIGEST_CHARS = 16


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
            if state not in ("ok", "unreachable"):
                found.append(f"shard {shard['shard']} on node {replica['node']}: {state}")
    return found


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


@click.command()
@common_options
@pass_settings
def verify(settings: Settings) -> None:
    """Prove that all replicas of every shard are equal.

    Each replica gives the digest of everything it holds at one place in the log. Exit status 1 when
    one differs, or does not answer.
    """
    with settings.connect() as session:
        answer = session.admin("verify", {})
    show(settings.output, answer, lambda console: render_verify(console, answer))
    if not answer["equal"]:
        sys.exit(REFUSED)


def render_verify(console: Console, answer: JSON) -> None:
    """A line for each replica, and the verdict."""
    rows = []
    for shard in answer["shards"]:
        digests = [replica.get("digest") for replica in shard["replicas"]]
        common = max(set(digests) - {None}, key=digests.count, default=None)
        for replica in shard["replicas"]:
            digest = replica.get("digest")
            if digest is None:
                verdict = replica.get("error") or "no digest"
            else:
                verdict = "equal" if digest == common else "DIFFERS"
            shown = (digest or "-")[:_DIGEST_CHARS]
            rows.append((shard["shard"], shard["index"], replica["node"], shown, verdict))
    console.print(
        make_table(
            ("shard", "at index", "node", "digest", "verdict"), rows, right=("shard", "at index")
        )
    )
    console.print()
    if answer["equal"]:
        console.print("All replicas are equal.")
    else:
        console.print(
            "NOT all replicas could be shown to be equal. Where one differs, stop its node and run "
            "`raftmail fsck` on its folder."
        )


COMMANDS = [status, transfer, verify]
