"""Numbers of the engine's faults and guards lead to docs/engine.md."""

from __future__ import annotations

import re

from tests.repository.source_tree import ROOT, shipped_modules

_NUMBER = re.compile(r"\b[SDALG][0-9]{1,2}\b")
_DEFINED = re.compile(r"^\| ([SDALG][0-9]{1,2}) \|", re.MULTILINE)


def undefined_in(text: str, defined: frozenset[str]) -> list[str]:
    """The numbers that a text mentions and the document does not define, each once, in order."""
    return sorted({one for one in _NUMBER.findall(text) if one not in defined})


def _defined() -> frozenset[str]:
    return frozenset(_DEFINED.findall((ROOT / "docs" / "engine.md").read_text(encoding="utf-8")))


def test_every_fault_and_guard_that_the_code_names_is_defined() -> None:
    defined = _defined()
    lost = {m.where: found for m in shipped_modules() if (found := undefined_in(m.text, defined))}
    assert not lost, f"docs/engine.md does not define {lost}"


def test_all_guards_are_defined_and_named_by_the_consensus_room() -> None:
    guards = {f"G{number}" for number in range(1, 14)}
    assert guards <= _defined()
    named = "".join(m.text for m in shipped_modules() if m.name.startswith("raftmail.consensus"))
    assert guards <= set(_NUMBER.findall(named))


def test_a_number_without_a_definition_is_found() -> None:
    assert undefined_in("see (S6) and (S77)", frozenset({"S6"})) == ["S77"]
