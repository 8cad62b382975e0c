"""Looking into the folder of a node without starting it: its logs as records, and fsck.

Called by `raftmail log show` and `raftmail fsck`. Reads only, since whatever is damaged is to be
fetched again from another replica; with `--repair`, fsck orders the next start to do that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from struct import error as StructError

from raftmail.consensus.engine import NO_OP, REGULAR
from raftmail.consensus.journal import Identity, JournalError, read_records
from raftmail.consensus.membership import KIND as MEMBERSHIP
from raftmail.consensus.membership import BadMembership, Membership
from raftmail.consensus.records import HEADER_BYTES, UnknownFormat, decode_header
from raftmail.consensus.replay import list_segments as list_journal
from raftmail.consensus.replay import read_bodies, replay
from raftmail.consensus.replay import segment_name as journal_segment
from raftmail.mail.codec import CodecError, entry_blobs
from raftmail.node.config import CONFIG_FILE, WORKERS_MAX, ConfigError, load
from raftmail.node.file_watch import FILES
from raftmail.node.folder import FORMAT, holds_none, read_json
from raftmail.node.index_folder import DAMAGED_MAX, order
from raftmail.shard.opening import Repairs
from raftmail.shard.replica import MARK
from raftmail.storage import blobformat
from raftmail.storage.check import PROBLEMS_MAX, check
from raftmail.storage.disk import DiskError, RealDisk, read_what_can_be
from raftmail.storage.index import TABLES, IndexDamaged
from raftmail.storage.kv import LmdbReader, Tables, scan
from raftmail.storage.lmdbcheck import check_pages
from raftmail.storage.place_table import CHECKPOINT, POSITION, load_sealed
from raftmail.storage.records import unseal, unseal_packed

SHARDS = "shards"

_REPAIRABLE = ("index", "bodies")


class ExamineError(Exception):
    """The folder cannot be examined; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record of a journal. `payload` is what the shard applies, and empty for records that are
    no entries, whose `note` tells in words what they are."""

    shard: int
    file: str
    offset: int
    kind: str
    index: int
    term: int
    payload: bytes
    note: str


@dataclass(frozen=True, slots=True)
class FolderProblem:
    """Something wrong: in which shard (None: in none of them), which part, and what."""

    shard: int | None
    part: str
    text: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What fsck looked at in one shard of the data folder `data`, and how much of it."""

    data: str
    shard: int
    entries: int
    messages: int
    bodies: int
    log_bytes: int
    problems: tuple[FolderProblem, ...]
    orders: Repairs
    """What the next start can repair of it."""

    @property
    def is_repairable(self) -> bool:
        """Whether the next start, with the others' help, repairs everything that was found."""
        return all(problem.part in _REPAIRABLE for problem in self.problems)


def data_folders(folder: Path, *, may_hold_none: bool = False) -> list[Path]:
    """The data of a node: `folder` itself; or, where it is (or has) a node's configuration, what
    that says, of each worker that has replicas. With `may_hold_none` there may be no such: of a
    node that joined and was given none yet. Raises `ExamineError`."""
    if folder.name == CONFIG_FILE:
        folder = folder.parent
    folders = [folder]
    if (folder / CONFIG_FILE).exists():
        try:
            config = load(folder)
        except ConfigError as error:
            raise ExamineError(str(error)) from None
        # A node that has fewer workers than before still has the others' data.
        workers = range(1, WORKERS_MAX + 1)
        folders = [config.of_worker(worker).data for worker in workers]
    found = [one for one in folders if (one / SHARDS).is_dir()]
    if not found and not (may_hold_none and any(map(holds_none, folders))):
        raise ExamineError(
            f"{folders[0]}: holds no replicas ({SHARDS}/ is missing); name the folder of a node "
            f"that "
            "was started at least once"
        )
    return found


def shards_of(data: Path) -> list[int]:
    """The shards that a data folder has replicas of, ascending."""
    names = [path.name for path in (data / SHARDS).iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal())


