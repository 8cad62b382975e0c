"""Tables of the documents are those that follow from the code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.consensus.planting import Edit, Fault
from tests.repository.generated import (
    TABLES,
    claims_in,
    documents,
    groups_of,
    guards_table,
    planted_table,
    rooms_table,
    with_tables,
)
from tests.repository.source_tree import ROOT


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_the_tables_of_a_document_follow_from_the_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert with_tables(text, TABLES) == text, (
        f"{path.relative_to(ROOT)} is stale: run make docs-tables"
    )


def test_every_table_stands_in_a_document() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in documents())
    assert not [name for name in TABLES if f"<!-- table: {name} -->" not in text]


def test_a_stale_table_is_found() -> None:
    text = "before\n<!-- table: one -->\n| a |\n<!-- end of table -->\nafter\n"
    assert with_tables(text, {"one": lambda: "| a |\n"}) == text
    assert with_tables(text, {"one": lambda: "| b |\n"}) == text.replace("| a |", "| b |")
    with pytest.raises(KeyError):
        with_tables(text, {})


def test_the_table_of_rooms_has_what_each_may_import() -> None:
    table = rooms_table({"raftmail.mail": (), "raftmail.storage": ("raftmail.mail",)})
    assert table.splitlines()[2].startswith("| `raftmail/mail` | What mail is")
    assert table.splitlines()[3].endswith("| `mail` |")


def test_the_table_of_faults_tells_where_what_each_changes_is_defined() -> None:
    here = sys.modules[__name__]
    fault = Fault("no block is found", (Edit(here, "with_tables", "a", "b"),))
    assert (
        "| `blind` | no block is found | `tests.repository.generated.with_tables` |"
        in planted_table({"blind": fault})
    )


def test_the_table_of_guards_tells_what_finds_each_fault() -> None:
    groups = groups_of('    # G1\n    "deaf": _fault(\n    # G2\n    "blind": _fault(\n')
    assert groups == {"deaf": "G1", "blind": "G2"}
    claims = list(claims_in('@fails_with("blind", "deaf")\ndef test_a(): ...\ndef test_b(): ...\n'))
    assert claims == [("blind", "test_a"), ("deaf", "test_a")]
    table = guards_table({"blind": Fault("nothing is read", ())}, groups, claims)
    assert table.splitlines()[2] == "| G2 | `blind`: nothing is read | `test_a` |"


def test_every_fault_of_a_guard_has_its_guard_and_a_test() -> None:
    rows = [line.strip("| ").split(" | ") for line in TABLES["guards"]().splitlines()[2:]]
    assert rows and not [row for row in rows if len(row) != 3 or not all(row)]
