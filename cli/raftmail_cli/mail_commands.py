"""Users, mailboxes and messages."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import BinaryIO

import click

from raftmail.admin.api.calls import (
    AddAppPassword,
    ChooseSeen,
    ForgetGrants,
    GetUserUsage,
    ListAppPasswords,
    ListShares,
    RemoveAppPassword,
    SetQuota,
    ShareMailbox,
)
from raftmail.admin.api.policies import Shares
from raftmail.mail.commands import StoreMode
from raftmail.mail.names import SPECIAL_USES, mailbox_name
from raftmail.mail.queries import MessageInfo
from raftmail.mail.results import CopyResult, Executed, ExpungeResult, SaveResult, StoreResult
from raftmail.mail.summary import SummaryError, decode_summary, header_fields
from raftmail.mail.uidset import UidSet
from raftmail_cli.asking import confirm, yes_option
from raftmail_cli.errors import CliError
from raftmail_cli.output import (
    Format,
    date,
    make_table,
    plural,
    printable,
    printable_lines,
    show,
    size,
)
from raftmail_cli.quotas import SIZE_OR_DEFAULT, quota_bytes_of, usage, usage_table
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.watching import admin

_LONE_LF = re.compile(rb"(?<!\r)\n")


class _Uids(click.ParamType[UidSet]):
    """A UID set as in IMAP."""

    name = "uids"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> UidSet:
        if isinstance(value, UidSet):
            return value
        try:
            return UidSet.parse(str(value))
        except ValueError as error:
            self.fail(f"{error}, for example 7, 1:5,9 or 12:*", param, ctx)


_ALL = UidSet.parse("1:*")


def _report(settings: Settings, executed: Executed, text: str) -> None:
    show(settings.output, executed, lambda console: console.print(printable(text)))


# Users


@click.group()
def user() -> None:
    """Users: who can have mail."""


def _password(password: str | None, from_stdin: bool, external: bool) -> str | None:
    if (password is not None) + from_stdin + external > 1:
        raise click.UsageError("--password, --password-stdin and --external exclude each other")
    if external:
        return None
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif password is None:
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask for it: give --password-stdin")
        password = str(
            click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        )
    if not password:
        raise CliError("the password is empty; nothing was changed")
    return password


_password_option = click.option(
    "--password", metavar="P", help="The password; others on this machine may see it."
)
_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input, one line."
)


_external_option = click.option(
    "--external", is_flag=True, help="The nodes' external source of users judges the password."
)


@user.command("add")
@click.argument("address")
@_password_option
@_stdin_option
@_external_option
@common_options
@pass_settings
def add_user(
    settings: Settings, address: str, password: str | None, password_stdin: bool, external: bool
) -> None:
    """Add a user. Without an option, asks for the password."""
    secret = _password(password, password_stdin, external)
    with settings.connect() as session:
        executed = session.add_user(address, secret)
    _report(settings, executed, f"Added {address}.")


@user.command("passwd")
@click.argument("address")
@_password_option
@_stdin_option
@_external_option
@common_options
@pass_settings
def set_password(
    settings: Settings, address: str, password: str | None, password_stdin: bool, external: bool
) -> None:
    """Change a user's password. App passwords stay."""
    secret = _password(password, password_stdin, external)
    with settings.connect() as session:
        executed = session.set_password(address, secret)
    _report(settings, executed, f"Changed the password of {address}.")


@user.command("list")
@click.option("--usage", "with_usage", is_flag=True, help="With what each has, and the quota.")
@common_options
@pass_settings
def list_users(settings: Settings, with_usage: bool) -> None:
    """List all users."""
    if with_usage:
        rows = list(usage(settings, ""))
        show(settings.output, rows, lambda console: console.print(usage_table(rows)))
        return
    with settings.connect() as session:
        users = list(session.users())
    show(settings.output, users, lambda console: console.print(printable_lines(users), end=""))


@user.command("show")
@click.argument("address")
@common_options
@pass_settings
def show_user(settings: Settings, address: str) -> None:
    """Show what a user has, and may have."""
    row = admin(settings, GetUserUsage(address))
    show(settings.output, row, lambda console: console.print(usage_table([row])))


