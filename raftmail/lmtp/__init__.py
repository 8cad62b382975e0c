"""LMTP (RFC 2033): how mail transfer agents hand their mail to raftmail.

`node/` starts an `LmtpServer` with a `DeliveryBackend` that routes to the shards. Inside:

* `protocol` is the state machine of one connection. It has no sockets, clock or tasks: it is given
  bytes and times, and hands out events and bytes. `states` is its table, `events` what it asks
  for; `commands`, `text` and `address` parse for it;
* `connection` moves the bytes with asyncio and asks the backend; `server` listens, watches the
  time and stops in order; `budget` limits the memory, `config` everything;
* `backend` is the seam to the store; `trace` makes the header fields of final delivery.

The room touches sockets and nothing else. It imports no other room.
"""

from raftmail.lmtp.address import Address, AddressError, fold_domain, fold_user
from raftmail.lmtp.backend import DeliveryBackend, Envelope, Recipient, Verdict
from raftmail.lmtp.config import LmtpConfig, ServerConfig
from raftmail.lmtp.protocol import LmtpSession
from raftmail.lmtp.server import LmtpServer, ServerStats
from raftmail.lmtp.trace import Trace

__all__ = [
    "Address",
    "AddressError",
    "DeliveryBackend",
    "Envelope",
    "LmtpConfig",
    "LmtpServer",
    "LmtpSession",
    "Recipient",
    "ServerConfig",
    "ServerStats",
    "Trace",
    "Verdict",
    "fold_domain",
    "fold_user",
]
