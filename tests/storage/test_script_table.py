"""The table of scripts: totals that are those of the rows, and a digest that follows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.storage.index import TABLES
from raftmail.storage.kv import scan
from raftmail.storage.records import IndexDamaged
from raftmail.storage.script_table import TABLE, ScriptTable, check, digested_rows
from tests.simulation.kv import MemoryEngine

LONG = "ä" * 256
_steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "a.b", "ab"]),
        st.sampled_from(["main", "m", LONG, LONG[:-1] + "xx"]),
        st.none() | st.binary(max_size=4),
    )
)


@given(_steps)
def test_scripts_are_kept_as_a_dictionary_keeps_them(
    steps: list[tuple[str, str, bytes | None]],
) -> None:
    engine, twin = MemoryEngine(TABLES), dict[str, dict[str, bytes]]()
    scripts = ScriptTable(engine)
    for user, name, script in steps:
        kept = twin.setdefault(user, {})
        if script is not None:
            scripts.put(user, name, script)
            kept[name] = script
        elif name in kept:
            scripts.delete(user, name)
            del kept[name]
    for user, kept in twin.items():
        assert scripts.of(user) == sorted(kept.items())
        totals = scripts.totals(user)
        assert (totals.rows, totals.size_bytes) == (len(kept), sum(map(len, kept.values())))
    assert list(check(engine)) == []
    assert len(list(digested_rows(engine))) == sum(map(bool, twin.values()))


def test_the_digest_does_not_know_in_which_order_scripts_came() -> None:
    engines = [MemoryEngine(TABLES) for _ in range(2)]
    tables = [ScriptTable(engine) for engine in engines]
    for name in ("one", "two"):
        tables[0].put("a", name, b"keep;")
    for name, script in (("two", b"stop;"), ("one", b"keep;"), ("two", b"keep;")):
        tables[1].put("a", name, script)
    assert list(digested_rows(engines[0])) == list(digested_rows(engines[1]))
    tables[1].activate("a", "two")
    assert list(digested_rows(engines[0])) != list(digested_rows(engines[1]))


def test_each_change_of_a_script_or_of_which_is_active_gives_another_version() -> None:
    scripts = ScriptTable(MemoryEngine(TABLES))
    seen = set()
    for name, script in (("one", b""), ("two", b""), ("two", b"keep;"), ("three", b"keep;")):
        scripts.put("a", name, script)
        seen.add(scripts.totals("a").version)
    scripts.activate("a", "one")
    seen.add(scripts.totals("a").version)
    scripts.activate("a", "two")
    seen.add(scripts.totals("a").version)
    assert len(seen) == 6


def test_who_has_no_scripts_any_more_is_as_who_never_had_one() -> None:
    engine = MemoryEngine(TABLES)
    scripts = ScriptTable(engine)
    scripts.put("a", "one", b"keep;")
    scripts.delete("a", "one")
    scripts.activate("b", "")
    scripts.put("c", LONG, b"keep;")
    scripts.forget_user("c")
    assert list(scan(engine.table(TABLE))) == []


def test_a_script_that_is_missing_is_damage_to_who_reads_them_all() -> None:
    engine = MemoryEngine(TABLES)
    scripts = ScriptTable(engine)
    for name in ("one", "two"):
        scripts.put("a", name, b"keep;")
    scripts.activate("a", "two")
    engine.table(TABLE).delete(b"a\0one")
    with pytest.raises(IndexDamaged, match="1 rows, and not 2"):
        scripts.of("a")
    scripts.activate("a", "three")
    with pytest.raises(IndexDamaged, match="1 rows, and not 2"):
        scripts.of("a")
