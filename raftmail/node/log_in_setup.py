"""How log-ins are judged at this node, by its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from raftmail.mail.networks import parse_networks
from raftmail.node.config import Config, ConfigError
from raftmail.service.external_users import (
    CheckingProgram,
    ExternalUsers,
    PasswordEndpoint,
)
from raftmail.service.failed_log_ins import LogInLimits
from raftmail.service.log_ins import LogIns, Querying
from raftmail.service.token_issuer import TokenIssuer, read_keys


def make_log_ins(config: Config, cluster: Querying, wall: Callable[[], float]) -> LogIns:
    """`wall` is Unix time. Raises `ConfigError`."""
    login = config.login
    limits = LogInLimits(
        delay_s=float(login.delay_s),
        failures_max=login.failures_max,
        forget_s=float(login.forget_s),
        cache_s=float(login.cache_s),
        external_at_once_max=login.external_at_once_max,
        user_connections_max=login.user_connections_max,
        trusted=parse_networks(login.trusted_networks),
    )
    return LogIns(
        cluster,
        config.cluster.id,
        limits,
        external=_external_of(config),
        issuer=issuer_of(config, wall),
    )


def issuer_of(config: Config, wall: Callable[[], float]) -> TokenIssuer | None:
    """Whose tokens are taken, with the keys as their file has them now. Raises `ConfigError`."""
    login = config.login
    if not login.oauth_issuer:
        return None
    path = config.folder / login.oauth_keys
    try:
        keys = read_keys(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: the issuer's keys cannot be read: {e}") from None
    except ValueError as e:
        raise ConfigError(f"{path}: {e}") from None
    return TokenIssuer(login.oauth_issuer, login.oauth_audience, login.oauth_user_claim, keys, wall)


def _external_of(config: Config) -> ExternalUsers | None:
    login = config.login
    if login.program:
        return CheckingProgram(tuple(shlex.split(login.program)), float(login.external_timeout_s))
    if login.url:
        return PasswordEndpoint(login.url, float(login.external_timeout_s))
    return None
