"""Debian's Dovecot as an LMTP and IMAP server with sdbox mailboxes.

Dovecot's defaults are kept where they decide what a delivery costs: ``mail_fsync = optimized``
(message and index are synced before the reply), one LMTP process per connection, statistics on.
Changed: everything runs as one ordinary user, users are not looked up in a database, and there may
be as many processes as connections.

Every user is sent one message before anything is measured: Dovecot 2.3's LMTP process aborts
("Resource deadlock avoided") when several first deliveries to one user make its INBOX at once.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.lmtp_load import LoadPlan, run_load
from bench.runtime import (
    BenchError,
    CpuMeter,
    free_ports,
    require_program,
    session_cpu_s,
    stop_session,
)
from bench.stats import Cell, describe_machine, format_table, medians

START_S = 15.0

_CONFIG = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
protocols = {protocols}
listen = 127.0.0.1
ssl = no
hostname = mail.example.org
mail_location = sdbox:{folder}/mail/%u
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
default_process_limit = {process_limit}
default_client_limit = {client_limit}
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u allow_all_users=yes
}}
service lmtp {{
  user = {user}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
{imap}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""

_IMAP = """\
disable_plaintext_auth = no
mail_max_userip_connections = {connections_max}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
"""


class Dovecot:
    """A running Dovecot: ``with Dovecot(users=["user@example.org"]) as d: d.lmtp_address``.

    ``parent`` is the folder to put everything in (default: the system's temporary folder) and
    decides which disk is measured. Entering raises BenchError when Dovecot is not installed or
    does not come up; its log is then part of the text.
    """

    def __init__(
        self,
        users: Sequence[str],
        parent: Path | None = None,
        connections_max: int = 256,
        *,
        imap: bool = False,
    ) -> None:
        """With `imap` it serves that too, at `imap_address`; any password will do."""
        self._imap = imap
        self.users = tuple(users)
        self._parent = parent
        self._connections_max = connections_max

    def __enter__(self) -> Self:
        program = require_program("dovecot", "dovecot-lmtpd")
        if not Path("/usr/lib/dovecot/lmtp").exists():
            raise BenchError("Dovecot has no LMTP server: install Debian's package dovecot-lmtpd")
        if self._imap and not Path("/usr/lib/dovecot/imap").exists():
            raise BenchError("Dovecot has no IMAP server: install Debian's package dovecot-imapd")
        # Dovecot refuses to touch mail as root, so a root caller hands everything to nobody.
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
        folder = Path(tempfile.mkdtemp(prefix="bench-dovecot-", dir=self._parent))
        self._folder = folder
        port, self._imap_port = free_ports(2)
        self.lmtp_address = f"127.0.0.1:{port}"
        self.imap_address = f"127.0.0.1:{self._imap_port}"
        try:
            (folder / "mail").mkdir()
            (folder / "dovecot.conf").write_text(self._config(folder, account, port))
            if os.geteuid() == 0:
                for path in (folder, *folder.iterdir()):
                    os.chown(path, account.pw_uid, account.pw_gid)
            self._process = _start(program, folder / "dovecot.conf", account)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            self._wait_until_it_serves(port)
            _make_mailboxes(port, self.users)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def cpu_s(self) -> float:
        """CPU seconds that all of Dovecot's processes have used so far."""
        return session_cpu_s(self._process.pid)

    def log(self) -> str:
        """What Dovecot has logged so far."""
        try:
            return (self._folder / "dovecot.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def stored_messages(self) -> int:
        """Messages in all mailboxes, counted as the sdbox files they are, less the first ones."""
        return sum(1 for _ in (self._folder / "mail").rglob("u.*")) - len(self.users)

    def _config(self, folder: Path, account: pwd.struct_passwd, port: int) -> str:
        return _CONFIG.format(
            folder=folder,
            user=account.pw_name,
            group=grp.getgrgid(account.pw_gid).gr_name,
            uid=account.pw_uid,
            gid=account.pw_gid,
            port=port,
            protocols="lmtp imap" if self._imap else "lmtp",
            imap=_IMAP.format(connections_max=self._connections_max, port=self._imap_port)
            if self._imap
            else "",
            process_limit=self._connections_max + 16,
            client_limit=4 * self._connections_max + 1000,
        )

    def _wait_until_it_serves(self, port: int) -> None:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1.0) as probe:
                    if probe.recv(4) == b"220 ":
                        probe.sendall(b"QUIT\r\n")
                        return
            except OSError:
                time.sleep(0.05)
        raise BenchError(f"Dovecot did not come up within {START_S:.0f} s:\n{self.log()}")

    def _stop(self) -> None:
        stop_session(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


def _start(program: Path, config: Path, account: pwd.struct_passwd) -> subprocess.Popen[bytes]:
    command = [str(program), "-F", "-c", str(config)]
    quiet = subprocess.DEVNULL
    if os.geteuid() != 0:
        return subprocess.Popen(command, stdin=quiet, start_new_session=True)
    return subprocess.Popen(
        command,
        stdin=quiet,
        start_new_session=True,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
    )


def _make_mailboxes(port: int, users: Sequence[str]) -> None:
    with smtplib.LMTP("127.0.0.1", port, timeout=START_S) as client:
        for user in users:
            client.sendmail("sender@example.net", [user], b"Subject: first\r\n\r\nfirst\r\n")


def measure(
    users: int, connections: int, seconds: float, runs: int, parent: Path | None = None
) -> dict[str, Cell]:
    """Medians of ``runs`` runs, each on a fresh Dovecot, with its CPU per delivery beside them."""
    figures: list[dict[str, float]] = []
    names = [f"user{number}@example.org" for number in range(users)]
    for _ in range(runs):
        with Dovecot(names, parent) as dovecot:
            plan = LoadPlan(dovecot.lmtp_address, dovecot.users, connections, seconds)
            meter = CpuMeter(dovecot.cpu_s)
            result = run_load(plan)
            cpu = meter.read()
            stored = dovecot.stored_messages()
            if stored != result.accepted_total:
                raise BenchError(f"{result.accepted_total} accepted, {stored} stored")
            server_cpu_us = cpu.server_s / result.accepted_total * 1e6
            figures.append(
                {
                    **result.figures(),
                    "server_cpu_us": server_cpu_us,
                    "other_cores": cpu.other_cores,
                }
            )
    rates = [run["per_s"] for run in figures]
    return {
        "users": users,
        "connections": connections,
        **medians(figures),
        "lowest_per_s": min(rates),
        "highest_per_s": max(rates),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print Dovecot's figures for 1 and 32 connections, 1 and 100 users."""
    parser = argparse.ArgumentParser(prog="bench.peers.dovecot", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args(arguments)
    try:
        rows = [
            measure(users, connections, given.seconds, given.runs)
            for users in (100, 1)
            for connections in (1, 32)
        ]
    except BenchError as error:
        print(f"dovecot: {error}", file=sys.stderr)
        return 1
    print(describe_machine(Path(tempfile.gettempdir())).line())
    print(format_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
