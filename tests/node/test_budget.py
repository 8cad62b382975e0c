"""Every limit in bytes follows from the configured ones, and what they need together is compared
with the machine."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from raftmail.cluster.rpc import HEAD_BYTES_MAX
from raftmail.node.admin import memory_alarm
from raftmail.node.bootstrap import NodePlan, make_cluster
from raftmail.node.budget import (
    BODY_BYTES_HIGHEST,
    check_memory,
    limits_of,
    memory_limits,
    memory_needed,
    memory_of,
    memory_of_replicas,
)
from raftmail.node.cluster_size import ClusterSize, first_size, size_in
from raftmail.node.config import (
    MESSAGE_BYTES_HIGHEST,
    MESSAGE_BYTES_LOWEST,
    Config,
    ConfigError,
    Member,
    load,
)
from raftmail.node.config_follower import first_state
from raftmail.resync.frames import HEAD
from raftmail.storage.blobs import BlobLimits

MIB = 1 << 20


@pytest.fixture
def config(tmp_path: Path) -> Config:
    plans = [
        NodePlan(f"n{n}", *[f"127.0.0.1:{9000 + 10 * n + p}" for p in range(3)]) for n in (1, 2, 3)
    ]
    made = make_cluster(tmp_path, plans, shards=16, replicas=3, now=datetime.now(UTC))
    return load(made.folders[0])


def with_message(config: Config, message_bytes_max: int) -> Config:
    return replace(config, mail=replace(config.mail, message_bytes_max=message_bytes_max))


@pytest.mark.parametrize(
    "message", [MESSAGE_BYTES_LOWEST, 50 * MIB, 100 * MIB, MESSAGE_BYTES_HIGHEST]
)
def test_the_largest_message_fits_everything_on_its_way(config: Config, message: int) -> None:
    limits = limits_of(with_message(config, message))
    body = limits.body_bytes_max
    assert message < body <= BODY_BYTES_HIGHEST
    assert limits.pool_bytes >= 2 * body
    assert limits.link.frame_bytes_max >= BODY_BYTES_HIGHEST + HEAD_BYTES_MAX
    assert limits.link.bulk_bytes_max >= body
    assert limits.clients.reader.literal_bytes_max >= message
    assert limits.clients.reader.request_bytes_max > limits.clients.reader.literal_bytes_max
    assert limits.clients.total_buffered_bytes_max >= limits.clients.reader.literal_bytes_max
    assert limits.resync.message_bytes_max > BODY_BYTES_HIGHEST + HEAD.size
    assert BlobLimits().body_bytes_max >= BODY_BYTES_HIGHEST


def test_mail_programs_have_one_limit_for_all_their_ports(config: Config) -> None:
    silent = replace(config.listen, imap="", imaps="", pop3="", pop3s="")
    one = replace(silent, imap="127.0.0.1:9143")
    two = replace(one, imaps="127.0.0.1:9993")
    size = first_size(config)
    found = [
        memory_of(replace(config, listen=listen), size)["mail programs"]
        for listen in (silent, one, two)
    ]
    connections = config.mail.client_connections_max
    assert found == [0, connections * 32 * 1024, connections * 32 * 1024]


@pytest.mark.parametrize("message", [MESSAGE_BYTES_LOWEST, 50 * MIB, MESSAGE_BYTES_HIGHEST])
def test_replicas_share_pools_that_take_what_the_other_nodes_may_send(
    config: Config, message: int
) -> None:
    config = with_message(config, message)
    body, memory = limits_of(config).body_bytes_max, memory_of_replicas(config)
    assert memory.begin_sending("n2", body), "the largest goes to a follower"
    assert memory.arrived.take(body) and memory.arrived.take(body), "one from each other node"
    assert memory.arrived.bytes_max == memory_of(config, first_size(config))["bodies for followers"]
    assert memory.waiting.take(body), "the largest can be proposed"
    while memory.waiting.take(MIB):
        pass
    assert memory.waiting.take(4096), "what is short has room when long mail has taken all it may"


def test_a_message_that_not_everything_carries_is_refused_with_the_largest(config: Config) -> None:
    with config.path.open("a") as file:
        file.write(f"\n[mail]\nmessage_bytes_max = {MESSAGE_BYTES_HIGHEST + 1}\n")
    with pytest.raises(ConfigError) as refused:
        load(config.path)
    for word in (str(config.path), "mail.message_bytes_max", str(MESSAGE_BYTES_HIGHEST)):
        assert word in str(refused.value)


def test_more_memory_than_there_is_is_refused_with_the_largest_message_that_fits(
    config: Config,
) -> None:
    config = with_message(config, MESSAGE_BYTES_HIGHEST)
    there, sizes = 3000 * MIB, [first_size(config)]
    with pytest.raises(ConfigError) as refused:
        check_memory(config, sizes, {"the control group": there}, {})
    text = str(refused.value)
    for word in (
        str(config.path),
        "mail.message_bytes_max",
        str(MESSAGE_BYTES_HIGHEST),
        "3000 MiB",
    ):
        assert word in text
    largest = int(text.rsplit(" ", 1)[1])
    check_memory(with_message(config, largest), sizes, {"the control group": there}, {})
    with pytest.raises(ConfigError, match="control group"):
        check_memory(with_message(config, largest + 1), sizes, {"the control group": there}, {})


def test_the_default_fits_a_small_machine_and_workers_count_each(config: Config) -> None:
    size = first_size(config)
    assert memory_needed(config, [size]) < 2048 * MIB
    assert memory_needed(config, [size, size]) == 2 * memory_needed(config, [size])
    with pytest.raises(ConfigError, match="fewer shards or workers"):
        check_memory(config, [size], {"the machine": 100 * MIB}, {})


def grown(config: Config) -> Config:
    """Of the same node, as if the cluster had begun with five nodes and 80 shards."""
    more = {f"n{n}": Member(f"127.0.0.1:{9000 + 10 * n}") for n in (4, 5)}
    nodes = config.cluster.nodes | more
    return replace(config, cluster=replace(config.cluster, shards=80, nodes=nodes))


def test_shards_and_nodes_that_came_later_count(config: Config) -> None:
    first = first_size(config)
    state = first_state(grown(config))
    size = size_in(state, config)
    assert size == ClusterSize(sum(1 for s in state.every_shard.values() if s.on("n1")), 4)
    assert size.replicas > first.replicas

    there = {"the machine": memory_needed(config, [first])}
    check_memory(config, [first], there, {})
    with pytest.raises(ConfigError, match=f"{size.replicas} replicas and links to 4 others"):
        check_memory(config, [size], there, {})


def test_a_cluster_that_became_smaller_counts_as_it_began(config: Config) -> None:
    assert size_in(first_state(config), grown(config)) == first_size(grown(config))


def test_a_running_node_that_has_grown_beyond_its_memory_says_so(config: Config) -> None:
    first, now = first_size(config), ClusterSize(60, 4)
    there = {"the machine": memory_needed(config, [first])}
    assert memory_alarm(config, first, there, {}) == ""
    text = memory_alarm(config, now, there, {})
    assert "node n1" in text and "more of the cluster than" in text and "60 replicas" in text


def test_there_is_room_for_a_long_body_of_each_node_that_comes_later(config: Config) -> None:
    memory = memory_of_replicas(config)
    body = limits_of(config).sending_bytes
    memory.expect(4)
    assert all(memory.arrived.take(body) for _ in range(4))
    assert not memory.arrived.take(body)
    memory.expect(2)
    assert memory.arrived.bytes_max == 4 * body, "what was sent before may still be here"


@pytest.mark.parametrize(
    ("name", "remedy"), [("RLIMIT_AS", "ulimit -v"), ("RLIMIT_DATA", "ulimit -d")]
)
def test_a_limit_of_the_address_space_is_named_with_its_remedy(
    config: Config, name: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*{remedy}"):
        check_memory(config, [first_size(config)], {}, {name: 90 * MIB})


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/\n", {}, {"the machine": 1000 * MIB}),
        (
            "0::/a/b\n",
            {"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "5000\n"},
            {"the machine": 1000 * MIB, "the control group": 5000},
        ),
        (
            "5:cpu:/x\n4:memory:/x\n",
            {"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "7000\n"},
            {"the machine": 1000 * MIB, "the control group": 7000},
        ),
    ],
)
def test_the_smallest_limit_of_the_machine_and_its_control_groups_is_found(
    tmp_path: Path, group: str, files: dict[str, str], expected: dict[str, int]
) -> None:
    files = {
        "proc/meminfo": "MemTotal: 1024000 kB\nMemFree: 1 kB\n", "proc/self/cgroup": group, **files
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limits(tmp_path) == expected
