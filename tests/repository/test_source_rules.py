"""Rules of the house about source files: long functions, clocks, pickles, marks, docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.repository.source_tree import (
    ROOT,
    Module,
    all_modules,
    imports_of,
    is_within,
    make_module,
    names_used,
    nodes_of,
    shipped_modules,
    tree_of,
)

FUNCTION_LINES_MAX = 70

_WRITTEN_FLAT = ("raftmail/shard/store.py",)
"""A hot path that was measured to be faster as one function."""

_MARK = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b")
_MARKED_FILES = (
    "setup.cfg",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    ".ci/run",
    "docs/**/*.md",
)

_PICKLES = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal")

_CLOCKS = re.compile(
    r"""
    time\.(?:time|monotonic|perf_counter|process_time|thread_time|clock_gettime)(?:_ns)?
    | time\.sleep
    | time\.(?:localtime|gmtime|ctime)\(\)
    | datetime\.(?:datetime\.|date\.)?(?:now|utcnow|today)
    | threading\.Timer
    | os\.times
    """,
    re.VERBOSE,
)
_LOOP_CLOCKS = re.compile(
    r"asyncio\.(?:sleep|wait_for|timeout|timeout_at)"
    r"|(?:.*\.)?(?:_?loop|get_running_loop\(\))\.(?:time|call_later|call_at)"
)
_ON_A_LOOP = (
    "raftmail.net",
    "raftmail.cluster",
    "raftmail.service",
    "raftmail.peering",
    "raftmail.frontends",
    "raftmail.proxy",
    "raftmail.admin",
)
"""Rooms that may take the time from the event loop, and from nothing else."""

_WITH_CLOCKS = ("raftmail.node", "raftmail.client", "raftmail_cli", "raftmail_chaos")


def pickle_breaches(module: Module) -> list[str]:
    """Imports that can decode a pickle or its like, outside the room that guards the engine's."""
    if is_within(module.name, "raftmail.consensus"):
        return []
    return [
        f"{module.where}:{one.line}: {one.target} is imported"
        for one in imports_of(module)
        if any(is_within(one.target, name) for name in _PICKLES)
    ]


def clock_breaches(module: Module) -> list[str]:
    """Mentions of a clock or a sleep in a room below node/: functions there take `now`."""
    if any(is_within(module.name, room) for room in _WITH_CLOCKS):
        return []
    on_a_loop = any(is_within(module.name, room) for room in _ON_A_LOOP)
    return [
        f"{module.where}:{line}: {name} below raftmail/node; take `now` instead"
        for name, line in names_used(module)
        if _CLOCKS.fullmatch(name) or (not on_a_loop and _LOOP_CLOCKS.fullmatch(name))
    ]


def marks_in(text: str) -> list[int]:
    """The lines that put something off to later."""
    return [number for number, line in enumerate(text.split("\n"), 1) if _MARK.search(line)]


def _files_that_carry_no_marks() -> list[Path]:
    others = [path for pattern in _MARKED_FILES for path in sorted(ROOT.glob(pattern))]
    return [*(module.path for module in all_modules()), *others]


def long_functions(module: Module) -> list[str]:
    """Functions that are longer than the limit, in lines from `def` to their end."""
    return [
        f"{module.where}:{node.lineno}: {node.name} has {lines} lines"
        for node in nodes_of(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def test_no_function_is_longer_than_70_lines() -> None:
    """A file is as long as its idea; a function has to be seen at once."""
    long = [
        one for m in shipped_modules() if m.where not in _WRITTEN_FLAT for one in long_functions(m)
    ]
    assert not long, "\n".join(long)


def test_nothing_outside_consensus_can_decode_a_pickle() -> None:
    """P8: no pickle is ever decoded from a socket or a file."""
    found = [breach for module in shipped_modules() for breach in pickle_breaches(module)]
    assert not found, "\n".join(found)


def test_no_room_below_node_reads_a_clock_or_sleeps() -> None:
    found = [breach for module in shipped_modules() for breach in clock_breaches(module)]
    assert not found, "\n".join(found)


def test_no_file_puts_work_off_with_a_mark() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _files_that_carry_no_marks()
        for line in marks_in(path.read_text(encoding="utf-8"))
    ]
    assert not found, f"finish it or write it down in docs/: {found}"


def test_every_package_says_what_it_is_for() -> None:
    packages = [m for m in all_modules() if m.is_package]
    silent = [m.where for m in packages if not ast.get_docstring(tree_of(m))]
    assert not silent, f"packages without a docstring: {silent}"


def test_every_folder_of_modules_that_is_shipped_is_a_package() -> None:
    packages = {m.path.parent for m in shipped_modules() if m.is_package}
    orphans = sorted(m.where for m in shipped_modules() if m.path.parent not in packages)
    assert not orphans, f"__init__.py is missing beside {orphans}"


def test_no_folder_of_tests_is_a_package() -> None:
    """pytest's importlib mode names test modules by their path; a package would be named twice."""
    assert not [m.where for m in all_modules() if m.is_package and is_within(m.name, "tests")]


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "import time as t\nnow = t.monotonic_ns()",
        "from time import sleep as pause\npause(1)",
        "import time\ndef f(clock=time.monotonic): ...",
        "import time\ntime.gmtime()",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime, UTC\ndatetime.now(UTC)",
        "from datetime import date\ndate.today()",
    ],
)
@pytest.mark.parametrize("room", ["raftmail.mail.rules", "raftmail.frontends.text.server"])
def test_a_clock_below_node_is_found(room: str, text: str) -> None:
    assert clock_breaches(make_module(room, text))
    assert not clock_breaches(make_module("raftmail.node.run", text))


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio\nasync def f():\n    await asyncio.sleep(1)",
        "import asyncio\nnow = asyncio.get_running_loop().time()",
        "class Server:\n    def f(self):\n        return self._loop.time()",
    ],
)
def test_the_time_of_the_event_loop_is_for_servers_alone(text: str) -> None:
    assert clock_breaches(make_module("raftmail.shard.replica", text))
    assert not clock_breaches(make_module("raftmail.frontends.lmtp.server", text))


def test_dates_that_are_given_are_no_clock() -> None:
    text = (
        "import time\nfrom datetime import datetime, UTC\n"
        "def f(now_s: float, sent: datetime) -> object:\n"
        "    return datetime.fromtimestamp(now_s, UTC), sent.time(), time.gmtime(now_s)\n"
    )
    assert not clock_breaches(make_module("raftmail.mail.rules", text))


def test_a_pickle_outside_consensus_is_found() -> None:
    assert pickle_breaches(make_module("raftmail.net.lines", "from pickle import loads"))
    assert pickle_breaches(make_module("raftmail.net.lines", "def f():\n    import marshal"))
    assert not pickle_breaches(make_module("raftmail.consensus.engine", "import pickle"))


def test_a_mark_is_found_as_a_word_only() -> None:
    word = "TO" + "DO"
    assert marks_in(f"x = 1\n# {word}: y") == [2]
    assert marks_in(f"MAS{word}N = 1") == []
