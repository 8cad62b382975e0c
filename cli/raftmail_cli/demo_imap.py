"""The end of the demonstration: mail is read over IMAP, as a mail program reads it."""

from __future__ import annotations

import imaplib
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from raftmail.mail.endpoint import split_address
from raftmail_cli.errors import CliError

BATCH = 25
"""Messages of one FETCH."""

_ANSWER_S = 60.0
_PATIENCE_S = 60.0
_AGAIN_S = 0.1


def mail_over_imap(
    address: str, ca: Path, user: str, password: str, inbox: str = "INBOX"
) -> Iterator[bytes]:
    """All messages of a mailbox, from a node's port that begins with TLS. What the node cannot do
    for want of a master it is asked again. Raises `CliError`."""
    host, port = split_address(address)
    trust = ssl.create_default_context(cafile=str(ca))
    try:
        with imaplib.IMAP4_SSL(host, port, ssl_context=trust, timeout=_ANSWER_S) as box:
            _surely(lambda: _log_in(box, user, password))
            count = int(_surely(lambda: box.select(inbox, readonly=True))[0])
            for first in range(1, count + 1, BATCH):
                last = min(first + BATCH - 1, count)
                found = _surely(partial(box.fetch, f"{first}:{last}", "(BODY.PEEK[])"))
                yield from (part[1] for part in found if isinstance(part, tuple))
    except (imaplib.IMAP4.error, OSError) as error:
        raise CliError(
            f"mail of {user} could not be read over IMAP at {address}: {error}"
        ) from None


def _log_in(box: imaplib.IMAP4, user: str, password: str) -> tuple[str, list[Any]]:
    """LOGIN. `imaplib` raises for a NO; one that the cluster cannot judge now is no error."""
    try:
        return box.login(user, password)
    except imaplib.IMAP4.error as error:
        if "[UNAVAILABLE]" not in str(error):
            raise
        return "NO", [error]


def _surely(ask: Callable[[], tuple[str, list[Any]]]) -> list[Any]:
    """What a command gives once it is answered OK."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while True:
        status, found = ask()
        if status == "OK":
            return found
        if time.monotonic() > deadline_s:
            raise imaplib.IMAP4.error(f"answered {status} {found}")
        time.sleep(_AGAIN_S)
