"""Clients of the simulated cluster: they write and read, retry under the same client id and
sequence number, give up, and move to another node. What they saw goes into a history.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256

from raftmail.consensus.read_index import voucher
from raftmail.mail import commands as c
from raftmail.mail import delivery_key
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.codec import encode_request
from raftmail.mail.commands import Blob
from raftmail.mail.failures import Failure
from raftmail.mail.uidset import UidSet
from raftmail_chaos.history import Call, Fate, History, Operation
from tests.simulation.network import Network
from tests.simulation.node import SimNode
from tests.simulation.swarm import Habits
from tests.simulation.world import Event, World

USER = "user@example.org"
MAILBOXES = ("INBOX", "Work", "Trash")
MOVED = ("Drafts", "Letters", "Old")
"""Names that are made, renamed and deleted all the time, where a seed does so. Mail is saved under
them and listed."""
CHANGES_OPEN_MAX = 6
"""Changes of names whose outcome is open. Nobody can look at all orders of many."""
QUICK_S = 0.2
"""A client that thinks no longer works in bursts."""
AWAY_S = (1.0, 4.0)
"""How long it rests between two of them."""
ANNOTATIONS = ("/private/comment", "/private/vendor/us/color", "/shared/a", "/shared/a/b")
SCRIPTS = ("main", "more")
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "$Later")
EVERYTHING = UidSet.from_ranges([(1, (1 << 32) - 1)])
SEED = 1_700_000_000
DELIVERED_EVERY = 3
"""One message of so many is a delivery, as LMTP makes it: repeated under other client ids, the same
bytes (P9)."""
REPEATED_S = (1.0, 9.0, 30.0)
"""When it is given once more after its outcome was told or given up, as by an agent that never
heard of it."""
DELIVERED_ONCE_S = 7 * 86_400
_CHANGES = (c.CreateMailbox, c.RenameMailbox, c.DeleteMailbox)


class Knowledge:
    """What the clients tell each other: UIDs and modseqs that someone has seen."""

    def __init__(self) -> None:
        self.uids: dict[str, list[int]] = {name: [] for name in MAILBOXES}
        self.modseqs: dict[str, int] = dict.fromkeys(MAILBOXES, 1)
        self.guids = 0
        self.changes_open = 0
        """CREATE, RENAME and DELETE that are under way, or were given up."""

    def learn(self, call: Call, answer: object) -> None:
        if isinstance(answer, r.SaveResult):
            assert isinstance(call, c.Save)
            for target, saved in zip(call.messages[0].targets, answer.saved, strict=True):
                if target.mailbox in self.uids:
                    self._add(str(target.mailbox), [saved.uid])
                    self.modseqs[str(target.mailbox)] = saved.modseq
        elif isinstance(answer, r.CopyResult):
            assert isinstance(call, c.Copy)
            self._add(str(call.target.mailbox), list(answer.target_uids))
        elif isinstance(answer, q.MessagePage) and answer.mailbox.name in self.uids:
            name = answer.mailbox.name
            self.uids[name] = [m.uid for m in answer.messages]
            self.modseqs[name] = answer.mailbox.highestmodseq

    def _add(self, name: str, uids: list[int]) -> None:
        known = self.uids[name]
        known += [uid for uid in uids if uid not in known]
        del known[:-60]


class Workload:
    """Makes up operations."""

    def __init__(self, rng: random.Random, knowledge: Knowledge, habits: Habits) -> None:
        self.rng = rng
        self.knowledge = knowledge
        self.repeats = habits.repeats
        self.kinds = tuple(habits.calls)
        self.shares = tuple(habits.calls.values())

    def next(self) -> tuple[Call, tuple[Blob, ...]]:
        rng = self.rng
        kind = rng.choices(self.kinds, self.shares)[0]
        if kind == "names":
            return self._of_moved()
        if kind == "annotations":
            return self._of_annotations(), ()
        name = rng.choice(MAILBOXES)
        uids = self.knowledge.uids[name]
        if kind == "save" or not uids:
            return self._save(name)
        if kind == "store":
            return self._store(name), ()
        if kind == "copy":
            return self._copy(name), ()
        if kind == "expunge":
            only_deleted = rng.random() < 0.3
            return c.Expunge(USER, name, self._some(name, 6), only_deleted), ()
        if kind == "fetch":
            return q.FetchMessages(USER, name, EVERYTHING), ()
        if kind == "mailbox":
            return q.GetMailbox(USER, name), ()
        return q.FetchBody(USER, name, rng.choice(uids)), ()

    def _of_moved(self) -> tuple[Call, tuple[Blob, ...]]:
        """Something with the names that move."""
        name, other = self.rng.sample(MOVED, 2)
        kind = self.rng.random()
        if kind < 0.5 and self.knowledge.changes_open < CHANGES_OPEN_MAX:
            self.knowledge.guids += 1
            guid = self.knowledge.guids.to_bytes(16, "big")
            calls: tuple[Call, ...] = (
                c.CreateMailbox(USER, name, SEED, guid),
                c.RenameMailbox(USER, name, other, SEED, guid),
                c.DeleteMailbox(USER, name),
            )
            return self.rng.choice(calls), ()
        if kind < 0.75:
            return self._save(name)
        looks = (
            q.ListMailboxes(USER),
            q.GetMailbox(USER, name),
            q.FetchMessages(USER, name, EVERYTHING),
        )
        return self.rng.choice(looks), ()

    def _of_annotations(self) -> Call:
        """Something with annotations, each value of which is given once. A mailbox has the more of
        them the longer the run is, up to a few."""
        rng = self.rng
        owner = rng.choice((None, *MAILBOXES, *MOVED))
        if rng.random() < 0.4:
            return q.GetAnnotations(USER, owner)
        if rng.random() < 0.3:
            return self._of_rights() if rng.random() < 0.5 else self._of_scripts()
        entries: list[tuple[str, bytes | None]] = []
        for name in rng.sample(ANNOTATIONS, rng.randint(1, 3)):
            self.knowledge.guids += 1
            is_set = rng.random() < 0.7
            entries.append((name, b"%d" % self.knowledge.guids if is_set else None))
        return c.SetAnnotations(USER, owner, tuple(entries))

    def _of_scripts(self) -> Call:
        """Something with scripts, each text of which is given once."""
        name = self.rng.choice(SCRIPTS)
        self.knowledge.guids += 1
        calls: tuple[Call, ...] = (
            c.PutScript(USER, name, b"# %d" % self.knowledge.guids),
            c.ActivateScript(USER, name),
            c.ActivateScript(USER, ""),
            c.DeleteScript(USER, name),
            q.GetScript(USER, name),
            q.ActiveScript(USER),
        )
        return self.rng.choices(calls, (5, 2, 1, 1, 2, 3))[0]

    def _of_rights(self) -> Call:
        """Something with who may do what. No history of it is judged: replicas are compared."""
        rng = self.rng
        guest = f"guest{rng.randrange(4)}"
        if rng.random() < 0.2:
            return c.NoteSharer(USER, guest)
        rights = rng.choice(("lr", "lrswite", "s", ""))
        mode = rng.choice(list(c.StoreMode))
        return c.SetAcl(USER, rng.choice((*MAILBOXES, *MOVED)), guest, mode, rights)

    def save(self) -> tuple[c.Save, tuple[Blob, ...]]:
        """A message that is saved."""
        return self._save(self.rng.choice(MAILBOXES))

    def again(self, call: c.Save) -> c.Save:
        """Another message with the same body, which is no delivery."""
        self.knowledge.guids += 1
        guid = self.knowledge.guids.to_bytes(16, "big")
        message = replace(call.messages[0], guid=guid, delivery_keys=())
        return replace(call, messages=(message,), delivered_once_s=0)

    def _some(self, name: str, most: int) -> UidSet:
        uids = self.knowledge.uids[name]
        return UidSet.from_uids(self.rng.sample(uids, min(len(uids), self.rng.randint(1, most))))

    def _flags(self, most: int = 2) -> tuple[str, ...]:
        return tuple(self.rng.sample(FLAGS, self.rng.randint(0, most)))

    def _save(self, name: str) -> tuple[c.Save, tuple[Blob, ...]]:
        rng = self.rng
        self.knowledge.guids += 1
        guid = self.knowledge.guids.to_bytes(16, "big")
        body = b"Subject: %d\r\n\r\n" % self.knowledge.guids + rng.randbytes(rng.randint(1, 900))
        is_new = rng.random() >= self.repeats
        if not is_new:  # a body that many messages have
            body = b"Subject: again %d\r\n\r\n" % rng.randrange(4) + bytes(300)
        digest = sha256(body).digest()
        names = [name]
        if name in MAILBOXES and rng.random() < 0.2:
            names = rng.sample(MAILBOXES, 2)
        message = c.NewMessage(
            tuple(c.Target(USER, n) for n in names),
            digest,
            len(body),
            guid,
            SEED * 1_000_000 + self.knowledge.guids,
            self._flags(),
            b"",
            zone_minutes=rng.choice((0, -120)),
        )
        save = c.Save(USER, (message,), SEED)
        # What is put off for good, as a name that is gone may be, is tried anew: no such names.
        is_sure = name in MAILBOXES and len(names) == 1 and is_new
        if is_sure and self.knowledge.guids % DELIVERED_EVERY == 0:
            key = delivery_key.delivery_key(USER, "", "sender@example.net", digest)
            message = replace(message, delivery_keys=(key,))
            save = replace(save, messages=(message,), delivered_once_s=DELIVERED_ONCE_S)
        return save, ((digest, body),)

    def _store(self, name: str) -> c.Store:
        since = -1
        if self.rng.random() < 0.2:
            since = max(0, self.knowledge.modseqs[name] - self.rng.randint(0, 3))
        mode = self.rng.choice(tuple(c.StoreMode))
        flags = self._flags(3)
        if not flags and mode is not c.StoreMode.REPLACE:
            flags = ("\\Seen",)
        return c.Store(USER, name, self._some(name, 5), mode, flags, since)

    def _copy(self, name: str) -> c.Copy:
        move = self.rng.random() < 0.4
        others = [n for n in MAILBOXES if n != name] if move else MAILBOXES
        target = c.Target(USER, self.rng.choice(others))
        return c.Copy(USER, name, self._some(name, 3), target, SEED, move)


class Crowd:
    """Clients that ask a node to save something, once, and believe the answer if one comes."""

    def __init__(
        self, world: World, history: History, knowledge: Knowledge, habits: Habits
    ) -> None:
        self.world = world
        self.history = history
        self.workload = Workload(random.Random(world.rng.getrandbits(32)), knowledge, habits)
        self._count = 0

    def __call__(self, node: SimNode, count: int) -> None:
        for _ in range(count):
            self._ask(node, *self.workload.save())

    def come_again(self, node: SimNode, gone: Callable[[], None]) -> None:
        """A message is saved and removed; then `gone` is called, and another with the same body is
        saved."""
        first, blobs = self.workload.save()
        again = self.workload.again(first)
        left = len(first.messages[0].targets)

        def remove(saved: object) -> None:
            if not isinstance(saved, r.SaveResult):
                return  # refused
            for target, one in zip(first.messages[0].targets, saved.saved, strict=True):
                uids = UidSet.from_uids([one.uid])
                self._ask(node, c.Expunge(USER, target.mailbox, uids), then=removed)

        def removed(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                gone()
                self._ask(node, again, blobs)

        self._ask(node, first, blobs, remove)

    def look(self, node: SimNode) -> None:
        """All mailboxes are read at a node, as if it was the master."""
        for mailbox in MAILBOXES:
            self._read(node, q.GetMailbox(USER, mailbox))

    def _read(self, node: SimNode, query: q.Query) -> None:
        self._count += 1
        operation = self.history.invoke(f"crowd{self._count}", query, self.world.now)

        def passed(index: int | None) -> None:
            if index is not None:
                self.world.after(0.0, lambda: node.read(index, query, answered))

        def answered(answer: tuple[object] | None) -> None:
            if answer is not None and not isinstance(answer[0], Exception):
                self.history.answer(operation, answer[0], self.world.now)

        node.barrier(passed)

    def _ask(
        self,
        node: SimNode,
        call: c.Command,
        blobs: Sequence[Blob] = (),
        then: Callable[[object], None] = lambda result: None,
    ) -> None:
        self._count += 1
        name = f"crowd{self._count}"
        operation = self.history.invoke(name, call, self.world.now)
        request = encode_request(name.encode().rjust(16), 1, 0, call)
        node.submit(request, blobs, partial(self._hear, operation, then))

    def _hear(
        self,
        operation: Operation,
        then: Callable[[object], None],
        answer: r.Executed | Failure,
    ) -> None:
        now = self.world.now
        if isinstance(answer, r.Executed):
            self.history.answer(operation, answer.result, now, answer.index)
            self.world.after(0.0, partial(then, answer.result))
        elif not answer.unknown:
            self.history.nothing(operation, now)


class Client:
    """One operation at a time. A write that is given up ends the client id, because the sequence
    number stays unanswered."""

    def __init__(
        self,
        name: str,
        world: World,
        network: Network,
        nodes: Mapping[str, SimNode],
        history: History,
        knowledge: Knowledge,
        habits: Habits,
    ) -> None:
        self.name = name
        self.world = world
        self.network = network
        self.nodes = nodes
        self.names = list(nodes)
        self.history = history
        self.knowledge = knowledge
        self.rng = random.Random(world.rng.getrandbits(32))
        self.workload = Workload(self.rng, knowledge, habits)
        self.habits = habits
        self.loss = habits.loss
        self.active = False
        self.busy = False
        self.patience_s = (2.0, 12.0)
        self.target = self.rng.choice(self.names)
        self.operation: Operation
        self._blobs: Sequence[Blob] = ()
        self._ids = 0
        self._id = b""
        self._seq = 0
        self._attempt = 0
        self._deadline = 0.0
        self._doubtful = False
        self._deliveries = 0
        self._new_id()

    def _new_id(self) -> None:
        self._ids += 1
        self._id = f"{self.name}{self._ids}".encode().rjust(16)
        self._seq = 0

    def start(self) -> None:
        self.active = True
        self._rest()

    def stop(self) -> None:
        """Begin nothing more; the operation under way goes on."""
        self.active = False

    def _rest(self) -> None:
        self.busy = False
        if self.active:
            habits = self.habits
            pause = self.rng.expovariate(1.0 / habits.think_s)
            if habits.think_s <= QUICK_S and self.rng.random() < habits.away:
                pause += self.rng.uniform(*AWAY_S)
            self.world.after(pause, self._begin)

    def _begin(self) -> None:
        if self.active and not self.busy:
            self.ask(*self.workload.next())

    def ask(self, call: Call, blobs: Sequence[Blob] = ()) -> None:
        """Do one operation."""
        self.busy = True
        self.operation = self.history.invoke(self.name, call, self.world.now)
        self.knowledge.changes_open += isinstance(call, _CHANGES)
        self._blobs = blobs
        self._seq += 1
        self._doubtful = False
        self._deadline = self.world.now + self.rng.uniform(*self.patience_s)
        self._try()

    # -- attempts

    def _try(self) -> None:
        self._attempt += 1
        attempt, operation = self._attempt, self.operation
        self._send(attempt, self.target)
        if self.rng.random() < self.habits.again:
            # Twice, the second time perhaps when the answer to the first has long been there.
            self._doubtful = True
            self._send(attempt, self.rng.choice(self.names), self.rng.choice((0.0, 0.1, 2.0)))

        def expire() -> None:
            if self.operation is operation and self._attempt == attempt and self.busy:
                self._doubtful = True
                self._retry(None)

        self.world.after(self.rng.uniform(*self.habits.impatience_s), expire)

    def _request(self, call: c.Command) -> bytes:
        """Under the client id and number of the operation; of a delivery, which has none, under
        others each time."""
        if isinstance(call, c.Save) and call.delivered_once_s:
            self._deliveries += 1
            return encode_request(f"{self.name}d{self._deliveries}".encode().rjust(16), 1, 0, call)
        return encode_request(self._id, self._seq, self._seq - 1, call)

    def _repeat(self, operation: Operation) -> None:
        """Give a delivery again, later, when it may have been moved or expunged, and replicas may
        have come back or been made anew."""
        call, blobs = operation.call, self._blobs
        if not isinstance(call, c.Save) or not call.delivered_once_s:
            return

        def give() -> None:
            node = self.nodes[self.names[self._deliveries % len(self.names)]]
            if self.active and node.running:
                node.submit(self._request(call), blobs, told)

        def told(answer: object) -> None:
            first = operation.answer
            if isinstance(answer, r.Executed) and isinstance(first, r.SaveResult):
                assert answer.result == first, f"{operation} is {answer.result} when it is repeated"

        for later_s in REPEATED_S:
            self.world.after(later_s, give)

    def _send(self, attempt: int, target: str, later_s: float = 0.0) -> None:
        operation = self.operation
        node = self.nodes[target]
        if isinstance(operation.call, c.Command):
            request = self._request(operation.call)
            blobs = self._blobs

            def arrive() -> None:
                if not node.running:
                    self._hear(attempt, operation, None)  # refused by the operating system
                else:
                    node.submit(request, blobs, self._answered(attempt, operation))
        else:

            def arrive() -> None:
                if not node.running:
                    self._hear(attempt, operation, None)
                else:
                    self._read(attempt, operation, node)

        if self.rng.random() >= self.loss:
            self.world.after(later_s + self.rng.uniform(0.0002, 0.003), arrive)

    def _answered(self, attempt: int, operation: Operation) -> Callable[[object], None]:
        def done(answer: object) -> None:
            if self.rng.random() < self.loss:
                return
            delay = self.rng.uniform(0.0002, 0.003)
            self.world.after(delay, lambda: self._hear(attempt, operation, answer))

        return done

    def _read(self, attempt: int, operation: Operation, node: SimNode) -> None:
        """As `cluster.router` does: the barrier at the master, the read at the node that was asked
        or at the master."""
        leader = node.replica.leader_node
        if leader is None:
            self._hear(attempt, operation, None)
            return
        master = self.nodes[leader]
        reader = node if self.rng.random() < 0.5 else master
        query = operation.call
        assert isinstance(query, q.Query)

        def passed(index: int | None) -> None:
            if index is None:
                self._hear(attempt, operation, None)
            elif self.network.reaches(master.name, reader.name) and reader.running:
                self._wait(lambda: reader.read(index, query, answered))

        def answered(answer: tuple[object] | None) -> None:
            if answer is None or isinstance(answer[0], Exception):
                self._hear(attempt, operation, None)
            else:
                self._wait(lambda: self._hear(attempt, operation, answer))

        number = voucher(self.rng.getrandbits(60))
        node.vouch(number)
        if self.network.reaches(node.name, leader):
            self._wait(lambda: master.barrier(passed, number))

    def _wait(self, then: Event) -> None:
        self.world.after(self.rng.uniform(0.0002, 0.002), then)

    def _hear(self, attempt: int, operation: Operation, answer: object) -> None:
        """An answer came: Executed, the answer of a read in a tuple, a `Failure`, or None for "not
        here, nothing happened"."""
        if self.operation is not operation or not self.busy:
            return
        if isinstance(answer, r.Executed):
            self._end(answer.result, answer.index)
        elif isinstance(answer, tuple):
            self._end(answer[0], 0)
        elif isinstance(answer, Failure) and answer.final:
            raise AssertionError(f"{operation} was refused for good: {answer.text}")
        else:
            if isinstance(answer, Failure) and answer.unknown:
                self._doubtful = True
            if attempt == self._attempt:
                self._retry(answer)

    def _retry(self, answer: object) -> None:
        now = self.world.now
        if now > self._deadline:
            self._give_up()
            return
        self._attempt += 1
        self._choose()
        operation = self.operation
        attempt = self._attempt

        def again() -> None:
            if self.operation is operation and self._attempt == attempt and self.busy:
                self._try()

        self.world.after(self.rng.uniform(0.02, 0.3), again)

    def _choose(self) -> None:
        leaders = [
            node.replica.leader_node for node in self.nodes.values() if node.running
        ] + self.names
        self.target = self.rng.choice([name for name in leaders if name])

    def _end(self, answer: object, index: int) -> None:
        self.history.answer(self.operation, answer, self.world.now, index)
        if self.operation.fate is not Fate.LOST:
            self.knowledge.changes_open -= isinstance(self.operation.call, _CHANGES)
        self.knowledge.learn(self.operation.call, answer)
        self.world.log(self.operation)
        if isinstance(answer, r.SaveResult):
            self._repeat(self.operation)
        self._rest()

    def _give_up(self) -> None:
        operation = self.operation
        is_read = not isinstance(operation.call, c.Command)
        if is_read or not self._doubtful:
            self.history.nothing(operation, self.world.now)
            self.knowledge.changes_open -= isinstance(operation.call, _CHANGES)
        else:
            operation.fate = Fate.LOST
            self._repeat(operation)
        self.world.log(f"given up: {operation}")
        if not is_read:
            self._new_id()
        self._rest()
