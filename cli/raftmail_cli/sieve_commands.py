"""`sieve check`: whether a script of delivery rules is right, and what it does with a message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from raftmail_cli.errors import CliError
from raftmail_cli.output import printable

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


COMMANDS: list[click.Command] = [sieve]
