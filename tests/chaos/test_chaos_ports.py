"""Ports of runs beside each other."""

from __future__ import annotations

from raftmail_chaos.cluster import Ports


def test_no_two_runs_have_ports_of_one_block() -> None:
    holders = [Ports(3) for _ in range(20)]
    blocks = {int(ports.take().rpartition(":")[2]) // 200 for ports in holders}
    assert len(blocks) == len(holders)
