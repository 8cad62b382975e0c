"""Names and limits of scripts (RFC 5804): by fixed rules, for they are asked in the apply."""

from __future__ import annotations

import re

SCRIPT_NAME_BYTES_MAX = 512
SCRIPT_BYTES_MAX = 128 << 10
"""Of one script, whatever a node allows."""

SCRIPTS_MAX = 32
"""Of one user, where a node does not say otherwise."""

SCRIPTS_MAX_HIGHEST = 100
SCRIPT_TOTAL_BYTES_MAX = 1 << 20
"""Of all scripts of a user, which are read together."""

RULES_VERSION_BYTES = 16

_NOT_IN_NAMES = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]")


def check_script_name(field: str, name: object) -> None:
    """Raises ValueError for what no script can be called (RFC 5804 section 1.6)."""
    if type(name) is not str:
        raise ValueError(f"{field}: str, not {type(name).__name__}")
    if not name:
        raise ValueError(f"{field}: the name of a script is not empty")
    wrong = _NOT_IN_NAMES.search(name)
    if wrong is not None:
        raise ValueError(
            f"{field}: the name of a script has no control characters (U+{ord(wrong[0]):04X})"
        )
    if len(name.encode()) > SCRIPT_NAME_BYTES_MAX:
        raise ValueError(f"{field}: the name of a script has at most {SCRIPT_NAME_BYTES_MAX} bytes")


def check_script(field: str, script: object) -> None:
    """Raises ValueError for what is no script of a size that is kept."""
    if type(script) is not bytes:
        raise ValueError(f"{field}: bytes, not {type(script).__name__}")
    if len(script) > SCRIPT_BYTES_MAX:
        raise ValueError(f"{field}: a script has at most {SCRIPT_BYTES_MAX} bytes")
