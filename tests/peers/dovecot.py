"""Debian's Dovecot, to compare with: its IMAP process alone, talked to over a socket. It is logged
in from the start, and its mailboxes are in a folder of the test."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.peers.imap_talk import ImapTalk

PROGRAM: Final = Path("/usr/lib/dovecot/imap")
_END_S = 30.0

_CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = imap
ssl = no
hostname = mail.example.org
mail_location = {format}:{folder}/mail
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
mail_fsync = never
mail_save_crlf = yes
mail_max_keyword_length = 200
imap_max_line_length = 1 M
namespace inbox {{
  inbox = yes
  separator = /
}}
"""


def need_dovecot() -> None:
    """Skip a test where Dovecot is not installed."""
    if not PROGRAM.exists():
        pytest.skip(f"there is no {PROGRAM}: install Debian's package dovecot-imapd")


@dataclass(frozen=True)
class OpenDovecot:
    """A Dovecot of a test. Called, it opens a session, perhaps with other words behind its
    configuration."""

    session: Callable[..., ImapTalk]
    folder: Path
    user: str

    def __call__(self, *more: str) -> ImapTalk:
        return self.session(*more)


@contextmanager
def dovecot(format: str = "sdbox", more: str = "") -> Iterator[OpenDovecot]:
    """Opens sessions with a Dovecot of its own, whose mailboxes are empty at first. `more` is put
    behind its configuration."""
    need_dovecot()
    root = os.geteuid() == 0
    # Dovecot refuses to touch mail as root, so root hands everything to nobody.
    account = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.getuid())
    folder = Path(tempfile.mkdtemp(prefix="peer-dovecot-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for part in ("run", "state", "mail"):
            (folder / part).mkdir()
        if root:
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)

        def open_(more: str = more) -> ImapTalk:
            config = folder / "dovecot.conf"
            config.write_text(
                (_CONFIG + more).format(
                    folder=folder,
                    user=account.pw_name,
                    group=grp.getgrgid(account.pw_gid).gr_name,
                    format=format,
                )
            )
            return stack.enter_context(_session(config, account))

        yield OpenDovecot(open_, folder, account.pw_name)


@contextmanager
def _session(config: Path, account: pwd.struct_passwd) -> Iterator[ImapTalk]:
    root = os.geteuid() == 0
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [str(PROGRAM), "-c", str(config)],
        stdin=theirs.fileno(),
        stdout=theirs.fileno(),
        stderr=subprocess.DEVNULL,
        cwd=config.parent,
        user=account.pw_uid if root else None,
        group=account.pw_gid if root else None,
        extra_groups=() if root else None,
        env={
            **{k: v for k, v in os.environ.items() if k.startswith("RAFTMAIL")},
            "PATH": os.environ["PATH"],
            "HOME": str(config.parent),
            "USER": account.pw_name,
            "TZ": "UTC",
        },
    )
    theirs.close()
    try:
        with ImapTalk(ours) as talk:
            assert talk.greeting.startswith(b"* PREAUTH"), talk.greeting
            yield talk
    finally:
        ours.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
