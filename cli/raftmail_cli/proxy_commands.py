"""`proxy`: one address before all nodes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from raftmail_cli import clusterfile
from raftmail_cli.errors import CliError
from raftmail_cli.trust import read_file


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Read the configuration, and start nothing.")
def proxy(file: Path, check: bool) -> None:
    """Run the fail-over proxy in the foreground, with the configuration FILE (proxy.toml).

    It takes IMAP, POP3, ManageSieve and LMTP at one address, and passes each client on to a node
    that answers.
    It keeps nothing, so any number of them may run. SIGTERM and SIGINT stop it.
    """
    # The event loop and TLS are loaded here alone: other commands start in half the time.
    from raftmail.proxy.config import ProxyConfigError, load_proxy
    from raftmail.proxy.mail_proxy import ProxiedCluster
    from raftmail.proxy.nodes import ProxiedNode
    from raftmail.proxy.run import run_proxy

    try:
        config = load_proxy(file)
        found = clusterfile.load(config.cluster_file)
        nodes = [
            ProxiedNode(
                node.name,
                {
                    protocol: address
                    for protocol, address in (
                        ("imaps", node.programs.imaps),
                        ("pop3s", node.programs.pop3s),
                        ("managesieve", node.programs.managesieve),
                        ("lmtp", node.lmtp),
                    )
                    if address
                },
            )
            for node in found.nodes
        ]
        for protocol in config.listen.served:
            if not any(protocol in node.addresses for node in nodes):
                raise CliError(
                    f"{config.cluster_file}: no node speaks {protocol.upper()}: set "
                    f"listen.{protocol} in node.toml of each, and the address in this file"
                )
        token = read_file(found.token_file).decode("ascii").strip()
        cluster = ProxiedCluster(nodes, [node.client for node in found.nodes], found.ca, token)
        if check:
            click.echo(f"{file}: fine, for the nodes {', '.join(node.name for node in nodes)}")
            return
        sys.exit(run_proxy(config, cluster))
    except ProxyConfigError as e:
        raise CliError(str(e)) from None
    except (OSError, UnicodeDecodeError) as e:
        raise CliError(f"{config.cluster_file}: its token cannot be read: {e}") from None


COMMANDS = (proxy,)
