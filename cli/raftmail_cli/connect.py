"""The one place where the commands meet the client library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from raftmail.admin.api.calls import Call
from raftmail.client import ClientError, Refused, SyncClient, TryAgain
from raftmail.mail.commands import StoreMode
from raftmail.mail.queries import MailboxInfo, MessageInfo, ScriptInfo
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet
from raftmail.node.bootstrap import BootstrapError, read_authority
from raftmail_cli.errors import CliError, TryLater
from raftmail_cli.session import CliSession, Where

T = TypeVar("T")


@contextmanager
def connect(where: Where) -> Iterator[CliSession]:
    """A session with the cluster. Connects when it is first asked. Raises `CliError`."""
    try:
        if where.ca is None:
            raise CliError(
                "whom to trust? Nothing is said to a node that does not show a certificate of the "
                "cluster: give --ca FILE (the cluster's "
                "ca.pem), set RAFTMAIL_CA, or name the cluster.json instead of addresses"
            )
        found = read_authority(where.ca)
        if where.cluster not in ("", found):
            raise CliError(
                f"{where.ca}: is the authority of cluster {found}, not of {where.cluster}, which "
                f"cluster.json is for"
            )
        client = SyncClient(
            where.addresses,
            token=where.token,
            ca=where.ca,
            timeout_s=where.deadline_s,
        )
    except (ValueError, BootstrapError) as error:
        raise CliError(str(error)) from None
    with client:
        yield _ClientSession(client)


class _ClientSession:
    """Implements `CliSession`."""

    def __init__(self, client: SyncClient) -> None:
        self._client = client

    def admin(self, call: Call[T]) -> T:
        return _do(lambda: self._client.operate(call))

    def users(self) -> Iterator[str]:
        return _each(self._client.users())

    def user_exists(self, address: str) -> bool:
        return _do(lambda: self._client.user_exists(address))

    def add_user(self, address: str, password: str | None) -> Executed:
        return _do(lambda: self._client.add_user(address, password))

    def set_password(self, address: str, password: str | None) -> Executed:
        return _do(lambda: self._client.set_password(address, password))

    def remove_user(self, address: str) -> Executed:
        return _do(lambda: self._client.remove_user(address))

    def purge_user(self, address: str) -> Executed:
        return _do(lambda: self._client.purge_user(address))

    def mailboxes(self, user: str) -> Sequence[MailboxInfo]:
        return _do(lambda: self._client.mailboxes(user))

    def create_mailbox(self, user: str, name: str, special_use: str) -> Executed:
        return _do(lambda: self._client.create_mailbox(user, name, special_use=special_use))

    def delete_mailbox(self, user: str, name: str) -> Executed:
        return _do(lambda: self._client.delete_mailbox(user, name))

    def rename_mailbox(self, user: str, name: str, new_name: str) -> Executed:
        return _do(lambda: self._client.rename_mailbox(user, name, new_name))

    def scripts(self, user: str) -> Sequence[ScriptInfo]:
        return _do(lambda: self._client.scripts(user))

    def script(self, user: str, name: str) -> bytes:
        return _do(lambda: self._client.script(user, name))

    def put_script(self, user: str, name: str, script: bytes) -> Executed:
        return _do(lambda: self._client.put_script(user, name, script))

    def delete_script(self, user: str, name: str) -> Executed:
        return _do(lambda: self._client.delete_script(user, name))

    def rename_script(self, user: str, name: str, new_name: str) -> Executed:
        return _do(lambda: self._client.rename_script(user, name, new_name))

    def activate_script(self, user: str, name: str) -> Executed:
        return _do(lambda: self._client.activate_script(user, name))

    def save(
        self, user: str, mailbox: str, body: bytes, flags: Sequence[str], received_us: int | None
    ) -> Executed:
        return _do(lambda: self._client.save(user, mailbox, body, flags, received_us=received_us))

    def messages(self, user: str, mailbox: str, uids: UidSet) -> Iterator[MessageInfo]:
        return _each(self._client.messages(user, mailbox, uids, summaries=True))

    def body(self, user: str, mailbox: str, uid: int) -> bytes:
        return _do(lambda: self._client.body(user, mailbox, uid))

    def store(
        self, user: str, mailbox: str, uids: UidSet, mode: StoreMode, flags: Sequence[str]
    ) -> Executed:
        return _do(lambda: self._client.store(user, mailbox, uids, mode, flags))

    def copy(
        self, user: str, mailbox: str, uids: UidSet, target: str, target_user: str, *, move: bool
    ) -> Iterator[Executed]:
        return _each(
            self._client.copy_in_parts(
                user, mailbox, uids, target, target_user=target_user, move=move
            )
        )

    def expunge(self, user: str, mailbox: str, uids: UidSet, *, only_deleted: bool) -> Executed:
        return _do(lambda: self._client.expunge(user, mailbox, uids, only_deleted=only_deleted))


def _do(call: Callable[[], T]) -> T:
    try:
        return call()
    except (ClientError, ValueError) as error:
        raise _explained(error) from None


def _each(items: Iterator[T]) -> Iterator[T]:
    try:
        yield from items
    except (ClientError, ValueError) as error:
        raise _explained(error) from None


def _explained(error: ClientError | ValueError) -> CliError:
    if isinstance(error, UnicodeEncodeError):
        shown = error.object.encode("utf-8", "backslashreplace").decode()
        return CliError(f"{shown}: is no text in UTF-8, as names and addresses are")
    if isinstance(error, TryAgain):
        text = str(error)
        if error.full:
            text += "; make space on the nodes' disks"
        elif error.outcome_unknown:
            text += "; it may have been done, or be done yet: look before you repeat it"
        return TryLater(text)
    if isinstance(error, Refused) and ("AUTH TOKEN" in error.text or "not the token" in error.text):
        return CliError(
            f"{error.text}; the cluster's token is wanted: give --token-file FILE, put it in "
            f"RAFTMAIL_TOKEN, or name the cluster.json"
        )
    if isinstance(error, Refused):
        return CliError(f"{error.text} ({error.code})")
    return CliError(str(error))
