"""Tells programs elsewhere of new mail: a signed POST of JSON to URLs that operators configure.

What a replica applies while it leads is heard here, put into a queue of its URL, and sent in the
background. Nothing waits for a receiver.

A message is told once as a rule. What waits is in memory, so it is lost with the node. Over a
failover a message may be told twice, or not at all. The same message always has the same `id`.

Invariants:

1. At most `waiting_max` events wait or are being sent. Beyond that the oldest of the longest queue
   goes, and is counted. So does one that has waited for `keep_s`.
2. One POST at a time goes to a URL, with at most `EVENTS_MAX` events. After one that failed the
   next waits, ever longer, up to `BACKOFF_MAX_S`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from raftmail.mail.arrivals import Arrival
from raftmail.mail.encoded_words import decode_words
from raftmail.mail.failures import Unavailable
from raftmail.mail.flags import SEEN
from raftmail.mail.headers import each_field, unfold
from raftmail.mail.queries import FetchMessages, MessagePage
from raftmail.mail.summary import SummaryError, decode_summary, header_fields
from raftmail.mail.uidset import UidSet
from raftmail.net.errors import start_task, tell
from raftmail.service.http_post import post_json
from raftmail.service.junk_teacher import ReadableMail

logger = logging.getLogger(__name__)

EVERYBODY: Final = "*"
SIGNATURE: Final = "X-Raftmail-Signature"
EVENTS_MAX: Final = 50
EVENT_BYTES: Final = 4096
"""What an event may take, with its user and the name of its mailbox."""
BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 300.0
READ_S: Final = 10.0
TEXT_CHARS_MAX: Final = 500
"""Of a sender or a subject."""

_OWN_USES: Final = frozenset(("\\Sent", "\\Drafts", "\\Trash", "\\Junk"))
"""What comes there is no new mail to tell anybody of."""


@dataclass(frozen=True, slots=True)
class HookLimits:
    """See the module's invariants. `details` adds sender and subject."""

    timeout_s: float = 10.0
    waiting_max: int = 10_000
    keep_s: float = 3600.0
    details: bool = False


@dataclass(slots=True)
class HookCounts:
    """Events, and POSTs that failed, since the start."""

    told: int = 0
    failed: int = 0
    dropped: int = 0


@dataclass(slots=True, repr=False)
class _Receiver:
    """One URL, and the arrivals that wait for it, each with when it was heard of."""

    url: str
    waiting: deque[tuple[float, Arrival]] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None
    failures: int = 0


