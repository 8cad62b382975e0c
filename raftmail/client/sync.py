"""The client for programs without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from raftmail.admin.api.calls import Call
from raftmail.client.aio import Client, MailboxState, NewMail, Uids
from raftmail.mail.admin import JSON
from raftmail.mail.commands import StoreMode
from raftmail.mail.queries import MailboxInfo, MessageInfo, MessagePage, ScriptInfo
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet

R = TypeVar("R")
T = TypeVar("T")


class SyncClient:
    """`Client`, a call at a time, each until it has its outcome; methods, arguments and errors are
    the same. Belongs to one thread, which has no running event loop. Use it in a `with`."""

    def __init__(
        self,
        addresses: Sequence[str] | str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        timeout_s: float = 20.0,
        compress: bool = False,
        client_id: bytes | None = None,
        last_seq: int = 0,
    ) -> None:
        self.client = Client(
            addresses,
            token=token,
            ca=ca,
            timeout_s=timeout_s,
            compress=compress,
            client_id=client_id,
            last_seq=last_seq,
        )
        self._runner = asyncio.Runner()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.run(self.client.close)
        self._runner.close()

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """The outcome of a call of `client`, made on the loop that belongs to this object."""

        async def within() -> T:
            return await call()

        return self._runner.run(within())

    def _each(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> T:
            return await anext(items)

        while True:
            try:
                item = self._runner.run(following())
            except StopAsyncIteration:
                return
            yield item

    # Messages

    def store(
        self,
        user: str,
        mailbox: str,
        uids: Uids,
        mode: StoreMode,
        flags: Sequence[str],
        **options: Any,
    ) -> Executed:
        """See `Client.store`."""
        return self.run(lambda: self.client.store(user, mailbox, uids, mode, flags, **options))

    def save(
        self, user: str, mailbox: str, body: bytes, flags: Sequence[str] = (), **options: Any
    ) -> Executed:
        """See `Client.save`."""
        return self.run(lambda: self.client.save(user, mailbox, body, flags, **options))

    def save_all(self, mails: Sequence[NewMail], **options: Any) -> Executed:
        """See `Client.save_all`."""
        return self.run(lambda: self.client.save_all(mails, **options))

    def copy(self, user: str, mailbox: str, uids: Uids, target: str, **options: Any) -> Executed:
        """See `Client.copy`."""
        return self.run(lambda: self.client.copy(user, mailbox, uids, target, **options))

    def copy_in_parts(
        self, user: str, mailbox: str, uids: Uids, target: str, **options: Any
    ) -> Iterator[Executed]:
        """See `Client.copy_in_parts`."""
        return self._each(self.client.copy_in_parts(user, mailbox, uids, target, **options))

    def expunge(self, user: str, mailbox: str, uids: Uids, **options: Any) -> Executed:
        """See `Client.expunge`."""
        return self.run(lambda: self.client.expunge(user, mailbox, uids, **options))

    def message_page(self, user: str, mailbox: str, uids: Uids, **options: Any) -> MessagePage:
        """See `Client.message_page`."""
        return self.run(lambda: self.client.message_page(user, mailbox, uids, **options))

    def messages(
        self, user: str, mailbox: str, uids: Uids, **options: Any
    ) -> Iterator[MessageInfo]:
        """See `Client.messages`."""
        return self._each(self.client.messages(user, mailbox, uids, **options))

    def vanished(self, user: str, mailbox: str, since: int, **options: Any) -> UidSet:
        """See `Client.vanished`."""
        return self.run(lambda: self.client.vanished(user, mailbox, since, **options))

    def body(self, user: str, mailbox: str, uid: int, **options: Any) -> bytes:
        """See `Client.body`."""
        return self.run(lambda: self.client.body(user, mailbox, uid, **options))

    # Mailboxes

    def mailbox_state(self, user: str, mailbox: str, **options: Any) -> MailboxState:
        """See `Client.mailbox_state`."""
        return self.run(lambda: self.client.mailbox_state(user, mailbox, **options))

    def mailboxes(self, user: str, **options: Any) -> tuple[MailboxInfo, ...]:
        """See `Client.mailboxes`."""
        return self.run(lambda: self.client.mailboxes(user, **options))

    def create_mailbox(self, user: str, name: str, **options: Any) -> Executed:
        """See `Client.create_mailbox`."""
        return self.run(lambda: self.client.create_mailbox(user, name, **options))

    def delete_mailbox(self, user: str, name: str, **options: Any) -> Executed:
        """See `Client.delete_mailbox`."""
        return self.run(lambda: self.client.delete_mailbox(user, name, **options))

    def rename_mailbox(self, user: str, name: str, new_name: str, **options: Any) -> Executed:
        """See `Client.rename_mailbox`."""
        return self.run(lambda: self.client.rename_mailbox(user, name, new_name, **options))

    def subscribe(self, user: str, name: str, **options: Any) -> Executed:
        """See `Client.subscribe`."""
        return self.run(lambda: self.client.subscribe(user, name, **options))

    def subscriptions(self, user: str, **options: Any) -> tuple[str, ...]:
        """See `Client.subscriptions`."""
        return self.run(lambda: self.client.subscriptions(user, **options))

    # Scripts of delivery rules

    def put_script(self, user: str, name: str, script: bytes, **options: Any) -> Executed:
        """See `Client.put_script`."""
        return self.run(lambda: self.client.put_script(user, name, script, **options))

    def delete_script(self, user: str, name: str, **options: Any) -> Executed:
        """See `Client.delete_script`."""
        return self.run(lambda: self.client.delete_script(user, name, **options))

    def rename_script(self, user: str, name: str, new_name: str, **options: Any) -> Executed:
        """See `Client.rename_script`."""
        return self.run(lambda: self.client.rename_script(user, name, new_name, **options))

    def activate_script(self, user: str, name: str, **options: Any) -> Executed:
        """See `Client.activate_script`."""
        return self.run(lambda: self.client.activate_script(user, name, **options))

    def scripts(self, user: str, **options: Any) -> tuple[ScriptInfo, ...]:
        """See `Client.scripts`."""
        return self.run(lambda: self.client.scripts(user, **options))

    def script(self, user: str, name: str, **options: Any) -> bytes:
        """See `Client.script`."""
        return self.run(lambda: self.client.script(user, name, **options))

    # Users and operators

    def add_user(self, address: str, password: str | None, **options: Any) -> Executed:
        """See `Client.add_user`."""
        return self.run(lambda: self.client.add_user(address, password, **options))

    def set_password(self, address: str, password: str | None, **options: Any) -> Executed:
        """See `Client.set_password`."""
        return self.run(lambda: self.client.set_password(address, password, **options))

    def remove_user(self, address: str, **options: Any) -> Executed:
        """See `Client.remove_user`."""
        return self.run(lambda: self.client.remove_user(address, **options))

    def purge_user(self, address: str, **options: Any) -> Executed:
        """See `Client.purge_user`."""
        return self.run(lambda: self.client.purge_user(address, **options))

    def user_exists(self, address: str, **options: Any) -> bool:
        """See `Client.user_exists`."""
        return self.run(lambda: self.client.user_exists(address, **options))

    def user_page(self, **options: Any) -> tuple[str, ...]:
        """See `Client.user_page`."""
        return self.run(lambda: self.client.user_page(**options))

    def users(self) -> Iterator[str]:
        """See `Client.users`."""
        return self._each(self.client.users())

    def admin(self, what: str, **arguments: Any) -> JSON:
        """See `Client.admin`."""
        return self.run(lambda: self.client.admin(what, **arguments))

    def operate(self, call: Call[R], **options: Any) -> R:
        """See `Client.operate`."""
        return self.run(lambda: self.client.operate(call, **options))

    def ping(self, **options: Any) -> None:
        """See `Client.ping`."""
        self.run(lambda: self.client.ping(**options))
