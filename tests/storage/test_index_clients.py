"""The client table forgets in the order of the log, within its limits, and never so that a command
happens twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.storage.clients import Clients, weight_of
from raftmail.storage.kv import scan
from tests.simulation.kv import MemoryEngine

_requests = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 40), st.integers(0, 3), st.booleans()), max_size=80
)
LIMITS = {"clients_max": 4, "results_max": 6, "weight_max": 20}


def _apply(clients: Clients, who: int, seq: int, behind: int, heavy: bool) -> str:
    client = clients.use(bytes([who]) * 16)
    if seq <= client.floor:
        told = "stale"
    elif seq in client.results:
        told = "again"
    else:
        told = "new"
        clients.keep(client, seq, (5, seq), 3 if heavy else 0)
    if seq - behind - 1 > client.floor:
        clients.forget(client, seq - behind - 1)
    return told


@settings(max_examples=100)
@given(_requests, st.sets(st.integers(0, 80)))
def test_tables_that_were_written_and_read_again_forget_what_others_forget(
    requests: list[tuple[int, int, int, bool]], reopened: set[int]
) -> None:
    first, second = MemoryEngine(["clients"]), MemoryEngine(["clients"])
    a = Clients(first.table("clients"), **LIMITS)
    b = Clients(second.table("clients"), **LIMITS)
    for at, request in enumerate(requests):
        assert _apply(a, *request) == _apply(b, *request)
        if at in reopened:
            b.flush()
            b = Clients(second.table("clients"), **LIMITS)
    a.flush()
    b.flush()
    rows = list(scan(first.table("clients")))
    assert rows == list(scan(second.table("clients")))
    assert len(rows) == len(a) <= 4


@given(_requests)
def test_a_known_client_never_has_a_sequence_number_done_twice(
    requests: list[tuple[int, int, int, bool]],
) -> None:
    clients = Clients(
        MemoryEngine(["clients"]).table("clients"), clients_max=7, results_max=6, weight_max=20
    )
    done: set[tuple[int, int]] = set()
    for who, seq, behind, heavy in requests:
        told = _apply(clients, who, seq, behind, heavy)
        if told == "new":
            assert (who, seq) not in done
            done.add((who, seq))


@given(_requests)
def test_results_stay_within_their_limits(requests: list[tuple[int, int, int, bool]]) -> None:
    clients = Clients(MemoryEngine(["clients"]).table("clients"), **LIMITS)
    for who, seq, behind, heavy in requests:
        _apply(clients, who, seq, behind, heavy)
        kept = [clients.find(bytes([one]) * 16) for one in range(7)]
        weights = [len(c.results) + sum(c.heavy.values()) for c in kept if c is not None]
        assert sum(weights) == clients._weight <= 20
        assert all(len(c.results) <= 6 for c in kept if c is not None)


def test_large_results_weigh_more() -> None:
    assert weight_of((6, 5, (), 3, 3)) == 0
    assert weight_of((6, [1, 2] * 400, (), 3, 3)) == 100
    assert weight_of((0, "BAD", "x" * 1000)) > 0
