"""What tests of the resync share: replicas with histories, and a pipe between the two ends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from raftmail.mail import commands as c
from raftmail.mail.uidset import UidSet
from raftmail.resync.frames import Link, session_of
from raftmail.resync.limits import ResyncLimits
from raftmail.resync.pace import TokenBucket
from raftmail.resync.sink import Sink, SinkPhase
from raftmail.resync.source import Source
from raftmail.shard.machine import Machine
from raftmail.storage.blobs import BlobDamaged, BlobMissing
from raftmail.storage.check import check
from raftmail.storage.index import REPLICATED, TABLES, Index, IndexIdentity
from raftmail.storage.kv import scan
from tests.shard.machines import entry_of
from tests.simulation.kv import MemoryEngine

CLUSTER = "cluster of tests"
SMALL = ResyncLimits(
    answer_bytes=600,
    answer_rows_max=7,
    body_request_bytes=300,
    bodies_parallel=8,
    commit_rows=25,
    commit_bytes=4000,
    step_rows=600,
    mailboxes_parallel=3,
)
"""So small that everything takes many messages and commits."""


class BodyTwin:
    """A blob store in memory: all it has is durable."""

    def __init__(self) -> None:
        self.bodies: dict[bytes, bytes] = {}
        self.damaged: set[bytes] = set()
        self.fail: Exception | None = None

    def has(self, digest: bytes) -> bool:
        return digest in self.bodies and digest not in self.damaged

    durable = has

    @property
    def total_bytes(self) -> int:
        return sum(map(len, self.bodies.values()))

    def get(self, digest: bytes) -> bytes:
        if digest in self.damaged:
            raise BlobDamaged(digest, "segment", 0)
        if digest not in self.bodies:
            raise BlobMissing(digest)
        return self.bodies[digest]

    def append(self, digest: bytes, body: bytes) -> bool:
        if self.fail is not None:
            raise self.fail
        fresh = not self.has(digest)
        self.bodies[digest] = body
        self.damaged.discard(digest)
        return fresh


def body_of(text: str) -> bytes:
    return f"Subject: {text}\r\n\r\n{text * 20}\r\n".encode()


@dataclass
class Node:
    """A replica without Raft: machine, bodies, sink."""

    name: str
    limits: ResyncLimits = SMALL
    shard: int = 7
    engine: MemoryEngine = field(default_factory=lambda: MemoryEngine(TABLES))
    bodies: BodyTwin = field(default_factory=BodyTwin)

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Open what is on the disk, as after a start."""
        index = Index(self.engine, IndexIdentity(CLUSTER, self.shard, self.name))
        self.machine = Machine(index)
        self.sink = Sink(index, self.bodies, CLUSTER, self.shard, self.machine.abort, self.limits)

    def crash(self) -> None:
        self.engine.power_loss()
        self.open()

    @property
    def index(self) -> Index:
        return self.machine.index

    def apply(self, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> None:
        for payload, bodies in entries:
            for digest, body in bodies.items():
                self.bodies.append(digest, body)
            self.machine.apply(self.machine.applied_index + 1, 3, payload)
        self.machine.commit()

    def rows(self) -> dict[str, list[tuple[bytes, bytes]]]:
        return {name: list(scan(self.engine.table(name))) for name in REPLICATED}

    def source(self, peer: str, session: int, now: float, bucket: TokenBucket | None) -> Source:
        def unfit(lacking_serves: bool) -> str:
            return "it is half" if self.sink.mark is not None else ""

        link = Link(CLUSTER, self.shard, peer)
        bucket = bucket or TokenBucket(0, 1)
        return Source(self.index, self.bodies, link, session, bucket, unfit, now, self.limits)


class History:
    """Entries of a log, made from plain calls. With `zones`, half of the messages have dates beside
    their record."""

    def __init__(self, *, zones: bool = True) -> None:
        self._zones = zones
        self.entries: list[tuple[bytes, dict[bytes, bytes]]] = []

    def __len__(self) -> int:
        return len(self.entries)

    def do(self, *commands: c.Command, bodies: Iterable[bytes] = (), client: int = 0) -> None:
        seq = len(self.entries) * 100 + 1
        requests = [
            (b"client %09d" % client, seq + i, seq + i - 1, command)
            for i, command in enumerate(commands)
        ]
        self.entries.append(
            (entry_of(*requests), {hashlib.sha256(body).digest(): body for body in bodies})
        )

    def create(self, name: str, user: str = "a") -> None:
        guid = hashlib.sha256(f"{user}/{name}/{len(self)}".encode()).digest()[:16]
        self.do(c.CreateMailbox(user, name, 1000, guid, ""))

    def save(
        self,
        name: str,
        *texts: str,
        user: str = "a",
        flags: tuple[str, ...] = (),
        client: int = 0,
        keyed: bool = False,
    ) -> None:
        bodies = [body_of(text) for text in texts]
        messages = tuple(
            c.NewMessage(
                (c.Target(user, name, True),),
                hashlib.sha256(body).digest(),
                len(body),
                hashlib.sha256(f"{text}{len(self)}{i}".encode()).digest()[:16],
                len(self) * 1_000_000 + i,
                flags,
                f"summary of {text}".encode() * 3,
                (hashlib.sha256(body).digest(),) if keyed else (),
                60 * (i % 2) if self._zones else 0,
            )
            for i, (text, body) in enumerate(zip(texts, bodies, strict=True))
        )
        self.do(c.Save(user, messages, 1000, (), 86_400), bodies=bodies, client=client)

    def flag(
        self, name: str, low: int, high: int, *flags: str, user: str = "a", add: bool = True
    ) -> None:
        uids = UidSet.from_ranges([(low, high)])
        mode = c.StoreMode.ADD if add else c.StoreMode.REMOVE
        self.do(c.Store(user, name, uids, mode, flags))

    def expunge(self, name: str, low: int, high: int, user: str = "a") -> None:
        uids = UidSet.from_ranges([(low, high)])
        self.do(c.Expunge(user, name, uids, only_deleted=False))

    def copy(self, name: str, low: int, high: int, to: str, *, move: bool = False) -> None:
        uids = UidSet.from_ranges([(low, high)])
        self.do(c.Copy("a", name, uids, c.Target("a", to, True), 1000, move))


class Pipe:
    """Joins a node's sink and another's source, message by message."""

    def __init__(
        self,
        target: Node,
        giver: Node,
        session: int = 1,
        *,
        full: bool = False,
        records: bool = True,
        bucket: TokenBucket | None = None,
        alter: Callable[[int, bytes], Iterable[bytes]] | None = None,
    ) -> None:
        self.now = 0.0
        self.target = target
        self.giver = giver
        self.alter = alter
        self.count = 0
        self.to_sink_bytes = self.to_source_bytes = 0
        self.frames: list[bytes] = []
        target.sink.start(0.0, giver.name, session, records=records, full=full)
        self.source = giver.source(target.name, session, 0.0, bucket)

    def turn(self) -> bool:
        """Everything once; False: nothing moved."""
        sink, source = self.target.sink, self.source
        moved = sink.step(self.now)
        for frame in sink.take_frames():
            moved = True
            self.to_source_bytes += len(frame)
            source.receive(self.now, frame)
        moved = source.step(self.now, 1 << 20) or moved
        for frame in source.take_frames():
            self.count += 1
            moved = True
            for changed in self.alter(self.count, frame) if self.alter else (frame,):
                self.to_sink_bytes += len(changed)
                self.frames.append(changed)
                sink.receive(self.now, changed)
        return moved

    def run(self, frames: int | None = None) -> bool:
        """Until the session is over, or so many frames came from the source. Whether it was."""
        for _ in range(100_000):
            if not self.target.sink.active:
                return True
            if frames is not None and self.count >= frames:
                return False
            self.turn()
        raise AssertionError("the session does not end")

    def close(self) -> None:
        self.source.close()


def resync(target: Node, giver: Node, session: int = 1, **how: object) -> Pipe:
    """A whole session, which must succeed."""
    pipe = Pipe(target, giver, session, **how)  # type: ignore[arg-type]
    pipe.run()
    assert target.sink.error is None, target.sink.error
    assert target.sink.phase == SinkPhase.IDLE
    pipe.close()
    return pipe


def assert_equal(one: Node, other: Node) -> None:
    """The replicated tables are the same, byte for byte; the index is sound and not half."""
    mine, theirs = one.rows(), other.rows()
    for name in REPLICATED:
        assert mine[name] == theirs[name], name
    assert one.index.applied_index == other.index.applied_index
    assert one.index.applied_term == other.index.applied_term
    assert one.index.digest() == other.index.digest()
    assert one.sink.mark is None and not one.sink.holds
    assert check(one.index) == []


__all__ = [
    "CLUSTER",
    "SMALL",
    "BodyTwin",
    "History",
    "Node",
    "Pipe",
    "assert_equal",
    "body_of",
    "resync",
    "session_of",
]
