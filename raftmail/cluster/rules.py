"""Where users' mail is to be: rules and pools, and users' own places; and domains and aliases.

A rule gives a domain a pool: shards of its own on nodes of some zones, labels or names. Mail is
never moved by it. When a rule gives a domain *another* pool,

1. the rule is `pinning`: the root refuses to make users of the domain; who exists is pinned
   (`user-shard/`) to where the mail is;
2. it is `spreading`: new users would hash into the new pool; still none are made, until every node
   follows the revision that says so;
3. it is `active`.

So at no moment two nodes disagree on the shard of a user who exists. What a pool asks of its nodes
may be changed at any time: its users stay in its shards, and their replicas move.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from raftmail.cluster.changes import Change, ChangeDenied, change_of, every_node
from raftmail.cluster.leader_balancing import BALANCED, ZONE, check_preference
from raftmail.cluster.moves import load_of
from raftmail.cluster.placement import PlacementNode, place
from raftmail.cluster.records import (
    MAIN_POOL,
    ROOT_POOL,
    ROOT_SHARD,
    AliasRecord,
    DomainRecord,
    NodeRecord,
    PoolRecord,
    QuotaRecord,
    Record,
    RuleRecord,
    RuleState,
    ShardRecord,
    UserShardRecord,
    key_for,
    key_of,
)
from raftmail.cluster.state import NO_SHARD, ClusterState, founded
from raftmail.cluster.steps import Observed, ObservedNode
from raftmail.mail import addresses
from raftmail.mail.record_rules import ALIAS_TARGETS_MAX

SHARDS_MAX = 4096
REPLICATION_MAX = 7
PINS_PER_CHANGE = 1000
FORGOTTEN_S = 600.0
"""A node that is silent for so long is not waited for: it reads the root's state before it serves
again."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a rule asks for. `shards` is how many a new pool gets."""

    zones: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    replicas: int = 0
    shards: int = 4
    master: str = BALANCED


def set_rule(state: ClusterState, domain: str, wish: Wish, pool: str = "") -> Change:
    """Give a domain a pool: a named one that exists, or one that is made (or changed) as `wish`
    says, and named after the domain. Raises `ChangeDenied`, saying what is missing, when it cannot
    be met."""
    domain = domain_of(state, domain)
    rule = state.find(RuleRecord, domain)
    if rule is not None and rule.state is not RuleState.ACTIVE:
        raise ChangeDenied(
            f"the rule of {domain} is being changed already ({rule.state}); wait until that is done"
        )
    now = MAIN_POOL if rule is None else rule.pool
    if pool and wish != Wish():
        raise ChangeDenied(
            "a rule names a pool that exists, or says what a pool is to be like, not both"
        )
    name = pool or (now if now != MAIN_POOL and _own(state, domain, now) else domain)
    found = state.find(PoolRecord, name)
    if pool and found is None:
        raise ChangeDenied(
            f"there is no pool {pool}; there are "
            f"{', '.join(sorted(p.name for p in state.table(PoolRecord).values()))}"
        )
    puts: list[Record] = []
    if not pool:
        puts += _pool_as_wished(state, name, found, wish)
    if name != now:
        puts.append(RuleRecord(domain, name, now, RuleState.PINNING))
    if not puts:
        raise ChangeDenied(f"the rule of {domain} is just that already")
    used = [] if found is None else [key_of(found)]
    return change_of(state, puts, by=[*every_node(state), *used, key_for(RuleRecord, domain)])


def remove_rule(state: ClusterState, domain: str) -> Change:
    """Let new users of a domain go to the main pool again. Who exists stays where the mail is.
    Raises `ChangeDenied`."""
    rule = state.find(RuleRecord, domain_of(state, domain))
    if rule is None:
        raise ChangeDenied(f"there is no rule for {domain}")
    if rule.state is not RuleState.ACTIVE:
        raise ChangeDenied(
            f"the rule of {domain} is being changed ({rule.state}); wait until that is done"
        )
    return change_of(
        state, [replace(rule, pool=MAIN_POOL, previous=rule.pool, state=RuleState.PINNING)]
    )


