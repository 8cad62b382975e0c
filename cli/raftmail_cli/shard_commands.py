"""`shard` and `rebalance`: where replicas are, and moving them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from rich.console import Console

from raftmail.admin.api.calls import (
    GetShard,
    ListOperations,
    ListShards,
    MoveReplica,
    Rebalance,
    StopRebalance,
)
from raftmail.admin.api.codec import encode
from raftmail.admin.api.members import Moves, Operations, Shard, ShardDetails
from raftmail_cli.asking import confirm, yes_option
from raftmail_cli.errors import REFUSED
from raftmail_cli.member_commands import asker
from raftmail_cli.output import make_table, plural, show, size
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.watching import admin, watch

MOVES_SHOWN_MAX = 20


@click.group()
def shard() -> None:
    """Shards: where their replicas are, and moving them."""


@shard.command("list")
@common_options
@pass_settings
def list_shards(settings: Settings) -> None:
    """Show each shard's master, replicas and size."""
    answer = admin(settings, ListShards())
    show(settings.output, encode(answer), lambda console: _render(console, answer.shards))


@shard.command("show")
@click.argument("number", metavar="SHARD", type=click.IntRange(0))
@common_options
@pass_settings
def show_shard(settings: Settings, number: int) -> None:
    """Show one shard, with the ids of its replicas."""
    answer = admin(settings, GetShard(number))

    def render(console: Console) -> None:
        _render(console, [answer])
        console.print()
        rows = [(r.id, r.node, r.state) for r in answer.replicas]
        console.print(make_table(("replica", "node", "state"), rows, right=("replica",)))

    show(settings.output, encode(answer), render)


def _render(console: Console, shards: Sequence[Shard]) -> None:
    rows = []
    for one in shards:
        replicas = [r.node if r.state == "voter" else f"{r.node} ({r.state})" for r in one.replicas]
        master = one.master or "NONE"
        rows.append((one.shard, one.pool, master, size(one.bytes), ", ".join(replicas)))
    columns = ("shard", "pool", "master", "bodies", "replicas")
    console.print(make_table(columns, rows, right=("shard", "bodies")))


@shard.command("move")
@click.argument("number", metavar="SHARD", type=click.IntRange(0))
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "--wait", is_flag=True, help="Watch until it is there; Ctrl-C ends the watching only."
)
@yes_option
@common_options
@pass_settings
def move(settings: Settings, number: int, source: str, target: str, wait: bool, yes: bool) -> None:
    """Move a replica of SHARD from one node to another.

    The new one is filled and votes before the old one goes. To hand over the mastership alone, use
    `transfer`.
    """
    if not yes:
        replicas = admin(settings, GetShard(number)).replicas
        if len(replicas) == 1:
            confirm(f"Move the only replica of shard {number} off {source}?", yes=yes)
    answer: Shard = admin(settings, MoveReplica(number, source, target))
    if wait:
        title = f"moving shard {number} to {target}"
        answer = watch(settings, GetShard(number), _unsettled, title)
    text = (
        f"Shard {number} is on {', '.join(r.node for r in answer.replicas)}."
        if wait
        else f"Shard {number} moves from {source} to {target}. `raftmail shard show {number}` "
        f"tells how far it is."
    )
    show(settings.output, encode(answer), lambda console: console.print(text))


def _unsettled(answer: ShardDetails) -> int:
    return sum(r.state != "voter" for r in answer.replicas)


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be moved, and move nothing.")
@click.option(
    "--stop", is_flag=True, help="Begin no more moves; those that have begun are finished."
)
@click.option("--wait", is_flag=True, help="Watch until it is done; Ctrl-C ends the watching only.")
@common_options
@pass_settings
def rebalance(settings: Settings, dry_run: bool, stop: bool, wait: bool) -> None:
    """Move replicas from full nodes to empty ones, as few as it takes.

    Run it after nodes have joined. It goes on without this command; `rebalance --wait` watches it
    again.
    """
    if dry_run + stop + wait > 1:
        raise click.UsageError("one of --dry-run, --stop and --wait at a time")
    if stop:
        stopped = admin(settings, StopRebalance())
        show(
            settings.output,
            encode(stopped),
            lambda console: console.print("No more moves are begun."),
        )
        return
    if wait and _left(admin(settings, ListOperations())):
        done = watch(settings, ListOperations(), _left, "rebalancing")
        show(settings.output, encode(done), lambda console: console.print("Rebalanced."))
        return
    answer = admin(settings, Rebalance(asker(), dry_run))
    if wait:
        watch(settings, ListOperations(), _left, "rebalancing")
    show(settings.output, encode(answer), lambda console: _render_moves(console, answer, done=wait))


def _left(answer: Operations) -> int:
    return sum(o.left for o in answer.operations if o.kind == "rebalance")


def _render_moves(console: Console, answer: Moves, *, done: bool) -> None:
    moves = answer.moves
    if not moves:
        console.print("Replicas are spread evenly: there is nothing to move.")
        return
    rows = [
        (m.shard, m.source or "-", m.target or "-", size(m.bytes), m.why)
        for m in moves[:MOVES_SHOWN_MAX]
    ]
    console.print(
        make_table(("shard", "from", "to", "bodies", "why"), rows, right=("shard", "bodies"))
    )
    if len(moves) > MOVES_SHOWN_MAX:
        console.print(f"and {len(moves) - MOVES_SHOWN_MAX} more")
    one = len(moves) == 1
    begun = "is" if one else "are"
    verb = ("was" if one else "were") if done else begun if answer.begun else "would be"
    console.print(f"\n{plural(len(moves), 'replica')} with {size(answer.bytes)} {verb} moved.")
    if answer.begun and not done:
        console.print("`raftmail rebalance --wait` watches it, `--stop` begins no more.")


@click.command()
@common_options
@pass_settings
def operations(settings: Settings) -> None:
    """Show what operators have asked for, and which replicas come and go now. Exit status 1
    while something is under way."""
    answer = admin(settings, ListOperations())
    show(settings.output, encode(answer), lambda console: _render_operations(console, answer))
    if answer.moving or any(o.is_running for o in answer.operations):
        sys.exit(REFUSED)


def _render_operations(console: Console, answer: Operations) -> None:
    rows = [(o.kind, o.subject or "-", o.state, o.left, o.by or "-") for o in answer.operations]
    console.print(make_table(("operation", "of", "state", "left", "by"), rows, right=("left",)))
    moving = [(m.shard, m.id, m.node, m.state, m.waits_for or "-") for m in answer.moving]
    if moving:
        columns = ("shard", "replica", "node", "state", "waits for")
        console.print()
        console.print(make_table(columns, moving[:MOVES_SHOWN_MAX]))
        if len(moving) > MOVES_SHOWN_MAX:
            console.print(f"and {len(moving) - MOVES_SHOWN_MAX} more")


COMMANDS = [shard, rebalance, operations]
