"""What must hold at every moment of a run, looked at from outside of the nodes.

1. In a term one node leads, and each votes for one.
2. What is applied at an index is the same everywhere and for ever, and every node applies every
   index once, in order.
3. Nodes that have applied the same index have the same digest.
4. When the first node applies an entry (only then it can be acknowledged), it is on the disks of a
   majority. That is, if the power went everywhere now, a majority would come back with the log
   entry and the bodies that it names. (Or with the index that has applied it.) A disk that had it
   and was lost for good counts too: its replica may have said so before.
5. What the index has committed, the journal has on the disk. (Excepted is what came by a resync
   that is about to end, or is the first entry.)
6. Of two memberships in a row, one voter differs at most, and a majority of the later one has every
   body (`keeping`). Where its state machine stands, a node has the membership that is in force
   there. Who leads is a voter.
7. A node that stops, stops for a reason that was injected; nothing is refused as damaged or
   diverged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from zlib import crc32

from raftmail.consensus.engine import NO_OP, REGULAR
from raftmail.consensus.journal import Identity, Journal
from raftmail.consensus.membership import KIND as MEMBERSHIP
from raftmail.consensus.membership import Membership
from raftmail.consensus.messages import Kind, Message
from raftmail.consensus.records import ENTRY, HEAD, RECORD_BYTES
from raftmail.mail.codec import CodecError, entry_blobs
from raftmail.shard.bodies import restore_bodies
from raftmail.storage.blobs import BlobDamaged, BlobMissing, BlobStore
from raftmail.storage.kv import scan
from tests.simulation.keeping import Keeping
from tests.simulation.node import (
    CLUSTER_ID,
    SHARD,
    Broken,
    SimNode,
)
from tests.simulation.nodedisk import stable_copy
from tests.simulation.world import World

FIRST = 1
"""The no-op with which every log begins, and which a start has there again when no sync had covered
it yet."""
DIGEST_EVERY = 8
"""Digests are compared at indices that this divides."""


class Judge:
    """Looks at every apply and every step; raises `Broken`."""

    def __init__(self, world: World, founding: Membership, durability_share: float) -> None:
        self.world = world
        self.nodes: Mapping[str, SimNode] = {}
        self.durability_share = durability_share
        self.leaders: dict[int, int] = {}
        self.votes: dict[tuple[int, int], int] = {}
        self.entries: dict[int, tuple[int, int]] = {}
        self.digests: dict[int, bytes] = {}
        self.memberships: list[tuple[int, Membership]] = [(1, founding)]
        """The committed ones, with the indices of their entries."""
        self.rotten: set[tuple[int, bytes]] = set()
        """Replicas and bodies that were made to rot there: no fault of the replica's."""
        self.last: dict[str, tuple[int, int]] = {}
        self.again: Counter[str] = Counter()
        self.lost: dict[int, dict[int, int]] = {}
        """Replicas whose disk was lost, and the terms of the entries that were on it."""
        self.keeping = Keeping()

    # -- what the nodes tell

    def applied(self, node: SimNode, index: int, term: int, payload: bytes) -> None:
        entry = (term, crc32(payload))
        known = self.entries.get(index)
        if known is None:
            self.entries[index] = entry
            if payload[:1] == MEMBERSHIP:
                members = Membership.decode(payload[1:])
                self._follows(index, members)
                self.keeping.check(node, self.nodes.values(), members, self.rotten)
            if index > 1 and (
                self.world.chance(self.durability_share)
                or not self._seems_durable(node, index, term, payload)
            ):
                self.check_durable(index, term, payload)
        elif known != entry:
            raise Broken(
                f"{node.name} applies another entry at {index}: term {term}, not {known[0]}"
            )
        life, before = self.last.get(node.name, (-1, -1))
        if life == node.life and index != before + 1:
            self.again[node.name] += 1
            if (
                index > FIRST or self.again[node.name] > 1
            ):  # who went back to the beginning applies the first once more
                raise Broken(f"{node.name} applies {index} after {before}")
        self.last[node.name] = (node.life, index)
        if node.running:
            self.check_standing(node)
        world = self.world
        world.note(b"%d %d %d" % (node.number, index, term))
        if (
            index % DIGEST_EVERY == 0
            and node.replica.machine.applied_index == index
            and not node.has_rot
        ):
            digest = _digest_of(node)
            if self.digests.setdefault(index, digest) != digest:
                raise Broken(f"{node.name} has another digest at {index}")

    def _follows(self, index: int, new: Membership) -> None:
        _, before = self.memberships[-1]
        if len(before.voters.keys() ^ new.voters.keys()) > 1:
            raise Broken(f"at entry {index} ({new}) follow ({before})")
        self.memberships.append((index, new))

    def started(self, node: SimNode) -> None:
        self.again[node.name] = 0
        self.check_standing(node)

    def check_standing(self, node: SimNode) -> None:
        """Whether a node stands at the membership that is in force where its state machine
        stands."""
        applied = node.replica.machine.applied_index
        at, membership = node.group.members.committed(node.group.commit_index)
        if at and at <= applied:
            known = [one for one in self.memberships if one[0] <= applied]
            if (known and at < known[-1][0]) or ((at, membership) not in known and at > 1):
                raise Broken(
                    f"{node.name}, at {applied}, has ({membership}) of {at} for its members, not "
                    f"({known[-1][1]}) of {known[-1][0]}"
                )

    def voted(self, node: SimNode, message: Message) -> None:
        candidate = node.number if message.kind is Kind.VOTE else message.receiver
        before = self.votes.setdefault((message.term, node.number), candidate)
        if before != candidate:
            raise Broken(f"{node.name} votes for {before} and {candidate} in term {message.term}")

    def stands_at(self, node: SimNode, index: int) -> None:
        """A resync took the state machine over entries that it never applied, or an aborted
        transaction took it back."""
        self.last[node.name] = (node.life, index)
        self.again[node.name] = 0
        self.check_standing(node)

    def stepped(self, node: SimNode) -> None:
        group, index = node.group, node.index
        applied = group.applied_index
        if FIRST < index.committed_index <= applied and (
            group.journal.synced_index < index.committed_index
        ):
            raise Broken(f"the index of {node.name} is ahead of its journal")
        if applied > index.applied_index and index.failed:
            raise Broken(f"{node.name} counts as applied what its index could not take")
        if group.is_leader:
            if node.number not in group.voters:
                raise Broken(f"{node.name} leads, and replica {node.number} is no voter")
            leader = self.leaders.setdefault(group.term, node.number)
            if leader != node.number:
                raise Broken(f"{leader} and {node.number} both lead in term {group.term}")

    def stopped(self, node: SimNode, error: BaseException) -> None:
        raise Broken(f"{node.name} stopped: {type(error).__name__}: {error}") from error

    # -- durability

    def _seems_durable(self, node: SimNode, index: int, term: int, payload: bytes) -> bool:
        """Whether the synced files of a majority have the bytes of the entry and of its bodies
        somewhere. Cheap, so that every entry is looked at; only what does not seem so is looked at
        as a start would."""
        command = REGULAR + payload if payload else NO_OP
        record = HEAD.pack(RECORD_BYTES + len(command), ENTRY, index, term) + command
        try:
            bodies = [node.replica.blobs.get(digest) for digest in _bodies_of(payload)]
        except (BlobMissing, BlobDamaged):
            return False
        # Those that say so first: whoever has not got it is searched to the last byte.
        nodes = sorted(
            self.nodes.values(),
            key=lambda n: not n.running or n.group.journal.synced_index < index,
        )
        return self._have_majority(
            (
                n.number
                for n in nodes
                if n.disk.has_stable("journal/", record)
                and all(
                    n.disk.has_stable("journal/", b) or n.disk.has_stable("blobs/", b)
                    for b in bodies
                )
            ),
            self._lost_with(index, term),
        )

    def disk_lost(self, node: SimNode) -> None:
        """A disk is about to be lost. What was on it may have been acknowledged, and be committed
        on the strength of that a moment later: then it was on the disks of a majority, of which a
        minority is lost."""
        self.keeping.disk_lost(node)
        identity = Identity(CLUSTER_ID, SHARD, node.number)
        limits = node.conditions.journal
        try:
            journal = Journal.open(
                stable_copy(node.disk), "journal", identity, limits, create=False
            )
        except Exception:  # as in `_survives`
            return
        terms = range(journal.first_index, journal.last_index + 1)
        on_it = {index: journal.term_of(index) for index in terms}
        self.lost[node.number] = {**self.lost.get(node.number, {}), **on_it}

    def _lost_with(self, index: int, term: int) -> list[int]:
        return [replica for replica, terms in self.lost.items() if terms.get(index) == term]

    def possible_memberships(self) -> list[Membership]:
        """The newest that is committed, and those that may come to be."""
        at, committed = self.memberships[-1]
        groups = [n.group for n in self.nodes.values() if n.opened]
        return [committed, *(g.membership for g in groups if g.members.index > at)]

    def _have_majority(self, holders: Iterable[int], lost: Sequence[int]) -> bool:
        """By the newest membership that is committed, or one that may be next: an entry may be
        committed by either. No more holders are asked for than that takes."""
        have = set(lost)
        possible = [m.voters.keys() for m in self.possible_memberships()]
        for holder in holders:
            have.add(holder)
            if any(2 * len(have & voters) > len(voters) for voters in possible):
                return True
        return False

    def check_durable(self, index: int, term: int, payload: bytes) -> None:
        """Of a committed entry: whether a majority would still have it after a loss of power
        everywhere."""
        names: list[str] = []

        def holders() -> Iterator[int]:
            for n in self.nodes.values():
                if _survives(n, index, term, payload, self.rotten):
                    names.append(n.name)
                    yield n.number

        if not self._have_majority(holders(), self._lost_with(index, term)):
            raise Broken(
                f"entry {index} of term {term} is committed, and on the disks of {names} only"
            )

    def has_bodies(self, node: SimNode) -> bool:
        """Whether every message's body can be read. Raises BlobMissing, BlobDamaged for a body that
        has no reason not to be."""
        blobs = node.replica.blobs
        for digest, _ in scan(node.engine.table("blobrefs")):
            try:
                blobs.get(digest)
            except (BlobMissing, BlobDamaged):
                if (node.number, digest) in self.rotten:
                    return False  # the scrub has not come by yet
                raise
        return True


