"""The records of the cluster's configuration: what stands under which key, and as what JSON.

| key | record |
|---|---|
| `cluster` | `ClusterRecord` |
| `node/NAME` | `NodeRecord` |
| `shard/NUMBER` | `ShardRecord` |
| `pool/NAME` | `PoolRecord` |
| `rule/DOMAIN` | `RuleRecord` |
| `domain/NAME` | `DomainRecord` |
| `alias/ADDRESS` | `AliasRecord` |
| `user-shard/ADDRESS` | `UserShardRecord` |
| `quota/ADDRESS` | `QuotaRecord` |
| `invite/ID` | `InviteRecord` |
| `operation/ID` | `OperationRecord` |
| `recovered/NUMBER` | `RecoveryRecord` |

JSON objects have a field for each field of the class but the first, which is in the key. A field at
its default may be missing. Fields that this release does not know are of a later one: they mean
nothing here, and stay in the record when it is written anew (`encode` with what was read).

Decoding raises `BadRecord` for a wrong type, and for a value that the code could not work with.
Such a value is a shard whose replicas share an id. What is written must be better than what can be
read: see `mail.record_rules`, which is asked before a record is proposed and when it is applied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

from raftmail.mail.record_rules import (
    DATE_MAX_S,
    NODE_NAME,
    NUMBER_MAX,
    REPLICA_ID_MAX,
    REPLICAS_MAX,
    SHARD_MAX,
)

ROOT_SHARD = 0
MAIN_POOL = "main"
ROOT_POOL = "root"
ROOT_REPLICATION = 5

_NUMBERS_MAX: dict[str, int] = {
    "number": SHARD_MAX,
    "shard": SHARD_MAX,
    "id": REPLICA_ID_MAX,
    "kept": REPLICA_ID_MAX,
    "next_id": REPLICA_ID_MAX + 1,
    "replication": 1000,
    "capacity": 1_000_000_000,
    "joined_s": DATE_MAX_S,
    "expires_s": DATE_MAX_S,
    "began_s": DATE_MAX_S,
    "at_s": DATE_MAX_S,
}
"""The highest values of the whole numbers that have a limit of their own, by field."""


class BadRecord(Exception):
    """A record that cannot be read; the text names its key."""


class NodeState(StrEnum):
    ACTIVE = "active"
    DRAINING = "draining"  # its replicas are moved away; it gets no new ones
    REMOVED = "removed"  # it is gone for ever: nothing is asked of it, its certificate is refused


class ReplicaState(StrEnum):
    JOINING = "joining"  # to be filled as a learner, then made a voter
    VOTER = "voter"
    LEAVING = "leaving"  # to be taken out of the group, then deleted


class RuleState(StrEnum):
    PINNING = (
        "pinning"  # users who exist are being pinned to where their mail is; no new ones are made
    )
    SPREADING = "spreading"  # nodes are being told; no new users are made
    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """`replication` is that of pools that do not say."""

    id: str
    replication: int


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node. `peer`, `client` and `lmtp` are host:port ("" is: not told). `host` is the machine
    below the zone: workers of one machine share it ("": the node is a machine of its own).
    `capacity` is its share in comparison to others. A `cordoned` node keeps its replicas, and gets
    no masters and no new replicas until an operator lifts it."""

    name: str
    peer: str
    client: str = ""
    lmtp: str = ""
    host: str = ""
    zone: str = ""
    labels: tuple[str, ...] = ()
    capacity: int = 100
    state: NodeState = NodeState.ACTIVE
    joined_s: int = 0
    cordoned: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it may get new replicas."""
        return self.state is NodeState.ACTIVE and not self.cordoned

    @property
    def machine(self) -> tuple[str, str]:
        """What fails together below the zone."""
        return (self.zone, self.host) if self.host else ("", f"node {self.name}")


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    id: int
    node: str
    state: ReplicaState


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """`next_id` is above every replica id that was ever used. While it is `founding`, its voters
    may begin with an empty log; later an empty one is a lost disk. `master` is where its master
    should be: `balanced`, `zone:NAME` or `near-clients`."""

    number: int
    replicas: tuple[ReplicaRecord, ...]
    next_id: int
    replication: int
    pool: str = MAIN_POOL
    master: str = "balanced"
    founding: bool = False

    def on(self, node: str) -> tuple[ReplicaRecord, ...]:
        """The replicas that a node has: one, while a lost disk is replaced two."""
        return tuple(replica for replica in self.replicas if replica.node == node)

    @property
    def staying(self) -> tuple[ReplicaRecord, ...]:
        """The replicas that it has, or will have."""
        return tuple(r for r in self.replicas if r.state is not ReplicaState.LEAVING)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes to ask for it, each once."""
        return tuple(
            dict.fromkeys(r.node for r in self.replicas if r.state is not ReplicaState.JOINING)
        )


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """Shards among which users are spread by a hash; fixed once made, for a user must always find
    the same. `zones`, `labels` and `nodes` say which nodes may hold them: in one of the zones, with
    all of the labels, one of the nodes (none: any)."""

    name: str
    shards: tuple[int, ...]
    replication: int
    zones: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    master: str = "balanced"

    def allows(self, node: NodeRecord) -> bool:
        return (
            (not self.zones or node.zone in self.zones)
            and set(self.labels) <= set(node.labels)
            and (not self.nodes or node.name in self.nodes)
        )

    @property
    def wanted(self) -> str:
        """Which nodes it allows, in words."""
        parts = []
        if self.zones:
            parts.append(f"in zone {' or '.join(self.zones)}")
        if self.labels:
            parts.append(
                f"with the label{'s' if len(self.labels) > 1 else ''} {' and '.join(self.labels)}"
            )
        if self.nodes:
            parts.append(f"among {', '.join(self.nodes)}")
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """A domain's new users belong to `pool`. Until the rule is active they belong to `previous`
    (see `RuleState`)."""

    domain: str
    pool: str
    previous: str = MAIN_POOL
    state: RuleState = RuleState.ACTIVE


