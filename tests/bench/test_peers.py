"""The peers start, take what they are sent, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.lmtp_load import LoadPlan, drive
from bench.peers import dovecot, etcd, etcd_load
from bench.runtime import BenchError, require_program


def installed(program: str) -> bool:
    try:
        require_program(program, "")
    except BenchError:
        return False
    return True


needs_dovecot = pytest.mark.skipif(
    not installed("dovecot") or not Path("/usr/lib/dovecot/lmtp").exists(),
    reason="Dovecot's LMTP server is not installed",
)
needs_etcd = pytest.mark.skipif(not installed("etcd"), reason="etcd is not installed")


def running(session_id: int) -> bool:
    try:
        os.killpg(session_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def parent() -> Iterator[Path]:
    """Not pytest's own: it is closed to other users, and too long for a path of a socket."""
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@needs_dovecot
def test_dovecot_stores_what_it_acknowledged_and_is_gone_afterwards(parent: Path) -> None:
    with dovecot.Dovecot(["ann@example.org", "bob@example.org"], parent) as server:
        plan = LoadPlan(server.lmtp_address, server.users, 2, seconds=0.2, warmup_s=0.0)
        result = asyncio.run(drive(plan))
        assert result.accepted_total == server.stored_messages() > 0
        assert result.failures == {}
        session_id = server._process.pid
    assert not running(session_id)
    assert list(parent.iterdir()) == []


@needs_etcd
def test_etcd_takes_puts_and_is_gone_afterwards(parent: Path) -> None:
    with etcd.Etcd(parent) as cluster:
        assert cluster.leader_address in cluster.addresses
        plan = etcd_load.PutPlan(cluster.addresses, 6, seconds=0.2, warmup_s=0.0)
        result = asyncio.run(etcd_load.drive(plan))
        assert result.accepted_total > 0
        assert result.failures == {}
        session_ids = [process.pid for process in cluster._processes]
    assert not any(map(running, session_ids))
    assert list(parent.iterdir()) == []
