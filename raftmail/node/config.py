"""A node's configuration: one TOML file, checked whole before anything is started.

Every error says which file, which key, what stands there and what is allowed. Unknown keys are
errors too: a misspelt limit must not be silently without effect. docs/operating.md lists the keys
from the same table that is checked here.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from raftmail.mail.addresses import account, domain, parse_domains
from raftmail.mail.client_setup import KEYS, ClientSetup
from raftmail.mail.endpoint import dialled, join_address, split_address
from raftmail.mail.first_mailboxes import parse_first_mailboxes
from raftmail.mail.limits import DELIVERED_ONCE_S_MAX
from raftmail.mail.program_addresses import PROTOCOLS, ProgramAddresses
from raftmail.mail.scripts import SCRIPT_BYTES_MAX, SCRIPTS_MAX, SCRIPTS_MAX_HIGHEST
from raftmail.mail.toml_checks import (
    TOML_KINDS,
    Check,
    are_networks,
    in_range,
    is_address,
    is_address_or_none,
    read_toml,
    told,
)
from raftmail.service.external_users import check_url
from raftmail.service.web_hooks import EVERYBODY

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
CONFIG_FILE = "node.toml"
WORKERS_MAX = 8
HOOK_URLS_MAX = 100
MESSAGE_BYTES_LOWEST = 1 << 10
MESSAGE_BYTES_HIGHEST = 256 << 20
"""The longest message that every part carries: links, calls, bodies on the disk and resyncs
(`node.budget`)."""


class ConfigError(Exception):
    """The configuration cannot be used; the text names file and key, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster as the others reach it; addresses are host:port. `workers` is how many
    it began with."""

    peer: str
    workers: int = 1


@dataclass(frozen=True, slots=True)
class NodeSection:
    """`workers` is over how many processes the node spreads its replicas; "auto" in the file is one
    for each core."""

    name: str
    data: str = "data"
    workers: int = 1


@dataclass(frozen=True, slots=True)
class ClusterSection:
    """What the cluster began with, and the nodes by which this one finds it. `replicas` of 0 is one
    on every node."""

    id: str
    shards: int
    nodes: dict[str, Member]
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class ListenSection:
    """Addresses to listen on, host:port; "" switches a listener off. `lmtp_socket` is a path.
    `imap`, `pop3` and `managesieve` begin in the clear, with STARTTLS or STLS; who is not on this
    machine cannot log in before. `imaps` and `pop3s` begin with TLS. Who connects from
    `proxy_networks` for mail speaks the PROXY protocol."""

    peer: str
    client: str
    lmtp: str = ""
    lmtp_socket: str = ""
    imap: str = ""
    imaps: str = ""
    pop3: str = ""
    pop3s: str = ""
    managesieve: str = ""
    web: str = ""
    webs: str = ""
    proxy_networks: str = ""

    @property
    def programs(self) -> ProgramAddresses:
        """Where mail programs come in."""
        return ProgramAddresses(*(getattr(self, name) for name in PROTOCOLS))


@dataclass(frozen=True, slots=True)
class TlsSection:
    """Files, relative to the configuration file. `token_file` holds the token that clients must
    give. `program_certificate` and `program_key` are for mail programs; "" is the node's own."""

    ca: str = "tls/ca.pem"
    certificate: str = "tls/node.pem"
    key: str = "tls/node.key"
    token_file: str = "tls/token"
    program_certificate: str = ""
    program_key: str = ""


@dataclass(frozen=True, slots=True)
class RaftSection:
    """Raft's times, in milliseconds. Three heartbeats must fit into the shortest election
    timeout."""

    heartbeat_ms: int = 100
    election_min_ms: int = 400
    election_max_ms: int = 800


@dataclass(frozen=True, slots=True)
class LogSection:
    """How much of each shard's log is kept for followers that were away. 0 entries or seconds is
    without a limit."""

    bytes_max: int = 64 << 20
    entries_max: int = 1_000_000
    age_s: int = 7 * 86_400


