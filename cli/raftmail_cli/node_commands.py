"""`init`, `node`, `up` and `down`: making a cluster and running its nodes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from raftmail.admin.api.codec import encode
from raftmail.admin.api.status import ClusterStatus
from raftmail.mail.program_addresses import (
    HIGHEST_PEER_PORT,
    PROTOCOLS,
    ProgramAddresses,
)
from raftmail_cli import clusterfile
from raftmail_cli.cluster_commands import render_status
from raftmail_cli.clusterfile import NodeEntry
from raftmail_cli.errors import REFUSED, CliError
from raftmail_cli.output import Format, make_console, show
from raftmail_cli.settings import Settings, output_option, pass_settings

if TYPE_CHECKING:
    from raftmail.node.bootstrap import NodePlan
    from raftmail_cli.processes import Process

# `raftmail.node`, which loads the cryptography of certificates, is imported where it is needed:
# every other command starts in half the time.

_FOLDER = click.Path(file_okay=False, path_type=Path)
SHARDS = 16
"""Of `init`. Enough that five nodes have several each to lead; a replica that rests costs next to
nothing."""

REPLICAS = 3
_READY_S = 60.0
_TWO_NODES = (
    "two nodes bear the loss of none: a majority of two is both, so they stop twice as "
    "often as one. Take three, or one"
)
_WATCH_S = 0.2


class _Named(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "name=host:port"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, address = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not NAME=HOST:PORT", param, ctx)
        return name, address


_workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 8),
    help="Processes over which each node spreads its work, one for each core  [default: 1]",
)


def _programs_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each protocol of mail programs."""
    for protocol in reversed(PROTOCOLS):
        text = f"Where mail programs speak {protocol.upper()} to a node; NAME= for nowhere."
        command = click.option(f"--{protocol}", type=_Named(), multiple=True, help=text)(command)
    return command


@click.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option(
    "--node",
    "nodes",
    type=_Named(),
    multiple=True,
    required=True,
    help="A node and the address at which the others reach it. Repeat for each; the first is this "
    "machine's.",
)
@click.option(
    "--client",
    "clients",
    type=_Named(),
    multiple=True,
    help="Where a node listens for clients  [default: the peer's port + 1]",
)
@click.option(
    "--lmtp",
    "lmtps",
    type=_Named(),
    multiple=True,
    help="Where a node takes mail; NAME= for nowhere  [default: the peer's port + 2]",
)
@_programs_options
@click.option(
    "--shards",
    type=click.IntRange(1, 4096),
    default=SHARDS,
    show_default=True,
    help="Parts that mail is kept in; what a larger cluster spreads over its nodes.",
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 15),
    default=REPLICAS,
    show_default=True,
    help="Replicas of each part.",
)
@_workers_option
@output_option
@pass_settings
def init(
    settings: Settings,
    /,
    folder: Path,
    nodes: tuple[tuple[str, str], ...],
    clients: tuple[tuple[str, str], ...],
    lmtps: tuple[tuple[str, str], ...],
    shards: int,
    replicas: int,
    workers: int | None,
    **programs: tuple[tuple[str, str], ...],
) -> None:
    """Make the configuration, keys and certificates of a new cluster.

    DIR gets a folder for each node, ready to be copied to its machine. Mail programs come to the
    ports after the peer's: IMAP to + 6 and + 7 (TLS), POP3 to + 8 and + 9 (TLS), ManageSieve to
    + 5. With more than three workers these are + 10 and those after it.
    """
    from raftmail.node.bootstrap import BootstrapError, check_plans, make_cluster

    try:
        given = {name: dict(values) for name, values in programs.items()}
        plans = _plans(nodes, {"client": dict(clients), "lmtp": dict(lmtps), **given}, workers or 1)
        check_plans(plans)
        if len(plans) == 2:
            raise CliError(_TWO_NODES)
        made = make_cluster(folder, plans, shards=shards, replicas=replicas, now=datetime.now(UTC))
    except (BootstrapError, ValueError) as error:
        raise CliError(str(error)) from None
    clusterfile.save(
        folder / clusterfile.FILE,
        made.id,
        made.ca.relative_to(folder),
        made.token_file.relative_to(folder),
        [NodeEntry(plan.name, plan.peer, plan.client, plan.lmtp, plan.programs) for plan in plans],
    )
    value = {
        "cluster": made.id,
        "folder": folder,
        "cluster_file": folder / clusterfile.FILE,
        "nodes": [
            {"name": plan.name, "folder": home, "peer": plan.peer, "client": plan.client}
            for plan, home in zip(plans, made.folders, strict=True)
        ],
    }
    show(settings.output, value, lambda console: console.print(_next_steps(folder, plans)))


