"""What the commands ask of a cluster. `connect` makes one of these from the client library; tests
put a twin in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from raftmail.admin.api.calls import Call
from raftmail.mail.commands import StoreMode
from raftmail.mail.queries import MailboxInfo, MessageInfo, ScriptInfo
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Where:
    """The nodes to ask, and what they must be shown. `addresses` are host:port, tried in order.
    `cluster` is whose authority `ca` must be ("": anybody's)."""

    addresses: tuple[str, ...]
    ca: Path | None = None
    token: str | None = None
    deadline_s: float = 20.0
    cluster: str = ""


class CliSession(Protocol):
    """A connection to a cluster. Writes give the `Executed` of a command that took effect; a
    refusal is a `CliError`, no answer in time a `TryLater`."""

    def admin(self, call: Call[R]) -> R: ...

    def users(self) -> Iterator[str]: ...

    def user_exists(self, address: str) -> bool: ...

    def add_user(self, address: str, password: str | None) -> Executed: ...

    def set_password(self, address: str, password: str | None) -> Executed: ...

    def remove_user(self, address: str) -> Executed: ...

    def purge_user(self, address: str) -> Executed: ...

    def mailboxes(self, user: str) -> Sequence[MailboxInfo]: ...

    def create_mailbox(self, user: str, name: str, special_use: str) -> Executed: ...

    def delete_mailbox(self, user: str, name: str) -> Executed: ...

    def rename_mailbox(self, user: str, name: str, new_name: str) -> Executed: ...

    def scripts(self, user: str) -> Sequence[ScriptInfo]: ...

    def script(self, user: str, name: str) -> bytes: ...

    def put_script(self, user: str, name: str, script: bytes) -> Executed: ...

    def delete_script(self, user: str, name: str) -> Executed: ...

    def rename_script(self, user: str, name: str, new_name: str) -> Executed: ...

    def activate_script(self, user: str, name: str) -> Executed:
        """ "": none is active any more."""

    def save(
        self, user: str, mailbox: str, body: bytes, flags: Sequence[str], received_us: int | None
    ) -> Executed: ...

    def messages(self, user: str, mailbox: str, uids: UidSet) -> Iterator[MessageInfo]:
        """With summaries, ascending."""

    def body(self, user: str, mailbox: str, uid: int) -> bytes:
        """Raises `CliError` when there is no such message."""

    def store(
        self, user: str, mailbox: str, uids: UidSet, mode: StoreMode, flags: Sequence[str]
    ) -> Executed: ...

    def copy(
        self, user: str, mailbox: str, uids: UidSet, target: str, target_user: str, *, move: bool
    ) -> Iterator[Executed]:
        """In as many parts as it takes."""

    def expunge(self, user: str, mailbox: str, uids: UidSet, *, only_deleted: bool) -> Executed: ...


Opener = Callable[[Where], AbstractContextManager[CliSession]]
