"""Whether a history of operations is one that raftmail may have (promises P1 to P5).

Pure: it looks at what clients were told and at nothing else, so that the simulator and runs of real
processes share it. `check` gives the problems found:

- a UID stands for one message only, and never goes backwards; a mailbox's number and UIDVALIDITY
  never change;
- every acknowledged SAVE is there, with its body, under its UID, until something removes it; a COPY
  keeps the GUID;
- a write whose answer was lost happened at most once, at any later time;
- what was expunged stays gone;
- flags and modseqs are what some order of the operations gives, one that keeps to the order in
  which clients saw them happen;
- no read goes back behind what was acknowledged before it began;
- an annotation has the value of a write that the read can have seen;
- the mailbox that a name stands for is what some order of CREATE, RENAME and DELETE gives. A name
  never has one UIDVALIDITY for two mailboxes.

Histories may rename and delete mailboxes of names without a separator that they make themselves
(see `names`). Messages are only saved into those, listed, and removed with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from math import inf

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos import imap_history
from raftmail_chaos.annotations import check_annotations
from raftmail_chaos.history import Fate, History, Operation
from raftmail_chaos.lives import Life, TooMany, check_life
from raftmail_chaos.names import check_names, moving_names
from raftmail_chaos.scripts import check_scripts

Key = tuple[int, int]
"""Mailbox number and UID."""


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule that was broken; `operations` show it."""

    rule: str
    text: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.rule}: {self.text}", *map(str, self.operations)])


@dataclass(frozen=True, slots=True)
class CheckerVerdict:
    """The problems of a history, and what has so many unanswered writes that nobody can tell."""

    problems: tuple[BrokenRule, ...]
    passed_over: tuple[str, ...] = ()


def examine(history: History) -> CheckerVerdict:
    """What is to be said of a history. Operations may still be unanswered."""
    operations = [o for o in history.operations if o.fate is not Fate.NOTHING]
    checker = _Checker(imap_history.complete(operations))
    problems = checker.run()
    return CheckerVerdict(tuple(problems), tuple(checker.passed_over))


def check(history: History) -> list[BrokenRule]:
    """The problems of a history; none when it is good."""
    return list(examine(history).problems)


@dataclass(slots=True)
class _Origin:
    """Operations without an answer that may have put a message into a mailbox, one each."""

    saves: list[Operation] = field(default_factory=list)
    copies: list[Operation] = field(default_factory=list)


