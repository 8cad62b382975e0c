"""No entry can stop a shard (P10), and none means something else on another machine: whatever was
committed, applying it gives a result, the same by the same rules everywhere."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.mail import commands as c
from raftmail.mail.codec import ENTRY_HEAD, encode_entry, encode_request
from raftmail.mail.packing import pack, unpack
from raftmail.mail.results import Done
from raftmail.shard.machine import Machine
from raftmail.storage.check import check
from tests.mail import values
from tests.shard.machines import Feeder, message, new_machine, rows_of, save

_numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1), st.integers(-2, 3), st.sampled_from([2**31, 2**32, 2**63 - 1])
)
_leaves = st.one_of(
    st.none(), st.booleans(), _numbers, st.floats(), st.binary(max_size=33), st.text(max_size=8),
    st.sampled_from(["INBOX", "ınbox", "a", "x/y", "", "\u200b", "\u2028", "K\u0308"]),
)  # fmt: skip
_anything = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=20,
)


def _mutated(raw: Any, data: st.DataObject) -> Any:
    """A value with something in it changed, left away, or put in."""
    if isinstance(raw, list | tuple) and raw and data.draw(st.booleans()):
        made = list(raw)
        at = data.draw(st.integers(0, len(made) - 1))
        what = data.draw(st.integers(0, 3))
        if what == 0:
            del made[at]
        elif what == 1:
            made.insert(at, data.draw(_anything))
        else:
            made[at] = _mutated(made[at], data)
        return made
    return data.draw(_anything)


def _machine() -> Machine:
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(c.CreateMailbox("a", "x/y", 5, bytes(16)))
    feeder.do(save(message("one", flags=("k",)), message("two")))
    feeder.do(c.PutUser("a@x.org", "hash"))
    return machine


def _apply_to_two(payload: bytes) -> None:
    one, other = _machine(), _machine()
    results = [m.apply(m.applied_index + 1, 1, payload) for m in (one, other)]
    assert results[0] == results[1]
    one.commit()
    assert rows_of(one) == rows_of(other)
    assert not check(one.index.engine), "and nothing in the index is out of joint"
    feeder = Feeder(one)
    feeder.seq = 100
    assert feeder.do(c.Subscribe("a", "z", True)) == Done(), "it goes on"


@settings(max_examples=25, deadline=None)
@given(
    st.binary(max_size=80)
    | st.builds(lambda b: ENTRY_HEAD.pack(1, 1, 0, 1) + b, st.binary(max_size=80))
)
def test_no_bytes_stop_a_machine(payload: bytes) -> None:
    _apply_to_two(payload)


@settings(max_examples=50, deadline=None)
@given(values.commands, st.data())
def test_no_request_that_is_altered_stops_a_machine(
    command: c.Command, data: st.DataObject
) -> None:
    raw = list(unpack(encode_request(b"another client 1", 5, 2, command)))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(3, len(raw) - 1))
        raw[at] = _mutated(raw[at], data)
    _apply_to_two(encode_entry([pack(raw)], [bytes(32)]))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 20), st.lists(_anything, max_size=9))
def test_no_fields_of_any_kind_stop_a_machine(kind: int, fields: list[Any]) -> None:
    _apply_to_two(encode_entry([pack([b"another client 1", 5, 2, kind, *fields])], [bytes(32)]))


def _fails(*_: object, **__: object) -> Any:
    raise AssertionError("the apply asks Python's tables of Unicode")


@pytest.mark.parametrize("name", ["normalize", "category", "name", "bidirectional", "combining"])
def test_the_apply_asks_no_table_of_unicode(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as poisoned:
        poisoned.setattr(unicodedata, name, _fails)
        _apply_names()


def _apply_names() -> None:
    feeder = Feeder(new_machine())
    user = "jörg@x.org"
    feeder.do(c.PutUser(user, "hash"))
    feeder.do(c.CreateMailbox(user, "Ärger/A\u030a", 5, bytes(16)))
    feeder.do(c.RenameMailbox(user, "Ärger", "ınbox", 5, bytes(16)))
    assert feeder.refused(c.CreateMailbox(user, "a\u2028b", 5, bytes(16))) == "BAD"
    assert feeder.refused(c.DeleteMailbox(user, "\U0001fae8")) == "NONEXISTENT"
    feeder.do(c.Configure((("alias/jörg@x.org", '{"to":["ä@x.org"]}'.encode()),)))


_TABLES = re.compile(
    r"\.(casefold|isalnum|isalpha|isprintable|isspace|isupper|islower|istitle"
    r"|isidentifier|isnumeric|title|swapcase)\(|!r\}|repr\("
)


def test_what_is_applied_uses_no_methods_that_ask_tables_of_unicode() -> None:
    """A rule for the source: results are compared between replicas, and so is the text in them."""
    import raftmail.mail
    import raftmail.shard

    rooms = {
        raftmail.mail: (
            "limits",
            "flags",
            "codec",
            "names",
            "new_accounts",
            "record_rules",
            "commands",
        ),
        raftmail.shard: (
            "state",
            "configuration",
            "mailboxes",
            "save",
            "store",
            "copy_move",
            "machine",
        ),
    }
    found = []
    for room, names in rooms.items():
        for name in names:
            path = f"{room.__path__[0]}/{name}.py"
            with open(path) as source:
                found += [f"{path}: {line.strip()}" for line in source if _TABLES.search(line)]
    assert not found