def _own(state: ClusterState, domain: str, pool: str) -> bool:
    """Whether a pool is of one domain only, so that it may be changed for it."""
    return not any(
        pool in (rule.pool, rule.previous)
        for rule in state.table(RuleRecord).values()
        if rule.domain != domain
    )


def _pool_as_wished(
    state: ClusterState, name: str, found: PoolRecord | None, wish: Wish
) -> Iterator[Record]:
    """The pool, and its shards when they are new or change. Raises `ChangeDenied`."""
    if name in (MAIN_POOL, ROOT_POOL):
        raise ChangeDenied(
            f"{name} is the name of a pool that every cluster has; it cannot be that of a domain's"
        )
    replication = wish.replicas or (found.replication if found else state.cluster.replication)
    if not 1 <= replication <= REPLICATION_MAX:
        raise ChangeDenied(f"replicas: from 1 to {REPLICATION_MAX}, not {replication}")
    try:
        check_preference(wish.master)
    except ValueError as e:
        raise ChangeDenied(str(e)) from None
    shards = found.shards if found else ()
    pool = PoolRecord(name, shards, replication, wish.zones, wish.labels, wish.nodes, wish.master)
    nodes = _fitting(state, pool)
    if found is not None:
        if pool != found:
            yield pool
        for number in shards:
            shard = state.find(ShardRecord, number)
            if shard is None:
                raise ChangeDenied(
                    f"the record of shard {number}, which is of pool {name}, is missing"
                )
            changed = replace(shard, replication=replication, master=wish.master)
            if changed != shard:
                yield changed
        return
    first = max(state.shards, default=ROOT_SHARD) + 1
    if wish.shards < 1 or first + wish.shards - 1 > SHARDS_MAX:
        raise ChangeDenied(
            f"shards: at least 1, and at most {SHARDS_MAX} in all; there are {first - 1}"
        )
    numbers = tuple(range(first, first + wish.shards))
    yield replace(pool, shards=numbers)
    placed = place([PlacementNode.of(node) for node in nodes], numbers, replication, load_of(state))
    for number in numbers:
        yield founded(number, placed[number], replication, name, wish.master)


def _fitting(state: ClusterState, pool: PoolRecord) -> list[NodeRecord]:
    """The nodes that may hold a pool. Raises `ChangeDenied` when they are too few, saying what is
    missing."""
    active = [node for node in state.every_node.values() if node.is_open]
    for name in pool.nodes:
        node = state.find(NodeRecord, name)
        if node is None or not node.is_open:
            cordoned = node is not None and node.cordoned
            raise ChangeDenied(
                f"{name} is cordoned, and gets no new replicas; uncordon it first"
                if cordoned
                else f"there is no active node {name}; there are "
                f"{', '.join(n.name for n in active)}"
            )
    for zone in pool.zones:
        if not any(node.zone == zone for node in active):
            zones = sorted({node.zone for node in active if node.zone})
            raise ChangeDenied(
                f"no active node is in zone {zone}; "
                f"{'zones are ' + ', '.join(zones) if zones else 'no node has a zone'}"
            )
    for label in pool.labels:
        if not any(label in node.labels for node in active):
            raise ChangeDenied(f"no active node has the label {label}")
    fitting = [node for node in active if pool.allows(node)]
    zone = pool.master.removeprefix(ZONE) if pool.master.startswith(ZONE) else ""
    if zone and not any(node.zone == zone for node in fitting):
        raise ChangeDenied(
            f"no active node {pool.wanted}".rstrip()
            + f" is in zone {zone}, where the masters are to be"
        )
    if len(fitting) < pool.replication:
        have = ", ".join(node.name for node in fitting) or "none"
        raise ChangeDenied(
            f"{pool.replication} replicas need as many nodes {pool.wanted}".rstrip()
            + f"; there are {len(fitting)} ({have}): {pool.replication - len(fitting)} more needed"
        )
    return fitting


# -- the steps of a rule that changes --------------------------------------------------------------


