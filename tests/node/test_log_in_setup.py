"""How log-ins are judged, by the configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raftmail.mail.queries import Answer, Query
from raftmail.node.config import Config, ConfigError, load
from raftmail.node.log_in_setup import issuer_of, make_log_ins
from raftmail.service.external_users import CheckingProgram, PasswordEndpoint
from raftmail.service.log_ins import LogIns
from tests.service.test_token_issuer import ED_KEY, NOW_S, pem, token

FILE = """
[node]
name = "n1"
[cluster]
id = "0123456789abcdef0123456789abcdef"
shards = 1
[cluster.nodes.n1]
peer = "127.0.0.1:9000"
[listen]
peer = "127.0.0.1:9000"
client = "127.0.0.1:9001"
[login]
"""


class NoCluster:
    @property
    def clock(self) -> Callable[[], float]:
        return lambda: 0.0

    async def query(self, query: Query, *, deadline_s: float) -> Answer:
        raise NotImplementedError


def config(folder: Path, added: str) -> Config:
    (folder / "node.toml").write_text(FILE + added)
    return load(folder)


def made(folder: Path, added: str) -> LogIns:
    return make_log_ins(config(folder, added), NoCluster(), lambda: NOW_S)


def test_without_a_word_there_are_limits_and_neither_tokens_nor_others_users(
    tmp_path: Path,
) -> None:
    log_ins = made(tmp_path, "")
    assert (log_ins.limits.failures_max, log_ins.limits.user_connections_max) == (30, 100)
    assert log_ins.external is None and log_ins.issuer is None
    assert log_ins.cluster_id == "0123456789abcdef0123456789abcdef"


def test_limits_and_trusted_networks_are_as_configured(tmp_path: Path) -> None:
    log_ins = made(tmp_path, 'failures_max = 5\ncache_s = 0\ntrusted_networks = "10.0.0.0/8"\n')
    assert (log_ins.limits.failures_max, log_ins.limits.cache_s) == (5, 0)
    assert log_ins.failed.is_trusted("10.1.2.3")


def test_the_external_source_is_a_program_or_an_endpoint(tmp_path: Path) -> None:
    program = made(tmp_path, "program = \"/usr/bin/check 'an argument' /bin/true\"\n").external
    assert isinstance(program, CheckingProgram)
    assert program.command == ("/usr/bin/check", "an argument", "/bin/true")
    endpoint = made(tmp_path, 'url = "http://127.0.0.1:1/"\nexternal_timeout_s = 3\n').external
    assert isinstance(endpoint, PasswordEndpoint)
    assert (endpoint.url, endpoint.timeout_s) == ("http://127.0.0.1:1/", 3.0)


ISSUER = (
    'oauth_issuer = "https://id.example.org"\noauth_audience = "mail"\noauth_keys = "keys.pem"\n'
)


def test_tokens_are_taken_by_the_keys_that_the_file_has_now(tmp_path: Path) -> None:
    (tmp_path / "keys.pem").write_text(pem(ED_KEY))
    issuer = issuer_of(config(tmp_path, ISSUER), lambda: NOW_S)
    assert issuer is not None and issuer.judge(token(), NOW_S) == "anna@example.org"


@pytest.mark.parametrize("text", [None, "", "no key", b"\xff"])
def test_a_file_without_keys_is_named(tmp_path: Path, text: str | bytes | None) -> None:
    if text is not None:
        data = text.encode() if isinstance(text, str) else text
        (tmp_path / "keys.pem").write_bytes(data)
    with pytest.raises(ConfigError, match=r"keys\.pem: "):
        made(tmp_path, ISSUER)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ('program = "checkpassword"\n', "login.program: .* by its whole path"),
        ('program = "/bin/x \'y"\n', "login.program: .* by its whole path"),
        ('url = "http://id.example.org/"\n', "login.url: .* use https"),
        ('program = "/bin/x"\nurl = "https://x/"\n', "there is one external source"),
        ('trusted_networks = "10.0.0.1/8"\n', "login.trusted_networks: .* with commas"),
        ("failures_max = 0\n", "login.failures_max: 0 is not allowed"),
        ('oauth_issuer = "x"\n', "oauth_issuer, oauth_audience and oauth_keys together"),
        ('oauth_user_claim = ""\n', "login.oauth_user_claim"),
        ("delay_ms = 1\n", "login.delay_ms: no such key"),
    ],
)
def test_what_cannot_be_is_named_with_what_is_allowed(
    tmp_path: Path, added: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        config(tmp_path, added)
