"""Programs of Debian that fetch mail, from three real nodes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.frontends.imap.imap_kit import message
from tests.node.cluster import wait_for
from tests.peers.mail_cluster import PASSWORD, MailCluster
from tests.peers.program import ProgramFolder, need, program_folder
from tests.peers.smtp_sink import smtp_sink

pytestmark = pytest.mark.long

WORDS = ("one", "two", "three")
MESSAGES = [message(word) for word in WORDS]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailCluster]:
    with MailCluster(tmp_path_factory.mktemp("fetching") / "c") as cluster:
        names = ("curl", "fetchmail", "getmail", "offline", "mutt", "sender")
        cluster.add_users(*(f"{name}@example.org" for name in names))
        yield cluster


@pytest.fixture
def place() -> Iterator[ProgramFolder]:
    with program_folder() as folder:
        yield folder


def has_all(texts: list[bytes]) -> bool:
    return len(texts) == len(WORDS) and all(
        any(f"Subject: {word}".encode() in text for text in texts) for word in WORDS
    )


def test_curl_lists_fetches_searches_and_saves(cluster: MailCluster, place: ProgramFolder) -> None:
    curl = need("curl", "curl")
    user = "curl@example.org"
    cluster.fill(MESSAGES, user=user)
    one, two, _ = cluster.imap.values()
    login = ["-sS", "--max-time", "60", "-u", f"{user}:{PASSWORD}"]
    assert b"INBOX" in place.ok(curl, *login, f"imap://127.0.0.1:{one}/")
    assert place.ok(curl, *login, f"imap://127.0.0.1:{two}/INBOX;UID=2") == MESSAGES[1]
    header = place.ok(curl, *login, f"imap://127.0.0.1:{two}/INBOX;UID=2;SECTION=HEADER")
    assert b"Subject: two\r\n" in header and b"hello" not in header
    found = place.ok(curl, *login, f"imap://127.0.0.1:{one}/INBOX?{quote('SUBJECT two')}")
    assert found.split()[-1] == b"2"
    path = place.write("four.eml", message("four"))
    place.ok(curl, *login, "-T", str(path), f"imap://127.0.0.1:{two}/INBOX")
    assert len(cluster.messages(user=user)) == 4
    # The nodes' certificates are of an authority of their own, and made for their names.
    place.write("ca.pem", cluster.made.ca.read_bytes())
    told = place.ok(curl, *login, "--ssl-reqd", "--insecure", f"imap://127.0.0.1:{one}/INBOX;UID=4")
    assert told == message("four")


def test_fetchmail_takes_all_mail_and_empties_the_mailbox(
    cluster: MailCluster, place: ProgramFolder
) -> None:
    fetchmail = need("fetchmail", "fetchmail")
    user = "fetchmail@example.org"
    cluster.fill(MESSAGES, user=user)
    got = place.make("got")
    script = place.write("take.sh", f"#!/bin/sh\ncat > {got}/$$.eml\n", 0o700)
    rc = place.write(
        "fetchmailrc",
        f"poll 127.0.0.1 service {next(iter(cluster.imap.values()))} protocol IMAP\n"
        f'  user "{user}" password "{PASSWORD}" sslproto "" fetchall nokeep\n'
        f'  mda "{script}"\n',
    )
    command = [fetchmail, "-f", str(rc), "--pidfile", str(place.folder / "pid"), "--nodetach"]
    place.ok(*command, "-i", str(place.folder / "ids"), "-v")
    assert has_all([path.read_bytes() for path in got.iterdir()])
    assert not cluster.messages(user=user)
    place.ok(*command, allowed=(1,))  # there is no mail


def test_getmail_takes_all_mail_and_empties_the_mailbox(
    cluster: MailCluster, place: ProgramFolder
) -> None:
    getmail = need("getmail", "getmail6")
    user = "getmail@example.org"
    cluster.fill(MESSAGES, user=user)
    got = place.make("got")
    for part in ("cur", "new", "tmp"):
        place.make("got", part)
    place.write(
        "getmailrc",
        f"[retriever]\ntype = SimpleIMAPRetriever\nserver = 127.0.0.1\n"
        f"port = {next(iter(cluster.imap.values()))}\nusername = {user}\npassword = {PASSWORD}\n"
        f'mailboxes = ("INBOX",)\n[destination]\ntype = Maildir\npath = {got}/\n'
        "[options]\nread_all = true\ndelete = true\nverbose = 1\n",
    )
    place.ok(getmail, f"--getmaildir={place.folder}", "--rcfile=getmailrc")
    assert has_all([path.read_bytes() for path in (got / "new").iterdir()])
    assert not cluster.messages(user=user)


def test_offlineimap_copies_both_ways(cluster: MailCluster, place: ProgramFolder) -> None:
    offlineimap = need("offlineimap", "offlineimap3")
    user = "offline@example.org"
    cluster.fill(MESSAGES, user=user)
    mail = place.make("mail")
    rc = place.write(
        "offlineimaprc",
        f"[general]\naccounts = a\nmetadata = {place.folder}/meta\nsocktimeout = 60\n"
        "[Account a]\nlocalrepository = l\nremoterepository = r\n"
        f"[Repository l]\ntype = Maildir\nlocalfolders = {mail}\n"
        f"[Repository r]\ntype = IMAP\nremotehost = 127.0.0.1\n"
        f"remoteport = {next(iter(cluster.imap.values()))}\nremoteuser = {user}\n"
        f"remotepass = {PASSWORD}\nssl = no\nstarttls = no\nauth_mechanisms = LOGIN\n",
    )
    command = [offlineimap, "-c", str(rc), "-o", "-u", "basic"]
    place.ok(*command)
    files = [one for part in ("cur", "new") for one in (mail / "INBOX" / part).iterdir()]
    assert has_all([path.read_bytes() for path in files])
    place.write("mail/INBOX/new/1.here", message("four").replace(b"\r\n", b"\n"))
    (two,) = (path for path in files if b"Subject: two" in path.read_bytes())
    two.unlink()
    place.ok(*command)
    left = b"".join(cluster.messages(user=user))
    assert b"Subject: four" in left and b"Subject: two" not in left
    assert left.count(b"Subject: ") == 3


def test_neomutt_flags_saves_elsewhere_and_removes(
    cluster: MailCluster, place: ProgramFolder
) -> None:
    neomutt = need("neomutt", "neomutt")
    user = "mutt@example.org"
    name = next(iter(cluster.imap))
    cluster.fill(MESSAGES, user=user)
    with cluster.box(name, user=user) as box:
        box.create("Kept")
    url = f"imap://127.0.0.1:{cluster.imap[name]}/"
    place.write(
        "muttrc",
        f'set imap_user="{user}"\nset imap_pass="{PASSWORD}"\nset ssl_starttls=no\n'
        f'set ssl_force_tls=no\nset folder="{url}"\nset spoolfile="+INBOX"\nset record=""\n'
        "set quit=yes\nset delete=yes\nset move=no\nset confirmappend=no\nset confirmcreate=no\n"
        'set wait_key=no\nset resolve=no\nset sort=mailbox-order\nset sendmail="/bin/true"\n'
        f'set header_cache=""\nset use_envelope_from=no\nset from="{user}"\n',
    )
    keys = (
        "<first-entry><flag-message><next-entry><save-message>=Kept<enter>"
        "<last-entry><delete-message><sync-mailbox><quit>"
    )
    place.on_terminal(neomutt, "-n", "-F", "muttrc", "-e", f'push "{keys}"')
    with cluster.box(name, user=user) as box:
        assert box.select("INBOX") == ("OK", [b"1"])
        assert box.search(None, "FLAGGED", "SUBJECT", "one")[1] == [b"1"]
    assert cluster.messages("Kept", user) == [MESSAGES[1]]


def test_neomutt_keeps_a_copy_in_sent_although_the_master_is_killed(
    cluster: MailCluster, place: ProgramFolder
) -> None:
    """The message has gone out, and its copy is not saved yet, when the master dies."""
    neomutt = need("neomutt", "neomutt")
    user = "sender@example.org"
    master = cluster.master(1)
    name = next(name for name in cluster.folders if name != master)
    editor = place.write("editor.sh", '#!/bin/sh\necho sent by neomutt >"$1"\n', 0o700)
    with cluster.box(name, user=user) as box:
        box.create("Sent")
    with smtp_sink(hold_at=1) as sink, ThreadPoolExecutor(1) as threads:
        place.write(
            "muttrc",
            f'set imap_user="{user}"\nset imap_pass="{PASSWORD}"\nset ssl_starttls=no\n'
            f'set ssl_force_tls=no\nset folder="imap://127.0.0.1:{cluster.imap[name]}/"\n'
            'set spoolfile="+INBOX"\nset record="+Sent"\nset copy=yes\nset confirmcreate=no\n'
            f'set smtp_url="smtp://127.0.0.1:{sink.port}/"\nset from="{user}"\n'
            f'set editor="{editor}"\nset quit=yes\nset wait_key=no\nset header_cache=""\n'
            "set use_envelope_from=no\n",
        )
        keys = "<mail>bob@example.net<enter>one<enter><send-message><quit>"
        command = [neomutt, "-n", "-F", "muttrc", "-e", f'push "{keys}"']
        sending = threads.submit(place.on_terminal, *command)
        wait_for("the message", lambda: sink.held.is_set() or sending.done())
        cluster.kill(master)
        sink.go.set()
        sending.result()
    (sent,) = sink.messages
    (copy,) = cluster.messages("Sent", user)
    for one in (sent, copy):
        assert b"Subject: one\r\n" in one and b"\r\n\r\nsent by neomutt\r\n" in one
    with cluster.box(name, user=user) as box:
        box.select("Sent", readonly=True)
        assert box.search(None, "SEEN")[1] == [b"1"]
    cluster.start_again(master)


def test_the_programs_are_asked_for_by_name_and_package() -> None:
    """The list that .ci/run installs has every package that a test here may ask for."""
    packages = (Path(__file__).parents[2] / ".ci" / "run").read_text(encoding="utf-8")
    asked = ("isync", "offlineimap3", "fetchmail", "getmail6", "curl", "neomutt", "postfix")
    for package in (*asked, "thunderbird"):
        assert package in packages
