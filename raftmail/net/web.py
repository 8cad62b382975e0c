"""Telling a web browser from a client: any web page can have one send a request to a port of the
machine that it runs on."""

from __future__ import annotations

import re

_METHOD = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH"
    rb"|PRI|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|LOCK|UNLOCK|SEARCH|REPORT)"
    rb"[ \t]+(?:/|\*|[A-Za-z][A-Za-z0-9+.-]*:|[^ \t]+[ \t]+HTTP/)",
    re.IGNORECASE,
)
_VERSION = re.compile(rb"[ \t](?:HTTP|RTSP|SIP)/[0-9]", re.IGNORECASE)
_NO_VERB = re.compile(rb"[!-@\[-`{-~]|[^\r\n]*[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FIELD = re.compile(
    rb"(?:Host|User-Agent|Content-(?:Type|Length|Encoding|Disposition)|Transfer-Encoding"
    rb"|Origin|Referer|Cookie|Connection|Accept"
    rb"(?:-[A-Za-z]+)?|Sec-[A-Za-z-]+|Upgrade(?:-Insecure-Requests)?|X-[A-Za-z-]+|Cache-Control"
    rb"|Pragma|Authorization|Via|Forwarded)[ \t]*:",
    re.IGNORECASE,
)
LINE_BYTES_MAX = 4096
"""How much of a line is looked at."""


def is_web_line(line: bytes) -> bool:
    """Whether a line is one of a web request: its first line, or a field of its head. Commands of
    neither protocol look like that."""
    line = line[:LINE_BYTES_MAX].lstrip()
    return (
        _METHOD.match(line) is not None
        or _FIELD.match(line) is not None
        or _VERSION.search(line) is not None
    )


def is_no_command(line: bytes) -> bool:
    """Whether a line of a protocol whose commands begin with a word cannot be one that a client got
    wrong.

    It is of a web request. Or it has control characters, as TLS has. Or it begins with neither
    letter nor blank, as parts of forms and bulk strings do.

    A program that can be made to connect here often has only the beginning dictated to it.
    (Examples are a web page, and a TLS session that is resumed.)
    """
    return is_web_line(line) or _NO_VERB.match(line[:LINE_BYTES_MAX]) is not None
