"""Real nodes that serve IMAP, for mail programs."""

from __future__ import annotations

import imaplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.node.cluster import Cluster, free_ports, wait_for

USER: Final = "alice@example.org"
PASSWORD: Final = "secret-password"


class MailCluster(Cluster):
    """Three nodes whose IMAP ports are in `imap`, by name."""

    def __init__(self, folder: Path, *, shards: int = 1) -> None:
        super().__init__(folder, shards=shards)
        used = {
            address.rsplit(":")[-1] for p in self.plans for address in (p.peer, p.client, p.lmtp)
        }
        free = [port for port in free_ports(12) if str(port) not in used]
        self.imap = dict(zip(self.folders, free, strict=False))
        for name, home in self.folders.items():
            path = home / "node.toml"
            text = path.read_text(encoding="utf-8")
            listen = f'[listen]\nimap = "127.0.0.1:{self.imap[name]}"'
            path.write_text(text.replace("[listen]", listen), encoding="utf-8")

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
        with imaplib.IMAP4("127.0.0.1", self.imap[name], timeout=30) as box:
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
