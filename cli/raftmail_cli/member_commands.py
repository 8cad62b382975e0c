"""`member`: which nodes a cluster has, how others come, and how they go."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from raftmail.admin.api.calls import (
    CordonMember,
    DrainMember,
    GetMember,
    InviteMember,
    ListInvitations,
    ListMembers,
    RemoveMember,
    UncordonMember,
    UndrainMember,
    WithdrawInvitation,
)
from raftmail.admin.api.codec import encode
from raftmail.admin.api.members import (
    ACTIVE,
    DRAINING,
    REMOVED,
    VOTER,
    Invitations,
    MemberDetails,
    MemberList,
    MemberRow,
)
from raftmail.mail.program_addresses import HIGHEST_PEER_PORT, PROTOCOLS, ProgramAddresses
from raftmail_cli import clusterfile
from raftmail_cli.asking import confirm, yes_option
from raftmail_cli.clusterfile import NodeEntry
from raftmail_cli.errors import CliError
from raftmail_cli.output import duration, make_table, plural, printable, show
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.watching import admin, watch

if TYPE_CHECKING:
    from raftmail.node.bootstrap import NodePlan

_DAY_S = 86_400


def asker() -> str:
    """Who asks for a change: it is kept with what was asked."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return ""


def _programs_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """An option for each protocol of mail programs."""
    for protocol in reversed(PROTOCOLS):
        text = f'Where mail programs speak {protocol.upper()} to it; "" for nowhere.'
        command = click.option(f"--{protocol}", help=text)(command)
    return command


@click.group()
def member() -> None:
    """Nodes: invite, drain, remove and replace them."""


@member.command("invite")
@click.argument("node", metavar="NAME=HOST:PORT")
@click.option("--client", help="Where it listens for clients  [default: the port + 1]")
@click.option("--lmtp", help='Where it takes mail; "" for nowhere  [default: the port + 2]')
@_programs_options
@click.option("--zone", default="", help="What fails together: a data centre, a rack.")
@click.option("--host", default="", help="The machine below the zone, if it has several nodes.")
@click.option("--label", "labels", multiple=True, help="For rules that choose nodes. Repeat.")
@click.option(
    "--capacity",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="Its share, in comparison to the others.",
)
@click.option(
    "--hours",
    type=click.FloatRange(0.01, 720),
    default=24.0,
    show_default=True,
    help="How long the token is good.",
)
@click.option(
    "--ca-folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where ca.pem and ca.key are  [default: the folder that `init` made]",
)
@common_options
@pass_settings
def invite(
    settings: Settings,
    /,
    node: str,
    client: str | None,
    lmtp: str | None,
    zone: str,
    host: str,
    labels: tuple[str, ...],
    capacity: int,
    hours: float,
    ca_folder: Path | None,
    **programs: str | None,
) -> None:
    """Invite a new node. Prints a token; `raftmail node join TOKEN DIR` uses it, once, on the new
    machine.

    Needs the cluster's authority (ca/ca.key), which no node has.
    """
    from raftmail.mail.endpoint import dialled, join_address
    from raftmail.node.bootstrap import BootstrapError, NodePlan, check_plans

    name, equals, peer = node.partition("=")
    if not equals:
        raise click.UsageError(f"{node!r} is not NAME=HOST:PORT")
    try:
        base, port = dialled(peer)
        if port > HIGHEST_PEER_PORT:
            raise ValueError(
                f"take a port up to {HIGHEST_PEER_PORT}; those after it are for clients and mail"
            )
        usual = ProgramAddresses.beside(base, port, workers=1).by_protocol
        given = {kind: address for kind, address in programs.items() if address is not None}
        plan = NodePlan(
            name,
            peer,
            join_address(base, port + 1) if client is None else client,
            join_address(base, port + 2) if lmtp is None else lmtp,
            programs=ProgramAddresses.read(usual | given),
        )
        check_plans([plan])
    except (BootstrapError, ValueError) as error:
        raise CliError(str(error)) from None
    place = {
        "zone": zone,
        "host": host,
        "labels": ",".join(labels),
        "capacity": str(capacity),
    }
    file = settings.cluster_file()
    _check_addresses(file, plan)
    _check_reach(file, plan)
    expires_s = int(time.time() + hours * 3600)
    token = _invite(settings, file, ca_folder or file.ca.parent, plan, place, expires_s)
    entry = NodeEntry(name, peer, plan.client, plan.lmtp, plan.programs)
    others = [one for one in file.nodes if one.name != name]
    clusterfile.rewrite(settings.cluster_path(), file, [*others, entry])
    value = {"name": name, "peer": peer, "expires_s": expires_s, "token": token}
    show(settings.output, value, lambda console: _tell_token(console, plan, token, hours))