@dataclass(frozen=True, slots=True)
class ResyncSection:
    """What this node sends to those it brings back, in each shard, and while clients write to the
    shard.

    0 is as fast as it goes.
    """

    rate_bytes_s: int = 0
    busy_rate_bytes_s: int = 4 << 20
    sources_max: int = 2


@dataclass(frozen=True, slots=True)
class ScrubSection:
    """Everything is read once within `period_s`, at `rate_bytes_s` in each shard or, where that
    does not suffice, faster; 0 is no scrub."""

    period_s: int = 7 * 86_400
    rate_bytes_s: int = 4 << 20


@dataclass(frozen=True, slots=True)
class VerifySection:
    """How often the replicas are compared by themselves; 0 is never."""

    period_s: int = 86_400


@dataclass(frozen=True, slots=True)
class MailSection:
    message_bytes_max: int = 50 << 20
    recipients_max: int = 1000
    detail_separator: str = "+"
    deadline_s: int = 20
    delivered_once_s: int = 7 * 86_400
    lmtp_connections_max: int = 1000
    client_connections_max: int = 2000
    address_connections_max: int = 1000
    lmtp_refused_recipients_max: int = 200
    disk_reserve_bytes: int = 256 << 20
    first_mailboxes: str = ""


@dataclass(frozen=True, slots=True)
class LoginSection:
    """How people log in. Users whose passwords are elsewhere are asked for by `program` or `url`.
    Tokens are taken where `oauth_issuer` is set; `oauth_keys` is a file with its public keys."""

    delay_s: int = 2
    failures_max: int = 30
    forget_s: int = 20
    trusted_networks: str = ""
    user_connections_max: int = 100
    cache_s: int = 60
    program: str = ""
    url: str = ""
    external_timeout_s: int = 10
    external_at_once_max: int = 16
    channel_binding: bool = False
    oauth_issuer: str = ""
    oauth_audience: str = ""
    oauth_keys: str = ""
    oauth_user_claim: str = "email"


@dataclass(frozen=True, slots=True)
class SieveSection:
    """What delivery rules users may keep."""

    script_bytes_max: int = 64 << 10
    scripts_max: int = SCRIPTS_MAX


@dataclass(frozen=True, slots=True)
class SetupSection:
    """What mail programs are told to set themselves up with (`mail.client_setup`), by a web page
    and profiles. Addresses are host:port as programs reach them; "" is not offered. `domains` are
    those that are told about, with commas between them; "" is every domain."""

    name: str = ""
    domains: str = ""
    imap: str = ""
    imaps: str = ""
    pop3: str = ""
    pop3s: str = ""
    submission: str = ""
    submissions: str = ""
    managesieve: str = ""

    @property
    def told(self) -> ClientSetup:
        """What programs are told."""
        return ClientSetup.of(self.name, {key: getattr(self, key) for key in KEYS})

    @property
    def told_domains(self) -> frozenset[str]:
        """The domains by their A-labels."""
        return frozenset(parse_domains(self.domains))


@dataclass(frozen=True, slots=True)
class ExpireSection:
    """After how many days messages are expunged from mailboxes with the special uses \\Trash and
    \\Junk, counted from when they came there; 0 is never. `period_s` is how often it is looked."""

    trash_days: int = 0
    junk_days: int = 0
    period_s: int = 3600

    @property
    def ages_us(self) -> dict[str, int]:
        """By special use, in microseconds, of those that are expunged."""
        days = {"\\Trash": self.trash_days, "\\Junk": self.junk_days}
        return {use: count * 86_400_000_000 for use, count in days.items() if count}


@dataclass(frozen=True, slots=True)
class JunkSection:
    """Programs that learn from what users move into mailboxes with the special use \\Junk, and out
    of them: see `service.junk_teacher`."""

    learn_spam: str = ""
    learn_ham: str = ""
    timeout_s: int = 30
    at_once_max: int = 2
    waiting_max: int = 1000
    message_bytes_max: int = 1 << 20


