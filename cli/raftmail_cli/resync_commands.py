"""`verify` and `resync`: proving that replicas are equal, and bringing back those that are not
whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import click
from rich.console import Console

from raftmail.admin.api.calls import (
    GetDeepVerification,
    GetStatus,
    StartDeepVerification,
    StartResync,
    Verify,
)
from raftmail.admin.api.codec import encode
from raftmail.admin.api.status import ClusterStatus, LostBody, ResyncProgress
from raftmail.admin.api.verification import ReplicaDifference, Verification
from raftmail_cli.errors import REFUSED
from raftmail_cli.output import Format, duration, make_table, printable, show, size
from raftmail_cli.session import CliSession
from raftmail_cli.settings import Settings, common_options, pass_settings

_DIGEST_CHARS = 16
_WATCH_S = 1.0
_POLL_S = 0.5


@click.command()
@click.option(
    "--deep",
    is_flag=True,
    help="Also read every record and every body, and say exactly what differs.",
)
@common_options
@pass_settings
def verify(settings: Settings, deep: bool) -> None:
    """Prove that all replicas of every shard are equal.

    Each replica gives the digest of everything it holds at one place in the log. Exit status 1 when
    one differs, does not answer, or (with --deep) has a body that cannot be read.
    """
    with settings.connect() as session:
        answer = _deep(session, settings.output) if deep else session.admin(Verify())
    show(settings.output, encode(answer), lambda console: render_verify(console, answer))
    if not answer.equal:
        sys.exit(REFUSED)


def _deep(session: CliSession, output: Format) -> Verification:
    """Begin a deep verification, and wait for its end."""
    session.admin(StartDeepVerification())
    told = ""
    while True:
        answer = session.admin(GetDeepVerification())
        if answer.result is not None:
            return answer.result
        if answer.progress != told and output is Format.HUMAN and sys.stderr.isatty():
            told = answer.progress
            click.echo(f"{told} ...", err=True)
        time.sleep(_POLL_S)


def render_verify(console: Console, answer: Verification) -> None:
    """A line for each replica, what differs, and the verdict."""
    rows = []
    for shard in answer.shards:
        for replica in shard.replicas:
            bad = len(replica.bad_bodies or ())
            if replica.digest is None:
                verdict = replica.error or "no digest"
            elif replica.digest != shard.common:
                verdict = "DIFFERS"
            else:
                verdict = f"{bad} BODIES CANNOT BE READ" if bad else "equal"
            shown = (replica.digest or "-")[:_DIGEST_CHARS]
            rows.append((shard.shard, shard.index, replica.node, shown, verdict))
    columns = ("shard", "at index", "node", "digest", "verdict")
    console.print(make_table(columns, rows, right=("shard", "at index")))
    console.print()
    for shard in answer.shards:
        for found in shard.differences or ():
            console.print(printable(_difference(shard.shard, found)), soft_wrap=True)
    if answer.equal:
        console.print("All replicas are equal.")
    else:
        console.print(
            "NOT all replicas could be shown to be equal. One that differs from a majority is "
            "resynced by itself; "
            "`raftmail resync start NODE --full` does it now."
        )


def _difference(shard: int, found: ReplicaDifference) -> str:
    where = f"{found.user}/{found.mailbox}" if found.mailbox else ""
    uid = f" UID {found.uid}" if found.uid else ""
    return (
        f"shard {shard}: {where}{uid}: {found.what} is {found.here or 'missing'} on {found.node}, "
        f"{found.there or 'missing'} on {found.other}"
    )


@click.group()
def resync() -> None:
    """Replicas that are brought back from others."""


@resync.command("start")
@click.argument("node")
@click.option("--shard", type=click.IntRange(0), help="One shard  [default: all that NODE holds]")
@click.option("--user", help="The mailboxes of this user.")
@click.option("--mailbox", help="With --user: this mailbox alone.")
@click.option("--full", is_flag=True, help="Compare every record, whatever the digests say.")
@common_options
@pass_settings
def start(
    settings: Settings,
    node: str,
    shard: int | None,
    user: str | None,
    mailbox: str | None,
    full: bool,
) -> None:
    """Have the replicas on NODE compared with others, and what differs fetched.

    NODE goes on; a shard that it leads is handed over first. `raftmail resync status` shows how far
    it is.
    """
    if mailbox is not None and user is None:
        raise click.UsageError("--mailbox needs --user")
    if user is not None and shard is not None:
        raise click.UsageError("a user's shard is known: leave --shard away")
    call = StartResync(node, shard, user or "", mailbox or "", full)
    with settings.connect() as session:
        answer = session.admin(call)
    shards = ", ".join(str(one.shard) for one in answer.started)
    show(
        settings.output,
        encode(answer),
        lambda console: console.print(
            f"Ordered on {node}, shard {shards}. Follow it: raftmail resync status --watch"
        ),
    )


@resync.command("status")
@click.option("--watch", is_flag=True, help="Show it every second, until all replicas are whole.")
@common_options
@pass_settings
def status(settings: Settings, watch: bool) -> None:
    """Show which replicas are not whole, and how far their resyncs are.

    Exit status 0 when all that answer are whole, 1 otherwise.
    """
    with settings.connect() as session:
        rows = list(resync_rows(session.admin(GetStatus())))
        while watch and rows:
            show(settings.output, rows, partial(_render, rows))
            sys.stdout.flush()
            time.sleep(_WATCH_S)
            rows = list(resync_rows(session.admin(GetStatus())))
    show(settings.output, rows, partial(_render, rows))
    if any(row.node_is_up for row in rows):
        sys.exit(REFUSED)


@dataclass(frozen=True, slots=True)
class ResyncRow:
    """A replica that is not whole, or cannot be asked; what it does not tell is None."""

    shard: int
    node: str
    node_is_up: bool
    state: str
    missing_bodies: int | None
    missing_bytes: int | None
    lost: tuple[LostBody, ...]
    resync: ResyncProgress | None


def resync_rows(answer: ClusterStatus) -> Iterator[ResyncRow]:
    """Of a cluster's status: replicas that are not whole, or cannot be asked."""
    for shard in answer.shards:
        for row in shard.replicas:
            replica = row.opened
            if replica is not None and (replica.whole and not replica.lost_bodies):
                continue
            if replica is None and row.is_reachable:
                continue
            yield ResyncRow(
                shard.shard,
                row.node,
                row.is_reachable,
                row.state,
                None if replica is None else replica.missing_bodies,
                None if replica is None else replica.missing_bytes,
                () if replica is None else replica.lost,
                None if replica is None else replica.resync,
            )


