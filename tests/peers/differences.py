"""What raftmail answers otherwise than Dovecot, and means to. docs/architecture/imap-differences.md
argues each under the same title.

An entry explains a finding when its function says so. It is as narrow as it can be: it looks at
the message, at what was asked, and at both answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.peers.compare import Finding


@dataclass(frozen=True)
class Difference:
    """One that is argued."""

    title: str
    kinds: tuple[str, ...]
    explains: Callable[[Finding], bool]


def _placeholders(finding: Finding) -> bool:
    shown = repr(finding.theirs)
    return any(word in shown for word in ("MISSING_", "SYNTAX_ERROR", "INVALID_ROUTE"))


DIFFERENCES: Final = (
    Difference("Addresses that are none", ("ENVELOPE", "BODYSTRUCTURE"), _placeholders),
)


def explanation(finding: Finding) -> Difference | None:
    """The entry that explains a finding."""
    for one in DIFFERENCES:
        if finding.kind in one.kinds and one.explains(finding):
            return one
    return None
