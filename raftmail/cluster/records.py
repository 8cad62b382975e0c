"""The records of the cluster's configuration: what stands under which key, and as what JSON.

| key | record |
|---|---|
| `cluster` | `Cluster` |
| `node/NAME` | `Node` |
| `shard/NUMBER` | `Shard` |
| `pool/NAME` | `Pool` |
| `rule/DOMAIN` | `Rule` |
| `domain/NAME` | `Domain` |
| `alias/ADDRESS` | `Alias` |
| `user-shard/ADDRESS` | `UserShard` |
| `quota/ADDRESS` | `Quota` |
| `invite/ID` | `Invite` |
| `operation/ID` | `Operation` |
| `recovered/NUMBER` | `Recovered` |

JSON objects have a field for each field of the class but the first, which is in the key; a field at its default may be missing.
Decoding is strict (`BadRecord`): an unknown field or a wrong type is refused. A record of a later release that this one cannot
read must not be half understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

ROOT_SHARD = 0
MAIN_POOL = "main"
ROOT_POOL = "root"
ROOT_REPLICATION = 5


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
class Cluster:
    """`replication` is that of pools that do not say."""

    id: str
    replication: int


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `peer`, `client` and `lmtp` are host:port ("" is: not told). `host` is the machine below the zone: workers of one
    machine share it ("": the node is a machine of its own). `capacity` is its share in comparison to others."""

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

    @property
    def machine(self) -> tuple[str, str]:
        """What fails together below the zone."""
        return (self.zone, self.host) if self.host else ("", f"node {self.name}")


@dataclass(frozen=True, slots=True)
class Replica:
    id: int
    node: str
    state: ReplicaState


