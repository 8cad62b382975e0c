"""Lines have at most 100 columns, in code, docstrings and comments alike."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from typing import Any

from tests.repository.source_tree import ROOT, Module, all_modules, make_module

COLUMNS_MAX = 100

_NOT_OURS = re.compile(r"# (?:type: ignore|noqa)|https?://")
"""What has to stand at the end of a line, or cannot be broken."""


def long_lines(module: Module) -> list[str]:
    """Lines that are too long, with their place."""
    return [
        f"{module.where}:{number}: {len(line)} columns"
        for number, line in enumerate(module.text.split("\n"), 1)
        if len(line) > COLUMNS_MAX and not _NOT_OURS.search(line)
    ]


def disagreements(pyproject: dict[str, Any]) -> list[str]:
    """Where the linter allows more than the formatter makes."""
    ruff = pyproject["tool"]["ruff"]
    lint = ruff["lint"]
    ignored = [*lint.get("ignore", ()), *chain(*lint.get("per-file-ignores", {}).values())]
    found = []
    if ruff.get("line-length") != COLUMNS_MAX:
        found.append("the formatter's line-length")
    if lint.get("pycodestyle", {}).get("max-line-length", COLUMNS_MAX) != COLUMNS_MAX:
        found.append("the linter's max-line-length")
    if not {"E", "E501"} & set(lint["select"]) or {"E", "E5", "E501"} & set(ignored):
        found.append("E501 is off somewhere")
    return found


def test_no_line_is_longer_than_100_columns() -> None:
    found = [one for module in all_modules() for one in long_lines(module)]
    assert not found, "\n".join(found)


def test_format_and_lint_agree_on_the_length_of_a_line() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert not disagreements(tomllib.loads(text))


def test_a_long_line_and_a_lax_linter_are_found() -> None:
    assert long_lines(make_module("raftmail.mail.one", "x = 1\n# " + "x" * 99))
    assert not long_lines(make_module("raftmail.mail.one", "# " + "x" * 98))
    strict: dict[str, Any] = {"line-length": 100, "lint": {"select": ["E"]}}
    assert not disagreements({"tool": {"ruff": strict}})
    lax = {**strict, "lint": {"select": ["E"], "per-file-ignores": {"a/**": ["E501"]}}}
    assert disagreements({"tool": {"ruff": lax}})
    longer = {**strict, "lint": {"select": ["E"], "pycodestyle": {"max-line-length": 140}}}
    assert disagreements({"tool": {"ruff": longer}})
    assert disagreements({"tool": {"ruff": {**strict, "line-length": 120}}})