class _Checker:
    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self.problems: list[BrokenRule] = []
        self.passed_over: list[str] = []
        self.moving = moving_names(operations)
        self.moved: set[int] = set()
        self.stamps: dict[tuple[str, str, int], int] = {}
        self.numbers: dict[tuple[str, str], int] = {}
        self.validities: dict[int, tuple[int, Operation]] = {}
        self.guids: dict[Key, tuple[bytes, Operation]] = {}
        self.births: dict[Key, Operation] = {}
        self.bodies: dict[bytes, tuple[bytes, int]] = {}
        self.pages: dict[int, list[tuple[Operation, q.MessagePage]]] = defaultdict(list)

    def run(self) -> list[BrokenRule]:
        self._learn_mailboxes()
        self._learn_messages()
        if not self.problems:
            self._check_counters()
            self._check_origins()
            self._check_names()
            self._check_registers()
            self._check_lives()
        return self.problems

    def _broken(self, rule: str, text: str, *operations: Operation) -> None:
        self.problems.append(BrokenRule(rule, text, operations))

    # -- mailboxes

    def _learn_mailboxes(self) -> None:
        for o in self.operations:
            if o.fate is not Fate.ANSWERED:
                continue
            answer = o.answer
            if isinstance(answer, r.SaveResult):
                assert isinstance(o.call, c.Save)
                targets = [t for message in o.call.messages for t in message.targets]
                for target, saved in zip(targets, answer.saved, strict=True):
                    if isinstance(target.mailbox, str) and not target.or_inbox:
                        self._name(o, saved.user, target.mailbox, saved.mailbox, saved.uidvalidity)
                    self._validity(o, saved.mailbox, saved.uidvalidity)
            elif isinstance(answer, r.CopyResult):
                assert isinstance(o.call, c.Copy)
                if not answer.uidvalidity:
                    continue  # over IMAP, of nothing
                target = o.call.target
                if isinstance(target.mailbox, str) and not target.or_inbox:
                    self._name(o, target.user, target.mailbox, answer.target, answer.uidvalidity)
                self._validity(o, answer.target, answer.uidvalidity)
            elif isinstance(answer, r.MailboxResult):
                assert isinstance(o.call, c.CreateMailbox | c.RenameMailbox | c.DeleteMailbox)
                self._name(o, o.call.user, answer.name, answer.number, answer.uidvalidity)
                self._validity(o, answer.number, answer.uidvalidity)
            else:
                for info in _infos(answer):
                    self._name(o, info.user, info.name, info.number, info.uidvalidity)
                    self._validity(o, info.number, info.uidvalidity)

    def _name(self, o: Operation, user: str, name: str, number: int, validity: int) -> None:
        if (user, name) in self.moving:
            self.moved.add(number)
            known = self.stamps.setdefault((user, name, validity), number)
            if known != number:
                text = (
                    f"{validity} of {name} of {user} was that of mailbox {known}, and is that "
                    f"of {number}"
                )
                self._broken("UIDVALIDITY", text, o)
            return
        known = self.numbers.setdefault((user, _folded(name)), number)
        if known != number:
            self._broken("mailbox", f"{name} of {user} was {known} and is {number}", o)

    def _validity(self, o: Operation, number: int, validity: int) -> None:
        known, before = self.validities.setdefault(number, (validity, o))
        if known != validity:
            self._broken(
                "UIDVALIDITY", f"of mailbox {number} was {known}, is {validity}", before, o
            )

    def _number_of(self, user: str, mailbox: c.MailboxRef) -> int:
        """0 when no answer ever told, or it is now one and now another."""
        if isinstance(mailbox, int):
            return mailbox
        return self.numbers.get((user, _folded(mailbox)), 0)

    # -- messages

    def _learn_messages(self) -> None:
        for o in self.operations:
            if isinstance(o.call, c.Save):
                for message in o.call.messages:
                    self.bodies[message.guid] = (message.blob, message.size_bytes)
        copies: list[Operation] = []
        for o in self.operations:
            if o.fate is not Fate.ANSWERED:
                continue
            answer = o.answer
            if isinstance(answer, r.SaveResult):
                assert isinstance(o.call, c.Save)
                given = [m for m in o.call.messages for _ in m.targets]
                for message, saved in zip(given, answer.saved, strict=True):
                    self._born(o, (saved.mailbox, saved.uid), message.guid)
            elif isinstance(answer, r.CopyResult):
                copies.append(o)
            elif isinstance(answer, q.MessagePage):
                self.pages[answer.mailbox.number].append((o, answer))
                self._learn_page(o, answer)
        self._learn_copies(copies)
        for o in self.operations:
            if isinstance(o.call, q.FetchBody) and isinstance(o.answer, bytes):
                key = (self._number_of(o.call.user, o.call.mailbox), o.call.uid)
                found = self.guids.get(key)
                if found and found[0] in self.bodies:
                    blob, size = self.bodies[found[0]]
                    if sha256(o.answer).digest() != blob or len(o.answer) != size:
                        self._broken("body", f"of message {key} is not what was saved", found[1], o)

    def _born(self, o: Operation, key: Key, guid: bytes) -> None:
        before = self.births.setdefault(key, o)
        if before is not o:
            self._broken("UID", f"{key} was given twice", before, o)
        self._is(o, key, guid)

    def _is(self, o: Operation, key: Key, guid: bytes) -> None:
        known, before = self.guids.setdefault(key, (guid, o))
        if known != guid:
            self._broken("UID", f"{key} stood for two messages", before, o)

    def _learn_page(self, o: Operation, page: q.MessagePage) -> None:
        number = page.mailbox.number
        last = 0
        for message in page.messages:
            uidnext = page.mailbox.uidnext or inf
            if message.uid <= last or message.uid >= uidnext:
                self._broken("UID", f"{message.uid} follows {last} before UIDNEXT", o)
            last = message.uid
            self._is(o, (number, message.uid), message.guid)
            body = self.bodies.get(message.guid)
            if body is None:
                self._broken("message", f"{number, message.uid} was never saved", o)
            elif body != (message.blob or body[0], message.size_bytes):
                self._broken("body", f"of message {number, message.uid} is not what was saved", o)
        assert isinstance(o.call, q.FetchMessages)
        wanted = o.call.uids
        whole = wanted.range_count() == 1 and wanted.first == 1
        whole = whole and page.mailbox.uidnext > 0 and wanted.last >= page.mailbox.uidnext - 1
        told, there = len(page.messages), page.mailbox.messages
        if whole and told != there and not (page.more or o.call.changed_since):
            self._broken("page", f"{told} messages are told, and {there} are counted", o)

    def _learn_copies(self, copies: list[Operation]) -> None:
        """What a copy is of is known only when the source is: repeated, since copies are copied."""
        waiting = copies
        while waiting:
            left = []
            for o in waiting:
                if not self._learn_copy(o):
                    left.append(o)
            if len(left) == len(waiting):
                return  # of messages that nobody saw again
            waiting = left

    def _learn_copy(self, o: Operation) -> bool:
        assert isinstance(o.call, c.Copy) and isinstance(o.answer, r.CopyResult)
        source = self._number_of(o.call.user, o.call.mailbox)
        answer = o.answer
        if len(answer.source_uids) != len(answer.target_uids):
            self._broken("COPY", "source and target UIDs do not correspond", o)
            return True
        known = True
        for uid, target_uid in zip(answer.source_uids, answer.target_uids, strict=True):
            target = (answer.target, target_uid)
            before = self.births.setdefault(target, o)
            if before is not o:
                self._broken("UID", f"{target} was given twice", before, o)
            found = self.guids.get((source, uid))
            if found is not None:
                self._is(o, target, found[0])
            elif target in self.guids:
                self._is(o, (source, uid), self.guids[target][0])
            else:
                known = False
        return known

    # -- counters that only grow

    def _check_counters(self) -> None:
        """UIDNEXT and HIGHESTMODSEQ over time: (operation, at most before it, at least after
        it)."""
        uids: dict[int, list[tuple[Operation, int, int]]] = defaultdict(list)
        modseqs: dict[int, list[tuple[Operation, int, int]]] = defaultdict(list)
        for o in self.operations:
            if o.fate is not Fate.ANSWERED:
                continue
            answer = o.answer
            if isinstance(answer, r.SaveResult):
                for s in answer.saved:
                    uids[s.mailbox].append((o, s.uid, s.uid + 1))
                    if s.modseq:
                        modseqs[s.mailbox].append((o, s.modseq - 1, s.modseq))
            elif isinstance(answer, r.CopyResult) and answer.target_uids:
                first, last = answer.target_uids.first, answer.target_uids.last
                uids[answer.target].append((o, first, last + 1))
                step = answer.target_modseq
                if step:
                    modseqs[answer.target].append((o, step - 1, step))
            elif isinstance(answer, r.StoreResult | r.ExpungeResult):
                assert isinstance(o.call, c.Store | c.Expunge)
                number = self._number_of(o.call.user, o.call.mailbox)
                now = answer.highestmodseq
                changed = answer.changed if isinstance(answer, r.StoreResult) else answer.uids
                modseqs[number].append((o, now - 1 if changed else now, now))
            for info in _infos(answer):
                if not info.uidnext:
                    continue  # a mail program's picture, of which it is not told
                uids[info.number].append((o, info.uidnext, info.uidnext))
                modseqs[info.number].append((o, info.highestmodseq, info.highestmodseq))
        for what, counters in (("UIDNEXT", uids), ("HIGHESTMODSEQ", modseqs)):
            for number, seen in counters.items():
                self._check_counter(what, number, seen)

    def _check_counter(
        self, what: str, number: int, seen: list[tuple[Operation, int, int]]
    ) -> None:
        ended = sorted(seen, key=lambda item: item[0].returned)
        at = reached = 0
        by: Operation | None = None
        for o, before, _ in sorted(seen, key=lambda item: item[0].invoked):
            while at < len(ended) and ended[at][0].returned < o.invoked:
                if ended[at][2] > reached:
                    by, reached = ended[at][0], ended[at][2]
                at += 1
            if before < reached and by is not None:
                text = f"of mailbox {number} was {reached} and is {before} for one who asked later"
                self._broken(what, text, by, o)
                return

    # -- at most once

    def _check_origins(self) -> None:
        """Every message in every mailbox comes from an operation, and no operation gave two."""
        lost = self._lost_saves()
        saved: dict[int, list[bytes]] = defaultdict(list)
        for number, guid in lost:
            saved[number].append(guid)
        for o in self.operations:
            if o.fate is not Fate.LOST or not isinstance(o.call, c.Copy):
                continue
            source = self._number_of(o.call.user, o.call.mailbox)
            number = self._number_of(o.call.target.user, o.call.target.mailbox)
            for uid in o.call.uids:
                found = self.guids.get((source, uid))
                # Of a UID that nobody looked at: any message whose own save has no answer.
                for guid in saved[source] if found is None else [found[0]]:
                    lost[number, guid].copies.append(o)
        orphans: dict[tuple[int, bytes], list[tuple[float, Key]]] = defaultdict(list)
        for key, (guid, o) in self.guids.items():
            if key not in self.births:
                number = 0 if key[0] in self.moved else key[0]  # as `_number_of` gives it
                orphans[number, guid].append((o.returned, key))
        for where, found_keys in orphans.items():
            origin = lost[where]
            sources = sorted(origin.saves + origin.copies, key=lambda o: o.invoked)
            for returned, key in sorted(found_keys):
                if not sources or sources[0].invoked > returned:
                    seen = self.guids[key][1]
                    acknowledged = [b for k, b in self.births.items() if k[0] == key[0]
                                    and self.guids[k][0] == where[1]]  # fmt: skip
                    self._broken(
                        "once", f"no operation explains message {key}", *acknowledged, seen
                    )
                    break
                self.births[key] = sources.pop(0)

    def _lost_saves(self) -> dict[tuple[int, bytes], _Origin]:
        """What may have been saved though nobody was told, by mailbox and GUID."""
        lost: dict[tuple[int, bytes], _Origin] = defaultdict(_Origin)
        for o in self.operations:
            if o.fate is Fate.LOST and isinstance(o.call, c.Save):
                for message in o.call.messages:
                    for target in message.targets:
                        number = self._number_of(target.user, target.mailbox)
                        lost[number, message.guid].saves.append(o)
        return lost

    # -- names that move

    def _check_names(self) -> None:
        for user in sorted({user for user, _ in self.moving}):
            moving = {name for whose, name in self.moving if whose == user}
            try:
                found = check_names(
                    (o for o in self.operations if getattr(o.call, "user", None) == user), moving
                )
            except TooMany:
                self.passed_over.append(f"the names of {user}")
                continue
            if found is not None:
                rule, text, shown = found
                self._broken(rule, f"of {user}: {text}", *shown)

    def _check_registers(self) -> None:
        for check_some in (partial(check_annotations, moving=self.moving), check_scripts):
            for rule, text, shown in check_some(self.operations):
                self._broken(rule, text, *shown)

    # -- lives of messages

    def _check_lives(self) -> None:
        changes: dict[int, list[Operation]] = defaultdict(list)
        for o in self.operations:
            if isinstance(o.call, c.DeleteMailbox):
                for number in self._removed_by(o):
                    changes[number].append(o)
                continue
            is_change = isinstance(o.call, c.Store | c.Expunge | c.Copy)
            if is_change or (isinstance(o.call, q.FetchBody) and o.fate is Fate.ANSWERED):
                assert isinstance(o.call, c.Store | c.Expunge | c.Copy | q.FetchBody)
                changes[self._number_of(o.call.user, o.call.mailbox)].append(o)
        reads = {n: [_Read(o, page) for o, page in pages] for n, pages in self.pages.items()}
        for key in sorted(self.guids):
            birth = self.births.get(key)
            if birth is None:
                continue
            number, uid = key
            life = Life(uid, birth, _flags_at_birth(birth, self.guids[key][0]), _modseq(birth, key))
            for o in changes[number]:
                if isinstance(o.call, q.FetchBody):
                    if o.call.uid == uid:
                        life.see(o, None if o.answer is None else ())
                elif isinstance(o.call, c.DeleteMailbox) or (
                    o is not birth and uid in o.call.uids  # type: ignore[union-attr]
                ):
                    life.add(o)
            for read in reads.get(number, ()):
                read.tell(life)
            try:
                problem = check_life(life)
            except TooMany:
                self.passed_over.append(f"message {key}")
                continue
            if problem is not None:
                rule, text, shown = problem
                self._broken(rule, f"message {key}: {text}", *shown)

    def _removed_by(self, o: Operation) -> Iterable[int]:
        """The mailboxes that a DELETE removed, or may have."""
        if o.fate is not Fate.ANSWERED:
            return self.moved
        return [o.answer.number] if isinstance(o.answer, r.MailboxResult) else []


