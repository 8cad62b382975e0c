"""The checker of histories finds scripts that no read can have seen."""

from __future__ import annotations

from math import inf

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.checker import check
from raftmail_chaos.history import Call, History

USER = "user@example.org"
REFUSED = r.Refused(r.Code.CANNOT, "no")
ONE, TWO = b"# one", b"# two"


def _rules(*steps: tuple[Call, object, float, float]) -> list[str]:
    """What is wrong with calls that had these answers, from when to when. One that ends never is
    one whose answer was lost."""
    history = History()
    for call, answer, invoked, returned in steps:
        operation = history.invoke("c", call, invoked)
        if returned < inf:
            history.answer(operation, answer, returned)
    return [problem.rule for problem in check(history)]


def _put(script: bytes, invoked: float, returned: float) -> tuple[Call, object, float, float]:
    return c.PutScript(USER, "x", script), r.Done(), invoked, returned


def _got(script: bytes | None, at: float) -> tuple[Call, object, float, float]:
    return q.GetScript(USER, "x"), script, at, at + 1


def _activated(
    name: str, at: float, answer: object | None = None
) -> tuple[Call, object, float, float]:
    return c.ActivateScript(USER, name), answer or r.Done(), at, at + 1


def _ruled(name: str, script: bytes, at: float) -> tuple[Call, object, float, float]:
    rules = q.RulesInForce(bytes(16), name, script, ()) if name else None
    return q.ActiveScript(USER), rules, at, at + 1


def test_scripts_that_were_put_before_or_meanwhile_are_good() -> None:
    assert not _rules(
        _got(None, 0),
        _put(ONE, 2, 3),
        _got(ONE, 4),
        _put(TWO, 6, 9),
        _got(ONE, 7),
        _ruled("", b"", 10),
        _activated("x", 12),
        _ruled("x", TWO, 14),
        _activated("", 16),
        _ruled("", b"", 18),
        (c.DeleteScript(USER, "x"), r.Done(), 20, 21),
        _got(None, 22),
    )


def test_a_script_that_was_replaced_or_that_nobody_put_is_wrong() -> None:
    puts = (_put(ONE, 0, 1), _put(TWO, 2, 3))
    assert _rules(*puts, _got(ONE, 4)) == ["scripts"]
    assert _rules(*puts, _got(None, 4)) == ["scripts"]
    assert _rules(*puts, _activated("x", 4), _ruled("x", ONE, 6)) == ["scripts"]
    assert _rules(_got(ONE, 0), _put(ONE, 2, 3)) == ["scripts"]
    assert not _rules(_put(ONE, 0, inf), _got(None, 1), _got(ONE, 3)), "its answer was lost"


def test_another_active_script_than_the_one_that_was_chosen_is_wrong() -> None:
    put = _put(ONE, 0, 1)
    assert _rules(put, _activated("x", 2), _ruled("", b"", 4)) == ["scripts"]
    assert _rules(put, _activated("x", 2, REFUSED), _ruled("x", ONE, 4)) == ["scripts"]
    assert _rules(put, _activated("x", 2), _activated("", 4), _ruled("x", ONE, 6)) == ["scripts"]
