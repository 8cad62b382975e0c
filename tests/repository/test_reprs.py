"""No object that owns callbacks has a generated repr: whoever formats one callback (the loop, in a log line) would
render everything that can be reached from it, for ever."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from tests.repository.source_tree import Module, make_module, shipped_modules


@dataclass(frozen=True)
class _Class:
    """A dataclass, with the names that the annotations of its shown fields mention. One that is frozen is a value: only callbacks of its
    own count, since other rooms have other things by the names of its fields' types."""

    where: str
    name: str
    mentions: frozenset[str]
    has_repr: bool
    is_frozen: bool

    def owns(self, owners: set[str]) -> bool:
        return bool(self.mentions & ({"Callable"} if self.is_frozen else owners))


def _decoration(node: ast.ClassDef) -> ast.expr | None:
    for decorator in node.decorator_list:
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(name, ast.Name) and name.id == "dataclass":
            return decorator
    return None


def _says(call: ast.expr | None, name: str, value: bool) -> bool:
    return isinstance(call, ast.Call) and any(
        word.arg == name and isinstance(word.value, ast.Constant) and word.value.value is value
        for word in call.keywords
    )


def _names(annotation: ast.expr) -> set[str]:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    return {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} | {
        node.attr for node in ast.walk(annotation) if isinstance(node, ast.Attribute)
    }


def _classes(modules: Iterable[Module]) -> tuple[list[_Class], set[str]]:
    """The dataclasses, and the names of what can be called: `Callable` and its aliases."""
    found: list[_Class] = []
    aliases: dict[str, set[str]] = {}
    for module in modules:
        for node in ast.walk(ast.parse(module.text)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                if "TypeAlias" in _names(node.annotation) and node.value is not None:
                    aliases[node.target.id] = _names(node.value)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                if isinstance(node.value, ast.Subscript):
                    aliases[node.targets[0].id] = _names(node.value)
            elif isinstance(node, ast.ClassDef) and (decoration := _decoration(node)) is not None:
                mentions: set[str] = set()
                own_repr = _says(decoration, "repr", False)
                for item in node.body:
                    if isinstance(item, ast.AnnAssign) and not _says(item.value, "repr", False):
                        mentions |= _names(item.annotation)
                    own_repr |= isinstance(item, ast.FunctionDef) and item.name == "__repr__"
                where = f"{module.where}:{node.lineno}"
                frozen = _says(decoration, "frozen", True)
                found.append(_Class(where, node.name, frozenset(mentions), not own_repr, frozen))
    callables = {"Callable"}
    while more := {n for n, named in aliases.items() if n not in callables and named & callables}:
        callables |= more
    return found, callables


def repr_breaches(modules: Iterable[Module]) -> list[str]:
    """Dataclasses that own a callback, or an object that does, and whose repr is generated."""
    classes, callables = _classes(modules)
    owners = set(callables)
    while more := {one.name for one in classes if one.owns(owners)} - owners:
        owners |= more
    return [
        f"{one.where}: {one.name} owns callbacks or holds what does: @dataclass(repr=False)"
        for one in classes
        if one.has_repr and one.owns(owners)
    ]


def test_no_object_that_owns_callbacks_has_a_generated_repr() -> None:
    assert repr_breaches(shipped_modules()) == []


def test_the_rule_finds_callbacks_through_aliases_and_other_objects() -> None:
    module = make_module(
        "raftmail.made",
        """
Done: TypeAlias = Callable[[int], None]
@dataclass(slots=True)
class Direct:
    done: Done
@dataclass
class Holder:
    all: dict[int, Direct]
@dataclass(slots=True, repr=False)
class Quiet:
    all: dict[int, Direct]
@dataclass
class Hidden:
    done: Done = field(repr=False)
@dataclass
class Plain:
    size: int
@dataclass
class Own:
    done: Callable[[], None]
    def __repr__(self) -> str:
        return "Own"
""",
    )
    assert [line.split()[1] for line in repr_breaches([module])] == ["Direct", "Holder"]
