"""Real nodes that serve IMAP, for mail programs."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from raftmail.mail.endpoint import split_address
from raftmail.net.tls import create_ca, issue, save
from tests.frontends.imap.strict_imaplib import StrictImaplib
from tests.node.cluster import Cluster, wait_for

USER: Final = "alice@example.org"
PASSWORD: Final = "secret-password"


_OWN_CERTIFICATE: Final = """
[tls]
program_certificate = "tls/mail.pem"
program_key = "tls/mail.key"
"""


class MailCluster(Cluster):
    """Three nodes whose IMAP ports are in `imap`, by name.

    With `host` all of them show mail programs a certificate for that name, of an authority that is
    not the cluster's. `trusted` is the file of the authority that programs have to trust."""

    def __init__(self, folder: Path, *, shards: int = 1, host: str = "") -> None:
        config = _OWN_CERTIFICATE if host else ""
        super().__init__(folder, shards=shards, config=config, programs=True)
        self.imap = {name: split_address(one.imap)[1] for name, one in self.programs.items()}
        self.trusted = self.made.ca
        if host:
            now = datetime.now(UTC)
            authority = create_ca("programs", now)
            self.trusted = folder / "programs.pem"
            self.trusted.write_bytes(authority.certificate)
            shown = issue(authority, "mail", [host], now)
            for home in self.folders.values():
                save(shown, home / "tls" / "mail.pem", home / "tls" / "mail.key")

    def port(self, name: str, protocol: str) -> int:
        """Where a node serves `imap`, `imaps`, `pop3` or `pop3s`."""
        return split_address(self.programs[name].by_protocol[protocol])[1]

    def add_users(self, *users: str) -> None:
        """Make users, once there is a master, all with one password."""
        self.master(0)
        self.master(1)
        with self.client() as client:
            for user in users or (USER,):
                client.add_user(user, PASSWORD)

    def start_again(self, name: str) -> None:
        """Start a node that was killed, and wait until it answers mail programs."""
        self.start(name)

        def answers() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", self.port(name, "pop3")), 5) as one:
                    return one.recv(3) == b"+OK"
            except OSError:
                return False

        wait_for(f"POP3 of {name}", answers)

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


def subjects(messages: Iterable[bytes]) -> Counter[str]:
    """How often each is there."""
    found = (re.search(rb"^Subject: (.*?)\r?$", one, re.MULTILINE) for one in messages)
    return Counter(one[1].decode() for one in found if one is not None)
