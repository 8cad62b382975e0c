"""What answers at an address where no node does: one look, for the words that an operator is
told."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from raftmail.net.tls import explain

_LISTEN_S = 0.5
_HEARD_BYTES_MAX = 200
_HINT = (
    "give the address for clients (`client` in cluster.json, by default the port after that "
    "for nodes)"
)


def is_foreign(error: BaseException) -> bool:
    """Whether what answered speaks no TLS, or none that can be understood."""
    of_tls = isinstance(error, ssl.SSLError)
    return of_tls and not isinstance(error, ssl.SSLCertVerificationError | ssl.SSLEOFError)


async def look(host: str, port: int, error: BaseException, waited_s: float) -> str:
    """Connect without TLS, say nothing, and tell what is heard."""
    writer = None
    try:
        async with asyncio.timeout(_LISTEN_S):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as failed:
        if isinstance(failed, TimeoutError):
            return (
                f"no connection within {waited_s:g} s: the machine is off, or a firewall drops "
                f"what is sent to it"
            )
        return explain(failed)
    heard = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(_LISTEN_S):
            heard = await reader.read(_HEARD_BYTES_MAX)
    writer.close()
    return _words(heard, error, waited_s)


def _words(heard: bytes, error: BaseException, waited_s: float) -> str:
    line = heard.split(b"\n")[0].decode("utf-8", "replace").strip()
    shown = "".join(c if c.isprintable() else "?" for c in line)[:80]
    if heard.startswith((b"220 ", b"220-")):
        what = "an LMTP" if b"LMTP" in heard.upper() else "a mail"
        return f"{what} server answers there ({shown!r}); {_HINT}"
    if heard:
        return f"no node of raftmail answers there ({shown!r}); {_HINT}"
    if isinstance(error, TimeoutError):
        return (
            f"the connection is taken, and nothing said for {waited_s:g} s: the node hangs, or "
            f"it is no node; {_HINT}"
        )
    return f"{explain(error)}; {_HINT}"