@dataclass(frozen=True, slots=True)
class PushSection:
    """How the URLs in [hooks] are told of new mail: see `service.web_hooks`. `secret_file` is
    relative to the configuration file."""

    secret_file: str = ""
    details: bool = False
    timeout_s: int = 10
    waiting_max: int = 10_000
    keep_s: int = 3600


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration. `folder` is where the file stands; relative paths start there.

    A node of several workers is several nodes to the cluster, on one host: worker 1 has the node's
    name and addresses, worker K is `NAME.K`, with a data folder and a peer address of its own (see
    `of_worker`)."""

    path: Path
    node: NodeSection
    cluster: ClusterSection
    listen: ListenSection
    tls: TlsSection = field(default_factory=TlsSection)
    raft: RaftSection = field(default_factory=RaftSection)
    mail: MailSection = field(default_factory=MailSection)
    log: LogSection = field(default_factory=LogSection)
    resync: ResyncSection = field(default_factory=ResyncSection)
    scrub: ScrubSection = field(default_factory=ScrubSection)
    verify: VerifySection = field(default_factory=VerifySection)
    login: LoginSection = field(default_factory=LoginSection)
    sieve: SieveSection = field(default_factory=SieveSection)
    setup: SetupSection = field(default_factory=SetupSection)
    expire: ExpireSection = field(default_factory=ExpireSection)
    junk: JunkSection = field(default_factory=JunkSection)
    push: PushSection = field(default_factory=PushSection)
    hooks: dict[str, str] = field(default_factory=dict)
    """Where new mail is told of: user, domain or `*` -> URL."""
    dial: dict[str, str] = field(default_factory=dict)
    """Where this node reaches others instead of where the cluster says that they are: name ->
    host:port."""
    worker: int = 1
    retired: tuple[str, ...] = ()
    """Keys of earlier releases that the file still has, each with what became of it."""

    def of_worker(self, worker: int) -> Config:
        """The configuration of one of a node's workers. All share the addresses for clients and
        mail; the unix socket is the first's."""
        if worker == 1:
            return self
        listen = replace(self.listen, peer=worker_peer(self.listen.peer, worker), lmtp_socket="")
        name = worker_name(self.node.name, worker)
        section = replace(self.node, name=name, data=f"{self.node.data}.{worker}")
        return replace(self, node=section, listen=listen, worker=worker)

    @property
    def every_worker(self) -> list[Config]:
        """The configurations of all workers, this one's (the first) before the others."""
        return [self.of_worker(worker) for worker in range(1, self.node.workers + 1)]

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def data(self) -> Path:
        return self.folder / self.node.data

    @property
    def names(self) -> list[str]:
        return sorted(self.cluster.nodes)

    @property
    def replica_id(self) -> int:
        """Replicas are numbered from 1 in the order of the nodes' names."""
        return self.names.index(self.node.name) + 1


def worker_name(node: str, worker: int) -> str:
    """What the cluster calls a worker of a node."""
    return node if worker == 1 else f"{node}.{worker}"


def worker_peer(peer: str, worker: int) -> str:
    """Where a worker listens for peers: the node's own port and the two after it are the first's,
    the next is the second's."""
    if worker == 1:
        return peer
    host, port = split_address(peer)
    return join_address(host, port + worker + 1)


RETIRED: Mapping[str, str] = {
    "tls.clients_on_loopback_without": "clients use TLS and give the token on loopback, too; "
    "cluster.json has both"
}
"""Keys that earlier releases knew, and what became of them: they are read past, so that a node
starts after an upgrade."""


def _reachable(value: str) -> str | None:
    return told(dialled, value)


def _domains(value: str) -> str | None:
    try:
        parse_domains(value)
    except ValueError as e:
        return f"domains like example.org, with commas between them: {e}"
    return None


def _first_mailboxes(value: str) -> str | None:
    try:
        parse_first_mailboxes(value)
    except ValueError as e:
        return f"names, or NAME=USE, with commas between them: {e}"
    return None


def _program(value: str) -> str | None:
    try:
        words = shlex.split(value)
    except ValueError:
        words = ["?"]
    if not words or words[0].startswith("/"):
        return None
    return "a program by its whole path, perhaps with arguments"


def _url(value: str) -> str | None:
    try:
        if value:
            check_url(value)
    except ValueError as e:
        return str(e)
    return None


