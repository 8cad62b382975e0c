"""The requests that wait at a shard's master, and those that are on their way through the log.

Invariants:

1. A request's callback is called exactly once: with its result when it was applied here, or with a
   `Failure`.
2. A request whose twin (same client and sequence number) is on its way waits for the twin's result
   instead of being proposed.
3. No entry is longer than `ReplicaLimits.entry_bytes_max`, but for one that holds a single longer
   request.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from raftmail.mail.budget import Budget
from raftmail.mail.codec import FREEING, CodecError, check_request, inspect_request
from raftmail.mail.codec_results import result_of
from raftmail.mail.commands import Blob
from raftmail.mail.failures import Failure
from raftmail.mail.results import Code, Executed, Refused, Result
from raftmail.shard.limits import Counters, ReplicaLimits
from raftmail.storage.disk import DiskFull

logger = logging.getLogger(__name__)

Done: TypeAlias = Callable[[Executed | Failure], None]


class BlobsUnknown(Exception):
    """A request names a body that was not sent along and is not in the store."""


@dataclass(slots=True, repr=False)
class Waiting:
    """A request that was not proposed yet; `hashes` are of the bodies that it names, `size` its
    bytes with the bodies."""

    client: bytes
    seq: int
    request: bytes
    hashes: tuple[bytes, ...]
    blobs: Sequence[Blob]
    size: int
    done: Done
    until: float = math.inf
    """When whoever asked will have given up."""
    frees: bool = False
    """Whether a full disk takes it (`codec.FREEING`)."""


@dataclass(slots=True, repr=False)
class Proposals:
    """`known` gives the result of a request that was applied before.

    `store` puts a request's bodies into the store (raising `BlobsUnknown`, DiskFull). `master`
    names the node that leads.
    """

    limits: ReplicaLimits
    counters: Counters
    known: Callable[[bytes, int], Result | None]
    store: Callable[[Waiting], None]
    shard: int
    master: Callable[[], str]
    goes_ahead: Callable[[Waiting], bool] = lambda _: False
    """Takes a request whose bodies go ahead of it, which comes to `waiting` later, or is
    `released`."""
    budget: Budget = field(default_factory=lambda: Budget(128 << 20))
    """What requests that wait hold, here and in the other replicas of the node."""
    term: int = 0
    waiting: deque[Waiting] = field(default_factory=deque)
    waiting_bytes: int = 0
    """What this replica has of the budget: `waiting`, and the requests whose bodies go ahead."""
    in_flight: dict[tuple[bytes, int], list[Done]] = field(default_factory=dict)

    def add(
        self,
        request: bytes,
        blobs: Sequence[Blob],
        done: Done,
        *,
        until: float = math.inf,
        full: str = "",
        frees: bool = True,
    ) -> None:
        """Take a request; what cannot be taken fails at once. `full`: why the disk takes no mail,
        and "" while it does; what frees space is taken then, if it still `frees`."""
        try:
            client, seq, kind, hashes = inspect_request(request)
        except CodecError as e:
            done(Failure(f"the request cannot be decoded: {e}", final=True))
            return
        if full and not (frees and kind in FREEING):
            done(Failure(full, full=True))
            return
        try:
            check_request(request, kind)
        except CodecError as e:
            bad = Refused(Code.BAD, str(e)[:1000])
            done(Executed(bad, self.shard, 0, self.master()))  # it is at no index
            return
        size = len(request)
        if blobs:
            size += sum([len(b[1]) for b in blobs])
        limits = self.limits
        if len(self.waiting) >= limits.waiting_requests_max or not self.budget.take(size):
            done(Failure("the master has too many requests waiting"))
            return
        freeing = kind in FREEING
        waiting = Waiting(client, seq, request, hashes, blobs, size, done, until, freeing)
        self.waiting_bytes += size
        self.counters.requests += 1
        if not self.goes_ahead(waiting):
            self.waiting.append(waiting)

    def may_propose(self, entries_in_flight: int) -> bool:
        """Whether what waits becomes an entry now. While one is on its way the next gathers (group
        commit), unless so much waits that it is worth an entry of its own."""
        if not self.waiting:
            return False
        if entries_in_flight == 0:
            return True
        limits = self.limits
        return entries_in_flight < limits.entries_in_flight_max and (
            len(self.waiting) >= limits.pipelined_requests_min
            or self.waiting_bytes >= limits.pipelined_bytes_min
        )

    def next_batch(self, applied_index: int) -> tuple[list[Waiting], dict[bytes, None]]:
        """Requests for one entry, and the hashes of the bodies that they name, which are stored
        now. Raises DiskFull, having failed the request that met it; the batch then is lost to
        nobody: it waits again."""
        batch: list[Waiting] = []
        hashes: dict[bytes, None] = {}
        size = 0
        waiting = self.waiting
        limits = self.limits
        in_flight = self.in_flight
        fresh: set[tuple[bytes, int]] = set()
        while waiting and len(batch) < limits.entry_requests_max:
            w = waiting[0]
            key = (w.client, w.seq)
            length = len(w.request)
            if key in fresh or (batch and size + length > limits.entry_bytes_max):
                break
            waiting.popleft()
            self.release(w.size)
            if key in in_flight:
                in_flight[key].append(w.done)
                continue
            known = self.known(w.client, w.seq)
            if known is not None:
                self._answer((w.done,), Executed(known, self.shard, applied_index, self.master()))
                continue
            if w.hashes:
                try:
                    self.store(w)
                except BlobsUnknown as e:
                    w.done(Failure(str(e), final=True))
                    continue
                except DiskFull as e:
                    w.done(Failure(f"the master's disk is full: {e}", full=True))
                    for earlier in reversed(batch):
                        waiting.appendleft(earlier)
                        self._hold(earlier.size)
                    raise
                for digest in w.hashes:
                    hashes[digest] = None
            fresh.add(key)
            batch.append(w)
            size += length
        return batch, hashes

    def proposed(self, batch: Sequence[Waiting], term: int) -> None:
        """The batch is in the log."""
        self.term = term
        in_flight = self.in_flight
        for w in batch:
            in_flight[(w.client, w.seq)] = [w.done]

    def applied(self, results: Sequence[tuple[bytes, int, Any]], index: int) -> None:
        """Answer those that wait for these results (raw, as the machine gives them)."""
        pop = self.in_flight.pop
        answer = self._answer
        shard = self.shard
        master = self.master()
        for client, seq, raw in results:
            waiters = pop((client, seq), None)
            if waiters is not None:
                answer(waiters, Executed(result_of(raw), shard, index, master))

    def fail_in_flight(self) -> None:
        """Mastership was lost: what is in the log may still be committed by another."""
        lost, self.in_flight = self.in_flight, {}
        failure = Failure("mastership was lost before the outcome was known", unknown=True)
        for waiters in lost.values():
            for done in waiters:
                done(failure)

    def fail_growing(self, text: str) -> None:
        """The disk is full: of what waits only that goes on which frees space."""
        waiting = self.waiting
        self.waiting = deque([w for w in waiting if w.frees])
        for w in waiting:
            if not w.frees:
                self.release(w.size)
                w.done(Failure(text, full=True))

    def fail_waiting(self, text: str) -> None:
        """What was not proposed had no effect."""
        lost, self.waiting = self.waiting, deque()
        for w in lost:
            self.release(w.size)
            w.done(Failure(text))

    def forget_bodies(self, waiting: Waiting) -> None:
        """A request goes on with what the store has."""
        kept = len(waiting.request)
        self.release(waiting.size - kept)
        waiting.size, waiting.blobs = kept, ()

    def release(self, size: int) -> None:
        """A request that held so many bytes waits no more."""
        self.waiting_bytes -= size
        self.budget.give(size)

    def _hold(self, size: int) -> None:
        """A request that was given back waits again: it has room, for nothing came in between."""
        self.waiting_bytes += size
        self.budget.used_bytes += size

    def _answer(self, waiters: Sequence[Done], executed: Executed) -> None:
        for done in waiters:
            try:
                done(executed)
            except Exception as e:  # G10: an answer that cannot be given must not stop the apply
                self.counters.answers_failed += 1
                logger.error("an answer could not be given: %s: %s", type(e).__name__, e)