@dataclass(frozen=True, slots=True)
class DomainRecord:
    """A domain that mail is taken for. `catch_all` gets what no user or alias has ("": nobody);
    `quota_bytes` is the limit of each of its users who has none of the own (0: none)."""

    name: str
    catch_all: str = ""
    quota_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AliasRecord:
    address: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserShardRecord:
    """A user whose shard is not what the hash says."""

    address: str
    shard: int


@dataclass(frozen=True, slots=True)
class QuotaRecord:
    """How large all messages of a user may be together; 0: as large as they like, whatever the
    domain says."""

    address: str
    bytes_max: int


@dataclass(frozen=True, slots=True)
class InviteRecord:
    """An invitation for a node; `bundle` is encrypted (base64), and nothing to the root."""

    id: str
    name: str
    peer: str
    expires_s: int
    bundle: str
    used: bool = False


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """What an operator has begun. `by` is who, `via` the node through which; `state` is running,
    done or undone."""

    id: str
    kind: str
    subject: str
    began_s: int
    by: str = ""
    via: str = ""
    state: str = "running"


@dataclass(frozen=True, slots=True)
class RecoveryRecord:
    """A shard that was put on its feet by force, and may have lost what only the lost replicas
    had."""

    shard: int
    at_s: int
    by: str
    kept: int
    lost: tuple[int, ...]


Record: TypeAlias = (
    ClusterRecord
    | NodeRecord
    | ShardRecord
    | PoolRecord
    | RuleRecord
    | DomainRecord
    | AliasRecord
    | UserShardRecord
    | QuotaRecord
    | InviteRecord
    | OperationRecord
    | RecoveryRecord
)

_KINDS: dict[str, type[Any]] = {
    "node": NodeRecord,
    "shard": ShardRecord,
    "pool": PoolRecord,
    "rule": RuleRecord,
    "domain": DomainRecord,
    "alias": AliasRecord,
    "user-shard": UserShardRecord,
    "quota": QuotaRecord,
    "invite": InviteRecord,
    "operation": OperationRecord,
    "recovered": RecoveryRecord,
}
_PREFIXES = {kind: prefix for prefix, kind in _KINDS.items()}


def key_of(record: Record) -> str:
    """Where a record stands."""
    if isinstance(record, ClusterRecord):
        return "cluster"
    return key_for(type(record), getattr(record, fields(record)[0].name))


def key_for(kind: type[Any], name: str | int) -> str:
    """Where the record of a kind and a name (or number) stands."""
    return f"{_PREFIXES[kind]}/{name}"


def encode(record: Record, before: Mapping[str, Any] | None = None) -> bytes:
    """The value of a record: JSON in one form, so that equal records are equal bytes. `before` is
    the JSON that the record is written over: of it, fields stay that this release does not know."""
    named = fields(record)[0 if isinstance(record, ClusterRecord) else 1 :]
    made = {f.name: _plain(getattr(record, f.name)) for f in named if not _is_default(record, f)}
    if before:
        _keep_unknown(type(record), before, made)
        _keep_unknown_of_replicas(before.get("replicas"), made.get("replicas"))
    return json_bytes(made)


def _keep_unknown(kind: type[Any], before: Mapping[str, Any], made: dict[str, Any]) -> None:
    made.update({name: before[name] for name in before.keys() - _hints(kind).keys()})


def _keep_unknown_of_replicas(before: Any, made: Any) -> None:
    """A shard's replicas keep theirs, found by the id."""
    if type(before) is not list or type(made) is not list:
        return
    by_id = {one["id"]: one for one in before if type(one) is dict and "id" in one}
    for one in made:
        _keep_unknown(ReplicaRecord, by_id.get(one["id"], {}), one)