def _name(value: str) -> str | None:
    if NAME.fullmatch(value):
        return None
    return "1 to 32 of the characters a–z, 0–9 and -, not beginning or ending with -"


_CHECKS: Mapping[str, Check] = {
    "node.name": _name,
    "node.workers": in_range(1, WORKERS_MAX),
    "cluster.id": lambda v: None if re.fullmatch(r"[0-9a-f]{32}", v) else "32 hexadecimal digits",
    "cluster.shards": in_range(1, 4096),
    "cluster.replicas": in_range(1, 15),
    "listen.peer": is_address,
    "listen.client": is_address,
    "listen.lmtp": is_address_or_none,
    "listen.web": is_address_or_none,
    "listen.webs": is_address_or_none,
    **dict.fromkeys((f"listen.{name}" for name in PROTOCOLS), is_address_or_none),
    "listen.proxy_networks": are_networks,
    "raft.heartbeat_ms": in_range(5, 10_000),
    "raft.election_min_ms": in_range(20, 60_000),
    "raft.election_max_ms": in_range(30, 120_000),
    "mail.message_bytes_max": in_range(MESSAGE_BYTES_LOWEST, MESSAGE_BYTES_HIGHEST),
    "mail.recipients_max": in_range(1, 100_000),
    "mail.detail_separator": lambda v: None if len(v) <= 1 else 'one character, or "" for none',
    "mail.deadline_s": in_range(1, 600),
    "mail.delivered_once_s": in_range(0, DELIVERED_ONCE_S_MAX),
    "mail.lmtp_connections_max": in_range(1, 100_000),
    "mail.client_connections_max": in_range(1, 100_000),
    "mail.address_connections_max": in_range(1, 100_000),
    "mail.lmtp_refused_recipients_max": in_range(1, 1_000_000),
    "mail.disk_reserve_bytes": in_range(1 << 20, 1 << 50),
    "mail.first_mailboxes": _first_mailboxes,
    "log.bytes_max": in_range(1 << 20, 1 << 40),
    "log.entries_max": in_range(0, 1 << 40),
    "log.age_s": in_range(0, 10 * 366 * 86_400),
    "resync.rate_bytes_s": in_range(0, 1 << 40),
    "resync.busy_rate_bytes_s": in_range(0, 1 << 40),
    "resync.sources_max": in_range(1, 64),
    "scrub.period_s": in_range(1, 10 * 366 * 86_400),
    "scrub.rate_bytes_s": in_range(0, 1 << 40),
    "verify.period_s": in_range(0, 366 * 86_400),
    "login.delay_s": in_range(0, 60),
    "login.failures_max": in_range(1, 1_000_000),
    "login.forget_s": in_range(1, 86_400),
    "login.trusted_networks": are_networks,
    "login.user_connections_max": in_range(1, 100_000),
    "login.cache_s": in_range(0, 86_400),
    "login.program": _program,
    "login.url": _url,
    "login.external_timeout_s": in_range(1, 60),
    "login.external_at_once_max": in_range(1, 1000),
    "sieve.script_bytes_max": in_range(1 << 10, SCRIPT_BYTES_MAX),
    "sieve.scripts_max": in_range(1, SCRIPTS_MAX_HIGHEST),
    **dict.fromkeys((f"setup.{key}" for key in KEYS), is_address_or_none),
    "setup.domains": _domains,
    "junk.learn_spam": _program,
    "junk.learn_ham": _program,
    "junk.timeout_s": in_range(1, 3600),
    "junk.at_once_max": in_range(1, 64),
    "junk.waiting_max": in_range(1, 100_000),
    "junk.message_bytes_max": in_range(1 << 10, MESSAGE_BYTES_HIGHEST),
    "push.timeout_s": in_range(1, 120),
    "push.waiting_max": in_range(1, 1_000_000),
    "push.keep_s": in_range(1, 7 * 86_400),
    "expire.trash_days": in_range(0, 36_500),
    "expire.junk_days": in_range(0, 36_500),
    "expire.period_s": in_range(1, 86_400),
    "login.oauth_user_claim": lambda v: None if v else "the name of a claim",
}


