"""The limits of a node in bytes: all that follow from the configured ones, what they may take of
memory together, and what there is of it.

`limits_of` is the one place that derives them, `check_memory` the one that compares them with the
machine. What they take together grows with the cluster (`cluster_size`). docs/operating.md has the
formula.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from raftmail.cluster.rpc import HEAD_BYTES_MAX
from raftmail.frontends.text.limits import TextLimits
from raftmail.mail.budget import Budget
from raftmail.net.limits import KIB, MIB, ReaderLimits
from raftmail.node.cluster_size import ClusterSize, first_size
from raftmail.node.config import MESSAGE_BYTES_HIGHEST, MESSAGE_BYTES_LOWEST, Config, ConfigError
from raftmail.peering.link import LinkLimits
from raftmail.peering.pieces import BEGUN_BYTES_MAX
from raftmail.resync.limits import ResyncLimits
from raftmail.service.web_hooks import EVENT_BYTES
from raftmail.shard.memory import Memory
from raftmail.storage.column_pool import COLUMNS_BYTES_MAX
from raftmail.storage.kv import MAP_BYTES_INITIAL

TRACE_BYTES: Final = 64 * KIB
"""What delivery may put before a message."""
BODY_BYTES_HIGHEST: Final = MESSAGE_BYTES_HIGHEST + TRACE_BYTES
"""The longest body that any node takes from another, whatever its own limit is: nodes may be
configured differently."""

_POOL_BYTES_LEAST: Final = 128 * MIB
_POOL_MESSAGES: Final = 3
_PROCESS_BYTES: Final = 128 * MIB
_REPLICA_BYTES: Final = 12 * MIB
"""Of a replica that works: the newest entries, buffers of the journal and the blobs, and the
index's open transaction."""
_SESSION_BYTES: Final = 32 * KIB
"""Of a mail program that is connected with TLS and idles: OpenSSL's state and buffers, the session,
and its view of a mailbox."""
_LINK_QUEUE_BYTES: Final = 48 * MIB
_SENDING_BYTES_LEAST: Final = 64 * MIB
_SHARE_OF_SHORT: Final = 8
"""Of the pools of calls and requests an eighth is for what is short."""

LONG_BODIES_AT_ONCE: Final = 2
"""Long bodies that are compressed and written at once, by all replicas together."""


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """What follows from the configuration of one process.

    `pool_bytes` is the limit of each of these:

    - what LMTP clients have sent;
    - what text clients have sent;
    - the node's own calls without an answer;
    - those of others that it works at;
    - the messages that are being delivered.

    The requests that wait at all shards that it leads are calls of its own or of others, and have
    two pools together. `sending_bytes` is that of long bodies for the followers that another
    process was sent and has not acknowledged.
    """

    body_bytes_max: int
    pool_bytes: int
    sending_bytes: int
    link: LinkLimits
    clients: TextLimits
    resync: ResyncLimits


def limits_of(config: Config) -> NodeLimits:
    """All limits in bytes of one process (a node, or a worker of one)."""
    mail = config.mail
    body = mail.message_bytes_max + TRACE_BYTES
    pool = max(_POOL_BYTES_LEAST, _POOL_MESSAGES * body)
    reader = ReaderLimits(literal_bytes_max=body, request_bytes_max=max(64 * MIB, body + MIB))
    return NodeLimits(
        body_bytes_max=body,
        pool_bytes=pool,
        sending_bytes=max(_SENDING_BYTES_LEAST, body),
        link=LinkLimits(
            frame_bytes_max=BODY_BYTES_HIGHEST + HEAD_BYTES_MAX + MIB,
            queue_bytes_max=_LINK_QUEUE_BYTES,
            bulk_bytes_max=pool,
        ),
        clients=TextLimits(
            reader=reader,
            connections_max=mail.client_connections_max,
            address_connections_max=mail.address_connections_max,
            connection_buffered_bytes_max=max(64 * MIB, body),
            total_buffered_bytes_max=pool,
        ),
        resync=ResyncLimits(
            rate_bytes_s=config.resync.rate_bytes_s,
            busy_rate_bytes_s=config.resync.busy_rate_bytes_s,
            sources_max=config.resync.sources_max,
            message_bytes_max=BODY_BYTES_HIGHEST + MIB,
        ),
    )


