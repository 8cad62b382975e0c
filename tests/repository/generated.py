"""Tables of the documents that follow from the code: `make docs-tables` writes them.

A document has such a table between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.consensus.planting import Edit, Fault
from tests.repository.source_tree import ROOT, SHIPPED, shipped_modules
from tests.repository.test_import_rule import MAY_IMPORT
from tests.simulation.planted import FAULTS

_BLOCK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _folder(room: str) -> str:
    package = room.partition(".")[0]
    base = SHIPPED[package]
    path = room.replace(".", "/")
    return path if base == "." else f"{base}/{path}"


def rooms_table(may_import: Mapping[str, Sequence[str]]) -> str:
    """Each room, from the bottom up: the first sentence of its docstring, and what it imports."""
    purpose = {}
    for module in shipped_modules():
        if module.is_package:
            text = ast.get_docstring(ast.parse(module.text)) or ""
            purpose[module.name] = re.split(r"(?<=\.)\s", text, maxsplit=1)[0].replace("\n", " ")
    rows = [
        (
            f"`{_folder(room)}`",
            purpose[room],
            ", ".join(f"`{one.removeprefix('raftmail.')}`" for one in sorted(allowed)) or "nothing",
        )
        for room, allowed in may_import.items()
        if room != "raftmail.frontends"  # which holds rooms, and nothing of its own
    ]
    return _table(("room", "what it is for", "imports"), rows)


def _place(edit: Edit) -> str:
    """Where a fault is planted, as `module.owner.function` without the package's name."""
    owner = edit.owner
    name = f"{getattr(owner, '__module__', '')}.{owner.__name__}".lstrip(".")
    return f"`{name.removeprefix('raftmail.')}.{edit.name}`"


def planted_table(faults: Mapping[str, Fault]) -> str:
    """Each fault that the simulator has to find: what is wrong with it, and where it is planted."""
    rows = [
        (f"`{name}`", fault.does, ", ".join(dict.fromkeys(map(_place, fault.edits))))
        for name, fault in faults.items()
    ]
    return _table(("fault", "what is wrong then", "planted in"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "rooms": lambda: rooms_table(MAY_IMPORT),
    "planted-faults": lambda: planted_table(FAULTS),
}


def with_tables(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """A document with its tables as they are now. Raises KeyError for a table that is not known."""
    return _BLOCK.sub(lambda m: m[1] + tables[m[2]]() + m[3], text)


def documents() -> list[Path]:
    """All documents that have a table."""
    return [path for path in sorted((ROOT / "docs").rglob("*.md")) if _BLOCK.search(_read(path))]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> None:
    for path in documents():
        path.write_text(with_tables(_read(path), TABLES), encoding="utf-8")


if __name__ == "__main__":
    main()