@user.command("quota")
@click.argument("address")
@click.argument("limit", metavar="SIZE", type=SIZE_OR_DEFAULT)
@common_options
@pass_settings
def set_quota(settings: Settings, address: str, limit: str) -> None:
    """Limit what a user may keep to SIZE: 2G, 500M, or none; default leaves it to the domain.
    What is there already stays."""
    row = admin(settings, SetQuota(address, quota_bytes_of(limit)))
    show(settings.output, row, lambda console: console.print(usage_table([row])))


@user.command("remove")
@click.argument("address")
@click.option("--purge", is_flag=True, help="Remove the user's mail too, for ever.")
@yes_option
@common_options
@pass_settings
def remove_user(settings: Settings, address: str, purge: bool, yes: bool) -> None:
    """Take no more mail for a user. The mail that is there stays, unless --purge is given.

    The user has no rights any more on mailboxes of others.
    """
    with settings.connect() as session:
        if not purge:
            session.admin(ForgetGrants(address))
            _report(settings, session.remove_user(address), f"Removed {address}.")
            return
        found = session.mailboxes(address)
        mail = plural(sum(box.messages for box in found), "message")
        boxes = plural(len(found), "mailbox", "mailboxes")
        confirm(f"Remove {address} and, for ever, {mail} in {boxes}?", yes=yes)
        session.admin(ForgetGrants(address))
        session.remove_user(address)
        executed = session.purge_user(address)
    _report(settings, executed, f"Removed {address} and all mail: {mail} in {boxes}.")


@user.group("app-password")
def app_password() -> None:
    """Passwords for single devices of a user, which can be taken back one by one."""


_name_option = click.option(
    "--name", required=True, metavar="NAME", help='What it is for, such as "phone".'
)


@app_password.command("add")
@click.argument("address")
@_name_option
@common_options
@pass_settings
def add_app_password(settings: Settings, address: str, name: str) -> None:
    """Make a password for a device, and show it once."""
    made = admin(settings, AddAppPassword(address, name))
    show(settings.output, made, lambda console: console.print(printable(made.password)))


@app_password.command("list")
@click.argument("address")
@common_options
@pass_settings
def list_app_passwords(settings: Settings, address: str) -> None:
    """List the devices that have a password of their own."""
    found = admin(settings, ListAppPasswords(address))
    rows = [(one.name, date(one.made_s * 1_000_000)) for one in found.app_passwords]
    show(
        settings.output,
        found,
        lambda console: console.print(make_table(("name", "made"), rows)),
    )


@app_password.command("remove")
@click.argument("address")
@_name_option
@common_options
@pass_settings
def remove_app_password(settings: Settings, address: str, name: str) -> None:
    """Take the password of a device away. Connections that it opened stay until they end."""
    gone = admin(settings, RemoveAppPassword(address, name))
    text = f"Removed the password of {gone.name} of {gone.address}."
    show(settings.output, gone, lambda console: console.print(printable(text)))


# Mailboxes


@click.group()
def mailbox() -> None:
    """Mailboxes of a user."""


@mailbox.command("list")
@click.argument("user")
@common_options
@pass_settings
def list_mailboxes(settings: Settings, user: str) -> None:
    """List a user's mailboxes."""
    with settings.connect() as session:
        found = session.mailboxes(user)
        # Mail of a user who was removed stays until it is purged; without any, there may be none.
        if not found and not session.user_exists(user):
            raise CliError(f"there is no user {user}")
    rows = [
        (
            info.name,
            info.messages,
            info.unseen,
            size(info.size_bytes),
            info.uidvalidity,
            info.uidnext,
            info.special_use or "-",
        )
        for info in found
    ]
    columns = ("mailbox", "messages", "unseen", "size", "uidvalidity", "uidnext", "use")
    show(
        settings.output,
        found,
        lambda console: console.print(make_table(columns, rows, right=columns[1:6])),
    )


@mailbox.command("create")
@click.argument("user")
@click.argument("name")
@click.option(
    "--use",
    type=click.Choice(sorted(use.removeprefix("\\") for use in SPECIAL_USES), case_sensitive=False),
    help="What the mailbox is for (RFC 6154).",
)
@common_options
@pass_settings
def create_mailbox(settings: Settings, user: str, name: str, use: str | None) -> None:
    """Create a mailbox, and the parents that it lacks (names have / between their parts)."""
    with settings.connect() as session:
        executed = session.create_mailbox(user, name, f"\\{use}" if use else "")
    _report(settings, executed, f"Created {name}.")


