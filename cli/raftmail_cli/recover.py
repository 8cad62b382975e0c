"""`recover`: a shard that lost its majority for good."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from raftmail_cli.errors import REFUSED, CliError
from raftmail_cli.member_commands import asker
from raftmail_cli.output import make_console, make_table, show
from raftmail_cli.session import JSON
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.watching import admin


@click.command()
@click.argument("shard", type=click.IntRange(0))
@click.option(
    "--keep", type=click.IntRange(1), help="The replica to go on with  [default: the best]"
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@common_options
@pass_settings
def recover(settings: Settings, shard: int, keep: int | None, yes: bool) -> None:
    """Put SHARD on its feet with the best replica that is left, when a majority of them is lost for good.

    What only the lost replicas had acknowledged is lost. They must never come back with their old disks. Refused while a majority
    can be reached.
    """
    look = admin(settings, "recover-look", {"shard": str(shard)})
    if look["kept"] is None:
        raise CliError(
            f"shard {shard}: none of its voters can be reached; there is nothing to recover it from"
        )
    console = make_console(stderr=True)
    _tell(console, look)
    if look["has_majority"] and len(look["voters"]) > 1:
        raise CliError(
            f"shard {shard} has a majority: {len(look['left'])} of {len(look['voters'])} voters can be reached; it elects a master "
            "by itself"
        )
    nodes = {row["id"]: row["node"] for row in look["left"]}
    kept = keep or look["kept"]
    if kept not in nodes:
        raise CliError(f"shard {shard}: replica {kept} is none of those that are left")
    question = f"Go on with replica {kept} on {nodes[kept]} alone, and give up the others for ever?"
    if not yes and not click.confirm(question, err=True):
        sys.exit(REFUSED)
    arguments = {"shard": str(shard), "kept": str(kept), "by": asker()}
    answer = admin(settings, "recover", arguments)
    text = (
        f"Shard {shard} goes on with {nodes[kept]}; the cluster makes new replicas from it. "
        f"`raftmail shard show {shard}` tells how far that is."
    )
    show(settings.output, answer, lambda out: out.print(text))


def _tell(console: Console, look: JSON) -> None:
    rows = [
        (
            row["id"],
            row["node"],
            row["last_term"],
            row["last_index"],
            "lacks bodies" if row["lacks_bodies"] else "whole",
        )
        for row in sorted(look["left"], key=lambda row: (-row["last_term"], -row["last_index"]))
    ]
    console.print(
        make_table(
            ("replica", "node", "last term", "last entry", ""),
            rows,
            right=("replica", "last term", "last entry"),
        )
    )
    lost = ", ".join(f"{id} on {node}" for id, node in look["lost"].items())
    if lost:
        console.print(
            f"\nLOST: replicas {lost}. What they acknowledged after the last entry above is lost with them;"
        )
        console.print(
            "nobody can tell whether there was any. They must never come back with their old disks."
        )


COMMANDS = [recover]
