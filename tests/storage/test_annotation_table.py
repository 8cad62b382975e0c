"""The table of annotations: totals that are those of the rows, and a digest that follows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.storage.annotation_table import TABLE, Annotations, check, digested_rows
from raftmail.storage.index import TABLES
from raftmail.storage.kv import scan
from raftmail.storage.records import IndexDamaged
from tests.simulation.kv import MemoryEngine

_names = st.sampled_from(["/private/a", "/private/a/b", "/shared/c"])
_entries = st.dictionaries(_names, st.none() | st.binary(max_size=4), min_size=1)
_steps = st.lists(st.tuples(st.sampled_from(["a", "a.b", "ab"]), _entries))


def _put(engine: MemoryEngine, user: str, values: Mapping[str, bytes | None]) -> None:
    Annotations(engine).put(user, 0, tuple(values.items()))


@given(_steps)
def test_annotations_are_kept_as_a_dictionary_keeps_them(
    steps: list[tuple[str, dict[str, bytes | None]]],
) -> None:
    engine, twin = MemoryEngine(TABLES), dict[str, dict[str, bytes]]()
    annotations = Annotations(engine)
    for user, values in steps:
        annotations.put(user, 0, tuple(values.items()))
        kept = twin.setdefault(user, {})
        for name, value in values.items():
            kept.pop(name, None)
            if value is not None:
                kept[name] = value
    for user, kept in twin.items():
        assert annotations.of(user, 0) == dict(sorted(kept.items()))
        assert annotations.of_all(user) == [(0, *entry) for entry in sorted(kept.items())]
        totals = annotations.totals(user)
        assert totals.rows == len(kept)
        assert totals.bytes == sum(len(name) + len(value) for name, value in kept.items())
    assert list(check(engine)) == []
    assert len(list(digested_rows(engine))) == sum(map(bool, twin.values()))


def test_the_digest_does_not_know_in_which_order_rows_came() -> None:
    engines = [MemoryEngine(TABLES) for _ in range(2)]
    _put(engines[0], "a", {"/private/a": b"1", "/private/b": b"2"})
    for values in ({"/private/b": b"0"}, {"/private/b": b"2"}, {"/private/a": b"1"}):
        _put(engines[1], "a", values)
    assert list(digested_rows(engines[0])) == list(digested_rows(engines[1]))
    _put(engines[1], "a", {"/private/a": b"3"})
    assert list(digested_rows(engines[0])) != list(digested_rows(engines[1]))


def test_who_has_none_any_more_is_as_who_never_had_one() -> None:
    engine = MemoryEngine(TABLES)
    _put(engine, "a", {"/private/a": b"1"})
    _put(engine, "a", {"/private/a": None})
    _put(engine, "b", {"/private/a": None})
    assert list(scan(engine.table(TABLE))) == []


def test_a_row_that_is_missing_is_damage_to_who_lists_them_all() -> None:
    engine = MemoryEngine(TABLES)
    _put(engine, "a", {"/private/a": b"1", "/private/b": b"2"})
    (_, (key, _), _) = scan(engine.table(TABLE))
    engine.table(TABLE).delete(key)
    with pytest.raises(IndexDamaged, match="1 rows, and not 2"):
        Annotations(engine).of_all("a")
