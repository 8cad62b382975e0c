"""Whether what was acknowledged outlives a change of members.

A replica that becomes a voter counts as one that has every body. Of a membership that is without
another's voters, a majority must have them.

Entries need no such look: who acknowledges the change has all that are before it in the log. Bodies
do not come with the log to one that was brought back by a resync.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftmail.consensus.journal import Identity, Journal
from raftmail.consensus.membership import Membership
from raftmail.mail.codec import CodecError, entry_blobs
from raftmail.shard.bodies import restore_bodies
from raftmail.storage.blobs import BlobDamaged, BlobMissing, BlobStore
from raftmail.storage.disk import DiskError
from raftmail.storage.kv import scan
from tests.simulation.node import CLUSTER_ID, SHARD, Broken, SimNode
from tests.simulation.nodedisk import stable_copy


class Keeping:
    """Remembers what was on disks that were lost: a replica that is still named, and whose disk is
    lost, had said so before."""

    def __init__(self) -> None:
        self._lost: dict[int, set[bytes]] = {}

    def disk_lost(self, node: SimNode) -> None:
        """A disk is about to be lost."""
        self._lost[node.number] = self._lost.get(node.number, set()) | bodies_on(node, None)

    def check(
        self,
        node: SimNode,
        nodes: Iterable[SimNode],
        members: Membership,
        rotten: set[tuple[int, bytes]],
    ) -> None:
        """When the first node applies a membership: of each body that its index names, a majority
        of the new voters would have it after a loss of power everywhere. Raises `Broken`."""
        lacking = {digest: 0 for digest, _ in scan(node.engine.table("blobrefs"))}
        voters = [n for n in nodes if n.number in members.voters]
        for number in members.voters:
            if not lacking:
                return
            have = self._lost.get(number, set())
            have = have.union(*(bodies_on(n, lacking) for n in voters if n.number == number))
            for digest in list(lacking):
                if digest in have or (number, digest) in rotten:
                    lacking[digest] += 1
                    if 2 * lacking[digest] > len(members.voters):
                        del lacking[digest]
        if lacking:
            digest, holders = lacking.popitem()
            raise Broken(
                f"({members}) have come to be, and the body {digest.hex()[:8]} is on the disks of "
                f"{holders} only"
            )


def bodies_on(node: SimNode, digests: Iterable[bytes] | None) -> set[bytes]:
    """Which of these bodies, or of those that its index and log name, a node would have after a
    loss of power at worst."""
    disk = stable_copy(node.disk)
    conditions = node.conditions
    index = node.stable_index()
    identity = Identity(CLUSTER_ID, SHARD, node.number)
    try:
        journal = Journal.open(disk, "journal", identity, conditions.journal, create=False)
        store = BlobStore.open(
            disk, "blobs", index, conditions.blobs, by_headers=node.index_lost, without_missing=True
        )
        restore_bodies(journal, store)
    except DiskError:
        return set()
    if digests is None:
        digests = {digest for digest, _ in scan(index.engine.table("blobrefs"))}
        for at in range(journal.first_index, journal.last_index + 1):
            digests.update(_named(journal.entry(at)[0]))
    return {digest for digest in digests if _is_readable(store, digest)}


def _named(command: bytes) -> Iterable[bytes]:
    try:
        return entry_blobs(command[1:])
    except CodecError:
        return ()


def _is_readable(store: BlobStore, digest: bytes) -> bool:
    try:
        store.get(digest)
    except (BlobMissing, BlobDamaged):
        return False
    return True
