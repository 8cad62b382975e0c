"""docs/protocol.md says what the code does."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from raftmail.frontends.text.limits import TextLimits
from raftmail.mail.results import Code
from tests.frontends.text.test_session import open_session
from tests.frontends.twin_service import TwinService

DOCUMENT = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()


async def _commands() -> set[str]:
    session, _ = open_session(TwinService())
    alone = {*session._commands, *session._open_commands, b"ADMIN"}
    grouped = {
        f"{group.decode()} {name.decode()}" for group, of in session._groups.items() for name in of
    }
    return {name.decode() for name in alone} | grouped


def test_every_command_is_described_and_no_other() -> None:
    tables = re.findall(r"^\| (`.*?) \|", DOCUMENT, re.MULTILINE)
    described = {
        name
        for cell in tables
        for name in re.findall(r"`((?:USER |SCRIPT )?[A-Z]{3,})(?: [^`]*)?`", cell)
        if name not in {"BAD", "RETRY"}
    }
    assert described == asyncio.run(_commands())


def test_every_code_is_named() -> None:
    for code in Code:
        assert f"`{code.value}`" in DOCUMENT


def test_the_deadlines_are_those_of_a_node() -> None:
    limits = TextLimits()
    assert "(default\n10, at most 120)" in DOCUMENT
    assert (limits.deadline_default_s, limits.deadline_max_s) == (10, 120)
