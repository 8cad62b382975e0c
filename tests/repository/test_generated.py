"""Tables of the documents are those that follow from the code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from raftmail.admin.api.calls import BY_NAME
from raftmail.node.budget import limits_of
from tests.consensus.planting import Edit, Fault
from tests.repository.generated import (
    DEFAULTS,
    TABLES,
    calls_table,
    claims_in,
    documents,
    groups_of,
    guards_table,
    link_limits_table,
    memory_table,
    planted_table,
    rooms_table,
    shown,
    text_limits_table,
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


def test_the_tables_of_limits_have_those_of_a_node_and_not_those_of_the_class() -> None:
    limits = limits_of(DEFAULTS)
    text = text_limits_table(limits.clients)
    assert "| `line_bytes_max` | 16 KiB | 1 KiB |" in text
    assert "| `total_buffered_bytes_max` | 150 MiB + 192 KiB |" in text
    assert "| `connections_max` | 2000 |" in text
    assert "| `queue_bytes_max` | 48 MiB |" in link_limits_table(limits.link)
    larger = replace(DEFAULTS, mail=replace(DEFAULTS.mail, message_bytes_max=100 << 20))
    assert text_limits_table(limits_of(larger).clients) != text


def test_a_limit_is_shown_with_its_unit() -> None:
    assert shown("one_bytes_max", 0) == "0"
    assert shown("one_bytes_max", (3 << 20) + 5) == "3 MiB + 5 bytes"
    assert (shown("idle_s", 1800.0), shown("half_s", 0.05), shown("lines_max", 20)) == (
        "1800",
        "0.05",
        "20",
    )


def test_the_table_of_memory_has_every_part_and_the_sum() -> None:
    lines = memory_table(DEFAULTS).splitlines()
    assert len(lines) == 14
    figures = [int(line.split("|")[3].split()[0]) for line in lines[2:]]
    assert 0 <= figures[-1] - sum(figures[:-1]) < len(figures)


def test_the_table_of_calls_has_those_of_operators_with_their_arguments() -> None:
    table = calls_table([BY_NAME["quota-set"], BY_NAME["node"], BY_NAME["state-here"]])
    assert "`address=`, `bytes=` (a number of bytes from 1 on, none or default)" in table
    assert "| `node` | `name=`, [`risk=yes`] | One node;" in table
    assert "state-here" not in table, "nodes alone may make it"
