"""The same messages in raftmail and in Debian's Dovecot, and the same questions to both: what is
answered is the same, except where docs/architecture/imap-differences.md argues for ours."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.frontends.imap.imap_kit import PASSWORD, USER
from tests.peers.compare import Comparison, Finding, out_of_order
from tests.peers.differences import DIFFERENCES, explanation
from tests.peers.dovecot import dovecot, need_dovecot
from tests.peers.imap_talk import ImapTalk
from tests.peers.odd_mail import broken_by_chance, by_chance, by_hand
from tests.peers.token_soup import thrown_together
from tests.peers.twin_server import serve
from tests.repository.source_tree import ROOT

SHOWN = 25
PATIENCE_S = 900.0


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    """All that differs over all messages."""
    need_dovecot()
    messages = [*by_hand(), *by_chance(220), *broken_by_chance(80), *thrown_together(150)]
    found: list[Finding] = []

    def talk(port: int) -> None:
        with ImapTalk.log_in(port, USER, PASSWORD) as ours, dovecot() as opened:
            found.extend(Comparison(ours, opened, messages).everything())

    serve(talk, patience_s=PATIENCE_S)
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    "kind",
    [
        "FETCH", "ENVELOPE", "BODYSTRUCTURE", "BODY", "BINARY", "BINARY.SIZE", "SEARCH", "SORT",
        "THREAD",
    ],
)  # fmt: skip
def test_what_is_not_argued_is_answered_as_dovecot_answers(
    findings: list[Finding], kind: str
) -> None:
    left = [one for one in findings if one.kind == kind and explanation(one) is None]
    shown = "\n".join(str(one) for one in left[:SHOWN])
    assert not left, f"{len(left)} answers differ:\n{shown}"


@pytest.mark.long
def test_each_difference_that_is_argued_is_there(findings: list[Finding]) -> None:
    met = Counter(one.title for finding in findings if (one := explanation(finding)) is not None)
    assert not [one.title for one in DIFFERENCES if not met[one.title]], met


def test_the_document_argues_the_differences_that_the_comparison_takes() -> None:
    text = (ROOT / "docs" / "architecture" / "imap-differences.md").read_text(encoding="utf-8")
    titles = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert titles == [one.title for one in DIFFERENCES]


def test_an_order_names_the_fewest_that_stand_elsewhere() -> None:
    assert out_of_order([1, 2, 3, 4], [1, 2, 3, 4]) == []
    assert out_of_order([4, 1, 2, 3], [1, 2, 3, 4]) == [4]
    assert len(out_of_order([4, 3, 2, 1], [1, 2, 3, 4])) == 3


def test_a_server_answers_as_itself_and_within_the_grammar_whatever_the_mail() -> None:
    """All answers are read by the grammar alone, so that no message can break a session."""
    messages = [*by_hand(), *by_chance(10), *broken_by_chance(30), *thrown_together(30)]
    found: list[Finding] = []

    def first(port: int) -> None:
        def second(other: int) -> None:
            with (
                ImapTalk.log_in(port, USER, PASSWORD) as one,
                ImapTalk.log_in(other, USER, PASSWORD) as two,
            ):
                comparison = Comparison(one, lambda: two, messages)
                comparison.summaries()
                comparison.sections()
                comparison.binaries()
                comparison.orders()
                comparison.threads()
                found.extend(comparison.found)

        serve(second)

    serve(first)
    assert not found, "\n".join(str(one) for one in found[:SHOWN])
