"""Programs of Debian that fetch mail over POP3, from three real nodes whose master is killed."""

from __future__ import annotations

import poplib
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.frontends.imap.imap_kit import message
from tests.node.cluster import wait_for
from tests.peers.door import door
from tests.peers.mail_cluster import PASSWORD, MailCluster, subjects
from tests.peers.program import ProgramFolder, need, program_folder

pytestmark = pytest.mark.long

HOST: Final = "localhost"
COUNT: Final = 20
HELD_AT: Final = 8
"""So many messages have been delivered when the program is held."""

ALL: Final = Counter(f"number {number}" for number in range(COUNT)) + Counter(["late"])

_NUMBERS: Final = count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailCluster]:
    with MailCluster(tmp_path_factory.mktemp("pop3") / "c", host=HOST) as cluster:
        cluster.master(1)
        yield cluster


@pytest.fixture
def user(cluster: MailCluster) -> str:
    """One for each test."""
    name = f"reader{next(_NUMBERS)}@example.org"
    cluster.add_users(name)
    return name


@pytest.fixture
def place() -> Iterator[ProgramFolder]:
    with program_folder() as folder:
        yield folder


class Delivery:
    """Where a fetching program delivers. It is held once, when `HELD_AT` messages are there, until
    the test lets it go on."""

    def __init__(self, place: ProgramFolder) -> None:
        self._got = place.make("got")
        self._held, self._go = place.folder / "held", place.folder / "go"
        self.script = place.write(
            "deliver.sh",
            f"#!/bin/sh\nfile=$(mktemp {self._got}/XXXXXXXX)\ncat >$file\n"
            f"[ $(ls {self._got} | wc -l) -eq {HELD_AT} ] || exit 0\n"
            f"touch {self._held}\nleft=600\n"
            f"while [ ! -e {self._go} ] && [ $left -gt 0 ]; do sleep 0.1; left=$((left-1)); done\n",
            0o700,
        )

    @property
    def subjects(self) -> Counter[str]:
        return subjects(path.read_bytes() for path in self._got.iterdir())

    @property
    def held(self) -> bool:
        return self._held.exists()

    def go_on(self) -> None:
        self._go.touch()


@dataclass(frozen=True)
class Fetch:
    """What a program is told. `protocol` is `pop3`, then with STLS, or `pop3s`."""

    user: str
    port: int
    protocol: str
    trusted: Path
    script: Path
    keep: bool


def fetchmail(place: ProgramFolder, fetch: Fetch) -> list[str]:
    program = need("fetchmail", "fetchmail")
    secure = "ssl" if fetch.protocol == "pop3s" else 'sslproto "TLS1.2+"'
    place.write(
        "fetchmailrc",
        f"poll {HOST} port {fetch.port} protocol pop3 {'uidl' if fetch.keep else ''}\n"
        f'  user "{fetch.user}" password "{PASSWORD}" {secure} sslcertck\n'
        f'  sslcertfile "{fetch.trusted}" {"keep" if fetch.keep else "nokeep fetchall"}\n'
        f'  mda "{fetch.script}"\n',
    )
    command = [program, "-v", "--nodetach", "-f", "fetchmailrc"]
    return [*command, "--pidfile", f"{place.folder}/pid", "-i", f"{place.folder}/ids"]


def getmail(place: ProgramFolder, fetch: Fetch) -> list[str]:
    program = need("getmail", "getmail6")
    kind = "SimplePOP3SSLRetriever" if fetch.protocol == "pop3s" else "SimplePOP3Retriever"
    secure = f"ca_certs = {fetch.trusted}\n" if fetch.protocol == "pop3s" else ""
    place.write(
        "getmailrc",
        f"[retriever]\ntype = {kind}\nserver = {HOST}\nport = {fetch.port}\n{secure}"
        f"username = {fetch.user}\npassword = {PASSWORD}\ntimeout = 60\n"
        f"[destination]\ntype = MDA_external\npath = {fetch.script}\n"
        f"[options]\nread_all = false\ndelete = {not fetch.keep}\nverbose = 2\n",
    )
    return [program, f"--getmaildir={place.folder}", "--rcfile=getmailrc"]