def load(path: Path) -> Config:
    """Read and check a node's configuration; `path` is the file or its folder. Raises
    `ConfigError`."""
    if path.is_dir():
        path = path / CONFIG_FILE
    try:
        table = read_toml(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; `raftmail init` makes a node's folder"
        ) from None
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path}: cannot be read: {e}") from None
    sections: dict[str, type[Any]] = {
        "node": NodeSection,
        "cluster": ClusterSection,
        "listen": ListenSection,
        "tls": TlsSection,
        "raft": RaftSection,
        "mail": MailSection,
        "log": LogSection,
        "resync": ResyncSection,
        "scrub": ScrubSection,
        "verify": VerifySection,
        "login": LoginSection,
        "sieve": SieveSection,
        "setup": SetupSection,
        "expire": ExpireSection,
        "junk": JunkSection,
        "push": PushSection,
    }
    unknown = sorted(set(table) - {*sections, "dial", "hooks"})
    if unknown:
        raise ConfigError(
            f"{path}: [{unknown[0]}]: no such section; there are {', '.join(sections)}, dial, hooks"
        )
    retired = _take_retired(table)
    made = {
        name: _section(path, name, kind, table.get(name, {})) for name, kind in sections.items()
    }
    dial = _dial(path, table.get("dial", {}))
    hooks = _hooks(path, table.get("hooks", {}))
    config = Config(path.absolute(), **made, hooks=hooks, dial=dial, retired=retired)
    _check_together(config)
    return config


def _take_retired(table: dict[str, Any]) -> tuple[str, ...]:
    """Take the retired keys out of what was read; what to tell of each."""
    told = []
    for name, text in RETIRED.items():
        section, _, key = name.partition(".")
        found = table.get(section)
        if isinstance(found, dict) and key in found:
            del found[key]
            told.append(f"{name} has no effect any more: {text}; remove it")
    return tuple(told)


