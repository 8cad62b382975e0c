"""The proxy's configuration: one TOML file, checked whole before anything is started.

Every error says which file, which key, what stands there and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from raftmail.mail.toml_checks import (
    TOML_KINDS,
    Check,
    are_networks,
    in_range,
    is_address_or_none,
    read_toml,
)
from raftmail.net.limits import MIB


class ProxyConfigError(Exception):
    """The configuration cannot be used; the text names file and key, and what is allowed."""


@dataclass(frozen=True, slots=True)
class ProxyCluster:
    """`file` is the cluster's `cluster.json`, with nodes, token and authority."""

    file: str = "cluster.json"


@dataclass(frozen=True, slots=True)
class ProxyListen:
    """Addresses to listen on, `host:port`; "" is nowhere. `imap`, `pop3` and `managesieve` begin in
    the clear, with STARTTLS or STLS; `imaps` and `pop3s` begin with TLS. Who connects from
    `proxy_networks` speaks the PROXY protocol first. With `shared`, several proxies listen on the
    same addresses."""

    imap: str = ""
    imaps: str = ""
    pop3: str = ""
    pop3s: str = ""
    managesieve: str = ""
    lmtp: str = ""
    proxy_networks: str = ""
    shared: bool = False

    @property
    def served(self) -> tuple[str, ...]:
        """What is spoken to nodes for these addresses."""
        imap, pop3 = self.imap or self.imaps, self.pop3 or self.pop3s
        sieve = self.managesieve
        found = {"imaps": imap, "pop3s": pop3, "managesieve": sieve, "lmtp": self.lmtp}
        return tuple(name for name, address in found.items() if address)


@dataclass(frozen=True, slots=True)
class ProxyTls:
    """What clients are shown: files, relative to the configuration file."""

    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class ProxyNodes:
    """How nodes are reached. `ca` and `name` are for nodes that show mail programs a certificate of
    another authority than the cluster's: a file or "system", and whom it has to be for."""

    connect_ms: int = 1000
    hang_s: int = 10
    proxy_protocol: bool = True
    ca: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class ProxyLogIn:
    """`keep` holds what a client has shown in memory, so that its session can be continued at
    another node. `tokens` offers OAUTHBEARER."""

    keep: bool = True
    tokens: bool = False
    patience_s: int = 10


@dataclass(frozen=True, slots=True)
class ProxyLmtp:
    """`memory_bytes_max` is for the messages of all connections together."""

    hold_s: int = 60
    message_bytes_max: int = 50 * MIB
    memory_bytes_max: int = 256 * MIB


@dataclass(frozen=True, slots=True)
class ProxyBounds:
    """Connections, of each port."""

    connections_max: int = 4000
    address_connections_max: int = 1000


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """A checked configuration. Relative paths start where the file is."""

    path: Path
    cluster: ProxyCluster = field(default_factory=ProxyCluster)
    listen: ProxyListen = field(default_factory=ProxyListen)
    tls: ProxyTls = field(default_factory=ProxyTls)
    nodes: ProxyNodes = field(default_factory=ProxyNodes)
    log_in: ProxyLogIn = field(default_factory=ProxyLogIn)
    lmtp: ProxyLmtp = field(default_factory=ProxyLmtp)
    limits: ProxyBounds = field(default_factory=ProxyBounds)

    def file(self, name: str) -> Path:
        """A file that the configuration names."""
        return self.path.parent / name

    @property
    def cluster_file(self) -> Path:
        """The cluster's."""
        return self.file(self.cluster.file)


