"""The configuration of a node, beyond what single keys allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftmail.node.config import ConfigError, load
from tests.node.folders import node_folder


def test_a_key_of_an_earlier_release_is_read_past_and_told(tmp_path: Path) -> None:
    found = load(node_folder(tmp_path, "\n[tls]\nclients_on_loopback_without = true\n"))
    assert [text.partition(" ")[0] for text in found.retired] == ["tls.clients_on_loopback_without"]


def test_a_new_file_has_no_key_of_an_earlier_release(tmp_path: Path) -> None:
    assert load(node_folder(tmp_path, "")).retired == ()


def test_what_programs_are_told_is_read_in_the_order_of_preference(tmp_path: Path) -> None:
    text = '[setup]\nname = "X"\nimap = "m.example.org:143"\nimaps = "m.example.org:993"\n'
    setup = load(node_folder(tmp_path, text + 'domains = "Example.org, bücher.example"\n')).setup
    assert [server.port for server in setup.told.servers] == [993, 143]
    assert setup.told_domains == {"example.org", "xn--bcher-kva.example"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('imaps = "mail.example.org"', "setup.imaps"),
        ('submission = ":587"', "setup.submission"),
        ('domains = "example.org, exa mple"', "setup.domains"),
        ("name = 5", "setup.name"),
        ('smtp = "a:25"', "setup.smtp: no such key"),
    ],
)
def test_a_setup_that_makes_no_sense_is_refused_by_its_key(
    tmp_path: Path, line: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        load(node_folder(tmp_path, f"[setup]\n{line}\n"))
