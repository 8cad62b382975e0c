"""Profiles: their names, and the cuts that they make."""

from __future__ import annotations

import random

import pytest

from raftmail_chaos import commands, profiles
from raftmail_chaos.profiles import CUTS, cut_of, pace_of, parse


def test_the_help_names_every_profile() -> None:
    assert tuple(commands.PROFILES.split(", ")) == profiles.NAMES


def test_profiles_combine_each_once() -> None:
    names = [profile.name for profile in parse("pause, kill-masters,pause")]
    assert names == ["pause", "kill-masters"]


def test_everything_is_all_of_them_and_each_is_rarer() -> None:
    assert [p.name for p in parse("pause,everything")] == list(profiles.PROFILES)
    assert pace_of(parse("everything"), 3.0).stretch > pace_of(parse("pause"), 3.0).stretch


@pytest.mark.parametrize("text", ["", ",", "kill", "pause,flood"])
def test_what_is_no_profile_is_refused_and_the_profiles_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="there are kill-masters"):
        parse(text)


@pytest.mark.parametrize("nodes", [3, 4, 5])
@pytest.mark.parametrize("kind", CUTS)
@pytest.mark.parametrize("seed", range(5))
def test_a_cut_cuts_something_and_not_everything(kind: str, nodes: int, seed: int) -> None:
    names = [f"n{at}" for at in range(nodes)]
    _, _, ways = cut_of(kind, names, names[1], random.Random(seed))
    assert 0 < len(set(ways)) < nodes * (nodes - 1)
    assert all(i != j for i, j in ways)


def test_a_ring_of_three_is_a_chain() -> None:
    target, _, ways = cut_of("ring", ["a", "b", "c"], None, random.Random(1))
    first, _, last = target.split("-")
    assert set(ways) == {(first, last), (last, first)}


def test_the_master_alone_is_cut_off_both_ways() -> None:
    target, _, ways = cut_of("the master", ["a", "b", "c"], "b", random.Random(1))
    assert target == "b"
    assert set(ways) == {("a", "b"), ("b", "a"), ("c", "b"), ("b", "c")}


def test_a_one_way_cut_leaves_the_other_way() -> None:
    _, _, ways = cut_of("one-way", ["a", "b", "c"], None, random.Random(1))
    assert all((j, i) not in ways for i, j in ways)
