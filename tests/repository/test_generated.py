"""Tables of the documents are those that follow from the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consensus.planting import Edit, Fault
from tests.repository.generated import TABLES, documents, planted_table, rooms_table, with_tables
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


def test_the_table_of_faults_tells_where_each_is_planted() -> None:
    fault = Fault("nothing is read", (Edit(Path, "read_text", "a", "b"),))
    assert "| `blind` | nothing is read | `pathlib.Path.read_text` |" in planted_table(
        {"blind": fault}
    )
