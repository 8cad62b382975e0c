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

FACTS = {
    "When may an entry be acknowledged?": ("synced", "withheld", "`PROVING`", "`FAILED`"),
    "What does a full disk do?": ("half of R", "a follower", "a majority", "452"),
    "When does a replica serve a read?": ("read index", "0.3 s", "without a replica", "RETRY"),
    "Where would a new protocol go?": ("import rule", "`Session`", "node/config.py"),
    "Who may vote?": ("a learner", "removed", "`LOST_DISK`", "`FAILED`"),
    "Who may lead?": ("last resort", "`LOST_DISK`", "`FAILED`", "Only a voter"),
    "How does a delivery become a reply?": ("driver.py", "2 MiB", "552 5.2.2", "`SECURING`"),
    "What does a replica do that has just started?": ("`PROVING`", "follows", "`LOST_DISK`"),
    "Who enforces what a status allows?": ("`Proof.grants`", "`ResyncManager._unfit`"),
    "What happens to a damaged table?": ("`places`", "`meta`", "repair_of", "60 s"),
    "Where is a body, and what becomes of it?": ("`ARRIVED`", "`GONE`", "becomes"),
    "What are the phases of a resync?": ("`SURVEY`", "`WAITING`", "next"),
    "When is a request's outcome unknown?": ("in flight", "deadline", "no effect"),
    "What ends the process?": ("SIGTERM", "70", "ADR 1", "connection"),
    "Which files does a node keep, in which format?": (
        "`started.json`",
        "`replacing.json`",
        "index.closed.json",
        "3; 1 and 2 are read",
    ),
    "How do two nodes agree on one link?": ("PEER HELLO", "`STALE`", "`ALREADYEXISTS`"),
    "Which frames may others overtake?": ("`SYNC`", "`BODY`", "`BEATS`"),
    "How does a session hear of a change on another node?": ("WATCH", "`Missed`", "watchers.py"),
    "Where do the limits in bytes come from?": ("`mail.message_bytes_max`", "3 M"),
    "How is a replicated command added?": (
        "`mail/codec.py`",
        "`_DIGESTED`",
        "`SMALL`",
        "`REPLICATED`",
        "before all nodes have the release",
    ),
    "How is a call of operators added?": ("`CALLS`", "`Admin.of`", "recorded.json"),
    "How is a column of status added?": ("`ReplicaStatus`", "`_REPLICA_COLUMNS`", "default"),
    "Which test shows a guard?": ("| G8 |", "`ack-before-sync`", "G6 and G7"),
}
"""What a newcomer asks, and what the section that answers it has to say."""

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


def section_of(text: str, anchor: str) -> str:
    """The text below a heading, up to the next that is no deeper; "": the whole document."""
    if not anchor:
        return text
    found: list[str] = []
    depth = 0
    for line in text.split("\n"):
        level = len(line) - len(line.lstrip("#"))
        if depth and 0 < level <= depth:
            break
        if not depth and level and anchor in anchors_of(line):
            depth = level
        if depth:
            found.append(line)
    return "\n".join(found)


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
    assert not set(FACTS) - set(asked)


@pytest.mark.parametrize("question", FACTS)
def test_the_section_that_answers_says_what_has_to_be_known(question: str) -> None:
    rows = {row.question: row for row in rows_of(TOUR.read_text(encoding="utf-8"))}
    link = _LINK.fullmatch(rows[question].page)
    assert link is not None
    text = (TOUR.parent / link[1]).read_text(encoding="utf-8")
    section = section_of(text, link[2] or "")
    assert not [fact for fact in FACTS[question] if fact not in section]


def test_a_section_ends_where_the_next_begins() -> None:
    text = "# A\none\n## B c\ntwo\n### D\nthree\n## E\nfour\n"
    assert section_of(text, "b-c") == "## B c\ntwo\n### D\nthree"
    assert section_of(text, "gone") == "" and section_of(text, "") == text


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
