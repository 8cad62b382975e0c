"""One POST of JSON to an operator's endpoint, on a connection of its own."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

_STATUS_BYTES_MAX: Final = 1024
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})\s")


async def post_json(
    url: str, body: bytes, context: ssl.SSLContext, headers: Mapping[str, str] | None = None
) -> int:
    """The status of the answer, whose rest is not read. No redirect is followed. `url` is one that
    `external_users.check_url` takes. Raises OSError, ValueError, EOFError; the caller bounds the
    time."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=context if secure else None,
        limit=_STATUS_BYTES_MAX,
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}"
            "Connection: close\r\n\r\n"
        )
        writer.write(head.encode("ascii") + body)
        line = await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError:
        raise ValueError("what it answers is no HTTP") from None
    finally:
        writer.transport.abort()
    found = _STATUS.match(line)
    if found is None:
        raise ValueError("what it answers is no HTTP")
    return int(found[1])