def _check_addresses(file: clusterfile.ClusterFile, plan: NodePlan) -> None:
    """Whether no other node listens where this one is to. Raises `CliError`. (The root knows only
    the addresses between nodes of those with which the cluster began.)"""
    from raftmail.mail.endpoint import same

    for other in file.nodes:
        taken = {other.peer: "for nodes", other.client: "for clients", other.lmtp: "for mail"}
        taken |= dict.fromkeys(other.programs.served.values(), "for mail programs")
        known = {same(address): what for address, what in taken.items() if address}
        for address in plan.addresses:
            if other.name != plan.name and same(address) in known:
                raise CliError(
                    f"the address {address} is that of node {other.name} already "
                    f"({known[same(address)]})"
                )


def _check_reach(file: clusterfile.ClusterFile, plan: NodePlan) -> None:
    """Whether the others can reach the new node, as far as the addresses tell. Raises
    `CliError`."""
    from raftmail.mail.endpoint import is_loopback_host, split_address

    there = [one for one in file.nodes if one.name != plan.name]
    inside = [one for one in there if is_loopback_host(split_address(one.peer)[0])]
    alone = is_loopback_host(split_address(plan.peer)[0])
    if alone and len(inside) < len(there):
        other = next(one for one in there if one not in inside)
        raise CliError(
            f"{plan.peer} is reached from its own machine alone, and node {other.name} is at "
            f"{other.peer}; give an address that all "
            "the others can reach"
        )
    if not alone and inside:
        click.echo(
            f"raftmail: node {inside[0].name} is at {inside[0].peer}, where only its own machine "
            f"reaches it: {plan.name} can join only "
            "on that machine",
            err=True,
        )


@member.command("withdraw")
@click.argument("name")
@common_options
@pass_settings
def withdraw(settings: Settings, name: str) -> None:
    """Take back the invitation of a node that has not joined yet: its token is of no use any
    more."""
    with settings.connect() as session:
        found = [
            one
            for one in session.admin(ListInvitations()).invitations
            if one.name == name and one.state == "open"
        ]
        if not found:
            raise CliError(f"there is no open invitation for a node {name}")
        for one in found:
            session.admin(WithdrawInvitation(one.id))
    path = settings.cluster_path()
    if path.exists():
        file = settings.cluster_file()
        clusterfile.rewrite(path, file, [one for one in file.nodes if one.name != name])
    text = f"The invitation of {name} is withdrawn."
    show(settings.output, {"name": name}, lambda console: console.print(printable(text)))


def _invite(
    settings: Settings,
    file: clusterfile.ClusterFile,
    ca_folder: Path,
    plan: NodePlan,
    place: dict[str, str],
    expires_s: int,
) -> str:
    import base64

    from raftmail.admin.invitation import BadInvitation, Bundle, Token, issue_for

    try:
        ca, pair = issue_for(ca_folder, file.cluster, plan.name, plan.hosts, datetime.now(UTC))
    except BadInvitation as error:
        raise CliError(str(error)) from None
    with settings.connect() as session:
        known = session.admin(ListMembers())
        there = [n for n in known.nodes if n.state != REMOVED]
        names = {n.name for n in there}
        addresses = tuple((n.client, True) for n in file.nodes if n.client and n.name in names)
        token = Token.new(addresses, ca)
        bundle = Bundle(
            file.cluster,
            known.shards,
            known.replicas,
            plan.name,
            plan.peer,
            plan.client,
            plan.lmtp,
            {n.name: n.peer for n in there if "." not in n.name},
            ca.decode(),
            pair.certificate.decode(),
            pair.key.decode(),
            file.token_file.read_text(encoding="ascii").strip(),
            place,
            plan.programs.by_protocol,
        )
        sealed = base64.b64encode(token.seal(bundle)).decode()
        session.admin(InviteMember(token.invite, plan.name, plan.peer, expires_s, sealed))
    return token.encode()