@mailbox.command("delete")
@click.argument("user")
@click.argument("name")
@yes_option
@common_options
@pass_settings
def delete_mailbox(settings: Settings, user: str, name: str, yes: bool) -> None:
    """Delete a mailbox with its messages. Mailboxes below it stay."""
    with settings.connect() as session:
        with suppress(ValueError):  # a name that cannot be is refused by the cluster
            name = mailbox_name(name)
        count = next((box.messages for box in session.mailboxes(user) if box.name == name), 0)
        if count:
            confirm(f"Delete {name} of {user} with {plural(count, 'message')}?", yes=yes)
        executed = session.delete_mailbox(user, name)
    text = f"Deleted {name} of {user} with {plural(count, 'message')}."
    _report(settings, executed, text if count else f"Deleted {name} of {user}, which was empty.")


@mailbox.command("share")
@click.argument("user")
@click.argument("mailbox")
@click.argument("who")
@click.argument("rights", default="")
@click.option(
    "--own-seen/--common-seen",
    default=None,
    help="Whether each guest of the mailbox has a \\Seen of the own  [default: as it is]",
)
@common_options
@pass_settings
def share_mailbox(
    settings: Settings, user: str, mailbox: str, who: str, rights: str, own_seen: bool | None
) -> None:
    """Give WHO rights on a mailbox of USER, in place of any; without RIGHTS, take them away.

    WHO is a user, or "anyone": all users of the domain. With - before it, it takes rights away
    (behind --, for it looks like an option). RIGHTS are letters of RFC 4314: lr to read, lrswite to
    work in it, lrswitekxa for everything.
    """
    found = admin(settings, ShareMailbox(user, mailbox, who, rights))
    if own_seen is not None and own_seen != found.own_seen:
        found = admin(settings, ChooseSeen(user, mailbox, own_seen))
    _show_shares(settings, found)


@mailbox.command("shares")
@click.argument("user")
@click.argument("mailbox")
@common_options
@pass_settings
def list_shares(settings: Settings, user: str, mailbox: str) -> None:
    """List with whom a mailbox is shared, and the rights."""
    _show_shares(settings, admin(settings, ListShares(user, mailbox)))


def _show_shares(settings: Settings, found: Shares) -> None:
    seen = "own" if found.own_seen else "common"
    rows = [(one.identifier, one.rights, seen) for one in found.shares]
    table = make_table(("who", "rights", "seen"), rows)
    show(settings.output, found, lambda console: console.print(table))


@mailbox.command("rename")
@click.argument("user")
@click.argument("name")
@click.argument("new_name")
@common_options
@pass_settings
def rename_mailbox(settings: Settings, user: str, name: str, new_name: str) -> None:
    """Rename a mailbox, and what is below it."""
    with settings.connect() as session:
        executed = session.rename_mailbox(user, name, new_name)
    _report(settings, executed, f"Renamed {name} to {new_name}.")


# Messages


@click.command()
@click.argument("user")
@click.argument("mailbox")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--flag", "flags", multiple=True, help="A flag, like \\Seen. Can be repeated.")
@click.option(
    "--date",
    "received",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"]),
    help="When the message was received; without a time zone, in UTC  [default: now]",
)
@click.option(
    "--crlf", is_flag=True, help="Make line ends CRLF, as mail has them, where they are LF."
)
@common_options
@pass_settings
def save(
    settings: Settings,
    user: str,
    mailbox: str,
    file: BinaryIO,
    flags: tuple[str, ...],
    received: datetime | None,
    crlf: bool,
) -> None:
    """Save a message from FILE or standard input.

    Exit status 0 says that it is on the disks of a majority of the replicas.
    """
    body = file.read()
    if crlf:
        body = _LONE_LF.sub(b"\r\n", body)
    received_us = None
    if received is not None:
        received = received if received.tzinfo else received.replace(tzinfo=UTC)
        received_us = int(received.timestamp() * 1_000_000)
    with settings.connect() as session:
        executed = session.save(user, mailbox, body, flags, received_us)
    assert isinstance(executed.result, SaveResult)
    uid = executed.result.saved[0].uid
    _report(settings, executed, f"Saved in {mailbox} as UID {uid} ({size(len(body))}).")


