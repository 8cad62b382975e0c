"""A membership as a value: what it refuses to be, what may follow it, and its bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.consensus.membership import (
    ID_MAX,
    LEARNERS_MAX,
    VOTERS_MAX,
    BadMembership,
    Membership,
)
from tests.consensus.memberships import ids_of, with_learner

THREE = Membership.founding({1: "n1", 2: "n2", 3: "n3"})


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    ids = draw(st.lists(st.integers(1, ID_MAX), min_size=1, max_size=12, unique=True))
    names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
    nodes = {replica: draw(names) for replica in ids}
    voters = draw(st.integers(1, len(ids)))
    return Membership(
        {i: nodes[i] for i in ids[:voters]},
        {i: nodes[i] for i in ids[voters:]},
        draw(st.integers(max(ids) + 1, ID_MAX + 1)),
    )


@given(memberships())
def test_a_membership_is_what_its_bytes_say(membership: Membership) -> None:
    decoded = Membership.decode(membership.encode())
    assert decoded == membership
    assert decoded.encode() == membership.encode()


def test_the_bytes_do_not_depend_on_the_order_of_the_mappings() -> None:
    other = Membership({3: "n3", 1: "n1", 2: "n2"}, {}, 4)
    assert other == THREE
    assert other.encode() == THREE.encode()


@given(memberships(), st.data())
def test_bytes_that_were_changed_are_no_membership_or_another(
    membership: Membership, data: st.DataObject
) -> None:
    raw = bytearray(membership.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert Membership.decode(bytes(raw)) != membership
    except BadMembership:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x01", b"\x02" + THREE.encode()[1:], THREE.encode() + b"\0", THREE.encode()[:-1],
        b"\x01\xc0",
    ],
)  # fmt: skip
def test_what_is_no_membership_is_refused(data: bytes) -> None:
    with pytest.raises(BadMembership):
        Membership.decode(data)


@pytest.mark.parametrize(
    ("voters", "learners", "next_id", "why"),
    [
        ({}, {1: "n1"}, 2, "at least one voter"),
        ({1: "n1"}, {1: "n1"}, 2, "both voter and learner"),
        ({1: "n1", 2: "n2"}, {}, 2, "below next_id"),
        ({0: "n1"}, {}, 2, "must be from 1"),
        ({1: "N 1"}, {}, 2, "no name of a node"),
        ({1: ""}, {}, 2, "no name of a node"),
        ({1: "n1"}, {}, ID_MAX + 2, "next_id must be"),
        (dict.fromkeys(range(1, VOTERS_MAX + 2), "n"), {}, 99, "at most"),
        ({1: "n"}, dict.fromkeys(range(2, LEARNERS_MAX + 3), "n"), 99, "at most"),
    ],
)
def test_what_no_group_can_have_is_refused(
    voters: dict[int, str], learners: dict[int, str], next_id: int, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        Membership(voters, learners, next_id)


def test_a_replica_joins_as_a_learner_becomes_a_voter_and_goes() -> None:
    joined, replica = with_learner(THREE, "n4")
    assert replica == 4
    assert joined == Membership(THREE.voters, {4: "n4"}, 5)
    promoted = joined.promoted(4)
    assert promoted == Membership({**THREE.voters, 4: "n4"}, {}, 5)
    assert promoted.without(2) == Membership({1: "n1", 3: "n3", 4: "n4"}, {}, 5)


def test_an_id_is_never_given_twice() -> None:
    joined, replica = with_learner(THREE, "n4")
    _, next_replica = with_learner(joined.without(replica), "n4")
    assert next_replica == replica + 1


def test_an_id_may_be_chosen_by_who_gives_them_out() -> None:
    joined, replica = with_learner(THREE, "n4", 9)
    assert (replica, joined.learners, joined.next_id) == (9, {9: "n4"}, 10)
    with pytest.raises(ValueError, match="the id 3 was used before; the next is 4"):
        with_learner(THREE, "n4", 3)


def test_a_node_may_have_an_old_replica_and_a_joining_one() -> None:
    joined, _ = with_learner(THREE, "n2")
    assert ids_of(joined, "n2") == [2, 4]
    with pytest.raises(ValueError, match="replica 4 on n2 is joining already"):
        with_learner(joined, "n2")


def test_steps_that_make_no_sense_say_why() -> None:
    with pytest.raises(ValueError, match="replica 2 is a voter already"):
        THREE.promoted(2)
    with pytest.raises(ValueError, match="replica 9 is not in the group"):
        THREE.promoted(9)
    with pytest.raises(ValueError, match="replica 9 is not in the group"):
        THREE.without(9)
    with pytest.raises(ValueError, match="last voter"):
        Membership.founding({1: "n1"}).without(1)
    with pytest.raises(ValueError, match="used up"):
        with_learner(Membership({1: "n1"}, {}, ID_MAX + 1), "n2")


def test_the_steps_follow_each_other() -> None:
    joined, _ = with_learner(THREE, "n4")
    promoted = joined.promoted(4)
    for before, after in [(THREE, joined), (joined, promoted), (promoted, promoted.without(2))]:
        before.check_successor(after)


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (Membership({1: "n1"}, {}, 4), "more than one server differs in voters: 2, 3"),
        (Membership({1: "n1", 2: "n2", 4: "n4"}, {}, 5), "must be a learner before"),
        (Membership({1: "n1", 2: "n2"}, {}, 3), "go back"),
        (Membership({1: "n1", 2: "n2"}, {3: "n3"}, 4), "cannot become a learner"),
        (Membership({1: "n1", 2: "n2", 3: "n9"}, {}, 4), "is on n3 and cannot go to n9"),
    ],
)  # fmt: skip
def test_what_may_not_follow_is_refused(new: Membership, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        THREE.check_successor(new)


def test_an_id_that_was_used_is_refused() -> None:
    later = THREE.without(3)
    with pytest.raises(ValueError, match="the id 3 was used before; the next is 4"):
        later.check_successor(Membership(later.voters, {3: "n3"}, 4))


def test_it_is_told_as_an_operator_reads_it() -> None:
    assert str(with_learner(THREE, "n4")[0]) == "voters 1=n1 2=n2 3=n3, learners 4=n4"