def _tell_token(console: Console, plan: NodePlan, token: str, hours: float) -> None:
    console.print(
        f"Node {plan.name} is invited at {plan.peer}, for {duration(hours * 3600)}. On its "
        f"machine, run"
    )
    console.print()
    console.out(f"  raftmail node join {token} {plan.name}")
    console.print()
    console.print("The token is a secret until it is used: who has it can be that node.")


@member.command("list")
@common_options
@pass_settings
def list_members(settings: Settings) -> None:
    """Show the nodes of the cluster, and invitations that are open."""
    with settings.connect() as session:
        members = session.admin(ListMembers())
        invited = session.admin(ListInvitations())
    value = encode(members) | encode(invited)
    show(settings.output, value, lambda console: _render_members(console, members, invited))


def _render_members(console: Console, members: MemberList, invited: Invitations) -> None:
    rows = []
    for node in members.nodes:
        if node.state == REMOVED:
            continue
        counts = ((node.joining, "joining"), (node.leaving, "leaving"))
        moving = [f"{count} {what}" for count, what in counts if count]
        where = "/".join(filter(None, (node.zone, node.host)))
        rows.append(
            (
                node.name,
                f"{node.state}, cordoned" if node.cordoned else node.state,
                node.replicas,
                ", ".join(moving) or "-",
                node.capacity,
                where or "-",
                ",".join(node.labels) or "-",
                node.peer,
            )
        )
    columns = ("node", "state", "replicas", "moving", "capacity", "zone/host", "labels", "address")
    console.print(make_table(columns, rows, right=("replicas", "capacity")))
    gone = [node.name for node in members.nodes if node.state == REMOVED]
    if gone:
        console.print(f"\nRemoved: {', '.join(gone)}.")
    waiting = [one for one in invited.invitations if one.state == "open"]
    for one in waiting:
        left = duration(max(0.0, one.expires_s - time.time()))
        console.print(f"\nInvited: {one.name} at {one.peer}, for {left} more ({one.id}).")


@member.command("show")
@click.argument("name")
@common_options
@pass_settings
def show_member(settings: Settings, name: str) -> None:
    """Show a node: what it holds, and what is being done with it."""
    answer = admin(settings, GetMember(name))
    show(settings.output, encode(answer), lambda console: _render_member(console, answer))


def _render_member(console: Console, answer: MemberDetails) -> None:
    shown = ("name", "state", "peer", "client", "lmtp", "zone", "host", "capacity")
    rows: list[tuple[str, object]] = [(key, getattr(answer, key) or "-") for key in shown]
    rows.append(("labels", ",".join(answer.labels) or "-"))
    rows.append(("replicas", answer.replicas))
    rows.append(("leads", ", ".join(map(str, answer.leads)) or "-"))
    rows.append(("cordoned", "yes" if answer.cordoned else "no"))
    console.print(make_table(("", "value"), rows))
    moving = [row for row in answer.held if row.state != VOTER]
    if moving:
        console.print()
        cells = [(row.shard, row.id, row.state) for row in moving]
        console.print(make_table(("shard", "replica", "state"), cells))
    for text in answer.waits_for[:10]:
        console.print(f"waits for {text}")
    for one in answer.operations:
        began = duration(max(0.0, time.time() - one.began_s))
        by = f" by {one.by}" if one.by else ""
        console.print(f"\n{one.kind}{by}, {began} ago: {one.state}, {one.left} left")


@member.command("drain")
@click.argument("name")
@click.option(
    "--wait", is_flag=True, help="Watch until it is empty; Ctrl-C ends the watching only."
)
@common_options
@pass_settings
def drain(settings: Settings, name: str, wait: bool) -> None:
    """Empty a node: its masters go to others, then its replicas are made elsewhere and taken away.

    It goes on without this command; run it again, or `member show`, to look how far it is. `member
    undrain` takes it back.
    """
    answer: MemberRow = _drain(settings, name, again=wait)
    if wait:
        answer = watch(settings, GetMember(name), _held, f"draining {name}")
    show(
        settings.output, encode(answer), lambda console: console.print(_drained(answer, wait=wait))
    )


def _drain(settings: Settings, name: str, *, again: bool) -> MemberRow:
    with settings.connect() as session:
        if again and (found := session.admin(GetMember(name))).state == DRAINING:
            return found
        return session.admin(DrainMember(name, asker()))


