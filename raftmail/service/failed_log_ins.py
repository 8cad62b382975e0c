"""Wrong log-ins by where they come from: each makes the next wait longer, and many are refused.

A network is an IPv4 address, or the 64 bits of an IPv6 address that one customer has.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Final

from raftmail.mail.networks import Network, is_among, parse_ip

DOUBLINGS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class LogInLimits:
    """What log-ins may cost. Seconds, unless the name says otherwise."""

    delay_s: float = 2.0
    """How long the first wrong log-in from a network takes at least; each further one doubles
    that."""
    delay_max_s: float = 15.0
    failures_max: int = 30
    """Wrong log-ins that are held against a network; with so many, further ones are refused without
    being looked at."""
    forget_s: float = 20.0
    """One wrong log-in is forgotten after so long, then the next."""
    networks_max: int = 10_000
    """Networks that are remembered; at the bound the one that was heard of least lately is
    forgotten."""
    cache_s: float = 60.0
    """So long a password that was right is known to be right; 0: it is looked at each time."""
    cached_max: int = 10_000
    """Passwords that are known so; at the bound all are forgotten."""
    external_at_once_max: int = 16
    """Questions to the external source of users; the next one waits."""
    user_connections_max: int = 100
    """Connections of one user to this process; the next is refused."""
    trusted: tuple[Network, ...] = ()
    """Networks whose wrong log-ins are not counted: webmail, which speaks for everybody."""


@dataclass(slots=True)
class _Record:
    failures: float
    at: float


@dataclass(slots=True, repr=False)
class FailedLogIns:
    """Of one process. `now` is the time of a clock that only goes forward.

    Invariants: at most `networks_max` networks, in the order in which they were heard of."""

    limits: LogInLimits
    _records: dict[str, _Record] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._records)

    def failures(self, network: str, now: float) -> float:
        """How many wrong log-ins are held against a network."""
        record = self._records.get(network)
        if record is None:
            return 0.0
        left = record.failures - (now - record.at) / self.limits.forget_s
        if left <= 0:
            del self._records[network]
            return 0.0
        return left

    def may_try(self, network: str, now: float) -> bool:
        """Whether a log-in from there is looked at. It is to be asked right before that."""
        return self.failures(network, now) + 1 <= self.limits.failures_max

    def note(self, network: str, now: float) -> float:
        """A log-in was wrong; in how many seconds it is to be answered."""
        count = min(self.failures(network, now) + 1, float(self.limits.failures_max))
        self._records.pop(network, None)
        if len(self._records) >= self.limits.networks_max:
            del self._records[next(iter(self._records))]
        self._records[network] = _Record(count, now)
        doubled = self.limits.delay_s * 2.0 ** min(int(count) - 1, DOUBLINGS_MAX)
        return min(doubled, max(self.limits.delay_max_s, self.limits.delay_s))

    def is_trusted(self, address: str) -> bool:
        """Whether wrong log-ins from an address are not counted."""
        return bool(self.limits.trusted) and is_among(address, self.limits.trusted)


def network_of(address: str) -> str:
    """The name of the network of an address; what is no IP address is its own."""
    ip = parse_ip(address)
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(ip) >> 64 << 64)) + "/64"
    return address if ip is None else str(ip)
