"""Who is let in, and who makes way."""

from __future__ import annotations

from raftmail.net.gate import LOCAL, Descriptors, Gate, GateLimits, Guests


class Visitor:
    """A connection that notes that it was asked to make way."""

    def __init__(self) -> None:
        self.gone = False

    def make_way(self) -> None:
        self.gone = True


def _enter(gate: Gate, address: str, count: int) -> list[Visitor]:
    visitors = [Visitor() for _ in range(count)]
    for one in visitors:
        assert gate.enter(one, address)
    return visitors


def test_at_the_limit_the_oldest_stranger_of_the_busiest_address_makes_way() -> None:
    gate = Gate(GateLimits(strangers_max=4))
    lone = _enter(gate, "a", 1)
    many = _enter(gate, "b", 3)
    more = _enter(gate, "c", 2)
    assert [one.gone for one in lone] == [False]
    assert [one.gone for one in many] == [True, True, False]
    assert [one.gone for one in more] == [False, False]
    assert gate.strangers == 4


def test_who_is_known_makes_way_for_nobody() -> None:
    gate = Gate(GateLimits(strangers_max=2))
    known = _enter(gate, "a", 2)
    for one in known:
        gate.know(one)
    _enter(gate, "a", 5)
    assert not any(one.gone for one in known)
    assert gate.strangers == 2


def test_guests_are_limited_in_all_and_from_each_address() -> None:
    gate = Gate(GateLimits(connections_max=3, address_connections_max=2))
    first, second, third = _enter(gate, "a", 3)
    (other,) = _enter(gate, "b", 1)
    (last,) = _enter(gate, "c", 1)
    assert gate.admit(first) == gate.admit(second) == ""
    assert gate.admit(third) == "2 connections from this address already"
    assert gate.admit(other) == ""
    assert gate.admit(last) == "3 connections already"
    gate.leave(first)
    assert gate.admit(third) == ""


def test_ports_that_share_their_guests_have_one_limit_together() -> None:
    guests = Guests()
    limits = GateLimits(connections_max=3, address_connections_max=2)
    gates = [Gate(limits, guests=guests) for _ in range(3)]
    visitors = [_enter(gate, "a", 1)[0] for gate in gates]
    found = [gate.admit(one) for gate, one in zip(gates, visitors, strict=True)]
    assert found == ["", "", "2 connections from this address already"]
    gates[0].leave(visitors[0])
    assert gates[2].admit(visitors[2]) == ""
    (other,), (last,) = _enter(gates[0], "b", 1), _enter(gates[1], "c", 1)
    assert [gates[0].admit(other), gates[1].admit(last)] == ["", "3 connections already"]


def test_a_unix_socket_has_no_limit_of_its_own() -> None:
    gate = Gate(GateLimits(address_connections_max=1))
    assert [gate.admit(one) for one in _enter(gate, LOCAL, 3)] == ["", "", ""]


def test_nobody_comes_in_where_no_descriptor_is_left_for_files() -> None:
    descriptors = Descriptors(limit=20, reserve=5, others=10)
    gate = Gate(GateLimits(), descriptors)
    inside = _enter(gate, "a", 5)
    for one in inside:
        gate.know(one)
    assert not gate.enter(Visitor(), "b")
    assert gate.turned_away == 1
    gate.leave(inside[0])
    assert gate.enter(Visitor(), "b")


def test_a_stranger_makes_way_where_no_descriptor_is_left() -> None:
    descriptors = Descriptors(limit=20, reserve=5, others=10)
    gate = Gate(GateLimits(), descriptors)
    inside = _enter(gate, "a", 5)
    assert gate.enter(Visitor(), "b")
    assert [one.gone for one in inside] == [True, False, False, False, False]
    assert descriptors.connections == 5


def test_leaving_twice_counts_once() -> None:
    gate = Gate(GateLimits())
    (one,) = _enter(gate, "a", 1)
    gate.admit(one)
    gate.leave(one)
    gate.leave(one)
    assert (len(gate.guests.inside), gate.strangers, gate.descriptors.connections) == (0, 0, 0)
