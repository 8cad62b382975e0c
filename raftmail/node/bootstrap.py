"""Making a cluster: its id, its certificate authority, its token, and one folder for each node.

A node's folder holds everything that the node needs and is copied to its machine whole. What only
the administrator needs (the authority's key) stays beside the folders.

Layout: `NAME/{node.toml,README,tls/{ca.pem,node.pem,node.key,token}}` for each node, and
`ca/{ca.pem,ca.key}`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from raftmail.mail.endpoint import PORT_MAX, dialled, is_loopback_host, same, split_address
from raftmail.mail.program_addresses import FEW_WORKERS, ProgramAddresses
from raftmail.net import tls
from raftmail.node import config
from raftmail.node.config import Member

TOKEN_BYTES = 32


class BootstrapError(Exception):
    """A cluster's files cannot be made or read; the text says why and what to do. Of a cluster that
    could not be made nothing is left behind."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node to be made. Addresses are host:port; an empty `lmtp` switches LMTP off. `workers` is
    over how many processes it spreads its replicas. `programs` is where mail programs come in."""

    name: str
    peer: str
    client: str
    lmtp: str = ""
    workers: int = field(default=1, kw_only=True)
    programs: ProgramAddresses = field(default=ProgramAddresses(), kw_only=True)

    @property
    def addresses(self) -> list[str]:
        """All of them."""
        every = (self.peer, self.client, self.lmtp, *self.programs.served.values())
        return [one for one in every if one]

    @property
    def hosts(self) -> list[str]:
        """The hosts of its addresses, each once."""
        return list(dict.fromkeys(split_address(one)[0] for one in self.addresses))


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What was made. `folders` has a node's folder for each plan, in order."""

    id: str
    folder: Path
    ca: Path
    token_file: Path
    folders: tuple[Path, ...]


def read_authority(path: Path) -> str:
    """The cluster whose authority's certificate the file holds. Raises `BootstrapError`."""
    try:
        return tls.cluster_of(path.read_bytes())
    except OSError as error:
        raise BootstrapError(f"{path}: cannot be read: {error.strerror}") from None
    except tls.TlsError as error:
        raise BootstrapError(f"{path}: {error}; name the cluster's ca.pem") from None


def plan_loopback(count: int, base_port: int, workers: int = 1) -> list[NodePlan]:
    """Nodes n1, n2, … on this machine: node i, from 0, has the ports `base_port` + 10 i for its
    peers, and one more for clients.

    One more is for LMTP, and the next for the peers of its further workers. Mail programs have
    their ports after these (`ProgramAddresses.beside`). Nodes of more workers than leave room for
    them are 20 ports apart. Raises ValueError when they do not fit.
    """
    apart = 10 if workers <= FEW_WORKERS else 20
    if base_port < 1 or base_port + apart * count - 1 > PORT_MAX:
        raise ValueError(f"{count} nodes from port {base_port} on do not fit below port 65536")
    plans = []
    for at in range(count):
        first = base_port + apart * at
        peer, client, lmtp = (f"127.0.0.1:{first + kind}" for kind in range(3))
        programs = ProgramAddresses.beside("127.0.0.1", first, workers)
        plan = NodePlan(f"n{at + 1}", peer, client, lmtp, workers=workers, programs=programs)
        plans.append(plan)
    return plans


def make_cluster(
    folder: Path, plans: Sequence[NodePlan], *, shards: int, replicas: int = 3, now: datetime
) -> NewCluster:
    """Make a cluster's files in `folder`, which must be empty or missing.

    Each of the `shards` for mail gets `replicas` replicas, or as many as there are nodes. `now`
    (with a time zone) is when the certificates become valid. Raises `BootstrapError`."""
    check_plans(plans)
    existed = folder.exists()
    if existed and (not folder.is_dir() or any(folder.iterdir())):
        raise BootstrapError(f"{folder}: is not an empty folder; name one that is new or empty")
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.chmod(folder.stat().st_mode & ~0o022)  # what others can write into is not believed
    try:
        return _make(folder, plans, shards, replicas, now)
    except BaseException as error:
        for path in folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        if not existed:
            folder.rmdir()
        if isinstance(error, ValueError | config.ConfigError):
            raise BootstrapError(str(error)) from None
        raise


def check_plans(plans: Sequence[NodePlan]) -> None:
    """Whether nodes can be called and reached so. Raises `BootstrapError`."""
    seen: dict[tuple[str, str, int], str] = {}
    for plan in plans:
        if config.NAME.fullmatch(plan.name) is None:
            raise BootstrapError(
                f"node name {plan.name!r}: 1 to 32 of the characters a-z, 0-9 and -, not beginning "
                "or ending with -"
            )
        if not plan.peer or not plan.client:
            raise BootstrapError(
                f"node {plan.name}: needs an address for nodes and one for clients"
            )
        for address in plan.addresses:
            try:
                dialled(address)
            except ValueError as error:
                raise BootstrapError(f"node {plan.name}: {error}") from None
            where = _where(plan, address)
            if where in seen:
                raise BootstrapError(
                    f"node {plan.name}: {address} is already an address of node {seen[where]}"
                )
            seen[where] = plan.name
    if len({plan.name for plan in plans}) != len(plans):
        raise BootstrapError("two nodes have the same name")
    if not plans:
        raise BootstrapError("a cluster has at least one node")
    _check_loopback({plan.name: plan.peer for plan in plans})


