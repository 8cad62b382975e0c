"""What it costs to bring a replica back: between real nodes, each a process with its own disk
folder.

First a shard with many messages: a node is stopped, and k messages in m mailboxes change. (Half are
flagged, a quarter is expunged, a quarter is new.) The node is started when the log of the others
does not reach back to it any more. Bytes and time should follow k and m, not the messages that are
there. Then a node that has lost all mail of a shard takes it whole, with the bodies. It does so
once alone, and once while clients write to the shard.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from contextlib import suppress

from bench.cluster import MAIL_SHARD, Raftmail
from bench.planting import BODY_BYTES, bodies_of, lose, plant
from bench.report import BenchOptions, BenchReport, BenchTarget, main_of
from bench.stats import Cell
from raftmail.admin.api.calls import GetStatus
from raftmail.admin.api.status import LastResync, ReplicaStatus
from raftmail.client import Refused, SyncClient
from raftmail.mail.commands import StoreMode
from raftmail.mail.uidset import UidSet

MAILBOXES = 2000
MESSAGES = 1_000_000
MESSAGES_QUICK = 50_000
WHOLE_MESSAGES = 60_000
WHOLE_MESSAGES_QUICK = 10_000
CHANGES = ((1, 1), (100, 10), (1000, 100), (10_000, 1000))
BYTES_PER_MAILBOX_MAX = 200
BYTES_PER_CHANGE_MAX = 600
WHOLE_MB_S = 60.0
WRITES_KEPT_MIN = 0.7
WAIT_S = 600.0

USER = "someone@example.org"
NOISE = "noise@example.org"
CONFIG = """
[log]
entries_max = 64
[scrub]
rate_bytes_s = 0
[verify]
period_s = 0
"""


def measure(options: BenchOptions) -> BenchReport:
    """One run of each: what is measured is mostly bytes, which do not vary."""
    report = BenchReport("resync")
    with Raftmail(users=[USER, NOISE], parent=options.parent, config=CONFIG) as cluster:
        _changes(report, cluster, options.count(MESSAGES, MESSAGES_QUICK))
    with Raftmail(users=[USER, NOISE], parent=options.parent, config=CONFIG) as cluster:
        _whole(report, cluster, options.count(WHOLE_MESSAGES, WHOLE_MESSAGES_QUICK))
    return report


def _replica(cluster: Raftmail, name: str) -> ReplicaStatus | None:
    shard = cluster.admin(GetStatus(), _other(cluster, name)).shards[MAIL_SHARD]
    return next(row.opened for row in shard.replicas if row.node == name)


def _other(cluster: Raftmail, name: str) -> str:
    return next(other for other in cluster.names if other != name)


def _follower(cluster: Raftmail) -> str:
    master = cluster.master_of()
    return next(name for name in cluster.names if name != master)


def _wait_until_whole(cluster: Raftmail, name: str) -> LastResync:
    """The last resync of a replica, when it is whole and was brought back by one."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        row = _replica(cluster, name)
        if row is not None and row.whole and row.last_resync is not None:
            return row.last_resync
        time.sleep(0.25)  # asking costs all nodes something
    raise RuntimeError(f"{name} did not become whole:\n{cluster.logs()}")


def _client(cluster: Raftmail) -> SyncClient:
    return cluster.client(*cluster.names)


# -- what changed ----------------------------------------------------------------------------------


