"""The cluster's certificate authority, and the TLS contexts of nodes, peers and clients.

A cluster has one authority (ECDSA P-256, kept by whoever adds nodes) and nothing else is trusted.
It issues each node one certificate, whose SAN names cluster and node in a URI,
`raftmail://<cluster>/<node>`. That URI, not a host name, is what a peer or client checks, since
nodes move between addresses. TLS 1.3 only.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_YEARS = 20
NODE_YEARS = 5
_YEAR = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_URI = re.compile(r"raftmail://([^/]+)/([^/]+)")


class TlsError(Exception):
    """A certificate is missing, wrong, or not to be trusted; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a node keeps what it needs for TLS."""

    ca: Path
    certificate: Path
    key: Path


def check_name(what: str, name: str) -> str:
    """Cluster and node names stand in certificates, files and lines. Raises ValueError."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{what} {name!r}: up to 63 letters, digits, '.', '_' and '-', beginning with one of"
            " the first two"
        )
    return name


def create_ca(cluster: str, now: datetime) -> Pair:
    """A new authority for a cluster, good for `CA_YEARS`. Raises ValueError for a bad name."""
    check_name("cluster", cluster)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"raftmail cluster {cluster}")])
    certificate = (
        _builder(name, name, key.public_key(), now, CA_YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign=False), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"raftmail://{cluster}")]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def issue(ca: Pair, node: str, addresses: Iterable[str], now: datetime) -> Pair:
    """A certificate for a node, good for `NODE_YEARS`. `addresses` (host names or IP addresses) are
    for foreign clients that check them. Raises ValueError, `TlsError` when `ca` is no authority."""
    check_name("node", node)
    authority, authority_key = _load_ca(ca)
    cluster = cluster_of(ca.certificate)
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(f"raftmail://{cluster}/{node}"),
        x509.DNSName(node),
    ]
    for address in addresses:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node)])
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _builder(subject, authority.subject, key.public_key(), now, NODE_YEARS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return _pair(certificate, key)


def save(pair: Pair, certificate: Path, key: Path) -> None:
    """Write both; the key is readable by its owner alone from the first byte on. Nothing that is
    there is overwritten: raises FileExistsError."""
    for path, data, mode in ((key, pair.key, 0o600), (certificate, pair.certificate, 0o644)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def load(certificate: Path, key: Path) -> Pair:
    """Raises `TlsError`."""
    return Pair(_read(certificate), _read(key))


def cluster_of(ca_certificate: bytes) -> str:
    """The cluster whose authority this is. Raises `TlsError`."""
    for uri in _uris(_parse(ca_certificate, "the authority's certificate")):
        if uri.startswith("raftmail://") and "/" not in uri[11:]:
            return uri[11:]
    raise TlsError("this is not the certificate of a cluster's authority")


def check_files(files: TlsFiles, cluster: str, node: str, now: datetime) -> None:
    """Before a node starts: everything is there, fits together, is of this node, and is valid now.

    Raises `TlsError`."""
    ca = _parse(_read(files.ca), str(files.ca))
    mine = _parse(_read(files.certificate), str(files.certificate))
    for path, certificate in ((files.ca, ca), (files.certificate, mine)):
        if now > certificate.not_valid_after_utc:
            raise TlsError(f"{path}: expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if now < certificate.not_valid_before_utc:
            raise TlsError(
                f"{path}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC:"
                " is this machine's clock right?"
            )
    try:
        mine.verify_directly_issued_by(ca)
    except Exception:
        raise TlsError(f"{files.certificate}: not issued by the authority in {files.ca}") from None
    wanted = f"raftmail://{cluster}/{holder(node)}"
    if wanted not in _uris(mine):
        raise TlsError(f"{files.certificate}: is for {', '.join(_uris(mine))}, not for {wanted}")
    key = _load_key(_read(files.key), str(files.key))
    if key.public_key() != mine.public_key():
        raise TlsError(f"{files.key}: is not the key of {files.certificate}")


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For a `server.TextListener`: peers show a certificate of this cluster, clients none. A
    certificate of anyone else is refused in the handshake. Raises `TlsError`."""
    context = _node_context(ssl.PROTOCOL_TLS_SERVER, files)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class BoundContext(ssl.SSLContext):
    """A server's context that knows what log-ins can be bound to."""

    end_point: bytes = b""
    """The channel binding tls-server-end-point (RFC 5929 section 4.1); b"": none is offered."""


def program_context(certificate: Path, key: Path, *, binds: bool = False) -> BoundContext:
    """For mail programs, which are asked for no certificate. They may be older than TLS 1.3 (RFC
    9325 section 3.1.1), and the certificate may be of any authority, with those between. With
    `binds`, log-ins can be bound to it. Raises `TlsError`."""
    context = BoundContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    parsed = _parse(_read(certificate), str(certificate))
    if binds:
        context.end_point = _end_point(parsed)
    _read(key)
    try:
        # With a password, a key that wants one is refused, and nobody is asked at a terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(f"{key}: is no key that fits {certificate} ({error})") from None
    return context


def _end_point(certificate: x509.Certificate) -> bytes:
    """The hash of a certificate, by the hash of its signature, or by SHA-256 where that is older or
    none."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    return certificate.fingerprint(algorithm)


def peer_context(files: TlsFiles) -> ssl.SSLContext:
    """For a node that dials another: both show certificates. Who it is says `identity`.

    Raises `TlsError`."""
    context = _node_context(ssl.PROTOCOL_TLS_CLIENT, files)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: Path) -> ssl.SSLContext:
    """For clients: any node of the cluster will do, under whichever address it is found.

    Raises `TlsError`."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, ca)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass(frozen=True, slots=True)
class Authority:
    """What a client knows its cluster by: the cluster's name, and a context that trusts its
    authority alone."""

    cluster: str
    context: ssl.SSLContext

    @staticmethod
    def read(ca: Path) -> Authority:
        """From the file of the authority's certificate. Raises `TlsError`."""
        return Authority(cluster_of(_read(ca)), client_context(ca))

    def check(self, certificate: Mapping[str, Any] | None) -> None:
        """Whether a certificate that the context took is a node's of this cluster. Raises
        `TlsError`."""
        found = identity(certificate)
        if found is None or found[0] != self.cluster:
            whose = "no node" if found is None else f"a node of cluster {found[0]}"
            raise TlsError(f"its certificate is of {whose}, not of cluster {self.cluster}")


def holder(node: str) -> str:
    """Whose certificate a node shows: its own, and the workers `NAME.2`, `NAME.3`, … of node `NAME`
    show that node's."""
    return node.partition(".")[0]


def identity(certificate: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """Cluster and node of a certificate as `ssl.SSLSocket.getpeercert` gives it after verifying it;
    None when there is none, or it is no node's."""
    for kind, value in (certificate or {}).get("subjectAltName", ()):
        if kind == "URI" and (match := _URI.fullmatch(value)) is not None:
            return match[1], match[2]
    return None


def explain(error: BaseException) -> str:
    """What a failed connection means, in words for an operator."""
    text = str(error) or type(error).__name__
    lower = text.lower()
    if isinstance(error, socket.gaierror):
        return f"the host's name does not resolve ({error.strerror})"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        if "expired" in lower:
            return "the other side's certificate has expired, or a clock is wrong"
        if "not yet valid" in lower:
            return "the other side's certificate is not valid yet: a clock is wrong"
        why = error.verify_message
        return (
            f"the other side's certificate is not of this cluster ({why}): is ca.pem that of "
            f"the cluster at this address?"
        )
    if isinstance(error, ssl.SSLError):
        if "unknown ca" in lower or "unknown_ca" in lower or "decrypt error" in lower:
            return "the other side refused our certificate: it is not of its cluster"
        if "certificate expired" in lower or "certificate_expired" in lower:
            return "the other side refused our certificate: it has expired, or a clock is wrong"
        if "wrong version" in lower or "record layer" in lower:
            return "the other side does not speak TLS on this port"
        if "certificate" in lower:
            return f"the other side refused our certificate ({text})"
    return text


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    years: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + years * _YEAR)
    )


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=not sign,
        crl_sign=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _load_ca(ca: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _parse(ca.certificate, "the authority's certificate")
    key = _load_key(ca.key, "the authority's key")
    if key.public_key() != certificate.public_key():
        raise TlsError("the authority's key is not the key of its certificate")
    return certificate, key


def _load_key(data: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        raise TlsError(f"{where}: no private key in PEM without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TlsError(f"{where}: no elliptic curve key")
    return key


def _parse(data: bytes, where: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise TlsError(f"{where}: no certificate in PEM") from None


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}") from None


def _context(protocol: int, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _parse(_read(ca), str(ca))
    context.load_verify_locations(cafile=ca)
    return context


def _node_context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    context = _context(protocol, files.ca)
    _parse(_read(files.certificate), str(files.certificate))
    _load_key(_read(files.key), str(files.key))
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as error:
        raise TlsError(f"{files.key}: does not fit {files.certificate} ({error.reason})") from None
    return context
