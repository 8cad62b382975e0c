"""What is installed and what the documents say agree with the source."""

from __future__ import annotations

import configparser
import importlib
import re
from collections.abc import Iterator

import click
import pytest

from tests.repository.source_tree import ROOT, SHIPPED, shipped_modules


def setup_cfg() -> configparser.ConfigParser:
    """setup.cfg as setuptools reads it."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def commands_under(command: click.Command, path: str) -> Iterator[str]:
    """What a user types for each command that runs something, hidden ones left out."""
    if command.hidden:
        return
    if isinstance(command, click.Group):
        for name, child in sorted(command.commands.items()):
            yield from commands_under(child, f"{path} {name}")
    else:
        yield path


def unmentioned(commands: Iterator[str], text: str) -> list[str]:
    """The commands that the text never names in full."""
    return [c for c in commands if not re.search(re.escape(c) + r"(?![\w-])", text)]


def test_setup_cfg_lists_exactly_the_packages_that_there_are() -> None:
    listed = setup_cfg()["options"]["packages"].split()
    there = sorted(m.name for m in shipped_modules() if m.is_package)
    # The two packages outside raftmail/ stand in the list before their first module does.
    expected = {*there, *SHIPPED}
    assert sorted(listed) == sorted(expected), (
        "setup.cfg, [options] packages, should read:\n    " + "\n    ".join(sorted(expected))
    )


def test_setup_cfg_names_the_folder_of_every_installed_package() -> None:
    lines = setup_cfg()["options"]["package_dir"].split("\n")
    folders = dict(re.split(r"\s*=\s*", line) for line in lines if line)
    assert folders == {n: n if base == "." else f"{base}/{n}" for n, base in SHIPPED.items()}


@pytest.mark.parametrize("package", sorted(SHIPPED))
def test_an_installed_package_is_marked_as_typed(package: str) -> None:
    assert (ROOT / SHIPPED[package] / package / "py.typed").is_file()
    assert "py.typed" in setup_cfg()["options.package_data"][package]


def test_the_tools_that_judge_are_pinned_exactly() -> None:
    wanted = setup_cfg()["options.extras_require"]["test"].split()
    for tool in ("mypy", "ruff"):
        assert [w for w in wanted if re.fullmatch(tool + r"==[\d.]+", w)], f"{tool} is not pinned"


def test_the_changelog_leads_with_the_version_of_setup_cfg() -> None:
    version = setup_cfg()["metadata"]["version"]
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert first and first[1] == version, f"the first section of CHANGELOG.md is not {version}"


@pytest.mark.parametrize("document", ["README.md", "docs/cli.md"])
def test_the_documents_name_every_command(document: str) -> None:
    main = importlib.import_module("raftmail_cli.main").main
    assert isinstance(main, click.Command)
    missing = unmentioned(commands_under(main, "raftmail"), (ROOT / document).read_text("utf-8"))
    assert not missing, f"{document} does not name {missing}"


def test_a_command_that_no_document_names_is_found() -> None:
    user = click.Group("user", commands={"add": click.Command("add")})
    user.add_command(click.Command("secret", hidden=True))
    main = click.Group("raftmail", commands={"user": user, "up": click.Command("up")})
    assert list(commands_under(main, "raftmail")) == ["raftmail up", "raftmail user add"]
    assert unmentioned(commands_under(main, "raftmail"), "`raftmail up DIR`") == [
        "raftmail user add"
    ]
    assert unmentioned(iter(["raftmail up"]), "raftmail update, raftmail up-date") == [
        "raftmail up"
    ]