def _digest_of(node: SimNode) -> bytes:
    """The digest, whose making writes what the index holds as objects: that is no moment for an
    injected fault."""
    engine = node.engine
    waits, engine.fail_put = engine.fail_put, None
    try:
        return node.index.digest()
    finally:
        engine.fail_put = waits


def _survives(
    node: SimNode, index: int, term: int, payload: bytes, rotten: set[tuple[int, bytes]]
) -> bool:
    if not node.number:
        return False
    disk = stable_copy(node.disk)
    limits = node.conditions
    table = node.stable_index()
    identity = Identity(CLUSTER_ID, SHARD, node.number)
    try:
        journal = Journal.open(disk, "journal", identity, limits.journal, create=False)
    except Exception:  # whatever is wrong with it, it holds neither the entry nor bodies
        return False
    if table.applied_index < index:
        if not journal.first_index <= index <= journal.last_index:
            return False
        if journal.entry(index) != (REGULAR + payload if payload else NO_OP, index, term):
            return False
    needed = _bodies_of(payload)
    if not needed:
        return True
    blobs = BlobStore.open(disk, "blobs", table, limits.blobs)
    restore_bodies(journal, blobs)
    return all(
        (node.number, digest) in rotten
        or _is_readable(blobs, digest)
        or (table.applied_index >= index and not table.references(digest))
        for digest in needed
    )


def _bodies_of(payload: bytes) -> Sequence[bytes]:
    """Those that an entry names, which none does but one of commands."""
    try:
        return entry_blobs(payload)
    except CodecError:
        return ()


def _is_readable(blobs: BlobStore, digest: bytes) -> bool:
    try:
        blobs.get(digest)
    except (BlobMissing, BlobDamaged):
        return False
    return True
