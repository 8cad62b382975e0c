"""The proxy's configuration: what is wrong is named, with file, key and what is allowed."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftmail.proxy.config import ProxyConfigError, load_proxy
from raftmail_cli.main import main
from tests.repository.source_tree import ROOT

GOOD = '[listen]\nimap = "127.0.0.1:1143"\n'
DOCUMENT = (ROOT / "docs" / "one-address.md").read_text()


def _load(folder: Path, text: str) -> None:
    file = folder / "proxy.toml"
    file.write_text(text)
    load_proxy(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "listen: has no address; set one of imap, imaps, pop3, pop3s, managesieve, lmtp"),
        ("[listen", "cannot be read"),
        ("a = " + "[" * 5000, "cannot be read: it goes too deep"),
        ("a = " + "1" * 5000, "cannot be read: Exceeds the limit"),
        ("\ufeff" + GOOD, "it begins with a byte order mark: save it as UTF-8 without one"),
        ("[lisen]\n", "[lisen]: no such section; there are cluster, listen"),
        ('[listen]\nimpa = "x:1"\n', "listen.impa: no such key; [listen] has imap"),
        ("[listen]\nimap = 143\n", "listen.imap: 143 is not a text in quotes"),
        ('[listen]\nimap = "143"\n', "listen.imap: '143' is not allowed; it must be an address"),
        ('[listen]\nimap = "a:1"\npop3 = "a:1"\n', "listen.pop3: 'a:1' is there twice"),
        ('[listen]\nimaps = "a:1"\n', "listen.imaps: begins with TLS, so tls.certificate"),
        (GOOD + '[tls]\nkey = "x"\n', "tls.certificate: must be set, since the other one is"),
        (GOOD + '[nodes]\nca = "system"\n', "nodes.name: must be set, since the other one is"),
        (GOOD + "[nodes]\nconnect_ms = 1\n", "it must be a whole number from 50 to 60000"),
        (GOOD + 'proxy_networks = "10.0.0.0/33"\n', "listen.proxy_networks: '10.0.0.0/33'"),
        (GOOD + "[lmtp]\nmemory_bytes_max = 1048576\n", "must have room for one message"),
        ("listen = 1\n", "listen: must be a section [listen]"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ProxyConfigError, match=re.escape(said)) as error:
        _load(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "proxy.toml"))


def test_the_example_of_the_document_is_one() -> None:
    (text,) = (
        one for one in re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL) if "[tls]" in one
    )
    assert set(tomllib.loads(text)) == {"cluster", "listen", "tls"}


def test_the_document_has_every_key(tmp_path: Path) -> None:
    file = tmp_path / "proxy.toml"
    file.write_text(GOOD)
    config = load_proxy(file)
    for name in ("cluster", "listen", "tls", "nodes", "log_in", "lmtp", "limits"):
        section = getattr(config, name)
        for key in type(section).__dataclass_fields__:
            assert f"`{name}.{key}`" in DOCUMENT, f"{name}.{key}"


def test_a_file_is_checked_without_a_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    (tmp_path / "token").write_text("0" * 64)
    node = {"name": "n1", "peer": "a:1", "client": "a:2", "lmtp": "", "imaps": "a:3"}
    cluster = {"cluster": "c", "ca": "ca.pem", "token_file": "token", "nodes": [node]}
    (tmp_path / "cluster.json").write_text(json.dumps(cluster))
    for one in tmp_path.iterdir():
        one.chmod(0o600)
    file = tmp_path / "proxy.toml"
    file.write_text(GOOD)
    result = CliRunner().invoke(main, ["proxy", "--check", str(file)])
    assert (result.exit_code, result.output) == (0, f"{file}: fine, for the nodes n1\n")
    file.write_text(GOOD + 'lmtp = "127.0.0.1:24"\n')
    result = CliRunner().invoke(main, ["proxy", "--check", str(file)])
    assert result.exit_code == 1
    assert "no node speaks LMTP: set listen.lmtp in node.toml of each" in result.output
    file.unlink()
    result = CliRunner().invoke(main, ["proxy", str(file)])
    assert result.exit_code == 1
    assert "there is no such file; docs/one-address.md has whole examples" in result.output
