"""Log-ins over the cluster: who shows what, whether it is right, and what a wrong one costs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, assert_never

from raftmail.mail.addresses import spellings
from raftmail.mail.app_passwords import UserPasswords
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.queries import Answer, GetUser, Query, UserInfo
from raftmail.service.credentials import Credentials, scram_salt_of
from raftmail.service.external_users import ExternalUsers
from raftmail.service.failed_log_ins import FailedLogIns, LogInLimits, network_of
from raftmail.service.fair_turns import FairTurns
from raftmail.service.login import (
    WRONG,
    LoggedIn,
    LogInOutcome,
    LogInRefused,
    Origin,
    PasswordShown,
    RefusalReason,
    ScramOffer,
    ScramShown,
    Shown,
    TokenShown,
)
from raftmail.service.password_cache import PasswordCache
from raftmail.service.scram_keys import ITERATIONS, signature_of
from raftmail.service.token_issuer import TokenIssuer
from raftmail.service.user_seats import UserSeats

_log = logging.getLogger("raftmail.login")

HASHES_AT_ONCE: Final = 2
"""Passwords being hashed, each in a thread of its own with 16 MiB; the next one waits."""


class Querying(Protocol):
    """What this needs of the router."""

    def query(self, query: Query, *, deadline_s: float) -> Awaitable[Answer]: ...
    @property
    def clock(self) -> Callable[[], float]: ...


@dataclass(slots=True, repr=False)
class LogIns:
    """`service.Accounts`, as far as it is about log-ins.

    Whether a user is there is told to nobody: one who is not takes as long, and has a salt."""

    cluster: Querying
    cluster_id: str = ""
    limits: LogInLimits = field(default_factory=LogInLimits)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    external: ExternalUsers | None = None
    """Who judges the passwords of users that say so (`login.EXTERNAL`)."""
    issuer: TokenIssuer | None = None
    """Whose tokens are taken."""
    seats: UserSeats = field(default_factory=UserSeats)
    hashing: FairTurns = field(default_factory=lambda: FairTurns(HASHES_AT_ONCE))
    asking: FairTurns = field(init=False)
    failed: FailedLogIns = field(init=False)
    _cache: PasswordCache = field(init=False)

    def __post_init__(self) -> None:
        self.asking = FairTurns(self.limits.external_at_once_max)
        self.failed = FailedLogIns(self.limits)
        self._cache = PasswordCache(self.limits.cache_s, self.limits.cached_max)

    @property
    def takes_tokens(self) -> bool:
        """See `service.Accounts`."""
        return self.issuer is not None

    async def scram_offer(self, user: str, *, deadline_s: float) -> ScramOffer:
        """See `service.Accounts`."""
        name, found = await self._find(user, deadline_s)
        kept = None if found is None else UserPasswords.parse(found.password_hash)
        offers = [] if kept is None else _scram_offers(kept)
        first = (
            offers[0] if offers else ScramOffer(scram_salt_of(self.cluster_id, name), ITERATIONS)
        )
        keys = [
            key
            for one in offers
            if (one.salt, one.iterations) == (first.salt, first.iterations)
            for key in one.keys
        ]
        return ScramOffer(first.salt, first.iterations, tuple(keys))

    async def log_in(self, shown: Shown, origin: Origin, *, deadline_s: float) -> LogInOutcome:
        """See `service.Accounts`."""
        network = "" if self.failed.is_trusted(origin.address) else network_of(origin.address)
        outcome = await self._judge(shown, network, origin, deadline_s)
        if isinstance(outcome, LoggedIn):
            return outcome
        if outcome.reason is RefusalReason.EXPIRED:
            return outcome  # it was right, so nobody guesses
        if outcome.reason is RefusalReason.LIMIT:
            await self.sleep(self.limits.delay_s)
            return outcome
        _log.info("%s: a log-in from %s was refused: %s", origin.protocol, origin.address, outcome)
        delay_s = self.limits.delay_s
        if network:
            delay_s = self.failed.note(network, self._now)
        await self.sleep(delay_s)
        return outcome

    def enter_user(self, user: str) -> bool:
        """See `service.Accounts`."""
        return self.seats.take(user, self.limits.user_connections_max)

    def leave_user(self, user: str) -> None:
        """See `service.Accounts`."""
        self.seats.give(user)

    @property
    def _now(self) -> float:
        return self.cluster.clock()

    async def _judge(
        self, shown: Shown, network: str, origin: Origin, deadline_s: float
    ) -> LogInOutcome:
        if not self._may_try(network):
            return self._refused(network)
        match shown:
            case PasswordShown():
                return await self._judge_password(shown, network, origin, deadline_s)
            case ScramShown():
                return await self._judge_proof(shown, deadline_s)
            case TokenShown():
                return await self._judge_token(shown, deadline_s)
            case _:
                assert_never(shown)

    async def _judge_password(
        self, shown: PasswordShown, network: str, origin: Origin, deadline_s: float
    ) -> LogInOutcome:
        password = shown.password
        name, found = await self._find(shown.user, deadline_s)
        kept = UserPasswords.parse("" if found is None else found.password_hash)
        if any(Credentials.parse(app.kept).fits_quickly(password) for app in kept.apps):
            return LoggedIn(name)
        if found is not None and self._cache.knows(name, kept.own, password, self._now):
            return LoggedIn(name)
        credentials = Credentials.parse(kept.own)
        turns = self.asking if credentials.is_external else self.hashing
        async with self._turn(turns, network, deadline_s):
            if not self._may_try(network):
                return self._refused(network)
            if credentials.is_external:
                is_right = await self._ask_outside(name, password, origin)
            else:
                loop = asyncio.get_running_loop()
                is_right = await loop.run_in_executor(None, credentials.fits_slowly, password)
        if found is None or not is_right:
            return WRONG
        self._cache.note(name, kept.own, password, self._now)
        return LoggedIn(name)

    async def _ask_outside(self, user: str, password: bytes, origin: Origin) -> bool:
        if self.external is None:
            raise Unavailable(Failure("this node has no external source of users to ask"))
        return bool(password) and await self.external.check(user, password, origin)

    async def _judge_token(self, shown: TokenShown, deadline_s: float) -> LogInOutcome:
        if self.issuer is None:
            return WRONG
        named = self.issuer.judge(shown.token, self.issuer.wall())
        if isinstance(named, LogInRefused):
            return named
        name, found = await self._find(named, deadline_s)
        if found is None:
            return WRONG
        wanted = (await self._find(shown.user, deadline_s))[0] if shown.user else name
        if wanted != name:
            return LogInRefused(RefusalReason.NOT_ALLOWED, "the token is for another user")
        return LoggedIn(name)

    async def _judge_proof(self, shown: ScramShown, deadline_s: float) -> LogInOutcome:
        signature = signature_of(shown)
        if signature is None:
            return WRONG
        name, found = await self._find(shown.user, deadline_s)
        return LoggedIn(name, signature) if found is not None else WRONG

    @asynccontextmanager
    async def _turn(self, turns: FairTurns, network: str, deadline_s: float) -> AsyncIterator[None]:
        """Wait for a turn. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(deadline_s) as waiting, turns.turn(network):
                waiting.reschedule(None)
                yield
        except TimeoutError:
            raise Unavailable(Failure("too many log in at once: try again")) from None

    def _may_try(self, network: str) -> bool:
        return not network or self.failed.may_try(network, self._now)

    def _refused(self, network: str) -> LogInRefused:
        wait_s = self.limits.forget_s
        return LogInRefused(
            RefusalReason.LIMIT,
            f"too many wrong log-ins came from this address: try again in {wait_s:g} s",
        )

    async def _find(self, user: str, deadline_s: float) -> tuple[str, UserInfo | None]:
        """The user of an address as somebody typed it, and the name; of one who is not there, the
        name that it would have."""
        try:
            names = spellings(user)
        except ValueError:
            return user, None
        for name in names:
            found = await self.cluster.query(GetUser(name), deadline_s=deadline_s)
            if isinstance(found, UserInfo):
                return name, found
        return names[0], None


def _scram_offers(kept: UserPasswords) -> list[ScramOffer]:
    """Of all passwords of a user, the own first."""
    found = [Credentials.parse(text).scram for text in (kept.own, *(app.kept for app in kept.apps))]
    return [one for one in found if one is not None]
