"""Where mail programs reach a node: an address, `host:port`, for each protocol that they speak.

The names of the fields are those of the keys in `node.toml` ([listen]) and in `cluster.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Self

from raftmail.mail.endpoint import PORT_MAX, join_address

_AFTER_PEER: Final = (6, 7, 8, 9, 5)
_AFTER_WORKERS: Final = (10, 11, 12, 13, 14)
FEW_WORKERS: Final = 3
"""Up to so many, the ports from the peers' port + 5 on are free for mail programs."""


@dataclass(frozen=True, slots=True)
class ProgramAddresses:
    """`imap`, `pop3` and `managesieve` begin in the clear, with STARTTLS or STLS; `imaps` and
    `pop3s` begin with TLS. "" is nowhere."""

    imap: str = ""
    imaps: str = ""
    pop3: str = ""
    pop3s: str = ""
    managesieve: str = ""

    @classmethod
    def beside(cls, host: str, peer_port: int, workers: int) -> Self:
        """Those of a node whose peers come to `peer_port`: that port + 6 to + 9, and + 5 for
        ManageSieve, which came last. A node of more than three workers uses these ports itself; its
        programs come to the port + 10 and those after it."""
        after = _AFTER_PEER if workers <= FEW_WORKERS else _AFTER_WORKERS
        return cls(*(join_address(host, peer_port + one) for one in after))

    @classmethod
    def read(cls, texts: Mapping[str, Any]) -> Self:
        """From keys of these names; what is missing is nowhere."""
        return cls(**{name: str(texts.get(name, "")) for name in PROTOCOLS})

    @property
    def by_protocol(self) -> dict[str, str]:
        """Every protocol with its address, "" among them."""
        return asdict(self)

    @property
    def served(self) -> dict[str, str]:
        """The protocols that are served, each with its address."""
        return {name: address for name, address in self.by_protocol.items() if address}


PROTOCOLS: Final = tuple(field.name for field in fields(ProgramAddresses))
"""In the order in which they are listed, and in which their ports follow each other."""

HIGHEST_PEER_PORT: Final = PORT_MAX - max(_AFTER_WORKERS)
"""The last port for peers after which all others of a node fit, with any number of workers."""
