"""Debian's Postfix delivers over LMTP, while the master is killed: each message arrives once."""

from __future__ import annotations

import os
import pwd
import smtplib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.frontends.imap.imap_kit import message
from tests.node.cluster import free_ports, wait_for
from tests.peers.mail_cluster import USER, MailCluster, subjects
from tests.peers.program import need, program_folder

pytestmark = pytest.mark.long

_MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.net
mydestination =
mynetworks = 127.0.0.0/8
local_transport = error:there are no local users
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_maps = static:all
virtual_transport = lmtp:inet:{lmtp}
smtpd_recipient_restrictions = permit_mynetworks, reject
minimal_backoff_time = 2s
maximal_backoff_time = 4s
queue_run_delay = 2s
transport_retry_time = 2s
lmtp_connection_cache_on_demand = yes
"""

_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@contextmanager
def postfix(lmtp: str) -> Iterator[int]:
    """A Postfix of its own that delivers to an address; its SMTP port."""
    program = need("postfix", "postfix")
    if os.geteuid() != 0:
        pytest.skip("Postfix's master starts only as root")
    (port,) = free_ports(1)
    with program_folder() as place:
        place.folder.chmod(0o755)
        os.chown(place.folder, 0, 0)
        config = place.folder / "etc"
        for name in ("etc", "queue", "data"):
            (place.folder / name).mkdir()
        os.chown(place.folder / "data", pwd.getpwnam("postfix").pw_uid, -1)
        (config / "main.cf").write_text(_MAIN.format(folder=place.folder, lmtp=lmtp))
        (config / "master.cf").write_text(_MASTER.format(port=port))
        log = place.folder / "log"
        with (place.folder / "out").open("wb") as out:
            process = subprocess.Popen(
                [program, "-c", str(config), "start-fg"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            wait_for("Postfix", lambda: _answers(port) or process.poll() is not None)
            assert process.poll() is None, (place.folder / "out").read_text()
            yield port
        finally:
            subprocess.run(
                [program, "-c", str(config), "stop"], capture_output=True, timeout=60, check=False
            )
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if log.exists():
                print(log.read_text(errors="replace")[-4000:])


def _answers(port: int) -> bool:
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            return client.noop()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def test_each_message_arrives_once_while_the_master_is_killed(tmp_path: Path) -> None:
    need("postfix", "postfix")
    count = 60
    with MailCluster(tmp_path / "c") as cluster:
        cluster.add_users()
        master = cluster.master(1)
        door = next(name for name in cluster.folders if name != master)
        with postfix(cluster.lmtp[door]) as port:
            for number in range(count):
                with smtplib.SMTP("127.0.0.1", port, timeout=60) as client:
                    client.sendmail("bob@example.net", [USER], message(f"number {number}"))
                if number == count // 3:
                    cluster.kill(master)
                if number == 2 * count // 3:
                    cluster.start(master)
            expected = {f"number {number}": 1 for number in range(count)}
            wait_for("all mail", lambda: len(cluster.messages()) >= count, timeout_s=120)
            time.sleep(3)  # what is tried again would come now
            assert subjects(cluster.messages()) == expected
