"""`dns`: the records by which mail programs find a domain's servers."""

from __future__ import annotations

from pathlib import Path

import click

from raftmail.mail import addresses
from raftmail.mail.client_setup import ClientSetup
from raftmail.mail.dns_records import dns_records
from raftmail.node.config import ConfigError, load
from raftmail_cli.errors import CliError
from raftmail_cli.output import show
from raftmail_cli.settings import Settings, cluster_option, output_option, pass_settings


@click.command()
@click.argument("domain")
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A node.toml whose [setup] names the servers, or its folder  [default: the nodes in "
    "cluster.json]",
)
@click.option("--web", metavar="HOST", default="", help="Who serves autoconfig and autodiscover.")
@output_option
@cluster_option
@pass_settings
def dns(settings: Settings, domain: str, config: Path | None, web: str) -> None:
    """Print the DNS records that let mail programs find DOMAIN's servers, as lines of a zone file.

    A service that is not there gets a record that says so.
    """
    try:
        name = addresses.domain(domain)
        if config is not None:
            found = load(config).setup.told
            if not found.servers:
                raise CliError(f"{config}: has no [setup]; name the servers there")
            setups = [found]
        else:
            nodes = settings.cluster_file().nodes
            setups = [ClientSetup.of("", node.programs.by_protocol) for node in nodes]
        records = dns_records(name, setups, web)
    except ConfigError as error:
        raise CliError(str(error)) from None
    except ValueError as error:
        raise CliError(
            f"{error}; --config FILE takes the servers' names from [setup]"
            if config is None
            else str(error)
        ) from None
    show(
        settings.output,
        records,
        lambda console: console.print("\n".join(one.line for one in records), soft_wrap=True),
    )


COMMANDS = [dns]
