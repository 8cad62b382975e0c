"""docs/promises.md names tests; each of them exists, and every promise names some."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_promise_names_tests_that_exist() -> None:
    defined = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        defined.update(re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8")))
    sections = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8").split("\n## ")[1:]
    assert [s.split()[0] for s in sections] == [f"P{n}" for n in range(1, 11)]
    for section in sections:
        named = set(re.findall(r"`(test_\w+)`", section))
        assert named, f"{section.splitlines()[0]}: no test is named"
        assert named <= defined, f"{section.splitlines()[0]}: {named - defined} do not exist"