def _held(answer: MemberDetails) -> int:
    if answer.state == ACTIVE:
        raise CliError(f"{answer.name} is not being drained any more: somebody took it back")
    return answer.replicas


def _drained(answer: MemberRow, *, wait: bool) -> str:
    name = answer.name
    if wait or not answer.replicas:
        return f"{name} is empty. `raftmail member remove {name}` takes it out of the cluster."
    return (
        f"{name} is being drained, {plural(answer.replicas, 'replica is', 'replicas are')} left. "
        f"`raftmail member drain {name} --wait` watches it."
    )


@member.command("undrain")
@click.argument("name")
@common_options
@pass_settings
def undrain(settings: Settings, name: str) -> None:
    """Keep a node after all. What has left it stays where it is."""
    answer = admin(settings, UndrainMember(name))
    show(settings.output, encode(answer), lambda console: console.print(f"{name} stays."))


@member.command("cordon")
@click.argument("name")
@common_options
@pass_settings
def cordon(settings: Settings, name: str) -> None:
    """Give a node no masters and no new replicas, before maintenance. What it leads goes to others
    at once; its replicas stay.

    It stays so, also over restarts, until `member uncordon`. It leads only what no other node can.
    """
    answer = admin(settings, CordonMember(name))
    led = answer.leads
    text = (
        f"{name} is cordoned: it gets no masters and no new replicas until `raftmail member "
        f"uncordon {name}`."
    )
    if led:
        text += (
            f" It hands over what it leads: {plural(len(led), 'shard')}. `raftmail member show "
            f"{name}` tells what is left."
        )
    show(settings.output, encode(answer), lambda console: console.print(printable(text)))


@member.command("uncordon")
@click.argument("name")
@common_options
@pass_settings
def uncordon(settings: Settings, name: str) -> None:
    """Give a node masters and replicas again."""
    answer = admin(settings, UncordonMember(name))
    show(
        settings.output,
        encode(answer),
        lambda console: console.print(f"{name} gets masters again."),
    )


@member.command("remove")
@click.argument("name")
@click.option("--force", is_flag=True, help="It is dead and will not come back.")
@yes_option
@common_options
@pass_settings
def remove(settings: Settings, name: str, force: bool, yes: bool) -> None:
    """Take an empty node out of the cluster for ever; drain it first.

    With --force, a dead one: its replicas are made anew from the others. What this puts at risk is
    shown first.
    """
    if force and not yes:
        _tell_risk(settings, name)
    confirm(f"Remove {name} for ever? Its name is not used again.", yes=yes)
    answer = admin(settings, RemoveMember(name, asker(), force))
    _drop_entry(settings, name)
    show(settings.output, encode(answer), lambda console: console.print(f"{name} is removed."))


def _tell_risk(settings: Settings, name: str) -> None:
    answer = admin(settings, GetMember(name, risk=True))
    click.echo(
        f"{name} holds {plural(answer.replicas, 'replica')}, made anew from the others.",
        err=True,
    )
    for line in answer.at_risk:
        click.echo(f"AT RISK: {line}", err=True)


def _drop_entry(settings: Settings, name: str) -> None:
    """Take a removed node out of cluster.json, if that is where the cluster was found."""
    try:
        file = settings.cluster_file()
    except CliError:
        return
    left = [entry for entry in file.nodes if entry.name != name]
    if len(left) != len(file.nodes):
        clusterfile.rewrite(settings.cluster_path(), file, left)


@member.command("replace")
@click.argument("name")
@common_options
@pass_settings
def replace(settings: Settings, name: str) -> None:
    """Say how a node whose disk was lost comes back. Nothing is done from here: the node does it
    itself."""
    answer = admin(settings, GetMember(name))
    text = (
        f"On the machine of {name}, with its folder as it is and its data folder empty or moved "
        f"away, run\n\n"
        f"  raftmail node --replace DIR\n\n"
        f"It gets {plural(answer.replicas, 'new replica')} from the others. "
        f"`raftmail member show {name}` tells how far it is. When the folder is lost too, remove "
        "the node "
        f"(`raftmail member remove {name} --force`) and invite another in its place."
    )
    show(settings.output, encode(answer), lambda console: console.print(text))


COMMANDS = [member]
