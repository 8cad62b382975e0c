"""Going on with a replica of which something other than its journal was lost.

*The index*, because it cannot be opened or is gone: it is made anew and empty. The replica keeps
its id, since everything that it promised to others is in the journal: term, vote, and the log that
it acknowledged. Of the log only the part up to the index's own place may have been cut off, and
that part lives in the index alone. So:

1. Where the journal still begins with the first entry, the log is applied again: nothing is lost.
2. Otherwise the index is marked as half resynced, which freezes the replica: it votes for nobody,
   leads, serves, acknowledges and gives nothing, until a resync has made it whole. Its source must
   stand at least where the journal begins: from an older one the log could not be joined to the
   state, and what this replica acknowledged in between would be forgotten.
3. What the log holds behind that stays, and counts again when the replica is whole.
4. No entry is cut off because its body is not there, until all that the log had is applied.
   Elsewhere that a body was never on the disk is told by its place being unknown; here every place
   is unknown at first. All bodies that the log names are read instead, and bad ones are fetched. An
   entry without its body may have been acknowledged once, and so is kept. Or a loss of power took
   the body before that, and so it is not acknowledged (again) until the body has come: see
   `Group.withhold`.

*An index that ends before the log begins*, as an old copy that was put back: the same from 2 on;
the resync sends only what differs.

*Records of the tables that are this replica's own* (`places`, `local`): both tables are emptied,
and made again from the segments of bodies and the messages. Nothing of the state is lost, and
nothing that was acknowledged: as after a lost index, all bodies that the log names are read.

*Segments of bodies*: the index tells which bodies were in them; they are fetched from others.

*Files of the log, while it was in use* (`mend_journal`): the process still knows everything that
they said, but for old entries. The blob store is synced and the index committed first. So the log
need hold nothing up to there, and the rest is written anew (`Journal.mend`). The replica takes no
part meanwhile: its runner is stopped, and then it is opened like any other. Only when an entry
behind the index can be read nowhere any more, the log begins anew at its end. That takes a log that
grew by more than the journal keeps in memory without being applied. It may have acknowledged
entries that it forgets with that. So the index, which ends before the log begins, is none until a
resync has brought it to where the log had ended, at least: the same from 2 on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from raftmail.consensus.journal import Journal
from raftmail.mail.codec import CodecError, entry_blobs
from raftmail.resync.missing import AWAITED_US, Missing, body_size
from raftmail.resync.state import RESYNC_KEYS, Mark, read_local, write_local
from raftmail.shard.bodies import Bodies, restore_bodies
from raftmail.shard.machine import Machine
from raftmail.storage.blobformat import unpack_place
from raftmail.storage.blobs import BlobDamaged, BlobLimits, BlobsDamaged, BlobStore
from raftmail.storage.disk import Disk
from raftmail.storage.index import Index
from raftmail.storage.kv import TableDamaged, scan
from raftmail.storage.records import BLOBREF, IndexDamaged, unseal

logger = logging.getLogger(__name__)

_KEEP_TO = b"rescue/keep"


def join(index: Index, journal: Journal, *, anew: bool) -> None:
    """See that the log goes on where the index ends, or freeze the replica until a resync. `anew`:
    the index was lost, and is empty. Durable when it returns. Raises `DiskError`."""
    begins_at = journal.begins_at
    if anew:
        write_local(index, _KEEP_TO, journal.last_index)
    if index.applied_index < begins_at and Mark.read(index) is None:
        logger.error(
            "shard %d: the index ends at entry %d, the log begins after entry %d: this replica "
            "waits for a resync",
            journal.identity.shard,
            index.applied_index,
            begins_at,
        )
        Mark("nobody yet", 0, begins_at, journal.term_of(begins_at)).write(index)
        anew = True
    if anew:
        index.commit(sync=True)


def forget_own_tables(index: Index) -> None:
    """Empty the tables of this replica's own, of which a record is damaged: where bodies are, and
    which are missing, is read from the files again (`open_bodies` with `anew` and `look`). What is
    known of a resync is kept; an index of which that cannot be told is none: `IndexDamaged`.
    Nothing is on the disk before a commit."""
    local = index.engine.table("local")
    kept = {}
    for key in RESYNC_KEYS:
        found = index.get_local(key)
        if found is not None:
            kept[key] = found
    for table in (local, index.engine.table("places")):
        for key, _ in scan(table):
            table.delete(key)
    for key, value in kept.items():
        index.put_local(key, value)


def own_damage(index: Index) -> str:
    """What is wrong with the tables of this replica's own; "": nothing. Reads all of them."""
    for name in ("places", "local"):
        try:
            for key, record in scan(index.engine.table(name)):
                value = unseal(name, key, record)
                if name == "places":
                    unpack_place(value)
        except (IndexDamaged, ValueError) as e:
            return str(e)
    return ""


