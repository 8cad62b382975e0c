"""`rule`, `domain` and `alias`: where new users' mail is, and who gets mail for an address."""

from __future__ import annotations

from dataclasses import dataclass

import click
from rich.console import Console

from raftmail.admin.api.calls import (
    ListAliases,
    ListDomains,
    ListRules,
    PlaceUser,
    RemoveAlias,
    RemoveDomain,
    RemoveRule,
    SetAlias,
    SetDomain,
    SetRule,
)
from raftmail.admin.api.codec import encode
from raftmail.admin.api.policies import Pool, Rules
from raftmail_cli.asking import confirm, yes_option
from raftmail_cli.errors import CliError
from raftmail_cli.output import make_table, plural, printable, printable_lines, show, size
from raftmail_cli.quotas import SIZE, quota, quota_bytes_of, usage
from raftmail_cli.settings import Settings, common_options, pass_settings
from raftmail_cli.watching import admin


@click.group()
def rule() -> None:
    """Rules: shards of its own for a domain, on the nodes that it names."""


@rule.command("list")
@common_options
@pass_settings
def list_rules(settings: Settings) -> None:
    """Show the rules, and the pools of shards."""
    answer = admin(settings, ListRules())
    show(settings.output, encode(answer), lambda console: _render_rules(console, answer))


def _render_rules(console: Console, answer: Rules) -> None:
    pools = [
        (pool.name, len(pool.shards), pool.replicas, _nodes_of(pool), pool.master)
        for pool in answer.pools
    ]
    columns = ("pool", "shards", "replicas", "nodes", "master")
    console.print(make_table(columns, pools, right=("shards", "replicas")))
    if answer.rules:
        rows = [(one.domain, one.pool, one.state, one.waits_for or "-") for one in answer.rules]
        console.print(make_table(("domain", "pool", "state", "waits for"), rows))


def _nodes_of(pool: Pool) -> str:
    parts = [
        f"{what} {','.join(names)}"
        for what, names in (("zone", pool.zones), ("label", pool.labels), ("node", pool.nodes))
        if names
    ]
    return "; ".join(parts) or "any"


@rule.command("set")
@click.argument("domain")
@click.option("--zones", default="", help="Nodes of these zones (comma between).")
@click.option("--labels", default="", help="Nodes that have all of these labels.")
@click.option("--nodes", default="", help="These nodes.")
@click.option(
    "--replicas", type=click.IntRange(1, 7), help="Of each shard  [default: the cluster's]"
)
@click.option("--shards", type=click.IntRange(1, 4096), help="Of a new pool  [default: 4]")
@click.option(
    "--master", default="", help="balanced, near-clients, or zone:NAME  [default: balanced]"
)
@click.option("--pool", default="", help="A pool that there is, instead of all these.")
@common_options
@pass_settings
def set_rule(
    settings: Settings,
    domain: str,
    zones: str,
    labels: str,
    nodes: str,
    replicas: int | None,
    shards: int | None,
    master: str,
    pool: str,
) -> None:
    """Give DOMAIN shards of its own. Users who exist stay where their mail is; the rule is for
    those who come.

    For some seconds, until all nodes know it, no users of the domain can be added.
    """
    call = SetRule(
        domain, _names(zones), _names(labels), _names(nodes), replicas, shards, master, pool
    )
    answer = admin(settings, call)
    made = answer.pool
    text = (
        f"New users of {domain} have no pool"
        if made is None
        else f"New users of {domain} go to the pool {made.name} ({_nodes_of(made)})."
    )
    show(settings.output, encode(answer), lambda console: console.print(printable(text)))


def _names(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(",") if one.strip())


@rule.command("remove")
@click.argument("domain")
@yes_option
@common_options
@pass_settings
def remove_rule(settings: Settings, domain: str, yes: bool) -> None:
    """Let new users of DOMAIN go to the main pool again."""
    confirm(f"Remove the rule of {domain}? New users go to the main pool then.", yes=yes)
    answer = admin(settings, RemoveRule(domain))
    text = f"New users of {domain} go to the main pool."
    show(settings.output, encode(answer), lambda console: console.print(printable(text)))


@rule.command("place")
@click.argument("address")
@click.argument("shard", type=click.IntRange(1, 4096))
@common_options
@pass_settings
def place(settings: Settings, address: str, shard: int) -> None:
    """Have the mail of a user who is yet to be added in SHARD, whatever the rules say."""
    answer = admin(settings, PlaceUser(address, shard))
    text = f"The mail of {answer.address} is in shard {answer.shard}."
    show(settings.output, encode(answer), lambda console: console.print(printable(text)))


@click.group()
def domain() -> None:
    """Domains: who gets mail for addresses that nobody has, and how much users may keep."""