@click.command("list")
@click.argument("user")
@click.argument("mailbox")
@click.argument("uids", type=_Uids(), default=_ALL)
@common_options
@pass_settings
def list_messages(settings: Settings, user: str, mailbox: str, uids: UidSet) -> None:
    """List messages: UID, flags, date, size and subject."""
    with settings.connect() as session:
        found = list(session.messages(user, mailbox, uids))
    value = [
        {
            "uid": info.uid,
            "flags": info.flags,
            "received": date(info.received_us),
            "size": info.size_bytes,
            "modseq": info.modseq,
            "guid": info.guid,
            "sha256": info.blob,
            "subject": subject_of(info),
        }
        for info in found
    ]
    rows = [
        (
            info.uid,
            " ".join(info.flags) or "-",
            date(info.received_us),
            size(info.size_bytes),
            subject_of(info),
        )
        for info in found
    ]
    columns = ("uid", "flags", "received", "size", "subject")
    show(
        settings.output,
        value,
        lambda console: console.print(make_table(columns, rows, right=("uid", "size"))),
    )


def subject_of(info: MessageInfo) -> str:
    """The subject for people; what cannot be decoded is shown as it stands."""
    try:
        field = header_fields(decode_summary(info.summary), (b"subject",)) or b""
    except SummaryError:
        return ""
    raw = field.partition(b":")[2].strip()
    try:
        shown = raw.decode()
    except UnicodeDecodeError:
        shown = raw.decode("latin-1")  # what mail without a charset most often is
    text = " ".join(shown.split())
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return text


@click.command()
@click.argument("user")
@click.argument("mailbox")
@click.argument("uid", type=click.IntRange(1))
@common_options
@pass_settings
def fetch(settings: Settings, user: str, mailbox: str, uid: int) -> None:
    """Write a message to standard output, byte for byte (with -o json, in base64)."""
    with settings.connect() as session:
        body = session.body(user, mailbox, uid)
    if settings.output is Format.JSON:
        value = {
            "uid": uid,
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
            "body_base64": base64.b64encode(body).decode("ascii"),
        }
        show(settings.output, value, lambda _: None)
    else:
        sys.stdout.buffer.write(body)


