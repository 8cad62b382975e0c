"""The key of a delivery: what two tries of the same delivery share, and no two others (P9)."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from struct import Struct

_LENGTH = Struct(">Q")


def delivery_key(recipient: str, detail: str, sender: str | None, body_digest: bytes) -> bytes:
    """32 bytes that are equal when all of this is.

    `recipient` is the address as it was given, in its normal form and without its `detail`. The
    detail names a mailbox, and is told apart by case. For an alias it is the alias, not who gets
    the mail. `sender` is the envelope's (None: the null path), and `body_digest` the sha256 of the
    message byte for byte as the client sent it, before trace fields are put in front. Each part
    goes in with its length, so what belongs to one is never taken for another's.
    """
    head = _head(recipient, detail, sender)
    return sha256(head + _LENGTH.pack(len(body_digest)) + body_digest).digest()


@lru_cache(maxsize=4096)
def _head(recipient: str, detail: str, sender: str | None) -> bytes:
    from_ = b"" if sender is None else b"<" + sender.encode()
    parts = (recipient.encode(), detail.encode(), from_)
    return b"raftmail delivery 1" + b"".join([_LENGTH.pack(len(one)) + one for one in parts])