def pool_of(config: Config) -> Budget:
    """A new pool for calls or requests: what is long leaves some of it alone."""
    size = limits_of(config).pool_bytes
    return Budget(size, reserve_bytes=size // _SHARE_OF_SHORT)


def memory_of_replicas(config: Config) -> Memory:
    """The pools that all replicas of one process share; `Memory.expect` makes room for nodes that
    come later."""
    sending = limits_of(config).sending_bytes
    arrived = Budget(first_size(config).others * sending)
    calls = pool_of(config)
    waiting = Budget(2 * calls.bytes_max, reserve_bytes=calls.reserve_bytes)
    return Memory(waiting, arrived, sending)


def memory_of(config: Config, size: ClusterSize) -> dict[str, int]:
    """What one process may take of memory, in bytes, by what takes it."""
    limits = limits_of(config)
    pool, body = limits.pool_bytes, limits.body_bytes_max
    begun = max(BEGUN_BYTES_MAX, body)
    return {
        "the process": _PROCESS_BYTES,
        "replicas": _REPLICA_BYTES * size.replicas,
        "columns of messages": COLUMNS_BYTES_MAX,
        "LMTP clients": 2 * pool + body,
        "text clients": pool + body,
        "mail programs": _SESSION_BYTES * _sessions_max(config),
        "calls of other nodes": pool,
        "links": size.others * (_LINK_QUEUE_BYTES + pool + begun),
        "bodies for followers": size.others * limits.sending_bytes,
        "storing and reading bodies": (LONG_BODIES_AT_ONCE + 2) * body,
        "background work": _learning_bytes(config) + _hook_bytes(config),
    }


def _learning_bytes(config: Config) -> int:
    """Each body once as it was read, and once as it is written to a program."""
    junk = config.junk
    is_on = bool(junk.learn_spam or junk.learn_ham)
    return 2 * junk.at_once_max * junk.message_bytes_max if is_on else 0


def _hook_bytes(config: Config) -> int:
    return config.push.waiting_max * EVENT_BYTES if config.hooks else 0


def _sessions_max(config: Config) -> int:
    """How many mail programs may be connected to one process, at all its ports together."""
    return config.mail.client_connections_max if config.listen.programs.served else 0


def memory_needed(config: Config, sizes: Sequence[ClusterSize]) -> int:
    """What all processes of a node may take of memory together, in bytes; `sizes` has one for each
    of them."""
    return sum(sum(memory_of(config, size).values()) for size in sizes)


def memory_limits(root: Path = Path("/")) -> Mapping[str, int]:
    """What this machine, and the limits of this process, give of memory: bytes by where the limit
    stands."""
    found: dict[str, int] = {}
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            found["the machine"] = int(line.split()[1]) * KIB
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            _note(found, root / "sys/fs/cgroup" / path.lstrip("/"), "memory.max")
        elif "memory" in controllers.split(","):
            folder = root / "sys/fs/cgroup/memory" / path.lstrip("/")
            _note(found, folder, "memory.limit_in_bytes")
    return found


def _note(found: dict[str, int], folder: Path, name: str) -> None:
    """The smallest limit of a control group and those that it is in."""
    for one in (folder, *folder.parents):
        text = _text(one / name).strip()
        if text.isdigit():
            found["the control group"] = min(int(text), found.get("the control group", 1 << 62))
        if one.name == "cgroup":
            return


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def address_limits() -> Mapping[str, int]:
    """The limits of this process's address space: bytes by name."""
    limits = {"RLIMIT_AS": resource.RLIMIT_AS, "RLIMIT_DATA": resource.RLIMIT_DATA}
    soft = {name: resource.getrlimit(number)[0] for name, number in limits.items()}
    return {name: value for name, value in soft.items() if value != resource.RLIM_INFINITY}


def check_memory(
    config: Config,
    sizes: Sequence[ClusterSize],
    memory: Mapping[str, int],
    address: Mapping[str, int],
) -> None:
    """Refuse a configuration that may take more memory than there is; `sizes` has one for each
    worker. Other nodes on the same machine are not counted: a cluster on one machine is for trials.
    Raises `ConfigError`."""
    most = max(sizes, key=lambda size: memory_needed(config, [size]))
    for where, there in address.items():
        mapped = MAP_BYTES_INITIAL * most.replicas if where == "RLIMIT_AS" else 0
        needed = memory_needed(config, [most]) + mapped
        if needed > there:
            raise ConfigError(
                f"{config.path}: the node needs {_shown(needed)} of address space ("
                f"{_shown(mapped)} for the maps of its indices), and {where} is {_shown(there)}: "
                f"{'do not limit it (ulimit -v)' if mapped else 'raise it (ulimit -d)'}"
            )
    for where, there in memory.items():
        needed = memory_needed(config, sizes)
        if needed <= there:
            continue
        largest = _largest(config, sizes, there)
        shown = ", ".join(f"{what} {_shown(n)}" for what, n in memory_of(config, most).items())
        raise ConfigError(
            f"{config.path}: mail.message_bytes_max: with {config.mail.message_bytes_max} and "
            f"{len(sizes)} workers the node may need {_shown(needed)} of memory (a worker, with "
            f"{most.replicas} replicas and links to {most.others} others: {shown}), and "
            f"{where} has {_shown(there)}; "
            + (
                f"the largest that fits is {largest}"
                if largest
                else "it needs more, or fewer shards or workers"
            )
        )


def _largest(config: Config, sizes: Sequence[ClusterSize], there: int) -> int:
    """The largest message for which there is memory; 0: for none."""
    low, high = 0, config.mail.message_bytes_max
    while low < high:
        middle = (low + high + 1) // 2
        tried = replace(config, mail=replace(config.mail, message_bytes_max=middle))
        if memory_needed(tried, sizes) <= there:
            low = middle
        else:
            high = middle - 1
    return low if low >= MESSAGE_BYTES_LOWEST else 0


def _shown(size: int) -> str:
    return f"{size / MIB:.0f} MiB"
