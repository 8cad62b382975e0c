"""The cluster's certificate authority, and what is said when something about it is wrong."""

from __future__ import annotations

import hashlib
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from raftmail.net import tls
from tests.net.certificates import Certificates

NOW = datetime.now(UTC)


@pytest.fixture
def cluster(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "tls", "blue")


def test_keys_are_for_their_owner_alone_and_never_overwritten(cluster: Certificates) -> None:
    files = cluster.files("n1")
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    before = files.key.read_bytes()
    with pytest.raises(FileExistsError):
        tls.save(tls.issue(cluster.pair, "n1", [], NOW), files.certificate, files.key)
    assert files.key.read_bytes() == before


def test_files_that_fit_together_pass(cluster: Certificates) -> None:
    tls.check_files(cluster.files("n1"), "blue", "n1", NOW)
    assert tls.cluster_of(cluster.ca.read_bytes()) == "blue"


def test_what_a_log_in_is_bound_to_is_the_certificates_hash(cluster: Certificates) -> None:
    files = cluster.files("n1")
    der = ssl.PEM_cert_to_DER_cert(files.certificate.read_text())
    bound = tls.program_context(files.certificate, files.key, binds=True)
    assert bound.end_point == hashlib.sha256(der).digest()
    assert tls.program_context(files.certificate, files.key).end_point == b""


@pytest.mark.parametrize("years", [tls.CA_YEARS + 1, tls.NODE_YEARS + 1])
def test_an_expired_certificate_is_named(cluster: Certificates, years: int) -> None:
    files = cluster.files("n1")
    with pytest.raises(tls.TlsError, match=r"(ca|n1)\.crt: expired on 20"):
        tls.check_files(files, "blue", "n1", NOW + timedelta(days=365 * years))


def test_a_certificate_from_the_future_makes_one_look_at_the_clock(cluster: Certificates) -> None:
    with pytest.raises(tls.TlsError, match="is this machine's clock right"):
        tls.check_files(cluster.files("n1"), "blue", "n1", NOW - timedelta(days=2))


def test_the_certificate_of_another_node_is_refused(cluster: Certificates) -> None:
    with pytest.raises(tls.TlsError, match="is for raftmail://blue/n1, not for raftmail://blue/n2"):
        tls.check_files(cluster.files("n1"), "blue", "n2", NOW)


def test_the_certificate_of_another_authority_is_refused(
    cluster: Certificates, tmp_path: Path
) -> None:
    other = Certificates(tmp_path / "other", "blue").files("n1")
    mixed = tls.TlsFiles(cluster.ca, other.certificate, other.key)
    with pytest.raises(tls.TlsError, match="not issued by the authority in"):
        tls.check_files(mixed, "blue", "n1", NOW)


def test_a_key_of_something_else_is_refused(cluster: Certificates) -> None:
    one, two = cluster.files("n1"), cluster.files("n2")
    mixed = tls.TlsFiles(one.ca, one.certificate, two.key)
    with pytest.raises(tls.TlsError, match="is not the key of"):
        tls.check_files(mixed, "blue", "n1", NOW)
    with pytest.raises(tls.TlsError, match="does not fit"):
        tls.server_context(mixed)


def test_what_is_missing_or_no_certificate_is_named(cluster: Certificates, tmp_path: Path) -> None:
    with pytest.raises(tls.TlsError, match=r"nothing\.crt: No such file"):
        tls.client_context(tmp_path / "nothing.crt")
    rubbish = tmp_path / "rubbish.crt"
    rubbish.write_text("rubbish")
    with pytest.raises(tls.TlsError, match=r"rubbish\.crt: no certificate in PEM"):
        tls.client_context(rubbish)
    with pytest.raises(tls.TlsError, match="not the certificate of a cluster's authority"):
        tls.cluster_of(cluster.files("n1").certificate.read_bytes())


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-x", "x" * 64, "ä"])
def test_names_that_do_not_fit_into_certificates_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        tls.create_ca(name, NOW)


def test_an_identity_is_read_from_the_uri_alone() -> None:
    assert tls.identity(None) is None
    assert tls.identity({}) is None
    assert tls.identity({"subjectAltName": (("DNS", "raftmail://blue/n1"),)}) is None
    good = {"subjectAltName": (("DNS", "n9"), ("URI", "raftmail://blue/n1"))}
    assert tls.identity(good) == ("blue", "n1")


def test_errors_of_tls_are_explained() -> None:
    for text, said in {
        "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca": "it is not of its cluster",
        "[SSL] sslv3 alert certificate expired": "it has expired",
        "[SSL: WRONG_VERSION_NUMBER] wrong version number": "does not speak TLS",
        "[SSL] bad certificate": "refused our certificate",
    }.items():
        assert said in tls.explain(ssl.SSLError(1, text))
    assert tls.explain(TimeoutError()) == "no answer in time"
