"""The front door: what every front end asks of its node, and all that it may ask.

`raftmail.service.cluster_service` implements it over the cluster; tests of front ends put a twin in
memory in its place. The parts have names of their own, so that a front end says which of them it
uses: LMTP needs `DeliveryService` alone.

All calls are made on the event loop. Deadlines are seconds from now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from raftmail.mail.admin import ADMIN_S, JSON
from raftmail.mail.commands import Blob, Command, Copy, Save
from raftmail.mail.failures import Failure
from raftmail.mail.queries import Answer, Query, ReadPoint
from raftmail.mail.results import Executed
from raftmail.mail.scripts import SCRIPT_TOTAL_BYTES_MAX, SCRIPTS_MAX
from raftmail.mail.smtp_address import Address
from raftmail.service.login import LogInOutcome, Origin, ScramOffer, Shown
from raftmail.service.verdicts import Envelope, Recipient, Verdict
from raftmail.service.watching import Watch


class UnknownUser(Exception):
    """There is no such user."""

    def __init__(self, user: str) -> None:
        super().__init__(f"there is no user {user}")
        self.user = user


class ScriptTooLarge(ValueError):
    """A script is larger than the node takes."""


@dataclass(frozen=True, slots=True)
class ScriptLimits:
    """What scripts of delivery rules a node takes. `total_bytes_max` is of all scripts of a user
    together."""

    script_bytes_max: int = 64 << 10
    scripts_max: int = SCRIPTS_MAX
    total_bytes_max: int = SCRIPT_TOTAL_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Principal:
    """Who speaks, once they have shown it: a user, or the holder of the cluster's token, who may do
    everything."""

    user: str = ""


class Commands(Protocol):
    """Changes of mail and users."""

    def submit(
        self,
        shard: int,
        request: bytes,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Callable[[Executed | Failure], None],
    ) -> None:
        """Have an encoded request (`codec.encode_request`) applied; `done` is called exactly once,
        possibly at once. The hot path: no task, no coroutine."""

    async def execute(
        self, command: Command, *, blobs: Sequence[Blob] = (), deadline_s: float
    ) -> Executed:
        """Have a command applied under the node's own client id. Raises `Unavailable`."""

    def execute_soon(
        self,
        command: Save,
        blobs: Sequence[Blob],
        deadline_s: float,
        done: Callable[[Executed | Failure], None],
    ) -> None:
        """`execute` without a task; `done` is called exactly once, possibly at once."""

    async def cross(
        self, client: bytes, seq: int, floor: int, command: Copy, *, deadline_s: float
    ) -> Executed:
        """Have messages copied or moved to a mailbox in another shard, under a client id and number
        as in a request. Raises `Unavailable`."""

    def shard_of(self, user: str) -> int:
        """The shard that holds a user's mail. Users themselves are in shard 0."""

    def quota_of(self, user: str) -> int:
        """How many bytes all messages of a user may have together, as commands that add some must
        say; 0: there is no limit."""


class Reads(Protocol):
    """What there is, and what becomes of it."""

    async def query(
        self, query: Query, *, deadline_s: float, point: ReadPoint | None = None
    ) -> Answer:
        """Read, behind a barrier (P5). Reads with the same point share that of the first. Raises
        `Unavailable`."""

    def watch(self, user: str, wake: Callable[[], None]) -> Watch:
        """Note every change to a user's mail from now on, for `Watch.take`. `wake` is called when
        there is something to take after there was nothing, perhaps before this returns; it must not
        raise, nor block."""


