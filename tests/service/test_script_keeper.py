"""Scripts on their way in: what does not compile is told, with its place, and not kept."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.cluster.router import Router
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.results import Done, Executed
from raftmail.service.script_keeper import ScriptKeeper
from raftmail.service.service import ScriptLimits, ScriptTooLarge
from tests.shard.machines import Feeder, new_machine


class Kept:
    """A keeper over one state machine."""

    def __init__(self, **limits: int) -> None:
        self.feeder = Feeder(new_machine())
        router = SimpleNamespace(execute=self._execute, query=self._query, clock=lambda: 0.0)
        self.keeper = ScriptKeeper(cast(Router, router), ScriptLimits(**limits))

    async def _execute(self, command: c.Command, *, deadline_s: float) -> Executed:
        return Executed(self.feeder.do(command), 1, 1, "n1")

    async def _query(self, query: q.Query, **_: Any) -> q.Answer:
        return self.feeder.machine.query(query)

    def put(self, name: str, script: bytes) -> object:
        return asyncio.run(self.keeper.put_script("a", name, script, deadline_s=5.0)).result

    def text(self, name: str) -> object:
        return self.feeder.machine.query(q.GetScript("a", name))


def test_a_script_that_is_right_is_kept_and_one_that_is_not_is_told_with_its_line() -> None:
    kept = Kept()
    assert kept.put("one", b"keep;") == Done()
    with pytest.raises(ValueError, match="line 2, column 1: there is no command kepe"):
        kept.put("one", b"# mine\nkepe;")
    assert kept.text("one") == b"keep;"


def test_a_long_script_is_compiled_as_a_short_one_is() -> None:
    kept = Kept()
    long = b"# comment\n" * 1000
    assert kept.put("one", long + b"keep;") == Done()
    with pytest.raises(ValueError, match="line 1001"):
        kept.put("one", long + b"kepe;")


def test_a_script_over_the_nodes_limit_is_refused_in_words() -> None:
    kept = Kept(script_bytes_max=100)
    with pytest.raises(ScriptTooLarge, match="the script has 101 bytes; 100 are the most"):
        kept.put("one", b"#" * 101)
    with pytest.raises(ValueError, match="the name of a script is not empty"):
        kept.put("", b"keep;")


def test_scripts_that_would_include_one_another_are_refused() -> None:
    kept = Kept()
    kept.put("one", b'require "include"; include "two";')
    with pytest.raises(ValueError, match="includes itself"):
        kept.put("two", b'require "include"; include "one";')
    assert kept.put("two", b"stop;") == Done()
