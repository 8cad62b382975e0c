"""Tokens that say who somebody is: JWTs (RFC 7519) that one issuer has signed.

The key decides which signature is taken, never the token: an RSA key takes RS256, one on P-256
ES256, an Ed25519 key EdDSA. So no token chooses `none`, or has a public key taken for a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from raftmail.service.login import WRONG, LogInRefused, RefusalReason

TOKEN_BYTES_MAX: Final = 16 * 1024
KEYS_MAX: Final = 20
SKEW_S: Final = 60
"""By so much the issuer's clock may differ from this node's."""

_RSA_BITS_MIN = 2048
_P256_BYTES = 32
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_CURVES = {"P-256": ec.SECP256R1}

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True, repr=False)
class IssuerKey:
    """A public key of the issuer; `key_id` is "" where it has none."""

    key_id: str
    key: PublicKey

    @property
    def algorithm(self) -> str:
        """The one signature that is taken of it."""
        if isinstance(self.key, rsa.RSAPublicKey):
            return "RS256"
        return "ES256" if isinstance(self.key, ec.EllipticCurvePublicKey) else "EdDSA"

    def has_signed(self, signed: bytes, signature: bytes) -> bool:
        """Whether a signature is this key's."""
        try:
            if isinstance(self.key, rsa.RSAPublicKey):
                self.key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            elif isinstance(self.key, ec.EllipticCurvePublicKey):
                if len(signature) != 2 * _P256_BYTES:
                    return False
                r, s = signature[:_P256_BYTES], signature[_P256_BYTES:]
                both = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
                self.key.verify(both, signed, ec.ECDSA(hashes.SHA256()))
            else:
                self.key.verify(signature, signed)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True, repr=False)
class TokenIssuer:
    """Whose tokens are taken: those of `issuer` for `audience`, that name the user by a claim.
    `wall` is Unix time."""

    issuer: str
    audience: str
    user_claim: str
    keys: tuple[IssuerKey, ...]
    wall: Callable[[], float]

    def judge(self, token: bytes, now_s: float) -> str | LogInRefused:
        """The user whom a token names, as it names it; or why it is not taken. `now_s` is Unix
        time."""
        claims = self._claims(token)
        if claims is None or claims.get("iss") != self.issuer:
            return WRONG
        audience = claims.get("aud")
        if self.audience not in (audience if isinstance(audience, list) else [audience]):
            return WRONG
        begins, ends = _time(claims.get("nbf", 0)), _time(claims.get("exp"))
        if begins is None or ends is None or begins > now_s + SKEW_S:
            return WRONG
        user = claims.get(self.user_claim)
        if not isinstance(user, str) or not user:
            return WRONG
        if self.user_claim == "email" and claims.get("email_verified", True) is not True:
            return WRONG
        if ends <= now_s - SKEW_S:
            return LogInRefused(RefusalReason.EXPIRED, "the token has expired: get a new one")
        return user

    def _claims(self, token: bytes) -> dict[str, Any] | None:
        """What a token claims, if a key of the issuer has signed it."""
        parts = token.split(b".")
        if len(token) > TOKEN_BYTES_MAX or len(parts) != 3:
            return None
        header, signature = _read_object(parts[0]), _decode(parts[2])
        if header is None or signature is None or "crit" in header:
            return None
        signed = parts[0] + b"." + parts[1]
        for one in self.keys:
            if one.algorithm != header.get("alg"):
                continue
            if one.key_id and header.get("kid", one.key_id) != one.key_id:
                continue
            if one.has_signed(signed, signature):
                return _read_object(parts[1])
        return None


def read_keys(text: str) -> tuple[IssuerKey, ...]:
    """Public keys from a file: a JWK set (RFC 7517), or public keys in PEM. Raises ValueError that
    says what is wrong with it."""
    found = _read_jwks(text) if text.lstrip().startswith("{") else _read_pem(text)
    if not 0 < len(found) <= KEYS_MAX:
        raise ValueError(
            f"it has {len(found)} keys that can be used; 1 to {KEYS_MAX} are wanted, "
            "of RSA with 2048 bits, P-256 or Ed25519"
        )
    return tuple(found)


def _read_pem(text: str) -> list[IssuerKey]:
    found = []
    for match in _PEM.finditer(text):
        try:
            key = serialization.load_pem_public_key(match[0].encode())
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("a public key in PEM cannot be read") from None
        found += _usable("", key)
    return found


def _read_jwks(text: str) -> list[IssuerKey]:
    try:
        keys = json.loads(text)["keys"]
        found = []
        for one in keys:
            if one.get("use", "sig") == "sig":
                found += _usable(str(one.get("kid", "")), _read_jwk(one))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is no JWK set with public keys") from None
    return found


def _read_jwk(jwk: dict[str, Any]) -> object:
    """A key, or None for a kind that is not used here."""
    if jwk.get("kty") == "RSA":
        return rsa.RSAPublicNumbers(_number(jwk["e"]), _number(jwk["n"])).public_key()
    if jwk.get("kty") == "EC" and jwk.get("crv") in _CURVES:
        curve = _CURVES[jwk["crv"]]()
        return ec.EllipticCurvePublicNumbers(
            _number(jwk["x"]), _number(jwk["y"]), curve
        ).public_key()
    if jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(_octets(jwk["x"]))
    return None


def _usable(key_id: str, key: object) -> list[IssuerKey]:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS_MIN:
        return [IssuerKey(key_id, key)]
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return [IssuerKey(key_id, key)]
    if isinstance(key, ed25519.Ed25519PublicKey):
        return [IssuerKey(key_id, key)]
    return []


def _octets(text: str) -> bytes:
    data = _decode(text.encode())
    if data is None:
        raise ValueError("no base64url")
    return data


def _number(text: str) -> int:
    return int.from_bytes(_octets(text))


def _read_object(part: bytes) -> dict[str, Any] | None:
    data = _decode(part)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _decode(part: bytes) -> bytes | None:
    """base64url without padding (RFC 7515 section 2)."""
    if re.fullmatch(rb"[A-Za-z0-9_-]*", part) is None or len(part) % 4 == 1:
        return None
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error:
        return None


def _time(value: object) -> float | None:
    """A NumericDate (RFC 7519 section 2), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
