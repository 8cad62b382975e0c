"""A replica's part in its shard's Raft group: the engine, the guards, and the pace at which entries
flow.

The driver's loop, once per turn: feed `receive` and `propose`; send `take_messages()`; run
`begin_sync`'s job (in a thread or inline) and `end_sync`; `advance`; send `take_messages()` again.

Invariants:

1. A message that promises something (a vote, an acknowledgement, a candidacy) leaves only after a
   sync. That sync began after the promise was written to the journal (G8).
2. The commit index never passes what this replica's own disk holds while it leads.
3. Entries reach `Applier.apply` once, in order, and only when committed; an exception from there
   ends the replica (G10).
4. Every barrier's callback is called exactly once.
5. The membership in force is the newest of the log. Consecutive ones differ in one voter at most.
   One follows another only when that is committed, and with it an entry of the leader's own term
   (G12).
6. Before others have told what this replica promised them it acknowledges nothing, votes for nobody
   and adopts no term (G13).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from raftmail.consensus import messages as m
from raftmail.consensus.appends import Diverged
from raftmail.consensus.applier import Applier, NotLeader
from raftmail.consensus.change import ChangeRefused, check_change
from raftmail.consensus.election import Elections
from raftmail.consensus.engine import (
    APPLIED_INDEX,
    COMMIT_INDEX,
    FOLLOWER,
    LEADER,
    NO_OP,
    REGULAR,
    TERM,
    Engine,
    clock,
)
from raftmail.consensus.fitness import HAND_OVER_ENTRIES, Fitness
from raftmail.consensus.follower import Follower
from raftmail.consensus.followers import Flow, Followers
from raftmail.consensus.heartbeats import ANSWER, BEAT, Beat
from raftmail.consensus.journal import Entry, Journal, SyncJob
from raftmail.consensus.members import PREFIX, Members, membership_of
from raftmail.consensus.membership import KIND, Membership
from raftmail.consensus.messages import ACK, APPEND, PREVOTE, PREVOTE_GRANTED, VOTE, Kind, Message
from raftmail.consensus.outbox import Outbox, Outgoing
from raftmail.consensus.promises import KEEP_S, Promises
from raftmail.consensus.proof import AHEAD, LEADS, LOST, VOTER, Proof
from raftmail.consensus.read_index import ReadIndex, ReadRounds
from raftmail.consensus.timing import Timing
from raftmail.storage.disk import DiskFull

logger = logging.getLogger(__name__)


def _read(path: str) -> Any:
    """A property that needs no call in Python: whoever drives a group reads these all the time."""
    return property(attrgetter(path))


class JournalBehind(ValueError):
    """The index has applied more than the journal holds: the journal is an older one, and the
    replica's disk is lost."""