def mend_journal(machine: Machine, bodies: Bodies, *, half: bool) -> bool:
    """Have files again that a start can read, and then no other use of these objects than to
    abandon them. `half`: the index is half resynced, and commits nothing. False: what the log held
    behind the index is lost here. Raises `DiskFull` (try again), `SyncFailed`."""
    if bodies.syncing:
        bodies.end_sync()
    bodies.sync_now()
    try:
        durable_index = _commit(machine, bodies.store, half=half)
    except TableDamaged as e:
        logger.error("%s; the index will be made anew, and counts for nothing", e)
        durable_index = 0
    return bodies.journal.mend(durable_index)


def _commit(machine: Machine, store: BlobStore, *, half: bool) -> int:
    """Up to where the index is on its disk, after a commit if it can be. Raises `DiskFull`,
    `TableDamaged`."""
    if machine.index.failed:
        machine.abort()
    if not half:
        try:
            store.place_pending()
            machine.commit(sync=True)
        except IndexDamaged as e:
            logger.error("%s; the log keeps what the index cannot commit", e)
            machine.abort()
    return machine.durable_index


def keep_to(index: Index) -> int:
    """Up to here nothing may be cut off the log for want of a body, and no body is given up.

    0 when the index never was lost, or has come so far since. Raises `IndexDamaged`.
    """
    to = read_local(index, _KEEP_TO)
    return to if type(to) is int and to > index.applied_index else 0


def open_bodies(
    disk: Disk,
    index: Index,
    limits: BlobLimits,
    journal: Journal,
    *,
    anew: bool,
    look: bool = False,
    suspect: Sequence[bytes] = (),
) -> BlobStore:
    """Open the blob store, also when segments are gone: what was in them, and is not in the journal
    either, is noted as missing.

    `anew`: the index has no places yet; they are entered by what the segments say. `look`: look for
    every body that messages have; `suspect` are some that are not good. Raises `DiskError`."""
    shard = journal.identity.shard
    try:
        store = BlobStore.open(disk, "blobs", index, limits, by_headers=anew)
    except BlobsDamaged as e:
        logger.error(
            "shard %d: %s, offset %d: %s; its bodies are fetched from others",
            shard,
            e.file,
            e.offset,
            e.what,
        )
        store = BlobStore.open(disk, "blobs", index, limits, without_missing=True)
        look = True
    restore_bodies(journal, store)
    missing = Missing(index)
    _look_again(store, [*missing.all(), *suspect])
    for digest in suspect:
        size = None if store.has(digest) else body_size(index, digest)
        if size is not None:
            missing.add(digest, size, AWAITED_US)
    if look:
        _forget_unneeded(store, index, journal)
        count = missing.add_many(_lacking(store, index))
        logger.warning("shard %d: %d bodies are missing", shard, count)
    if look or anew or suspect:
        store.place_pending()
        index.commit(sync=True)
    return store


def _forget_unneeded(store: BlobStore, index: Index, journal: Journal) -> None:
    """Forget where bodies are that no message has, and no entry names that is to be applied. The
    scrub reads none of them. One that is needed again later would be taken to be there, and be
    acknowledged, though an older disk does not have it."""
    named: set[bytes] = set()
    begin = max(journal.first_index, index.applied_index + 1)
    for at in range(begin, journal.last_index + 1):
        try:
            named.update(entry_blobs(journal.entry(at)[0][1:]))
        except CodecError:
            continue  # it names none
    for digest in [d for d, _ in scan(index.engine.table("places")) if d not in named]:
        try:
            if not index.references(digest):
                store.forget(digest)
        except IndexDamaged:
            continue  # the scrub has it repaired


def _look_again(store: BlobStore, digests: Iterable[bytes]) -> None:
    """What is known to be missing may lie there damaged: only a read tells."""
    for digest in digests:
        if store.has(digest):
            try:
                store.get(digest)
            except BlobDamaged:
                pass


def _lacking(store: BlobStore, index: Index) -> Iterator[tuple[bytes, int, int]]:
    """Hash, size and rank of the bodies of messages that cannot be in the store."""
    for digest, record in scan(index.engine.table("blobrefs")):
        try:
            size = BLOBREF.unpack(unseal("blobrefs", digest, record))[1]
        except IndexDamaged:
            continue  # the scrub has it repaired
        if not store.has(digest):
            yield digest, size, AWAITED_US
