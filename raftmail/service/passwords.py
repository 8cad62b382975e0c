"""Password hashes: `scrypt$n$r$p$salt$hash`, salt and hash in hexadecimal (RFC 7914).

The cost is what OWASP asks of scrypt with 16 MiB (N = 2^14, r = 8, p = 5), some 200 ms: call it in
an executor, never on the event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import os

PASSWORD_BYTES_MAX = 1024
_N, _R, _P = 16384, 8, 5
_SALT_BYTES = 16
_HASH_BYTES = 32
_MEMORY_BYTES_MAX = 64 * 1024 * 1024

NO_PASSWORD = f"scrypt${_N}${_R}${_P}${'0' * 32}${'0' * 64}"
"""A hash of no password, which takes as long as any other to find out."""


def hash_password(password: bytes, salt: bytes | None = None) -> str:
    """The hash of a password. Raises ValueError when it is empty or longer than
    `PASSWORD_BYTES_MAX`."""
    if not 0 < len(password) <= PASSWORD_BYTES_MAX:
        raise ValueError(f"a password has from 1 to {PASSWORD_BYTES_MAX} bytes")
    if salt is None:
        salt = os.urandom(_SALT_BYTES)
    digest = _scrypt(password, salt, _N, _R, _P, _HASH_BYTES)
    return f"scrypt${_N}${_R}${_P}${salt.hex()}${digest.hex()}"


def verify_password(password: bytes, password_hash: str) -> bool:
    """Whether the password is the one of the hash; False also for a hash that cannot be read."""
    try:
        scheme, n, r, p, salt, digest = password_hash.split("$")
        expected = bytes.fromhex(digest)
        if scheme != "scrypt" or not expected or not 0 < len(password) <= PASSWORD_BYTES_MAX:
            return False
        made = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p), len(expected))
    except ValueError:
        return False
    return hmac.compare_digest(made, expected)


def _scrypt(password: bytes, salt: bytes, n: int, r: int, p: int, length: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY_BYTES_MAX, dklen=length
    )