_SECTIONS: Final[Mapping[str, type[Any]]] = {
    "cluster": ProxyCluster,
    "listen": ProxyListen,
    "tls": ProxyTls,
    "nodes": ProxyNodes,
    "log_in": ProxyLogIn,
    "lmtp": ProxyLmtp,
    "limits": ProxyBounds,
}
_PORTS: Final = ("imap", "imaps", "pop3", "pop3s", "managesieve", "lmtp")
_CHECKS: Final[Mapping[str, Check]] = {
    **dict.fromkeys((f"listen.{name}" for name in _PORTS), is_address_or_none),
    "cluster.file": lambda v: None if v else "the path of the cluster's cluster.json",
    "listen.proxy_networks": are_networks,
    "nodes.connect_ms": in_range(50, 60_000),
    "nodes.hang_s": in_range(3, 600),
    "log_in.patience_s": in_range(1, 300),
    "lmtp.hold_s": in_range(0, 600),
    "lmtp.message_bytes_max": in_range(1 << 10, 256 * MIB),
    "lmtp.memory_bytes_max": in_range(1 << 20, 1 << 40),
    "limits.connections_max": in_range(1, 1_000_000),
    "limits.address_connections_max": in_range(1, 1_000_000),
}


def load_proxy(path: Path) -> ProxyConfig:
    """Read and check. Raises `ProxyConfigError`."""
    try:
        table = read_toml(path)
    except FileNotFoundError:
        raise ProxyConfigError(
            f"{path}: there is no such file; docs/one-address.md has whole examples"
        ) from None
    except (OSError, ValueError) as e:
        raise ProxyConfigError(f"{path}: cannot be read: {e}") from None
    unknown = sorted(set(table) - set(_SECTIONS))
    if unknown:
        names = ", ".join(_SECTIONS)
        raise ProxyConfigError(f"{path}: [{unknown[0]}]: no such section; there are {names}")
    made = {name: _section(path, name, kind, table) for name, kind in _SECTIONS.items()}
    config = ProxyConfig(path.absolute(), **made)
    _check_together(config)
    return config


def _section(path: Path, name: str, kind: type[Any], whole: Mapping[str, Any]) -> Any:
    table = whole.get(name, {})
    if not isinstance(table, dict):
        raise ProxyConfigError(f"{path}: {name}: must be a section [{name}]")
    known = {one.name: one for one in fields(kind)}
    for key, value in table.items():
        where = f"{path}: {name}.{key}"
        if key not in known:
            raise ProxyConfigError(f"{where}: no such key; [{name}] has {', '.join(known)}")
        wanted, called = TOML_KINDS[str(known[key].type)]
        if type(value) is not wanted:
            raise ProxyConfigError(f"{where}: {value!r} is not {called}")
        check = _CHECKS.get(f"{name}.{key}")
        allowed = check(value) if check else None
        if allowed is not None:
            raise ProxyConfigError(f"{where}: {value!r} is not allowed; it must be {allowed}")
    return kind(**table)


def _check_together(config: ProxyConfig) -> None:
    path, listen, tls = config.path, config.listen, config.tls
    used = [name for name in _PORTS if getattr(listen, name)]
    if not used:
        raise ProxyConfigError(f"{path}: listen: has no address; set one of {', '.join(_PORTS)}")
    addresses = [getattr(listen, name) for name in used]
    for at, address in enumerate(addresses):
        if address in addresses[:at]:
            raise ProxyConfigError(f"{path}: listen.{used[at]}: {address!r} is there twice")
    if bool(tls.certificate) is not bool(tls.key):
        missing = "key" if tls.certificate else "certificate"
        raise ProxyConfigError(f"{path}: tls.{missing}: must be set, since the other one is")
    for name in ("imaps", "pop3s"):
        if getattr(listen, name) and not tls.certificate:
            raise ProxyConfigError(
                f"{path}: listen.{name}: begins with TLS, so tls.certificate and tls.key must be "
                "set"
            )
    nodes = config.nodes
    if bool(nodes.ca) is not bool(nodes.name):
        missing = "name" if nodes.ca else "ca"
        raise ProxyConfigError(f"{path}: nodes.{missing}: must be set, since the other one is")
    if config.lmtp.memory_bytes_max < config.lmtp.message_bytes_max:
        raise ProxyConfigError(
            f"{path}: lmtp.memory_bytes_max: must have room for one message of "
            f"{config.lmtp.message_bytes_max} bytes"
        )
