"""`verify` and `resync`: proving that replicas are equal, and bringing back those that are not
whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import click
from rich.console import Console

from raftmail_cli.errors import REFUSED
from raftmail_cli.output import Format, duration, make_table, printable, show, size
from raftmail_cli.session import JSON, CliSession
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
        answer = _deep(session, settings.output) if deep else session.admin("verify", {})
    show(settings.output, answer, lambda console: render_verify(console, answer))
    if not answer["equal"]:
        sys.exit(REFUSED)


def _deep(session: CliSession, output: Format) -> JSON:
    """Begin a deep verification, and wait for its end."""
    session.admin("verify-start", {})
    told = ""
    while True:
        answer = session.admin("verify-result", {})
        if answer["result"] is not None:
            return answer["result"]
        if answer["progress"] != told and output is Format.HUMAN and sys.stderr.isatty():
            told = answer["progress"]
            click.echo(f"{told} ...", err=True)
        time.sleep(_POLL_S)


def render_verify(console: Console, answer: JSON) -> None:
    """A line for each replica, what differs, and the verdict."""
    rows = []
    for shard in answer["shards"]:
        digests = [replica.get("digest") for replica in shard["replicas"]]
        common = max(set(digests) - {None}, key=digests.count, default=None)
        for replica in shard["replicas"]:
            digest = replica.get("digest")
            bad = len(replica.get("bad_bodies", ()))
            if digest is None:
                verdict = replica.get("error") or "no digest"
            elif digest != common:
                verdict = "DIFFERS"
            else:
                verdict = f"{bad} BODIES CANNOT BE READ" if bad else "equal"
            shown = (digest or "-")[:_DIGEST_CHARS]
            rows.append((shard["shard"], shard["index"], replica["node"], shown, verdict))
    columns = ("shard", "at index", "node", "digest", "verdict")
    console.print(make_table(columns, rows, right=("shard", "at index")))
    console.print()
    for shard in answer["shards"]:
        for found in shard.get("differences", ()):
            console.print(printable(_difference(shard["shard"], found)), soft_wrap=True)
    if answer["equal"]:
        console.print("All replicas are equal.")
    else:
        console.print(
            "NOT all replicas could be shown to be equal. One that differs from a majority is "
            "resynced by itself; "
            "`raftmail resync start NODE --full` does it now."
        )


def _difference(shard: int, found: JSON) -> str:
    where = f"{found['user']}/{found['mailbox']}" if found["mailbox"] else ""
    uid = f" UID {found['uid']}" if found["uid"] else ""
    return (
        f"shard {shard}: {where}{uid}: {found['what']} is {found['here'] or 'missing'} on "
        f"{found['node']}, "
        f"{found['there'] or 'missing'} on {found['other']}"
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
    arguments = {"node": node, "full": "1" if full else ""}
    if shard is not None:
        arguments["shard"] = str(shard)
    if user is not None:
        arguments |= {"user": user, "mailbox": mailbox or ""}
    with settings.connect() as session:
        answer = session.admin("resync-start", arguments)
    shards = ", ".join(str(one["shard"]) for one in answer["started"])
    show(
        settings.output,
        answer,
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
        rows = list(resync_rows(session.admin("status", {})))
        while watch and rows:
            show(settings.output, rows, partial(_render, rows))
            sys.stdout.flush()
            time.sleep(_WATCH_S)
            rows = list(resync_rows(session.admin("status", {})))
    show(settings.output, rows, partial(_render, rows))
    if any(row["node_is_up"] for row in rows):
        sys.exit(REFUSED)


def resync_rows(answer: JSON) -> Iterator[dict[str, Any]]:
    """Of a cluster's status: replicas that are not whole, or cannot be asked."""
    for shard in answer["shards"]:
        for replica in shard["replicas"]:
            up = replica.get("state") != "unreachable"
            if up and replica.get("whole", True) and not replica.get("lost_bodies"):
                continue
            yield {
                "shard": shard["shard"],
                "node": replica["node"],
                "node_is_up": up,
                "state": replica.get("state", "unreachable"),
                "missing_bodies": replica.get("missing_bodies"),
                "missing_bytes": replica.get("missing_bytes"),
                "lost": replica.get("lost", []),
                "resync": replica.get("resync"),
            }


def _render(rows: list[dict[str, Any]], console: Console) -> None:
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
        for lost in row["lost"]:
            console.print(
                printable(
                    f"lost: {lost['user']}/{lost['mailbox']} UID {lost['uid']}: no replica has "
                    f"its body {lost['body']}"
                ),
                soft_wrap=True,
            )


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    resync = row["resync"] or {}

    def of(name: str) -> str:
        total = resync.get(f"{name}_total")
        return f"{resync[name]}/{total}" if total else "-"

    rate = resync.get("rate_bytes_s")
    note = resync.get("error") or ""
    return (
        row["shard"],
        row["node"],
        row["state"],
        resync.get("phase", "-"),
        resync.get("peer", "-"),
        of("mailboxes"),
        of("messages"),
        row["missing_bodies"] if row["missing_bodies"] is not None else "-",
        size(row["missing_bytes"]),
        f"{size(rate)}/s" if rate else "-",
        duration(resync.get("eta_s")),
        note,
    )


COMMANDS = [verify, resync]
