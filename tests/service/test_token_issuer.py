"""Tokens of an issuer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from raftmail.service.login import WRONG, LogInRefused, RefusalReason
from raftmail.service.token_issuer import TOKEN_BYTES_MAX, TokenIssuer, read_keys

NOW_S = 1_700_000_000.0
ISSUER = "https://id.example.org"
CLAIMS = {
    "iss": ISSUER,
    "aud": "mail",
    "exp": NOW_S + 300,
    "nbf": NOW_S - 10,
    "email": "anna@example.org",
}
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
ALGORITHMS: list[tuple[str, PrivateKey]] = [
    ("RS256", RSA_KEY),
    ("ES256", EC_KEY),
    ("EdDSA", ED_KEY),
]


def coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def pem(*keys: PrivateKey) -> str:
    return "".join(
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
        for key in keys
    )


def sign(key: PrivateKey, signed: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)
    return key.sign(signed)


def token(
    key: PrivateKey = ED_KEY, alg: str = "EdDSA", *, header: Any = None, **claims: Any
) -> bytes:
    head = {"alg": alg, "typ": "JWT", **(header or {})}
    body = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}
    signed = f"{coded(json.dumps(head).encode())}.{coded(json.dumps(body).encode())}".encode()
    return signed + b"." + coded(sign(key, signed)).encode()


def issuer(*keys: PrivateKey, claim: str = "email", now_s: float = NOW_S) -> TokenIssuer:
    read = read_keys(pem(*(keys or (ED_KEY,))))
    return TokenIssuer(ISSUER, "mail", claim, read, lambda: now_s)


@pytest.mark.parametrize(("alg", "key"), ALGORITHMS)
def test_a_token_names_the_user_when_the_issuer_has_signed_it(alg: str, key: PrivateKey) -> None:
    assert issuer(RSA_KEY, EC_KEY, ED_KEY).judge(token(key, alg), NOW_S) == "anna@example.org"
    assert issuer(key).judge(token(key, alg), NOW_S) == "anna@example.org"


@pytest.mark.parametrize(("alg", "key"), ALGORITHMS)
def test_a_token_that_another_has_signed_or_that_was_changed_is_wrong(
    alg: str, key: PrivateKey
) -> None:
    others = [other for _, other in ALGORITHMS if other is not key]
    assert issuer(*others).judge(token(key, alg), NOW_S) == WRONG
    head, body, signature = token(key, alg).split(b".")
    changed = coded(json.dumps({**CLAIMS, "email": "bert@example.org"}).encode()).encode()
    assert issuer(key).judge(b".".join((head, changed, signature)), NOW_S) == WRONG
    assert issuer(key).judge(b".".join((head, body, b"")), NOW_S) == WRONG
    assert issuer(key).judge(b".".join((head, body, signature[:-4])), NOW_S) == WRONG


def test_the_token_does_not_choose_how_it_is_judged() -> None:
    taken = issuer(RSA_KEY)
    for alg in ("none", "None", "", "HS256", "RS512", "PS256", "ES256", "EdDSA", "rs256"):
        assert taken.judge(token(RSA_KEY, alg), NOW_S) == WRONG
    signed = b".".join(token(RSA_KEY, "HS256").split(b".")[:2])
    secret = hmac.digest(pem(RSA_KEY).encode(), signed, "sha256")
    assert taken.judge(signed + b"." + coded(secret).encode(), NOW_S) == WRONG
    unsigned = b".".join(token(RSA_KEY, "none").split(b".")[:2]) + b"."
    assert taken.judge(unsigned, NOW_S) == WRONG
    critical = token(RSA_KEY, "RS256", header={"crit": ["b64"], "b64": False})
    assert taken.judge(critical, NOW_S) == WRONG
    brought = token(ED_KEY, "EdDSA", header={"jwk": {"kty": "OKP"}, "jku": "https://evil"})
    assert taken.judge(brought, NOW_S) == WRONG


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://other"},
        {"iss": None},
        {"iss": [ISSUER]},
        {"aud": "web"},
        {"aud": None},
        {"aud": ["web", "other"]},
        {"aud": {"mail": 1}},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 10**400},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": [1]},
        {"nbf": NOW_S + 120},
        {"nbf": "now"},
        {"email": None},
        {"email": ""},
        {"email": 7},
        {"email": ["anna@example.org"]},
        {"email_verified": False},
        {"email_verified": "true"},
    ],
)
def test_claims_that_are_not_for_here_and_now_are_wrong(claims: dict[str, Any]) -> None:
    assert issuer().judge(token(**claims), NOW_S) == WRONG


def test_a_token_has_its_time_and_clocks_may_differ_a_little() -> None:
    assert issuer().judge(token(exp=NOW_S - 30), NOW_S) == "anna@example.org"
    assert issuer().judge(token(nbf=NOW_S + 30), NOW_S) == "anna@example.org"
    assert issuer().judge(token(aud=["web", "mail"]), NOW_S) == "anna@example.org"
    expired = issuer().judge(token(exp=NOW_S - 61), NOW_S)
    assert isinstance(expired, LogInRefused) and expired.reason is RefusalReason.EXPIRED
    forged = token(RSA_KEY, "RS256", exp=NOW_S - 61)
    assert issuer().judge(forged, NOW_S) == WRONG, "only a right one is told that it expired"


def test_another_claim_may_name_the_user() -> None:
    taken = issuer(claim="preferred_username")
    assert taken.judge(token(preferred_username="anna"), NOW_S) == "anna"
    assert taken.judge(token(), NOW_S) == WRONG


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b".",
        b"..",
        b"...",
        b"a.b.c",
        b"\xff.\xff.\xff",
        b"e30.e30.e30",
        b"W10.W10.",
        b"bnVsbA.e30.",
        b"eyJhbGciOjF9.e30.",
        b"e.e.e",
        b"=.=.=",
        b"x" * (TOKEN_BYTES_MAX + 1),
        b"[" * 9000 + b".e30.e30",
    ],
)
def test_what_is_no_token_is_wrong(text: bytes) -> None:
    assert issuer(RSA_KEY, EC_KEY, ED_KEY).judge(text, NOW_S) == WRONG


def test_deep_json_in_a_token_is_wrong() -> None:
    deep = coded(b"[" * 9000).encode()
    assert issuer().judge(deep + b".e30.e30", NOW_S) == WRONG


def _jwks() -> dict[str, Any]:
    def number(value: int) -> str:
        return coded(value.to_bytes((value.bit_length() + 7) // 8))

    rsa_numbers = RSA_KEY.public_key().public_numbers()
    ec_numbers = EC_KEY.public_key().public_numbers()
    raw = ED_KEY.public_key().public_bytes_raw()
    return {
        "keys": [
            {"kty": "RSA", "kid": "r", "n": number(rsa_numbers.n), "e": number(rsa_numbers.e)},
            {"kty": "EC", "kid": "e", "crv": "P-256", "use": "sig",
             "x": coded(ec_numbers.x.to_bytes(32)), "y": coded(ec_numbers.y.to_bytes(32))},
            {"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": coded(raw)},
            {"kty": "oct", "kid": "s", "k": "c2VjcmV0"},
            {"kty": "EC", "kid": "x", "crv": "P-521", "x": "AA", "y": "AA"},
            {"kty": "RSA", "kid": "enc", "use": "enc", "n": "AA", "e": "AA"},
        ]
    }  # fmt: skip


def test_keys_come_from_a_jwk_set_and_are_chosen_by_their_id() -> None:
    keys = read_keys(json.dumps(_jwks()))
    assert [(one.key_id, one.algorithm) for one in keys] == [
        ("r", "RS256"),
        ("e", "ES256"),
        ("o", "EdDSA"),
    ]
    taken = TokenIssuer(ISSUER, "mail", "email", keys, lambda: NOW_S)
    for (alg, key), key_id in zip(ALGORITHMS, "reo", strict=True):
        named = token(key, alg, header={"kid": key_id})
        assert taken.judge(named, NOW_S) == "anna@example.org"
        assert taken.judge(token(key, alg), NOW_S) == "anna@example.org"
        other = token(key, alg, header={"kid": "other"})
        assert taken.judge(other, NOW_S) == WRONG


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{",
        '{"keys": 1}',
        '{"keys": []}',
        '{"keys": [1]}',
        '{"keys": [{"kty": "RSA"}]}',
        '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}',
        '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}',
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        pem(rsa.generate_private_key(65537, 1024)),
        pem(ED_KEY) * 30,
    ],
)
def test_a_file_without_keys_that_can_be_used_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        read_keys(text)


def test_the_hash_of_a_key_is_no_secret() -> None:
    digest = hashlib.sha256(pem(ED_KEY).encode()).digest()
    assert issuer().judge(b"e30.e30." + coded(digest).encode(), NOW_S) == WRONG
