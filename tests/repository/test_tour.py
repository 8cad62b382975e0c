"""The tour answers what a newcomer asks: from README.md within two clicks, and down to the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.repository.source_tree import ROOT

TOUR = ROOT / "docs" / "architecture" / "README.md"

QUESTIONS = (
    "When may an entry be acknowledged?",
    "What does a full disk do?",
    "When does a replica serve a read?",
    "Where would a new protocol go?",
    "Who may vote?",
    "How does a delivery become a reply?",
)

ANSWER_WORDS_MAX = 25

_HEAD = "| question | answer | page | code |"
_LINK = re.compile(r"\[[^\]]+\]\(([^)#]*)(?:#([^)]+))?\)")
_CODE = re.compile(r"`([\w/]+\.py)::([\w.]+)`")


@dataclass(frozen=True)
class Row:
    """A question of the tour, its answer, and where more about it is."""

    question: str
    answer: str
    page: str
    code: str


def rows_of(text: str) -> list[Row]:
    """The rows of the table of questions."""
    lines = text.partition(_HEAD)[2].split("\n")[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(Row(*(cell.strip() for cell in line.strip("|").split("|"))))
    return rows


def anchors_of(text: str) -> set[str]:
    """The anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def defined_in(text: str) -> set[str]:
    """The names that a module defines, methods as `Class.method`."""

    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{node.name}.")

    return set(names(ast.parse(text).body, ""))


def faults_of(row: Row, tour: Path) -> list[str]:
    """What is wrong with a row: its answer, the section that it links to, or the code it names."""
    found = []
    if not 0 < len(row.answer.split()) <= ANSWER_WORDS_MAX:
        found.append(f"the answer has {len(row.answer.split())} words")
    link = _LINK.fullmatch(row.page)
    page = None if link is None else (tour.parent / link[1] if link[1] else tour)
    if link is None or page is None or not page.is_file():
        found.append(f"no such page: {row.page}")
    elif link[2] and link[2] not in anchors_of(page.read_text(encoding="utf-8")):
        found.append(f"no such section: {row.page}")
    code = _CODE.fullmatch(row.code)
    if code is None or not (ROOT / code[1]).is_file():
        found.append(f"no such file: {row.code}")
    elif code[2] not in defined_in((ROOT / code[1]).read_text(encoding="utf-8")):
        found.append(f"no such name: {row.code}")
    return found


def test_the_tour_is_one_click_from_the_readme_and_answers_every_question() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/architecture/README.md" in [link[0] for link in _LINK.findall(readme)]
    asked = [row.question for row in rows_of(TOUR.read_text(encoding="utf-8"))]
    assert not set(QUESTIONS) - set(asked)


@pytest.mark.parametrize(
    "row", rows_of(TOUR.read_text(encoding="utf-8")), ids=lambda row: row.question
)
def test_each_answer_is_short_and_leads_to_its_section_and_its_code(row: Row) -> None:
    assert not faults_of(row, TOUR)


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("[gone](gone.md)", "`raftmail/shard/status.py::Condition`"),
        ("[cluster](cluster.md#no-such-section)", "`raftmail/shard/status.py::Condition`"),
        ("[cluster](cluster.md)", "`raftmail/shard/gone.py::Condition`"),
        ("[cluster](cluster.md)", "`raftmail/shard/status.py::Condition.gone`"),
    ],
)
def test_an_answer_that_leads_nowhere_is_found(page: str, code: str) -> None:
    assert len(faults_of(Row("Who?", "Nobody.", page, code), TOUR)) == 1


def test_an_answer_without_end_is_found() -> None:
    good = Row("Who?", "Nobody.", "[here](#rooms)", "`raftmail/shard/status.py::Condition`")
    assert not faults_of(good, TOUR)
    long = Row("Who?", "word " * 26, good.page, good.code)
    assert faults_of(long, TOUR) == ["the answer has 26 words"]