def _dial(path: Path, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: dial: must be a section [dial]")
    for name, address in value.items():
        node, dot, worker = name.partition(".")
        if _name(node) is not None or (dot and not worker.isdecimal()):
            raise ConfigError(f"{path}: dial.{name}: is no name that a node can have")
        allowed = _reachable(address) if isinstance(address, str) else "a text in quotes"
        if allowed is not None:
            raise ConfigError(
                f"{path}: dial.{name}: {address!r} is not allowed; it must be {allowed}"
            )
    return dict(value)


def _hooks(path: Path, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: hooks: must be a section [hooks]")
    found: dict[str, str] = {}
    for whose, url in value.items():
        where = f"{path}: hooks.{whose}"
        try:
            name = whose if whose == EVERYBODY else (account if "@" in whose else domain)(whose)
        except ValueError as e:
            raise ConfigError(f"{where}: is no user, no domain and no *: {e}") from None
        allowed = _url(url) if isinstance(url, str) and url else "a URL in quotes"
        if allowed is not None:
            raise ConfigError(f"{where}: {url!r} is not allowed; it must be {allowed}")
        found[name] = url
    if len(set(found.values())) > HOOK_URLS_MAX:
        raise ConfigError(f"{path}: hooks: there may be {HOOK_URLS_MAX} different URLs")
    return found


def _section(path: Path, name: str, kind: type[Any], table: Any) -> Any:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name}: must be a section [{name}]")
    known = {f.name: f for f in fields(kind)}
    for key in table:
        if key not in known:
            raise ConfigError(f"{path}: {name}.{key}: no such key; [{name}] has {', '.join(known)}")
    values: dict[str, Any] = {}
    for key, spec in known.items():
        if key not in table:
            if spec.default is spec.default_factory:  # both MISSING
                raise ConfigError(f"{path}: {name}.{key}: must be set")
            continue
        value = table[key]
        if name == "cluster" and key == "nodes":
            values[key] = _members(path, value)
            continue
        if name == "node" and key == "workers" and value == "auto":
            value = min(WORKERS_MAX, len(os.sched_getaffinity(0)))
        wanted, called = TOML_KINDS[str(spec.type)]
        if type(value) is not wanted:
            raise ConfigError(f"{path}: {name}.{key}: {value!r} is not {called}")
        check = _CHECKS.get(f"{name}.{key}")
        allowed = check(value) if check else None
        if allowed is not None:
            raise ConfigError(
                f"{path}: {name}.{key}: {value!r} is not allowed; it must be {allowed}"
            )
        values[key] = value
    return kind(**values)


def _members(path: Path, value: Any) -> dict[str, Member]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(
            f"{path}: cluster.nodes: must be sections [cluster.nodes.NAME], one for each node"
        )
    members = {}
    for name, entry in value.items():
        where = f"{path}: cluster.nodes.{name}"
        if (allowed := _name(name)) is not None:
            raise ConfigError(f"{where}: the name is not allowed; it must be {allowed}")
        if (
            not isinstance(entry, dict)
            or not {"peer"} <= set(entry) <= {"peer", "workers"}
            or not isinstance(entry["peer"], str)
        ):
            raise ConfigError(f'{where}: must have peer = "host:port", and may have workers')
        workers = entry.get("workers", 1)
        if type(workers) is not int or not 1 <= workers <= WORKERS_MAX:
            raise ConfigError(
                f"{where}.workers: {workers!r} is not allowed; it must be a whole number from 1 "
                f"to {WORKERS_MAX}"
            )
        if (allowed := _reachable(entry["peer"])) is not None:
            raise ConfigError(
                f"{where}.peer: {entry['peer']!r} is not allowed; it must be {allowed}"
            )
        members[name] = Member(entry["peer"], workers)
    return members


def _check_login(path: Path, login: LoginSection) -> None:
    if login.program and login.url:
        raise ConfigError(f"{path}: login: has program and url; there is one external source")
    tokens = (login.oauth_issuer, login.oauth_audience, login.oauth_keys)
    if any(tokens) and not all(tokens):
        raise ConfigError(
            f"{path}: login: tokens need oauth_issuer, oauth_audience and oauth_keys together"
        )


def _check_together(config: Config) -> None:
    path = config.path
    if config.hooks and not config.push.secret_file:
        raise ConfigError(f"{path}: push.secret_file: must be set, since there are [hooks]")
    if config.node.name not in config.cluster.nodes:
        raise ConfigError(
            f"{path}: node.name: {config.node.name!r} is none of the cluster's nodes "
            f"({', '.join(config.names)})"
        )
    raft = config.raft
    if not raft.heartbeat_ms * 3 < raft.election_min_ms < raft.election_max_ms:
        raise ConfigError(
            f"{path}: raft: three heartbeats (heartbeat_ms = {raft.heartbeat_ms}) must be shorter "
            f"than election_min_ms "
            f"({raft.election_min_ms}), and that shorter than election_max_ms "
            f"({raft.election_max_ms})"
        )
    peers = [m.peer for m in config.cluster.nodes.values()]
    if len(set(peers)) != len(peers):
        raise ConfigError(f"{path}: cluster.nodes: two nodes have the same peer address")
    own = config.tls
    if bool(own.program_certificate) is not bool(own.program_key):
        missing = "program_key" if own.program_certificate else "program_certificate"
        raise ConfigError(f"{path}: tls.{missing}: must be set, since the other one of the two is")
    _check_login(path, config.login)
    listen = config.listen
    taken: dict[str, str] = {}
    for key in ("peer", "client", "lmtp", *PROTOCOLS, "web", "webs"):
        address = getattr(listen, key)
        if address in taken:
            raise ConfigError(
                f"{path}: listen.{key}: {address!r} is {taken[address]} already; take another port"
            )
        if address:
            taken[address] = f"listen.{key}"
    for worker in config.every_worker[1:]:
        peer = worker.listen.peer
        if peer in taken:
            raise ConfigError(
                f"{path}: node.workers: worker {worker.worker} would listen for peers on {peer}, "
                f"which is {taken[peer]}; choose that "
                "one beside the node's peer port + 3 and those that follow, one for each further "
                "worker"
            )
        if (allowed := is_address(peer)) is not None:
            raise ConfigError(
                f"{path}: node.workers: worker {worker.worker} would listen for peers on {peer}; "
                f"it must be {allowed}"
            )
