"""Where errors of callbacks end (docs/adr/0001-what-ends-what.md): rules that the sources are read
for."""

from __future__ import annotations

import ast

import pytest

from tests.repository.source_tree import Module, is_within, make_module, nodes_of, shipped_modules

_PROTOCOLS = ("asyncio.Protocol", "asyncio.BufferedProtocol", "asyncio.BaseProtocol")
_CALLED_BY_THE_LOOP = frozenset(
    (
        "connection_made",
        "connection_lost",
        "data_received",
        "buffer_updated",
        "eof_received",
        "pause_writing",
        "resume_writing",
    )
)
_MAKES_TASKS = ("raftmail.net.errors", "raftmail.node.main")
"""The one place that starts tasks whose error is noticed, and the one that waits for its own."""

_OF_VALUES = ("raftmail.net.lines.Line",)
"""Classes with methods that hold nothing but bytes, and are shown in errors."""

_CLIENT_SIDE = ("raftmail.client", "raftmail_cli", "raftmail_chaos")


def _in_a_node(module: Module) -> bool:
    return not any(is_within(module.name, room) for room in _CLIENT_SIDE)


def uncontained(module: Module) -> list[str]:
    """Methods of protocols that the loop calls, and in which an error would not end the connection
    alone."""
    found = []
    for node in nodes_of(module):
        if not isinstance(node, ast.ClassDef):
            continue
        if not any(ast.unparse(base) in _PROTOCOLS for base in node.bases):
            continue
        found += [
            f"{module.where}:{one.lineno}: {node.name}.{one.name}: add @contained"
            for one in node.body
            if isinstance(one, ast.FunctionDef)
            and one.name in _CALLED_BY_THE_LOOP
            and "contained" not in map(ast.unparse, one.decorator_list)
        ]
    return found


def unwatched_tasks(module: Module) -> list[str]:
    """Tasks whose error nobody would notice."""
    if module.name in _MAKES_TASKS:
        return []
    return [
        f"{module.where}:{node.lineno}: use net.errors.start_task, which has the error noticed"
        for node in nodes_of(module)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in ("create_task", "ensure_future")
    ]


def generated_reprs(module: Module) -> list[str]:
    """Classes whose generated repr would render all that they hold, which may be the whole node."""
    found = []
    for node in nodes_of(module):
        if not isinstance(node, ast.ClassDef) or f"{module.name}.{node.name}" in _OF_VALUES:
            continue
        if not any(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in node.body):
            continue
        for decorator in node.decorator_list:
            text = ast.unparse(decorator)
            if not text.startswith("dataclass") or "frozen=True" in text or "repr=False" in text:
                continue
            found.append(
                f"{module.where}:{node.lineno}: {node.name}: write @dataclass(…, repr=False)"
            )
    return found


def test_an_error_in_a_callback_of_a_connection_ends_that_alone() -> None:
    assert [line for m in shipped_modules() if _in_a_node(m) for line in uncontained(m)] == []


def test_no_task_of_a_node_fails_unnoticed() -> None:
    assert [line for m in shipped_modules() if _in_a_node(m) for line in unwatched_tasks(m)] == []


def test_what_owns_callbacks_is_never_rendered_whole() -> None:
    assert [line for m in shipped_modules() if _in_a_node(m) for line in generated_reprs(m)] == []


@pytest.mark.parametrize(
    "text",
    [
        "class A(asyncio.Protocol):\n    def data_received(self, data): ...",
        "class A(asyncio.BufferedProtocol):\n    @other\n    def buffer_updated(self, n): ...",
    ],
)
def test_an_uncontained_callback_is_found(text: str) -> None:
    assert uncontained(make_module("raftmail.net.x", text))
    assert not uncontained(
        make_module("raftmail.net.x", text.replace("    def", "    @contained\n    def"))
    )


def test_a_task_and_a_generated_repr_are_found() -> None:
    text = "def f(loop):\n    loop.create_task(g())"
    assert unwatched_tasks(make_module("raftmail.node.x", text))
    assert not unwatched_tasks(make_module("raftmail.net.errors", text))
    text = "@dataclass(slots=True)\nclass A:\n    x: int\n    def f(self): ..."
    assert generated_reprs(make_module("raftmail.node.x", text))
    assert not generated_reprs(
        make_module("raftmail.node.x", text.replace("True)", "True, repr=False)"))
    )
