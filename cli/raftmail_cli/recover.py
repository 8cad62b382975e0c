"""`recover`: a shard that lost its majority for good."""

from __future__ import annotations

import click
from rich.console import Console

from raftmail.admin.api.calls import LookAtRecovery, RecoverShard
from raftmail.admin.api.codec import encode
from raftmail.admin.api.members import RecoveryLook
from raftmail_cli.asking import confirm, yes_option
from raftmail_cli.errors import CliError
from raftmail_cli.member_commands import asker
from raftmail_cli.output import make_console, make_table, show
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.watching import admin


@click.command()
@click.argument("shard", type=click.IntRange(0))
@click.option(
    "--keep", type=click.IntRange(1), help="The replica to go on with  [default: the best]"
)
@yes_option
@common_options
@pass_settings
def recover(settings: Settings, shard: int, keep: int | None, yes: bool) -> None:
    """Put SHARD on its feet with the best replica that is left, when a majority of them is lost for
    good.

    What only the lost replicas had acknowledged is lost. They must never come back with their old
    disks. Refused while a majority can be reached.
    """
    look = admin(settings, LookAtRecovery(shard))
    if look.kept is None:
        raise CliError(
            f"shard {shard}: none of its voters can be reached; there is nothing to recover it from"
        )
    console = make_console(stderr=True)
    _tell(console, look, keep or look.kept)
    if look.has_majority and len(look.voters) > 1:
        raise CliError(
            f"shard {shard} has a majority: {len(look.left)} of {len(look.voters)} voters can be "
            "reached; it elects a master "
            "by itself"
        )
    nodes = {row.has.id: row.node for row in look.left}
    kept = keep or look.kept
    if kept not in nodes:
        raise CliError(f"shard {shard}: replica {kept} is none of those that are left")
    if look.silent:
        raise CliError(
            f"shard {shard}: {', '.join(look.silent)} can be reached, but does not tell what it "
            "has; ask again in a moment"
        )
    question = f"Go on with replica {kept} on {nodes[kept]} alone, and give up the others for ever?"
    confirm(question, yes=yes)
    answer = admin(settings, RecoverShard(shard, kept, asker()))
    text = (
        f"Shard {shard} goes on with {nodes[kept]}; the cluster makes new replicas from it. "
        f"`raftmail shard show {shard}` tells how far that is."
    )
    show(settings.output, encode(answer), lambda out: out.print(text))


def _tell(console: Console, look: RecoveryLook, kept: int) -> None:
    left = sorted(look.left, key=lambda row: row.has.newness, reverse=True)
    rows = [
        (
            row.has.id,
            row.node,
            row.has.last_term,
            row.has.last_index,
            row.has.applied_index,
            "lacks bodies" if row.has.lacks_bodies else "whole",
            _fate(look, row.has.id == kept),
        )
        for row in left
    ]
    others = [
        (
            row.has.id,
            row.node,
            row.has.last_term,
            row.has.last_index,
            row.has.applied_index,
            "learner" if row.learner else "no member any more",
            "-",
        )
        for row in look.others
    ]
    lost = [(id, node, "?", "?", "?", look.why_lost[id], "LOST") for id, node in look.lost.items()]
    console.print(
        make_table(
            ("replica", "node", "last term", "last entry", "applied", "", "what becomes of it"),
            [*rows, *others, *lost],
            right=("replica", "last term", "last entry", "applied"),
        )
    )
    mine = next((row for row in left if row.has.id == kept), None)
    for row in left:
        if mine is not None and row.has.newness > mine.has.newness:
            console.print(
                f"\nReplica {row.has.id} on {row.node} has entries that replica {kept} has not: "
                "what is in them is lost."
            )
    if lost:
        names = ", ".join(f"{id} on {node}" for id, node in look.lost.items())
        console.print(
            f"\nLOST: replicas {names}. What they acknowledged after the last entry of the one "
            f"that goes on is lost with them;"
        )
        console.print(
            "nobody can tell whether there was any. They must never come back with their old disks."
        )


def _fate(look: RecoveryLook, is_kept: bool) -> str:
    if look.has_majority:
        return "stays"
    return "goes on" if is_kept else "given up, and made anew"


COMMANDS = [recover]
