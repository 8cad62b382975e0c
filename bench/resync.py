"""What it costs to bring a replica back: source and sink in one process, on real files.

First a shard with many messages and a replica that is equal: then k messages in m mailboxes change
(half are flagged, a quarter is expunged, a quarter is new), and the replica is brought up to that;
bytes and time should follow k and m, not the messages that are there. Then a new replica takes a
whole shard with its bodies. Both ends take turns on one core here; between two nodes each has its
own, and the busier one decides.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Options, Report, Target, main_of
from bench.stats import Cell
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_entry, encode_request
from raftmail.mail.uidset import UidSet
from raftmail.resync.frames import Link
from raftmail.resync.pace import TokenBucket
from raftmail.resync.sink import Phase, Sink
from raftmail.resync.source import Source
from raftmail.shard.machine import Machine
from raftmail.storage.blobs import BlobStore
from raftmail.storage.disk import RealDisk
from raftmail.storage.index import TABLES, Index
from raftmail.storage.kv import LmdbEngine

MAILBOXES = 2000
MESSAGES = 1_000_000
MESSAGES_QUICK = 50_000
WHOLE_MESSAGES = 30_000
WHOLE_MESSAGES_QUICK = 5_000
BODY_BYTES = 8192
BATCH = 250
SUMMARY = b"a summary of as many bytes as summaries mostly have, " * 8
CHANGES = ((1, 1), (100, 10), (1000, 100), (10_000, 1000))
BYTES_PER_MAILBOX_MAX = 200
BYTES_PER_CHANGE_MAX = 600
WHOLE_MB_S = 60.0

_CLUSTER = "bench"
_ROOM_BYTES = 1 << 20
_USER = "someone@example.org"


@dataclass(slots=True)
class Replica:
    """Machine, bodies and index of one end."""

    folder: Path
    engine: LmdbEngine
    machine: Machine
    bodies: BlobStore
    seq: int = 0

    @staticmethod
    def open(folder: Path) -> Replica:
        engine = LmdbEngine(folder / "index", TABLES)
        index = Index(engine)
        bodies = BlobStore.open(RealDisk(folder), "blobs", index)
        return Replica(folder, engine, Machine(index), bodies)

    def apply(self, commands: list[c.Command], hashes: list[bytes]) -> None:
        """As one entry."""
        requests = []
        for command in commands:
            self.seq += 1
            requests.append(encode_request(b"client of  bench", self.seq, self.seq - 1, command))
        payload = encode_entry(requests, hashes)
        self.machine.apply_raw(self.machine.applied_index + 1, 1, payload)

    def save(self, mailbox: str, texts: list[tuple[bytes, bytes | None]]) -> None:
        """Messages by hash; those with a body have it stored."""
        messages = []
        for digest, body in texts:
            if body is not None:
                self.bodies.append(digest, body)
            messages.append(
                c.NewMessage(
                    (c.Target(_USER, mailbox, False),),
                    digest,
                    BODY_BYTES,
                    digest[:16],
                    1_700_000_000_000_000 + self.seq,
                    (),
                    SUMMARY,
                )
            )
        hashes = [digest for digest, _ in texts]
        self.apply([c.Save(_USER, tuple(messages), 1)], list(dict.fromkeys(hashes)))

    def commit(self) -> None:
        self.sync()
        self.machine.commit()

    def sync(self) -> None:
        job = self.bodies.begin_sync()
        if job is not None:
            job.run()
            self.bodies.end_sync(job)
            self.bodies.place_pending()

    def close(self) -> None:
        self.bodies.close()
        self.engine.close()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one session: seconds to usable records and in all, and bytes from the source and to it."""

    records_s: float
    all_s: float
    sent_bytes: int
    asked_bytes: int
    longest_step_ms: float
    source_cpu_s: float
    sink_cpu_s: float


