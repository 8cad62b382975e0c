"""Two replicas are proved equal, or their difference is told exactly."""

from __future__ import annotations

import hashlib

import pytest

from raftmail.mail.packing import CodecError, pack
from raftmail.resync.verify import (
    DeepDigest,
    DeepVerify,
    Listing,
    compare,
    differences,
    listing,
)
from raftmail.storage.records import MESSAGE_KEY
from tests.resync.ends import Node, body_of
from tests.resync.test_resync_resume import long_history


def replica(name: str) -> Node:
    log, _ = long_history()
    node = Node(name)
    node.apply(log.entries)
    return node


def deep(node: Node, bodies: bool = True) -> DeepDigest:
    work = DeepVerify(node.engine.snapshot(), node.bodies if bodies else None)
    steps = 0
    while not work.step(50, 5000):
        steps += 1
    assert steps > 3
    assert work.result is not None
    return DeepDigest.decode(work.result.encode())


def test_equal_replicas_are_proved_equal() -> None:
    one, other = deep(replica("one")), deep(replica("other"))
    assert one == other
    found = compare(one, other)
    assert found.comparable and found.equal and not found.mailboxes and not found.tables
    assert one.bodies > 20 and one.bad_bodies == ()


def test_replicas_at_different_indexes_are_not_compared() -> None:
    log, cut = long_history()
    behind = Node("behind")
    behind.apply(log.entries[:cut])
    assert not compare(deep(behind), deep(replica("one"))).comparable


def test_a_difference_is_told_by_mailbox_uid_and_field() -> None:
    one, other = replica("one"), replica("other")
    log, _ = long_history()
    applied = other.index.applied_index
    before = len(log)
    log.flag("INBOX", 3, 3, "\\Flagged")
    log.expunge("INBOX", 5, 5)
    other.apply(log.entries[before:])
    mailbox = other.index.mailboxes.named("a", "INBOX")
    assert mailbox is not None
    number = mailbox.number
    mine, theirs = deep(one), deep(other)
    assert not compare(mine, theirs).comparable
    theirs = DeepDigest(applied, *[getattr(theirs, f) for f in _REST])
    found = compare(mine, theirs)
    assert found.mailboxes == (number,) and "blobrefs" in found.tables
    told = []
    at = 1
    while at:
        a = Listing.decode(listing(one.engine.snapshot(), number, at, 4).encode())
        b = Listing.decode(listing(other.engine.snapshot(), number, at, 4).encode())
        told += differences(a, b)
        at = min(a.next_uid or 1 << 33, b.next_uid or 1 << 33)
        at = 0 if at == 1 << 33 else at
    assert {(d.user, d.mailbox) for d in told} == {("a", "INBOX")}
    by_uid = {(d.uid, d.what) for d in told if d.uid}
    assert by_uid == {(3, "modseq"), (3, "system flags"), (5, "the message")}
    (gone,) = {str(d) for d in told if d.uid == 5}
    assert gone == "a/INBOX UID 5: the message is there here, missing there"
    assert (0, "HIGHESTMODSEQ") in {(d.uid, d.what) for d in told}


_REST = ("digest", "tables", "mailboxes", "bodies", "body_bytes", "bad_bodies")


def test_a_damaged_record_and_a_damaged_body_are_told() -> None:
    one, other = replica("one"), replica("other")
    rotten = hashlib.sha256(body_of("x1")).digest()
    other.bodies.damaged.add(hashlib.sha256(body_of("z1")).digest())
    other.bodies.damaged.add(rotten)
    row = other.engine.table("messages").get(MESSAGE_KEY.pack(1, 2))
    assert row is not None
    other.engine.table("messages").put(MESSAGE_KEY.pack(1, 2), row[:-1] + b"!")
    other.engine.commit()
    mine, theirs = deep(one), deep(other)
    assert compare(mine, theirs).mailboxes == (1,)
    assert rotten in theirs.bad_bodies or not one.index.references(rotten)
    assert hashlib.sha256(body_of("z1")).digest() in theirs.bad_bodies
    told = differences(listing(one.engine, 1), listing(other.engine, 1))
    assert [(d.uid, d.what, d.mine, d.theirs) for d in told] == [
        (2, "the message", "there", "damaged")
    ]


@pytest.mark.parametrize("raw", [(), (1,), (1, b"", (), (), 1, 1, 3), 5, (1, (), ((1, 2),), 0)])
def test_what_is_no_digest_or_listing_is_refused(raw: object) -> None:
    for decode in (DeepDigest.decode, Listing.decode):
        with pytest.raises(CodecError):
            decode(pack(raw))
