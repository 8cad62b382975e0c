"""Scripts of delivery rules: those of a user, and `sieve check`, whether one is right and what it
does with a message."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from raftmail.mail.results import Executed
from raftmail_cli.asking import confirm, yes_option
from raftmail_cli.errors import CliError
from raftmail_cli.output import Format, make_table, printable, show, size
from raftmail_cli.settings import Settings, common_options, pass_settings

if TYPE_CHECKING:
    from raftmail.sieve.rule_outcome import Action, RuleOutcome
    from raftmail.sieve.script_run import ScriptRun

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def sieve() -> None:
    """Delivery rules in the language Sieve (RFC 5228)."""


@sieve.command("check")
@click.argument("script", type=_FILE)
@click.argument("message", type=_FILE, required=False)
@click.option("--from", "sender", default="", help="Who sent MESSAGE, in its envelope.")
@click.option("--to", "recipient", default="", help="To whom MESSAGE is delivered.")
def check(script: Path, message: Path | None, sender: str, recipient: str) -> None:
    """Tell what is wrong with SCRIPT, with its line and column; or what it does with MESSAGE.

    No node is asked. Scripts that SCRIPT includes are looked for beside it, as NAME.sieve.
    """
    from raftmail.sieve.compiler import compile_script  # too slow to load for other commands
    from raftmail.sieve.rule_errors import ScriptError

    others = {one.stem: one.read_bytes() for one in script.parent.glob("*.sieve") if one != script}
    try:
        program = compile_script(script.read_bytes(), name=script.stem, others=others)
    except ScriptError as e:
        raise CliError(f"{script}: {e}") from None
    if message is None:
        click.echo("The script is right.")
        return
    from raftmail.sieve.rule_addresses import split_address
    from raftmail.sieve.rule_errors import RuleError
    from raftmail.sieve.rule_message import RuleMessage
    from raftmail.sieve.rule_outcome import VacationReply
    from raftmail.sieve.run_state import Surroundings
    from raftmail.sieve.script_run import ScriptRun
    from raftmail.sieve.vacation_reply import compose_reply

    to = recipient.encode()
    around = Surroundings(
        split_address(sender.encode()) if sender else None,
        split_address(to),
        frozenset((to.lower(),)),
        {},
        int(time.time()),
    )
    mail = RuleMessage(message.read_bytes())
    try:
        outcome = _run(ScriptRun(program, mail, around))
    except RuleError as e:
        raise CliError(f"{script}: {e}; the message goes to INBOX") from None
    for line in _told(outcome.actions):
        click.echo(printable(line))
    for one in outcome.actions:
        if isinstance(one, VacationReply):
            click.echo("The answer is:\n")
            text = compose_reply(one, mail, around, f"0@{around.recipient.domain.decode()}")
            for line in text.decode("utf-8", "replace").split("\r\n"):
                click.echo("    " + printable(line))


def _run(run: ScriptRun) -> RuleOutcome:
    from raftmail.sieve.rule_outcome import RuleOutcome
    from raftmail.sieve.script_run import AskSeen

    while True:
        state = run.advance()
        if isinstance(state, AskSeen):
            run.answer(state.key, False)
        elif isinstance(state, RuleOutcome):
            return state


def _told(actions: Sequence[Action]) -> list[str]:
    """What is done, in words, a line for each."""
    from raftmail.sieve import rule_outcome as o

    told = []
    for one in actions:
        if isinstance(one, o.FileInto):
            flags = f" with {' '.join(one.flags)}" if one.flags else ""
            create = ", made if it is not there" if one.create else ""
            use = f" (or the mailbox that is {one.special_use})" if one.special_use else ""
            told.append(f"files it into {one.mailbox}{use}{create}{flags}")
        elif isinstance(one, o.Redirect):
            told.append(f"sends it to {one.address}")
        elif isinstance(one, o.Rejection):
            told.append(f"refuses it: {one.reason}")
        elif isinstance(one, o.VacationReply):
            told.append(f"answers {one.to}, once in {one.seconds} seconds")
        else:
            told.append(f"remembers for {one.seconds} seconds that it was seen")
    return told or ["throws it away"]


# Scripts of a user


def _report(settings: Settings, executed: Executed, text: str) -> None:
    show(settings.output, executed, lambda console: console.print(printable(text)))


@sieve.command("list")
@click.argument("user")
@common_options
@pass_settings
def list_scripts(settings: Settings, user: str) -> None:
    """List a user's scripts, and which one is active."""
    with settings.connect() as session:
        found = session.scripts(user)
        if not found and not session.user_exists(user):
            raise CliError(f"there is no user {user}")
    rows = [(one.name, size(one.size_bytes), "yes" if one.active else "-") for one in found]
    columns = ("script", "size", "active")
    show(
        settings.output,
        found,
        lambda console: console.print(make_table(columns, rows, right=("size",))),
    )


