"""Asking before what cannot be undone: on a terminal with what it costs, elsewhere not at all
without --yes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from raftmail_cli.errors import CliError
from raftmail_cli.output import printable

F = TypeVar("F", bound=Callable[..., Any])


def yes_option(function: F) -> F:
    """`--yes`, for commands that destroy something."""
    return click.option("--yes", is_flag=True, help="Do not ask; scripts have to give it.")(
        function
    )


def confirm(question: str, *, yes: bool) -> None:
    """Go on if the operator says so. Raises `CliError` when nobody can be asked, or the answer is
    no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(
            f"{printable(question)} There is no terminal to ask at: give --yes if you are sure. "
            f"Nothing was done"
        )
    if not click.confirm(printable(question), err=True):
        raise CliError("nothing was done")
