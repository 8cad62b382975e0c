"""`raftmail log show` and `raftmail fsck` on folders that were written without a node."""

from __future__ import annotations

import fcntl
import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftmail.consensus.engine import NO_OP, REGULAR
from raftmail.consensus.journal import Identity, Journal
from raftmail.mail import commands as c
from raftmail.mail.codec import encode_entry, encode_request
from raftmail.mail.uidset import UidSet
from raftmail.node.folder import FORMAT
from raftmail.storage.blobs import BlobLimits, BlobStore
from raftmail.storage.disk import RealDisk
from raftmail.storage.index import TABLES, Index, IndexIdentity
from raftmail.storage.kv import LmdbEngine
from raftmail_cli.local_commands import in_words, request_values
from raftmail_cli.main import main

CLUSTER = "cd" * 16
CLIENT = b"0123456789abcdef"
BODY = b"Subject: x\r\n\r\n" + b"body " * 2000
DIGEST = hashlib.sha256(BODY).digest()
SAVE = c.Save(
    "anna", (c.NewMessage((c.Target("anna", "INBOX"),), DIGEST, len(BODY), b"g" * 16, 0),), 1000
)
USER = c.PutUser("anna@x.org", "scrypt$secret-hash")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data of a node with one shard: three entries, of which none is applied, and a body."""
    identity = {"format": FORMAT, "cluster": CLUSTER, "node": "n1"}
    (tmp_path / "node.json").write_text(json.dumps(identity))
    disk = RealDisk(tmp_path / "shards" / "1")
    journal = Journal.open(disk, "journal", Identity(bytes.fromhex(CLUSTER), 1, 1), create=True)
    first = encode_request(CLIENT, 1, 0, USER)
    second = encode_request(CLIENT, 2, 1, SAVE)
    journal.add(NO_OP, 1, 1)
    journal.add(REGULAR + encode_entry([first], []), 2, 1)
    journal.add(REGULAR + encode_entry([second], [DIGEST]), 3, 2)
    journal.close()
    engine = LmdbEngine(disk.root / "index", TABLES, map_bytes=1 << 24)
    index = Index(engine, IndexIdentity(CLUSTER, 1, "1"))
    blobs = BlobStore.open(disk, "blobs", index, BlobLimits())
    blobs.append(DIGEST, BODY)
    job = blobs.begin_sync()
    assert job is not None
    job.run()
    blobs.end_sync(job)
    blobs.place_pending()
    index.commit()
    blobs.close()
    index.close()
    return tmp_path


def segment(data: Path, part: str) -> Path:
    (found,) = (data / "shards" / "1" / part).iterdir()
    return found


def damage(path: Path, old: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(old)] ^= 1
    path.write_bytes(content)


def test_a_log_is_shown_in_words(data: Path) -> None:
    result = run("log", "show", str(data))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "       1  term 1    entry  a new master begins its term",
        "       2  term 1    entry  1 request, 60 B",
        "          30313233 #1: add user anna@x.org",
        "       3  term 2    entry  1 request, 144 B",
        f"          30313233 #2: save anna INBOX 10.0 kB sha256 {DIGEST.hex()[:12]}",
    ]


def test_a_log_is_shown_between_two_indices(data: Path) -> None:
    shown = run("log", "show", str(data), "--from", "2", "--to", "2").stdout
    assert "add user" in shown and "save" not in shown and "master" not in shown


def test_a_log_as_json_is_an_array_without_password_hashes(data: Path) -> None:
    result = run("log", "show", str(data), "-o", "json")
    records = json.loads(result.stdout)
    assert [record["index"] for record in records] == [1, 2, 3]
    assert records[1]["requests"][0]["fields"]["address"] == "anna@x.org"
    assert "secret-hash" not in result.stdout
    assert records[2]["requests"][0]["fields"]["messages"][0]["blob"] == DIGEST.hex()


def test_what_is_kept_of_an_app_password_is_never_shown() -> None:
    put = c.PutAppPassword("anna@x.org", "phone", 1, "secret-hash")
    assert "secret-hash" not in in_words(put)
    entry = encode_entry([encode_request(CLIENT, 1, 0, put)], [])
    (shown,) = request_values(entry)
    assert shown["fields"]["name"] == "phone" and "secret-hash" not in str(shown)


def test_the_journals_own_records_are_shown_when_asked(data: Path) -> None:
    assert "closed in order" in run("log", "show", str(data), "--all").stdout


def test_a_log_that_is_not_there_is_told(data: Path, tmp_path: Path) -> None:
    result = run("log", "show", str(data), "--shard", "5")
    assert result.exit_code == 1
    assert "no replica of shard 5; it has 1" in result.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no replicas" in run("log", "show", str(empty)).stderr
    assert run("log", "show").exit_code == 2


def test_fsck_finds_nothing_at_a_node_that_was_given_no_replica_and_misses_those_that_it_had(
    tmp_path: Path,
) -> None:
    replicas = {"format": 1, "replicas": {}, "crc32": 2745614147}
    (tmp_path / "replicas.json").write_text(json.dumps(replicas))
    result = run("fsck", str(tmp_path))
    assert result.exit_code == 0 and "has no replica" in result.stdout
    assert json.loads(run("fsck", str(tmp_path), "-o", "json").stdout) == []
    assert "holds no replicas" in run("log", "show", str(tmp_path)).stderr
    (tmp_path / "replicas.json").write_text(json.dumps(replicas | {"replicas": {"1": 3}}))
    result = run("fsck", str(tmp_path))
    assert result.exit_code == 1 and "shards/ is missing" in result.stderr


def test_a_damaged_log_is_shown_up_to_the_damage(data: Path) -> None:
    damage(segment(data, "journal"), DIGEST)
    result = run("log", "show", str(data))
    assert result.exit_code == 1
    assert "add user anna@x.org" in result.stdout
    assert result.stderr.startswith("raftmail: ")


def test_fsck_finds_nothing_in_a_good_folder(data: Path) -> None:
    result = run("fsck", str(data))
    assert result.exit_code == 0, result.output
    assert "good" in result.stdout
    (shard,) = json.loads(run("fsck", str(data), "-o", "json").stdout)
    assert (shard["entries"], shard["bodies"], shard["problems"]) == (3, 1, [])


def test_fsck_finds_a_damaged_body_that_the_log_names(data: Path) -> None:
    path = segment(data, "blobs")
    content = bytearray(path.read_bytes())
    at = content.index(DIGEST) + 60
    content[at] ^= 1
    path.write_bytes(content)
    result = run("fsck", str(data))
    assert result.exit_code == 1
    assert f"the body {DIGEST.hex()} is damaged" in result.stdout
    assert f"entry 3 has the body {DIGEST.hex()}, which is missing" in result.stdout


def test_fsck_finds_a_damaged_journal(data: Path) -> None:
    damage(segment(data, "journal"), DIGEST)
    result = run("fsck", str(data))
    assert result.exit_code == 1
    assert "shard 1, journal: " in result.stdout


def test_fsck_finds_a_journal_that_is_missing_or_of_another_shard(data: Path) -> None:
    (data / "shards" / "1").rename(data / "shards" / "2")
    assert "not of shard 2 here" in run("fsck", str(data)).stdout
    for path in (data / "shards" / "2" / "journal").iterdir():
        path.unlink()
    result = run("fsck", str(data))
    assert result.exit_code == 1
    assert "journal: it is missing" in result.stdout


def test_fsck_leaves_a_running_node_alone(data: Path) -> None:
    with open(data / "lock", "wb") as lock:
        lock.write(b"4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("fsck", str(data))
    assert result.exit_code == 1
    assert "its node is running (pid 4711); stop it first" in result.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            c.Store("a", 3, UidSet.parse("1:4"), c.StoreMode.REMOVE, ("\\Seen",)),
            "store a mailbox 3 1:4 -\\Seen",
        ),
        (
            c.Store("a", "B", UidSet.parse("1"), c.StoreMode.REPLACE, ()),
            "store a B 1 =(none)",
        ),
        (
            c.Copy("a", "B", UidSet.parse("1"), c.Target("a", 9), 1, move=True),
            "move a B 1 to mailbox 9",
        ),
        (c.Expunge("a", "B", UidSet.parse("1:*"), True), "expunge a B 1:* marked \\Deleted"),
        (c.CreateMailbox("a", "B", 1, b""), "create a B"),
        (c.DeleteMailbox("a", "B"), "delete a B"),
        (c.RenameMailbox("a", "B", "C", 1, b""), "rename a B to C"),
        (c.Subscribe("a", "B", False), "unsubscribe a B"),
        (
            c.SetAnnotations("a", "B", (("/private/x", b"y"), ("/private/z", None))),
            "annotate a B /private/x, -/private/z",
        ),
        (
            c.MakeFirstMailboxes("a", (("Sent", "\\Sent"), ("Junk", "\\Junk")), 1, b""),
            "make the first mailboxes of a: INBOX, Sent, Junk",
        ),
        (c.PutUser("a", "h", True), "change the password of user a"),
        (c.PutAppPassword("a", "Zoë's", 1, "k"), 'add app password "Zoë\'s" of a'),
        (c.DropAppPassword("a", "phone"), "remove app password 'phone' of a"),
        (c.RemoveUser("a"), "remove user a"),
        (c.PurgeUser("a"), "remove all mail of a"),
    ],
)
def test_every_command_has_words(command: c.Command, words: str) -> None:
    assert in_words(command) == words
