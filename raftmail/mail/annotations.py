"""Names and limits of annotations (RFC 5464): by fixed rules, for they are asked in the apply."""

from __future__ import annotations

import re
from hashlib import blake2b

ANNOTATION_NAME_BYTES_MAX = 160
ANNOTATION_BYTES_MAX = 16 * 1024
"""Of one value."""

ANNOTATIONS_MAX = 100
"""Of one mailbox; also of what a user has beside the mailboxes, and of what one command sets."""

USER_ANNOTATIONS_MAX = 5000
"""Of all that a user has."""

USER_ANNOTATION_BYTES_MAX = 2 << 20
"""Names and values of all that a user has."""

SPECIAL_USE = "/private/specialuse"
"""The annotation that is the mailbox's special use (RFC 6154 section 4)."""

_PART = rb"/[ !-$&-)+-.0-@\[-~]+"
_ABOVE = re.compile(rb"/(?:private|shared)(?:%b)*" % _PART)
"""Printable ASCII without capitals, `*` and `%`; no part is empty (RFC 5464 section 3.2)."""

_NAME = re.compile(rb"/(?:private|shared)(?!/vendor(?:/[^/]*)?$)(?:%b)+" % _PART)
"""Behind `/vendor` come the vendor's name and another part (section 3.2)."""


def check_annotation_name(field: str, name: object) -> None:
    """Raises ValueError for what names no annotation. Names are kept in small letters."""
    _check_name(field, name, _NAME)


def check_annotation_above(field: str, name: object) -> None:
    """Raises ValueError for what names neither an annotation nor what stands above some."""
    _check_name(field, name, _ABOVE)


def _check_name(field: str, name: object, pattern: re.Pattern[bytes]) -> None:
    if type(name) is not str or not name.isascii():
        raise ValueError(f"{field}: the name of an annotation is ASCII")
    octets = name.encode("ascii")
    if len(octets) > ANNOTATION_NAME_BYTES_MAX:
        raise ValueError(f"{field}: a name may have {ANNOTATION_NAME_BYTES_MAX} bytes")
    if pattern.fullmatch(octets) is None:
        raise ValueError(
            f"{field}: a name is /private/... or /shared/..., or below them /vendor/<who>/..., "
            f"without capitals, *, %, // and / at its end"
        )


def check_annotation(field: str, value: object) -> None:
    """Raises ValueError for what is no value."""
    if value is None:
        return
    if type(value) is not bytes:
        raise ValueError(f"{field}: bytes, or none")
    if len(value) > ANNOTATION_BYTES_MAX:
        raise ValueError(f"{field}: {ANNOTATION_BYTES_MAX} bytes at most, not {len(value)}")


def annotation_digest(value: bytes) -> bytes:
    """Eight bytes by which a value is known to have changed."""
    return blake2b(value, digest_size=8).digest()