class Group:
    """See the module's docstring. `journal` is this replica's own. `membership` is the one in force
    at `applied_index`, whose entry has `membership_index` (1: what the group was founded with,
    alike on all founders; 0: what somebody said, by which this replica does not stand for
    election); later ones are read from the journal."""

    term: int = _read(f"engine.{TERM}")
    is_leader: bool = _read("engine.leads")
    commit_index: int = _read(f"engine.{COMMIT_INDEX}")
    applied_index: int = _read(f"engine.{APPLIED_INDEX}")
    membership: Membership = _read("members.newest")
    """The newest in the log, which is in force."""
    voters: frozenset[int] = _read("members.voters")
    """The replicas that majorities are counted in."""

    def __init__(
        self,
        group: int,
        self_id: int,
        membership: Membership,
        journal: Journal,
        applier: Applier,
        applied_index: int,
        rng: random.Random,
        now: float,
        timing: Timing | None = None,
        flow: Flow | None = None,
        *,
        membership_index: int = 1,
        doubtful: bool = False,
    ) -> None:
        self.group = group
        self.self_id = self_id
        self.members = Members(self_id, membership, membership_index)
        self.promises = Promises(journal.promises)
        self.journal = journal
        self.timing = timing = timing or Timing()
        self.flow = flow or Flow()
        self._applier = applier
        self._rng = rng
        self._releasable = 0
        self._links: set[str] = set()
        self.links_changed = 0
        """Counts changes of the links and of the membership in force, for who keeps what follows
        from them."""
        self._reads = ReadRounds()
        self._transfer: tuple[int, float] | None = None
        self._refused = 0
        self.resync_wanted: tuple[int, int] | None = None
        """Index and term of a state that the leader offers, because its log does not reach back far
        enough (`take_resync_wanted`)."""
        clock.now = now
        self.engine = Engine(self, self_id, journal, rng, timing)
        self._out = out = Outbox(group, self_id, self.engine, self.members)
        self._send = out.send
        last = journal.last_index
        self.proof = Proof(
            self.members,
            (max(journal.getCurrentTerm(), journal.term_of(last)), last),
            rng.getrandbits(63),
            now,
            timing.election_min_s,
            doubtful,
            out.given,
        )
        self.elections = Elections(
            self.engine, self.members, self_id, rng, self._send, applier.fitness, self.proof
        )
        self.followers = Followers(
            self.engine, self.flow, timing.heartbeat_s, self._send, out.send_beat
        )
        self._following = Follower(
            group,
            self.engine,
            self.elections,
            self.members,
            applier,
            self.flow.parked_bytes_max,
            self._send,
            self._members_changed,
        )
        self._keep_promises_at = 0.0
        self._begin_at(applied_index, membership_index)

    def _begin_at(self, applied_index: int, membership_index: int) -> None:
        """Take up the log behind what is applied, and the memberships that it names."""
        journal = self.journal
        if applied_index == 0:
            # PySyncObj's log begins with a no-op of term 0 at index 1, alike everywhere.
            self._applier.apply(1, 0, b"")
            applied_index = 1
        if applied_index > journal.last_index:
            raise JournalBehind(
                f"the index has applied entry {applied_index}, but the journal ends at "
                f"{journal.last_index}: "
                "the journal lost entries; give this replica a new disk (it resyncs under a new id)"
            )
        self.engine.set_applied(applied_index)
        for command, index, _ in self.entries(applied_index + 1, journal.last_index):
            later = membership_of(command)
            if later is not None and index > membership_index:
                self.members.append(index, later)
        self._members_changed()

    # -- what is known ---------------------------------------------------------------------------

    @property
    def leader(self) -> int | None:
        return self.engine.leader()

    @property
    def has_to_apply(self) -> bool:
        """Whether an entry is committed, and on the disk here, that is not applied."""
        applied = self.engine.applied_index()
        return applied < self.engine.commit_index() and applied < self.journal.synced_index

    @property
    def committed_membership(self) -> Membership:
        """The newest that is committed: it was in force on a majority, and will not be taken
        back."""
        return self.members.committed(self.commit_index)[1]

    @property
    def removed(self) -> bool:
        """Whether this replica is known to be no member any more, and for ever: by its own log, or
        because a leader said so."""
        return self.elections.removed or self.members.was_removed(self.self_id, self.commit_index)

    def progress(self) -> dict[int, int]:
        """Of a leader: up to where each other member's disk is known to hold the log."""
        return {peer: self.engine.match_index(peer) for peer in self.followers}

    @property
    def refused(self) -> int:
        """Messages that were not taken, for what they said."""
        return self._refused + self._following.refused

    @property
    def last_index(self) -> int:
        return self.journal.last_index

    @property
    def entries_in_flight(self) -> int:
        """Of a leader: entries that no majority is known to hold yet, whether or not the commit
        index has followed."""
        engine = self.engine
        last, commit = self.journal.last_index, engine.commit_index()
        if commit == last:
            return 0
        held = self.followers.majority_index(engine.held_index())
        return last - max(held, commit)

    @property
    def has_beats(self) -> bool:
        """Whether `take_beats` would give any."""
        return bool(self._out.beats)

    @property
    def has_output(self) -> bool:
        """Whether `take_messages` or `take_beats` would give any."""
        out = self._out
        return bool(out.ready or out.beats)

    @property
    def has_held_messages(self) -> bool:
        """Whether any wait for a sync."""
        return bool(self._out.held)

    @property
    def accepts(self) -> bool:
        """Whether `propose` would be taken now."""
        return self.engine.leads and self._transfer is None

    @property
    def keeps_log(self) -> bool:
        """Whether the log must not be trimmed: a change is not committed, which counts on replicas
        to take from it what they lack."""
        return self.members.index > self.commit_index

    @property
    def is_settled(self) -> bool:
        """Whether it is known that this replica has everything that it ever promised (G13)."""
        journal = self.journal
        last = journal.last_index
        return self.proof.is_settled(journal.term_of(last), last)

    def match_index(self, peer: int) -> int:
        """Of a leader: up to where a follower's disk is known to hold the log."""
        return self.engine.match_index(peer)

    def lacks(self, index: int, term: int) -> bool:
        """Whether the own state is behind the one at an entry, or stands there by a log that begins
        with another entry: one that was never committed, after which the log was begun anew because
        it could not be read any more (`Journal.mend`)."""
        applied = self.engine.applied_index()
        return index > applied or (index == applied > 0 and self.journal.term_of(index) != term)

    def entries(self, first: int, last: int) -> Sequence[Entry]:
        """(command, index, term) of the log from `first` to `last`."""
        return self.journal.entries(first, last)

    @property
    def contradiction(self) -> tuple[float, Diverged] | None:
        """When an append contradicted what is committed here, the last time, and how; it was
        refused. None: it never happened."""
        return self._following.contradiction

    @property
    def has_parked(self) -> bool:
        """Whether appends wait for blobs."""
        return bool(self._following.parked)

    def is_linked(self, node: str) -> bool:
        """Whether there is a link to a node."""
        return node in self._links

    def node_of(self, replica: int) -> str | None:
        """The node that a replica is on, as far as is known."""
        return self.members.node_of(replica)

    # -- input -------------------------------------------------------------------------------------

    def connected(self, now: float, node: str) -> None:
        """A new ordered link to a node: what was on its way to its replicas on an older one may be
        lost."""
        clock.now = now
        self._links.add(node)
        self.links_changed += 1
        for peer in self.followers:
            if self.members.node_of(peer) == node:
                self._link_up(peer)

    def _link_up(self, peer: int) -> None:
        self.followers.connected(peer)
        self.engine.link.connected(self.engine.nodes[peer])
        self.proof.linked_anew(peer)
        self._ask(peer)
        if self.is_leader:
            self.followers.rewind(peer)
            self.followers.replicate_to(peer, clock.now, self._open_round())

    def disconnected(self, now: float, node: str) -> None:
        """The link to a node is gone. When the leader is there, the election comes soon instead of
        after the timeout."""
        clock.now = now
        self._links.discard(node)
        self.links_changed += 1
        for peer in self.followers:
            if self.members.node_of(peer) == node:
                self.followers.disconnected(peer)
                self.engine.link.disconnected(self.engine.nodes[peer])
        leader = self.engine.leader()
        if leader is not None and not self.is_leader and self.members.node_of(leader) == node:
            timing = self.timing
            soon = now + self._rng.uniform(timing.link_lost_min_s, timing.link_lost_max_s)
            if soon < self.engine.election_deadline():
                self.engine.set_election_deadline(soon)
            self.elections.leader_lost()

    def propose(self, payload: bytes) -> tuple[int, int]:
        """Put a command into the log; returns (term, index) by which its outcome is known when
        applied. What is applied at that index with another term is not it. Raises `NotLeader`, and
        DiskFull from the journal."""
        if not self.accepts:
            raise NotLeader(self.engine.leader())
        if payload[:1] == KIND:
            raise ValueError("a membership is put into the log by `change` alone")
        return self.engine.append(REGULAR + payload)

    def change(self, now: float, new: Membership) -> tuple[int, int]:
        """Of a leader: put another membership into the log, where it is in force at once. Returns
        (term, index); it is for good when `committed_membership` is it. Raises `ChangeRefused` for
        what `change.check_change` tells, and DiskFull from the journal."""
        clock.now = now
        check_change(self, new, self._applier.lacks_bodies())
        term, index = self.engine.append(PREFIX + new.encode())
        self.members.append(index, new)
        self._members_changed()
        self._replicate_all(heartbeat=False)
        return term, index

    def _members_changed(self) -> None:
        """Another membership is in force: count by it, feed by it."""
        self.links_changed += 1
        members = self.members
        others = members.other_voters
        self.engine.set_members(others, [p for p in members.others if p not in others])
        for peer in self.followers.set_members(members.others, others):
            if members.node_of(peer) in self._links:
                self._link_up(peer)
        if self.is_leader:
            self._through(self._reads.take_if_confirmed(members.voters))

    def receive(self, now: float, data: bytes, node: str) -> None:
        """Take a message from a node (which the link proved it to be). Raises `BadMessage`. A
        sender that is no member here may be one by a log that is ahead of this one: it is taken at
        its node's word."""
        clock.now = now
        message = m.decode(data)
        if message.group != self.group:
            raise m.BadMessage(
                f"a message for group {message.group} came to group {self.group} "
                f"replica {self.self_id}"
            )
        if message.receiver != self.self_id:
            self._refused += 1  # for a replica of this node that is gone, or not yet here
            return
        sender = message.sender
        self._check_term(message.term)
        if sender == self.self_id or self.members.node_of(sender) != node:
            self._meet(sender, node)
        self._handle(now, message, len(data))

    def receive_beat(self, now: float, beat: Beat, node: str) -> bool:
        """Take a beat from a node, as `receive` takes messages. False: there may be more to do than
        to send the beats that came of it."""
        clock.now = now
        kind, success, group, sender, receiver, term, index, index_term, commit, round = beat
        if group != self.group or kind not in (BEAT, ANSWER):
            raise m.BadMessage(f"a beat {kind} for group {group} came to group {self.group}")
        if receiver != self.self_id:
            self._refused += 1
            return True
        if max(index, commit) > m.NUMBER_MAX or index_term > term:
            raise m.BadMessage(f"a beat of term {term} tells of entry {index} of term {index_term}")
        self._check_term(term)
        if sender == self.self_id or self.members.node_of(sender) != node:
            self._meet(sender, node)
        if not self.proof.may_follow:
            self._ask(sender)
            return False
        if kind == BEAT:
            if self._following.takes_beat(now, sender, term, index, index_term, commit):
                success = self._following.success()
                self._out.send_beat(sender, index, index_term, round=round, answer=success)
                return True
            fields = [round, commit, index, index_term, [], []]
            self._handle(now, Message(Kind.APPEND, group, sender, receiver, term, fields), 0)
        elif term == self.term and self.is_leader and sender in self.followers:
            if index > self.journal.last_index:
                self._refused += 1
                return True
            quick = self.followers.answered(sender, index)
            self._noted(sender, index + 1, success)
            if not round:
                return quick
            self._through(self._reads.confirm(round, sender, self.voters))
        return False

    def _check_term(self, term: int) -> None:
        """Raises `BadMessage` for a term that no group comes to from the own."""
        if term > self.term + m.TERM_LEAP_MAX or term > m.NUMBER_MAX:
            raise m.BadMessage(
                f"a message of term {term}, and replica {self.self_id} of group {self.group} is "
                f"in term {self.term}"
            )

    def _meet(self, sender: int, node: str) -> None:
        if sender == self.self_id or not sender or not self.members.is_stranger(sender):
            raise m.BadMessage(f"a message in the name of replica {sender}, which is not on {node}")
        self.members.meet(sender, node)
        self.engine.meet(sender)

    def _handle(self, now: float, message: Message, size: int) -> None:
        kind = message.kind
        sender = message.sender
        if kind is Kind.ASK:
            self._tell(message)
            return
        if kind is Kind.TELL:
            self._on_told(now, message)
            return
        if not self.proof.may_follow:
            if kind is Kind.REMOVED:
                self.elections.removed = True
            self._ask(sender)
            return  # G13
        if kind is PREVOTE:
            if self.is_leader and self.members.was_removed(sender, self.commit_index):
                self._send(sender, Kind.REMOVED, [])
            else:
                self.elections.answer_prevote(now, message)
            return
        if kind is PREVOTE_GRANTED:
            self._on_prevote_granted(message)
            return
        if kind is VOTE and self.elections.is_sticky(now) and not message.fields[2]:
            return  # G5: a leader is alive; the candidate's term is not adopted either
        if kind is VOTE and not self._may_grant(message):
            return  # G13
        if message.term > self.term:
            if kind not in (Kind.VOTE, Kind.APPEND, Kind.TICKET):
                self.engine.step_down(message.term)
        elif message.term < self.term:
            if kind in (Kind.APPEND, Kind.TICKET):
                self._send(sender, Kind.NEWER_TERM, [], hold=True)
            return  # G3: of an earlier term, and so of no meaning any more
        if kind is APPEND:
            verdict = self._following.judged(now, message)
            if verdict is None:
                return
            # Who leads has the term, and what it calls committed, on its disk.
            self.promises.note(sender, message.term, message.fields[1])
            self._following.on_append(now, message, size, verdict)
        elif kind is ACK:
            self._on_ack(message)
        elif kind is VOTE:
            self._on_vote(message)
        elif kind is Kind.VOTE_GRANTED:
            self._on_vote_granted(message)
        elif kind is Kind.TIMEOUT_NOW:
            self._on_timeout_now(now, message)
        elif kind is Kind.TICKET:
            self.resync_wanted = self._following.on_ticket(now, message) or self.resync_wanted
        elif kind is Kind.ROUND:
            if self.is_leader:
                self._reads.vouch(message.fields[0], sender, message.term)
            self._through(self._reads.confirm(message.fields[0], sender, self.voters))
        elif kind is Kind.REMOVED:
            self.elections.removed = True

    def _on_vote(self, message: Message) -> None:
        """A candidate asks, of this term, for a vote that may be granted."""
        self.promises.note(message.sender, message.term, 0)
        self.engine.deliver(
            message.sender,
            {
                "type": "request_vote",
                "term": message.term,
                "last_log_index": message.fields[0],
                "last_log_term": message.fields[1],
            },
        )

    def _on_timeout_now(self, now: float, message: Message) -> None:
        """The leader hands over (Raft dissertation, section 3.10)."""
        if not self.proof.may_vote:
            return  # G13
        if self._applier.fitness() is not Fitness.ABLE:
            self._refused += 1  # the leader learns of it by the next answer to a heartbeat
        elif not self.engine.withheld_from:  # it may have held everything once, and not now
            self.engine.deliver(message.sender, {"type": "timeout_now", "term": message.term})
            self.elections.tick(now)  # it stands at once
            self.engine.tick()

    def tick(self, now: float) -> None:
        """Let time pass: elections, heartbeats, the fall back of a leader without a majority, then
        `advance`."""
        clock.now = now
        self._following.parked.expire(now - self.timing.parked_s)
        if self.proof.pending:
            self._look_at_proof()
        if self.promises.changed and now >= self._keep_promises_at:
            self._keep_promises_at = now + KEEP_S
            self.journal.keep_promises(self.promises.encode(), alone=True)
        if self._transfer is not None and (now > self._transfer[1] or not self.is_leader):
            self._transfer = None
        self.elections.tick(now)
        self.engine.tick()
        self._after_step()

    def replicate(self, now: float) -> None:
        """Send what was proposed to the followers; their disks then work in parallel with the own
        (G8)."""
        clock.now = now
        if self.engine.leads:
            self._replicate_all(heartbeat=False)

    def advance(self, now: float) -> None:
        """Commit and apply what the acknowledgements and syncs since the last call allow, and send
        what may go."""
        clock.now = now
        if self.may_commit():
            self.engine.tick()
        if self.engine.leads:
            self._replicate_all(heartbeat=False)
        self._after_step()

    def may_commit(self) -> bool:
        """Whether the engine would commit or apply anything; if not, its tick is spared."""
        engine = self.engine
        synced = self.journal.synced_index
        commit = engine.commit_index()
        if engine.applied_index() < (commit if commit < synced else synced):
            return True
        if not engine.leads or commit >= synced:
            return False
        held = engine.held_index()
        return commit < held and self.followers.majority_index(held) > commit

    @property
    def has_to_do(self) -> bool:
        """Whether messages wait to leave, or for a sync, or the journal for one; or `advance` would
        commit or apply anything."""
        out = self._out
        return bool(out.ready or out.held) or self.journal.dirty or self.may_commit()

    def next_deadline(self) -> float:
        """When to `tick` again at the latest, if nothing comes in before and nothing waits; -1e18:
        as soon as can be."""
        if self._following.parked or self._transfer is not None or self.proof.pending:
            return -1e18
        if not self.is_leader and (self.elections.removed or not self.members.is_voter):
            return 1e18
        return self.engine.next_deadline()

    def barrier(self, now: float, done: ReadIndex, number: int = 0) -> None:
        """Ask for proof that this replica still leads (see `read_index`); `done` gets the index to
        wait for, or None. `number` is that by which a follower may have vouched for it."""
        clock.now = now
        if not self.is_leader:
            done(None)
            return
        voter = self._reads.vouching(number, self.term, self.voters) if number else 0
        is_settled = self.commit_index >= self.engine.first_index_of_term()
        if voter and is_settled and self.members.is_voter:
            self.followers.tell_commit(voter, now, self._open_round())
            done(self.commit_index)
            return
        self._reads.add(done)
        self._start_round()

    def vouch(self, number: int) -> tuple[str, list[bytes]] | None:
        """Of a follower that is about to ask for a barrier by this number (`read_index.voucher`):
        the leader's node, and the parts of the message that vouches for it, which must leave after
        the read was asked for. None: it follows nobody, or its word does not count."""
        leader = self.leader
        node = None if leader is None else self.node_of(leader)
        if leader is None or node is None or self.is_leader or not self.proof.may_follow:
            return None
        head = m.header(Kind.ROUND, self.group, self.self_id, leader, self.term)
        return node, [head, m.encode_fields([number])]

    def transfer(self, now: float, target: int) -> None:
        """Hand mastership to `target` as soon as it has the whole log. Proposals are refused
        meanwhile, for `transfer_s` at most. Raises `NotLeader`, and ValueError when the target is
        no connected voter, or says that it may not lead."""
        clock.now = now
        if not self.is_leader:
            raise NotLeader(self.engine.leader())
        if target == self.self_id:
            return
        if target not in self.voters or not self.followers.is_connected(target):
            raise ValueError(f"replica {target} is no connected voter of group {self.group}")
        if not self.followers.is_able(target):
            raise ValueError(
                f"replica {target} of group {self.group} has not said that it may lead: "
                "its disk is full or slow, or it lacks something"
            )
        self._transfer = (target, now + self.timing.transfer_s)
        self._try_transfer()

    def hand_over(self, now: float) -> int | None:
        """`transfer` to the best successor there is by now; who it is. None where there is nobody,
        or this replica does not lead."""
        clock.now = now  # by an older one, some that are silent still answer
        successor = self.best_successor() if self.is_leader else None
        if successor is not None:
            self.transfer(now, successor)
        return successor

    def best_successor(self) -> int | None:
        """Of a leader: of the connected voters that say that they may lead, the one that has most
        of the log.

        None when there is none, or it lacks much of it.
        """
        able = [p for p in sorted(self.members.other_voters) if self.followers.is_able(p)]
        best = max(able, key=self.engine.match_index, default=None)
        if best is None or self.last_index - self.match_index(best) > HAND_OVER_ENTRIES:
            return None
        return best

    def _noted(self, peer: int, wanted: int, success: int) -> None:
        """A follower said how it is. A hand-over to one that may not lead is given up."""
        self.followers.noted_whole(peer, wanted, success)
        if self._transfer is not None and self._transfer[0] == peer and success & m.ACK_UNABLE:
            logger.info("group %d: replica %d may not lead any more", self.group, peer)
            self._transfer = None

    def retry_parked(self, now: float) -> None:
        """Blobs came in: look again at the appends that waited for them. The leader was heard from
        when they came, and not now."""
        clock.now = now
        for came, message, size in self._following.parked.take_all():
            if message.term == self.term:
                self._handle(came, message, size)

    def forget_from(self, index: int) -> None:
        """Before the first message: drop the log from `index` on. Only what was never acknowledged
        may be dropped: ValueError for what is known to be committed."""
        if index <= self.engine.commit_index():
            raise ValueError(f"group {self.group}: entry {index} is committed and would be dropped")
        self.journal.deleteEntriesFrom(index - self.journal.first_index)
        self.proof.had = (self.proof.had[0], self.journal.last_index)
        # the cut is final: the same entries come back as new ones, to be synced again
        self.journal.flush()
        if self.members.cut(index):
            self._members_changed()

    def withhold(self, index: int) -> None:
        """From `index` on (0: nowhere) this replica does not count as one that holds the log, and
        does not stand for election: what the entry names is not here, and may never have been. Who
        leads makes way: nobody could take its log, and nothing would be committed any more."""
        self.engine.withheld_from = index
        if index and self.is_leader:
            logger.error(
                "group %d: this master makes way: entry %d lacks bodies", self.group, index
            )
            self.engine.resign()

    def rewind_applied(self, index: int) -> None:
        """The state machine went back to `index` (an open transaction was lost): what follows, and
        the log has, is applied again."""
        index = max(index, self.journal.begins_at)
        if index == 0:
            self._applier.apply(1, 0, b"")  # as at the beginning
            index = 1
        self.engine.rewind_applied(index)

    def jump(self, index: int, term: int, membership: tuple[int, Membership]) -> None:
        """After a resync: the state machine stands at `index`, whose entry had `term`;
        `membership`, with its index, is in force there. An older state than the own is refused
        (G9), and a leader, whose log must not shrink, does not jump past what its disk holds:
        ValueError."""
        if not 0 < index <= m.NUMBER_MAX or term > m.NUMBER_MAX:
            raise ValueError(f"group {self.group}: a jump to entry {index} of term {term}")
        if not self.lacks(index, term):
            raise ValueError(
                f"group {self.group}: a jump to {index} would go back behind {self.applied_index}"
            )
        has_synced = self._has_synced(index, term)
        if not has_synced:
            if self.is_leader:
                raise ValueError(f"group {self.group}: a leader would jump to {index}")
            # What is held promises entries that are forgotten now, and votes were asked for by
            # them.
            self._out.held.clear()
            self._releasable = 0
            self.engine.stand_down()
            self.journal.reset(index, term)
            if term > self.term:
                # Who led in the term that this replica knew leads no more.
                self.engine.step_down(term)
        self.engine.set_applied(index)
        self.resync_wanted = None
        self._following.parked.clear()
        self.members.jump(index, *membership, keep_rest=has_synced)
        self._members_changed()

    def restate(self, membership: tuple[int, Membership]) -> None:
        """The membership that is in force where the state machine stands, and its index, as a
        resync told them."""
        self.members.jump(self.applied_index, *membership, keep_rest=True)
        self._members_changed()

    def _has_synced(self, index: int, term: int) -> bool:
        """Whether the own log, on the disk, has this entry: then what follows it may have been
        acknowledged and stays (Raft paper, section 7)."""
        return index <= self.journal.synced_index and self.journal.term_of(index) == term

    # -- output ------------------------------------------------------------------------------------

    def take_messages(self) -> list[Outgoing]:
        """Messages that may leave now, as (receiver, parts to send one after the other), in order
        per receiver."""
        out, self._out.ready = self._out.ready, []
        return out

    def take_beats(self) -> list[tuple[str, bytes]]:
        """Beats that may leave now, as (node, record)."""
        beats, self._out.beats = self._out.beats, []
        return beats

    def take_resync_wanted(self) -> tuple[int, int] | None:
        """What the leader offered since the last call; None: nothing."""
        wanted, self.resync_wanted = self.resync_wanted, None
        return wanted

    def begin_sync(self) -> SyncJob | None:
        """The disk work that held-back messages and the commit index wait for; None when there is
        none, or when it is under way already."""
        if self.journal.syncing:
            self._releasable = 0
            return None
        if self.promises.changed and self.journal.dirty:
            self.journal.keep_promises(self.promises.encode())
        try:
            job = self.journal.begin_sync()
        except DiskFull:
            # What was added stays in memory for the next try, and nothing of it is acknowledged.
            self._releasable = 0
            return None
        self._releasable = len(self._out.held)
        return job

    def end_sync(self, now: float, job: SyncJob | None) -> None:
        """The job of the last `begin_sync` (and every other disk work that acknowledgements rest
        on) is done."""
        clock.now = now
        if job is not None:
            self.journal.end_sync(job)
        count = self._releasable
        if count:
            self._out.ready.extend(self._out.held[:count])
            del self._out.held[:count]
            self._releasable = 0

    # -- called by the engine ----------------------------------------------------------------------

    def engine_send(self, peer: int, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "next_node_idx":
            self._following.answered = bool(message["success"])
        elif kind == "request_vote":
            transfer = int(self.elections.stand(message["term"]))
            fields = [message["last_log_index"], message["last_log_term"], transfer]
            self._send(peer, Kind.VOTE, fields, hold=True)
        elif kind == "response_vote":
            self._send(peer, Kind.VOTE_GRANTED, [], hold=True)
        elif kind == "timeout_now":
            self._send(peer, Kind.TIMEOUT_NOW, [])

    def engine_replicate(self) -> None:
        self._replicate_all(heartbeat=True)

    def engine_apply(self) -> None:
        engine = self.engine
        first = engine.applied_index() + 1
        last = min(
            engine.commit_index(),
            # the index on disk must never be ahead of the journal on disk
            self.journal.synced_index,
            first + self.flow.apply_entries_max - 1,
        )
        if last < first or not self._applier.may_apply():
            return
        apply = self._applier.apply
        for command, index, term in self.entries(first, last):
            apply(index, term, command[1:] if command[:1] == REGULAR else b"")
            engine.set_applied(index)

    # -- elections ---------------------------------------------------------------------------------

    def _on_prevote_granted(self, message: Message) -> None:
        if self.elections.prevote_granted(message.term, message.sender):
            self.engine.start_election()
            self.engine.tick()

    def _on_vote_granted(self, message: Message) -> None:
        if message.term == self.term:
            self.promises.note(message.sender, message.term, 0)
        if self.elections.vote_granted(message.term, message.sender):
            self.engine.deliver(message.sender, {"type": "response_vote", "term": message.term})
            self._after_step()

    # -- what was promised (G13) -------------------------------------------------------------------

    def _ask(self, peer: int) -> None:
        """Ask another replica what this one promised it, unless it has answered, or was asked a
        moment ago."""
        if self.proof.asks(peer, clock.now):
            self._send(peer, Kind.ASK, [self.proof.nonce, *self.proof.had])

    def _tell(self, message: Message) -> None:
        """Tell a replica that starts what it promised. Of a leader: it may have missed what was
        sent since the link is up."""
        sender = message.sender
        nonce, *had = message.fields
        promise = self.promises.begin_life(sender, nonce)
        if promise is None:
            return
        last = self.journal.last_index
        flags = LEADS * self.is_leader | LOST * bool(self.proof.lost)
        since, membership = self.members.committed(self.commit_index)
        if since > had[1]:
            flags |= VOTER * len(membership.voters)
        fields = [nonce, *promise, last, self.journal.term_of(last), flags]
        self._send(sender, Kind.TELL, fields)
        if promise > tuple(had):
            self.engine.forget_match(sender)
        elif self.is_leader and sender in self.followers and self.followers.is_connected(sender):
            self._link_up(sender)
        if self.is_leader and self.members.was_removed(sender, self.commit_index):
            self._send(sender, Kind.REMOVED, [])
        if self.proof.pending:
            self._ask(sender)

    def _on_told(self, now: float, message: Message) -> None:
        nonce, term, index, last, last_term, flags = message.fields
        if nonce != self.proof.nonce:
            return
        proof = self.proof
        own = self.journal.last_index
        end = (last_term, last)
        flags &= ~AHEAD
        if end > (self.journal.term_of(own), own):
            flags |= AHEAD
        loss = proof.told(message.sender, (term, index), message.term, end, flags)
        if loss:
            logger.error(
                "group %d: replica %d has lost its disk: %s", self.group, self.self_id, loss
            )
            self._out.held.clear()
            self._releasable = 0
            self.engine.resign()
        self._look_at_proof()

    def _look_at_proof(self) -> None:
        """See whether this replica may take part by now; until then, ask those that did not
        answer."""
        proof = self.proof
        linked = {p for p in self.members.other_voters if self.followers.is_connected(p)}
        began = proof.look(clock.now, linked)
        if proof.may_follow and proof.term_floor > self.term:
            self.engine.step_down(proof.term_floor)
        if began:
            for leader in proof.leaders():
                # What it sent meanwhile was not taken: it sends again to who asks.
                self._send(leader, Kind.ASK, [proof.nonce, *proof.had])
        if proof.pending:
            for peer in linked:
                self._ask(peer)

    def _may_grant(self, message: Message) -> bool:
        index, term, _ = message.fields
        return self.proof.grants(message.term, index, term)

    # -- leading -----------------------------------------------------------------------------------

    def _on_ack(self, message: Message) -> None:
        if not self.engine.leads:
            return
        wanted, success = message.fields
        if wanted > self.journal.last_index + 1:
            self._refused += 1
            return
        if message.sender not in self.followers:
            return  # of a replica that is removed, or whose joining was taken back
        self.followers.acknowledged(message.sender, wanted, bool(success))
        if success and wanted > self.engine.first_index_of_term():
            # Not less: with the entry that began the term the other has the term itself on its
            # disk.
            self.promises.note(message.sender, self.term, wanted - 1)
        if success > m.ACK_YES:
            self._noted(message.sender, wanted, success)
        if self._transfer is not None:
            self._try_transfer()

    def _replicate_all(self, heartbeat: bool) -> None:
        self.followers.replicate(clock.now, self._open_round(), heartbeat=heartbeat)

    def _open_round(self) -> int:
        return self._reads.round if self._reads.open else 0

    def _try_transfer(self) -> None:
        if self._transfer is None:
            return
        target = self._transfer[0]
        if self.engine.match_index(target) == self.journal.last_index:
            self.engine.transferLeadership(self.engine.nodes[target])

    def _start_round(self) -> None:
        """Begin a round of reads, once an entry of the own term is committed (Raft dissertation,
        section 6.4)."""
        if not self._reads.waiting:
            return
        if not self.is_leader or self.commit_index < self.engine.first_index_of_term():
            return
        if self._reads.begin(self.commit_index):
            if len(self.voters) == 1:
                self._through(self._reads.take_if_confirmed(self.voters))
            else:
                self._replicate_all(heartbeat=True)

    def _through(self, reads: Sequence[tuple[int, ReadIndex]]) -> None:
        for index, done in reads:
            done(index)
        if reads:
            self._start_round()

    def _after_step(self) -> None:
        if not self.engine.leads:
            if self._reads.open or self._reads.waiting:
                self._reads.fail_all()
            return
        if self.elections.begin_term():
            self.followers.begin_term()
            self._reads.round += 1
        self._start_round()


__all__ = [
    "FOLLOWER",
    "LEADER",
    "NO_OP",
    "Applier",
    "ChangeRefused",
    "Flow",
    "Group",
    "Membership",
    "NotLeader",
    "Timing",
]