def _plans(
    nodes: Sequence[tuple[str, str]], given: Mapping[str, Mapping[str, str]], workers: int
) -> list[NodePlan]:
    """The nodes with their addresses. `given` has those that were named, by option and node."""
    from raftmail.mail.endpoint import dialled, join_address
    from raftmail.node.bootstrap import NodePlan

    names = [name for name, _ in nodes]
    for option, addresses in given.items():
        for name in addresses:
            if name not in names:
                raise click.UsageError(f"--{option} {name}=...: there is no --node {name}=...")
    plans = []
    for name, peer in nodes:
        try:
            host, port = dialled(peer)
        except ValueError as error:
            raise ValueError(f"--node {name}=...: {error}") from None
        if port > HIGHEST_PEER_PORT:
            raise ValueError(
                f"node {name}: take a port up to {HIGHEST_PEER_PORT}; those after it are for "
                f"clients and mail"
            )
        usual = ProgramAddresses.beside(host, port, workers).by_protocol
        chosen = {p: given[p].get(name, address) for p, address in usual.items()}
        plans.append(
            NodePlan(
                name,
                peer,
                given["client"].get(name, join_address(host, port + 1)),
                given["lmtp"].get(name, join_address(host, port + 2)),
                workers=workers,
                programs=ProgramAddresses.read(chosen),
            )
        )
    return plans


def _next_steps(folder: Path, plans: Sequence[NodePlan]) -> str:
    from raftmail.mail.endpoint import split_address

    q = shlex.quote
    first, *others = plans
    lines = [f"Made a cluster of {len(plans)} nodes in {folder}.", "", "Next:"]
    for plan in others:
        host, _ = split_address(plan.peer)
        lines.append(
            f"  copy {q(str(folder / plan.name))} to {host}, and run there: raftmail node "
            f"{plan.name}"
        )
    lines += [
        f"  run here:    raftmail node {q(str(folder / first.name))}",
        f"  then:        raftmail --cluster {q(str(folder / clusterfile.FILE))} status",
        "",
        f"Every node's folder holds secrets (tls/). Keep {folder / 'ca' / 'ca.key'} where no node "
        f"is:"
        " who has it can make nodes.",
    ]
    return "\n".join(lines)


class _NodeGroup(click.Group):
    """`node DIR` runs a node; `node join` is the only other thing that can be said."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [word for word in args if not word.startswith("-")]
        if words and words[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_NodeGroup, subcommand_metavar="[--replace] DIR | join TOKEN DIR")
def node() -> None:
    """Run a node, or have this machine become one.

    `node DIR` runs the node of a folder in the foreground. SIGTERM and SIGINT stop it in order.
    With --replace, a node whose data disk was lost: it gets new replicas from the others.
    """


@node.command("run", hidden=True)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Its data was lost: get new replicas.")
def run_node(folder: Path, replace: bool) -> None:
    """Run one node in the foreground, from the folder that `raftmail init` or `node join` made."""
    from raftmail.node.main import run  # the whole of a node; no other command needs it

    sys.exit(run(folder, replace=replace))


@node.command("join")
@click.argument("token")
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--no-run", is_flag=True, help="Make the folder and join; do not run the node.")
@click.option(
    "--deadline", "deadline_s", type=click.FloatRange(1, 600), default=60.0, show_default=True
)
@output_option
@pass_settings
def join_node(
    settings: Settings, token: str, folder: Path, no_run: bool, deadline_s: float
) -> None:
    """Have this machine become a node, with a token of `raftmail member invite`, and run it.

    What was broken off is taken up again by the same command.
    """
    from raftmail_cli.join_node import join_node

    made = join_node(settings, token, folder, deadline_s)
    if no_run:
        show(
            settings.output,
            made,
            lambda console: console.print(
                f"{made.name} has joined. Run it with `raftmail node {shlex.quote(str(folder))}`."
            ),
        )
        return
    from raftmail.node.main import run

    sys.exit(run(folder))


@click.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--nodes", type=click.IntRange(1, 15), help="How many  [default: 3]")
@click.option(
    "--base-port",
    type=click.IntRange(1, 65533),
    help="Node i has this port + 10 i for peers, + 1 for clients, + 2 for LMTP, and + 6 and those "
    "after it for mail programs  [default: 9000]",
)
@click.option(
    "--shards", type=click.IntRange(1, 4096), help="Parts that mail is kept in  [default: 1]"
)
@_workers_option
@output_option
@pass_settings
def up(
    settings: Settings,
    folder: Path,
    nodes: int | None,
    base_port: int | None,
    shards: int | None,
    workers: int | None,
) -> None:
    """Run a cluster on this machine, each node a process of its own, until Ctrl-C or SIGTERM.

    Makes DIR when it is not there, and uses it again later. DIR/cluster.json tells where the nodes
    are; DIR/NAME/node.log is what each says. A node that ends is not started again.
    """
    from raftmail_cli import processes

    cluster = processes.loopback_cluster(folder, nodes, base_port, shards, workers)
    if len(cluster.nodes) == 2:
        click.echo(f"raftmail: {_TWO_NODES}", err=True)
    running = _running_already(folder)
    if running:
        raise CliError(
            f"{folder}: nodes {', '.join(running)} run already; `raftmail down {folder}` ends them"
        )
    processes.check_ports(cluster.nodes)
    asked = _Asked()
    started: list[Process] = []
    try:
        for entry in cluster.nodes:
            started.append(processes.Process.start(entry))
        path = processes.write_file(folder, cluster, started)
        opener = settings.opener
        status = processes.wait_until_ready(opener, cluster, started, _READY_S, lambda: asked.stop)
        if status is not None:
            _say_ready(settings.output, path, status)
            _watch(started, asked)
    finally:
        for name in processes.stop(started):
            click.echo(f"raftmail: node {name} did not stop in time and was killed", err=True)


def _say_ready(output: Format, path: Path, status: ClusterStatus) -> None:
    if output is Format.JSON:
        show(output, {"cluster_file": path, "status": encode(status)}, lambda _: None)
    else:
        render_status(make_console(), status, everything=False)
        cluster = shlex.quote(str(path))
        click.echo(f"\nAll nodes are ready. Try: raftmail --cluster {cluster} status")
        for line in _program_lines(cluster, clusterfile.load(path)):
            click.echo(line)
    sys.stdout.flush()


def _program_lines(cluster: str, file: clusterfile.ClusterFile) -> Iterator[str]:
    """How a user reads mail over a node's port for mail programs."""
    address = next((one.programs.imap for one in file.nodes if one.programs.imap), "")
    if address:
        yield f"Mail programs read mail at imap://{address}, after:"
        yield f"  raftmail --cluster {cluster} user add anna@example.org"
        ca = shlex.quote(str(file.ca))
        yield f"  curl --ssl-reqd --cacert {ca} -u anna@example.org 'imap://{address}/INBOX?ALL'"


