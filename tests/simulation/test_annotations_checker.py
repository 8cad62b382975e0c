"""The checker of histories finds values of annotations that no read can have seen."""

from __future__ import annotations

from math import inf

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.checker import check
from raftmail_chaos.history import History

USER = "user@example.org"
NAME = "/private/x"


def _rules(*steps: tuple[str, bytes | None, float, float], mailbox: str = "Work") -> list[str]:
    """What is wrong with writes and reads of one annotation: what, value, from when to when. A
    write that ends never is one whose answer was lost; a refused one has no effect."""
    history = History()
    for what, value, invoked, returned in steps:
        if what == "read":
            operation = history.invoke("c", q.GetAnnotations(USER, mailbox), invoked)
            entries = () if value is None else ((NAME, value),)
            history.answer(operation, q.AnnotationValues(entries), returned)
            continue
        call = c.SetAnnotations(USER, mailbox, ((NAME, value),))
        operation = history.invoke("c", call, invoked)
        if returned < inf:
            refused = r.Refused(r.Code.LIMIT, "full")
            history.answer(operation, refused if what == "refused" else r.Done(), returned)
    return [problem.rule for problem in check(history)]


def test_reads_of_what_was_written_before_or_meanwhile_are_good() -> None:
    assert not _rules(
        ("read", None, 0, 1),
        ("write", b"1", 2, 3),
        ("read", b"1", 4, 5),
        ("write", b"2", 6, 9),
        ("read", b"1", 7, 8),
        ("read", b"2", 7, 8),
        ("write", None, 10, 11),
        ("read", None, 12, 13),
    )


def test_a_write_whose_answer_was_lost_may_be_seen_at_any_time() -> None:
    lost = ("write", b"1", 0.0, inf)
    assert not _rules(lost, ("read", None, 1, 2), ("write", b"2", 3, 4), ("read", b"1", 5, 6))


def test_a_value_that_was_overwritten_is_stale() -> None:
    writes = (("write", b"1", 0, 1), ("write", b"2", 2, 3))
    assert _rules(*writes, ("read", b"1", 4, 5)) == ["annotations"]
    assert _rules(*writes, ("read", None, 4, 5)) == ["annotations"]
    assert _rules(*writes, ("write", None, 4, 5), ("read", b"2", 6, 7)) == ["annotations"]


def test_a_value_that_nobody_wrote_or_that_was_refused_is_wrong() -> None:
    assert _rules(("read", b"1", 0, 1)) == ["annotations"]
    assert _rules(("refused", b"1", 0, 1), ("read", b"1", 2, 3)) == ["annotations"]
    assert _rules(("write", b"1", 4, 5), ("read", b"1", 2, 3)) == ["annotations"]
