"""The command line itself: the group, its commands, and how failures become one line and a code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
from click.shell_completion import get_completion_class

from raftmail import __version__
from raftmail_chaos.commands import chaos
from raftmail_cli import (
    cluster_commands,
    dns_commands,
    local_commands,
    mail_commands,
    member_commands,
    node_commands,
    policy_commands,
    proxy_commands,
    record_commands,
    recover,
    resync_commands,
    shard_commands,
    sieve_commands,
    top,
)
from raftmail_cli.errors import FAULT, INTERRUPTED, REFUSED, USAGE, CliError
from raftmail_cli.output import printable
from raftmail_cli.settings import connection_options, output_option

_PROGRAM = "raftmail"


class Program(click.Group):
    """A group whose foreseeable failures are one line on stderr, never a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """As `click.Group.main`; in standalone mode it ends the process with the exit code."""
        run = partial(super().main, args, prog_name or _PROGRAM, complete_var, False, **extra)
        if not standalone_mode:
            return run()
        _prepare_streams()
        sys.exit(_exit_code(run))


def _prepare_streams() -> None:
    """Whatever is printed can be: to streams that are closed, and of any encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exit_code(run: Callable[[], Any]) -> int:
    """Run, and turn what it raises into one line on stderr and an exit code."""
    try:
        code = _code_of(run)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else _PROGRAM
        _complain(f"{error.format_message()} (`{path} --help` shows how it is used)")
        return USAGE
    except click.ClickException as error:
        _complain(error.format_message())
        return REFUSED
    except CliError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _let_go_of_output()  # who read the output has enough
        return 0
    except UnicodeEncodeError as error:
        _complain(f"{_shown(error.object)}: is no text in UTF-8, as names and addresses are")
        return USAGE
    except OSError as error:
        what = f"{_shown(error.filename)}: " if error.filename else ""
        _complain(f"{what}{error.strerror or error}")
        _let_go_of_output()
        return REFUSED
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        _complain(
            f"a fault in raftmail itself: {type(error).__name__}: {error} "
            f"({os.path.basename(where.filename)}:{where.lineno}); please report it with the "
            f"command"
        )
        return FAULT
    return code if isinstance(code, int) else 0


def _code_of(run: Callable[[], Any]) -> Any:
    """What `run` returns, or the code with which it wants to end. Raises `BrokenPipeError` where
    click has met one: click ends with 1 then, which would say that something failed."""
    stdout = sys.stdout
    try:
        return run()
    except SystemExit as end:
        if sys.stdout is not stdout:  # click puts another in the place of one that was closed
            raise BrokenPipeError from None
        return end.code


def _let_go_of_output() -> None:
    """Nothing may be written at exit into what takes no more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(text: object) -> str:
    return str(text).encode("utf-8", "backslashreplace").decode()


def _complain(text: str) -> None:
    click.echo(f"{_PROGRAM}: {printable(text)}", err=True)


@click.group(cls=Program, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name=_PROGRAM, message="%(prog)s %(version)s")
@output_option
@connection_options
def main() -> None:
    """A replicated mail store.

    Exit codes:

    - 0 done, 1 refused, failed or found wrong, 2 wrong usage;
    - 69 a shard serves nobody (status --check), 70 a fault in raftmail;
    - 75 try again later, 130 interrupted.
    """


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes SHELL complete raftmail's commands.

    For bash, put `eval "$(raftmail completion bash)"` in ~/.bashrc.
    """
    found = get_completion_class(shell)
    assert found is not None, "every choice is a shell that click knows"
    click.echo(found(main, {}, _PROGRAM, "_RAFTMAIL_COMPLETE").source())


for _module in (
    node_commands,
    cluster_commands,
    member_commands,
    shard_commands,
    policy_commands,
    dns_commands,
    proxy_commands,
    record_commands,
    recover,
    top,
    resync_commands,
    mail_commands,
    sieve_commands,
    local_commands,
):
    for _command in _module.COMMANDS:
        main.add_command(_command)
main.add_command(chaos)
