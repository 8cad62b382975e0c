"""COPY and MOVE between shards: one command of a client becomes one command in each of two shards.

So a retry at any point has one effect (P3), and nothing is ever lost on the way.

1. The messages are read in the source's shard.
2. Bodies that the target's shard lacks are read too; those that it has are not sent.
3. `CopyIn` saves them in the target's shard, under the client's own id and sequence number. Its
   result tells which source UIDs it saved, and is what every retry gets, whatever the source holds
   by then. If the source refuses (no such mailbox, other messages than were meant), the refusal
   goes the same way: so a retry of a MOVE that is done is not refused because its messages are
   gone.
4. For MOVE, `Expunge` takes just those UIDs from the source, under the same id and number, in the
   source's shard.

A shard keeps results by client id and number, and of a command between shards each of the two
shards sees its own half only. So no ids have to be made up. What stops between 3 and 4 leaves a
copy more, never a message less; a retry then does 4. Flags that change between 1 and 4 stay behind
with the source's message.

`crossing` is the pure part: it yields what it needs and is sent the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

from raftmail.mail.codec import encode_request
from raftmail.mail.commands import Blob, Command, Copy, CopyIn, Expunge, GuestCommand, NewMessage
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.limits import MESSAGES_MAX, REQUEST_BYTES_MAX
from raftmail.mail.queries import (
    Answer,
    FetchBody,
    FetchMessages,
    GuestQuery,
    ListShared,
    MessageInfo,
    MessagePage,
    MissingBodies,
    Query,
    SharedMailboxes,
)
from raftmail.mail.results import Code, CopyResult, Executed, ExpungeResult, Refused, Result
from raftmail.mail.uidset import UidSet

BODIES_BYTES_MAX = 64 << 20
"""Bodies that one command sends from shard to shard."""

_MESSAGE_BYTES = 2048
"""What a message takes in a request besides its summary, at most: targets, flags, hashes."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A read, behind a barrier; sent its answer."""

    query: Query


@dataclass(frozen=True, slots=True)
class Do:
    """A command for the shard of its user, under the client's id and number; sent its result, or,
    once, None when bodies were lacking."""

    command: Command
    blobs: tuple[Blob, ...] = ()


Need: TypeAlias = Ask | Do
Crossing: TypeAlias = Generator[Need, Any, Result]


