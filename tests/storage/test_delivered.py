"""The table of what was delivered (P9): exact, bounded, and forgetting by the order of the log
alone."""

from __future__ import annotations

import random

import pytest

from raftmail.storage.delivered import (
    FORGOTTEN_AT_ONCE_MAX,
    KEY_BYTES,
    STATE,
    Delivered,
    Place,
    check,
)
from raftmail.storage.index import TABLES
from raftmail.storage.kv import scan
from raftmail.storage.records import NUMBER, IndexDamaged, seal
from tests.simulation.kv import MemoryEngine

DAY_US = 86_400 * 1_000_000
WEEK_US = 7 * DAY_US


def key_of(text: str) -> bytes:
    return text.encode().ljust(KEY_BYTES, b".")


def place_of(number: int) -> Place:
    return (1, 1000, number, number + 1)


def small(engine: MemoryEngine, kept: int = 4, most: int = 20, each: int = 8) -> Delivered:
    return Delivered(engine, kept_min=kept, rows_max=most, user_rows_max=each)


def test_what_was_delivered_is_known_to_the_user_under_the_whole_key() -> None:
    table = Delivered(MemoryEngine(TABLES))
    table.add("a@x", key_of("one"), place_of(1), 5, WEEK_US)
    for _ in range(2):
        assert table.find("a@x", key_of("one")) == place_of(1)
        assert table.find("a@x", key_of("ona")) is None
        assert table.find("a@", key_of("one")) is None
        assert table.find("a@x\0", key_of("one")) is None
        assert table.find("a" * 1000, key_of("one")) is None
        table.flush()


def test_a_delivery_is_kept_for_its_time_and_then_forgotten() -> None:
    table = small(MemoryEngine(TABLES), kept=1)
    table.add("a", key_of("old"), place_of(1), 0, WEEK_US)
    table.add("a", key_of("new"), place_of(2), WEEK_US, WEEK_US)
    assert table.find("a", key_of("old")) == place_of(1)
    table.add("a", key_of("next"), place_of(3), WEEK_US + 1, WEEK_US)
    assert table.find("a", key_of("old")) is None
    assert table.find("a", key_of("new")) == place_of(2)


@pytest.mark.parametrize("years", [-40, 40])
def test_one_date_that_is_years_off_makes_few_be_forgotten_and_the_newest_never(years: int) -> None:
    table = small(MemoryEngine(TABLES), kept=4)
    for number in range(12):
        table.add("a" if number % 2 else "b", key_of(str(number)), place_of(number), 5, WEEK_US)
    table.add("c", key_of("absurd"), place_of(99), years * 365 * DAY_US, WEEK_US)
    assert len(table) == 13 - FORGOTTEN_AT_ONCE_MAX
    for number in range(30):
        table.forget_user("c")
        table.add("c", key_of("absurd"), place_of(number), years * 365 * DAY_US, WEEK_US)
    known = [n for n in range(12) if table.find("a" if n % 2 else "b", key_of(str(n)))]
    assert known == [9, 10, 11]


def test_dates_that_go_back_to_what_they_should_be_do_not_keep_anything_for_ever() -> None:
    table = small(MemoryEngine(TABLES), kept=2)
    table.add("a", key_of("from the future"), place_of(1), 400 * DAY_US, WEEK_US)
    for number in range(3):
        table.add("a", key_of(str(number)), place_of(number), number, WEEK_US)
    assert table.find("a", key_of("from the future")) is None


def test_a_user_and_a_shard_have_so_many_and_the_oldest_go_first() -> None:
    table = small(MemoryEngine(TABLES))
    for number in range(9):
        table.add("a", key_of(str(number)), place_of(number), 5, WEEK_US)
    assert [n for n in range(9) if table.find("a", key_of(str(n)))] == [2, 3, 4, 5, 6, 7, 8]
    for number in range(30):
        table.add(f"user{number}", key_of("x"), place_of(number), 5, WEEK_US)
        assert len(table) <= 20
    assert table.find("a", key_of("8")) is None
    assert table.find("user29", key_of("x")) == place_of(29)


