"""One response of a server, as the strict parser has read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StrictResponse:
    """`kind`: `+`, a status (`OK`, `NO`, `BAD`, `BYE`, `PREAUTH`) or the name of the data. `tag` is
    b"" when it is untagged, `number` the one before the name. `value` is what the function of its
    kind returned; of a status it is the text, and `code` has the name and value in brackets."""

    kind: str
    tag: bytes = b""
    number: int = 0
    value: Any = None
    code: tuple[str, Any] | None = None
