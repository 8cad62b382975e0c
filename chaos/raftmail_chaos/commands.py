"""`raftmail chaos`: hurting a cluster of real processes, and seeing whether it keeps its
promises."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftmail_chaos.errors import ChaosError

if TYPE_CHECKING:
    from raftmail_chaos.report import ChaosReport
    from raftmail_chaos.runner import ChaosOptions
    from raftmail_chaos.view import RunView

# The rest of the package is imported where it is needed: no other command of `raftmail` needs it,
# and every node starts with this module.

PROFILES = (
    "kill-masters, kill-all, left-behind, pause, partition, bad-network, disk, members, everything"
)

_BROKEN = 1
_TERMINATED = 143


_output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["human", "json"]),
    default="human",
    show_default=True,
    help="How to print the result.",
)


@click.group()
def chaos() -> None:
    """Hurt a cluster of real processes, and see whether it keeps its promises."""


@chaos.command()
@click.option("--nodes", type=click.IntRange(3, 9), default=3, show_default=True)
@click.option("--minutes", type=click.FloatRange(0, 10_000, min_open=True), help="How long.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 600_000, min_open=True),
    help="How long, in seconds  [default: 60]",
)
@click.option(
    "--profile",
    "chosen",
    metavar="NAME,...",
    default="kill-masters",
    show_default=True,
    help=f"What to do to it, one or several: {PROFILES}.",
)
@click.option(
    "--kill-every",
    "kill_every_s",
    type=click.FloatRange(0.2, 3600),
    default=3.0,
    show_default=True,
    help="Seconds between kills of masters.",
)
@click.option(
    "--rate",
    type=click.FloatRange(1, 5000),
    default=60.0,
    show_default=True,
    help="Operations a second.",
)
@click.option(
    "--mass-mib",
    type=click.IntRange(0),
    help="MiB of messages of up to 40 MiB and for up to 50 recipients in the whole run, "
    "each counted for every recipient (eight at most) and try; "
    "0 is none  [default: 2 for each second, at most 4096]",
)
@click.option("--seed", type=click.IntRange(0), help="Repeat the choices of a run, not its timing.")
@click.option(
    "--dir",
    "folder",
    metavar="D",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything goes, new or empty  [default: a temporary folder]",
)
@click.option("--keep", is_flag=True, help="Keep data, logs and histories of a good run as well.")
@_output_option
def run(
    nodes: int,
    minutes: float | None,
    seconds: float | None,
    chosen: str,
    kill_every_s: float,
    rate: float,
    mass_mib: int | None,
    seed: int | None,
    folder: Path | None,
    keep: bool,
    output: str,
) -> None:
    """Run a cluster on this machine under load, hurt it, read everything back, and judge.

    Exit status 1 when a promise was broken, or nobody can tell; everything needed to look into it
    is then in D.
    """
    from raftmail_chaos import ground, profiles
    from raftmail_chaos.report import to_json, to_text
    from raftmail_chaos.runner import ChaosOptions

    if minutes is not None and seconds is not None:
        raise click.UsageError("--minutes and --seconds exclude each other")
    try:
        wanted = profiles.parse(chosen)
    except ValueError as error:
        raise click.UsageError(f"--profile: {error}") from None
    span_s = seconds if seconds is not None else 60 * minutes if minutes is not None else 60.0
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise click.ClickException(f"{folder}: is not empty; --dir names a new or empty folder")
    place = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="raftmail-chaos-"))
    on = ground.prepare(
        networks=any(profile.likes_networks for profile in wanted),
        disks=any(profile.likes_disks for profile in wanted),
    )
    options = ChaosOptions(
        nodes,
        span_s,
        wanted,
        profiles.pace_of(wanted, kill_every_s),
        rate,
        random.SystemRandom().randrange(1 << 31) if seed is None else seed,
        place,
        on,
        (min(4096, int(2 * span_s)) if mass_mib is None else mass_mib) << 20,
    )
    view = _view(output)
    try:
        report = _run(options, view)
    except BaseException as error:
        view.close()
        with contextlib.suppress(OSError):
            place.rmdir()  # when it did not come to a run
        if place.exists():
            _bring_home(place, keep=True)
            click.echo(f"The run did not end; what there is of it stays in {place}", err=True)
        if isinstance(error, ChaosError):
            raise click.ClickException(str(error)) from None
        raise
    view.close()
    click.echo(to_json(report) if output == "json" else to_text(report))
    _leave(report, place, named=folder is not None, keep=keep, quiet=output == "json")
    if not report.is_good:
        sys.exit(_BROKEN)


def _view(output: str) -> RunView:
    from rich.console import Console

    from raftmail_chaos.view import Lines, Screen, Silent

    if output == "json":
        return Silent()
    console = Console(soft_wrap=True)
    return Screen(console) if console.is_terminal else Lines(console)


def _run(options: ChaosOptions, view: RunView) -> ChaosReport:
    from raftmail_chaos.runner import ChaosRunner

    async def ended_by_sigterm_too() -> ChaosReport:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await ChaosRunner(options, view).run()

    try:
        return asyncio.run(ended_by_sigterm_too())
    except asyncio.CancelledError:
        sys.exit(_TERMINATED)


def _bring_home(place: Path, *, keep: bool) -> None:
    from raftmail_chaos.disks import bring_home

    try:
        bring_home(sorted(place.glob("nodes/*")), keep=keep)
    except (OSError, ChaosError) as error:
        click.echo(
            f"What is on the nodes' disks stays in {place}/nodes/*/disk.img: {error}", err=True
        )


def _leave(report: ChaosReport, place: Path, *, named: bool, keep: bool, quiet: bool) -> None:
    """Remove what a good run need not leave; say where the rest is."""
    from raftmail_chaos.runner import tidy

    _bring_home(place, keep=keep or not report.is_good)
    if report.is_good and not keep:
        if not named:
            shutil.rmtree(place, ignore_errors=True)
            return
        tidy(place)
    if not quiet:
        click.echo(f"\nReports: {place}/report.html, report.json, report.txt")
        if not report.is_good or keep:
            click.echo(
                f"Data, logs and histories: {place}; `raftmail chaos check {place}` judges them "
                f"again"
            )


@chaos.command()
@click.argument(
    "folder", metavar="D", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@_output_option
def check(folder: Path, output: str) -> None:
    """Judge the histories of a run again; D is its folder. Exit status 1 when a promise was
    broken."""
    from raftmail_chaos import judge as judging

    history = folder / "history"
    if not history.is_dir():
        raise click.ClickException(
            f"{folder}: has no history/; name the folder of a run that was kept"
        )
    try:
        verdict = judging.judge(history)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if output == "json":
        click.echo(judging.verdict_to_json(verdict))
    else:
        for finding in verdict.findings:
            click.echo(f"BROKEN {finding.rule} ({finding.user}): {finding.text}")
        click.echo(
            f"{verdict.operations} operations of {verdict.users} users, {len(verdict.findings)} "
            f"findings, "
            f"{len(verdict.undecided)} users and {verdict.passed_over} messages undecided"
        )
    if verdict.findings or verdict.undecided or verdict.passed_over:
        sys.exit(_BROKEN)
