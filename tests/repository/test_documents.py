"""What documents name is there: tests, files of the code, other documents."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.repository.source_tree import ROOT, Module, make_module, shipped_modules, tree_of
from tests.repository.test_tour import anchors_of

_TEST = re.compile(r"`(test_\w+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_SECTION = re.compile(r"\]\(([^)#:]*)#([^)]+)\)")
_FILE = re.compile(r"`((?:raftmail/)?[a-z]+(?:/[a-z_]+)+\.py)`")
_BARE_FILE = re.compile(r"`([a-z_]+\.py)`")
_MODULES_HEAD = re.compile(r"\| module of `raftmail/([a-z/]+)` \|")
_NAME = re.compile(r"`(\w+)`")
_MEMBER = re.compile(r"`([A-Z]\w+)\.(\w+)")
_DOTTED = re.compile(r"`([a-z_]+(?:\.[a-z_A-Z]\w*)+)`")
_NO_MODULES = ("asyncio", "bytes", "click", "ssl", "pysyncobj", "clock", "arrived", "verify")
"""What comments name before a dot that is no module of the project: other packages, values, and a
section of node.toml."""
_NO_NAMES = (".json", ".pem", ".key", ".log", ".pid", ".toml", ".first", ".damaged", ".space")


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


def dead_sections(text: str, document: Path) -> list[str]:
    """The links of a document to sections that no document has."""
    dead = []
    for name, anchor in _SECTION.findall(text):
        path = document.parent / name if name else document
        other = path.read_text(encoding="utf-8") if path.is_file() else ""
        if anchor not in anchors_of(other):
            dead.append(f"{name}#{anchor}")
    return dead


@pytest.mark.parametrize("document", _documents(), ids=_named)
def test_every_section_that_a_document_links_to_exists(document: Path) -> None:
    assert not dead_sections(document.read_text(encoding="utf-8"), document)


def test_a_link_to_a_section_that_went_is_found(tmp_path: Path) -> None:
    here = tmp_path / "a.md"
    here.write_text("# A b\n[x](#a-b) [y](#gone) [z](a.md#a-b) [w](b.md#a-b)\n", encoding="utf-8")
    assert dead_sections(here.read_text(encoding="utf-8"), here) == ["#gone", "b.md#a-b"]


def test_the_readme_links_every_document() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / link).resolve() for link in _LINK.findall(text)}
    docs = ROOT / "docs"
    there = {*ROOT.glob("*.md"), *docs.glob("*.md"), *docs.glob("*/README.md")}
    assert not there - linked - {ROOT / "README.md"}


def tour() -> list[Path]:
    """The documents that lead to the code."""
    folders = ("architecture", "adr")
    found = [path for name in folders for path in sorted((ROOT / "docs" / name).glob("*.md"))]
    return [*found, ROOT / "docs" / "engine.md"]


def test_every_file_that_the_tour_names_exists() -> None:
    lost = []
    names = {module.path.name for module in shipped_modules()}
    for document in tour():
        text = document.read_text(encoding="utf-8")
        for name in _FILE.findall(text):
            if not any((ROOT / top / name).exists() for top in ("", "raftmail", "chaos")):
                lost.append(f"{_named(document)}: {name}")
        if document.parent.name == "architecture":  # elsewhere they are the engine's
            lost += [f"{_named(document)}: {n}" for n in _BARE_FILE.findall(text) if n not in names]
    assert not lost, "\n".join(lost)


def modules_named(text: str) -> Iterator[tuple[str, str]]:
    """Room and module, as the first column of a table whose head is "module of `raftmail/ROOM`"
    names them."""
    room = ""
    for line in text.split("\n"):
        head = _MODULES_HEAD.match(line)
        if head or not line.startswith("|"):
            room = head[1] if head else ""
        elif room:
            yield from ((room, name) for name in _NAME.findall(line.split("|")[1]))


def classes_of(modules: Iterable[Module]) -> dict[str, list[ast.ClassDef]]:
    """The classes of modules, by name."""
    found: defaultdict[str, list[ast.ClassDef]] = defaultdict(list)
    for module in modules:
        for node in tree_of(module).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(node)
    return dict(found)


@cache
def _shipped_classes() -> dict[str, list[ast.ClassDef]]:
    return classes_of(shipped_modules())


def members_of(name: str, classes: dict[str, list[ast.ClassDef]]) -> set[str]:
    """The methods, fields and constants of a class, what `self` gets, and those of the classes that
    it stands on. Of classes that share a name, all of theirs."""
    found: set[str] = set()
    for one in classes.get(name, ()):
        for base in one.bases:
            found |= members_of(ast.unparse(base).rpartition(".")[2], classes)
        for inner in ast.walk(one):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(inner.name)
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                found.add(inner.id)
            elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                found.add(inner.attr)
    return found


def unknown_names(text: str, classes: dict[str, list[ast.ClassDef]]) -> list[str]:
    """What a text names as `Class.name` and the code has not. Classes of others are left out."""
    return [
        f"{owner}.{name}"
        for owner, name in dict.fromkeys(_MEMBER.findall(text))
        if owner in classes and name not in members_of(owner, classes)
    ]


@pytest.mark.parametrize("document", tour(), ids=_named)
def test_what_the_tour_names_of_the_code_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    there = {module.name for module in shipped_modules()}
    named = [f"raftmail.{room.replace('/', '.')}.{name}" for room, name in modules_named(text)]
    lost = [name for name in named if name not in there]
    assert not lost, f"{_named(document)} names modules that there are not: {lost}"
    assert not unknown_names(text, _shipped_classes())


def test_a_module_and_a_name_that_went_are_found() -> None:
    head = "| module of `raftmail/cluster` | idea |\n|---|---|\n"
    table = f"{head}| `router`, `gone` | x `y` |\n\n| `z` |"
    assert list(modules_named(table)) == [("cluster", "router"), ("cluster", "gone")]
    code = "class Base:\n    def run(self): self.x = 1\nclass Thing(Base):\n    y: int = 0\n"
    classes = classes_of([make_module("raftmail.thing", code)])
    text = "`Thing.run`, `Thing.x`, `Thing.y`, `Thing.gone`, `Other.gone`"
    assert unknown_names(text, classes) == ["Thing.gone"]


def resolves(name: str, modules: dict[str, Module]) -> bool:
    """Whether a dotted name of a comment leads into the code: to a module by the end of its path,
    and to what that defines."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        ending = ".".join(parts[:length])
        for full, module in modules.items():
            if full == ending or full.endswith(f".{ending}"):
                rest = parts[length:]
                if not rest or re.search(rf"\b{re.escape(rest[0])}\b", module.text):
                    return True
    return False


def test_every_module_that_a_comment_of_the_code_names_is_there() -> None:
    modules = {module.name: module for module in shipped_modules()}
    lost = {
        f"{module.where}: {name}"
        for module in shipped_modules()
        for name in _DOTTED.findall(module.text)
        if name.partition(".")[0] not in _NO_MODULES
        and not name.endswith(_NO_NAMES)
        and not resolves(name, modules)
    }
    assert not lost, "\n".join(sorted(lost))


def test_a_name_of_a_module_that_went_is_found() -> None:
    modules = {m.name: m for m in (make_module("raftmail.shard.status", "class Condition: ..."),)}
    assert resolves("status.Condition", modules) and resolves("shard.status", modules)
    assert not resolves("status.Gone", modules) and not resolves("gone.Condition", modules)


def test_every_decision_has_its_number_and_a_line_of_the_list() -> None:
    folder = ROOT / "docs" / "adr"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    for path in sorted(folder.glob("0*.md")):
        title = path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("# ")
        assert title.startswith(f"{int(path.name[:4])}. ")
        assert f"| [{title}]({path.name}) |" in listed
