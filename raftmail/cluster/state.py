"""What the cluster is: nodes, shards, pools, rules and users' places, as of one revision of the
root.

Every node has a `ClusterState`: at first the one that it kept in a file, or `genesis`; then it
follows the root, page by page (`apply`). It is immutable: a change gives a new one, which shares
what did not change.

A user's shard never changes silently. Who has a `user-shard/` record is there. Else the address is
hashed among the shards of the pool that the domain's rule names, or of the main pool. A pool's
shards are fixed once it is made.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar

from raftmail.cluster.placement import PlacementNode, place
from raftmail.cluster.records import (
    MAIN_POOL,
    ROOT_POOL,
    ROOT_REPLICATION,
    ROOT_SHARD,
    AliasRecord,
    BadRecord,
    ClusterRecord,
    DomainRecord,
    NodeRecord,
    NodeState,
    PoolRecord,
    QuotaRecord,
    Record,
    ReplicaRecord,
    ReplicaState,
    RuleRecord,
    RuleState,
    ShardRecord,
    UserShardRecord,
    encode,
    json_bytes,
    key_for,
    key_of,
    read,
)
from raftmail.mail.commands import Configure
from raftmail.mail.queries import Configuration, GetConfiguration
from raftmail.mail.record_rules import ALIAS_TARGETS_MAX

_FILE_HEAD = b"raftmail-cluster 1 "
_ALIAS_DEPTH_MAX = 10
NO_SHARD = -1
"""No shard has this number: what is for it fails with the reason that there is no such shard."""


_OF_PLACES = frozenset(("cluster", "node", "shard", "pool"))

T = TypeVar("T", bound=Record)


class BadState(Exception):
    """The bytes of a kept state cannot be read: it has to be fetched again."""


@lru_cache(maxsize=65536)
def hash_of(user: str) -> int:
    """Where a user falls: the same number on every node and in every release."""
    return int.from_bytes(hashlib.blake2b(user.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class UnreadRecord:
    """A record that means nothing here: of a kind that this release does not know (`why` is ""), or
    one that cannot be read."""

    revision: int
    value: bytes
    why: str


@dataclass(frozen=True)
class ClusterState:
    """A `view.ClusterView`, and everything else that is known.

    A record that cannot be read is passed over: what was known under its key before stays in force,
    and `kept` has the record with the reason, for status and for whoever mends it.

    `revision` is that of the root up to which everything is in here; 0 is genesis, before the root
    had anything. `floor` goes with the next question (`question`). `whole` is False between the
    pages of an answer: then it must not be used yet."""

    revision: int = 0
    floor: int = 0
    whole: bool = True
    revisions: Mapping[str, int] = field(default_factory=dict)
    tables: Mapping[type[Any], Mapping[str, Any]] = field(default_factory=dict)
    kept: Mapping[str, UnreadRecord] = field(default_factory=dict)
    unknown: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The JSON of records with fields of a later release, which stay when the record is written
    anew (`encoded`)."""
    fallback: Mapping[type[Any], Mapping[str, Any]] = field(default_factory=dict)
    """Between the pages of an answer that tells everything: what was known before."""

    # -- what is in it -----------------------------------------------------------------------------

    def table(self, kind: type[T]) -> Mapping[str, T]:
        """The records of a kind, by key."""
        return self.tables.get(kind, {})

    def find(self, kind: type[T], name: str | int) -> T | None:
        """The record of a kind with a name (or number)."""
        found: T | None = self.tables.get(kind, {}).get(key_for(kind, name))
        return found

    def revision_of(self, key: str) -> int:
        """0: there is none."""
        return self.revisions.get(key, 0)

    def encoded(self, record: Record) -> bytes:
        """The value with which a record is to be written over what is there."""
        return encode(record, self.unknown.get(key_of(record)))

    @cached_property
    def unreadable(self) -> Mapping[str, str]:
        """The keys of records that cannot be read, each with the reason."""
        return {key: kept.why for key, kept in sorted(self.kept.items()) if kept.why}

    @property
    def is_blind(self) -> bool:
        """Whether a record cannot be read that says where replicas are and may be: then none is
        moved."""
        return any(key.partition("/")[0] in _OF_PLACES for key in self.unreadable)

    @property
    def cluster(self) -> ClusterRecord:
        """What the record says; without one that can be read, what clusters have that say
        nothing."""
        found: ClusterRecord = self.table(ClusterRecord).get("cluster") or ClusterRecord("", 3)
        return found

    @cached_property
    def nodes(self) -> Sequence[str]:
        """The names of the nodes that take part, sorted."""
        return [n.name for n in self.every_node.values() if n.state is not NodeState.REMOVED]

    @cached_property
    def shards(self) -> Sequence[int]:
        """The numbers of all shards, sorted; 0 is the root."""
        return list(self.every_shard)

    @cached_property
    def every_node(self) -> Mapping[str, NodeRecord]:
        """Nodes by name, in the order of names; removed ones, too."""
        found = self.table(NodeRecord).values()
        return {node.name: node for node in sorted(found, key=lambda node: node.name)}

    @cached_property
    def every_shard(self) -> Mapping[int, ShardRecord]:
        """Shards by number, in their order."""
        found = self.table(ShardRecord).values()
        return {shard.number: shard for shard in sorted(found, key=lambda shard: shard.number)}

    def members(self, shard: int) -> tuple[str, ...]:
        """The nodes that can be asked for a shard; () when there is no such shard."""
        found = self.find(ShardRecord, shard)
        return () if found is None else found.nodes

    def pool_of(self, shard: ShardRecord) -> PoolRecord:
        """The pool of a shard; of the root, one that allows every node."""
        found = self.find(PoolRecord, shard.pool)
        return found or PoolRecord(shard.pool, (shard.number,), shard.replication)

    # -- users -------------------------------------------------------------------------------------

    def shard_of(self, user: str) -> int:
        """The shard that holds a user's mail; `NO_SHARD` when the record that says so is not
        known."""
        pinned = self.tables.get(UserShardRecord)
        if pinned:
            pin = pinned.get(key_for(UserShardRecord, user))
            if pin is not None:
                return int(pin.shard)
        return self.hashed_shard_of(user)

    def hashed_shard_of(self, user: str) -> int:
        """Where a user without a `user-shard/` record belongs."""
        name = MAIN_POOL
        rules = self.tables.get(RuleRecord)
        if rules:
            rule = rules.get(key_for(RuleRecord, user.rpartition("@")[2]))
            if rule is not None:
                name = rule.previous if rule.state is RuleState.PINNING else rule.pool
        pool = self.find(PoolRecord, name)
        if pool is None:
            return NO_SHARD  # another pool would have the mail of a user in two places
        return pool.shards[hash_of(user) % len(pool.shards)]

    def quota_of(self, user: str) -> int:
        """How many bytes all messages of a user may have together: the own limit, or that of the
        domain; 0 is none."""
        own = self.tables.get(QuotaRecord)
        if own:
            found = own.get(key_for(QuotaRecord, user))
            if found is not None:
                return int(found.bytes_max)
        domains = self.tables.get(DomainRecord)
        if domains:
            domain = domains.get(key_for(DomainRecord, user.rpartition("@")[2]))
            if domain is not None:
                return int(domain.quota_bytes)
        return 0

    def delivered_to(self, address: str) -> tuple[str, ...]:
        """The addresses that mail for an address goes to, aliases followed, each once; the address
        itself when it is no alias."""
        aliases = self.table(AliasRecord)
        found: dict[str, None] = {}
        level: tuple[str, ...] = (address,)
        seen: set[str] = set()
        for _ in range(_ALIAS_DEPTH_MAX):
            following: dict[str, None] = {}
            for one in level:
                alias = aliases.get(key_for(AliasRecord, one))
                if alias is None:
                    found[one] = None
                elif one not in seen:
                    seen.add(one)
                    # An alias may name itself: then its own mailbox gets the mail, too.
                    found.update({one: None} if one in alias.to else {})
                    following.update(dict.fromkeys(to for to in alias.to if to != one))
            level = tuple(following)
            if not level or len(found) + len(level) > ALIAS_TARGETS_MAX:
                break
        return tuple(found)

    def catch_all(self, address: str) -> str:
        """Who gets mail for an address of the same domain that nobody has; "": nobody."""
        found = self.find(DomainRecord, address.rpartition("@")[2])
        return "" if found is None else found.catch_all

    # -- following the root ------------------------------------------------------------------------

    @property
    def question(self) -> GetConfiguration:
        """What to ask the root next."""
        return GetConfiguration(self.revision, self.floor)

    def apply(self, answer: Configuration) -> ClusterState:
        """The state after a page of what changed. A root that has nothing yet leaves it as it
        is."""
        if not answer.revision:
            return self
        begin = ClusterState(fallback=self.fallback or self.tables) if answer.whole else self
        made = begin.with_records(answer.records)
        if not answer.more:
            made = replace(made, fallback={})
        return replace(made, revision=answer.revision, floor=answer.floor, whole=not answer.more)

    def with_records(self, records: Iterable[tuple[str, int, bytes | None]]) -> ClusterState:
        """The state with records written over and taken away; its own revision stays. Raises
        nothing for what a record may be."""
        revisions = dict(self.revisions)
        kept = dict(self.kept)
        unknown = dict(self.unknown)
        tables = dict(self.tables)
        copied: set[type[Any]] = set()

        def writable(kind: type[Any]) -> dict[str, Any]:
            if kind not in copied:
                copied.add(kind)
                tables[kind] = dict(tables.get(kind, {}))
            table: dict[str, Any] = tables[kind]  # type: ignore[assignment]
            return table

        def holding(key: str, tables: Mapping[type[Any], Mapping[str, Any]]) -> list[type[Any]]:
            return [kind for kind, table in tables.items() if key in table]

        for key, revision, value in records:
            if value is None:
                for kind in holding(key, tables):
                    del writable(kind)[key]
                revisions.pop(key, None)
                kept.pop(key, None)
                unknown.pop(key, None)
                continue
            revisions[key] = revision
            try:
                record, raw = read(key, value)
            except BadRecord as e:
                kept[key] = UnreadRecord(revision, value, str(e))
                for kind in [] if holding(key, tables) else holding(key, self.fallback):
                    writable(kind)[key] = self.fallback[kind][key]
                continue
            kept.pop(key, None)
            unknown.pop(key, None)
            if record is None:
                kept[key] = UnreadRecord(revision, value, "")
            else:
                writable(type(record))[key] = record
                if raw:
                    unknown[key] = raw
        return replace(self, revisions=revisions, tables=tables, kept=kept, unknown=unknown)

    def with_puts(self, puts: Iterable[tuple[str, bytes | None]]) -> ClusterState:
        """The state as it will be after a `Configure` that is the next change of the root."""
        following = self.revision + 1
        made = self.with_records((key, following, value) for key, value in puts)
        return replace(made, revision=following)

    # -- the copy on the disk ----------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """For a file: a line with a checksum, then JSON. Equal states are equal bytes."""
        records = [
            [key, self.revisions.get(key, 0), json.loads(self.encoded(record))]
            for table in self.tables.values()
            for key, record in table.items()
        ]
        records.sort(key=lambda item: str(item[0]))
        made = {"revision": self.revision, "floor": self.floor, "records": records}
        if self.kept:
            made["kept"] = [
                [key, one.revision, b64encode(one.value).decode()]
                for key, one in sorted(self.kept.items())
            ]
        text = json_bytes(made)
        return _FILE_HEAD + hashlib.sha256(text).hexdigest().encode() + b"\n" + text

    @staticmethod
    def from_bytes(data: bytes) -> ClusterState:
        """Raises `BadState`."""
        head, _, text = data.partition(b"\n")
        if not head.startswith(_FILE_HEAD):
            raise BadState("it does not begin like a kept state of a cluster (format 1)")
        if head[len(_FILE_HEAD) :].decode("ascii", "replace") != hashlib.sha256(text).hexdigest():
            raise BadState("its checksum does not fit")
        try:
            raw = json.loads(text)
            records = [
                (str(key), _count(revision), json_bytes(value))
                for key, revision, value in raw["records"]
            ]
            records += [
                (key, revision, b64decode(value)) for key, revision, value in raw.get("kept", ())
            ]
            made = ClusterState().with_records(records)
            return replace(made, revision=_count(raw["revision"]), floor=_count(raw["floor"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise BadState(f"it cannot be read: {e}") from None


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no revision")
    return value


def genesis(
    cluster_id: str, nodes: Iterable[NodeRecord], shards: int, replication: int = 3
) -> ClusterState:
    """What a new cluster begins with: computed from its configuration, alike on every node.
    `shards` are those for mail, numbered from 1. Replica ids are given in the order of the nodes'
    names. Raises ValueError when there is no node or shard."""
    active = sorted(
        (node for node in nodes if node.state is NodeState.ACTIVE), key=lambda node: node.name
    )
    if not active or shards < 1 or replication < 1:
        raise ValueError("a cluster has at least one node, one shard for mail, and one replica")
    numbers = tuple(range(1, shards + 1))
    everywhere = [PlacementNode.of(node) for node in active]
    on = place(everywhere, (ROOT_SHARD,), ROOT_REPLICATION)[ROOT_SHARD]
    made: list[Record] = [
        ClusterRecord(cluster_id, replication),
        *active,
        PoolRecord(MAIN_POOL, numbers, replication),
        founded(ROOT_SHARD, on, ROOT_REPLICATION, ROOT_POOL),
    ]
    # The root is small, and counts for nothing when the others are placed.
    placed = place(everywhere, numbers, replication)
    made += [founded(number, placed[number], replication, MAIN_POOL) for number in numbers]
    return ClusterState().with_records((key_of(record), 0, encode(record)) for record in made)


def founded(
    number: int, nodes: Iterable[str], replication: int, pool: str, master: str = "balanced"
) -> ShardRecord:
    """A new shard on nodes that all begin with an empty log; replica ids in the order of their
    names."""
    replicas = tuple(
        ReplicaRecord(at, node, ReplicaState.VOTER) for at, node in enumerate(sorted(nodes), 1)
    )
    return ShardRecord(
        number, replicas, len(replicas) + 1, replication, pool, master, founding=True
    )


def genesis_command(state: ClusterState) -> Configure:
    """The command with which the root's master writes a genesis into a root that has nothing:
    refused when it has."""
    puts = tuple(
        (key, encode(record)) for table in state.tables.values() for key, record in table.items()
    )
    return Configure(tuple(sorted(puts)), (("cluster", 0),))