@dataclass(slots=True, repr=False)
class WebHooks:
    """Of one node. `urls` are by user, by domain, or for `EVERYBODY`: the closest is taken. `wall`
    is Unix time."""

    mail: ReadableMail
    urls: Mapping[str, str]
    secret: bytes
    limits: HookLimits
    wall: Callable[[], float]
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    counts: HookCounts = field(default_factory=HookCounts)
    _receivers: dict[str, _Receiver] = field(init=False)
    _held: int = 0
    _closed: bool = False

    def __post_init__(self) -> None:
        self._receivers = {url: _Receiver(url) for url in self.urls.values()}

    @property
    def waiting(self) -> int:
        """Events that wait or are being sent."""
        return self._held

    def hear(self, arrivals: Sequence[Arrival]) -> None:
        """Mail came. Returns at once."""
        if self._closed:
            return
        for one in arrivals:
            if one.system & SEEN or one.special_use in _OWN_USES:
                continue
            url = self._url_of(one.user)
            if url is not None:
                self._queue(self._receivers[url], one)

    def _url_of(self, user: str) -> str | None:
        urls = self.urls
        return urls.get(user) or urls.get(user.rpartition("@")[2]) or urls.get(EVERYBODY)

    def _queue(self, receiver: _Receiver, arrival: Arrival) -> None:
        receiver.waiting.append((self.mail.clock(), arrival))
        self._held += 1
        if self._held > self.limits.waiting_max:
            longest = max(self._receivers.values(), key=lambda one: len(one.waiting))
            longest.waiting.popleft()
            self._drop(1)
        if receiver.task is None:
            loop = asyncio.get_running_loop()
            receiver.task = start_task(loop, self._send_all(receiver), self._broke)

    def _drop(self, count: int) -> None:
        self._held -= count
        self.counts.dropped += count

    def _broke(self, error: Exception) -> None:
        tell(logger, "a web hook is not called", error)

    async def close(self) -> None:
        """Stop: what waits is forgotten, and nothing more is heard."""
        self._closed = True
        tasks = [one.task for one in self._receivers.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send_all(self, receiver: _Receiver) -> None:
        try:
            while self._fresh(receiver):
                await self._send_some(receiver)
        finally:
            receiver.task = None

    def _fresh(self, receiver: _Receiver) -> bool:
        """Whether something waits, once what has waited for too long is gone."""
        waiting = receiver.waiting
        before = self.mail.clock() - self.limits.keep_s
        while waiting and waiting[0][0] < before:
            waiting.popleft()
            self._drop(1)
        return bool(waiting)

    async def _send_some(self, receiver: _Receiver) -> None:
        waiting = receiver.waiting
        batch = [waiting.popleft() for _ in range(min(EVENTS_MAX, len(waiting)))]
        wrong = await self._post(receiver.url, [arrival for _, arrival in batch])
        if not wrong:
            self._held -= len(batch)
            self.counts.told += len(batch)
            if receiver.failures:
                logger.info("web hook %s answers again", receiver.url)
                receiver.failures = 0
            return
        waiting.extendleft(reversed(batch))
        self.counts.failed += 1
        receiver.failures += 1
        if receiver.failures == 1:
            logger.warning(
                "web hook %s: %s. It is tried again, ever less often", receiver.url, wrong
            )
        exponent = min(receiver.failures - 1, 20)
        await asyncio.sleep(min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2**exponent))

    async def _post(self, url: str, arrivals: Sequence[Arrival]) -> str:
        """What went wrong; "": nothing did."""
        events = [await self._event(one) for one in arrivals]
        body = json.dumps({"sent": int(self.wall()), "events": events}).encode()
        signed = hmac.new(self.secret, body, hashlib.sha256).hexdigest()
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                headers = {SIGNATURE: f"sha256={signed}"}
                status = await post_json(url, body, self.context, headers)
        except TimeoutError:
            return f"no answer within {self.limits.timeout_s:g} s"
        except (OSError, ValueError, EOFError) as e:
            return str(e) or type(e).__name__
        return "" if 200 <= status < 300 else f"it answered with status {status}"

    async def _event(self, arrival: Arrival) -> dict[str, Any]:
        event = {
            "id": id_of(arrival),
            "user": arrival.user,
            "mailbox": arrival.name,
            "uidvalidity": arrival.uidvalidity,
            "uid": arrival.uid,
        }
        return event | await self._details(arrival) if self.limits.details else event

    async def _details(self, arrival: Arrival) -> dict[str, str]:
        """Sender and subject, where they can be read now."""
        only = UidSet.single(arrival.uid)
        query = FetchMessages(arrival.user, arrival.mailbox, only, summaries=True, limit=1)
        try:
            page = await self.mail.query(query, deadline_s=READ_S)
            if not isinstance(page, MessagePage) or not page.messages:
                return {}
            summary = decode_summary(page.messages[0].summary)
        except (Unavailable, SummaryError):
            return {}
        block = header_fields(summary, (b"from", b"subject")) or b""
        found: dict[str, str] = {}
        for name, value in each_field(block):
            text = decode_words(unfold(value))[:TEXT_CHARS_MAX]
            found.setdefault(name.decode("ascii").lower(), text)
        return found


def id_of(arrival: Arrival) -> str:
    """The same for the same message in the same mailbox, whoever tells of it."""
    place = (arrival.user, arrival.mailbox, arrival.uidvalidity, arrival.uid)
    return hashlib.sha256("\0".join(map(str, place)).encode()).hexdigest()[:32]
