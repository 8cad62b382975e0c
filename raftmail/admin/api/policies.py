"""Users, and what is set for them and their domains."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pool:
    """Shards among which users are spread."""

    name: str
    """Its name."""
    shards: tuple[int, ...]
    """Its shards."""
    replicas: int
    """Replicas of each."""
    zones: tuple[str, ...]
    """The zones whose nodes may hold them; empty: any."""
    labels: tuple[str, ...]
    """The labels that those nodes must have."""
    nodes: tuple[str, ...]
    """The nodes that may hold them; empty: any."""
    master: str
    """Where masters should be: balanced, near-clients or zone:NAME."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Where new users of a domain go."""

    domain: str
    """The domain."""
    pool: str
    """The pool that its new users go to."""
    state: str
    """pinning, spreading or active."""
    waits_for: str
    """What the change of the rule waits for; "": nothing."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules and pools."""

    rules: tuple[Rule, ...]
    """Each rule."""
    pools: tuple[Pool, ...]
    """Each pool."""


@dataclass(frozen=True, slots=True)
class RuleChanged:
    """A rule as it is after a change."""

    domain: str
    """The domain."""
    state: str
    """pinning, spreading or active; "": there is no rule."""
    pool: Pool | None
    """The pool of new users; None: there is no rule."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A user who is yet to be added has a shard."""

    address: str
    """The user."""
    shard: int
    """The shard."""


@dataclass(frozen=True, slots=True)
class Domain:
    """What was set for a domain."""

    name: str
    """The domain."""
    catch_all: str
    """Who gets what nobody has; "": nobody."""
    quota_bytes: int
    """The limit of each user who has none of the own; 0: none."""


@dataclass(frozen=True, slots=True)
class Domains:
    """The domains for which something was set."""

    domains: tuple[Domain, ...]
    """Each of them."""


@dataclass(frozen=True, slots=True)
class DomainRemoved:
    """What was set for a domain is forgotten."""

    name: str
    """The domain."""


@dataclass(frozen=True, slots=True)
class Alias:
    """An address whose mail goes to others."""

    address: str
    """The address."""
    to: tuple[str, ...]
    """Who gets its mail."""


@dataclass(frozen=True, slots=True)
class Aliases:
    """Aliases, in order."""

    aliases: tuple[Alias, ...]
    """Each of them."""
    more: bool
    """Whether others follow."""


@dataclass(frozen=True, slots=True)
class AliasRemoved:
    """An alias was taken away."""

    address: str
    """The address."""


@dataclass(frozen=True, slots=True)
class UserUsage:
    """A user, and what is stored."""

    address: str
    """The user."""
    shard: int
    """The shard that holds the mail."""
    quota_bytes: int
    """The limit; 0: none."""
    own_quota: bool
    """Whether the limit was set for the user, not for the domain."""
    used_bytes: int | None
    """What all messages take; None: the shard does not answer."""
    messages: int | None
    """How many messages there are; None: the shard does not answer."""


@dataclass(frozen=True, slots=True)
class UserPlace:
    """Where the mail of an address is, or would be, as far as the node that was asked knows."""

    address: str
    """The address, in the form in which it is kept."""
    shard: int
    """Its shard."""
    master: str
    """The node that leads the shard; "": none that is known."""
    nodes: tuple[str, ...]
    """The nodes that have a replica of it."""


@dataclass(frozen=True, slots=True)
class AppPasswordMade:
    """A user has one more app password."""

    address: str
    """The user."""
    name: str
    """What it is for."""
    password: str = field(repr=False)
    """The password, which is shown this once."""


@dataclass(frozen=True, slots=True)
class AppPasswordRow:
    """An app password, without the password."""

    name: str
    """What it is for."""
    made_s: int
    """When it was made, as Unix time."""


@dataclass(frozen=True, slots=True)
class AppPasswords:
    """The app passwords of a user."""

    address: str
    """The user."""
    app_passwords: tuple[AppPasswordRow, ...]
    """Each of them, the oldest first."""


@dataclass(frozen=True, slots=True)
class AppPasswordRemoved:
    """An app password is one no more."""

    address: str
    """The user."""
    name: str
    """What it was for."""


@dataclass(frozen=True, slots=True)
class ShareRow:
    """What somebody may do with a mailbox."""

    identifier: str
    """A user, or `anyone`; with `-` before it, the rights are taken away."""
    rights: str
    """Letters of RFC 4314."""


@dataclass(frozen=True, slots=True)
class Shares:
    """With whom a mailbox is shared."""

    user: str
    """Whose mailbox it is."""
    mailbox: str
    """Its name."""
    shares: tuple[ShareRow, ...]
    """Each of them, in order."""
    own_seen: bool = False
    """Whether each of them has a \\Seen of the own."""


@dataclass(frozen=True, slots=True)
class GrantsForgotten:
    """A user has no rights any more that others gave."""

    address: str
    """The user."""
    owners: int
    """How many may have given some."""


@dataclass(frozen=True, slots=True)
class UsersPage:
    """Some users, in order."""

    users: tuple[UserUsage, ...]
    """Each of them."""
    after: str
    """What to go on with; "": there are no more."""
