"""The fault model, and the injector that follows it.

Processes
- Killed at any moment: files keep what was written, the index keeps what was committed.
- Paused for up to 5 s, and going on as if nothing had happened.
- The node's clock jumps ahead by up to 5 s; it never goes back (CLOCK_MONOTONIC).

Power and disks (`disk.SimDisk` tells what a loss of power leaves)
- The index of a node is lost, while the others are whole; its journal and bodies are not.
- The power goes, of one node, or of all at once. The moment is between operations of the disk, or
  at any one of the next operations. That may be in the middle of a write, before or after a sync,
  or between the syncs of journal and blobs. Or it is around a commit of the index, or when a new
  term is written (and whoever is elected then is killed).
- A sync fails. The process must stop; the machine is restarted, since the kernel may show what is
  not on the disk.
- The disk is full for a while: writes of journal and blobs, puts into the index and its commits
  fail.
- Syncs take up to 1.5 s for a while.

Network (`network.Network`)
- Partitions: one node off, halves, a chain A–B–C whose ends do not reach each other, one direction
  only. They hold frames back; when they last, connections break on one end before the other, and
  lose what was on its way.
- Connections are reset; frames of the old one may come late, once more or for the first time,
  between those of the new one.
- Delays of up to 0.3 s on single frames.

Operators
- Mastership is handed over. Logs are trimmed as they grow, also past what a node that is down still
  needs (it is then resynced). Everything is compared by order.
- Members change (`members.Operator`): machines join and are promoted, voters are removed, the
  master after a transfer. A disk is lost for ever, as long as the others can do without it; its
  machine comes back under a new id.

- Bodies, records of the index and journals rot at rest on one node, where disks and indices are not
  lost besides: the scrub, applies and reads have to find and mend bodies and records. A running
  replica writes a journal anew when it comes across what rotted. And a start has to refuse it,
  after which the disk counts as lost. What rots in a journal is before a position that something
  else on the disk tells to be durable: damage behind that cannot be told from the end of a batch
  that no sync had covered.

- A disk goes back in time: the journal, the index, the bodies, or all of them are put back as they
  were at an earlier moment. It happens on one replica, as long as the others can do without it. No
  other does so before that one is known to be whole, or was given up. What is known to be a copy
  may start whenever. A snapshot of a whole machine looks like the machine itself. It may start
  while all others run and are reached, for who could tell might be away else.

Not in the model: disks that lie about syncs, nodes that lie, links that drop or change order within
a connection (TLS over TCP does not).

Each seed picks some of these and how often they come (some seeds are about elections alone, or
about masters that are cut off). At the end all faults are taken back and the cluster has to
converge.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from raftmail.storage.blobformat import segment_name, unpack_place
from raftmail.storage.disk import DiskFull
from raftmail.storage.index import REPLICATED
from raftmail.storage.kv import scan
from raftmail.storage.records import unseal
from tests.simulation.disk import PLENTY_BYTES, SECTOR_BYTES
from tests.simulation.members import Operator
from tests.simulation.network import Network
from tests.simulation.node import TURN_S, DiskCopy, SimNode, Trap
from tests.simulation.rot import durable_parts
from tests.simulation.swarm import ROT, Conditions
from tests.simulation.world import World

SLOW_SYNC_S = (0.05, 1.5)
ROT_TABLES = (*REPLICATED, "places", "local")
"""All but `meta`, of which a running node reads nothing; `test_rot` has that."""
NORMAL_SYNC_S = (0.0005, 0.004)


GOING_BACK = (
    ("journal", "index", "blobs"),
    ("journal", "index", "blobs"),
    ("journal",),
    ("index",),
    ("blobs",),
    ("journal", "index"),
)
COPIES_MAX = 12
CALM_S = 2.0


class Injector:
    """Makes faults until `stop`, then takes them back."""

    def __init__(
        self,
        world: World,
        network: Network,
        nodes: Sequence[SimNode],
        operator: Operator,
        conditions: Conditions,
    ) -> None:
        self.world = world
        self.network = network
        self.nodes = list(nodes)
        self.rng = random.Random(world.rng.getrandbits(32))
        self.active = False
        self.operator = operator
        self.conditions = conditions
        self.copies: list[DiskCopy] = []
        self.calm_until = 0.0
        self.strikes = [self._strike_of(kind) for kind in conditions.faults]
        self.weights = list(conditions.faults.values())
        network.repeat_chance = conditions.repeat_chance
        network.slow_chance = conditions.slow_chance

    def _strike_of(self, kind: str) -> Callable[[], None]:
        strike: Callable[[], None] = getattr(self, f"_{kind}")
        return strike

    def start(self) -> None:
        self.active = True
        for node in self.nodes:
            node.on_stop = self._restart_later
        self._next()

    def stop(self) -> None:
        """Heal everything, for ever."""
        self.active = False
        self.network.unblock_all()
        self.network.slow_chance = 0.0
        for node in self.nodes:
            self._restore(node)
            node.resume()
            if not node.running:
                node.start()

    def _restore(self, node: SimNode) -> None:
        node.sync_s = NORMAL_SYNC_S
        node.turn_s = TURN_S
        node.disk.capacity_bytes = PLENTY_BYTES
        node.engine.fail_put = None
        node.disk.cut_at = None
        node.traps.clear()
        node.fail_apply = None
        node.disk.fail_sync_at = None

    def _next(self) -> None:
        self.world.after(self.rng.expovariate(1.0 / self.conditions.pace_s), self._strike)

    def _strike(self) -> None:
        if not self.active:
            return
        if self.world.now >= self.calm_until:
            self.rng.choices(self.strikes, self.weights)[0]()
        self._next()

    def _node(self) -> SimNode:
        """Any node, the leader more often than others."""
        leaders = [n for n in self.nodes if n.running and n.group.is_leader]
        if leaders and self.rng.random() < 0.6:
            return self.rng.choice(leaders)
        return self.rng.choice(self.nodes)

    def _for(self, low: float, high: float, undo: Callable[[], None]) -> None:
        def end() -> None:
            if self.active:
                undo()

        self.world.after(self.rng.uniform(low, high), end)

    def _restart_later(self, node: SimNode) -> None:
        """Someone, or something, starts a node that stopped."""

        def restart() -> None:
            if not node.running:
                node.start()

        self.world.after(self.rng.choice(self.conditions.down_s) * self.rng.random(), restart)

    # -- processes

    def _kill(self) -> None:
        node = self._node()
        if node.running:
            self.world.log(f"fault: {node.name} is killed")
            node.kill()

    def _kill_leader(self) -> None:
        for node in self.nodes:
            if node.running and node.group.is_leader:
                self.world.log(f"fault: {node.name}, which leads, is killed")
                node.kill()

    def _kill_resynced(self) -> None:
        """Whoever is being brought back, or brings others back, at one of the next operations of
        its disk."""
        for node in self.nodes:
            if node.running and node.replica.recovery.manager.busy and self.rng.random() < 0.5:
                self.world.log(f"fault: {node.name} is struck in a resync")
                if self.rng.random() < 0.5:
                    node.kill()
                elif node.disk.cut_at is None:
                    node.disk.cut_at = node.disk.operations + self.rng.randint(1, 8)

    def _leave_behind(self) -> None:
        """A node stays away until the logs of the others do not reach back to it any more."""
        node = self.rng.choice(self.nodes)
        if node.running and not node.paused:
            self.world.log(f"fault: {node.name} is left behind")
            self._cut_off(node, 4.0, 15.0)

    def _slow_node(self) -> None:
        node = self._node()
        self.world.log(f"fault: {node.name} is slow")
        node.turn_s = self.rng.choice((0.02, 0.1, 0.4))

        def restore() -> None:
            node.turn_s = TURN_S

        self._for(0.5, 5.0, restore)

    def _pause(self) -> None:
        node = self._node()
        if node.running and not node.paused:
            self.world.log(f"fault: {node.name} is paused")
            node.pause()
            self._for(0.1, 5.0, node.resume)

    def _jump_clock(self) -> None:
        node = self._node()
        jump = self.rng.uniform(0.1, 5.0)
        self.world.log(f"fault: the clock of {node.name} jumps {jump:.2f} s")
        node.clock_offset += jump

    # -- power and disks

    def _power_now(self) -> None:
        node = self._node()
        if node.running:
            self.world.log(f"fault: {node.name} loses power")
            node.power_off()

    def _lose_index(self) -> None:
        """Only while all others have all: what only indices hold would be lost with more of
        them."""
        node = self._node()
        others = [other for other in self.nodes if other is not node]
        if node.running and all(other.running and other.replica.is_whole for other in others):
            reach = node.group.journal.begins_at
            if all(other.index.durable_index >= reach for other in others):
                self.world.log(f"fault: {node.name} loses its index, and its log begins at {reach}")
                if self.rng.random() < 0.5:
                    node.kill()
                else:
                    node.power_off()
                node.lose_index()

    def _power_at_operation(self) -> None:
        node = self._node()
        if node.running and node.disk.cut_at is None:
            ahead = self.rng.randint(1, 30)
            self.world.log(f"fault: {node.name} loses power {ahead} operations of its disk ahead")
            node.disk.cut_at = node.disk.operations + ahead

    def _power_at_new_term(self) -> None:
        self.world.log(
            "fault: all but one lose power when they write the next term, a vote perhaps"
        )
        running = [node for node in self.nodes if node.running]
        for node in self.rng.sample(running, max(len(running) - 1, 0)):
            node.traps.append(_cut_at_another_term(node.group.term))
        for node in running:
            node.traps.append(_dies_when_elected(node.group.term))

    def _power_everywhere(self) -> None:
        self.world.log("fault: all lose power")
        for node in self.nodes:
            if node.running:
                node.power_off()

    def _fail_sync(self) -> None:
        node = self._node()
        if node.running:
            self.world.log(f"fault: a sync of {node.name} fails")
            node.disk.fail_sync_at = node.disk.syncs + self.rng.randint(1, 6)

    def _full_disk(self) -> None:
        node = self._node()
        disk = node.disk
        if disk.capacity_bytes == PLENTY_BYTES:
            self.world.log(f"fault: the disk of {node.name} fills up")
            disk.capacity_bytes = disk.used_bytes() + self.rng.randint(0, 20_000)
            if self.rng.random() < 0.5:
                node.engine.fail_put = DiskFull("no space for a row of the simulated index")

            def restore() -> None:
                disk.capacity_bytes = PLENTY_BYTES

            self._for(0.2, 4.0, restore)

    def _rot_index(self) -> None:
        """A bit of a record of the index, on the node whose disk is a bad one, while the others are
        whole."""
        node = self.nodes[0]
        if self._may_rot(node) and all(n.replica.is_whole for n in self.nodes if n.running):
            name = self.rng.choice(ROT_TABLES)
            rows = [row for row in scan(node.engine.table(name)) if not node.is_rotten(name, row)]
            if rows and not node.engine.fail_put and not node.engine.broken:
                key, record = self.rng.choice(rows)
                rotten = bytearray(record)
                rotten[self.rng.randrange(len(rotten))] ^= 1 << self.rng.randrange(8)
                self.world.log(f"fault: record {key.hex()} of table {name} rots on {node.name}")
                self.world.reached["records that rotted"] += 1
                node.rot(name, key, bytes(rotten))

    def _may_rot(self, node: SimNode) -> bool:
        return node.running and not self.conditions.faults.keys() & {"lose_disk", "lose_index"}

    def _rot(self) -> None:
        """A bit of a body, on the node whose disk is a bad one."""
        node = self.nodes[0]
        if self._may_rot(node):
            places = dict(
                row
                for row in scan(node.engine.stable().table("places"))
                if not node.is_rotten("places", row)
            )
            if places:
                digest = self.rng.choice(list(places))
                place = unpack_place(unseal("places", digest, places[digest]))
                path = segment_name("blobs", place.sequence)
                if place.stored_bytes and node.disk.exists(path):
                    self.world.log(f"fault: the body {digest.hex()[:8]} rots on {node.name}")
                    self.world.reached["bodies that rotted"] += 1
                    self.operator.judge.rotten.add((node.number, digest))
                    at = place.end - 1 - self.rng.randrange(place.stored_bytes)
                    if self.rng.random() < 0.5:
                        node.disk.flip_bit(path, 8 * at + self.rng.randrange(8))
                    else:
                        self.world.reached["sectors that cannot be read"] += 1
                        node.disk.make_unreadable(path, at)
                        self._note_rotten(node, place.sequence, at)

    def _note_rotten(self, node: SimNode, sequence: int, at: int) -> None:
        """A sector that cannot be read takes every body that has a part in it."""
        first = at - at % SECTOR_BYTES
        for table in (node.engine.stable().table("places"), node.engine.table("places")):
            for row in scan(table):
                if node.is_rotten("places", row):
                    continue
                place = unpack_place(unseal("places", *row))
                is_hit = place.offset < first + SECTOR_BYTES and place.end > first
                if place.sequence == sequence and is_hit:
                    self.operator.judge.rotten.add((node.number, row[0]))

    def _rot_journal(self) -> None:
        """A bit of a journal, on the node whose disk is a bad one, while the others can do without
        it. Whoever looks finds it: a read of an entry, a look at the files, a start."""
        node = self.nodes[0]
        if not self._may_rot(node) or not self.operator.may_lose(node):
            return
        parts = durable_parts(node.disk)
        if not parts:
            return
        path, end = self.rng.choice(parts)
        self.world.log(f"fault: {path} rots on {node.name}")
        self.world.reached["journals that rotted"] += 1
        node.disk.rot(path, self.rng.randrange(8 * end))

        def look() -> None:
            if self.active and node.disk.has_rot:
                node.look_at_journal()
                self.world.after(self.rng.uniform(0.5, 5.0), look)

        self.world.after(self.rng.uniform(0.0, 5.0), look)

    def _slow_disk(self) -> None:
        node = self._node()
        self.world.log(f"fault: the disk of {node.name} is slow")
        node.sync_s = SLOW_SYNC_S

        def restore() -> None:
            node.sync_s = NORMAL_SYNC_S

        self._for(0.3, 4.0, restore)

    # -- network

    def _block(
        self,
        pairs: Sequence[tuple[str, str]],
        what: str,
        low_s: float = 0.3,
        high_s: float = 10.0,
    ) -> None:
        self.world.log(f"fault: {what}")
        for source, target in pairs:
            self.network.block(source, target)

        def heal() -> None:
            for source, target in pairs:
                self.network.unblock(source, target)

        self._for(low_s, high_s, heal)

    def _isolate(self) -> None:
        self._cut_off(self._node())

    def _cut_off(self, node: SimNode, low_s: float = 0.3, high_s: float = 10.0) -> None:
        if not self.active:
            return
        others = [n.name for n in self.nodes if n is not node]
        pairs = [(node.name, o) for o in others] + [(o, node.name) for o in others]
        self._block(pairs, f"{node.name} is cut off", low_s, high_s)

    def _isolate_leader(self) -> None:
        for node in self.nodes:
            if node.running and node.group.is_leader:
                if self.rng.random() < 0.5:
                    # What it sends arrives for a while, and nobody's answers do.
                    others = [n.name for n in self.nodes if n is not node]
                    self._block([(o, node.name) for o in others], f"{node.name} hears nobody")
                    self.world.after(self.rng.uniform(0.05, 0.6), partial(self._cut_off, node))
                else:
                    self._cut_off(node)

    def _split(self) -> None:
        names = [n.name for n in self.nodes]
        self.rng.shuffle(names)
        cut = self.rng.randint(1, len(names) - 1)
        left, right = names[:cut], names[cut:]
        pairs = [(a, b) for a in left for b in right] + [(b, a) for a in left for b in right]
        self._block(pairs, f"{left} and {right} are parted")

    def _chain(self) -> None:
        a, b = self.rng.sample([n.name for n in self.nodes], 2)
        self._block([(a, b), (b, a)], f"{a} and {b} do not reach each other")

    def _one_way(self) -> None:
        node = self._node()
        others = [n.name for n in self.nodes if n is not node]
        picked = self.rng.sample(others, self.rng.randint(1, len(others)))
        if self.rng.random() < 0.5:
            self._block([(node.name, o) for o in picked], f"{node.name} is not heard by {picked}")
        else:
            self._block([(o, node.name) for o in picked], f"{node.name} does not hear {picked}")

    def _reset(self) -> None:
        a, b = self.rng.sample([n.name for n in self.nodes], 2)
        self.network.reset(a, b)

    # -- operators

    def _transfer(self) -> None:
        for node in self.nodes:
            if node.running and node.group.is_leader:
                target = self.rng.choice(sorted(node.group.voters))
                self.world.log(f"fault: {node.name} hands over to replica {target}")
                node.transfer(target)

    def _members(self) -> None:
        self.operator.act()

    def _lose_disk(self) -> None:
        node = self._node()
        if self.operator.may_lose(node):
            self.world.log(f"fault: {node.name} loses its disk, and replica {node.number}")
            self.world.reached["disks lost"] += 1
            self.operator.judge.disk_lost(node)
            node.lose_disk()

    def _go_back(self) -> None:
        """Copies are made now and then, and put back some time."""
        node = self._node()
        if node.running and self.rng.random() < 0.6:
            self.copies.append(node.copy_disk())
            del self.copies[:-COPIES_MAX]
            return
        copies = [copy for copy in self.copies if copy.replica == node.number]
        if not copies or not self.operator.may_lose(node) or node.disk.cut_at is not None:
            return
        if node.index_lost or self.conditions.faults.keys() & ROT:
            return  # what a copy was, and what rotted since, could not be told apart
        parts = self.rng.choice(GOING_BACK)
        doubtful = self.rng.random() < 0.5
        if not (doubtful or self._all_reach(node)):
            return
        self.world.log(f"fault: {node.name} goes back in time: {parts}, doubtful {doubtful}")
        self.world.reached["disks that went back"] += 1
        self.operator.judge.disk_lost(node)
        self._restore(node)
        node.go_back(self.rng.choice(copies), parts, doubtful=doubtful)
        if not doubtful:
            self.calm_until = self.world.now + CALM_S
            node.start()

    def _all_reach(self, node: SimNode) -> bool:
        """Whether all other replicas run, are reached, and will for a while."""
        names = [other.name for other in self.nodes if other.number]
        reached = all(
            self.network.is_open(a, b) and self.network.is_open(b, a)
            for a in names
            for b in names
            if a != b
        )
        others = [other for other in self.nodes if other.number and other is not node]
        return reached and all(
            other.running
            and not other.paused
            and not other.traps
            and other.turn_s == TURN_S
            and other.sync_s == NORMAL_SYNC_S
            and other.disk.cut_at is None
            and other.disk.fail_sync_at is None
            and other.disk.capacity_bytes == PLENTY_BYTES
            for other in others
        )

    def _order_resync(self) -> None:
        """`raftmail resync`: have everything compared, or the mailboxes one by one."""
        node = self._node()
        full = self.rng.random() < 0.5
        if not self.operator.may_lose(node):
            return  # the command is refused
        self.world.log(f"fault: {node.name} is ordered to resync{' in full' if full else ''}")

        def order() -> None:
            manager = node.replica.recovery.manager
            if full:
                manager.need(full=True)
            else:
                manager.compare([self.rng.randint(1, 3)])

        node.orders(order)


def _cut_at_another_term(term: int) -> Trap:
    def trap(node: SimNode) -> bool:
        if node.group.term == term:
            return False
        node.disk.cut_at = node.disk.operations + 1
        return True

    return trap


def _dies_when_elected(term: int) -> Trap:
    def trap(node: SimNode) -> bool:
        if node.group.term == term:
            return False
        if node.group.is_leader:
            node.kill()
        return node.group.term > term + 3 or not node.running

    return trap
