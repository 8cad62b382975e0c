"""What tests of the machine share: making machines, feeding them commands, and looking at all they
keep."""

from __future__ import annotations

import hashlib

from raftmail.mail import commands as c
from raftmail.mail.codec import encode_entry, encode_request
from raftmail.mail.results import Refused, Result
from raftmail.shard.machine import Machine
from raftmail.storage.index import REPLICATED, TABLES, Index
from raftmail.storage.kv import KvEngine, scan
from tests.simulation.kv import MemoryEngine

CLIENT = b"client of tests!"


def new_machine(engine: KvEngine | None = None) -> Machine:
    return Machine(Index(engine or MemoryEngine(TABLES)))


def body_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def guid_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def message(
    text: str = "a", *targets: c.Target, flags: tuple[str, ...] = (), summary: bytes = b"summary"
) -> c.NewMessage:
    where = targets or (c.Target("a", "INBOX"),)
    return c.NewMessage(where, body_hash(text), len(text), guid_of(text), 7, flags, summary)


def save(*messages: c.NewMessage) -> c.Save:
    return c.Save("a", messages or (message(),), 1000)


def entry_of(*requests: tuple[bytes, int, int, c.Command]) -> bytes:
    blobs: dict[bytes, None] = {}
    for *_, command in requests:
        asked = command.command if isinstance(command, c.GuestCommand) else command
        if isinstance(asked, c.Save | c.CopyIn):
            blobs.update(dict.fromkeys(m.blob for m in asked.messages))
    return encode_entry([encode_request(*request) for request in requests], list(blobs))


class Feeder:
    """Gives a machine one command an entry, as one client that has had every answer but the
    last."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.seq = 0

    def do(self, command: c.Command) -> Result:
        self.seq += 1
        payload = entry_of((CLIENT, self.seq, self.seq - 1, command))
        ((client, seq, result),) = self.machine.apply(self.machine.applied_index + 1, 1, payload)
        assert (client, seq) == (CLIENT, self.seq)
        return result

    def refused(self, command: c.Command) -> str:
        """The code of the refusal that must come."""
        result = self.do(command)
        assert isinstance(result, Refused), result
        return result.code.value


def rows_of(machine: Machine) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every row that all replicas must have alike."""
    machine.index.flush()
    return {name: list(scan(machine.index.engine.table(name))) for name in REPLICATED}
