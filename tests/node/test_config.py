"""The configuration of a node, beyond what single keys allow."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from raftmail.node.background_work import BackgroundWork
from raftmail.node.config import ConfigError, load
from tests.node.folders import node_folder


def test_a_key_of_an_earlier_release_is_read_past_and_told(tmp_path: Path) -> None:
    found = load(node_folder(tmp_path, "\n[tls]\nclients_on_loopback_without = true\n"))
    assert [text.partition(" ")[0] for text in found.retired] == ["tls.clients_on_loopback_without"]


def test_a_new_file_has_no_key_of_an_earlier_release(tmp_path: Path) -> None:
    assert load(node_folder(tmp_path, "")).retired == ()


@pytest.mark.parametrize("value", ["[" * 5000 + "]" * 5000, "1" * 5000, "{a = " * 3000])
def test_a_file_that_no_parser_takes_is_refused_by_its_name(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"node\.toml: cannot be read: "):
        load(node_folder(tmp_path, f"\n[log]\nage_s = {value}\n"))


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


SECRET = '[push]\nsecret_file = "push.secret"\n'


def test_hooks_are_for_users_domains_and_all_by_their_one_name(tmp_path: Path) -> None:
    text = SECRET + '[hooks]\n"*" = "https://a/x"\n"Bücher.example" = "https://b"\n'
    text += '"Anna@Example.org" = "http://127.0.0.1:8080/mail"\n'
    assert load(node_folder(tmp_path, text)).hooks == {
        "*": "https://a/x",
        "xn--bcher-kva.example": "https://b",
        "anna@example.org": "http://127.0.0.1:8080/mail",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (SECRET + '[hooks]\n"*" = "http://push.example.org/"\n', r"hooks\.\*: .* use https"),
        (SECRET + '[hooks]\n"*" = ""\n', r"hooks\.\*: '' is not allowed; it must be a URL in"),
        (SECRET + '[hooks]\n"a b" = "https://a"\n', "hooks.a b: is no user"),
        (SECRET + '[hooks]\n"*" = 5\n', r"hooks\.\*: 5"),
        ('[hooks]\n"*" = "https://a"\n', "push.secret_file: must be set"),
        ('[junk]\nlearn_spam = "rspamc learn_spam"\n', "junk.learn_spam: .* whole path"),
        ("[expire]\ntrash_days = -1\n", "expire.trash_days"),
        ('[mail]\nfirst_mailboxes = "Spam=Spam"\n', "mail.first_mailboxes: .* special use"),
    ],
)
def test_what_cannot_be_done_in_the_background_is_refused_by_its_key(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        load(node_folder(tmp_path, text))


def test_a_secret_that_anybody_could_guess_is_refused(tmp_path: Path) -> None:
    config = load(node_folder(tmp_path, SECRET + '[hooks]\n"*" = "https://a"\n'))
    nothing = cast(Any, None)

    def wire() -> None:
        loop = asyncio.new_event_loop()
        try:
            BackgroundWork.of(config, loop, nothing, nothing, lambda: 0.0)
        finally:
            loop.close()

    with pytest.raises(ConfigError, match=r"push\.secret: .* cannot be read"):
        wire()
    (config.folder / "push.secret").write_text("short\n")
    with pytest.raises(ConfigError, match=r"push\.secret: .* 5 bytes"):
        wire()
