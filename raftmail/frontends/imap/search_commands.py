"""SEARCH (RFC 9051 section 6.4.4), SORT and THREAD (RFC 5256)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import compress

from raftmail.frontends.imap import commands as i
from raftmail.frontends.imap import responses
from raftmail.frontends.imap.client import Answer, CommandWrong, LoggedInClient
from raftmail.frontends.imap.column_search import ColumnMatcher
from raftmail.frontends.imap.fetch_lists import RECORDS_MAX, SUMMARIES_MAX
from raftmail.frontends.imap.progress import CommandProgress
from raftmail.frontends.imap.search import (
    KeysTooDeepError,
    Level,
    Matcher,
    SearchFacts,
    key_count,
)
from raftmail.frontends.imap.search_keys import SearchKey
from raftmail.frontends.imap.sorting import Sorter
from raftmail.frontends.imap.threads import Threader
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail.queries import TOGETHER_BYTES_MAX, TOGETHER_MAX, MessageInfo
from raftmail.mail.summary import Summary, decode_summary
from raftmail.mail.uidset import UidSet
from raftmail.net.turns import after_others

_INLINE_BYTES_MAX = 64 * 1024
"""Text of more bytes, times the keys of the search, is searched in a thread, so that the others
need not wait."""

_FULL_PAGE_KEYS = 4
"""A search with more keys looks at fewer messages in a turn of the loop."""

_TURN_TESTS = 1000
"""Keys, times messages, that are asked in one turn of the loop."""


@dataclass(frozen=True, slots=True)
class Found:
    """A message that a search has found. The summary is there where it was asked for."""

    number: int
    info: MessageInfo
    summary: Summary | None


@dataclass(slots=True, repr=False)
class Hits:
    """Messages that a search has found, in the order of their numbers. Columns cost less than an
    object for each."""

    numbers: list[int] = field(default_factory=list)
    uids: list[int] = field(default_factory=list)
    modseqs: list[int] = field(default_factory=list)

    def at(self, places: Sequence[int]) -> Hits:
        """Those at some places."""
        return Hits(
            [self.numbers[at] for at in places],
            [self.uids[at] for at in places],
            [self.modseqs[at] for at in places],
        )

    def sort(self) -> None:
        """Put them into the order of their numbers."""
        rows = sorted(zip(self.numbers, self.uids, self.modseqs, strict=True))
        self.numbers, self.uids, self.modseqs = (
            [row[column] for row in rows] for column in range(3)
        )


async def search(client: LoggedInClient, command: i.Search) -> Answer:
    """SEARCH, with RFC 4731's and RFC 5182's results."""
    view = client.selected()
    if command.modseq:
        client.use_modseqs()
    saves = command.returns is not None and i.SearchReturn.SAVE in command.returns
    try:
        found = await _find(client, view, command.key)
    except BaseException:
        if saves:
            view.saved = UidSet()  # RFC 5182 section 2.1
        raise
    modseq = 0
    if saves or command.modseq:
        answered = _answered(command, found)
        if saves:
            view.saved = UidSet.from_uids(answered.uids)
        modseq = max(answered.modseqs, default=0) if command.modseq else 0
    numbers = found.uids if command.uid else found.numbers
    if command.returns is None and not client.rev2:
        told = " ".join(["* SEARCH", *map(str, numbers)]).encode()
        end = b" (MODSEQ %d)" % modseq if modseq else b""
        client.write(b"%b%b\r\n" % (told, end))
    else:
        returns = command.returns
        if returns is None:
            returns = frozenset((i.SearchReturn.ALL,))
        if returns != {i.SearchReturn.SAVE} or command.partial is not None:
            _tell_extended(client, command, returns, numbers, modseq)
    return Answer("searched", expunges=command.uid)


def _answered(command: i.Search, found: Hits) -> Hits:
    """What `$` is from here on, and whose modseq is told: all, or only the ends and the part where
    only they were asked for. See RFC 5182 section 2.4, RFC 4731 section 3.2 and RFC 9394 section
    3.2."""
    returns = command.returns or frozenset()
    places = range(len(found.numbers))
    if not places or returns & {i.SearchReturn.ALL, i.SearchReturn.COUNT}:
        return found
    some = [] if command.partial is None else list(command.partial.of(places))
    if i.SearchReturn.MIN in returns:
        some.append(places[0])
    if i.SearchReturn.MAX in returns:
        some.append(places[-1])
    return found.at(some) if some or command.partial is not None else found


def _tell_extended(
    client: LoggedInClient,
    command: i.Search,
    returns: frozenset[i.SearchReturn],
    numbers: Sequence[int],
    modseq: int,
) -> None:
    parts = [b'* ESEARCH (TAG "%b")' % client.tag]
    if command.uid:
        parts.append(b"UID")
    if numbers:
        if i.SearchReturn.MIN in returns:
            parts.append(b"MIN %d" % numbers[0])
        if i.SearchReturn.MAX in returns:
            parts.append(b"MAX %d" % numbers[-1])
        if i.SearchReturn.ALL in returns:
            parts.append(b"ALL " + responses.number_set(UidSet.from_uids(numbers)))
    if command.partial is not None:
        some = command.partial.of(numbers)
        told = responses.number_set(UidSet.from_uids(some)) if some else b"NIL"
        parts.append(b"PARTIAL (%b %b)" % (command.partial.shown(), told))
    if i.SearchReturn.COUNT in returns:
        parts.append(b"COUNT %d" % len(numbers))
    if modseq:
        parts.append(b"MODSEQ %d" % modseq)
    client.write(b" ".join(parts) + b"\r\n")


async def _find(client: LoggedInClient, view: MailboxView, key: SearchKey) -> Hits:
    """All messages that a key is true of, in the order of their numbers: those that columns decide,
    and those of the others that are looked at one by one."""
    facts = _facts(client, view)
    _matcher(key, facts)
    keys = max(_FULL_PAGE_KEYS, key_count(key))
    quick = ColumnMatcher(key, facts)
    left, hits = view.uids, Hits()
    if quick.decides:
        undecided: list[int] = []
        limit = SUMMARIES_MAX if quick.needs_summaries else RECORDS_MAX
        limit = max(1, limit * _FULL_PAGE_KEYS // keys)
        async for page in client.view_reader.columns(
            view.number, view.uids, summaries=quick.needs_summaries, limit=limit
        ):
            numbers = view.numbering.numbers_of(page.uids)
            answers = quick.matches(page, numbers)
            hits.numbers += compress(numbers, answers)
            hits.uids += compress(page.uids, answers)
            hits.modseqs += compress(page.modseqs, answers)
            if None in answers:
                undecided += compress(page.uids, [one is None for one in answers])
            await after_others()
        left = UidSet.from_uids(undecided)
    decided = len(hits.numbers)
    async for found in _found(client, view, key, uids=left):
        hits.numbers += [one.number for one in found]
        hits.uids += [one.info.uid for one in found]
        hits.modseqs += [one.info.modseq for one in found]
    if 0 < decided < len(hits.numbers):
        hits.sort()
    return hits


def _facts(client: LoggedInClient, view: MailboxView) -> SearchFacts:
    return SearchFacts(int(client.wall_s()), len(view), view.last_uid, view.saved)


def _matcher(key: SearchKey, facts: SearchFacts) -> Matcher:
    try:
        return Matcher(key, facts)
    except KeysTooDeepError as e:
        raise CommandWrong(str(e)) from None


async def _found(
    client: LoggedInClient,
    view: MailboxView,
    key: SearchKey,
    *,
    summaries: bool = False,
    uids: UidSet | None = None,
) -> AsyncIterator[list[Found]]:
    """The messages that a key is true of, of `uids` or of all, a page at a time, in the order of
    their numbers."""
    matcher = _matcher(key, _facts(client, view))
    wanted = view.uids if uids is None else uids
    needed = summaries or matcher.needs is not Level.RECORD
    progress = client.progress(len(wanted))
    keys, tests = key_count(key), 0
    async for page in client.view_reader.pages(view.number, wanted, summaries=needed):
        found: list[Found] = []
        undecided: list[Found] = []
        for info in page.messages:
            tests += keys
            if tests > _TURN_TESTS:
                tests = 0
                await after_others()
            number = view.number_of(info.uid)
            if not number:
                continue
            is_it = matcher.matches_record(number, info)
            summary = decode_summary(info.summary) if needed and is_it is not False else None
            if is_it is None and summary is not None:
                is_it = matcher.matches_summary(number, info, summary)
                if is_it is None:
                    undecided.append(Found(number, info, summary))
                    continue
            progress.add(1)
            if is_it:
                found.append(Found(number, info, summary if summaries else None))
        for batch in _batches(undecided, keys):
            for one in await _with_text(client, view, matcher, batch, progress, keys):
                found.append(one if summaries else Found(one.number, one.info, None))
            await after_others()
        if undecided:
            found.sort(key=lambda one: one.number)
        yield found


def _batches(messages: Sequence[Found], keys: int) -> Iterator[list[Found]]:
    """Messages whose text is searched in one turn of the loop. A long one is alone, and so is each
    one of a search with many keys."""
    batch: list[Found] = []
    size = 0
    for one in messages:
        size += one.info.size_bytes * keys
        if batch and (size > TOGETHER_BYTES_MAX or len(batch) == TOGETHER_MAX):
            yield batch
            batch, size = [], one.info.size_bytes * keys
        batch.append(one)
    if batch:
        yield batch


async def _with_text(
    client: LoggedInClient,
    view: MailboxView,
    matcher: Matcher,
    batch: Sequence[Found],
    progress: CommandProgress,
    keys: int,
) -> list[Found]:
    """Those of some messages whose text matches."""
    short = [one.info for one in batch if one.info.size_bytes * keys <= _INLINE_BYTES_MAX]
    size = sum(info.size_bytes for info in short)
    found: list[Found] = []
    left: list[Found] = []
    async with client.bodies(
        view.number, UidSet.from_uids(info.uid for info in short), size
    ) as bodies:
        for one in batch:
            body = bodies.get(one.info.uid)
            assert one.summary is not None
            if body is None:
                left.append(one)
                continue
            progress.add(1)
            if matcher.matches_body(one.number, one.info, one.summary, body):
                found.append(one)
    for one in left:
        assert one.summary is not None
        progress.add(1)
        if await _body_matches(client, view, matcher, one, one.summary, keys):
            found.append(one)
    return found


async def _body_matches(
    client: LoggedInClient,
    view: MailboxView,
    matcher: Matcher,
    one: Found,
    summary: Summary,
    keys: int,
) -> bool:
    async with client.body(view.number, one.info.uid) as body:
        if body is None:
            return False
        if len(body) * keys <= _INLINE_BYTES_MAX:
            return matcher.matches_body(one.number, one.info, summary, body)
        look = partial(matcher.matches_body, one.number, one.info, summary, body)
        return await asyncio.get_running_loop().run_in_executor(None, look)


async def sort(client: LoggedInClient, command: i.Sort) -> Answer:
    """SORT (RFC 5256 section 3)."""
    view = client.selected()
    if command.modseq:
        client.use_modseqs()
    sorter = Sorter(command.criteria)
    summaries = sorter.needs is not Level.RECORD
    uids: dict[int, int] = {}
    modseq = 0

    def add(page: list[Found]) -> None:
        for one in page:
            sorter.add(one.number, one.info, one.summary)

    loop = asyncio.get_running_loop()
    async for page in _found(client, view, command.key, summaries=summaries):
        await loop.run_in_executor(None, add, page)
        uids.update((one.number, one.info.uid) for one in page)
        modseq = max((modseq, *(one.info.modseq for one in page)))
    numbers = await loop.run_in_executor(None, sorter.numbers)
    if command.uid:
        numbers = [uids[number] for number in numbers]
    told = b"".join(b" %d" % number for number in numbers)
    end = b" (MODSEQ %d)" % modseq if modseq and command.modseq else b""
    client.write(b"* SORT%b%b\r\n" % (told, end))
    return Answer("sorted", expunges=command.uid)


async def thread(client: LoggedInClient, command: i.Thread) -> Answer:
    """THREAD (RFC 5256 section 3)."""
    view = client.selected()
    threader = Threader(command.algorithm, uid=command.uid)

    def add(page: list[Found]) -> None:
        for one in page:
            assert one.summary is not None
            threader.add(one.number, one.info, one.summary)

    loop = asyncio.get_running_loop()
    async for page in _found(client, view, command.key, summaries=True):
        await loop.run_in_executor(None, add, page)
    told = await loop.run_in_executor(None, threader.rendered)
    client.write(b"* THREAD %b\r\n" % told if told else b"* THREAD\r\n")
    return Answer("threaded", expunges=command.uid)