def read_log(data: Path, shard: int) -> Iterator[LogRecord]:
    """The journal of a replica in the order in which it was written; fit also for a running one.

    Raises `ExamineError` when there is none, and at the place where it is damaged."""
    disk = _shard_disk(data, shard)
    term = 0  # of the entry before
    try:
        for record in read_records(disk, "journal"):
            payload, note = record.payload, record.note
            if payload[:1] == REGULAR:
                payload = payload[1:]
                if payload[:1] == MARK:
                    payload, note = b"", "a mark, at which every replica notes its digest"
                elif payload[:1] == MEMBERSHIP:
                    payload, note = b"", _membership_text(payload[1:])
                    if term and record.term != term:  # a master begins its term with another entry
                        note += ", BY FORCE (`raftmail recover`)"
            elif payload == NO_OP:
                payload, note = b"", "a new master begins its term"
            elif payload:
                note = f"an entry of the engine's own ({len(payload)} bytes)"
                payload = b""
            if record.kind == "entry":
                term = record.term
            yield LogRecord(
                shard,
                record.file,
                record.offset,
                record.kind,
                record.index,
                record.term,
                payload,
                note,
            )
    except (JournalError, DiskError) as error:
        raise ExamineError(f"{data / SHARDS / str(shard)}: {error}") from None


def _shard_disk(data: Path, shard: int) -> RealDisk:
    root = data / SHARDS / str(shard)
    if not root.is_dir():
        there = ", ".join(map(str, shards_of(data)))
        raise ExamineError(f"{data}: has no replica of shard {shard}; it has {there}")
    return RealDisk(root)


@contextmanager
def stopped(data: Path) -> Iterator[None]:
    """Keep a node from being started on the folder meanwhile. Raises `ExamineError` when one
    runs."""
    fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ExamineError(
                f"{data}: its node is running (pid {owner}); stop it first"
            ) from None
        yield
    finally:
        os.close(fd)


def fsck(
    folders: Sequence[Path], progress: Callable[[int, str], None], *, repair: bool = False
) -> list[Examined]:
    """Examine all replicas of a stopped node, in the data folders of all its workers: journal,
    index, bodies, and that they agree.

    `progress` is told shard and part before each. With `repair` the next start is ordered to mend
    what it can. Raises `ExamineError` when a folder is in use or is no node's."""
    found: list[Examined] = []
    with ExitStack() as locks:
        for data in folders:
            locks.enter_context(stopped(data))
        for data in folders:
            cluster = _cluster_of(data)
            for shard in shards_of(data):
                one = _examine(data, shard, cluster, progress)
                found.append(one)
                if repair and one.orders != Repairs():
                    order(_shard_disk(data, shard), one.orders)
    return found


def _cluster_of(data: Path) -> bytes:
    path = data / "node.json"
    try:
        found = read_json(path)
        if found["format"] != FORMAT:
            raise ExamineError(f"{path}: format {found['format']}; this release reads {FORMAT}")
        return bytes.fromhex(found["cluster"])
    except OSError as error:
        raise ExamineError(f"{path}: {error.strerror}: the folder of no node") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ExamineError(f"{path}: damaged ({error!r})") from None


def _examine(
    data: Path, shard: int, cluster: bytes, progress: Callable[[int, str], None]
) -> Examined:
    found = _Replica(shard, _shard_disk(data, shard))
    progress(shard, "journal")
    found.check_journal(cluster)
    progress(shard, "index")
    found.check_index()
    progress(shard, "bodies")
    found.check_bodies()
    found.check_together()
    found.check_files()
    orders = found.orders()
    size = sum(path.stat().st_size for path in (found.disk.root / "journal").glob("*.log"))
    count = max(0, found.last_index - found.first_index + 1)
    return Examined(
        str(data),
        shard,
        count,
        found.messages,
        len(found.held),
        size,
        tuple(found.problems),
        orders,
    )


