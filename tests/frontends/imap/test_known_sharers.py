"""LIST does without the root where it has to."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from raftmail.frontends.imap import known_sharers
from raftmail.frontends.imap.known_sharers import PATIENCE_S, KnownSharers
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import ListSharers


class _Root:
    def __init__(self) -> None:
        self.answer: tuple[str, ...] | None = ("bob@x.org",)
        self.asked: list[tuple[str, float]] = []

    async def query(self, query: Any, *, deadline_s: float, point: Any = None) -> Any:
        assert isinstance(query, ListSharers)
        self.asked.append((query.user, deadline_s))
        if self.answer is None:
            raise Unavailable(Failure("the root has no master"))
        return self.answer


def _ask(known: KnownSharers, root: _Root, user: str = "anna@x.org") -> tuple[str, ...]:
    return asyncio.run(known.ask(cast(Any, root), user, 10.0))


def test_the_last_answer_is_taken_while_the_root_gives_none() -> None:
    known, root = KnownSharers(), _Root()
    assert _ask(known, root) == ("bob@x.org",)
    root.answer = None
    assert _ask(known, root, "eve@x.org") == ("bob@x.org",)
    assert root.asked == [("anyone@x.org", 10.0), ("anyone@x.org", PATIENCE_S)]
    root.answer = ()
    assert _ask(known, root) == (), "the root is asked each time"


def test_what_is_not_known_is_no_empty_list() -> None:
    known, root = KnownSharers(), _Root()
    root.answer = None
    with pytest.raises(Unavailable):
        _ask(known, root)


def test_answers_are_kept_of_a_bounded_number_of_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_sharers, "DOMAINS_MAX", 2)
    known, root = KnownSharers(), _Root()
    for domain in ("one", "two", "three"):
        _ask(known, root, f"a@{domain}")
    root.answer = None
    with pytest.raises(Unavailable):
        _ask(known, root, "a@one")
    assert _ask(known, root, "a@three") == ("bob@x.org",)
