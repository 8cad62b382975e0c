"""Invitations: how a machine becomes a node without the authority's key being on any node.

Whoever has the authority's key makes the new node's certificate and key. They are sealed, with all
else that the node needs, under a random secret. The cluster keeps the sealed bundle, which it
cannot read; the token, which goes to the new machine by hand, has the secret.

The new machine fetches the bundle from any node without proving anything, and without the node
proving anything either: what is not sealed with the token's secret does not open, and the
authority's certificate must have the token's hash. From then on both sides are known.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import secrets
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from raftmail.net import tls

_PREFIX = "raftmail-join-"
_SECRET_BYTES = 32
_NONCE_BYTES = 12
_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
BUNDLE_BYTES_MAX = 12 << 10


class BadInvitation(Exception):
    """A token or a bundle that cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Token:
    """What the new machine is given by hand. `addresses` are clients' addresses of nodes, each with
    whether it takes TLS alone."""

    addresses: tuple[tuple[str, bool], ...]
    ca_sha256: str
    invite: str
    secret: bytes

    @staticmethod
    def new(addresses: tuple[tuple[str, bool], ...], ca: bytes) -> Token:
        """A token for a new invitation, whose id and secret are chosen here. `ca` is the
        authority's certificate."""
        return Token(
            addresses,
            hashlib.sha256(ca).hexdigest(),
            secrets.token_hex(16),
            secrets.token_bytes(_SECRET_BYTES),
        )

    def encode(self) -> str:
        """One word."""
        value = [self.addresses, self.ca_sha256, self.invite, self.secret.hex()]
        data = json.dumps(value, separators=(",", ":")).encode()
        packed = zlib.compress(data) + zlib.crc32(data).to_bytes(4, "big")
        return _PREFIX + base64.urlsafe_b64encode(packed).rstrip(b"=").decode()

    @staticmethod
    def decode(text: str) -> Token:
        """Raises `BadInvitation`."""
        wrong = BadInvitation(
            "that is not a whole token: copy all of the line that `raftmail member invite` printed"
        )
        word = text.strip()
        if not word.startswith(_PREFIX):
            raise wrong
        word = word.removeprefix(_PREFIX)
        try:
            packed = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
            data = zlib.decompressobj().decompress(packed[:-4], BUNDLE_BYTES_MAX)
            if zlib.crc32(data).to_bytes(4, "big") != packed[-4:]:
                raise wrong
            addresses, ca_sha256, invite, secret = json.loads(data)
            if not (_SHA256.fullmatch(ca_sha256) and _ID.fullmatch(invite)):
                raise wrong
            return Token(
                tuple((str(address), bool(tls)) for address, tls in addresses),
                ca_sha256,
                invite,
                bytes.fromhex(secret),
            )
        except (ValueError, TypeError, RecursionError, zlib.error, binascii.Error):
            raise wrong from None

    def seal(self, bundle: Bundle) -> bytes:
        """The bundle as the cluster keeps it."""
        nonce = os.urandom(_NONCE_BYTES)
        data = zlib.compress(json.dumps(asdict(bundle)).encode(), 9)
        return nonce + self._cipher().encrypt(nonce, data, self.invite.encode())

    def open(self, sealed: bytes) -> Bundle:
        """Raises `BadInvitation`."""
        try:
            data = self._cipher().decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], self.invite.encode()
            )
            bundle = Bundle(**json.loads(zlib.decompress(data)))
        except (InvalidTag, ValueError, TypeError, RecursionError, zlib.error):
            raise BadInvitation(
                "what the cluster keeps for this token was not made with it; invite the node again"
            ) from None
        if hashlib.sha256(bundle.ca.encode()).hexdigest() != self.ca_sha256:
            raise BadInvitation("the invitation is of another cluster than the token")
        return bundle

    def _cipher(self) -> ChaCha20Poly1305:
        key = HKDF(hashes.SHA256(), 32, salt=None, info=b"raftmail invitation").derive(self.secret)
        return ChaCha20Poly1305(key)


@dataclass(frozen=True, slots=True)
class Bundle:
    """All that a new node needs. `seeds` maps the names of nodes to their peers' addresses. `ca`,
    `certificate` and `key` are PEM, and `token` is the one that clients show. `place` is where the
    node stands (zone, host, labels, capacity). `programs` has, by protocol, where mail programs
    come in.
    """

    cluster: str
    shards: int
    replicas: int
    name: str
    peer: str
    client: str
    lmtp: str
    seeds: Mapping[str, str]
    ca: str
    certificate: str
    key: str
    token: str
    place: Mapping[str, Any] = field(default_factory=dict)
    programs: Mapping[str, str] = field(default_factory=dict)


def issue_for(
    folder: Path, cluster: str, name: str, hosts: Iterable[str], now: datetime
) -> tuple[bytes, tls.Pair]:
    """The authority's certificate from its folder (`ca.pem`, `ca.key`), and a certificate with its
    key for a node. Raises `BadInvitation`."""
    try:
        ca = tls.load(folder / "ca.pem", folder / "ca.key")
        if tls.cluster_of(ca.certificate) != cluster:
            raise BadInvitation(f"{folder}: is the authority of another cluster")
        return ca.certificate, tls.issue(ca, name, hosts, now)
    except (tls.TlsError, ValueError) as error:
        raise BadInvitation(f"{error}; --ca-folder names the folder of the authority") from None