def _change(client: SyncClient, rng: random.Random, count: int, mailboxes: int, used: int) -> int:
    """`count` messages in so many mailboxes; `used` UIDs of each were changed before. How many of
    them are new."""
    each = max(1, count // mailboxes)
    new = each // 4
    for box in rng.sample(range(MAILBOXES), mailboxes):
        name = f"box{box}"
        first, flags = used + 1, each - 2 * new
        uids = UidSet.from_ranges([(first, first + flags - 1)])
        client.store(USER, name, uids, StoreMode.ADD, ["\\Seen", "\\Flagged"])
        if new:
            first += flags
            uids = UidSet.from_ranges([(first, first + new - 1)])
            client.expunge(USER, name, uids, only_deleted=False)
            for _, body in bodies_of(rng, new):
                client.save(USER, name, body)
    return new * mailboxes


def _outrun_log(client: SyncClient) -> None:
    """Write so much elsewhere that the log holds nothing of what was before: one message of one
    mailbox."""
    with suppress(Refused):  # it is there from the last time
        client.add_user(NOISE, "x")
    saved = client.save(NOISE, "INBOX", b"Subject: noise\r\n\r\nnoise\r\n")
    del saved
    one = UidSet.from_ranges([(1, 1)])
    for turn in range(300):
        mode = StoreMode.REMOVE if turn % 2 else StoreMode.ADD
        client.store(NOISE, "INBOX", one, mode, ["\\Seen"])
        if turn % 60 == 0:
            time.sleep(0.7)


def _changes(report: BenchReport, cluster: Raftmail, messages: int) -> None:
    begun = time.perf_counter()
    plant(cluster, USER, MAILBOXES, messages, bodies=False)
    report.notes.append(f"planted {messages:,} messages in {time.perf_counter() - begun:.0f} s")
    rng = random.Random(1)
    rows: list[dict[str, Cell]] = []
    used, worst = 0, 0.0
    for count, mailboxes in CHANGES:
        name = _follower(cluster)
        cluster.stop(name)
        with _client(cluster) as client:
            new = _change(client, rng, count, mailboxes, used)
            _outrun_log(client)
        used += max(1, count // mailboxes)
        cluster.restart(name)
        last = _wait_until_whole(cluster, name)
        moved = last.received_bytes + last.sent_bytes
        worst = max(worst, (moved - new * BODY_BYTES - MAILBOXES * BYTES_PER_MAILBOX_MAX) / count)
        rows.append(
            {
                "changed messages": count,
                "in mailboxes": mailboxes,
                "received bytes": last.received_bytes,
                "asked bytes": last.sent_bytes,
                "usable s": last.records_s or 0.0,
                "all s": last.all_s,
            }
        )
        if not cluster.is_equal():
            raise RuntimeError("the replicas differ")
    report.tables.append(rows)
    what = "bytes a changed message, bodies and 200 a mailbox set aside"
    report.targets.append(BenchTarget(what, worst, at_most=BYTES_PER_CHANGE_MAX))


# -- a whole replica -------------------------------------------------------------------------------


class _Writers:
    """Clients that store flags as fast as they are answered, each in its own mailbox."""

    def __init__(self, cluster: Raftmail, count: int = 8) -> None:
        self._stop = threading.Event()
        self._counts = [0] * count
        self._threads = [
            threading.Thread(target=self._run, args=(cluster, n), daemon=True) for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, cluster: Raftmail, number: int) -> None:
        one = UidSet.from_ranges([(1, 1)])
        with cluster.client(cluster.master_of()) as client:
            while not self._stop.is_set():
                mode = StoreMode.REMOVE if self._counts[number] % 2 else StoreMode.ADD
                client.store(USER, f"box{number}", one, mode, ["\\Seen"])
                self._counts[number] += 1

    def count(self) -> int:
        return sum(self._counts)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def _lose_and_restart(cluster: Raftmail) -> str:
    name = _follower(cluster)
    cluster.stop(name)
    lose(cluster, name)
    cluster.restart(name)
    return name


def _whole(report: BenchReport, cluster: Raftmail, messages: int) -> None:
    planted = plant(cluster, USER, 100, messages, bodies=True)
    size = planted * BODY_BYTES / 1e6
    before = cluster.cpu_s()
    name = _lose_and_restart(cluster)
    alone = _wait_until_whole(cluster, name)
    cpu_s = cluster.cpu_s() - before
    if not cluster.is_equal():
        raise RuntimeError("the replicas differ")

    # The writers' node is neither the one that is brought back nor, with three, its first source.
    writers = _Writers(cluster)
    time.sleep(1.0)
    first = writers.count()
    time.sleep(3.0)
    calm = (writers.count() - first) / 3.0
    name = _follower(cluster)
    cluster.stop(name)
    lose(cluster, name)
    time.sleep(1.0)
    first, begun = writers.count(), time.monotonic()
    cluster.restart(name)
    _wait_until_whole(cluster, name)
    took_s = time.monotonic() - begun  # with the start of the process
    busy = (writers.count() - first) / took_s
    writers.stop()
    rate = size / alone.all_s
    report.tables.append(
        [
            {
                "messages": planted,
                "body MB": round(size),
                "received MB": round(alone.received_bytes / 1e6),
                "usable s": alone.records_s or 0.0,
                "all s": alone.all_s,
                "MB/s": round(rate, 1),
                "CPU s of all nodes": round(cpu_s, 2),
                "MB/s beside writes": round(size / took_s, 1),
                "writes/s": round(calm),
                "writes/s meanwhile": round(busy),
            }
        ]
    )
    report.targets.append(
        BenchTarget("MB of bodies a second, for a whole replica", rate, at_least=WHOLE_MB_S)
    )
    kept = busy / calm if calm else 0.0
    report.targets.append(
        BenchTarget("share of writes kept meanwhile", kept, at_least=WRITES_KEPT_MIN)
    )


if __name__ == "__main__":
    sys.exit(main_of("resync", measure, __doc__))
