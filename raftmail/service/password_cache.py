"""Passwords that were found right a moment ago, so that a client that comes again costs little."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field


@dataclass(slots=True, repr=False)
class PasswordCache:
    """Keeps no password: a hash under a key that is this process's alone.

    What the cluster keeps of the password is part of the hash, so a changed one is not found.
    Invariant: at most `entries_max`; at the bound all are forgotten."""

    ttl_s: float
    entries_max: int
    _key: bytes = field(default_factory=lambda: os.urandom(32))
    _until: dict[bytes, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._until)

    def knows(self, user: str, kept: str, password: bytes, now: float) -> bool:
        """Whether this was right, of what the cluster keeps now."""
        key = self._hash(user, kept, password)
        until = self._until.get(key)
        if until is None:
            return False
        if until <= now:
            del self._until[key]
            return False
        return True

    def note(self, user: str, kept: str, password: bytes, now: float) -> None:
        """It was right."""
        if self.ttl_s <= 0:
            return
        if len(self._until) >= self.entries_max:
            self._until.clear()
        self._until[self._hash(user, kept, password)] = now + self.ttl_s

    def _hash(self, user: str, kept: str, password: bytes) -> bytes:
        named = f"{len(user)} {user} {len(kept)} {kept} ".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, named + password, hashlib.sha256).digest()
