"""The simulator, proved: each of these faults is put into the code, and seeds are run until one
shows it.

`FAULTS` are those that the simulator has to find; docs/testing.md has a table of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from raftmail.cluster.read_path import ReadPath
from raftmail.consensus import journal as journals
from raftmail.consensus.group import Group
from raftmail.consensus.journal import Journal
from raftmail.consensus.segments import SyncJob as JournalSync
from raftmail.frontends.imap import mailbox_commands
from raftmail.frontends.imap.mailbox_reader import MailboxReader
from raftmail.frontends.imap.session import ImapSession
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail import delivery_key
from raftmail.mail.codec import decode_request
from raftmail.mail.commands import Save
from raftmail.resync import pull
from raftmail.resync.manager import ResyncManager
from raftmail.resync.records import RecordsJob
from raftmail.resync.sink import Sink
from raftmail.resync.writer import Writer
from raftmail.shard import opening
from raftmail.shard.machine import Machine
from raftmail.shard.proposals import Proposals, Waiting
from raftmail.shard.replica import Replica
from raftmail.shard.save import SaveCommand
from raftmail.shard.state import State
from raftmail.shard.store import StoreCommand
from raftmail.storage.blobfiles import BlobSyncJob as BlobSync
from raftmail.storage.blobs import BlobStore
from raftmail.storage.clients import Clients
from raftmail.storage.delivered import Delivered
from raftmail.storage.index import Index
from raftmail.storage.messages import Messages
from raftmail.storage.reclaim import Reclaimer
from raftmail.storage.records import FIXED, MailboxRecord
from tests.consensus.planted import FAULTS as GUARDS
from tests.consensus.planting import Edit, Fault, planted
from tests.simulation.kv import MemoryEngine
from tests.simulation.node import SimNode
from tests.simulation.run import simulate


def _fault(does: str, *edits: tuple[object, str, str, str]) -> Fault:
    return Fault(does, tuple(Edit(*edit) for edit in edits))


FROM_CONSENSUS = (
    "ticket-commits",
    "cut-matching",
    "commit-unverified",
    "prev-unchecked",
    "late-messages",
    "vote-before-sync",
    "stand-before-sync",
    "ack-before-sync",
    "heartbeat-acks-unsynced",
    "release-too-much",
    "leader-counts-unsynced",
    "apply-unsynced",
    "apply-swallows",
    "apply-twice",
    "read-without-round",
    "read-before-own-entry",
    "in-force-when-committed",
    "cut-keeps-membership",
    "restart-forgets-membership",
    "jump-keeps-membership",
    "learners-counted",
    "learner-confirms-reads",
    "change-while-pending",
    "change-before-own-entry",
    "promoted-without-bodies",
    "removed-although-needed",
    "behind-the-log-counts",
)
"""Guards of the engine whose removal breaks a promise that clients see, and not a measure of speed
alone."""

OVER_IMAP = "imap-"
"""How names of faults begin that only mail programs can see."""

_BUT = "for name in [n for n in SMALL if not n.startswith('%s')]:"
"""In place of going through all tables that a resync carries row by row."""

FAULTS: dict[str, Fault] = {
    **{name: GUARDS[name] for name in FROM_CONSENSUS},
    "journal-not-synced": _fault(
        "the journal is not synced", (JournalSync, "run", "file.sync()", "pass")
    ),
    "rot-taken-for-torn": _fault(
        "damage in a journal that was on the disk is taken for the end of a batch that was not",
        (journals, "replay", "if durable > (sequence, end):", "if False:"),
    ),
    "bodies-not-synced": _fault("bodies are not synced", (BlobSync, "run", "file.sync()", "pass")),
    "votes-not-written": _fault(
        "term and vote are not written to the journal",
        (Journal, "setCurrentTerm", "self._files.append(", "(lambda *_: None)("),
    ),
    "ack-without-body": _fault(
        "an entry is acknowledged before its bodies are there",
        (
            Replica,
            "holds_blobs",
            "return payload[:1] in _WITHOUT_BODIES or self.bodies.hold(payload, index)",
            "return payload[:1] in _WITHOUT_BODIES or self.bodies.hold(payload, index) or True",
        ),
    ),
    "torn-entries-kept": _fault(
        "entries whose bodies a loss of power took are acknowledged after it",
        (Replica, "start", "if never_held:", "if False:"),
    ),
    "applied-before-committed": _fault(
        "entries are applied, and answered, before they are committed",
        (Group, "engine_apply", "engine.commit_index(),", "self.journal.last_index,"),
        (Group, "engine_apply", "self.journal.synced_index,", "1 << 60,"),
    ),
    "retries-not-known": _fault(
        "a request that was carried out is carried out again when it is retried",
        (Machine, "_requests", "if known is not None:", "if False:"),
        (Machine, "known", "raw = record.results.get(seq)", "raw = None"),
    ),
    "retries-forgotten": _fault(
        "what was carried out is forgotten by a restart",
        (
            Clients,
            "flush",
            "self._table.put(key, seal_packed(key, self._clients[key].packed()))",
            "pass",
        ),
    ),
    "barrier-skipped": _fault(
        "reads need no barrier",
        (
            Replica,
            "barrier",
            "self.group.barrier(now, done, number)",
            "done(self.group.commit_index)",
        ),
    ),
    "read-not-applied": _fault(
        "a read does not wait until what the barrier says is applied",
        (Replica, "when_applied", "if self.group.applied_index >= index:", "if True:"),
    ),
    "lost-told-as-nothing": _fault(
        "a client is told that nothing happened when the outcome is not known",
        (Proposals, "fail_in_flight", "unknown=True", "unknown=False"),
    ),
    "trimmed-too-far": _fault(
        "the log is trimmed beyond what the index has on the disk",
        (
            Replica,
            "_trim_log",
            "self.machine.durable_index)",
            "self.group.applied_index)",
        ),
    ),
    "uids-given-again": _fault(
        "the UIDs of expunged messages are given to new ones",
        (
            Messages,
            "remove",
            "mailbox.messages -= 1",
            "mailbox.messages -= 1; mailbox.uidnext -= fields[0] == mailbox.uidnext - 1",
        ),
    ),
    "uids-at-propose": _fault(
        "the master gives UIDs when it proposes, by what it has applied by then",
        (
            Replica,
            "_propose_waiting",
            "requests.proposed(batch, group.term)",
            "requests.proposed(batch, group.term); "
            "from tests.simulation.planted import give_uids; give_uids(self.machine.index, batch)",
        ),
        (
            Messages,
            "add",
            "uid = mailbox.uidnext",
            "from tests.simulation.planted import given_uid; uid = given_uid(mailbox, fixed)",
        ),
        (
            Messages,
            "add",
            "mailbox.uidnext = uid + 1",
            "mailbox.uidnext = max(mailbox.uidnext, uid + 1)",
        ),
    ),
    "modseq-stays": _fault(
        "a change of flags does not raise the modseq",
        (StoreCommand, "execute", "highest += 1", "highest += 0"),
    ),
    "apply-not-alike": _fault(
        "what is applied depends on which replica applies it",
        (
            Index,
            "new_mailbox",
            "uidvalidity = max(uidvalidity_seed, self.last_uidvalidity + 1)",
            "uidvalidity = max(uidvalidity_seed, self.last_uidvalidity + 1) + "
            "(self.identity.replica == '2')",
        ),
    ),
    "pins-ignored": _fault(
        "bodies that the log needs are given back",
        (Reclaimer, "_empty", "or store.is_pinned(item.digest)", ""),
        (Reclaimer, "_settle", "or store.is_pinned(d)", ""),
    ),
    "resync-forgets-expunges-unproved": _fault(
        "messages that were expunged stay in a resync, and no digest is looked at that would tell",
        (pull.MailboxPull, "_delta", "since, remove=True", "since, remove=False"),
        (RecordsJob, "verify", "if mine != theirs:", "if False:"),
        (pull, "_alike", "return (at.digest", "return True or (at.digest"),
    ),
    "resync-mark-lost": _fault(
        "a restart takes half a resync for a whole index",
        (Sink, "__init__", "self.mark = Mark.read(index)", "self.mark = None"),
    ),
    "resync-serves-while-half": _fault(
        "a replica is served, votes and applies while its records are half exchanged",
        (Sink, "holds", "return self._records or self.mark is not None", "return False"),
    ),
    "resync-half-source": _fault(
        "a replica that is not whole itself is a source of records",
        (ResyncManager, "_unfit", "if self.sink.holds:", "if False:"),
    ),
    "resync-without-clients": _fault(
        "what clients were answered is not resynced",
        (
            RecordsJob,
            "_take_rows",
            "table = self._index.engine.table(name)",
            "if name == 'clients': return\n    table = self._index.engine.table(name)",
        ),
        (RecordsJob, "verify", "if mine != theirs:", "if False:"),
    ),
    "resync-without-bodies": _fault(
        "bodies that a resync lacks are not noted as missing",
        (Writer, "_gain", "if not self._bodies.has(blob):", "if False:"),
    ),
    "uidvalidity-again": _fault(
        "a mailbox that is made again has the UIDVALIDITY of the one before",
        (
            Index,
            "new_mailbox",
            "uidvalidity = max(uidvalidity_seed, self.last_uidvalidity + 1)",
            "uidvalidity = uidvalidity_seed",
        ),
    ),
    "names-remembered": _fault(
        "a mailbox that was renamed or deleted is still found under its name before",
        (State, "forget", "self.refs.pop(user, None)", "pass"),
    ),
    "resync-leaves-names": _fault(
        "a mailbox that was renamed keeps its name before in a resync",
        (Writer, "finish_mailbox", "self.drop_name(old)", "pass"),
    ),
    "resync-without-membership": _fault(
        "the membership is not resynced",
        (Sink, "_finish", "if accepted.membership:", "if False:"),
    ),
    "jump-unfinished": _fault(
        "a crash between the end of a resync and the jump of the log is not mended at the start",
        (opening, "finish_jump", "journal.reset(at, term)", "pass"),
    ),
    "jump-keeps-log": _fault(
        "a jump keeps a log that does not have the state's entry",
        (Group, "_has_synced", "and self.journal.term_of(index) == term", ""),
    ),
    "index-goes-on": _fault(
        "a transaction of the index that lost a change goes on, and LMDB lets it",
        (Index, "failed", "return self._failed or self.engine.broken", "return self._failed"),
        (MemoryEngine, "note", "if self.broken:", "if False:"),
        (MemoryEngine, "commit", "if self.broken:", "if False:"),
    ),
    "membership-not-kept": _fault(
        "the index does not keep the membership",
        (Machine, "apply_membership", "self.index.put_membership(index, encoded)", "pass"),
    ),
    "old-id-returns": _fault(
        "a machine that lost its disk returns under its old id",
        (SimNode, "lose_disk", "self.number = 0", "pass"),
    ),
    "deliveries-not-known": _fault(
        "a delivery that is repeated is not looked for",
        (SaveCommand, "_plan", "if keys:", "if False:"),
    ),
    "acls-not-carried": _fault(
        "a resync does not carry who may do what with mailboxes",
        (RecordsJob, "records", "for name in SMALL:", _BUT % "acls"),
    ),
    "scripts-not-carried": _fault(
        "a resync does not carry scripts",
        (RecordsJob, "records", "for name in SMALL:", _BUT % "scripts"),
    ),
    "annotations-not-carried": _fault(
        "a resync does not carry annotations",
        (RecordsJob, "records", "for name in SMALL:", _BUT % "annotations"),
    ),
    "deliveries-not-carried": _fault(
        "a resync does not carry what was delivered",
        (RecordsJob, "records", "for name in SMALL:", _BUT % "deliver"),
    ),
    "deliveries-soon-forgotten": _fault(
        "what was delivered is forgotten after the next few",
        (Delivered, "add", "self._count >= self._kept_min", "self._count >= 3"),
        (
            Delivered,
            "_forget_oldest",
            "is_old = self._count >= self._kept_min and abs(received_us - then_us) > kept_us",
            "is_old = self._count >= 3",
        ),
    ),
    "deliveries-by-sender": _fault(
        "the key of a delivery leaves the message out",
        (
            delivery_key,
            "delivery_key",
            "_LENGTH.pack(len(body_digest)) + body_digest",
            'b""',
        ),
    ),
    "imap-vanished-left-out": _fault(
        "VANISHED (EARLIER) leaves the first change out that a client lacks",
        (
            mailbox_commands,
            "_tell_since",
            "view.number, known.modseq)",
            "view.number, known.modseq + 1)",
        ),
    ),
    "imap-vanished-of-living": _fault(
        "VANISHED (EARLIER) names a message that is there",
        (
            mailbox_commands,
            "_tell_since",
            "vanished = vanished - view.uids",
            "vanished = vanished | view.uids.part(view.last_uid, view.last_uid)",
        ),
    ),
    "imap-expunge-not-told": _fault(
        "a message that another client removed keeps its number",
        (MailboxView, "note", "self._gone = self._gone | self.numbering.known(vanished)", "pass"),
    ),
    "imap-select-without-barrier": _fault(
        "reads of sessions need no barrier",
        (
            ReadPath,
            "answer",
            "self._read_index(shard, deadline_s, answered)",
            "answered(router.replicas[shard].applied_index)",
        ),
    ),
    "imap-noop-without-barrier": _fault(
        "NOOP reads as of the command before it",
        (ImapSession, "_noop", "client.renew()", "pass"),
    ),
    "imap-reads-go-back": _fault(
        "a command reads from one replica, and then from another that is behind it",
        (ReadPath, "_answer_elsewhere", "point.passed()", "pass"),
        (ReadPath, "_answer_locally", "point.reached(shard, replica.applied_index)", "pass"),
    ),
    "imap-silent-hides-others": _fault(
        "a silent STORE keeps silent about what others changed",
        (MailboxView, "saw_all_before", "any(uid in uids for uid in self._fresh)", "False"),
        (MailboxView, "saw_all_before", "modseq == self.modseq + 1 + at", "True"),
    ),
    "imap-last-change-missed": _fault(
        "NOOP overlooks the last change of a mailbox",
        (
            MailboxReader,
            "refresh",
            "info.highestmodseq <= view.modseq",
            "info.highestmodseq <= view.modseq + 1",
        ),
    ),
    "places-before-sync": _fault(
        "the index says where bodies are that are not on the disk",
        (BlobStore, "place_pending", "if (place.sequence, place.end) > durable:", "if False:"),
    ),
}


_given: dict[tuple[bytes, int], int] = {}


def give_uids(index: Index, batch: Sequence[Waiting]) -> None:
    """What a master would write into its entry, were UIDs in it: one for each message and
    mailbox."""
    following: dict[int, int] = {}
    for waiting in batch:
        command = decode_request(waiting.request).command
        for message in command.messages if isinstance(command, Save) else ():
            for to in message.targets:
                of = index.mailboxes
                mailbox = of.get(to.mailbox) if isinstance(to.mailbox, int) else None
                if isinstance(to.mailbox, str):
                    mailbox = of.named(to.user, to.mailbox)
                if mailbox is not None:
                    uid = following.get(mailbox.number, mailbox.uidnext)
                    following[mailbox.number] = uid + 1
                    _given[message.guid, mailbox.number] = uid


def given_uid(mailbox: MailboxRecord, fixed: bytes) -> int:
    """The UID that came with the entry."""
    return _given.get((FIXED.unpack(fixed)[2], mailbox.number), mailbox.uidnext)


def seeds_until_found(fault: Fault, most: int, *, imap: bool = False) -> tuple[int, str]:
    """After how many seeds (from 0) the fault shows, and how; 0 when it does not within `most`.
    With `imap` they have mail programs."""
    with planted(fault):
        for seed in range(most):
            outcome = simulate(seed, 3, imap=imap)
            if outcome.problem:
                return seed + 1, outcome.problem
    return 0, ""


def report(most: int, only: str | None = None) -> int:
    """Print the table; 1 when something is not found."""
    missed = []
    print("| fault | seeds | seconds | found as |\n|---|---|---|---|")
    for name, fault in {**FAULTS, **(GUARDS if only else {})}.items():
        if only and name != only:
            continue
        began = time.monotonic()
        seeds, problem = seeds_until_found(fault, most, imap=name.startswith(OVER_IMAP))
        took = time.monotonic() - began
        if not seeds:
            missed.append(name)
        told = problem.replace("\n", " ").replace("|", "/")[:100]
        print(
            f"| `{name}`: {fault.does} | {seeds or f'not in {most}'} | {took:.0f} | {told} |",
            flush=True,
        )
    if missed:
        print("not found: " + ", ".join(missed))
    return 1 if missed else 0