def json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode(key: str, value: bytes) -> Record | None:
    """A record; None for a key of a kind that this release does not know. Raises `BadRecord`."""
    return read(key, value)[0]


def read(key: str, value: bytes) -> tuple[Record | None, Mapping[str, Any]]:
    """`decode`, and the JSON that was read, when something in it is of a later release (else
    nothing)."""
    prefix, slash, name = key.partition("/")
    kind: type[Any] | None = (
        ClusterRecord if key == "cluster" else _KINDS.get(prefix) if slash else None
    )
    if kind is None:
        return None, {}
    try:
        raw = json.loads(value)
        if type(raw) is not dict:
            raise ValueError("a JSON object was expected")
        made = dict(raw)
        if kind is not ClusterRecord:
            first = fields(kind)[0].name
            if first in raw:
                raise ValueError(f"{first} is in the key")
            made[first] = _number(name) if _hints(kind)[first] is int else name
        record: Record = _made(kind, made)
        _check(record)
    except (ValueError, TypeError, RecursionError) as e:
        raise BadRecord(f"the record {key[:100]!r} cannot be read: {str(e)[:300]}") from None
    return record, raw if _has_unknown(kind, raw) else {}


def _has_unknown(kind: type[Any], raw: Mapping[str, Any]) -> bool:
    replicas = raw.get("replicas", ()) if kind is ShardRecord else ()
    return not raw.keys() <= _hints(kind).keys() or any(
        not one.keys() <= _hints(ReplicaRecord).keys() for one in replicas
    )


def _check(record: Any) -> None:
    """What decodes, and could not be worked with. Raises ValueError."""
    for name, value in ((f.name, getattr(record, f.name)) for f in fields(record)):
        if type(value) is int and value > _NUMBERS_MAX.get(name, NUMBER_MAX):
            raise ValueError(f"{name}: {value} is too large")
    if isinstance(record, ShardRecord):
        ids = [replica.id for replica in record.replicas]
        if len({*ids}) != len(ids) or not all(0 < id < record.next_id for id in ids):
            raise ValueError("replicas: each has an id of its own, from 1 to below next_id")
        if not 0 < len(ids) <= REPLICAS_MAX:
            raise ValueError(f"replicas: from 1 to {REPLICAS_MAX}")
        for replica in record.replicas:
            _check_node_name(replica.node)
        if record.replication < 1:
            raise ValueError("replication: at least 1")
    elif isinstance(record, PoolRecord):
        if not record.shards or len({*record.shards}) != len(record.shards):
            raise ValueError("shards: at least one, each once")
        if not all(0 < number <= SHARD_MAX for number in record.shards):
            raise ValueError(f"shards: numbers from 1 to {SHARD_MAX}")
    elif isinstance(record, NodeRecord):
        _check_node_name(record.name)
    elif isinstance(record, ClusterRecord) and record.replication < 1:
        raise ValueError("replication: at least 1")


def _check_node_name(name: str) -> None:
    if NODE_NAME.fullmatch(name) is None:
        raise ValueError(f"{name[:50]!r} is no name of a node")


def _number(name: str) -> int:
    if not name.isascii() or not name.isdigit() or len(name) > 19 or str(int(name)) != name:
        raise ValueError(f"{name[:50]!r} is no number")
    return int(name)


def _is_default(record: Any, field: Any) -> bool:
    return field.default is not MISSING and getattr(record, field.name) == field.default


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, ReplicaRecord):
        return {"id": value.id, "node": value.node, "state": value.state.value}
    return value


def _hints(kind: type[Any]) -> Mapping[str, Any]:
    found = _HINTS.get(kind)
    if found is None:
        found = _HINTS[kind] = get_type_hints(kind)
    return found


_HINTS: dict[type[Any], Mapping[str, Any]] = {}
_REQUIRED = {
    kind: frozenset(f.name for f in fields(kind) if f.default is MISSING)
    for kind in (ClusterRecord, ReplicaRecord, *_KINDS.values())
}


def _made(kind: type[Any], raw: dict[str, Any]) -> Any:
    hints = _hints(kind)
    missing = _REQUIRED[kind] - raw.keys()
    if missing:
        raise ValueError(f"fields of {kind.__name__} are missing: {', '.join(sorted(missing))}")
    return kind(
        **{name: _typed(name, hints[name], value) for name, value in raw.items() if name in hints}
    )


def _typed(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        if type(value) is not list:
            raise ValueError(f"{name}: an array")
        return tuple(_typed(name, get_args(hint)[0], item) for item in value)
    if hint is ReplicaRecord:
        if type(value) is not dict:
            raise ValueError(f"{name}: objects")
        return _made(ReplicaRecord, value)
    if issubclass(hint, StrEnum):
        return hint(value)
    if type(value) is not hint:
        raise ValueError(f"{name}: {hint.__name__}, not {type(value).__name__}")
    if hint is int and value < 0:
        raise ValueError(f"{name}: not below 0")
    return value
