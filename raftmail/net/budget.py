"""Who may read, of the connections that share memory for what clients have sent.

Over the limit, a connection whose buffers grew is not read from until there is room. If every
connection stopped in the middle of its message, none would ever free anything: so one of them, the
leader, reads on until it holds nothing. The excess is bounded by one message and by one read for
each connection.
"""

from typing import Protocol

from raftmail.mail.budget import Budget


class Reader(Protocol):
    """A connection, as the budget sees it."""

    def resume_reading(self) -> None:
        """There is room again, after `update` had said to stop."""


class ReadBudget:
    """Counts bytes held, and says who may read.

    Invariants: a reader waits only while it is not the leader; someone leads whenever someone
    waits; readers go on in the order in which they stopped.
    """

    def __init__(self, budget: Budget, read_bytes_max: int) -> None:
        """`read_bytes_max` is how much one read may add: it decides how many go on at a time."""
        self._budget = budget
        self._read_bytes_max = read_bytes_max
        self._leader: Reader | None = None
        self._waiting: dict[Reader, None] = {}

    @property
    def held_bytes(self) -> int:
        """What all of them hold."""
        return self._budget.used_bytes

    @property
    def waiting_count(self) -> int:
        """Connections that are not read from for want of room."""
        return len(self._waiting)

    def update(self, reader: Reader, before_bytes: int, held_bytes: int) -> bool:
        """Account that a reader went from `before_bytes` to `held_bytes`.

        Returns whether it must stop reading now; `resume_reading` is called on it later.
        """
        budget = self._budget
        budget.hold(held_bytes - before_bytes)
        if held_bytes > before_bytes:
            if budget.used_bytes <= budget.bytes_max or reader is self._leader:
                return False
            if self._leader is None:
                self._leader = reader
                return False
            self._waiting[reader] = None
            return True
        if reader is self._leader and not held_bytes:
            self._leader = None
        if self._waiting:
            self._let_go_on()
        return False

    def forget(self, reader: Reader, held_bytes: int) -> None:
        """The reader is gone, with the bytes that it was last said to hold."""
        self._waiting.pop(reader, None)
        self._budget.give(held_bytes)
        if reader is self._leader:
            self._leader = None
        if self._waiting:
            self._let_go_on()

    def _let_go_on(self) -> None:
        room_bytes = self._budget.bytes_max - self._budget.used_bytes
        chosen: list[Reader] = []
        if self._leader is None:
            self._leader = self._pop_first()
            chosen.append(self._leader)
            room_bytes -= self._read_bytes_max
        while self._waiting and room_bytes >= self._read_bytes_max:
            chosen.append(self._pop_first())
            room_bytes -= self._read_bytes_max
        for reader in chosen:
            reader.resume_reading()

    def _pop_first(self) -> Reader:
        reader = next(iter(self._waiting))
        del self._waiting[reader]
        return reader