class Accounts(Protocol):
    """Who is a user, and who says so rightly."""

    def authenticate(self, token: bytes) -> Principal | None:
        """Who shows the cluster's token; None when it is not the token."""

    @property
    def takes_tokens(self) -> bool:
        """Whether there is an issuer whose tokens say who somebody is."""

    async def scram_offer(self, user: str, *, deadline_s: float) -> ScramOffer:
        """With what somebody begins to log in by SCRAM; also when there is no such user. Raises
        `Unavailable`."""

    async def log_in(self, shown: Shown, origin: Origin, *, deadline_s: float) -> LogInOutcome:
        """Judge what a client shows. A refusal comes late, as it makes guessing slow, and takes as
        long when there is no such user. Raises `Unavailable`: nothing is known then of what was
        shown."""

    def enter_user(self, user: str) -> bool:
        """One who was let in has one more connection; False: there are too many already."""

    def leave_user(self, user: str) -> None:
        """A connection that `enter_user` counted has ended."""

    async def hash_password(self, user: str, password: bytes) -> str:
        """What is kept of a user's password. Raises ValueError when it is empty or too long."""

    def is_known_user(self, user: str) -> bool:
        """Whether a user was there a moment ago; False also when nobody has asked."""

    async def check_users(self, users: Iterable[str], *, deadline_s: float) -> None:
        """See that all of them are there. Raises `UnknownUser`, `Unavailable`."""

    def forget_user(self, user: str) -> None:
        """A user is being removed: ask again."""


class RuleScripts(Protocol):
    """Scripts of delivery rules (RFC 5804). All else that is done with them are commands and
    queries: `DeleteScript`, `RenameScript`, `ActivateScript`, `ListScripts`, `GetScript`,
    `ActiveScript`."""

    @property
    def script_limits(self) -> ScriptLimits:
        """What may be put at this node."""

    async def check_script(self, user: str, name: str, script: bytes, *, deadline_s: float) -> None:
        """Tell what is wrong with a script that is not kept: raises ValueError with line and
        column, or `ScriptTooLarge`. Raises `Unavailable` where it includes others. `name` may be
        ""."""

    async def put_script(
        self, user: str, name: str, script: bytes, *, deadline_s: float
    ) -> Executed:
        """Check a script and keep it. Raises as `check_script`, ValueError also for a name that no
        script can have."""


class DeliveryService(Protocol):
    """Mail that comes in.

    Whoever calls bounds the time: the methods that wait may be cancelled, and end then. They may
    raise what nobody foresaw: the recipient, or all recipients of the message, are to come again. A
    message may have been delivered after all (P9 sees to it that a repeat does no harm).
    """

    def resolve_now(self, address: Address) -> Verdict | None:
        """The verdict of `resolve` where it is known without waiting (the usual case, which then
        costs no task); None to be asked again by `resolve`."""

    async def resolve(self, address: Address) -> Verdict:
        """Say whether mail for this address is taken. Called once for every recipient, in order,
        unless
        `resolve_now` said it."""

    def deliver_soon(
        self,
        envelope: Envelope,
        body: bytes,
        recipients: Sequence[Recipient],
        done: Callable[[Sequence[Verdict]], None],
    ) -> bool:
        """`deliver` without a task, where that is possible (the usual case): `done` is called once
        with the verdicts, perhaps at once. False, and nothing was begun: `deliver` is to do it.

        What was begun is not cancelled; an answer that comes too late is dropped."""

    async def deliver(
        self, envelope: Envelope, body: bytes, recipients: Sequence[Recipient]
    ) -> Sequence[Verdict]:
        """Store the message; one verdict for each recipient, in the order of `recipients`.

        `body` is what the client sent, without dot-stuffing and without trace fields:
        `envelope.trace.prefix(recipient.address)` goes before it. Bare CR, bare LF and NUL in it
        are as they were sent. The same address may stand in `recipients` more than once, and then
        has as many verdicts (RFC 2033 section 4.2). A positive verdict is a promise: the message
        is on stable storage on a majority of replicas.
        """


class Operators(Protocol):
    """What operators ask of the node."""

    async def admin(
        self, what: str, arguments: Mapping[str, str], deadline_s: float = ADMIN_S
    ) -> JSON:
        """A call of operators by its name in `admin.api.calls`, such as "status". Raises
        `Unavailable`, or ValueError for bad arguments."""


class Service(Commands, Reads, Accounts, RuleScripts, DeliveryService, Operators, Protocol):
    """The whole front door."""
