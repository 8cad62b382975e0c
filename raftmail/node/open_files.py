"""How much the process may have open: raised as far as it goes, shared out between files and
connections, and measured."""

from __future__ import annotations

import logging
import os
import resource

from raftmail.net.gate import Descriptors
from raftmail.node.config import Config, ConfigError
from raftmail.storage.spares import SPARES

logger = logging.getLogger(__name__)

FILES_MIN = 96
"""Descriptors without which no node runs: its libraries', its log, a few replicas."""

SPARES_MAX = 32
MEASURE_S = 1.0
STRANGERS = 256
"""Connections of one port that have not said who they are."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one. Returns what is allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # more than the kernel's own limit, fs.nr_open
            return soft
    return hard


def count_open() -> int:
    """Descriptors that this process has open; 0 where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return 0


def share_out(config: Config, descriptors: Descriptors) -> None:
    """Set the limits at the start, and say when the configured connections do not fit. Raises
    `ConfigError`."""
    limit = raise_limit()
    if limit < FILES_MIN + SPARES_MAX:
        raise ConfigError(
            f"the node may open only {limit} files, and needs {FILES_MIN + SPARES_MAX} at least: "
            f"raise the limit (ulimit -n, "
            "or LimitNOFILE= in systemd)"
        )
    descriptors.limit = limit
    descriptors.reserve = min(256, limit // 8)
    programs = len(config.listen.programs.served)
    clients = (1 + bool(programs)) * config.mail.client_connections_max
    strangers = (3 + programs) * STRANGERS
    wanted = clients + config.mail.lmtp_connections_max + strangers + 2 * descriptors.reserve
    if wanted > limit:
        logger.warning(
            "the node may open %d files, which is too few for all configured connections (%d with "
            "the files): the last ones are turned "
            "away; raise the limit (ulimit -n, or LimitNOFILE= in systemd), or lower "
            "mail.client_connections_max and "
            "mail.lmtp_connections_max",
            limit,
            wanted,
        )


def measure(descriptors: Descriptors) -> None:
    """Look how much is open that is no connection, and keep spares."""
    SPARES.fill(SPARES_MAX)
    found = count_open()
    if found:
        descriptors.others = max(0, found - descriptors.connections)
