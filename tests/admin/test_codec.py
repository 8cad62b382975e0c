"""Dataclasses to JSON and back: what is ignored, and what is refused by the name of the field."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from raftmail.admin.api.between_nodes import NodeObservation, WholeState
from raftmail.admin.api.codec import BadAnswer, decode, encode
from raftmail.admin.api.status import ClusterStatus, DiskStatus
from tests.admin.test_calls import RECORDED

STATUS = RECORDED["a status of a cluster in trouble"]["answer"]
DISK = {
    "slow": False,
    "sync_p50_ms": 1,
    "sync_p99_ms": 2.5,
    "sync_last_ms": 0.0,
    "sync_under_way_ms": 0.0,
}


def test_a_field_of_a_later_release_is_ignored_at_every_depth() -> None:
    newer = copy.deepcopy(STATUS)
    newer["new"] = {"x": [1]}
    newer["nodes"][0]["disk"]["new"] = 1
    newer["shards"][0]["replicas"][0]["scrub"]["new"] = None
    assert decode(ClusterStatus, newer) == decode(ClusterStatus, STATUS)


def test_a_field_that_an_earlier_release_does_not_know_has_its_default() -> None:
    older = copy.deepcopy(STATUS)
    del older["alarms"], older["shards"][0]["replicas"][0]["files"]
    found = decode(ClusterStatus, older)
    assert found.alarms == () and found.shards[0].replicas[0].opened is not None


def _missing_disk(status: Any) -> None:
    del status["nodes"][0]["disk"]


def _missing_term(status: Any) -> None:
    del status["shards"][1]["replicas"][0]["term"]


def _text_for_a_number(status: Any) -> None:
    status["shards"][1]["term"] = "4"


def _number_for_a_truth(status: Any) -> None:
    status["nodes"][1]["up"] = 1


def _truth_for_a_number(status: Any) -> None:
    status["shards"][0]["replicas"][0]["requests"] = True


def _object_for_an_array(status: Any) -> None:
    status["alarms"] = {}


def _null_for_text(status: Any) -> None:
    status["asked"] = None


def _wrong_link(status: Any) -> None:
    status["nodes"][0]["links"]["n2"] = "up"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_missing_disk, "nodes.0.disk: is missing"),
        (_missing_term, "shards.1.replicas.0.term: is missing"),
        (_text_for_a_number, "shards.1.term: a whole number is expected, not '4'"),
        (_number_for_a_truth, "nodes.1.up: true or false is expected, not 1"),
        (_truth_for_a_number, "shards.0.replicas.0.requests: a whole number is expected, not True"),
        (_object_for_an_array, "alarms: an array is expected, not {}"),
        (_null_for_text, "asked: text is expected, not None"),
        (_wrong_link, "nodes.0.links.n2: true or false is expected, not 'up'"),
    ],
)
def test_what_is_missing_or_of_another_type_is_named_by_its_path(
    spoil: Callable[[Any], None], said: str
) -> None:
    status = copy.deepcopy(STATUS)
    spoil(status)
    with pytest.raises(BadAnswer) as error:
        decode(ClusterStatus, status)
    assert str(error.value) == said


@pytest.mark.parametrize("value", [None, [], "x", 1, True])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(BadAnswer, match="an object is expected"):
        decode(ClusterStatus, value)


def test_a_whole_number_stands_where_a_number_may() -> None:
    assert json.dumps(encode(decode(DiskStatus, DISK))) == json.dumps(DISK)


@pytest.mark.parametrize("key", ["x", "-1", "", "1.0", "9" * 20])
def test_a_shard_that_is_no_number_is_refused(key: str) -> None:
    with pytest.raises(BadAnswer, match="commands: the key"):
        decode(NodeObservation, {"revision": 1, "shards": {}, "commands": {key: {}}})


def test_bytes_pass_between_nodes_and_are_no_text() -> None:
    assert encode(decode(WholeState, {"state": b"x"})) == {"state": b"x"}
    with pytest.raises(BadAnswer, match="state: bytes"):
        decode(WholeState, {"state": "x"})


def test_what_has_no_form_in_json_is_not_written() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: object

    with pytest.raises(TypeError, match="set has no form in JSON"):
        encode(Odd({1}))
