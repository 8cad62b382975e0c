"""What documents name is there: tests, files of the code, other documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.repository.source_tree import ROOT

_TEST = re.compile(r"`(test_\w+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_FILE = re.compile(r"`((?:raftmail/)?[a-z]+(?:/[a-z_]+)+\.py)`")


def _documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def _named(document: Path) -> str:
    return str(document.relative_to(ROOT))


def _defined_tests() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found.update(re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8")))
    found.update(path.stem for path in (ROOT / "tests").rglob("test_*.py"))
    return found


def test_every_test_that_a_document_names_exists() -> None:
    defined = _defined_tests()
    lost = {
        _named(document): missing
        for document in _documents()
        if (missing := set(_TEST.findall(document.read_text(encoding="utf-8"))) - defined)
    }
    assert not lost, f"no such tests: {lost}"


@pytest.mark.parametrize("document", _documents(), ids=_named)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    dead = [link for link in _LINK.findall(text) if not (document.parent / link).exists()]
    assert not dead, f"{_named(document)}: {dead}"


def test_every_file_that_the_tour_names_exists() -> None:
    lost = []
    for document in [*(ROOT / "docs" / "architecture").glob("*.md"), ROOT / "docs" / "engine.md"]:
        for name in _FILE.findall(document.read_text(encoding="utf-8")):
            if not any((ROOT / top / name).exists() for top in ("", "raftmail", "chaos")):
                lost.append(f"{_named(document)}: {name}")
    assert not lost, "\n".join(lost)