class _FlagCommand(click.Command):
    r"""A command among whose arguments `-\Seen` is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, options_first(args))


def options_first(args: Sequence[str]) -> list[str]:
    r"""The options, `--`, and the rest: `-\Seen`, `-$Work` and `-FLAGS` are arguments, and every
    option but --help has a value."""
    options: list[str] = []
    rest: list[str] = []
    left = list(args)
    while left:
        one = left.pop(0)
        if one == "--":
            rest += left
            break
        if one == "--help" or (one.startswith("--") and "=" in one):
            options.append(one)
        elif one == "-o" or one.startswith("--"):
            options += [one, *left[:1]]
            del left[:1]
        elif one.startswith("-o") and one[2:] in list(Format):
            options.append(one)
        else:
            rest.append(one)
    return [*options, "--", *rest]


_MODES = {"+FLAGS": StoreMode.ADD, "-FLAGS": StoreMode.REMOVE, "FLAGS": StoreMode.REPLACE}


@click.command(cls=_FlagCommand)
@click.argument("user")
@click.argument("mailbox")
@click.argument("uids", type=_Uids())
@click.argument("changes", nargs=-1, required=True)
@common_options
@pass_settings
def store(
    settings: Settings, user: str, mailbox: str, uids: UidSet, changes: tuple[str, ...]
) -> None:
    """Change flags: +\\Seen adds, -\\Seen removes, \\Seen replaces all.

    Or as in IMAP: +FLAGS, -FLAGS or FLAGS, and the flags after it.
    """
    steps = flag_changes(changes)
    with settings.connect() as session:
        done = [session.store(user, mailbox, uids, mode, flags) for mode, flags in steps]
    changed = UidSet()
    for executed in done:
        assert isinstance(executed.result, StoreResult)
        changed |= executed.result.changed
    text = (
        f"Changed {plural(len(changed), 'message')}: {changed.format()}."
        if changed
        else "Nothing to change."
    )
    show(
        settings.output,
        done[0] if len(done) == 1 else done,
        lambda console: console.print(text),
    )


def flag_changes(words: Sequence[str]) -> list[tuple[StoreMode, tuple[str, ...]]]:
    """What the words after the UIDs ask for; each mode once, in the order given. Raises
    `click.UsageError`."""
    wanted: dict[StoreMode, list[str]] = {}
    mode: StoreMode | None = None
    for word in words:
        if word.upper() in _MODES:
            mode = _MODES[word.upper()]
            wanted.setdefault(mode, [])
        elif mode is not None:
            wanted[mode].append(word)
        elif word[0:1] in ("+", "-"):
            step = StoreMode.ADD if word[0] == "+" else StoreMode.REMOVE
            wanted.setdefault(step, []).append(word[1:])
        else:
            wanted.setdefault(StoreMode.REPLACE, []).append(word)
    if StoreMode.REPLACE in wanted and len(wanted) > 1:
        raise click.UsageError("flags that replace all others stand alone, without + and -")
    for step, flags in wanted.items():
        if not flags and step is not StoreMode.REPLACE:
            raise click.UsageError("no flags stand after +FLAGS or -FLAGS")
    return [(step, tuple(flags)) for step, flags in wanted.items()]


_to_user_option = click.option(
    "--to-user", metavar="ADDRESS", help="Whose mailbox TARGET is  [default: USER's]"
)


def _copy(
    settings: Settings,
    user: str,
    mailbox: str,
    uids: UidSet,
    target: str,
    target_user: str | None,
    *,
    move: bool,
) -> None:
    """As many commands as it takes; what was done before one fails is told."""
    done = "Moved" if move else "Copied"
    parts: list[Executed] = []
    sources, targets = UidSet(), UidSet()
    try:
        with settings.connect() as session:
            for executed in session.copy(
                user, mailbox, uids, target, target_user or user, move=move
            ):
                assert isinstance(executed.result, CopyResult)
                parts.append(executed)
                sources |= executed.result.source_uids
                targets |= executed.result.target_uids
    except CliError as error:
        if parts:
            raise type(error)(
                f"{error}. {done} before that: {plural(len(sources), 'message')}, "
                f"{sources.format()}"
            ) from None
        raise
    text = f"{done} {plural(len(sources), 'message')} to {target}"
    if target_user is not None:
        text += f" of {target_user}"
    if targets:
        text += f": {sources.format()} became {targets.format()}"
    if len(parts) > 1:
        text += f", in {len(parts)} parts"
    shown = parts[0] if len(parts) == 1 else parts
    show(settings.output, shown, lambda console: console.print(printable(f"{text}.")))


@click.command()
@click.argument("user")
@click.argument("mailbox")
@click.argument("uids", type=_Uids())
@click.argument("target")
@_to_user_option
@common_options
@pass_settings
def copy(
    settings: Settings, user: str, mailbox: str, uids: UidSet, target: str, to_user: str | None
) -> None:
    """Copy messages to the mailbox TARGET of the same user, or of another."""
    _copy(settings, user, mailbox, uids, target, to_user, move=False)


@click.command()
@click.argument("user")
@click.argument("mailbox")
@click.argument("uids", type=_Uids())
@click.argument("target")
@_to_user_option
@common_options
@pass_settings
def move(
    settings: Settings, user: str, mailbox: str, uids: UidSet, target: str, to_user: str | None
) -> None:
    """Move messages to the mailbox TARGET of the same user, or of another."""
    _copy(settings, user, mailbox, uids, target, to_user, move=True)


@click.command()
@click.argument("user")
@click.argument("mailbox")
@click.argument("uids", type=_Uids(), default=_ALL)
@click.option("--all", "all_", is_flag=True, help="Also those that are not marked \\Deleted.")
@yes_option
@common_options
@pass_settings
def expunge(
    settings: Settings, user: str, mailbox: str, uids: UidSet, all_: bool, yes: bool
) -> None:
    """Remove messages that are marked \\Deleted; all of them, or those in UIDS."""
    if all_ and uids == _ALL:
        raise click.UsageError("--all needs UIDS")
    with settings.connect() as session:
        if all_ and not yes:
            count = sum(1 for _ in session.messages(user, mailbox, uids))
            if count:
                confirm(f"Remove {plural(count, 'message')} from {mailbox} of {user}?", yes=yes)
        executed = session.expunge(user, mailbox, uids, only_deleted=not all_)
    assert isinstance(executed.result, ExpungeResult)
    gone = executed.result.uids
    text = (
        f"Removed {plural(len(gone), 'message')}: {gone.format()}."
        if gone
        else "Nothing to remove."
    )
    _report(settings, executed, text)


COMMANDS = [user, mailbox, save, list_messages, fetch, store, copy, move, expunge]
