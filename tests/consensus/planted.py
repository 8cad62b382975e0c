"""The guards, taken out one by one (see `planting`). Each fault is found by a test of this folder;
most by the simulator too. The comment above a group of faults names their guard: docs/engine.md has
a table of them."""

from __future__ import annotations

from raftmail.consensus import change, follower, group
from raftmail.consensus.election import Ballot, Elections
from raftmail.consensus.engine import Engine
from raftmail.consensus.follower import Follower
from raftmail.consensus.followers import Followers
from raftmail.consensus.group import Group
from raftmail.consensus.journal import Journal
from raftmail.consensus.members import Members
from raftmail.consensus.membership import Membership
from raftmail.consensus.proof import Proof
from raftmail.consensus.read_index import ReadRounds
from tests.consensus.planting import Edit, Fault


def _fault(does: str, *edits: tuple[object, str, str, str]) -> Fault:
    return Fault(does, tuple(Edit(*edit) for edit in edits))


FAULTS: dict[str, Fault] = {
    # G1
    "ticket-commits": _fault(
        "a snapshot offer moves the commit index over a log that was never compared",
        (
            Follower,
            "on_ticket",
            "self._touch(message.sender, message.term)",
            "self._engine.deliver(message.sender, {'type': 'append_entries', 'term': message.term,"
            " 'commit_index': message.fields[0], 'entries': []})",
        ),
    ),
    "old-ticket": _fault(
        "a snapshot that is not ahead of what is applied is asked for",
        (
            Follower,
            "on_ticket",
            "if message.fields[0] > self._engine.applied_index():",
            "if True:",
        ),
    ),
    "old-jump": _fault(
        "a resync takes the state machine backwards",
        (Group, "jump", "if not self.lacks(index, term):", "if False:"),
    ),
    "jump-forgets": _fault(
        "a jump drops entries behind the snapshot that were acknowledged",
        (Group, "jump", "if not has_synced:", "if True:"),
    ),
    # G2
    "cut-matching": _fault(
        "an append cuts off everything after its previous index, matching or not",
        (follower, "judge", "keep += 1", "break"),
    ),
    "cut-committed": _fault(
        "entries that are committed here are replaced",
        (
            follower,
            "judge",
            "if index <= commit_index:\n                "
            "raise _diverged(index, log.term_of(index), term, commit_index)\n            ",
            "",
        ),
    ),
    "commit-unverified": _fault(
        "the commit index moves over entries that the append did not verify",
        (
            Follower,
            "on_append",
            "self._take(message, base, new, start, min(commit, verified))",
            "self._take(message, base, new, start, commit)",
        ),
        (
            Follower,
            "on_append",
            "sender, message.term, journal.last_index, [], min(commit, verified)",
            "sender, message.term, journal.last_index, [], commit",
        ),
    ),
    "prev-unchecked": _fault(
        "an append is taken without comparing the term of its previous entry",
        (
            follower,
            "judge",
            "if prev_index >= first and log.term_of(prev_index) != prev_term:",
            "if False:",
        ),
    ),
    "next-goes-back": _fault(
        "every acknowledgement has the leader send again what is on its way",
        (Followers, "acknowledged", "max(before, engine.next_index(peer), match + 1)", "match + 1"),
    ),
    # G3
    "late-messages": _fault(
        "acknowledgements and votes of earlier terms are taken",
        (
            Group,
            "_handle",
            "return  # G3: of an earlier term, and so of no meaning any more",
            "pass",
        ),
    ),
    "votes-counted-twice": _fault(
        "a vote that is repeated counts again",
        (Ballot, "grant", "or voter in self.granted", ""),
    ),
    "second-leader": _fault(
        "a second leader of a term is followed",
        (Elections, "heard_leader", "if self._leader_of_term[0] == term and", "if False and"),
    ),
    "foreign-messages": _fault(
        "messages of another group are taken",
        (Group, "receive", "if message.group != self.group:", "if False:"),
    ),
    "borrowed-name": _fault(
        "a member may speak in the name of another",
        (Group, "_meet", "or not self.members.is_stranger(sender)", ""),
    ),
    # G4
    "ask-one-back": _fault(
        "a follower that cannot verify walks back one entry a round trip",
        (
            follower,
            "judge",
            "return AppendVerdict(0, 0, ask=commit_index + 1)\n    keep",
            "return AppendVerdict(0, 0, ask=prev_index)\n    keep",
        ),
    ),
    "no-probing": _fault(
        "the leader sends everything again for every answer of a follower that lags",
        (Followers, "acknowledged", "follower.probing = not success", "follower.probing = False"),
    ),
    # G5
    "no-prevote": _fault(
        "a replica stands for election without asking first",
        (
            Elections,
            "tick",
            "if self._asked_to_lead or not members.other_voters:",
            "if True:",
        ),
    ),
    "prevote-not-sticky": _fault(
        "a PreVote is granted while a leader is alive",
        (Elections, "answer_prevote", "if self.is_sticky(now):", "if False:"),
    ),
    "vote-not-sticky": _fault(
        "a candidate deposes a leader that is alive",
        (Group, "_handle", "if kind is VOTE and self.elections.is_sticky(now)", "if False"),
    ),
    "prevote-any-log": _fault(
        "a PreVote is granted to a log that lacks entries",
        (Elections, "answer_prevote", "if log_is_up_to_date(", "if True or log_is_up_to_date("),
    ),
    "no-fallback": _fault(
        "a leader that reaches no majority goes on believing in itself",
        (
            Engine,
            "__init__",
            "leaderFallbackTimeout=timing.fallback_s",
            "leaderFallbackTimeout=1e9",
        ),
    ),
    # G8
    "vote-before-sync": _fault(
        "a vote is told before it is on the disk",
        (
            Group,
            "engine_send",
            "self._send(peer, Kind.VOTE_GRANTED, [], hold=True)",
            "self._send(peer, Kind.VOTE_GRANTED, [])",
        ),
    ),
    "stand-before-sync": _fault(
        "a candidacy is told before the own vote is on the disk",
        (
            Group,
            "engine_send",
            "self._send(peer, Kind.VOTE, fields, hold=True)",
            "self._send(peer, Kind.VOTE, fields)",
        ),
    ),
    "ack-before-sync": _fault(
        "entries are acknowledged before they are on the disk",
        (
            Follower,
            "on_append",
            "self._send(sender, Kind.ACK, [verified + 1, ACK_YES], hold=True)",
            "self._send(sender, Kind.ACK, [verified + 1, ACK_YES])",
        ),
    ),
    "heartbeat-acks-unsynced": _fault(
        "the answer to a heartbeat promises entries that are not on the disk",
        (
            Follower,
            "on_append",
            "[min(verified, held) + 1, self.success()]",
            "[verified + 1, self.success()]",
        ),
    ),
    "beat-acks-unsynced": _fault(
        "the answer to a beat promises entries that are not on the disk",
        (
            Follower,
            "takes_beat",
            "journal.last_index == engine.held_index() == index",
            "journal.last_index == index",
        ),
    ),
    "beat-unverified": _fault(
        "a beat is answered by a log that is not the leader's",
        (Follower, "takes_beat", "or journal.term_of(index) != index_term", ""),
    ),
    "late-beats": _fault(
        "answers to beats of earlier terms are taken",
        (Group, "receive_beat", "elif term == self.term and self.is_leader", "elif self.is_leader"),
    ),
    "release-too-much": _fault(
        "a sync releases what was promised after it began",
        (Group, "end_sync", "count = self._releasable", "count = len(self._out.held)"),
    ),
    "release-while-syncing": _fault(
        "what is held goes out while the sync still runs",
        (Group, "begin_sync", "if self.journal.syncing:", "if False:"),
    ),
    "release-when-full": _fault(
        "what could not be written for lack of space is acknowledged",
        (
            Group,
            "begin_sync",
            "nothing of it is acknowledged.\n        self._releasable = 0",
            "nothing of it is acknowledged.\n        self._releasable = len(self._out.held)",
        ),
    ),
    "leader-counts-unsynced": _fault(
        "the leader counts itself before its own disk holds an entry",
        (Engine, "_SyncObj__getCurrentLogIndex", "if self.count_only_synced:", "if False:"),
        (Group, "may_commit", "synced = self.journal.synced_index", "return True"),
    ),
    "leads-before-sync": _fault(
        "a leader that needs no other vote sends entries before its own is on the disk",
        (
            Followers,
            "_term_is_durable",
            "self._durable_term = self._journal.synced_hard_state[0]",
            "self._durable_term = self._engine.term()",
        ),
    ),
    # G9
    "tickets-flood": _fault(
        "a follower that needs a resync is offered one with every message",
        (Followers, "_replicate_to", ">= self._ticket_s", ">= 0"),
    ),
    # G10
    "apply-swallows": _fault(
        "an entry whose apply failed counts as applied",
        (
            Group,
            "engine_apply",
            'apply(index, term, command[1:] if command[:1] == REGULAR else b"")',
            'try: apply(index, term, command[1:] if command[:1] == REGULAR else b"")\n'
            "        except Exception: pass",
        ),
    ),
    "apply-twice": _fault(
        "an entry is applied again",
        (
            Group,
            "engine_apply",
            "first = engine.applied_index() + 1",
            "first = engine.applied_index()",
        ),
    ),
    "apply-unsynced": _fault(
        "the index gets ahead of the journal on the disk",
        (Group, "engine_apply", "self.journal.synced_index,", "1 << 60,"),
        (Group, "may_commit", "synced = self.journal.synced_index", "return True"),
    ),
    # G11
    "follower-proposes": _fault(
        "a replica that does not lead takes commands into its log",
        (Group, "propose", "if not self.accepts:", "if False:"),
    ),
    "propose-in-transfer": _fault(
        "commands are taken while mastership is handed over",
        (
            Group,
            "accepts",
            "self.engine.leads and self._transfer is None",
            "self.engine.leads",
        ),
    ),
    "transfer-unmarked": _fault(
        "the election that a leader asked for is refused because the leader is alive",
        (Group, "engine_send", ", transfer]", ", 0]"),
    ),
    "transfer-too-early": _fault(
        "mastership goes to a replica that lacks entries",
        (
            Group,
            "_try_transfer",
            "if self.engine.match_index(target) == self.journal.last_index:",
            "if True:",
        ),
        (
            Group,
            "_try_transfer",
            "self.engine.transferLeadership(self.engine.nodes[target])",
            "self._send(target, Kind.TIMEOUT_NOW, [])",
        ),
    ),
    # G12
    "in-force-when-committed": _fault(
        "a membership is in force only when it is committed",
        (Group, "change", "self.members.append(index, new)", "pass"),
    ),
    "cut-keeps-membership": _fault(
        "when the log is cut, a membership that was in it stays in force",
        (Follower, "_take", "members.cut(base + 1)", "pass"),
    ),
    "restart-forgets-membership": _fault(
        "a membership that is in the log and not applied is not restored at the start",
        (
            Group,
            "_begin_at",
            "if later is not None and index > membership_index:",
            "if False:",
        ),
    ),
    "jump-keeps-term": _fault(
        "a jump to an entry of a later term leaves the term as it was",
        (Group, "jump", "if term > self.term:", "if False:"),
    ),
    "forget-keeps-membership": _fault(
        "an entry that is forgotten leaves its membership behind",
        (Group, "forget_from", "if self.members.cut(index):", "if False:"),
    ),
    "jump-keeps-membership": _fault(
        "a jump leaves the membership as it was",
        (Group, "jump", "self.members.jump(index, *membership, keep_rest=has_synced)", "pass"),
    ),
    "learners-counted": _fault(
        "learners count where the log is committed",
        (
            Engine,
            "set_members",
            "self._SyncObj__otherNodes = {self.nodes[peer] for peer in voters}",
            "self._SyncObj__otherNodes = {self.nodes[peer] for peer in voters | others}",
        ),
        (Followers, "majority_index", "match_index, self._voters", "match_index, self._all"),
    ),
    "no-voter-stands": _fault(
        "who is no voter stands for election",
        (Elections, "tick", "if not members.is_voter or self.removed:", "if False:"),
    ),
    "learner-votes-count": _fault(
        "the vote of a learner counts",
        (Elections, "vote_granted", "and voter in self._members.voters", ""),
    ),
    "learners-counted-as-voters": _fault(
        "answers of learners make a majority",
        (Members, "is_majority", "len(ids & self.voters)", "len(ids)"),
    ),
    "learner-confirms-reads": _fault(
        "a learner confirms that the leader still leads",
        (ReadRounds, "take_if_confirmed", "self.confirmed & voters", "self.confirmed"),
    ),
    "reads-wait-for-removed": _fault(
        "a read waits for the answer of a voter that is none any more",
        (
            Group,
            "_members_changed",
            "self._through(self._reads.take_if_confirmed(members.voters))",
            "pass",
        ),
    ),
    "change-while-pending": _fault(
        "a change follows one that is not committed",
        (group, "check_change", "if members.index > group.commit_index:", "if False:"),
    ),
    "change-before-own-entry": _fault(
        "a new leader changes the membership before it knows what is committed",
        (
            group,
            "check_change",
            "if group.commit_index < group.engine.first_index_of_term():",
            "if False:",
        ),
    ),
    "two-voters-at-once": _fault(
        "two voters are removed by one change",
        (Membership, "check_successor", "if len(differ) > 1:", "if False:"),
    ),
    "master-removes-itself": _fault(
        "a master removes itself",
        (group, "check_change", "if group.self_id not in new.voters:", "if False:"),
    ),
    "id-used-again": _fault(
        "an id stands for two disks",
        (
            Membership,
            "check_successor",
            "if before is None and replica < self.next_id:",
            "if False:",
        ),
    ),
    "promoted-behind": _fault(
        "a learner becomes a voter that lacks entries",
        (change, "_lacks", "if lag > CAUGHT_UP_ENTRIES:", "if False:"),
    ),
    "promoted-without-bodies": _fault(
        "a learner becomes a voter that lacks bodies",
        (change, "_lacks", "if followers.is_whole(replica) else", "if True else"),
    ),
    "behind-the-log-counts": _fault(
        "a replica that the log does not reach back to counts as one that will have every body",
        (change, "_lacks", "if match < group.journal.begins_at:", "if False:"),
    ),
    "silence-unnoticed": _fault(
        "a replica that does not answer any more counts as one that has everything",
        (change, "_lacks", "if not followers.answers(replica):", "if False:"),
    ),
    "removed-although-needed": _fault(
        "a voter is removed that alone has what was acknowledged",
        (group, "check_change", "if members.voters - new.voters.keys():", "if False:"),
    ),
    "strangers-refused": _fault(
        "who joined while this replica was away is not followed, and gets no vote",
        (Group, "_meet", "or not self.members.is_stranger(sender)", "or True"),
    ),
    "late-wholeness": _fault(
        "an answer that was long on its way says that a follower has all bodies now",
        (
            Followers,
            "noted_whole",
            "if not whole or wanted > self._engine.match_index(peer):",
            "if True:",
        ),
    ),
    # Withheld
    "withheld-acknowledged": _fault(
        "entries that are withheld are acknowledged",
        (Follower, "on_append", "if withheld := self._engine.withheld_from:", "if withheld := 0:"),
        (Engine, "held_index", "if self.withheld_from else synced", "if False else synced"),
    ),
    "withheld-acknowledged-by-beats": _fault(
        "the answer to a beat acknowledges entries that are withheld",
        (Follower, "takes_beat", "engine.held_index()", "journal.synced_index"),
    ),
    "withheld-stands": _fault(
        "a replica stands for election with a log that others cannot take from it",
        (Elections, "tick", "if engine.withheld_from:", "if False:"),
    ),
    "withheld-leads": _fault(
        "a master goes on with a log that others cannot take from it",
        (Group, "withhold", "if index and self.is_leader:", "if False:"),
    ),
    "withheld-takes-over": _fault(
        "a replica takes over with a log that others cannot take from it",
        (Group, "_on_timeout_now", "if not self.engine.withheld_from:", "if True:"),
    ),
    # Fitness
    "unable-stands": _fault(
        "a replica that is only a last resort stands at once",
        (Elections, "_waits_for_abler", "if not self._members.other_voters:", "if True:"),
    ),
    "unfit-stands": _fault(
        "a replica that is unfit to lead stands in the end",
        (Elections, "_waits_for_abler", "if fitness is Fitness.UNFIT:", "if False:"),
    ),
    "unable-handed": _fault(
        "a leader hands over to a replica that has not said that it may lead",
        (Group, "transfer", "if not self.followers.is_able(target):", "if False:"),
    ),
    "unable-takes-over": _fault(
        "a replica that may lead no more takes over",
        (
            Group,
            "_on_timeout_now",
            "if self._applier.fitness() is not Fitness.ABLE:",
            "if False:",
        ),
    ),
    "ability-of-another-link": _fault(
        "what a follower said on a link that is gone counts",
        (
            Followers,
            "connected",
            "follower.whole = follower.able = False",
            "follower.whole = False",
        ),
    ),
    # Reads
    "leads-without-entry": _fault(
        "a replica leads although the entry that begins its term did not fit on the disk",
        (Engine, "_SyncObj__onBecomeLeader", "self.resign()", "pass"),
    ),
    "read-without-round": _fault(
        "a leader answers reads without asking whether it still leads",
        (
            Group,
            "_start_round",
            "if self._reads.begin(self.commit_index):",
            "if self._reads.begin(self.commit_index) and "
            "(self._reads.confirmed.update(self.voters) or True):\n"
            "        self._through(self._reads.take_if_confirmed(self.voters))\n"
            "    elif False:",
        ),
    ),
    "read-before-own-entry": _fault(
        "a new leader answers reads before it knows what is committed",
        (
            Group,
            "_start_round",
            "if not self.is_leader or self.commit_index < self.engine.first_index_of_term():",
            "if not self.is_leader:",
        ),
    ),
    "read-joins-round": _fault(
        "a read is served by a round that began before it",
        (
            ReadRounds,
            "add",
            "self.waiting.append(done)",
            "(self.in_round.append((self.in_round[0][0], done)) if self.open else "
            "self.waiting.append(done))",
        ),
    ),
    "read-any-round": _fault(
        "a late answer to an earlier round confirms the present one",
        (ReadRounds, "confirm", "or round != self.round", ""),
    ),
    "vouched-in-another-term": _fault(
        "who vouched for a read in an earlier term vouches in this one",
        (ReadRounds, "vouching", "of_term == term and ", ""),
    ),
    "vouched-by-a-few": _fault(
        "who vouches for a read is enough beside the leader, however many voters there are",
        (ReadRounds, "vouching", "and len(voters) <= 3", ""),
    ),
    "learner-vouches": _fault(
        "who vouches for a read need not be a voter",
        (ReadRounds, "vouching", "voter in voters and ", ""),
    ),
    "vouched-before-own-entry": _fault(
        "a read that is vouched for needs no entry of the leader's own term",
        (Group, "barrier", "if voter and is_settled and", "if voter and"),
    ),
    "round-for-each-read": _fault(
        "every read takes a round of its own",
        (
            ReadRounds,
            "begin",
            "self.in_round = [(commit_index, done) for done in self.waiting]\n    self.waiting = "
            "[]",
            "self.in_round = [(commit_index, self.waiting.pop(0))]",
        ),
    ),
    "reads-forgotten": _fault(
        "reads that wait on a deposed leader are never answered",
        (ReadRounds, "fail_all", "done(None)", "pass"),
    ),
    # G13
    "promises-not-compared": _fault(
        "what others remember is not compared with what the disk has",
        (
            Proof,
            "told",
            "if promise > self.had and not self.given.covers(promise):",
            "if False:",
        ),
    ),
    "promises-not-kept": _fault(
        "what others promised is forgotten by a restart",
        (Journal, "_write_promises", "if promises and place != self._promises_in:", "if False:"),
    ),
    "lost-acknowledges": _fault(
        "a replica takes part with a disk that went back",
        (Proof, "told", "self.may_follow = self.may_vote = False", "pass"),
        (Proof, "look", "if self.lost or self.may_vote:", "if self.may_vote:"),
    ),
    "votes-unasked": _fault(
        "a replica that starts votes before it was told what it promised",
        (Proof, "grants", "self.may_vote and", ""),
        (Group, "_handle", "if not self.proof.may_follow:", "if False:"),
    ),
    "doubtful-as-others": _fault(
        "a copy of a disk asks no more than any other",
        (Proof, "needed", "if self.doubtful:", "if False:"),
    ),
}
