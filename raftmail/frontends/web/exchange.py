"""One request of HTTP and its answer, as pages see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

FIELDS_MAX = 32
"""Of a query or a form; one with more is none."""


@dataclass(frozen=True, slots=True)
class WebRequest:
    """`path` is decoded and begins with a slash; `query` has the first value of each name, in small
    letters."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes = b""

    @classmethod
    def read(cls, method: bytes, target: bytes, body: bytes) -> WebRequest:
        """Raises ValueError for a target that is no path (RFC 9112 section 3.2)."""
        parts = urlsplit(target.decode("ascii"))
        path = unquote(parts.path, errors="strict")
        if not path.startswith("/") or not path.isprintable():
            raise ValueError("the target of a request is a path")
        query: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, max_num_fields=FIELDS_MAX):
            query.setdefault(name.lower(), value)
        return cls(method.decode("ascii"), path, query, body)


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """`kind` is the media type of `body`; `headers` are further ones."""

    status: int
    kind: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def text(cls, status: int, text: str, **headers: str) -> WebAnswer:
        """One line for people."""
        return cls(status, "text/plain; charset=utf-8", f"{text}\n".encode(), headers)

    @classmethod
    def xml(cls, body: bytes) -> WebAnswer:
        """A document, which declares its encoding itself."""
        return cls(200, "application/xml; charset=utf-8", body)