def to_pin(state: ClusterState) -> list[str]:
    """The domains whose users must be known for the next step (`Observed.users`): all of them, read
    from the root behind a barrier after it had this state, for it makes no new ones then."""
    return sorted(
        r.domain for r in state.table(RuleRecord).values() if r.state is RuleState.PINNING
    )


def next_changes(state: ClusterState, observed: Observed) -> Iterator[tuple[Change, str]]:
    """What is to be written next for rules that are being changed."""
    for rule in state.table(RuleRecord).values():
        if rule.state is RuleState.PINNING and rule.domain in observed.users:
            pinned = _pin(state, rule, observed.users[rule.domain])
            if pinned is not None:
                yield pinned
        elif rule.state is RuleState.SPREADING and _all_follow(state, observed, rule):
            done = replace(rule, state=RuleState.ACTIVE)
            why = f"the rule of {rule.domain} is known everywhere"
            if rule.pool == MAIN_POOL:
                yield change_of(state, [], [key_of(rule)]), why
            else:
                yield change_of(state, [done]), why


def _pin(state: ClusterState, rule: RuleRecord, users: Iterable[str]) -> tuple[Change, str] | None:
    loose = [user for user in users if state.find(UserShardRecord, user) is None][:PINS_PER_CHANGE]
    if loose:
        places = [(user, state.hashed_shard_of(user)) for user in loose]
        if any(shard == NO_SHARD for _, shard in places):
            return None  # the record that tells where they are cannot be read
        pins: list[Record] = [UserShardRecord(user, shard) for user, shard in places]
        return change_of(
            state, pins, by=[key_of(rule)]
        ), f"{len(loose)} users of {rule.domain} stay where they are"
    spreading = replace(rule, state=RuleState.SPREADING)
    return change_of(state, [spreading]), f"the users of {rule.domain} are pinned"


def _all_follow(state: ClusterState, observed: Observed, rule: RuleRecord) -> bool:
    return not waits_for(state, rule, observed.nodes)


def waits_for(
    state: ClusterState, rule: RuleRecord, nodes: Mapping[str, ObservedNode]
) -> list[str]:
    """The nodes that have yet to follow the change of a rule before it goes on. Not those that were
    silent for so long that they read the root's state before they serve again."""
    revision = state.revision_of(key_of(rule))
    return [
        name
        for name in state.nodes
        if (node := nodes.get(name)) is None
        or (node.revision < revision and (node.alive or node.silent_s < FORGOTTEN_S))
    ]


# -- users, domains, aliases -----------------------------------------------------------------------


def place_user(state: ClusterState, address: str, number: int, *, exists: bool) -> Change:
    """Have a user's mail in a shard whatever the hash says. Raises `ChangeDenied` for one whose
    mail is elsewhere already."""
    address = _address(address)
    shard = state.find(ShardRecord, number)
    if shard is None or number == ROOT_SHARD:
        raise ChangeDenied(f"there is no shard {number} for mail")
    now = state.shard_of(address)
    if exists and now != number:
        raise ChangeDenied(
            f"{address} has mail in shard {now}, which would be left behind; a shard is chosen "
            f"when a user is made"
        )
    return change_of(state, [UserShardRecord(address, number)], by=[key_of(shard)])


def set_quota(state: ClusterState, address: str, bytes_max: int | None) -> Change:
    """Limit the size of all messages of a user: 0 is no limit, whatever the domain says, and None
    leaves it to the domain. Raises `ChangeDenied`."""
    address = _address(address)
    found = state.find(QuotaRecord, address)
    if found is None if bytes_max is None else found == QuotaRecord(address, bytes_max):
        raise ChangeDenied(f"the quota of {address} is just that already")
    if bytes_max is None:
        return change_of(state, [], [key_for(QuotaRecord, address)])
    return change_of(state, [QuotaRecord(address, bytes_max)])