@dataclass(frozen=True, slots=True)
class Shard:
    """`next_id` is above every replica id that was ever used. While it is `founding`, its voters may begin with an empty log;
    later an empty one is a lost disk. `master` is where its master should be: `balanced`, `zone:NAME` or `near-clients`."""

    number: int
    replicas: tuple[Replica, ...]
    next_id: int
    replication: int
    pool: str = MAIN_POOL
    master: str = "balanced"
    founding: bool = False

    def on(self, node: str) -> tuple[Replica, ...]:
        """The replicas that a node has: one, while a lost disk is replaced two."""
        return tuple(replica for replica in self.replicas if replica.node == node)

    @property
    def staying(self) -> tuple[Replica, ...]:
        """The replicas that it has, or will have."""
        return tuple(r for r in self.replicas if r.state is not ReplicaState.LEAVING)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes to ask for it, each once."""
        return tuple(
            dict.fromkeys(r.node for r in self.replicas if r.state is not ReplicaState.JOINING)
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """Shards among which users are spread by a hash; fixed once made, for a user must always find the same. `zones`, `labels`
    and `nodes` say which nodes may hold them: in one of the zones, with all of the labels, one of the nodes (none: any)."""

    name: str
    shards: tuple[int, ...]
    replication: int
    zones: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    master: str = "balanced"

    def allows(self, node: Node) -> bool:
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
class Rule:
    """A domain's new users belong to `pool`. Until the rule is active they belong to `previous` (see `RuleState`)."""

    domain: str
    pool: str
    previous: str = MAIN_POOL
    state: RuleState = RuleState.ACTIVE


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that mail is taken for. `catch_all` gets what no user or alias has ("": nobody); `quota_bytes` is the limit of each
    of its users who has none of the own (0: none)."""

    name: str
    catch_all: str = ""
    quota_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Alias:
    address: str
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserShard:
    """A user whose shard is not what the hash says."""

    address: str
    shard: int


@dataclass(frozen=True, slots=True)
class Quota:
    """How large all messages of a user may be together; 0: as large as they like, whatever the domain says."""

    address: str
    bytes_max: int


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation for a node; `bundle` is encrypted (base64), and nothing to the root."""

    id: str
    name: str
    peer: str
    expires_s: int
    bundle: str
    used: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operator has begun. `by` is who, `via` the node through which; `state` is running, done or undone."""

    id: str
    kind: str
    subject: str
    began_s: int
    by: str = ""
    via: str = ""
    state: str = "running"


@dataclass(frozen=True, slots=True)
class Recovered:
    """A shard that was put on its feet by force, and may have lost what only the lost replicas had."""

    shard: int
    at_s: int
    by: str
    kept: int
    lost: tuple[int, ...]


Record: TypeAlias = (
    Cluster
    | Node
    | Shard
    | Pool
    | Rule
    | Domain
    | Alias
    | UserShard
    | Quota
    | Invite
    | Operation
    | Recovered
)

_KINDS: dict[str, type[Any]] = {
    "node": Node,
    "shard": Shard,
    "pool": Pool,
    "rule": Rule,
    "domain": Domain,
    "alias": Alias,
    "user-shard": UserShard,
    "quota": Quota,
    "invite": Invite,
    "operation": Operation,
    "recovered": Recovered,
}
_PREFIXES = {kind: prefix for prefix, kind in _KINDS.items()}


def key_of(record: Record) -> str:
    """Where a record stands."""
    if isinstance(record, Cluster):
        return "cluster"
    return key_for(type(record), getattr(record, fields(record)[0].name))


def key_for(kind: type[Any], name: str | int) -> str:
    """Where the record of a kind and a name (or number) stands."""
    return f"{_PREFIXES[kind]}/{name}"


def encode(record: Record) -> bytes:
    """The value of a record: JSON in one form, so that equal records are equal bytes."""
    named = fields(record)[0 if isinstance(record, Cluster) else 1 :]
    return json_bytes(
        {f.name: _plain(getattr(record, f.name)) for f in named if not _is_default(record, f)}
    )


def json_bytes(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode(key: str, value: bytes) -> Record | None:
    """A record; None for a key of a kind that this release does not know. Raises `BadRecord`."""
    prefix, slash, name = key.partition("/")
    kind: type[Any] | None = Cluster if key == "cluster" else _KINDS.get(prefix) if slash else None
    if kind is None:
        return None
    try:
        raw = json.loads(value)
        if type(raw) is not dict:
            raise ValueError("a JSON object was expected")
        if kind is not Cluster:
            first = fields(kind)[0].name
            if first in raw:
                raise ValueError(f"{first} is in the key")
            raw[first] = _number(name) if _hints(kind)[first] is int else name
        record: Record = _made(kind, raw)
    except (ValueError, TypeError, RecursionError) as e:
        raise BadRecord(f"the record {key!r} cannot be read: {e}") from None
    return record


def _number(name: str) -> int:
    if not name.isascii() or not name.isdigit() or str(int(name)) != name:
        raise ValueError(f"{name!r} is no number")
    return int(name)


def _is_default(record: Any, field: Any) -> bool:
    return field.default is not MISSING and getattr(record, field.name) == field.default


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Replica):
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
    for kind in (Cluster, Replica, *_KINDS.values())
}


def _made(kind: type[Any], raw: dict[str, Any]) -> Any:
    hints = _hints(kind)
    unknown = raw.keys() - hints.keys()
    missing = _REQUIRED[kind] - raw.keys()
    if unknown or missing:
        wrong = (
            f"unknown: {', '.join(sorted(unknown))}"
            if unknown
            else f"missing: {', '.join(sorted(missing))}"
        )
        raise ValueError(f"its fields are not those of {kind.__name__}: {wrong}")
    return kind(**{name: _typed(name, hints[name], value) for name, value in raw.items()})


def _typed(name: str, hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        if type(value) is not list:
            raise ValueError(f"{name}: an array")
        return tuple(_typed(name, get_args(hint)[0], item) for item in value)
    if hint is Replica:
        if type(value) is not dict:
            raise ValueError(f"{name}: objects")
        return _made(Replica, value)
    if issubclass(hint, StrEnum):
        return hint(value)
    if type(value) is not hint:
        raise ValueError(f"{name}: {hint.__name__}, not {type(value).__name__}")
    if hint is int and value < 0:
        raise ValueError(f"{name}: not below 0")
    return value
