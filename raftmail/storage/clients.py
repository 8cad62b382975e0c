"""The client table: what makes a command that is sent twice happen once (P3).

For each client id: a floor, up to which everything was answered and is forgotten, and the results
of the sequence numbers above it. Everything here follows from the order of the log alone, so that
all replicas forget alike.

Limits: of more than `CLIENTS_MAX` clients the one longest unused is forgotten. (A command that it
then sends again would be taken for a new one.) More than `RESULTS_MAX` results of one client, or
`WEIGHT_MAX` of all, raise floors: then a command that is sent again is refused as STALE, never done
twice.
"""

from __future__ import annotations

from collections import OrderedDict

from raftmail.mail.packing import Raw
from raftmail.storage.kv import Table, scan
from raftmail.storage.records import ClientRecord, IndexDamaged, seal_packed, unseal_packed

CLIENTS_MAX = 16_384
RESULTS_MAX = 4096
"""Results kept of one client."""

WEIGHT_MAX = 1_000_000
"""Of the whole shard: results, a large one counting as many (see `weight_of`); some 100 bytes
each."""


def weight_of(result: Raw) -> int:
    """How many small results a result weighs beyond its own one."""
    items = 0
    for field in result:
        kind = type(field)
        if kind is list or kind is tuple:
            items += len(field)
        elif kind is str:
            items += len(field) >> 4
    return items >> 3


class Clients:
    """The clients in the order of their last use, all in memory, written with the transaction."""

    def __init__(
        self,
        table: Table,
        *,
        clients_max: int = CLIENTS_MAX,
        results_max: int = RESULTS_MAX,
        weight_max: int = WEIGHT_MAX,
    ) -> None:
        """Read the table. Raises `IndexDamaged`."""
        self._table = table
        self._clients_max = clients_max
        self._results_max = results_max
        self._weight_max = weight_max
        found: list[tuple[int, bytes, ClientRecord]] = []
        for key, record in scan(table):
            try:
                client = ClientRecord.unpacked(unseal_packed("clients", key, record))
            except (ValueError, TypeError) as e:
                raise IndexDamaged("clients", key, str(e)) from None
            found.append((client.used, key, client))
        found.sort(key=lambda item: item[:2])
        self._clients: OrderedDict[bytes, ClientRecord] = OrderedDict(
            (key, client) for _, key, client in found
        )
        self._weight = sum(_weight(client) for client in self._clients.values())
        self._tick = self._written = found[-1][0] if found else 0
        self._changed: set[bytes] = set()
        self._gone: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._clients)

    def find(self, client: bytes) -> ClientRecord | None:
        """A client as it is, without using it."""
        return self._clients.get(client)

    def use(self, client: bytes) -> ClientRecord:
        """The client of a request that is being applied."""
        found = self._clients.get(client)
        if found is None:
            found = self._clients[client] = ClientRecord()
            self._gone.discard(client)
            if len(self._clients) > self._clients_max:
                key, oldest = self._clients.popitem(last=False)
                self._weight -= _weight(oldest)
                self._changed.discard(key)
                self._gone.add(key)
        else:
            self._clients.move_to_end(client)
        self._tick += 1
        found.used = self._tick
        return found

    def keep(self, client: ClientRecord, seq: int, result: Raw, heavy: int = 0) -> None:
        """Keep the result of a sequence number. `heavy` is `weight_of` it."""
        client.results[seq] = result
        self._weight += 1
        if heavy:
            client.heavy[seq] = heavy
            self._weight += heavy
        if len(client.results) > self._results_max:
            ordered = sorted(client.results)
            self.forget(client, ordered[len(ordered) // 2])
        if self._weight > self._weight_max:
            self._relieve()

    def forget(self, client: ClientRecord, floor: int) -> None:
        """Raise the floor of a client to `floor`, which is higher."""
        results = client.results
        if floor - client.floor > len(results):
            dropped = [seq for seq in results if seq <= floor]
            for seq in dropped:
                del results[seq]
            self._weight -= len(dropped)
        else:
            for seq in range(client.floor + 1, floor + 1):
                if results.pop(seq, None) is not None:
                    self._weight -= 1
        if client.heavy:
            for seq in [seq for seq in client.heavy if seq <= floor]:
                self._weight -= client.heavy.pop(seq)
        client.floor = floor

    def _relieve(self) -> None:
        """Forget the results of the clients longest unused, and if need be of the one in use,
        until half is free."""
        for key, client in self._clients.items():
            if self._weight * 2 <= self._weight_max:
                return
            if client.results:
                newest = max(client.results)
                last = client.used == self._tick
                floor = newest - 1 if last else newest
                if floor > client.floor:
                    self.forget(client, floor)
                    self._changed.add(key)

    def flush(self) -> None:
        """Write what changed into the open transaction."""
        for key in self._gone:
            self._table.delete(key)
        self._gone.clear()
        for key in reversed(self._clients):
            if self._clients[key].used <= self._written:
                break
            self._changed.add(key)
        for key in sorted(self._changed):
            self._table.put(key, seal_packed(key, self._clients[key].packed()))
        self._changed.clear()
        self._written = self._tick


def _weight(client: ClientRecord) -> int:
    return len(client.results) + sum(client.heavy.values())
