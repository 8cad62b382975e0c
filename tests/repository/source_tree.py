"""The repository's Python read as syntax trees: which modules there are, what they import and name.

Nothing is imported to be examined, so a rule holds also for a module that does not run here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SHIPPED = {"raftmail": ".", "raftmail_cli": "cli", "raftmail_chaos": "chaos"}
"""Installed packages, and the folder each lies in."""


@dataclass(frozen=True)
class Module:
    """A Python file: its dotted name, where it is, and its text."""

    name: str
    path: Path
    text: str

    @property
    def where(self) -> str:
        """The path from the root of the repository, for messages."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


def make_module(name: str, text: str, *, is_package: bool = False) -> Module:
    """A module that is on no disk, for tests of the rules themselves."""
    leaf = "/__init__.py" if is_package else ".py"
    return Module(name, ROOT / (name.replace(".", "/") + leaf), text)


@cache
def tree_of(module: Module) -> ast.Module:
    """The syntax tree of a module, made once: not to be changed."""
    return ast.parse(module.text)


@cache
def nodes_of(module: Module) -> tuple[ast.AST, ...]:
    """All nodes of a module's tree."""
    return tuple(ast.walk(tree_of(module)))


def _read(package: str, base: Path) -> Iterator[Module]:
    for path in sorted((base / package).rglob("*.py")):
        if any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            continue
        parts = path.relative_to(base).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield Module(name, path, path.read_text(encoding="utf-8"))


@cache
def shipped_modules() -> tuple[Module, ...]:
    """Every module that an installation holds."""
    return tuple(m for name, base in SHIPPED.items() for m in _read(name, ROOT / base))


@cache
def all_modules() -> tuple[Module, ...]:
    """Every module of the repository: what is shipped, bench and tests."""
    return (*shipped_modules(), *_read("bench", ROOT), *_read("tests", ROOT))


def is_within(name: str, package: str) -> bool:
    """True for the package itself and everything in it."""
    return name == package or name.startswith(package + ".")


@dataclass(frozen=True)
class Import:
    """One imported thing: the full dotted path of what is named, and the line."""

    target: str
    line: int


def imports_of(module: Module) -> list[Import]:
    """All imports, also those inside functions and under TYPE_CHECKING, relative ones resolved.

    `from a.b import c` gives `a.b.c`, whether `c` is a module or a name in `a.b`. Imports by a
    call with a constant (`import_module("a.b")`) count as well.
    """
    found: list[Import] = []
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = _source(module, node)
            found += [Import(f"{source}.{alias.name}", node.lineno) for alias in node.names]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            found.append(Import(node.args[0].value, node.lineno))
    return sorted(found, key=lambda one: one.line)


def _source(module: Module, node: ast.ImportFrom) -> str:
    """The package or module after `from`, made absolute."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    # One dot is the package that the module lies in, which for a package is itself.
    climb = node.level - 1 if module.is_package else node.level
    base = parts[: len(parts) - climb]
    return ".".join([*base, node.module] if node.module else base)


_FIRST_NAME = re.compile(r"^\w+")


def names_used(module: Module) -> Iterator[tuple[str, int]]:
    """Every dotted name that the code mentions, with import aliases put back, and its line.

    `from time import monotonic as m` and a use of `m` give `time.monotonic`. What is taken as a
    value (`clock=time.monotonic`) counts as much as what is called. A call without arguments is
    given a second time with `()` behind it: `time.gmtime()` reads a clock, `time.gmtime(now)` not.
    """
    aliases: dict[str, str] = {}
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    aliases[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                aliases[alias.asname or alias.name] = f"{_source(module, node)}.{alias.name}"
    for node in nodes_of(module):
        if isinstance(node, ast.Attribute | ast.Name) or (
            isinstance(node, ast.Call) and not node.args and not node.keywords
        ):
            name = _FIRST_NAME.sub(lambda m: aliases.get(m[0], m[0]), ast.unparse(node), count=1)
            yield name, node.lineno
