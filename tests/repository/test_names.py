"""Names and imports: one class for one name, no name that nobody uses, no circle of imports."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.repository.source_tree import (
    Module,
    all_modules,
    imports_of,
    is_within,
    make_module,
    nodes_of,
    tree_of,
)
from tests.repository.test_import_rule import room_of

ONE_THING = {
    "Refused": "what the store answers, and the exception by which the client library tells it",
}
"""Class names that two rooms have because they are one thing, and what that is."""

NOT_CALLED_HERE = {
    # What others call.
    "convert": "click",
    "on_broken_pipe": "rich",
    "addNode": "pysyncobj",
    "dropNode": "pysyncobj",
    "destroy": "pysyncobj",
    "deleteEntriesTo": "pysyncobj",
    "getVotedForNodeId": "pysyncobj",
    "setRaftCommitIndex": "pysyncobj",
    "getRaftCommitIndex": "pysyncobj",
    "onOneSecondTimer": "pysyncobj",
    # What the simulator calls.
    "invoke": "histories of the simulator",
    "is_busy_opening": "mail programs of the simulator",
    # What tests alone can see.
    "stats": "what an LMTP server holds, for tests of its limits",
    # What waits for IMAP, with its tests.
    "find_part": "FETCH of a part",
    # What front ends are about to use.
}
"""Public names that nothing of the project uses, and for whom they are there."""


def product() -> list[Module]:
    """Everything but the tests."""
    return [module for module in all_modules() if not is_within(module.name, "tests")]


def _room(module: Module) -> str:
    return room_of(module.name) or module.name.partition(".")[0]


def classes_of_two_rooms(modules: Sequence[Module]) -> dict[str, list[str]]:
    """Public classes whose name is that of a class of another room, and where they are."""
    found: defaultdict[str, list[Module]] = defaultdict(list)
    for module in modules:
        for node in tree_of(module).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {
        name: [m.where for m in where]
        for name, where in found.items()
        if len({_room(m) for m in where}) > 1
    }


def _defined(module: Module) -> Iterator[tuple[str, int]]:
    """Public functions, classes, constants and methods, with their lines. Commands are left out."""
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not any(re.search(r"command|group", ast.unparse(d)) for d in node.decorator_list):
                yield node.name, node.lineno
        elif isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield inner.name, inner.lineno
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    yield target.id, node.lineno


def _used(module: Module) -> Iterator[str]:
    """Names that the code reads. Importing one is no use of it; naming it in `__all__` neither."""
    tree = tree_of(module)
    exported = {
        id(inner)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for inner in ast.walk(node)
    }
    for node in nodes_of(module):
        if id(node) in exported:
            continue
        if isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.ImportFrom):  # under another name, which the linter sees used
            yield from (alias.name for alias in node.names if alias.asname)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # attrgetter, getattr and annotations in quotes
            yield from re.findall(r"\w+", node.value) if " " not in node.value else ()


def unused_names(modules: Sequence[Module]) -> list[str]:
    """Public names that no module reads."""
    used = {name for module in modules for name in _used(module)}
    return [
        f"{module.where}:{line}: {name}"
        for module in modules
        for name, line in _defined(module)
        if not name.startswith("_") and name not in used
    ]


def import_circles(modules: Sequence[Module]) -> list[list[str]]:
    """Modules that import each other, perhaps by way of others, and perhaps for types alone."""
    names = {module.name for module in modules}
    imports: dict[str, set[str]] = {}
    for module in modules:
        targets = set()
        for one in imports_of(module):
            target = one.target
            while target and target not in names:
                target = target.rpartition(".")[0]
            targets.add(target)
        imports[module.name] = targets & names - {module.name}
    reach = {name: set(direct) for name, direct in imports.items()}
    changed = True
    while changed:
        changed = False
        for reached in reach.values():
            more = set().union(*(reach[name] for name in reached)) - reached
            if more:
                reached |= more
                changed = True
    circles = {
        tuple(sorted(other for other in reached if name in reach[other]))
        for name, reached in reach.items()
        if name in reached
    }
    return [list(circle) for circle in sorted(circles)]


def test_no_two_rooms_have_a_class_of_the_same_name() -> None:
    found = {k: v for k, v in classes_of_two_rooms(product()).items() if k not in ONE_THING}
    assert not found, "\n".join(f"{name}: {', '.join(where)}" for name, where in found.items())


def test_no_public_name_is_unused() -> None:
    found = [one for one in unused_names(product()) if one.split()[-1] not in NOT_CALLED_HERE]
    assert not found, "\n".join(found)


def test_each_exception_to_the_rules_of_names_is_needed() -> None:
    assert ONE_THING.keys() <= classes_of_two_rooms(product()).keys()
    assert NOT_CALLED_HERE.keys() == {one.split()[-1] for one in unused_names(product())}


def test_no_module_imports_what_imports_it() -> None:
    assert not import_circles(product())


def test_a_class_name_of_two_rooms_is_found() -> None:
    one = make_module("raftmail.mail.one", "class Desk: ...\nclass _Own: ...")
    same_room = make_module("raftmail.mail.two", "class Desk: ...")
    other = make_module("raftmail.storage.one", "class Desk: ...\nclass _Own: ...")
    assert not classes_of_two_rooms([one, same_room])
    assert list(classes_of_two_rooms([one, other])) == ["Desk"]


def test_an_unused_name_is_found() -> None:
    text = (
        "A = 1\nB = 1\n\ndef f(): return A\n\nclass C:\n    def g(self): ...\n    def h(self): ..."
    )
    module = make_module("raftmail.mail.one", text)
    user = make_module(
        "raftmail.mail.two",
        "from raftmail.mail.one import B, C, f\n__all__ = ['B']\nf(C().g)\ngetattr(C, 'h')",
    )
    assert unused_names([module, user]) == ["raftmail/mail/one.py:2: B"]
    assert len(unused_names([module])) == 5


def test_an_import_circle_is_found_also_of_types_and_by_way_of_others() -> None:
    one = make_module("raftmail.mail.one", "from raftmail.mail.two import f")
    two = make_module("raftmail.mail.two", "def f():\n    import raftmail.mail.three")
    three = make_module(
        "raftmail.mail.three",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from raftmail.mail import one",
    )
    assert not import_circles([one, two])
    assert import_circles([one, two, three]) == [
        ["raftmail.mail.one", "raftmail.mail.three", "raftmail.mail.two"]
    ]
