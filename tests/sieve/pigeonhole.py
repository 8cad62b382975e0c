"""Pigeonhole's `sieve-test`, which says what it would do with a message."""

from __future__ import annotations

import getpass
import grp
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

SIEVE_TEST = shutil.which("sieve-test")

_CONFIG = """\
base_dir = {folder}/run
log_path = /dev/stderr
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
mail_home = {folder}/home
mail_location = maildir:{folder}/home/Maildir
postmaster_address = postmaster@example.org
ssl = no
plugin {{
  sieve_extensions = +vacation-seconds +special-use
  sieve = file:{folder}/home/scripts;active={folder}/home/active
}}
"""
_STORE = re.compile(r" \* store message in folder: (.*)\n((?:        \+ .*\n)*)")
_FLAGS = re.compile(r"        \+ add IMAP flags: (.*)\n")


class Told(NamedTuple):
    """What `sieve-test` said. `stored` has mailboxes with their flags, in small letters."""

    refused: bool
    failed: bool
    stored: tuple[tuple[str, frozenset[str]], ...]
    redirected: tuple[str, ...]
    discarded: bool
    text: str


class Pigeonhole:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("run", "home", "home/scripts"):
            (folder / name).mkdir()
        user = "nobody" if os.geteuid() == 0 else getpass.getuser()
        group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
        self._config = folder / "dovecot.conf"
        self._config.write_text(_CONFIG.format(folder=folder, user=user, group=group))
        self._count = 0

    def run(
        self, script: str, message: bytes, sender: str = "anna@example.org", to: str = ""
    ) -> Told:
        assert SIEVE_TEST is not None
        self._count += 1
        source = self._folder / f"{self._count}.sieve"
        source.write_bytes(script.encode())
        mail = self._folder / f"{self._count}.eml"
        mail.write_bytes(message)
        to = to or "me+box@example.org"
        done = subprocess.run(
            [SIEVE_TEST, "-c", self._config, "-C", "-f", sender, "-a", to, "-r", to, source, mail],
            capture_output=True,
            cwd=self._folder / "run",
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder / "home"), "TZ": "UTC"},
            timeout=120,
        )
        out = done.stdout.decode("utf-8", "replace")
        errors = done.stderr.decode("utf-8", "replace")
        both = out + errors
        performed = out.partition("Implicit keep:")[0]
        implicit = out.partition("Implicit keep:")[2]
        stored = [_stored(found) for found in _STORE.finditer(performed)]
        stored += [_stored(found) for found in _STORE.finditer(implicit)]
        return Told(
            "failed to compile" in both,
            "final result: failed" in both or "execution of script" in both,
            tuple(stored),
            tuple(re.findall(r"\* redirect message to: <(.*)>", out)),
            "* discard" in out,
            both,
        )


def _stored(found: re.Match[str]) -> tuple[str, frozenset[str]]:
    flags = _FLAGS.search(found[2])
    return found[1], frozenset(flags[1].lower().split()) if flags else frozenset()


@contextmanager
def pigeonhole() -> Iterator[Pigeonhole]:
    """In a folder that others can read: `sieve-test` gives up the rights of root."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Pigeonhole(Path(name))
