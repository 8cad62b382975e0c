"""Real nodes that serve IMAP, for mail programs."""

from __future__ import annotations

import imaplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from raftmail.mail.endpoint import split_address
from tests.frontends.imap.strict_imaplib import StrictImaplib
from tests.node.cluster import Cluster, wait_for

USER: Final = "alice@example.org"
PASSWORD: Final = "secret-password"


class MailCluster(Cluster):
    """Three nodes whose IMAP ports are in `imap`, by name."""

    def __init__(self, folder: Path, *, shards: int = 1) -> None:
        super().__init__(folder, shards=shards, programs=True)
        self.imap = {name: split_address(one.imap)[1] for name, one in self.programs.items()}

    def add_users(self, *users: str) -> None:
        """Make users, once there is a master, all with one password."""
        self.master(0)
        self.master(1)
        with self.client() as client:
            for user in users or (USER,):
                client.add_user(user, PASSWORD)

    @contextmanager
    def box(self, name: str, *, tls: bool = False, user: str = USER) -> Iterator[Any]:
        """Logged in through a node."""
        with StrictImaplib("127.0.0.1", self.imap[name], timeout=30) as box:
            if tls:
                context = ssl.create_default_context(cafile=str(self.made.ca))
                context.check_hostname = False
                box.starttls(context)
            box.login(user, PASSWORD)
            yield box

    def messages(self, folder: str = "INBOX", user: str = USER) -> list[bytes]:
        """All messages of a mailbox, through whichever node answers."""

        def read() -> tuple[list[bytes]] | None:
            for name, process in self.processes.items():
                if process.poll() is None:
                    try:
                        return (self._messages(name, folder, user),)
                    except (OSError, imaplib.IMAP4.error):
                        continue
            return None

        found: tuple[list[bytes]] = wait_for(f"the messages of {folder}", read)
        return found[0]

    def _messages(self, name: str, folder: str, user: str) -> list[bytes]:
        with self.box(name, user=user) as box:
            status, _ = box.select(f'"{folder}"', readonly=True)
            if status != "OK":
                return []
            _, found = box.fetch("1:*", "(BODY.PEEK[])")
            return [one[1] for one in found if isinstance(one, tuple)]

    def fill(self, messages: Sequence[bytes], folder: str = "INBOX", user: str = USER) -> None:
        """Append messages through any node."""
        with self.box(next(iter(self.imap)), user=user) as box:
            for one in messages:
                assert box.append(folder, None, None, one)[0] == "OK"