def _render(rows: list[ResyncRow], console: Console) -> None:
    if not rows:
        console.print("All replicas are whole.")
        return
    columns = (
        "shard",
        "node",
        "state",
        "phase",
        "from",
        "mailboxes",
        "messages",
        "bodies left",
        "left",
        "rate",
        "eta",
        "note",
    )
    console.print(
        make_table(
            columns,
            [_row(row) for row in rows],
            right=("shard", "bodies left", "left", "rate", "eta"),
        )
    )
    for row in rows:
        for lost in row.lost:
            console.print(
                printable(
                    f"lost: {lost.user}/{lost.mailbox} UID {lost.uid}: no replica has its body "
                    f"{lost.body}"
                ),
                soft_wrap=True,
            )


def _row(row: ResyncRow) -> tuple[object, ...]:
    resync = row.resync
    return (
        row.shard,
        row.node,
        row.state,
        resync.phase if resync else "-",
        resync.peer if resync else "-",
        _part(resync.mailboxes, resync.mailboxes_total) if resync else "-",
        _part(resync.messages, resync.messages_total) if resync else "-",
        row.missing_bodies if row.missing_bodies is not None else "-",
        size(row.missing_bytes),
        f"{size(resync.rate_bytes_s)}/s" if resync and resync.rate_bytes_s else "-",
        duration(resync.eta_s if resync else None),
        resync.error or "" if resync else "",
    )


def _part(done: int, total: int) -> str:
    return f"{done}/{total}" if total else "-"


COMMANDS = [verify, resync]