@pytest.mark.parametrize(
    ("program", "keep", "dies"),
    [
        (fetchmail, True, "its own node"),
        (fetchmail, False, "its own node"),
        (fetchmail, False, "another node"),
        (getmail, True, "another node"),
        (getmail, False, "its own node"),
    ],
)
def test_nothing_is_lost_while_the_master_is_killed(
    cluster: MailCluster,
    place: ProgramFolder,
    user: str,
    program: Callable[[ProgramFolder, Fetch], list[str]],
    keep: bool,
    dies: str,
) -> None:
    cluster.fill([message(f"number {number}") for number in range(COUNT)], user=user)
    master = cluster.master(1)
    others = [name for name in cluster.folders if name != master]
    nodes = [master, *others] if dies == "its own node" else others
    protocol = "pop3s" if keep else "pop3"
    delivery = Delivery(place)
    trusted = place.write("ca.pem", cluster.trusted.read_bytes())
    ports = [cluster.port(name, protocol) for name in nodes]
    with door(ports) as way, ThreadPoolExecutor(1) as threads:
        fetch = Fetch(user, way.port, protocol, trusted, delivery.script, keep)
        command = program(place, fetch)
        running = threads.submit(place.run, *command)
        try:
            wait_for("the first messages", lambda: delivery.held or running.done())
            assert delivery.held, running.result()
            cluster.fill([message("late")], user=user)
            cluster.kill(master)
        finally:
            delivery.go_on()
        first = running.result()
        broken = delivery.subjects
        cluster.master(1)
        left = subjects(cluster.messages(user=user))
        second, third = place.run(*command), place.run(*command)
        cluster.start_again(master)
    print(*(f"{one.stdout!r}\n{one.stderr!r}" for one in (first, second, third)), sep="\n")
    survived = dies == "another node"
    assert (first.returncode == 0) is survived
    # What QUIT did not say is not deleted, and neither is what came after the log-in.
    assert left == (ALL - broken if survived and not keep else ALL)
    # What is still there is fetched again by a program that has not noted what it got: getmail
    # notes that when all has gone well, and fetchmail when it leaves mail on the server.
    forgets = not survived and (program is getmail or not keep)
    assert delivery.subjects == (ALL + broken if forgets else ALL)
    assert subjects(cluster.messages(user=user)) == (Counter() if not keep else ALL)


def test_curl_lists_fetches_and_deletes(
    cluster: MailCluster, place: ProgramFolder, user: str
) -> None:
    curl = need("curl", "curl")
    messages = [message(word, f"{word}\r\n.\r\n..end") for word in ("one", "two", "three")]
    cluster.fill(messages, user=user)
    trusted = place.write("ca.pem", cluster.trusted.read_bytes())
    name, other, _ = cluster.folders
    login = ["-sS", "--max-time", "60", "--cacert", str(trusted), "-u", f"{user}:{PASSWORD}"]
    clear = [*login, "--ssl-reqd", f"pop3://{HOST}:{cluster.port(name, 'pop3')}/"]
    secure = [*login, f"pop3s://{HOST}:{cluster.port(other, 'pop3s')}/"]
    listed = [f"{number} {len(one)}".encode() for number, one in enumerate(messages, 1)]
    for url in (clear, secure):
        assert place.ok(curl, *url).splitlines() == listed
        assert place.ok(curl, *url[:-1], f"{url[-1]}2") == messages[1]
        assert (
            place.ok(curl, "-X", "TOP 3 0", *url) == messages[2].split(b"\r\n\r\n")[0] + b"\r\n" * 2
        )
    unique = place.ok(curl, "-X", "UIDL", *clear)
    assert len(set(unique.split()[1::2])) == 3
    assert place.ok(curl, "-X", "UIDL", *secure) == unique
    place.ok(curl, "--head", "-X", "DELE 2", *clear)
    assert place.ok(curl, "-X", "UIDL", *secure).split()[1::2] == unique.split()[1::4]


def test_poplib_reads_on_while_the_master_is_killed(cluster: MailCluster, user: str) -> None:
    messages = [message(f"number {number}", ".\r\n..x") for number in range(5)]
    cluster.fill(messages, user=user)
    master = cluster.master(1)
    name = next(name for name in cluster.folders if name != master)
    context = ssl.create_default_context(cafile=str(cluster.trusted))
    begun = poplib.POP3(HOST, cluster.port(name, "pop3"), timeout=60)
    begun.stls(context)
    whole = poplib.POP3_SSL(HOST, cluster.port(name, "pop3s"), timeout=60, context=context)
    lost = poplib.POP3_SSL(HOST, cluster.port(master, "pop3s"), timeout=60, context=context)
    for box in (begun, whole, lost):
        box.user(user)
        box.pass_(PASSWORD)
        assert box.stat() == (5, sum(map(len, messages)))
    assert begun.uidl()[1] == whole.uidl()[1] == lost.uidl()[1]
    for number in (1, 2):
        assert joined(begun.retr(number)[1]) == messages[number - 1]
        begun.dele(number)
        lost.dele(number + 2)
    cluster.kill(master)
    with pytest.raises((OSError, poplib.error_proto)):
        lost.quit()
    assert [joined(whole.retr(number)[1]) for number in range(1, 6)] == messages
    assert joined(whole.top(5, 0)[1]) == messages[4].split(b"\r\n\r\n")[0] + b"\r\n" * 2
    assert begun.quit().startswith(b"+OK")
    # The other session's numbers stay, and what is gone is said to be gone.
    with pytest.raises(poplib.error_proto, match="gone"):
        whole.retr(1)
    assert joined(whole.retr(3)[1]) == messages[2]
    whole.quit()
    lost.close()
    assert cluster.messages(user=user) == messages[2:]
    cluster.start_again(master)


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)
