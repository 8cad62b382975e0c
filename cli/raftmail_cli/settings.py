"""The options that every command has, and where the cluster is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from raftmail.mail.endpoint import FORM, dialled
from raftmail_cli import clusterfile
from raftmail_cli.errors import CliError
from raftmail_cli.output import Format
from raftmail_cli.session import CliSession, Opener, Where

_TOKEN_FILE_BYTES_MAX = 4096

F = TypeVar("F", bound=Callable[..., Any])


def _open(where: Where) -> AbstractContextManager[CliSession]:
    from raftmail_cli.connect import connect  # not needed by `raftmail node`, and takes a while

    return connect(where)


@dataclass(slots=True, repr=False)
class Settings:
    """What the options said. A command's own options come after, and so replace, the group's."""

    output: Format = Format.HUMAN
    cluster: str = ""
    ca: str = ""
    token_file: str = ""
    deadline_s: float = 20.0
    opener: Opener = _open

    def connect(self) -> AbstractContextManager[CliSession]:
        """A session with the cluster. Raises `CliError`."""
        return self.opener(self.where())

    def where(self) -> Where:
        """The nodes and credentials, from the options, the environment and cluster.json. Raises
        `CliError`."""
        named, cluster = self.cluster, ""
        ca = Path(self.ca) if self.ca else None
        token_file = Path(self.token_file) if self.token_file else None
        if named and not _is_path(named):
            addresses = tuple(part.strip() for part in named.split(",") if part.strip())
            for address in addresses:
                _check_address(address)
            if not addresses:
                raise CliError(f"--cluster: {named!r} names no node; {FORM}")
        else:
            file = self.cluster_file()
            addresses = tuple(node.client for node in file.nodes if node.client)
            if ca is None:
                ca, cluster = file.ca, file.cluster
            if token_file is None and not os.environ.get("RAFTMAIL_TOKEN"):
                token_file = file.token_file
        token = os.environ.get("RAFTMAIL_TOKEN") or None
        if token is not None and token_file is None:
            token = _checked(token.strip(), "RAFTMAIL_TOKEN")
        if token_file is not None:
            token = _read_token(token_file)
        if ca is not None and not ca.is_file():
            raise CliError(f"{ca}: there is no such file; --ca names the cluster's ca.pem")
        return Where(addresses, ca, token, self.deadline_s, cluster)

    def cluster_file(self) -> clusterfile.ClusterFile:
        """cluster.json. Raises `CliError`."""
        if self.cluster and not _is_path(self.cluster):
            raise CliError(
                f"--cluster {self.cluster}: this command needs the path of a cluster.json"
            )
        path = self.cluster_path()
        if not self.cluster and not path.exists():
            raise CliError(
                "which cluster? Give --cluster HOST:PORT,... or the path of its cluster.json, set "
                "RAFTMAIL_CLUSTER, or go to the folder that has a cluster.json"
            )
        return clusterfile.load(path)

    def cluster_path(self) -> Path:
        """Where cluster.json is, or the folder that has it."""
        return Path(self.cluster or clusterfile.FILE)


def _is_path(value: str) -> bool:
    return "/" in value or value.endswith(".json") or Path(value).exists()


def _check_address(address: str) -> None:
    try:
        dialled(address)
    except ValueError as error:
        raise CliError(
            f"--cluster: {error}; or name the path of a cluster.json that is there"
        ) from None


def _read_token(path: Path) -> str:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            data = file.read(_TOKEN_FILE_BYTES_MAX)
    except FileNotFoundError:
        raise CliError(f"{path}: there is no such file; --token-file names the token's") from None
    except OSError as error:
        raise CliError(f"{path}: cannot be read: {error.strerror}") from None
    if not data.strip():
        raise CliError(f"{path}: is empty; it must hold the cluster's token")
    return _checked(data.decode("ascii", "replace").strip(), str(path))


def _checked(token: str, where: str) -> str:
    from raftmail.client import check_token  # takes a while, as in `_open`

    try:
        return check_token(token, where)
    except ValueError as error:
        raise CliError(f"{error}. Nothing was sent") from None


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is None:
            return
        settings = ctx.ensure_object(Settings)
        assert parameter.name is not None
        source = ctx.get_parameter_source(parameter.name)
        if source is ParameterSource.ENVIRONMENT and getattr(settings, name):
            return  # the environment stands back behind what was typed before the command
        setattr(settings, name, Format(value) if name == "output" else value)

    return callback


def output_option(function: F) -> F:
    """`-o`, kept in the `Settings`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([f.value for f in Format]),
        expose_value=False,
        callback=_keep("output"),
        help="How to print the result: tables (human, the default) or json.",
    )(function)


def cluster_option(function: F) -> F:
    """`--cluster`, kept in the `Settings`."""
    return click.option(
        "--cluster",
        metavar="WHERE",
        envvar="RAFTMAIL_CLUSTER",
        expose_value=False,
        callback=_keep("cluster"),
        help="HOST:PORT,... of nodes, or the path of a cluster.json  [env: RAFTMAIL_CLUSTER; "
        "default: ./cluster.json]",
    )(function)


def connection_options(function: F) -> F:
    """`--cluster`, `--ca`, `--token-file` and `--deadline`, kept in the `Settings`."""
    options = [
        cluster_option,
        click.option(
            "--ca",
            metavar="FILE",
            envvar="RAFTMAIL_CA",
            expose_value=False,
            callback=_keep("ca"),
            help="Certificate of the cluster's authority (ca.pem)  [env: RAFTMAIL_CA]",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            expose_value=False,
            callback=_keep("token_file"),
            help="File with the cluster's token; or put the token in RAFTMAIL_TOKEN.",
        ),
        click.option(
            "--deadline",
            metavar="SECONDS",
            type=click.FloatRange(0.1, 120),
            expose_value=False,
            callback=_keep("deadline_s"),
            help="How long to keep trying before exit status 75  [default: 20]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def common_options(function: F) -> F:
    """All options of a command that talks to nodes."""
    return output_option(connection_options(function))


pass_settings = click.make_pass_decorator(Settings, ensure=True)
