"""What SIGHUP can change while a node runs: certificates, the token, and some keys of the
configuration."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from raftmail.node.config import Config, load

CHANGEABLE = frozenset(
    (
        "mail.recipients_max",
        "mail.detail_separator",
        "mail.lmtp_connections_max",
        "mail.client_connections_max",
        "mail.address_connections_max",
        "mail.lmtp_refused_recipients_max",
    )
)
"""Keys that count from the next connection on. All others count from the next start on."""

_SECTIONS = (
    "node", "cluster", "listen", "tls", "raft", "mail", "log", "resync", "scrub", "verify", "login",
    "setup", "expire", "junk", "push", "hooks", "dial",
)  # fmt: skip


def load_again(config: Config) -> Config:
    """The configuration as the file has it now, for the same worker. Raises `ConfigError`."""
    return load(Path(config.path)).of_worker(config.worker)


def changed_keys(before: Config, after: Config) -> list[str]:
    """The keys that have another value, in the order of the file's sections."""
    changed = []
    for section in _SECTIONS:
        old, new = getattr(before, section), getattr(after, section)
        if section in ("dial", "hooks"):
            changed += [section] if old != new else []
            continue
        changed += [
            f"{section}.{one.name}"
            for one in fields(old)
            if getattr(old, one.name) != getattr(new, one.name)
        ]
    return changed