def resync(target: Replica, giver: Replica, session: int) -> Cost:
    """Run a session to its end. Raises RuntimeError when it fails."""
    sink = Sink(target.machine.index, target.bodies, _CLUSTER, 1, target.machine.abort)
    begun = time.perf_counter()
    source = Source(
        giver.machine.index,
        giver.bodies,
        Link(_CLUSTER, 1, "target"),
        session,
        TokenBucket(0, 1),
        lambda: "",
        begun,
    )
    sink.start(begun, "giver", session, records=True, full=False)
    records_s = longest = 0.0
    sent = asked = 0
    cpu_s = [0.0, 0.0]
    to_source: list[bytes] = []
    to_sink: list[bytes] = []
    while sink.active:
        now = time.perf_counter()
        cpu = time.thread_time()
        for frame in to_sink:
            sink.receive(now, frame)
        sink.step(now)
        to_source = sink.take_frames()
        if sink.phase == Phase.BODIES:
            records_s = records_s or time.perf_counter() - begun
            if target.bodies.dirty():
                target.sync()
        then = time.perf_counter()
        middle = time.thread_time()
        for frame in to_source:
            source.receive(now, frame)
        source.step(now, _ROOM_BYTES)
        to_sink = source.take_frames()
        sent += sum(map(len, to_sink))
        asked += sum(map(len, to_source))
        cpu_s[0] += time.thread_time() - middle
        cpu_s[1] += middle - cpu
        longest = max(longest, time.perf_counter() - then)
    if sink.error is not None:
        raise RuntimeError(str(sink.error))
    all_s = time.perf_counter() - begun
    target.commit()
    source.close()
    return Cost(records_s, all_s, sent, asked, longest * 1000, *cpu_s)


def bodies_of(
    rng: random.Random, count: int, random_bytes: int = BODY_BYTES * 3 // 8
) -> Iterator[tuple[bytes, bytes]]:
    """Bodies that compress about as mail does, or, of random bytes alone, not at all."""
    for _ in range(count):
        body = rng.randbytes(random_bytes)
        if random_bytes < BODY_BYTES:
            body = body.hex().encode().ljust(BODY_BYTES, b" ")
        yield hashlib.sha256(body).digest(), body


def fill(replica: Replica, mailboxes: int, messages: int) -> None:
    """Many messages in many mailboxes, whose bodies nobody will ask for."""
    for box in range(mailboxes):
        guid = hashlib.sha256(b"%d" % box).digest()[:16]
        replica.apply([c.CreateMailbox(_USER, f"box{box}", 1, guid, "")], [])
    each = messages // mailboxes
    made = 0
    for box in range(mailboxes):
        for first in range(0, each, BATCH):
            texts: list[tuple[bytes, bytes | None]] = []
            for _ in range(min(BATCH, each - first)):
                made += 1
                texts.append((hashlib.sha256(b"%d" % made).digest(), None))
            replica.save(f"box{box}", texts)
        if box % 20 == 0:
            replica.commit()
    replica.commit()