@sieve.command("get")
@click.argument("user")
@click.argument("name")
@common_options
@pass_settings
def get_script(settings: Settings, user: str, name: str) -> None:
    """Write a script to standard output, byte for byte (with -o json, in base64)."""
    with settings.connect() as session:
        script = session.script(user, name)
    if settings.output is Format.JSON:
        encoded = base64.b64encode(script).decode("ascii")
        value = {"name": name, "size": len(script), "script_base64": encoded}
        show(settings.output, value, lambda _: None)
    else:
        sys.stdout.buffer.write(script)


@sieve.command("put")
@click.argument("user")
@click.argument("name")
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--activate", is_flag=True, help="Make it the active script, too.")
@common_options
@pass_settings
def put_script(settings: Settings, user: str, name: str, file: BinaryIO, activate: bool) -> None:
    """Keep a script from FILE or standard input under NAME, perhaps instead of another.

    One that is not right is refused, with line and column. A script that is active stays so.
    """
    script = file.read()
    with settings.connect() as session:
        executed = session.put_script(user, name, script)
        if activate:
            executed = session.activate_script(user, name)
    done = "Put and activated" if activate else "Put"
    _report(settings, executed, f"{done} {name} of {user} ({size(len(script))}).")


@sieve.command("activate")
@click.argument("user")
@click.argument("name")
@common_options
@pass_settings
def activate_script(settings: Settings, user: str, name: str) -> None:
    """Have NAME decide where a user's mail goes, in place of the script that did."""
    with settings.connect() as session:
        executed = session.activate_script(user, name)
    _report(settings, executed, f"Activated {name} of {user}.")


@sieve.command("deactivate")
@click.argument("user")
@common_options
@pass_settings
def deactivate_script(settings: Settings, user: str) -> None:
    """Have no script decide where a user's mail goes. All scripts stay."""
    with settings.connect() as session:
        executed = session.activate_script(user, "")
    _report(settings, executed, f"No script of {user} is active.")


@sieve.command("delete")
@click.argument("user")
@click.argument("name")
@yes_option
@common_options
@pass_settings
def delete_script(settings: Settings, user: str, name: str, yes: bool) -> None:
    """Delete a script that is not active."""
    with settings.connect() as session:
        confirm(f"Delete the script {name} of {user}?", yes=yes)
        executed = session.delete_script(user, name)
    _report(settings, executed, f"Deleted {name} of {user}.")


@sieve.command("rename")
@click.argument("user")
@click.argument("name")
@click.argument("new_name")
@common_options
@pass_settings
def rename_script(settings: Settings, user: str, name: str, new_name: str) -> None:
    """Give a script another name. It stays active if it is, and who includes it is not changed."""
    with settings.connect() as session:
        executed = session.rename_script(user, name, new_name)
    _report(settings, executed, f"Renamed {name} to {new_name}.")


COMMANDS: list[click.Command] = [sieve]