def set_domain(
    state: ClusterState, name: str, catch_all: str | None = None, quota_bytes: int | None = None
) -> Change:
    """Take mail for a domain, or change how; what is None stays as it is. Raises `ChangeDenied`."""
    name = domain_of(state, name)
    found = state.find(DomainRecord, name)
    made = found or DomainRecord(name)
    if catch_all is not None:
        made = replace(made, catch_all=_address(catch_all) if catch_all else "")
    if quota_bytes is not None:
        made = replace(made, quota_bytes=quota_bytes)
    if found == made:
        raise ChangeDenied(f"the domain {name} is just that already")
    return change_of(state, [made])


def remove_domain(state: ClusterState, name: str) -> Change:
    """Take no more mail for a domain. Raises `ChangeDenied` while it has aliases or a rule."""
    found = state.find(DomainRecord, domain_of(state, name))
    if found is None:
        raise ChangeDenied(f"there is no domain {name}")
    ending = "@" + found.name
    aliases = sorted(
        a.address for a in state.table(AliasRecord).values() if a.address.endswith(ending)
    )
    if aliases:
        more = f" and {len(aliases) - 3} more" if len(aliases) > 3 else ""
        raise ChangeDenied(
            f"{name} has the aliases {', '.join(aliases[:3])}{more}; remove them first"
        )
    if state.find(RuleRecord, found.name) is not None:
        raise ChangeDenied(f"{name} has a rule; remove it first")
    return change_of(state, [], [key_of(found)])


def set_alias(state: ClusterState, address: str, to: Iterable[str]) -> Change:
    """Have mail for an address go to others. It may name itself, when it is a user's too. Raises
    `ChangeDenied`."""
    address = _alias_address(state, address)
    targets = tuple(dict.fromkeys(_address(one) for one in to))
    if not targets:
        raise ChangeDenied(f"the alias {address} leads nowhere: name at least one address")
    if targets == (address,):
        raise ChangeDenied(f"the alias {address} leads only to itself")
    if len(targets) > ALIAS_TARGETS_MAX:
        raise ChangeDenied(
            f"an alias has at most {ALIAS_TARGETS_MAX} addresses, not {len(targets)}"
        )
    for target in targets:
        path = _path(state, target, address) if target != address else []
        if path:
            raise ChangeDenied(f"it would be a loop: {' to '.join([address, *path])}")
    return change_of(state, [AliasRecord(address, targets)])


def _path(state: ClusterState, start: str, goal: str) -> list[str]:
    """How aliases lead from one address to another; [] when they do not."""
    paths = {start: [start]}
    level = [start]
    while level:
        following = []
        for one in level:
            alias = state.find(AliasRecord, one)
            for target in () if alias is None else alias.to:
                if target == goal:
                    return [*paths[one], target]
                if target not in paths:
                    paths[target] = [*paths[one], target]
                    following.append(target)
        level = following
    return []


def remove_alias(state: ClusterState, address: str) -> Change:
    """Raises `ChangeDenied`."""
    found = state.find(AliasRecord, _alias_address(state, address))
    if found is None:
        raise ChangeDenied(f"there is no alias {address}")
    return change_of(state, [], [key_of(found)])


def _address(address: str) -> str:
    try:
        return addresses.named(address)
    except ValueError as e:
        raise ChangeDenied(str(e)) from None


def _alias_address(state: ClusterState, address: str) -> str:
    """Of an alias: one that is there may have a name that none could be given today."""
    if state.find(AliasRecord, address) is not None:
        return address
    try:
        return addresses.alias_address(address)
    except ValueError as e:
        raise ChangeDenied(str(e)) from None


def domain_of(state: ClusterState, name: str) -> str:
    """The form of a domain; one that an earlier release wrote down in another is found under that.
    Raises `ChangeDenied`."""
    earlier = name.lower()
    if state.find(DomainRecord, earlier) is not None or state.find(RuleRecord, earlier) is not None:
        return earlier
    if not name or "@" in name or "/" in name:
        raise ChangeDenied(f"{name!r} is no domain")
    try:
        made = addresses.domain(name)
        addresses.account(f"x@{made}")
    except ValueError as e:
        raise ChangeDenied(str(e)) from None
    return made
