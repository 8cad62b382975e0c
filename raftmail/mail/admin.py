"""What operators' calls have in common, between nodes and to clients."""

from __future__ import annotations

from typing import Any, TypeAlias

ADMIN_S = 10.0
"""How long an operator's call may take where its caller does not say."""

JSON: TypeAlias = Any
"""What a call answers, as it is put into JSON; between nodes there may be bytes in it."""