class _Refusal(Exception):
    """The source refuses."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def crossing(command: Copy, guest: str = "") -> Crossing:
    """What a copy to another shard needs, step by step; its result. A `guest` copies from or to a
    mailbox of somebody else, and each shard checks the rights there."""
    result: Result | None = None
    for everything in (False, True):
        blobs: dict[bytes, bytes] = {}
        try:
            if command.move and guest not in ("", command.user):
                yield from _check_move(command, guest)
            messages = yield from _messages(command, guest)
            lacking = {message.blob for message in messages}
            if not everything and lacking:
                absent: bytes = yield Ask(
                    MissingBodies(command.target.user, tuple(sorted(lacking)))
                )
                lacking = {absent[at : at + 32] for at in range(0, len(absent), 32)}
            messages, blobs = yield from _bodies(command, messages, lacking, guest)
            half = _half(command, messages)
        except _Refusal as e:
            half = replace(
                _half(command, ()), refused_code=e.code.value, refused_text=str(e)[:1000]
            )
        result = yield Do(_by(guest, half), tuple(blobs.items()))
        if result is not None:  # else bodies were given back since they were asked for
            break
    if not isinstance(result, CopyResult):
        return result or Refused(Code.CANNOT, "the bodies are not to be had")
    if not command.move or not result.source_uids:
        return result
    expunge = Expunge(command.user, command.mailbox, result.source_uids)
    expunged: Result = yield Do(_by(guest, expunge))
    if isinstance(expunged, Refused) and expunged.code is Code.NOPERM:
        return expunged  # the right was taken away since it was looked at: the copies stay
    # A mailbox that was removed meanwhile has nothing left to be taken away.
    modseq = expunged.highestmodseq if isinstance(expunged, ExpungeResult) else 0
    return replace(result, source_modseq=modseq)


def _by(guest: str, command: CopyIn | Expunge) -> Command:
    """A command as a guest gives it, where it is about mail of somebody else."""
    return command if guest in ("", command.user) else GuestCommand(guest, command)


def _ask(guest: str, query: FetchMessages | FetchBody) -> Ask:
    """As `_by`."""
    return Ask(query if guest in ("", query.user) else GuestQuery(guest, query))


def _check_move(command: Copy, guest: str) -> Generator[Need, Any, None]:
    """Whether a guest may take the messages away, before they are copied. Raises `_Refusal`."""
    found: SharedMailboxes = yield Ask(ListShared(command.user, guest, command.mailbox))
    rights = found.shared[0][1] if found.shared else ""
    if "l" in rights and not {"t", "e"} <= set(rights):
        raise _Refusal(Code.NOPERM, "you have not the right to move messages away (t e)")


def _half(command: Copy, messages: Sequence[MessageInfo]) -> CopyIn:
    to = command.target
    new = tuple(
        NewMessage(
            (to,),
            m.blob,
            m.size_bytes,
            m.guid,
            m.received_us,
            m.flags,
            m.summary,
            zone_minutes=m.zone_minutes,
            saved_us=m.saved_us if command.saved_us is None else command.saved_us,
        )
        for m in messages
    )
    uids = UidSet.from_uids(m.uid for m in messages)
    seed, quota_bytes = command.uidvalidity_seed, command.quota_bytes
    return CopyIn(to.user, new, seed, to, uids, quota_bytes=quota_bytes)


def _messages(command: Copy, guest: str) -> Generator[Need, Any, tuple[MessageInfo, ...]]:
    """The messages that there are, ascending. Raises `_Refusal`."""
    found: list[MessageInfo] = []
    wanted = command.uids
    more = True
    while more:
        query = FetchMessages(command.user, command.mailbox, wanted, summaries=True)
        page: MessagePage | None = yield _ask(guest, query)
        if page is None:
            if guest not in ("", command.user):
                raise _Refusal(Code.NONEXISTENT, "there is no such mailbox")
            raise _Refusal(Code.NONEXISTENT, f"{command.user} has no mailbox {command.mailbox!r}")
        found += page.messages
        if len(found) > MESSAGES_MAX or (page.more and len(found) == MESSAGES_MAX):
            raise _Refusal(
                Code.LIMIT,
                f"{command.user} and {command.target.user} are in different shards, and at most "
                f"{MESSAGES_MAX} messages go from one to "
                "the other at once: name fewer UIDs",
            )
        more = page.more and bool(page.messages)
        if more:
            wanted = wanted.resolve(page.mailbox.uidnext - 1)
            wanted = wanted - UidSet.from_ranges([(1, page.messages[-1].uid)])
    if sum(len(message.summary) + _MESSAGE_BYTES for message in found) > REQUEST_BYTES_MAX:
        raise _Refusal(
            Code.LIMIT, "the messages' summaries are too long for one command: name fewer UIDs"
        )
    if command.guids and command.guids != tuple(message.guid for message in found):
        raise _Refusal(Code.GUIDMISMATCH, "the messages are not those that were meant")
    return tuple(found)


def _bodies(
    command: Copy, messages: Sequence[MessageInfo], lacking: set[bytes], guest: str
) -> Generator[Need, Any, tuple[tuple[MessageInfo, ...], dict[bytes, bytes]]]:
    """The bodies that the target lacks, and the messages without those that vanished meanwhile.
    Raises `_Refusal`."""
    sizes = {m.blob: m.size_bytes for m in messages if m.blob in lacking}
    if sum(sizes.values()) > BODIES_BYTES_MAX:
        raise _Refusal(
            Code.LIMIT,
            f"{sum(sizes.values()) >> 20} MiB of bodies would go to another shard, more than "
            f"{BODIES_BYTES_MAX >> 20} at once: name "
            "fewer UIDs",
        )
    kept: list[MessageInfo] = []
    blobs: dict[bytes, bytes] = {}
    for message in messages:
        if message.blob in lacking and message.blob not in blobs:
            fetch = FetchBody(command.user, command.mailbox, message.uid)
            body: bytes | None = yield _ask(guest, fetch)
            if body is None:
                continue
            blobs[message.blob] = body
        kept.append(message)
    return tuple(kept), blobs


# -- carried out -----------------------------------------------------------------------------------


class Calls(Protocol):
    """What it takes of the router."""

    @property
    def clock(self) -> Callable[[], float]: ...
    def shard_of(self, user: str) -> int: ...
    def submit(
        self,
        shard: int,
        request: bytes,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Callable[[Executed | Failure], None],
    ) -> None: ...
    async def query(self, query: Query, *, deadline_s: float) -> Answer: ...


async def carry_out(
    calls: Calls,
    client: bytes,
    seq: int,
    floor: int,
    command: Copy,
    deadline_s: float,
    guest: str = "",
) -> Executed:
    """Copy or move messages to another shard. Raises `Unavailable`: with an unknown outcome, to be
    asked again under the same id and number."""
    deadline = calls.clock() + deadline_s
    steps = crossing(command, guest)
    last = Executed(Refused(Code.CANNOT, ""), calls.shard_of(command.target.user), 0, "")
    begun = lacked = False
    try:
        need = next(steps)
        while True:
            left_s = max(0.0, deadline - calls.clock())
            if isinstance(need, Ask):
                need = steps.send(await calls.query(need.query, deadline_s=left_s))
                continue
            outcome = await _submit(calls, client, seq, floor, need, left_s)
            if isinstance(outcome, Executed):
                begun = True
                last = outcome
                need = steps.send(outcome.result)
            elif outcome.final and _brings_bodies(need.command) and not lacked:
                lacked = True
                need = steps.send(None)
            else:
                raise Unavailable(outcome)
    except StopIteration as end:
        return Executed(end.value, last.shard, last.index, last.master)
    except Unavailable as e:
        if begun and not e.failure.unknown:
            failure = e.failure
            raise Unavailable(Failure(failure.text, True, failure.full)) from None
        raise


def _brings_bodies(command: Command) -> bool:
    asked = command.command if isinstance(command, GuestCommand) else command
    return isinstance(asked, CopyIn)


async def _submit(
    calls: Calls, client: bytes, seq: int, floor: int, need: Do, deadline_s: float
) -> Executed | Failure:
    future: asyncio.Future[Executed | Failure] = asyncio.get_running_loop().create_future()

    def done(outcome: Executed | Failure) -> None:
        if not future.done():
            future.set_result(outcome)

    assert isinstance(need.command, CopyIn | Expunge | GuestCommand)
    shard = calls.shard_of(need.command.user)
    request = encode_request(client, seq, floor, need.command)
    calls.submit(shard, request, need.blobs, deadline_s, done)
    return await future
