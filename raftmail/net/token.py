"""The form of a cluster's token: what is anything else is never sent, so no other file can be told
to a stranger by mistake."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[0-9a-fA-F]{64}")


def check_token(text: str, where: str) -> str:
    """The token, if `text` is one. Raises ValueError, which names `where` it was found and shows
    nothing of it."""
    if _TOKEN.fullmatch(text) is None:
        raise ValueError(
            f"{where}: holds no token; a cluster's token is 64 hexadecimal digits, on one line"
        )
    return text
