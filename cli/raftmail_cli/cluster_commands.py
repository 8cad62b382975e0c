"""`status` and `transfer`: looking after a cluster."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import click
from rich.console import Console

from raftmail.admin.api.calls import GetStatus, TransferMaster
from raftmail.admin.api.codec import encode
from raftmail.admin.api.members import MasterPlaced
from raftmail.admin.api.status import (
    OK,
    ClusterStatus,
    MemberStatus,
    ReplicaRow,
    ShardStatus,
    WorkReport,
)
from raftmail_cli.output import duration, make_table, plural, printable, show, size
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.troubles import Trouble, exit_code, troubles_of

ROWS_MAX = 24
"""With more nodes and replicas than this, `status` shows what wants looking at."""
NODES_SHOWN_MAX = 16
WRONG_SHOWN_MAX = 10
TROUBLES_SHOWN_MAX = 6
LAG_MAX = 1000


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also what is as it should be.")
@click.option(
    "--check",
    is_flag=True,
    help="Print what is wrong and what to do, and tell it by the exit code.",
)
@common_options
@pass_settings
def status(settings: Settings, everything: bool, check: bool) -> None:
    """Show the nodes, who leads each shard, and how far the replicas are.

    Of a large cluster, what fits on a screen: troubles, and shards that are not as they should be.

    With --check, exit codes are: 0 all is well, 1 something is wrong and all shards serve, 69 a
    shard has no master, 75 no node answers.
    """
    with settings.connect() as session:
        answer = session.admin(GetStatus())
    troubles = troubles_of(answer)
    show(
        settings.output,
        {**encode(answer), "troubles": troubles},
        lambda console: (
            _render_check(console, answer, troubles)
            if check
            else render_status(console, answer, everything=everything)
        ),
    )
    if check:
        sys.exit(exit_code(troubles))


def _render_check(console: Console, answer: ClusterStatus, troubles: list[Trouble]) -> None:
    if not troubles:
        nodes, shards = len(answer.nodes), len(answer.shards)
        console.print(f"OK: {plural(nodes, 'node')} up, {plural(shards, 'shard')} with a master.")
    for trouble in troubles:
        word = "WARNING" if trouble.serving else "CRITICAL"
        text = f"{word}: {printable(trouble.text)}. To do: {trouble.advice}."
        console.print(text, soft_wrap=True)


_REPLICA_COLUMNS = (
    *("shard", "node", "role", "term", "commit", "applied"),
    *("lag", "log", "index", "bodies", "deliveries", "state"),
)


def render_status(console: Console, answer: ClusterStatus, *, everything: bool = True) -> None:
    """A line for each node and each replica, after what is wrong; without `everything`, of a
    large cluster those that want looking at."""
    nodes, shards, users = answer.nodes, answer.shards, answer.users
    up = sum(node.up for node in nodes)
    led = sum(shard.master is not None for shard in shards)
    console.print(f"Cluster {answer.cluster}, asked node {answer.asked}")
    console.print(
        f"Nodes up: {up} of {len(nodes)}.  Shards with a master: {led} of {len(shards)}."
        f"  Users: {'unknown' if users is None else users}."
    )
    if shards and not led:
        text = "NO SHARD HAS A MASTER: mail can be neither read nor saved."
        console.print(f"! {text}", style="bold red")
    troubles = troubles_of(answer)
    shown = troubles if everything else troubles[:TROUBLES_SHOWN_MAX]
    for trouble in shown:
        console.print(f"! {printable(trouble.text)}", style="bold red", soft_wrap=True)
    if len(shown) < len(troubles):
        console.print(f"! and {len(troubles) - len(shown)} more", style="bold red")
    rows = [(shard, replica) for shard in shards for replica in shard.replicas]
    if not everything and len(nodes) + len(rows) > ROWS_MAX:
        _render_large(console, nodes, rows)
        return
    console.print()
    console.print(
        make_table(
            ("node", "state", "peer", "version", "pid", "up for", "disk free"),
            [_node_row(node) for node in nodes],
            right=("pid", "up for", "disk free"),
        )
    )
    console.print()
    console.print(
        make_table(
            _REPLICA_COLUMNS,
            [_replica_row(shard, replica) for shard, replica in rows],
            right=tuple(set(_REPLICA_COLUMNS) - {"node", "role", "state"}),
        )
    )
    _render_programs(console, nodes)
    _render_background(console, nodes)


def _render_background(console: Console, nodes: Sequence[MemberStatus]) -> None:
    """What nodes did of themselves with mail."""
    for node in nodes:
        report = None if node.report is None else node.report.background
        if report is None:
            continue
        if report.expunged is not None:
            console.print(f"{node.name}: {report.expunged} messages expunged by their age")
        if report.learning is not None:
            console.print(f"{node.name}: messages for learning: {_work(report.learning)}")
        if report.push is not None:
            console.print(f"{node.name}: events for web hooks: {_work(report.push)}")
        if report.rules is not None:
            rules = report.rules
            console.print(
                f"{node.name}: messages by rules: {rules.judged}, {rules.failed} whose rules "
                f"failed, {rules.redirects_kept} kept that were to be sent on, {rules.unanswered} "
                f"not answered"
            )


def _work(work: WorkReport) -> str:
    return (
        f"{work.waiting} waiting, {work.done} done, {work.failed} failed, {work.dropped} left out"
    )


def _render_programs(console: Console, nodes: Sequence[MemberStatus]) -> None:
    """Where mail programs come in."""
    served = {node.name: node.report.programs or {} for node in nodes if node.report is not None}
    protocols = list(dict.fromkeys(name for programs in served.values() for name in programs))
    if protocols:
        rows = [
            (node, *(programs.get(name, "-") for name in protocols))
            for node, programs in served.items()
            if programs
        ]
        console.print()
        console.print(make_table(("mail programs", *protocols), rows))


def _render_large(
    console: Console,
    nodes: Sequence[MemberStatus],
    rows: Sequence[tuple[ShardStatus, ReplicaRow]],
) -> None:
    """A line for each node, as long as they fit, and for the replicas that are not as they
    should be."""
    held = Counter(replica.node for _, replica in rows)
    led = Counter(shard.master for shard, replica in rows if shard.master == replica.node)
    lag: Counter[str] = Counter()
    for _, replica in rows:
        lag[replica.node] = max(lag[replica.node], replica.lag or 0)
    by_trouble = sorted(nodes, key=lambda node: (node.up, node.name))
    console.print()
    console.print(
        make_table(
            ("node", "state", "replicas", "masters", "most lag", "up for", "disk free"),
            [
                (
                    node.name,
                    _node_state(node, node.membership),
                    held[node.name],
                    led[node.name],
                    lag[node.name],
                    duration(node.report.uptime_s if node.report else None),
                    size(node.report.disk_free_bytes if node.report else None),
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
        if replica.state != OK or shard.master is None or (replica.lag or 0) > LAG_MAX
    ]
    if wrong:
        console.print()
        cells = [
            (
                shard.shard,
                replica.node,
                replica.opened.role if replica.opened else "-",
                "-" if replica.lag is None else replica.lag,
                replica.state,
            )
            for shard, replica in wrong[:WRONG_SHOWN_MAX]
        ]
        columns = ("shard", "node", "role", "lag", "state")
        console.print(make_table(columns, cells, right=("shard", "lag")))
    if len(wrong) > WRONG_SHOWN_MAX:
        console.print(f"and {len(wrong) - WRONG_SHOWN_MAX} replicas more")
    console.print("\n`raftmail status --all` shows every replica.")


def _node_state(node: MemberStatus, as_up: str = "up") -> str:
    state = as_up if node.up else "DOWN"
    return f"{state}, cordoned" if node.cordoned else state


def _node_row(node: MemberStatus) -> tuple[object, ...]:
    report = node.report
    if report is None:
        return (node.name, _node_state(node), node.peer, "-", "-", "-", "-")
    return (
        node.name,
        _node_state(node),
        node.peer,
        report.version,
        report.pid,
        duration(report.uptime_s),
        size(report.disk_free_bytes),
    )


def _replica_row(shard: ShardStatus, row: ReplicaRow) -> tuple[object, ...]:
    replica = row.opened
    if replica is None:
        return (shard.shard, row.node, *["-"] * (len(_REPLICA_COLUMNS) - 3), row.state)
    return (
        shard.shard,
        row.node,
        "MASTER" if shard.master == row.node else replica.role,
        replica.term,
        replica.commit_index,
        replica.applied_index,
        row.lag,
        size(replica.log_bytes),
        size(replica.index_bytes),
        size(replica.blob_bytes),
        replica.deliveries_known,
        replica.state,
    )


@click.command()
@click.argument("shard", type=click.IntRange(0))
@click.argument("node")
@common_options
@pass_settings
def transfer(settings: Settings, shard: int, node: str) -> None:
    """Have NODE lead SHARD, for example before the maintenance of the node that leads it now."""
    with settings.connect() as session:
        answer = session.admin(TransferMaster(shard, node))
    show(
        settings.output,
        encode(answer),
        lambda console: console.print(_transferred(answer)),
    )


def _transferred(answer: MasterPlaced) -> str:
    text = f"Shard {answer.shard} is led by {answer.master}."
    if answer.hold_s:
        text += (
            f" For {duration(answer.hold_s)} the cluster leaves it there; `raftmail member cordon` "
            "keeps masters away from a node "
            "for longer."
        )
    return text


COMMANDS = [status, transfer]
