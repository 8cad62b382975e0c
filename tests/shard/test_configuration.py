"""The root's records: written all or none, told by what changed, alike on every replica."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.commands import Configure, PutUser
from raftmail.shard import configuration
from raftmail.shard.machine import Machine
from raftmail.storage.check import check
from raftmail.storage.config_table import ConfigTable
from tests.shard.machines import Feeder, new_machine, rows_of


def _ask(machine: Machine, since: int = 0, floor: int = 0) -> q.Configuration:
    answer = machine.query(q.GetConfiguration(since, floor))
    assert isinstance(answer, q.Configuration)
    return answer


def test_a_revision_is_given_to_everything_that_a_command_writes() -> None:
    feeder = Feeder(new_machine())
    assert feeder.do(Configure((("a", b"1"), ("b", b"2")))) == r.Configured(1)
    assert feeder.do(Configure((("b", b"3"),))) == r.Configured(2)
    assert _ask(feeder.machine) == q.Configuration(
        2, (("a", 1, b"1"), ("b", 2, b"3")), whole=True, floor=0, more=False
    )
    assert _ask(feeder.machine, since=1).records == (("b", 2, b"3"),)
    assert _ask(feeder.machine, since=2).records == ()


def test_a_record_that_somebody_else_changed_refuses_the_whole_command() -> None:
    feeder = Feeder(new_machine())
    feeder.do(Configure((("a", b"1"),), (("a", 0),)))
    before = rows_of(feeder.machine)["config"]
    for expected in ((("a", 0),), (("a", 2),), (("b", 1),), (("b", 0), ("a", 0))):
        assert feeder.refused(Configure((("c", b"x"), ("a", b"y")), expected)) == "CONFLICT"
    assert rows_of(feeder.machine)["config"] == before
    assert feeder.do(Configure((("a", b"2"),), (("a", 1), ("b", 0)))) == r.Configured(2)


def test_a_record_that_was_taken_away_is_told_and_counts_as_absent() -> None:
    feeder = Feeder(new_machine())
    feeder.do(Configure((("a", b"1"),)))
    feeder.do(Configure((("a", None),)))
    assert _ask(feeder.machine, since=1).records == (("a", 2, None),)
    assert feeder.do(Configure((("a", b"2"),), (("a", 0),))) == r.Configured(3)


def test_many_records_come_in_pages_of_whole_revisions() -> None:
    feeder = Feeder(new_machine())
    value = bytes(configuration.PAGE_BYTES_MAX // 8)
    for number in range(30):
        feeder.do(Configure(((f"a{number}", value), (f"b{number}", value))))
    page = _ask(feeder.machine)
    found = list(page.records)
    assert page.whole and page.more and len(found) == 8
    while page.more:
        page = _ask(feeder.machine, page.revision, page.floor)
        assert not page.whole
        found += page.records
    assert [record[1] for record in found] == [1 + n // 2 for n in range(60)]
    assert page.revision == 30


_steps = st.lists(
    st.dictionaries(
        st.sampled_from("abcdef"), st.none() | st.sampled_from([b"x", b"y"]), min_size=1
    ),
    max_size=25,
)


@given(_steps, st.lists(st.integers(0, 30), max_size=25))
def test_who_follows_the_changes_has_what_the_table_has(
    steps: list[dict[str, bytes | None]], looks: list[int]
) -> None:
    machine = new_machine()
    index = machine.index
    index.config = ConfigTable(index.engine.table("config"), tombstones_max=2)
    twin: dict[str, bytes] = {}
    followed: dict[str, bytes] = {}
    since = floor = 0
    for number, step in enumerate(steps):
        index.config.put(tuple(step.items()))
        for key, value in step.items():
            if value is None:
                twin.pop(key, None)
            else:
                twin[key] = value
        assert check(index) == []
        if number in looks or number == len(steps) - 1:
            answer = _ask(machine, since, floor)
            if answer.whole:
                followed.clear()
            for key, _, told in answer.records:
                if told is None:
                    followed.pop(key, None)
                else:
                    followed[key] = told
            since, floor = answer.revision, answer.floor
            assert followed == twin
    assert {key: index.config.get(key)[1] for key in "abcdef" if key in twin} == twin


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shard/abc", b"junk"),
        ("shard/1", b'{"next_id":2,"replicas":[],"replication":3}'),
        ("shard/0", None),
        ("pool/main", None),
        ("cluster", None),
        ("cluster/x", b'{"id":"a","replication":3}'),
        ("node/n9", b'{"peer":"garbage"}'),
        ("node/n9", b'{"peer":"a:1","client":"http://a:1"}'),
        ("node/n9", b'{"peer":"a:1","capacity":0}'),
        ("node/n9", b'{"peer":"a:1","capacity":99999999999999999999}'),
        ("node/n9", b'{"peer":"a:1","joined_s":9223372036854775807}'),
        ("node/n9", b'{"peer":"a:1","zone":"a\\u200bb"}'),
        ("node/n9", b'{"peer":"a:1","x":NaN}'),
        ("node/n9", b'{"peer":"a:1","peer":"b:1"}'),
        ("node/n9", b'{"peer":"a:1","x":"\\ud800"}'),
        ("node/n9", b'{"peer":"a:1","x":' + b"[" * 5000),
        ("node/N9", b'{"peer":"a:1"}'),
        ("alias/anna@x.org", b'{"to":[]}'),
        ("alias/anna@x.org", b'{"to":["b@x.org","b@x.org"]}'),
        ("alias/anna@x.org", b'{"to":["B@x.org"]}'),
        ("quota/anna@x.org", b'{"bytes_max":-1}'),
        ("user-shard/anna@x.org", b'{"shard":0}'),
        ("invite/" + "0" * 32, b'{"bundle":"AA==","expires_s":1,"name":"n9","peer":"garbage"}'),
    ],
)
def test_a_record_that_no_node_could_use_refuses_the_whole_command(
    key: str, value: bytes | None
) -> None:
    feeder = Feeder(new_machine())
    before = rows_of(feeder.machine)["config"]
    assert (
        feeder.refused(Configure((("alias/a@x.org", b'{"to":["b@x.org"]}'), (key, value)))) == "BAD"
    )
    assert rows_of(feeder.machine)["config"] == before


@pytest.mark.parametrize(
    "now", [b'{"pool":"p","state":"pinning"}', b'{"pool":"p","state":"spreading"}']
)
def test_no_users_are_made_in_a_domain_whose_rule_is_being_changed(now: bytes) -> None:
    feeder = Feeder(new_machine())
    assert feeder.do(PutUser("old@x.org", "hash")) == r.Done()
    feeder.do(Configure((("rule/x.org", now),)))
    assert feeder.refused(PutUser("new@x.org", "hash")) == "CANNOT"
    assert feeder.do(PutUser("old@x.org", "other", replace=True)) == r.Done()
    assert feeder.do(PutUser("new@y.org", "hash")) == r.Done()
    for done in (b'{"pool":"p"}', b'{"pool":"p","state":"active"}', None):
        feeder.do(Configure((("rule/x.org", done),)))
        assert feeder.do(PutUser(f"{len(done or b'')}@x.org", "hash")) == r.Done()


def test_the_configuration_is_in_the_digest() -> None:
    one, other = Feeder(new_machine()), Feeder(new_machine())
    one.do(Configure((("a", b"1"),)))
    other.do(Configure((("a", b"2"),)))
    assert one.machine.index.digest() != other.machine.index.digest()
