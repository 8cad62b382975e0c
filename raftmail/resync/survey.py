"""Finding and fetching what differs in a table, by digests over ever smaller ranges of its rows.

The functions are tasks: generators that yield a `SurveyRequest` and are given its answer, or yield
`WORKED` after a bounded piece of work on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from raftmail.mail.packing import CodecError
from raftmail.resync import requests as r
from raftmail.resync.ranges import Range, differing, joined
from raftmail.resync.requests import RANGES_MAX, RequestKind
from raftmail.storage.kv import Row, Table

LEVELS = (256, 16, 1)
"""Rows in a piece: first coarse, at last single rows."""

_RANGES_HELD_MAX = 20_000
"""Ranges that differ; with more it is no use to look closer."""


@dataclass(frozen=True, slots=True, repr=False)
class SurveyRequest:
    """What to ask the source."""

    kind: RequestKind
    payload: bytes
    decode: Callable[[bytes], Any]
    weight_bytes: int = 0
    """How large the answer may be beyond what answers usually are."""


class Pause(Enum):
    """What a task yields that asks nothing."""

    WORKED = 1  # some rows were looked at or written: others may run
    BLOCKED = 2  # it waits for other tasks


WORKED, BLOCKED = Pause.WORKED, Pause.BLOCKED

Task: TypeAlias = Generator[SurveyRequest | Pause, Any, None]
Step: TypeAlias = Generator[SurveyRequest | Pause, Any, Any]


class NotAsAsked(CodecError):
    """An answer has what was not asked for."""


def survey(
    table: Table,
    name: str,
    ranges: Sequence[Range],
    found: list[Range],
    levels: Sequence[int] = LEVELS,
) -> Task:
    """Put the ranges in which the table differs from the source's into `found`, in order."""
    direct: list[Range] = []
    for rows in levels:
        closer: list[Range] = []
        ranges = joined(ranges)
        for at in range(0, len(ranges), RANGES_MAX):
            yield from _look(table, name, rows, ranges[at : at + RANGES_MAX], closer, direct)
        ranges = closer
        if len(ranges) > _RANGES_HELD_MAX:
            break
    found.extend(joined([*ranges, *direct]))


def _look(
    table: Table,
    name: str,
    rows: int,
    ranges: Sequence[Range],
    closer: list[Range],
    direct: list[Range],
) -> Step:
    todo = list(ranges)
    while todo:
        payload = r.encode_cut(r.Cut(name, rows, tuple(todo)))
        answer: r.Pieces = yield SurveyRequest(RequestKind.CUT, payload, r.decode_pieces)
        _check_rest(todo, answer.whole, answer.at)
        by_range: dict[int, list[tuple[bytes, bytes]]] = {}
        for number, end, digest in answer.pieces:
            by_range.setdefault(number, []).append((end, digest))
        served = answer.whole + bool(answer.at)
        if list(by_range) != list(range(served)):
            raise NotAsAsked("digests are of other ranges than were asked for")
        for number, pieces in by_range.items():
            start, end = todo[number]
            _check_pieces(start, end if number < answer.whole else answer.at, pieces)
            unlike, absent, _ = differing(table, start, pieces, rows * 16)
            closer += unlike
            direct += absent
        yield WORKED
        todo = _rest(todo, answer.whole, answer.at)


def _check_pieces(start: bytes, last: bytes, pieces: Sequence[tuple[bytes, bytes]]) -> None:
    for end, _ in pieces[:-1]:
        if not end or end <= start:
            raise NotAsAsked("digests of a range do not follow each other")
        start = end
    end = pieces[-1][0]
    if end != last or (end and end <= start):
        raise NotAsAsked("digests do not cover the range that was asked for")


def _check_rest(todo: Sequence[Range], whole: int, at: bytes) -> None:
    """An answer must get on, and go on where it ended."""
    if whole > len(todo) or (whole == len(todo) and at) or (not whole and not at):
        raise NotAsAsked("an answer ends where none can")
    if at:
        start, end = todo[whole]
        if at <= start or (end and at >= end):
            raise NotAsAsked("an answer goes on outside the range that was asked for")


def _rest(todo: list[Range], whole: int, at: bytes) -> list[Range]:
    rest = todo[whole:]
    if at:
        rest[0] = (at, rest[0][1])
    return rest


def fetch(
    name: str, ranges: Sequence[Range], take: Callable[[Sequence[Range], Sequence[Row]], Step]
) -> Task:
    """Fetch the rows of ranges; `take` is given what was covered, and its rows."""
    for first in range(0, len(ranges), RANGES_MAX):
        todo = list(ranges[first : first + RANGES_MAX])
        while todo:
            payload = r.encode_fetch(r.Fetch(name, tuple(todo)))
            answer: r.Rows = yield SurveyRequest(RequestKind.ROWS, payload, r.decode_rows)
            _check_rest(todo, answer.whole, answer.at)
            covered = todo[: answer.whole]
            if answer.at:
                covered.append((todo[answer.whole][0], answer.at))
            _check_rows(covered, answer.rows)
            yield from take(covered, answer.rows)
            todo = _rest(todo, answer.whole, answer.at)


def _check_rows(covered: Sequence[Range], rows: Sequence[Row]) -> None:
    at = 0
    before = b""
    for key, _ in rows:
        if key <= before and before:
            raise NotAsAsked("rows are not in their order")
        before = key
        while at < len(covered) and covered[at][1] and key >= covered[at][1]:
            at += 1
        if at == len(covered) or key < covered[at][0]:
            raise NotAsAsked("a row was not asked for")