def _running_already(folder: Path) -> list[str]:
    from raftmail_cli import processes

    path = folder / clusterfile.FILE
    if not path.exists():
        return []
    return [entry.name for entry in clusterfile.load(path).nodes if processes.is_node(entry)]


class _Asked:
    """SIGINT and SIGTERM set `stop`, instead of ending this process somewhere between the start of
    a node and the note that it was started. So does SIGHUP when the terminal is gone from which it
    was started; without one, it sets `reload`. SIGUSR1 and SIGUSR2 do nothing."""

    def __init__(self) -> None:
        self.stop = False
        self.reload = False
        self._has_terminal = os.isatty(sys.stdin.fileno()) if sys.stdin else False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not self._has_terminal:
            self.reload = True
        else:
            self.stop = True


def _watch(started: Sequence[Process], asked: _Asked) -> None:
    """A line for each node that ends, until asked to stop."""
    left = list(started)
    while not asked.stop:
        if asked.reload:
            asked.reload = False
            for process in left:
                process.reload()
        for process in [one for one in left if not one.running]:
            left.remove(process)
            again = shlex.join(process.entry.start)
            click.echo(f"node {process.entry.name} {process.ending()}; start it again: {again}")
            if not left:
                click.echo("No node that was started here runs any more; Ctrl-C ends this command.")
            sys.stdout.flush()
        time.sleep(_WATCH_S)


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
def down(folder: Path) -> None:
    """End the nodes that `raftmail up` or `demo --keep` left running on this machine."""
    from raftmail_cli import processes

    ended = processes.stop_by_file(clusterfile.load(folder))
    if ended:
        click.echo(f"Ended {', '.join(ended)}.")
    else:
        click.echo("None of its nodes was running.")


@click.command()
@click.option("--keep", is_flag=True, help="Leave the cluster running, to look at it.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to make it; stays afterwards  [default: a temporary folder, removed afterwards]",
)
@click.option(
    "--messages", "count", type=click.IntRange(20, 100_000), default=600, show_default=True
)
@output_option
@pass_settings
def demo(settings: Settings, keep: bool, folder: Path | None, count: int) -> None:
    """Run a cluster of three, kill its master while mail arrives, and count what is lost.

    Takes about half a minute. Exit status 0 when nothing is lost or doubled and the replicas are
    equal.
    """
    from raftmail_cli.demo import run_demo

    if not run_demo(settings.opener, settings.output, folder, count, keep):
        sys.exit(REFUSED)


COMMANDS = [init, node, up, down, demo]