def test_all_of_a_user_is_forgotten_and_nothing_of_others() -> None:
    engine = MemoryEngine(TABLES)
    table = Delivered(engine)
    for user in ("a", "ab", "b"):
        table.add(user, key_of("one"), place_of(1), 5, WEEK_US)
    table.forget_user("a")
    assert [table.find(user, key_of("one")) for user in ("a", "ab", "b")] == [
        None,
        place_of(1),
        place_of(1),
    ]
    table.flush()
    assert check(engine) == []


@pytest.mark.parametrize("seed", range(5))
def test_when_it_is_written_makes_no_difference(seed: int) -> None:
    """One table is flushed, committed, aborted and opened again at will, the other never: they know
    the same, forget the same, and have the same rows in the end."""
    rng = random.Random(seed)
    engine, calm_engine = MemoryEngine(TABLES), MemoryEngine(TABLES)
    table, calm = small(engine), small(calm_engine)
    for number in range(400):
        user, key = rng.choice("aaabcd"), key_of(str(rng.randint(0, 40)))
        place = table.find(user, key)
        assert place == calm.find(user, key)
        received = number * DAY_US + rng.choice([0, 0, 0, -50, 9000]) * DAY_US
        for one in (table, calm):
            if place is None:
                one.add(user, key, place_of(number), received, WEEK_US)
        if number % 50 == 49:
            for one in (table, calm):
                one.forget_user("c")
        if rng.random() < 0.3:
            table.flush()
            engine.commit(True)
            if rng.random() < 0.5:
                table = small(engine)
        assert len(table) == len(calm)
    table.flush()
    calm.flush()
    for name in ("deliveries", "delivered"):
        assert list(scan(engine.table(name))) == list(scan(calm_engine.table(name)))
    assert check(engine) == []


def _filled() -> MemoryEngine:
    engine = MemoryEngine(TABLES)
    table = Delivered(engine)
    for number in range(3):
        table.add("a", key_of(str(number)), place_of(number), 5, WEEK_US)
    table.flush()
    return engine


FILED = b"a\0" + key_of("1")


def test_damage_is_met_as_an_error_and_never_taken_for_a_delivery() -> None:
    engine = _filled()
    engine.table("delivered").put(FILED, seal(FILED, NUMBER.pack(3)))
    with pytest.raises(IndexDamaged, match="another delivery"):
        Delivered(engine).find("a", key_of("1"))
    engine.table("delivered").put(FILED, b"rotten")
    with pytest.raises(IndexDamaged, match="delivered"):
        Delivered(engine).find("a", key_of("1"))
    engine.table("deliveries").delete(NUMBER.pack(1))
    with pytest.raises(IndexDamaged, match="deliveries"):
        Delivered(engine).find("a", key_of("0"))
    engine.table("deliveries").put(STATE, seal(STATE, b"\x93\x01\x02\x03"))
    with pytest.raises(IndexDamaged, match="deliveries"):
        Delivered(engine)


@pytest.mark.parametrize(
    ("table", "key", "record", "words"),
    [
        ("deliveries", NUMBER.pack(2), None, "leads to no delivery"),
        ("delivered", FILED, None, "no key leads to it"),
        ("delivered", FILED, seal(FILED, NUMBER.pack(3)), "no key leads to it"),
        ("delivered", b"z\0" + bytes(32), b"", "checksum"),
        ("deliveries", NUMBER.pack(9), b"", "checksum"),
        ("deliveries", STATE, None, "tells of 0 deliveries"),
    ],
)
def test_fsck_finds_what_is_wrong(table: str, key: bytes, record: bytes | None, words: str) -> None:
    engine = _filled()
    assert check(engine) == []
    if record is None:
        engine.table(table).delete(key)
    else:
        engine.table(table).put(key, record)
    assert any(words in str(problem) for problem in check(engine))
