"""Tables of the documents that follow from the code: `make docs-tables` writes them.

A document has such a table between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.consensus.planted import FAULTS as GUARDED
from tests.consensus.planting import Edit, Fault
from tests.repository.source_tree import ROOT, SHIPPED, shipped_modules
from tests.repository.test_import_rule import MAY_IMPORT
from tests.simulation.planted import FAULTS

_GROUP_OR_FAULT = re.compile(
    r"""^    (?:\# (?P<group>.+)|"(?P<fault>[a-z-]+)": _fault\()$""", re.MULTILINE
)
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
    """What a fault changes, as `module.owner.function` without the package's name: where it is
    defined, which may be elsewhere than where it is put in place."""
    found: Any = inspect.getattr_static(edit.owner, edit.name)
    function: Any = found.fget if isinstance(found, property) else found
    name = f"{function.__module__}.{function.__qualname__}"
    return f"`{name.removeprefix('raftmail.')}`"


def planted_table(faults: Mapping[str, Fault]) -> str:
    """Each fault that the simulator has to find: what is wrong with it, and where it is planted."""
    rows = [
        (f"`{name}`", fault.does, ", ".join(dict.fromkeys(map(_place, fault.edits))))
        for name, fault in faults.items()
    ]
    return _table(("fault", "what is wrong then", "planted in"), rows)


def groups_of(text: str) -> dict[str, str]:
    """By fault, the comment above its group, which names the guard; `text` is that of
    `tests/consensus/planted.py`."""
    found = {}
    group = ""
    for match in _GROUP_OR_FAULT.finditer(text):
        group = match["group"] or group
        if match["fault"]:
            found[match["fault"]] = group
    return found


def claims_in(text: str) -> Iterator[tuple[str, str]]:
    """Each fault that a test of a module is marked to find (`planting.fails_with`), and the
    test."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "fails_with":
                    yield from ((ast.literal_eval(fault), node.name) for fault in mark.args)


def guards_table(
    faults: Mapping[str, Fault], groups: Mapping[str, str], claims: Sequence[tuple[str, str]]
) -> str:
    """Each fault by which a guard is taken out, and the tests that find it."""
    rows = []
    for name, fault in faults.items():
        tests = dict.fromkeys(f"`{test}`" for found, test in claims if found == name)
        rows.append((groups[name], f"`{name}`: {fault.does}", ", ".join(tests)))
    return _table(("guard", "planted fault, and what is wrong then", "tests that fail"), rows)


def _guards() -> str:
    folder = ROOT / "tests" / "consensus"
    claims = [one for path in sorted(folder.glob("test_*.py")) for one in claims_in(_read(path))]
    return guards_table(GUARDED, groups_of(_read(folder / "planted.py")), claims)


TABLES: dict[str, Callable[[], str]] = {
    "rooms": lambda: rooms_table(MAY_IMPORT),
    "planted-faults": lambda: planted_table(FAULTS),
    "guards": _guards,
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
