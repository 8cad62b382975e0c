"""Calls over connections that come and go: finding a node, sending again, giving up in time.

Every call ends exactly once: with its answer, or at its deadline. Writes go under the client's id
and a sequence number of their own, so that sending them again has no second effect (P3).
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raftmail.client.calls import ClientCall, ClientListing, Key, ReadAnswer, ReadResult
from raftmail.client.connection import ClientConnection
from raftmail.client.errors import ClientError, ProtocolError, Refused, TryAgain
from raftmail.client.probe import is_foreign, look
from raftmail.frontends.text.sequence import SequenceWindow
from raftmail.frontends.text.values import read_refused
from raftmail.mail.addresses import named
from raftmail.mail.endpoint import dialled
from raftmail.mail.names import mailbox_name
from raftmail.mail.results import Code, Executed
from raftmail.net import lines
from raftmail.net.lines import Line
from raftmail.net.tls import Authority, explain
from raftmail.net.token import check_token

CALLS_MAX = 65_536
_SWEEP_S = 0.05
_BACKOFF_MIN_S = 0.02
_BACKOFF_MAX_S = 0.5
_CONNECT_S = 3.0
_PING_S = 2.0
_SILENCE_S = 5.0
_NODE_DEADLINE_MIN_S = 0.5
_NODE_DEADLINE_MAX_S = 10.0
_REASONS_MAX = 5


class Dispatcher:
    """Invariants:
    1. At most one connection is used. Calls are sent on it in the order they were made, and again
       in that order on the next one.
    2. A sequence number is released when its call has ended, so the floor passes over none that
       may be sent again.
    3. At most `CALLS_MAX` calls have not ended; a further one fails at once."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        token: str | None,
        ca: str | Path | None,
        timeout_s: float,
        compress: bool,
        client_id: bytes | None,
        last_seq: int,
    ) -> None:
        self._addresses = [(address, *dialled(address)) for address in addresses]
        if not self._addresses:
            raise ValueError("a client needs the address of a node")
        if client_id is not None and len(client_id) != 16:
            raise ValueError("a client id has 16 bytes")
        if not timeout_s > 0:
            raise ValueError("a timeout is more than 0 s")
        self.timeout_s = timeout_s
        self.client_id = client_id or os.urandom(16)
        self._window = SequenceWindow(last_seq)
        self._authority = None if ca is None else Authority.read(Path(ca))
        self._token = None if token is None else check_token(token, "the client's token")
        self._compress = compress
        self._at = 0
        self._calls: dict[bytes, ClientCall] = {}
        self._paused: set[bytes] = set()
        self._tags = 0
        self._numbers: dict[Key, int] = {}
        self._numbers_max = 4096
        self._connection: ClientConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._earliest = float("inf")
        self._reason = "no node was reached"
        self._looked_at: set[str] = set()
        self._unreached: dict[str, str] = {}
        """Why nothing can be asked at an address, of those that were tried last in vain."""
        self._closed = False
        self._pinged = False

    @property
    def last_seq(self) -> int:
        """The highest sequence number given so far."""
        return self._window.last

    # Making calls

    def number(self, user: str, mailbox: str) -> int:
        """The number that stands for a mailbox; the longest known gives way when there are many.

        Raises ValueError for names that no mailbox or user can have."""
        key = (user, mailbox)
        number = self._numbers.get(key)
        if number is None:
            named(user)
            mailbox_name(mailbox)
            if len(self._numbers) >= self._numbers_max:
                number = self._numbers.pop(next(iter(self._numbers)))
            else:
                number = len(self._numbers) + 1
            self._numbers[key] = number
        return number

    def introduce_anew(self, user: str) -> None:
        """Names of this user may stand for other mailboxes now."""
        connection = self._connection
        if connection is not None:
            for (whose, _), number in self._numbers.items():
                if whose == user:
                    connection.bound.pop(number, None)

    def write(
        self,
        body: bytes,
        result: ReadResult,
        boxes: tuple[tuple[int, Key], ...] = (),
        *,
        tail: bytes = b"",
        timeout_s: float | None = None,
        literal_bytes: int = 0,
    ) -> asyncio.Future[Executed]:
        """Begin a write: `body` is the line from the command on, `tail` what follows seq=."""
        loop = asyncio.get_running_loop()
        self._tags += 1
        tag = b"c%d" % self._tags
        seq = self._window.take()
        call = ClientCall(
            tag,
            b"%b %b seq=%d%b\r\n" % (tag, body, seq, tail),
            loop.create_future(),
            loop.time() + (self.timeout_s if timeout_s is None else timeout_s),
            result=result,
            boxes=boxes,
            seq=seq,
        )
        connection = self._connection
        if connection is not None and 0 < connection.literal_bytes_max < literal_bytes:
            text = f"a message of {literal_bytes} bytes; {connection.literal_bytes_max} are taken"
            self._end(call, error=Refused(Code.LIMIT, text))
        else:
            self._begin(call)
        return call.future

    def read(
        self,
        body: bytes,
        read: ReadAnswer,
        boxes: tuple[tuple[int, Key], ...] = (),
        *,
        listing: bool = False,
        repeatable: bool = True,
        timeout_s: float | None = None,
    ) -> asyncio.Future[Any]:
        """Begin a call without a sequence number."""
        loop = asyncio.get_running_loop()
        self._tags += 1
        tag = b"c%d" % self._tags
        call = ClientCall(
            tag,
            b"%b %b\r\n" % (tag, body),
            loop.create_future(),
            loop.time() + (self.timeout_s if timeout_s is None else timeout_s),
            read=read,
            boxes=boxes,
            listing=listing,
            repeatable=repeatable,
        )
        self._begin(call)
        return call.future

    def _begin(self, call: ClientCall) -> None:
        if self._closed:
            self._end(call, error=TryAgain("the client is closed"))
            return
        if len(self._calls) >= CALLS_MAX:
            self._end(call, error=TryAgain(f"{CALLS_MAX} calls have no answer yet"))
            return
        self._calls[call.tag] = call
        if call.deadline < self._earliest:
            self._earliest = call.deadline
        connection = self._connection
        if connection is not None:
            connection.send(call, self._floor)
        else:
            self._connect_soon()
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _floor(self) -> int:
        return self._window.floor

    def _end(self, call: ClientCall, value: Any = None, error: ClientError | None = None) -> None:
        self._calls.pop(call.tag, None)
        self._paused.discard(call.tag)
        if call.seq:
            self._window.release(call.seq)
        future = call.future
        if not future.done():
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    # Answers

    def answered(self, call: ClientCall, words: list[bytes] | Line, listing: ClientListing) -> None:
        """See `connection.Owner`."""
        try:
            if type(words) is list and words[1] == b"OK" and call.result is not None:
                self._end(call, call.value_of_atoms(words))
                return
            line = words if isinstance(words, Line) else Line.of(words)
            status = line.words[1]
            if status == b"OK":
                self._end(call, call.value(line, listing))
            elif status == b"NO":
                self._refused(call, line)
            elif status == b"RETRY":
                self._retry(call, line)
            else:
                text = b" ".join(line.words[2:]).decode("utf-8", "replace")
                self._end(call, error=ProtocolError(text))
        except (ValueError, KeyError, IndexError, lines.ProtocolViolation) as error:
            shown = f"an answer that makes no sense: {str(words)[:300]}"
            self._end(call, error=ProtocolError(f"{shown} ({error!r})"))

    def _refused(self, call: ClientCall, line: Line) -> None:
        refused = read_refused(line)
        if refused.code is Code.NONEXISTENT and self._connection is not None:
            # The name may stand for another mailbox by now: introduce it again the next time.
            for number, _ in call.boxes:
                self._connection.bound.pop(number, None)
        self._end(call, error=Refused(refused.code, refused.text))

    def _retry(self, call: ClientCall, line: Line) -> None:
        text = line.words[2].decode("utf-8", "replace") if len(line.words) > 2 else "try again"
        unknown = line.named.get(b"outcome") == b"unknown"
        full = line.named.get(b"full") == b"yes"
        call.in_flight = False
        call.doubt = call.doubt or unknown
        if full or not call.repeatable:
            unknown = call.outcome_unknown
            self._end(call, error=TryAgain(text, outcome_unknown=unknown, full=full))
            return
        self._reason = call.said = text
        loop = asyncio.get_running_loop()
        call.pause_s = min(max(2 * call.pause_s, _BACKOFF_MIN_S), _BACKOFF_MAX_S)
        call.not_before = loop.time() + call.pause_s * (0.5 + random.random() / 2)
        self._paused.add(call.tag)
        connection = self._connection
        if (
            connection is not None
            and len(self._addresses) > 1
            and connection.last_ok < call.sent_at
        ):
            # It has done nothing for anyone since: perhaps another node can.
            connection.close(f"{connection.address}: {text}")

    # Connections

    def lost(self, connection: ClientConnection, reason: str) -> None:
        """See `connection.Owner`."""
        if connection is not self._connection:
            return
        self._connection = None
        self._reason = f"{connection.address}: {reason}"
        self._at += 1
        for call in list(connection.pending.values()):
            call.in_flight = False
            call.doubt = True
            if not call.repeatable:
                self._end(call, error=TryAgain(self._reason, outcome_unknown=True))
        connection.pending.clear()
        if self._calls and not self._closed:
            self._connect_soon()

    def _connect_soon(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        backoff_s = _BACKOFF_MIN_S
        failures = 0
        try:
            while self._calls and not self._closed:
                try:
                    await self._connect_once()
                    return
                except (Refused, ProtocolError) as error:
                    # Waiting would not help: another node may, if there is one.
                    failures += 1
                    self._note_unreached(str(error))
                    if failures >= len(self._addresses):
                        self._end_all(error)
                        return
                except ssl.SSLCertVerificationError as error:
                    failures += 1
                    address = self._addresses[self._at % len(self._addresses)][0]
                    self._note_unreached(f"{address}: {explain(error)}")
                    if failures >= len(self._addresses):
                        self._end_all(ProtocolError(self._why_unreached()))
                        return
                except (OSError, TimeoutError) as error:
                    self._note_unreached(await self._diagnosed(error))
                self._at += 1
                if self._at % len(self._addresses) == 0:
                    await asyncio.sleep(backoff_s * (0.5 + random.random() / 2))
                    backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
        finally:
            self._connecting = None

    def _end_all(self, error: ClientError) -> None:
        for call in list(self._calls.values()):
            self._end(call, error=error)

    def _note_unreached(self, text: str) -> None:
        self._reason = self._unreached[self._addresses[self._at % len(self._addresses)][0]] = text

    async def _diagnosed(self, error: OSError | TimeoutError) -> str:
        """Why the address that is tried now cannot be asked. What answers there is looked at
        once."""
        address, host, port = self._addresses[self._at % len(self._addresses)]
        if address in self._looked_at:
            return self._unreached.get(address) or f"{address}: {explain(error)}"
        if isinstance(error, TimeoutError) or is_foreign(error):
            self._looked_at.add(address)
            return f"{address}: {await look(host, port, error, _CONNECT_S)}"
        return f"{address}: {explain(error)}"

    async def _connect_once(self) -> None:
        address, host, port = self._addresses[self._at % len(self._addresses)]
        connection = ClientConnection(self, address)
        node_deadline_s = min(max(self.timeout_s / 3, _NODE_DEADLINE_MIN_S), _NODE_DEADLINE_MAX_S)
        try:
            async with asyncio.timeout(_CONNECT_S):
                await connection.open(
                    host,
                    port,
                    authority=self._authority,
                    token=self._token,
                    client=self.client_id,
                    deadline_s=node_deadline_s,
                    compress=self._compress,
                )
            if connection.closed:
                raise ConnectionError("closed right after the greeting")
        except BaseException:
            connection.close("not opened")
            raise
        self._connection = connection
        self._unreached.pop(address, None)
        self._numbers_max = connection.mailbox_numbers_max
        self._pinged = False
        for call in list(self._calls.values()):
            if call.tag not in self._paused:
                connection.send(call, self._floor)

    # Time

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._earliest:
            for call in [call for call in self._calls.values() if call.deadline <= now]:
                self._give_up(call)
            self._earliest = min(
                (call.deadline for call in self._calls.values()), default=float("inf")
            )
        connection = self._connection
        if connection is not None:
            for tag in [tag for tag in self._paused if self._calls[tag].not_before <= now]:
                self._paused.discard(tag)
                connection.send(self._calls[tag], self._floor)
            self._check_silence(connection, now)
        if self._calls:
            self._sweeping = loop.call_later(_SWEEP_S, self._sweep)
        else:
            self._sweeping = None

    def _give_up(self, call: ClientCall) -> None:
        connection = self._connection
        if connection is not None:
            connection.give_up(call)
        why = self._why_unreached()
        if connection is not None and call.in_flight:
            why = f"{connection.address} was asked, and has not answered"
        text = call.said or f"no answer in time: {why}"
        self._end(call, error=TryAgain(text, outcome_unknown=call.outcome_unknown))

    def _why_unreached(self) -> str:
        """The reasons of all addresses, the last one first among equals."""
        if self._connection is not None or len(self._unreached) < 2:
            return self._reason
        return "; ".join(list(self._unreached.values())[:_REASONS_MAX])

    def _check_silence(self, connection: ClientConnection, now: float) -> None:
        """A node that is asked and says nothing at all may be gone without a trace."""
        if not connection.pending:
            return
        since = max(connection.heard, next(iter(connection.pending.values())).sent_at)
        if now - since > _SILENCE_S:
            connection.close(f"silent for {_SILENCE_S:g} s")
        elif now - since > _PING_S:
            if not self._pinged:
                self._pinged = True
                connection.ping()
        else:
            self._pinged = False

    async def close(self) -> None:
        """End: calls without an answer fail with `TryAgain`."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        for call in list(self._calls.values()):
            text = "the client was closed"
            self._end(call, error=TryAgain(text, outcome_unknown=call.outcome_unknown))
        if self._connection is not None:
            self._connection.close("closed here")
