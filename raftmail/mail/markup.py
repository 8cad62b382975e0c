"""HTML as text."""

from __future__ import annotations

import re
from html import unescape

_TAG = re.compile(r"/?([a-z][a-z0-9]*)")
_UNSHOWN = frozenset(("head", "script", "style", "title", "template"))
_WITHIN_WORDS = frozenset((
    "a", "abbr", "b", "big", "code", "em", "font", "i", "small", "span", "strong", "sub", "sup",
    "tt", "u",
))  # fmt: skip
"""Tags that stand inside words."""


def without_markup(html: str) -> str:
    """The text of HTML that may end anywhere. Its cost is linear."""
    lower = html.lower()
    found: list[str] = []
    at = 0
    while (start := html.find("<", at)) >= 0:
        found.append(html[at:start])
        comment = html.startswith("<!--", start)
        end = html.find("-->" if comment else ">", start)
        if end < 0:
            at = len(html)
            break
        at = end + (3 if comment else 1)
        tag = _TAG.match(lower, start + 1)
        name = tag[1] if tag is not None else ""
        if name in _UNSHOWN and html[start + 1] != "/":
            close = lower.find(f"</{name}", at)
            at = len(html) if close < 0 else close
        if name not in _WITHIN_WORDS:
            found.append(" ")
    found.append(html[at:])
    return unescape("".join(found))
