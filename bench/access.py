"""What a load needs to be let in by a node: the cluster's authority, and the token."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from raftmail.net.tls import client_context


@dataclass(frozen=True, slots=True)
class Access:
    """Of one cluster. Both are files."""

    ca: Path
    token_file: Path

    def context(self) -> ssl.SSLContext:
        """For one or many connections. Raises `raftmail.net.tls.TlsError`."""
        return client_context(self.ca)

    def line(self) -> bytes:
        """What a connection begins with; its answer has the tag `a`."""
        return b"a AUTH TOKEN %b\r\n" % self.token_file.read_bytes().strip()


def tls_of(access: Access | None) -> ssl.SSLContext | None:
    """The context for connections; None for a server that speaks in the clear, as twins do."""
    return None if access is None else access.context()


def auth_of(access: Access | None) -> bytes:
    """What connections begin with: nothing for a server that wants no token."""
    return b"" if access is None else access.line()
