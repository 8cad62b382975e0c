"""The state machine: carries out committed entries on the index, each request once (P3), the same
on every replica (P4).

`apply` is total: what cannot be decoded has no effect, what breaks a rule is refused, and either
is the same everywhere. It raises only for what is this replica's own trouble, damage or a full
disk. Then nothing can be committed until `abort`, and what that loses is applied again.

A message's modseq changes only with its flags: a STORE that leaves a message as it is does not
touch it, and does not name it among the changed. A command makes one step of the modseq of each
mailbox it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raftmail.mail import queries as q
from raftmail.mail.arrivals import Arrival
from raftmail.mail.codec import (
    ACTIVATE_SCRIPT,
    ANNOTATE,
    AS_GUEST,
    CONFIGURE,
    COPY,
    COPY_IN,
    CREATE,
    DELETE,
    DELETE_SCRIPT,
    DROP_APP_PASSWORD,
    EXPUNGE,
    MAKE_FIRST,
    NOTE_SHARER,
    OWN_SEEN,
    PURGE_USER,
    PUT_APP_PASSWORD,
    PUT_SCRIPT,
    PUT_USER,
    REMOVE_USER,
    RENAME,
    RENAME_SCRIPT,
    SAVE,
    SET_ACL,
    STORE,
    SUBSCRIBE,
    CodecError,
    command_of,
    head_is_good,
    open_entry,
)
from raftmail.mail.codec_results import REFUSED, result_of
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code, Result
from raftmail.shard import configuration, copy_move, mailboxes, queries, sharing
from raftmail.shard.aged_mail import AgedMail, find_aged
from raftmail.shard.annotations import annotate
from raftmail.shard.guests import GuestCommands
from raftmail.shard.own_seen import set_own_seen
from raftmail.shard.save import SaveCommand
from raftmail.shard.scripts import activate_script, delete_script, put_script, rename_script
from raftmail.shard.state import Refusal, State
from raftmail.shard.store import StoreCommand
from raftmail.storage.clients import weight_of
from raftmail.storage.index import Index, IndexFailed

_STALE: Raw = (
    REFUSED,
    Code.STALE.value,
    "the client has had the result of this sequence number, and it is forgotten",
)

_COMMANDS: dict[int, Callable[[State, Any], Raw]] = {
    CREATE: mailboxes.create,
    DELETE: mailboxes.delete,
    RENAME: mailboxes.rename,
    SUBSCRIBE: mailboxes.subscribe,
    COPY: copy_move.copy,
    EXPUNGE: copy_move.expunge,
    PUT_USER: mailboxes.put_user,
    PUT_APP_PASSWORD: mailboxes.put_app_password,
    DROP_APP_PASSWORD: mailboxes.drop_app_password,
    REMOVE_USER: mailboxes.remove_user,
    PURGE_USER: mailboxes.purge,
    CONFIGURE: configuration.configure,
    ANNOTATE: annotate,
    MAKE_FIRST: mailboxes.make_first,
    PUT_SCRIPT: put_script,
    DELETE_SCRIPT: delete_script,
    RENAME_SCRIPT: rename_script,
    ACTIVATE_SCRIPT: activate_script,
    SET_ACL: sharing.set_acl,
    NOTE_SHARER: sharing.note_sharer,
    OWN_SEEN: set_own_seen,
}

ROW_BYTES = 512
"""What one changed message is taken to add to the open transaction."""


class OutOfOrder(Exception):
    """An entry came that does not follow the last one applied."""


class Machine:
    """Applies entries to an index, in order. `dirty_requests` and `dirty_bytes` (an estimate) grow
    until `commit`."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self._notes_arrivals = False
        self._renew()

    def _renew(self) -> None:
        self._state = State(self.index)
        self._store = StoreCommand(self._state)
        self._save = SaveCommand(self._state)
        self._save.arrivals = [] if self._notes_arrivals else None
        self._guests = GuestCommands(self._state, self._save, self._store)
        self.dirty_requests = 0
        self._payload_bytes = 0

    def note_arrivals(self) -> None:
        """From now on keep what Saves bring, for `take_arrivals`."""
        self._notes_arrivals = True
        self._save.arrivals = []

    def take_arrivals(self) -> list[Arrival]:
        """What came since the last call. What is applied again after `abort` comes again."""
        arrived = self._save.arrivals
        if not arrived:
            return []
        self._save.arrivals = []
        return arrived

    @property
    def applied_index(self) -> int:
        return self.index.applied_index

    @property
    def applied_term(self) -> int:
        return self.index.applied_term

    @property
    def durable_index(self) -> int:
        """What is certainly in the index on the disk: the journal is not needed up to here."""
        return self.index.durable_index

    @property
    def dirty(self) -> bool:
        """Whether an entry was applied since the last commit."""
        return self.index.applied_index != self.index.committed_index

    @property
    def dirty_bytes(self) -> int:
        return self._payload_bytes + self._state.rows_changed * ROW_BYTES

    def apply(
        self, index: int, term: int, payload: bytes, want_results: bool = True
    ) -> list[tuple[bytes, int, Result]]:
        """Carry out the entry at `index`; b"" is a no-op. The results, by client and seq, if they
        are wanted. An entry already applied gives []. Raises `OutOfOrder`, `IndexDamaged`,
        `DiskError`."""
        given = self.apply_raw(index, term, payload)
        if not want_results:
            return []
        return [(client, seq, result_of(raw)) for client, seq, raw in given]

    def apply_raw(self, index: int, term: int, payload: bytes) -> list[tuple[bytes, int, Raw]]:
        """`apply`, with results as `codec_results.result_of` takes them, for those alone that
        somebody waits for."""
        target = self.index
        if index <= target.applied_index:
            return []
        if index != target.applied_index + 1:
            raise OutOfOrder(f"entry {index} does not follow entry {target.applied_index}")
        if target.failed:
            raise OutOfOrder(f"nothing can be applied before an abort: {target.failed}")
        try:
            results = self._requests(payload) if payload else []
        except BaseException as e:
            target.fail(f"entry {index}: {e or type(e).__name__}")
            raise
        target.applied_index = index
        target.applied_term = term
        self._payload_bytes += len(payload)
        return results

    def apply_membership(self, index: int, term: int, encoded: bytes) -> None:
        """Carry out an entry that changes who is in the group: keep it. Raises as `apply`."""
        if index > self.index.applied_index:
            self.apply_raw(index, term, b"")
            self.index.put_membership(index, encoded)

    def _requests(self, payload: bytes) -> list[tuple[bytes, int, Raw]]:
        try:
            hashes, requests = open_entry(payload)
        except CodecError:
            return []
        blobs = frozenset(hashes)
        state = self._state
        clients = self.index.clients
        use, keep = clients.use, clients.keep
        store = self._store.execute
        results: list[tuple[bytes, int, Raw]] = []
        for raw in requests:
            if not head_is_good(raw):
                continue
            client, seq, floor, kind = raw[:4]
            record = use(client)
            if seq <= record.floor:
                result = _STALE
            else:
                known = record.results.get(seq)
                if known is not None:
                    result = known
                else:
                    heavy = 0
                    try:
                        if kind == STORE:
                            result = store(raw)
                            if type(raw[6]) is not int:
                                heavy = weight_of(result)
                        else:
                            if kind == SAVE:
                                result = self._save.execute(raw, blobs)
                            elif kind == COPY_IN:
                                result = self._save.copy_in(raw, blobs)
                            elif kind == AS_GUEST:
                                result = self._guests.execute(raw, blobs)
                            else:
                                command = command_of(raw)
                                result = _COMMANDS[kind](state, command)
                            heavy = weight_of(result)
                    except Refusal as e:
                        result = e.raw
                    except CodecError as e:
                        result = (REFUSED, Code.BAD.value, str(e)[:1000])
                    keep(record, seq, result, heavy)
            if floor > record.floor:
                clients.forget(record, floor)
            results.append((client, seq, result))
        self.dirty_requests += len(requests)
        return results

    def known(self, client: bytes, seq: int) -> Result | None:
        """The result of a request that was applied before; None when it is not known to have
        been."""
        record = self.index.clients.find(client)
        if record is None:
            return None
        if seq <= record.floor:
            return result_of(_STALE)
        raw = record.results.get(seq)
        return None if raw is None else result_of(raw)

    def query(self, query: q.Query) -> q.Answer:
        """Answer from what is applied. Of `FetchBody` the answer is the body's sha256 (see
        `body_of`). Raises `IndexDamaged`, and `IndexFailed` while the open transaction has to be
        aborted: changes may be lost from it that were answered."""
        self._check()
        return queries.answer(self._state, query)

    def body_of(self, query: q.Query) -> bytes | None:
        """The sha256 of the body of a message, if there is such a message. Raises
        `IndexDamaged`."""
        self._check()
        return queries.body_of(self._state, query)

    def bodies_of(self, query: q.Query) -> list[tuple[int, bytes]] | None:
        """UIDs and sha256 of the bodies that answer a query; None: there is no such mailbox. Raises
        `IndexDamaged`."""
        self._check()
        return queries.bodies_of(self._state, query)

    def aged(self, after: int, ages_us: Mapping[str, int], now_us: int) -> AgedMail:
        """See `aged_mail.find_aged`. Raises `IndexDamaged`, `IndexFailed`."""
        self._check()
        return find_aged(self.index, after, ages_us, now_us)

    def _check(self) -> None:
        if self.index.failed:
            raise IndexFailed(f"nothing can be read before an abort: {self.index.failed}")

    def commit(self, sync: bool = True) -> None:
        """Commit the open transaction. Raises `DiskFull` and other `DiskError`, after which only
        `abort` helps."""
        self.index.commit(sync)
        if self.index.mailboxes.trim():
            self._state.forget_all()
        self._state.rows_changed = 0
        self.dirty_requests = 0
        self._payload_bytes = 0

    def abort(self) -> None:
        """Go back to the last commit: apply again from `applied_index` + 1. Raises
        `TableDamaged`."""
        self.index.abort()
        self._renew()