@dataclass(slots=True, repr=False)
class _Replica:
    """What is learnt of one replica on the way."""

    shard: int
    disk: RealDisk
    problems: list[FolderProblem] = field(default_factory=list)
    first_index: int = 1
    last_index: int = 0
    named: dict[bytes, int] = field(default_factory=dict)
    """Bodies that log entries name, and the last entry that names each."""
    log_is_read: bool = False
    applied: int | None = None
    messages: int = 0
    places: dict[bytes, bytes] = field(default_factory=dict)
    local: dict[bytes, bytes] = field(default_factory=dict)
    index_is_read: bool = False
    bad: list[bytes] = field(default_factory=list)
    """Bodies that are not what their place says."""
    needed: set[bytes] = field(default_factory=set)
    """Bodies of messages in the index."""
    held: set[bytes] = field(default_factory=set)
    """Bodies that were read, in the journal or the blob store, and are what their hash says."""

    def tell(self, part: str, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(FolderProblem(self.shard, part, text))

    def check_journal(self, cluster: bytes) -> None:
        try:
            identity = self._identity(cluster)
            if identity is None:
                return
            log = replay(self.disk, "journal", identity)
            if log is None:
                self.tell("journal", "it holds nothing, not even a finished first segment")
                return
            self.first_index, self.last_index = log.log.base_index + 1, log.log.last_index
            for record in read_records(self.disk, "journal"):
                if record.kind == "entry" and record.payload[:1] == REGULAR:
                    for digest in self._bodies_of(record.index, record.payload[1:]):
                        self.named[digest] = record.index
            for digest, body in read_bodies(self.disk, "journal", identity, log.sequences):
                if sha256(body).digest() == digest:
                    self.held.add(digest)
                else:
                    self.tell("journal", f"the body {digest.hex()} is damaged")
        except (JournalError, UnknownFormat, DiskError) as error:
            self.tell("journal", str(error))
        else:
            self.log_is_read = True

    def _identity(self, cluster: bytes) -> Identity | None:
        """Whose journal it says that it is; None after telling what is wrong with that."""
        sequences = list_journal(self.disk, "journal")
        if not sequences:
            self.tell("journal", "it is missing")
            return None
        name = journal_segment("journal", sequences[0])
        file = self.disk.open(name)
        try:
            header = decode_header(file.read(0, HEADER_BYTES))
        finally:
            file.close()
        if header is None:
            self.tell("journal", f"{name}: the header cannot be verified")
            return None
        found = header.identity
        if (found.cluster_id, found.shard) != (cluster, self.shard):
            self.tell("journal", f"it is that of {found}, not of shard {self.shard} here")
            return None
        return found

    def _bodies_of(self, index: int, payload: bytes) -> tuple[bytes, ...]:
        if payload[:1] in (MARK, MEMBERSHIP):
            return ()
        try:
            return entry_blobs(payload)
        except CodecError as error:
            self.tell("journal", f"entry {index} cannot be decoded: {error}")
            return ()

    def check_index(self) -> None:
        folder = self.disk.root / "index"
        if not folder.is_dir():
            self.tell("index", "it is missing")
            return
        try:
            damage = check_pages(folder)
        except OSError as error:
            damage = f"it cannot be read: {error.strerror}"
        if damage:
            self.tell("index", damage)  # LMDB might end this process
            return
        try:
            reader = LmdbReader(folder, TABLES)
            try:
                snapshot = reader.snapshot()
                try:
                    self._read_index(snapshot)
                finally:
                    snapshot.close()
            finally:
                reader.close()
        except DiskError as error:
            self.tell("index", str(error))

    def _read_index(self, tables: Tables) -> None:
        for problem in check(tables):
            self.tell("index", str(problem))
        self.messages = sum(1 for _ in scan(tables.table("messages")))
        self.needed = {key for key, _ in scan(tables.table("blobrefs"))}
        self.places = dict(scan(tables.table("places")))
        for key, record in scan(tables.table("local")):
            with suppress(IndexDamaged):
                self.local[key] = unseal("local", key, record)
        self.index_is_read = True
        state = tables.table("meta").get(b"state")
        try:
            self.applied = 0 if state is None else unseal_packed("meta", b"state", state)[0]
        except IndexDamaged:
            self.applied = None  # told by `check`

    def check_files(self) -> None:
        """The files that are there against those that should be."""
        for folder, pattern in FILES.items():
            if not self.disk.exists(folder):
                continue
            for name in self.disk.listdir(folder):
                if pattern.fullmatch(name) is None:
                    self.tell("files", f"{folder}/{name} was added: this node did not make it")

    def _check_segments(self) -> None:
        """Segments of bodies that are gone, cut short, or that the index does not know."""
        try:
            checkpoint = POSITION.unpack(self.local.get(CHECKPOINT, bytes(POSITION.size)))
            present = blobformat.list_segments(self.disk, "blobs")
            highest = max([checkpoint[0], *present])
            sealed, reclaimed = load_sealed(self.local.get, highest)
        except (ValueError, StructError) as error:
            self.tell("bodies", f"the index does not tell which files there should be: {error}")
            return
        known = dict(sealed)
        if checkpoint[1]:
            known.setdefault(*checkpoint)
        for sequence, length in known.items():
            name = blobformat.segment_name("blobs", sequence)
            if sequence not in present:
                self.tell("bodies", f"{name} is missing, with all bodies that were in it")
                continue
            file = self.disk.open(name)
            try:
                if file.size() < length:
                    self.tell(
                        "bodies", f"{name} was cut short: of {length} bytes, {file.size()} are left"
                    )
                elif not blobformat.is_segment_header(
                    file.read(0, blobformat.SEGMENT_HEADER_BYTES), sequence
                ):
                    self.tell("bodies", f"{name} was changed: it does not begin as it should")
            finally:
                file.close()
        for sequence in present:
            if sequence < checkpoint[0] and sequence not in sealed and sequence not in reclaimed:
                name = blobformat.segment_name("blobs", sequence)
                self.tell("bodies", f"{name} was added: the index knows nothing of it")

    def check_bodies(self) -> None:
        """Read every body. Bytes that belong to none are no problem: a crash leaves some behind."""
        if self.index_is_read:
            self._check_segments()
        verified: set[tuple[bytes, blobformat.BlobPlace]] = set()
        for sequence in blobformat.list_segments(self.disk, "blobs"):
            name = blobformat.segment_name("blobs", sequence)
            try:
                file = self.disk.open(name)
                try:
                    end = file.size()
                    start = blobformat.SEGMENT_HEADER_BYTES
                    for item in blobformat.walk(file, sequence, start, end):
                        if not isinstance(item, blobformat.BlobHeader):
                            continue
                        at = item.place.offset + blobformat.HEADER_BYTES
                        stored = read_what_can_be(file, at, item.place.stored_bytes)
                        if blobformat.decode_body(item, stored) is not None:
                            verified.add((item.digest, item.place))
                finally:
                    file.close()
            except DiskError as error:
                self.tell("bodies", str(error))
        self.held.update(digest for digest, _ in verified)
        for digest, record in self.places.items():
            try:
                place = blobformat.unpack_place(unseal("places", digest, record))
            except (IndexDamaged, ValueError):
                continue  # told by `check`, or the same as a body that is missing
            if (digest, place) not in verified:
                name = blobformat.segment_name("blobs", place.sequence)
                self.bad.append(digest)
                self.tell(
                    "bodies", f"{name}, offset {place.offset}: the body {digest.hex()} is damaged"
                )

    def check_together(self) -> None:
        for digest in sorted(self.needed - self.held):
            self.tell("bodies", f"a message has the body {digest.hex()}, which is missing")
        applied = self.applied
        if applied is None or not self.log_is_read:
            return
        if applied < self.first_index - 1:
            self.tell(
                "index",
                f"it ends at entry {applied}, but the journal begins at {self.first_index}",
            )
        if applied > self.last_index:
            self.tell("journal", f"it ends at entry {self.last_index}, but the index has {applied}")
        for digest, index in self.named.items():
            if applied < index <= self.last_index and digest not in self.held:
                self.tell("bodies", f"entry {index} has the body {digest.hex()}, which is missing")

    def orders(self) -> Repairs:
        """What has to be done about what was found."""
        parts = {problem.part for problem in self.problems}
        lost = "index" in parts and not self.index_is_read
        return Repairs(
            rebuild="fsck could not read it" if lost else "",
            compare="index" in parts and not lost,
            bodies="bodies" in parts,
            damaged=tuple(self.bad[:DAMAGED_MAX]),
        )


def _membership_text(encoded: bytes) -> str:
    try:
        return f"who is in the group: {Membership.decode(encoded)}"
    except BadMembership as error:
        return f"a membership that cannot be read: {error}"
