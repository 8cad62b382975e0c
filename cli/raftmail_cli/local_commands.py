"""`log show` and `fsck`: what can be read from a node's folder without asking a node."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from raftmail.mail import commands as c
from raftmail.mail.codec import CodecError, decode_entry, request_of
from raftmail_cli.errors import REFUSED, CliError
from raftmail_cli.output import Format, make_table, printable, show, size, to_json
from raftmail_cli.settings import Settings, cluster_option, output_option, pass_settings

if TYPE_CHECKING:
    from raftmail.node.examine import Examined, LogRecord

_CLIENT_CHARS = 8


@click.group()
def log() -> None:
    """The Raft logs of a node."""


@log.command("show")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option("--node", help="Instead of DIR: a node of this machine, named in cluster.json.")
@click.option("--shard", type=click.IntRange(0), help="One shard  [default: all]")
@click.option("--from", "first", type=click.IntRange(0), default=0, help="First log index.")
@click.option("--to", "last", type=click.IntRange(0), help="Last log index.")
@click.option("--all", "all_", is_flag=True, help="Also what keeps the journal itself in order.")
@cluster_option
@output_option
@pass_settings
def show_log(
    settings: Settings,
    folder: Path | None,
    node: str | None,
    shard: int | None,
    first: int,
    last: int | None,
    all_: bool,
) -> None:
    """Print what was decided, in order, from the log of a node (DIR: its folder), of all its
    workers.

    The node may be running. Entries at the end may not be committed yet, and be cut off again.
    """
    from raftmail.node import examine  # most of a node: too slow to load for other commands

    if (folder is None) == (node is None):
        raise click.UsageError("name either the folder of a node, or --node NAME")
    if folder is None:
        assert node is not None
        folder = settings.cluster_file().node(node).data
        if folder is None:
            raise CliError(f"cluster.json does not tell where node {node} keeps its data; name DIR")
    try:
        folders = examine.data_folders(folder)
        shards = [
            (data, one)
            for data in folders
            for one in examine.shards_of(data)
            if shard is None or one == shard
        ]
        if not shards:  # says which there are
            shards = [(folders[0], shard or 0)]
        records = (
            (data, record)
            for data, one in shards
            for record in examine.read_log(data, one)
            if _wanted(record, first, last, all_)
        )
        if settings.output is Format.JSON:
            _print_json(records)
        else:
            for data, record in records:
                where = f"{data.name}  " if len(folders) > 1 else ""
                for line in log_lines(record, with_shard=len(shards) > 1):
                    click.echo(printable(where + line))
    except examine.ExamineError as error:
        raise CliError(str(error)) from None


def _wanted(record: LogRecord, first: int, last: int | None, all_: bool) -> bool:
    if record.kind not in ("entry", "cut"):
        return all_  # their index is none of the log
    return record.index >= first and (last is None or record.index <= last)


def _print_json(records: Iterator[tuple[Path, LogRecord]]) -> None:
    """An array, one record a line, without holding them all."""
    sys.stdout.write("[")
    separator = "\n"
    for data, record in records:
        value: dict[str, Any] = {
            "data": str(data),
            "shard": record.shard,
            "index": record.index,
            "term": record.term,
            "kind": record.kind,
            "file": record.file,
            "offset": record.offset,
        }
        if record.note:
            value["note"] = record.note
        if record.payload:
            value["bytes"] = len(record.payload)
            value["requests"] = list(request_values(record.payload))
        sys.stdout.write(separator + json.dumps(to_json(value), ensure_ascii=False))
        separator = ",\n"
    sys.stdout.write("\n]\n")


def request_values(payload: bytes) -> Iterator[dict[str, Any]]:
    """The requests of an entry as JSON has them, without what is kept of passwords."""
    try:
        raws = decode_entry(payload)
    except CodecError as error:
        yield {"error": str(error)}
        return
    for raw in raws:
        try:
            request = request_of(raw)
        except CodecError as error:
            yield {"error": str(error)}
            continue
        command = to_json(_shortened(request.command))
        yield {
            "client": request.client.hex(),
            "seq": request.seq,
            "floor": request.floor,
            "command": type(request.command).__name__,
            "fields": command,
        }


def _shortened(command: c.Command) -> c.Command:
    """Without password hashes, which nobody has to see."""
    if isinstance(command, c.PutUser):
        return c.PutUser(command.address, "...", command.replace)
    if isinstance(command, c.PutAppPassword):
        return c.PutAppPassword(command.address, command.name, command.made_s, "...")
    return command


def log_lines(record: LogRecord, *, with_shard: bool) -> Iterator[str]:
    """A record in words: a line for it, and one for each request of an entry."""
    shard = f"shard {record.shard}  " if with_shard else ""
    head = f"{shard}{record.index:>8}  term {record.term:<4} {record.kind:<6}"
    if not record.payload:
        yield f"{head} {record.note}"
        return
    try:
        raws = decode_entry(record.payload)
    except CodecError as error:
        yield f"{head} {size(len(record.payload))}, cannot be decoded: {error}"
        return
    yield f"{head} {len(raws)} request{'s' if len(raws) > 1 else ''}, {size(len(record.payload))}"
    for raw in raws:
        try:
            request = request_of(raw)
            client = request.client.hex()[:_CLIENT_CHARS]
            yield f"{'':>10}{client} #{request.seq}: {in_words(request.command)}"
        except CodecError as error:
            yield f"{'':>10}a request that every replica refuses: {error}"


_SIGNS = {c.StoreMode.ADD: "+", c.StoreMode.REMOVE: "-", c.StoreMode.REPLACE: "="}


def in_words(command: c.Command) -> str:
    """A command on one line, for people."""
    match command:
        case c.Save():
            return "; ".join(_save_in_words(message) for message in command.messages)
        case c.Copy():
            verb = "move" if command.move else "copy"
            return (
                f"{verb} {command.user} {_ref(command.mailbox)} {command.uids.format()} to "
                f"{_ref(command.target.mailbox)}"
            )
        case c.CopyIn():
            what = command.refused_text or command.source_uids.format()
            return (
                f"copy {what} from another shard to {command.user} {_ref(command.target.mailbox)}"
            )
        case c.Expunge():
            marked = " marked \\Deleted" if command.only_deleted else ""
            return f"expunge {command.user} {_ref(command.mailbox)} {command.uids.format()}{marked}"
        case c.Store():
            flags = " ".join(command.flags) or "(none)"
            return (
                f"store {command.user} {_ref(command.mailbox)} {command.uids.format()} "
                f"{_SIGNS[command.mode]}{flags}"
            )
        case c.Configure():
            return "configure " + ", ".join(
                key if v is not None else f"-{key}" for key, v in command.puts
            )
        case c.CreateMailbox():
            return f"create {command.user} {command.name}"
        case c.DeleteMailbox():
            return f"delete {command.user} {_ref(command.mailbox)}"
        case c.RenameMailbox():
            return f"rename {command.user} {_ref(command.mailbox)} to {command.name}"
        case c.Subscribe():
            return f"{'' if command.subscribed else 'un'}subscribe {command.user} {command.name}"
        case c.MakeFirstMailboxes():
            names = "".join(f", {name}" for name, _ in command.mailboxes)
            return f"make the first mailboxes of {command.user}: INBOX{names}"
        case c.SetAnnotations():
            where = "" if command.mailbox is None else f" {_ref(command.mailbox)}"
            names = ", ".join(n if v is not None else f"-{n}" for n, v in command.entries)
            return f"annotate {command.user}{where} {names}"
        case c.PutScript():
            return f"put script {command.user} {command.name!r} {size(len(command.script))}"
        case c.DeleteScript():
            return f"delete script {command.user} {command.name!r}"
        case c.RenameScript():
            return f"rename script {command.user} {command.name!r} to {command.new_name!r}"
        case c.ActivateScript():
            return f"activate script {command.user} {command.name!r}"
        case c.SetAcl() | c.SetOwnSeen() | c.NoteSharer() | c.GuestCommand():
            return _sharing_in_words(command)
        case c.PutUser():
            return (
                f"{'change the password of' if command.replace else 'add'} user {command.address}"
            )
        case c.PutAppPassword():
            return f"add app password {command.name!r} of {command.address}"
        case c.DropAppPassword():
            return f"remove app password {command.name!r} of {command.address}"
        case c.RemoveUser():
            return f"remove user {command.address}"
        case c.PurgeUser():
            return f"remove all mail of {command.user}"


def _sharing_in_words(
    command: c.SetAcl | c.SetOwnSeen | c.NoteSharer | c.GuestCommand,
) -> str:
    if isinstance(command, c.GuestCommand):
        return f"{command.guest}: {in_words(command.command)}"
    if isinstance(command, c.NoteSharer):
        return f"note that {command.owner} shares with {command.user}"
    if isinstance(command, c.SetOwnSeen):
        whose = "each guest's own" if command.own else "the mailbox's"
        return f"\\Seen of {command.user} {_ref(command.mailbox)} is {whose}"
    where = "" if command.mailbox is None else f" {_ref(command.mailbox)}"
    change = f"{_SIGNS[command.mode]}{command.rights}"
    return f"share {command.user}{where} with {command.identifier} {change}"


def _save_in_words(message: c.NewMessage) -> str:
    targets = ", ".join(f"{target.user} {_ref(target.mailbox)}" for target in message.targets)
    flags = f" {' '.join(message.flags)}" if message.flags else ""
    return f"save {targets}{flags} {size(message.size_bytes)} sha256 {message.blob.hex()[:12]}"


def _ref(mailbox: c.MailboxRef) -> str:
    return mailbox if isinstance(mailbox, str) else f"mailbox {mailbox}"


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, path_type=Path))
@click.option("--repair", is_flag=True, help="Have the next start mend what other replicas have.")
@output_option
@pass_settings
def fsck(settings: Settings, folder: Path, repair: bool) -> None:
    """Examine everything that a stopped node keeps, of all its workers; DIR is its folder.

    Finds files that were removed, added, cut short or changed, and records and bodies that are
    damaged. Changes nothing; with --repair it orders the node to fetch from other replicas what is
    damaged, when it is started next. Exit status 1 when something is wrong (with --repair: that the
    next start cannot mend).
    """
    from raftmail.node import examine

    try:
        folders = examine.data_folders(folder, may_hold_none=True)
        found = examine.fsck(folders, _progress(settings.output), repair=repair)
    except examine.ExamineError as error:
        raise CliError(str(error)) from None
    show(settings.output, found, lambda console: _render_fsck(console, found, repair=repair))
    if any(one.problems and not (repair and one.is_repairable) for one in found):
        sys.exit(REFUSED)


def _progress(output: Format) -> Any:
    def tell(shard: int, part: str) -> None:
        if output is Format.HUMAN and sys.stderr.isatty():
            click.echo(f"shard {shard}: {part} ...", err=True)

    return tell


def _render_fsck(console: Console, found: list[Examined], *, repair: bool) -> None:
    if not found:
        console.print("This node has no replica: there is nothing to examine.")
        return
    several = len({one.data for one in found}) > 1
    rows = [
        (
            *((Path(one.data).name,) if several else ()),
            one.shard,
            one.entries,
            size(one.log_bytes),
            one.messages,
            one.bodies,
            f"{len(one.problems)} PROBLEMS" if one.problems else "good",
        )
        for one in found
    ]
    numbers = ("shard", "log entries", "log", "messages", "bodies")
    columns = (*(("data",) if several else ()), *numbers, "verdict")
    console.print(make_table(columns, rows, right=numbers))
    problems = [(one.data, problem) for one in found for problem in one.problems]
    if problems:
        console.print()
        for data, problem in problems:
            where = f"{Path(data).name}, " if several else ""
            console.print(
                printable(f"{where}shard {problem.shard}, {problem.part}: {problem.text}")
            )
        console.print()
        console.print(_advice(found, repair=repair))


def _advice(found: list[Examined], *, repair: bool) -> str:
    parts = {problem.part for one in found for problem in one.problems}
    if "journal" in parts:
        return (
            "A journal is damaged: the replica has forgotten what it promised. Leave the node "
            "stopped, and replace it "
            "as one whose disk is lost."
        )
    if parts == {"files"}:
        return "Files were added that belong to nobody. They do no harm; remove them."
    if repair:
        return (
            "Start the node: it fetches from other replicas what is damaged. `raftmail resync "
            "status` shows how far it is."
        )
    return "`raftmail fsck --repair` has the next start of the node fetch it from other replicas."


COMMANDS = [log, fsck]