def _where(plan: NodePlan, address: str) -> tuple[str, str, int]:
    """What no two nodes can share: a loopback address is another one on each machine."""
    host, port = same(address)
    own = split_address(plan.peer)[0]
    return own if is_loopback_host(host) and not is_loopback_host(own) else "", host, port


def _check_loopback(peers: Mapping[str, str]) -> None:
    """Whether all nodes can reach each other as far as the addresses tell. Raises
    `BootstrapError`."""
    hosts = {name: split_address(peer)[0] for name, peer in peers.items()}
    inside = [name for name, host in hosts.items() if is_loopback_host(host)]
    outside = [name for name in hosts if name not in inside]
    if inside and outside:
        raise BootstrapError(
            f"node {inside[0]}: {peers[inside[0]]} is reached from its own machine alone, and "
            f"node {outside[0]} is at "
            f"{peers[outside[0]]}; give every node an address that all the others can reach"
        )
    named = [name for name in inside if hosts[name].lower() == "localhost"]
    if named and len(named) < len(inside):
        raise BootstrapError(
            f"node {named[0]}: localhost can be 127.0.0.1 or ::1; write the number, as for the "
            f"other nodes"
        )


def _make(
    folder: Path, plans: Sequence[NodePlan], shards: int, replicas: int, now: datetime
) -> NewCluster:
    cluster = secrets.token_hex(16)
    token = secrets.token_hex(TOKEN_BYTES)
    ca = tls.create_ca(cluster, now)
    (folder / "ca").mkdir(mode=0o700)
    tls.save(ca, folder / "ca" / "ca.pem", folder / "ca" / "ca.key")
    _write_private(folder / "ca" / "token", token + "\n")
    seeds = {plan.name: Member(plan.peer, plan.workers) for plan in plans}
    folders = []
    for plan in plans:
        home = folder / plan.name
        pair = tls.issue(ca, plan.name, plan.hosts, now)
        write_node(home, cluster, plan, seeds, shards, replicas, pair, ca.certificate, token)
        folders.append(home)
    return NewCluster(
        cluster, folder, folder / "ca" / "ca.pem", folder / "ca" / "token", tuple(folders)
    )


def write_node(
    home: Path,
    cluster: str,
    plan: NodePlan,
    seeds: Mapping[str, Member],
    shards: int,
    replicas: int,
    pair: tls.Pair,
    ca: bytes,
    token: str,
) -> None:
    """Make a node's folder. `pair` is its certificate with the key, `ca` the authority's
    certificate. `seeds` maps the names of nodes, this one among them, to what is known of them.
    Raises OSError, `config.ConfigError`.
    """
    (home / "tls").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    tls.save(pair, home / "tls" / "node.pem", home / "tls" / "node.key")
    _write_private(home / "tls" / "ca.pem", ca.decode("ascii"))
    _write_private(home / "tls" / "token", token + "\n")
    (home / "README").write_text(_readme(plan), encoding="utf-8")
    path = home / config.CONFIG_FILE
    path.write_text(_toml(cluster, shards, replicas, plan, seeds), encoding="utf-8")
    config.load(path)


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _readme(plan: NodePlan) -> str:
    return (
        f"This is node {plan.name} of a raftmail cluster. Copy the folder to its machine and start "
        "it there with `raftmail node FOLDER`; tls/ holds secrets.\n"
    )


def _toml(
    cluster: str, shards: int, replicas: int, plan: NodePlan, seeds: Mapping[str, Member]
) -> str:
    # A JSON string is also a TOML basic string.
    q = json.dumps
    lines = [
        "# Configuration of a raftmail node. docs/operating.md explains every key.",
        "",
        "[node]",
        f"name = {q(plan.name)}",
        'data = "data"',
        '# Processes over which the node spreads its work; "auto" is one for each core.',
        f"workers = {plan.workers}",
        "",
        "# What the cluster began with, and nodes by which this one finds it. What it has become "
        "since, the cluster itself tells.",
        "[cluster]",
        f"id = {q(cluster)}",
        f"shards = {shards}",
        f"replicas = {replicas}",
        "",
    ]
    for name, seed in seeds.items():
        lines += [f"[cluster.nodes.{name}]", f"peer = {q(seed.peer)}"]
        lines += [f"workers = {seed.workers}", ""] if seed.workers > 1 else [""]
    lines += [
        "# Where this node listens.",
        "[listen]",
        f"peer = {q(plan.peer)}",
        f"client = {q(plan.client)}",
        f"lmtp = {q(plan.lmtp)}",
        "# For mail programs: what ends in s begins with TLS, the others have STARTTLS.",
        *(f"{name} = {q(address)}" for name, address in plan.programs.by_protocol.items()),
        "",
    ]
    return "\n".join(lines)