@domain.command("list")
@common_options
@pass_settings
def list_domains(settings: Settings) -> None:
    """Show the domains that were set."""
    answer = admin(settings, ListDomains())
    rows = [(one.name, quota(one.quota_bytes), one.catch_all or "-") for one in answer.domains]
    columns = ("domain", "quota", "catch-all")
    show(
        settings.output,
        encode(answer),
        lambda c: c.print(make_table(columns, rows, right=("quota",))),
    )


@dataclass(frozen=True, slots=True)
class DomainSummary:
    """A domain, and what its users have together; `unknown` are users whose shard does not
    answer."""

    name: str
    catch_all: str
    quota_bytes: int
    users: int
    messages: int
    used_bytes: int
    unknown: tuple[str, ...]


@domain.command("show")
@click.argument("name")
@common_options
@pass_settings
def show_domain(settings: Settings, name: str) -> None:
    """Show what was set for a domain, and what its users have."""
    set_for = [one for one in admin(settings, ListDomains()).domains if one.name == name]
    users = list(usage(settings, name))
    if not set_for and not users:
        raise CliError(f"there is no domain {name}, and no user in it")
    silent = tuple(one.address for one in users if one.used_bytes is None)
    answer = DomainSummary(
        name,
        set_for[0].catch_all if set_for else "",
        set_for[0].quota_bytes if set_for else 0,
        len(users),
        sum(one.messages or 0 for one in users),
        sum(one.used_bytes or 0 for one in users),
        silent,
    )
    text = (
        f"{name}: {plural(len(users), 'user')}, {plural(answer.messages, 'message')}, "
        f"{size(answer.used_bytes)}.\n"
        f"Quota of each user: {quota(answer.quota_bytes)}.\n"
        f"Catch-all: {answer.catch_all or '-'}."
    )
    if silent:
        text += (
            f"\nWithout {plural(len(silent), 'user')} whose shard does not answer: "
            f"{', '.join(silent[:3])}"
        )
    show(
        settings.output,
        answer,
        lambda console: console.print(printable_lines(text.split("\n")), end=""),
    )


@domain.command("set")
@click.argument("name")
@click.option("--catch-all", help='The address that gets what nobody has; "" is nobody.')
@click.option(
    "--quota", "limit", type=SIZE, help="Of each user who has none of the own: 2G, 500M, none."
)
@common_options
@pass_settings
def set_domain(settings: Settings, name: str, catch_all: str | None, limit: str | None) -> None:
    """Set what is done with mail for NAME that no user or alias has, and how much each of its
    users may keep. What is not given stays as it is."""
    quota_bytes = None if limit is None else quota_bytes_of(limit)
    answer = admin(settings, SetDomain(name, catch_all, quota_bytes))
    whose = answer.catch_all
    text = f"{name}: " + (f"{whose} gets what nobody has; " if whose else "no catch-all; ")
    text += f"quota of each user: {quota(answer.quota_bytes)}."
    show(settings.output, encode(answer), lambda console: console.print(printable(text)))


@domain.command("remove")
@click.argument("name")
@yes_option
@common_options
@pass_settings
def remove_domain(settings: Settings, name: str, yes: bool) -> None:
    """Forget what was set for a domain. Users stay."""
    confirm(f"Forget the catch-all and the quota of {name}?", yes=yes)
    answer = admin(settings, RemoveDomain(name))
    show(
        settings.output,
        encode(answer),
        lambda console: console.print(printable(f"{name} is forgotten.")),
    )


@click.group()
def alias() -> None:
    """Aliases: addresses whose mail goes to users."""


@alias.command("list")
@click.argument("domain", required=False, default="")
@common_options
@pass_settings
def list_aliases(settings: Settings, domain: str) -> None:
    """Show aliases, all or those of DOMAIN."""
    answer = admin(settings, ListAliases(domain))
    rows = [(one.address, ", ".join(one.to)) for one in answer.aliases]
    show(settings.output, encode(answer), lambda c: c.print(make_table(("alias", "goes to"), rows)))


@alias.command("set")
@click.argument("address")
@click.argument("to", nargs=-1, required=True)
@common_options
@pass_settings
def set_alias(settings: Settings, address: str, to: tuple[str, ...]) -> None:
    """Have mail for ADDRESS go to others; name ADDRESS itself, too, when it is a user's."""
    answer = admin(settings, SetAlias(address, to))
    text = f"Mail for {address} goes to {', '.join(answer.to)}."
    show(settings.output, encode(answer), lambda console: console.print(printable(text)))


@alias.command("remove")
@click.argument("address")
@yes_option
@common_options
@pass_settings
def remove_alias(settings: Settings, address: str, yes: bool) -> None:
    """Take an alias away."""
    confirm(f"Take the alias {address} away? Mail for it is refused then.", yes=yes)
    answer = admin(settings, RemoveAlias(address))
    text = f"{address} is no alias any more."
    show(settings.output, encode(answer), lambda console: console.print(printable(text)))


COMMANDS = [rule, domain, alias]