class _Read:
    """What a page of a mailbox told of each message that it could have had."""

    def __init__(self, operation: Operation, page: q.MessagePage) -> None:
        call = operation.call
        assert isinstance(call, q.FetchMessages)
        self._operation = operation
        self._there = {
            m.uid: (frozenset(f.lower() for f in m.flags), m.modseq) for m in page.messages
        }
        self._asked = None if call.changed_since else call.uids
        self._end = inf
        if page.more:
            self._end = page.messages[-1].uid if page.messages else 0

    def tell(self, life: Life) -> None:
        """Whether the message was seen, and how, or was not there."""
        uid = life.uid
        seen = self._there.get(uid)
        if seen is not None:
            life.see(self._operation, seen)
        elif self._asked is not None and uid <= self._end and uid in self._asked:
            life.see(self._operation, None)


def _flags_at_birth(birth: Operation, guid: bytes) -> frozenset[str] | None:
    """None when they are those that the source of the copy had."""
    if isinstance(birth.call, c.Save):
        for message in birth.call.messages:
            if message.guid == guid:
                return frozenset(f.lower() for f in message.flags)
    return None


def _modseq(birth: Operation, key: Key) -> int:
    """0 when no answer told."""
    if birth.fate is Fate.ANSWERED:
        if isinstance(birth.answer, r.SaveResult):
            for saved in birth.answer.saved:
                if (saved.mailbox, saved.uid) == key:
                    return saved.modseq
        if isinstance(birth.answer, r.CopyResult):
            return birth.answer.target_modseq
    return 0


def _infos(answer: object) -> Iterator[q.MailboxInfo]:
    if isinstance(answer, q.MailboxInfo):
        yield answer
    elif isinstance(answer, q.MessagePage):
        yield answer.mailbox
    elif isinstance(answer, tuple):
        yield from _only_infos(answer)


def _only_infos(answers: Iterable[object]) -> Iterator[q.MailboxInfo]:
    return (a for a in answers if isinstance(a, q.MailboxInfo))


def _folded(name: str) -> str:
    return "INBOX" if name.upper() == "INBOX" else name