def change(replica: Replica, rng: random.Random, count: int, mailboxes: int, used: int) -> None:
    """`count` messages in so many mailboxes; `used` UIDs of each were changed before."""
    each = max(1, count // mailboxes)
    for box in rng.sample(range(MAILBOXES), mailboxes):
        name = f"box{box}"
        flags, gone, new = each - each // 4 * 2, each // 4, each // 4
        first = used + 1
        uids = UidSet.from_ranges([(first, first + flags - 1)])
        replica.apply([c.Store(_USER, name, uids, c.StoreMode.ADD, ("\\Seen", "\\Flagged"))], [])
        if gone:
            first += flags
            uids = UidSet.from_ranges([(first, first + gone - 1)])
            replica.apply([c.Expunge(_USER, name, uids, only_deleted=False)], [])
        if new:
            replica.save(name, list(bodies_of(rng, new, BODY_BYTES)))
    replica.commit()


def measure(options: Options) -> Report:
    """One run of each: what is measured is mostly bytes, which do not vary."""
    report = Report("resync")
    rng = random.Random(1)
    messages = options.count(MESSAGES, MESSAGES_QUICK)
    with tempfile.TemporaryDirectory(prefix="resync-", dir=options.parent) as name:
        folder = Path(name)
        giver = Replica.open(folder / "giver")
        begun = time.perf_counter()
        fill(giver, MAILBOXES, messages)
        took = time.perf_counter() - begun
        report.notes.append(f"filled with {messages:,} messages in {took:.0f} s")
        (folder / "target" / "index").mkdir(parents=True)
        # A copy that is not compacted would wait for the write transaction that is open.
        giver.engine.env.copy(str(folder / "target" / "index"), compact=True)
        target = Replica.open(folder / "target")
        _changes(report, giver, target, rng)
        giver.close()
        target.close()
        giver, target = (Replica.open(folder / part) for part in ("giver2", "target2"))
        _whole(report, giver, target, rng, options.count(WHOLE_MESSAGES, WHOLE_MESSAGES_QUICK))
        giver.close()
        target.close()
    return report


def _changes(report: Report, giver: Replica, target: Replica, rng: random.Random) -> None:
    rows: list[dict[str, Cell]] = []
    used = 0
    worst = 0.0
    for session, (count, mailboxes) in enumerate(CHANGES, 1):
        change(giver, rng, count, mailboxes, used)
        used += count // mailboxes
        cost = resync(target, giver, session)
        if target.machine.index.digest() != giver.machine.index.digest():
            raise RuntimeError("the replicas differ")
        new = count // mailboxes // 4 * mailboxes
        sent = cost.sent_bytes + cost.asked_bytes
        worst = max(worst, (sent - new * BODY_BYTES - MAILBOXES * BYTES_PER_MAILBOX_MAX) / count)
        rows.append(
            {
                "changed messages": count,
                "in mailboxes": mailboxes,
                "sent bytes": cost.sent_bytes,
                "asked bytes": cost.asked_bytes,
                "usable s": round(cost.records_s, 3),
                "all s": round(cost.all_s, 3),
                "source's longest step ms": round(cost.longest_step_ms, 1),
                "source CPU s": round(cost.source_cpu_s, 3),
                "sink CPU s": round(cost.sink_cpu_s, 3),
            }
        )
    report.tables.append(rows)
    what = "bytes a changed message, bodies and 200 a mailbox set aside"
    report.targets.append(Target(what, worst, at_most=BYTES_PER_CHANGE_MAX))


def _whole(
    report: Report, giver: Replica, target: Replica, rng: random.Random, messages: int
) -> None:
    boxes = 100
    for box in range(boxes):
        guid = hashlib.sha256(b"%d" % box).digest()[:16]
        giver.apply([c.CreateMailbox(_USER, f"box{box}", 1, guid, "")], [])
        giver.save(f"box{box}", list(bodies_of(rng, messages // boxes)))
        giver.commit()
    cost = resync(target, giver, 1)
    if target.machine.index.digest() != giver.machine.index.digest():
        raise RuntimeError("the replicas differ")
    size = messages * BODY_BYTES
    rate = size / 1e6 / max(cost.source_cpu_s, cost.sink_cpu_s)
    report.tables.append(
        [
            {
                "messages": messages,
                "body MB": round(size / 1e6),
                "sent MB": round(cost.sent_bytes / 1e6),
                "usable s": round(cost.records_s, 2),
                "all s": round(cost.all_s, 2),
                "MB/s in turns": round(size / 1e6 / cost.all_s, 1),
                "source's longest step ms": round(cost.longest_step_ms, 1),
                "source CPU s": round(cost.source_cpu_s, 3),
                "sink CPU s": round(cost.sink_cpu_s, 3),
            }
        ]
    )
    report.targets.append(
        Target(
            "MB of bodies a CPU second of the busier end, for a new replica",
            rate,
            at_least=WHOLE_MB_S,
        )
    )


if __name__ == "__main__":
    sys.exit(main_of("resync", measure, __doc__))
