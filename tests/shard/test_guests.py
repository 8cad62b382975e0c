"""What users may do with mailboxes of others, as it is applied (RFC 4314)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.codec import AS_GUEST, STORE, encode_request, inspect_request
from raftmail.mail.rights import ACL_ENTRIES_MAX, RIGHTS
from raftmail.mail.uidset import UidSet
from tests.shard.machines import CLIENT, Feeder, body_hash, message, new_machine, save

OWNER, GUEST = "a", "b"
ALL = UidSet.parse("1:*")
STORE_SEEN = c.Store(OWNER, "INBOX", ALL, c.StoreMode.ADD, ("\\Seen",))


def _grant(rights: str, identifier: str = GUEST) -> c.SetAcl:
    return c.SetAcl(OWNER, "INBOX", identifier, c.StoreMode.REPLACE, rights)


def _shared(rights: str) -> Feeder:
    """A shard with messages in the INBOX of a, on which b has these rights."""
    feeder = Feeder(new_machine())
    feeder.do(save(message("one", flags=("\\Deleted", "k")), message("two")))
    if rights:
        assert feeder.do(_grant(rights)) == r.Done()
    return feeder


def _as_guest(feeder: Feeder, command: c.Command) -> r.Result:
    return feeder.do(c.GuestCommand(GUEST, command))  # type: ignore[arg-type]


def _outcome(feeder: Feeder, command: c.Command) -> str:
    result = _as_guest(feeder, command)
    return result.code.value if isinstance(result, r.Refused) else ""


def _flags(feeder: Feeder, uid: int = 1, mailbox: str = "INBOX") -> set[str]:
    page = feeder.machine.query(q.FetchMessages(OWNER, mailbox, UidSet.single(uid)))
    assert isinstance(page, q.MessagePage)
    return set(page.messages[0].flags)


_NEEDS: list[tuple[str, c.Command]] = [
    ("s", STORE_SEEN),
    ("t", replace(STORE_SEEN, flags=("\\Deleted",))),
    ("w", replace(STORE_SEEN, flags=("\\Flagged",))),
    ("w", replace(STORE_SEEN, flags=("k2",))),
    ("e", c.Expunge(OWNER, "INBOX", ALL, only_deleted=True)),
    ("te", c.Expunge(OWNER, "INBOX", ALL)),
    ("i", save(message("three"))),
    ("r", c.Copy(OWNER, "INBOX", ALL, c.Target(GUEST, "INBOX"), 1)),
    ("rte", c.Copy(OWNER, "INBOX", ALL, c.Target(GUEST, "INBOX"), 1, move=True)),
    ("k", c.CreateMailbox(OWNER, "INBOX/x", 1, bytes(16))),
    ("a", _grant("lr", "c")),
    ("w", c.SetAnnotations(OWNER, "INBOX", (("/shared/x", b"1"),))),
]


@pytest.mark.parametrize("needed, command", _NEEDS, ids=lambda one: str(one)[:30])
def test_each_command_needs_its_rights_and_no_others(needed: str, command: c.Command) -> None:
    assert _outcome(_shared("l" + needed), command) == ""
    for right in needed:
        others = "".join(one for one in RIGHTS if one != right)
        assert _outcome(_shared(others), command) == "NOPERM"
        hidden = others.replace("l", "")
        assert _outcome(_shared(hidden), command) == "NONEXISTENT", "without l there is none"


@pytest.mark.parametrize("rights", ["", "p"])
def test_a_mailbox_without_rights_is_told_as_one_that_is_not_there(rights: str) -> None:
    feeder = _shared(rights)
    for _, command in _NEEDS[:-3]:
        hidden = _as_guest(feeder, command)
        nowhere = _as_guest(Feeder(new_machine()), command)
        assert hidden == nowhere and isinstance(hidden, r.Refused), command


def test_a_right_that_is_taken_away_is_gone_with_the_next_entry() -> None:
    feeder = _shared("lrs")
    assert _outcome(feeder, STORE_SEEN) == ""
    feeder.do(_grant("lr"))
    assert _outcome(feeder, replace(STORE_SEEN, mode=c.StoreMode.REMOVE)) == "NOPERM"
    assert "\\Seen" in _flags(feeder)


def test_negative_rights_take_away_what_others_give() -> None:
    feeder = _shared("")
    feeder.do(_grant("lrs", "anyone"))
    assert _outcome(feeder, STORE_SEEN) == ""
    feeder.do(_grant("s", "-b"))
    assert _outcome(feeder, STORE_SEEN) == "NOPERM"
    feeder.do(_grant("l", "-anyone"))
    assert _outcome(feeder, STORE_SEEN) == "NONEXISTENT"


def test_anyone_is_whoever_has_the_domain_of_the_owner() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a@one.org", "x", 1, bytes(16)))
    feeder.do(c.SetAcl("a@one.org", "x", "anyone", c.StoreMode.ADD, "lr"))
    for guest, count in (("b@one.org", 1), ("b@two.org", 0), ("b", 0)):
        found = feeder.machine.query(q.ListShared("a@one.org", guest))
        assert isinstance(found, q.SharedMailboxes) and len(found.shared) == count


def test_flags_that_a_guest_may_not_change_stay_when_others_are_replaced() -> None:
    feeder = _shared("lrs")
    replaced = replace(STORE_SEEN, mode=c.StoreMode.REPLACE, flags=("\\Seen", "\\Flagged", "k2"))
    assert _outcome(feeder, replaced) == ""
    assert _flags(feeder) == {"\\Seen", "\\Deleted", "k"}
    assert _outcome(feeder, replace(replaced, flags=())) == ""
    assert _flags(feeder) == {"\\Deleted", "k"}


def test_what_a_guest_saves_or_copies_has_the_flags_that_he_may_set() -> None:
    feeder = _shared("lsi")
    flags = ("\\Seen", "\\Deleted", "k")
    assert _outcome(feeder, save(message("three", flags=flags))) == ""
    assert _flags(feeder, 3) == {"\\Seen"}
    feeder.do(c.Save(GUEST, (message("own", c.Target(GUEST, "INBOX"), flags=flags),), 1))
    assert _outcome(feeder, c.Copy(GUEST, "INBOX", ALL, c.Target(OWNER, "INBOX"), 1)) == ""
    assert _flags(feeder, 4) == {"\\Seen"}
    brought = c.NewMessage(
        (c.Target(OWNER, "INBOX"),), body_hash("one"), 3, bytes(16), 1, flags, b"summary"
    )
    copied = c.CopyIn(OWNER, (brought,), 1, c.Target(OWNER, "INBOX"), UidSet.single(7))
    assert _outcome(feeder, copied) == ""
    assert _flags(feeder, 5) == {"\\Seen"}


def test_guests_see_and_set_shared_annotations_alone() -> None:
    feeder = _shared("lrw")
    feeder.do(c.SetAnnotations(OWNER, "INBOX", (("/private/x", b"1"), ("/shared/x", b"2"))))
    private = c.SetAnnotations(OWNER, "INBOX", (("/private/x", None), ("/shared/x", None)))
    assert _outcome(feeder, private) == "NOPERM"
    assert _outcome(feeder, replace(private, mailbox=None)) == "NOPERM"
    found = feeder.machine.query(q.GuestQuery(GUEST, q.GetAnnotations(OWNER, "INBOX")))
    assert found == q.AnnotationValues((("/shared/x", b"2"),))
    assert feeder.machine.query(q.GuestQuery(GUEST, q.GetAnnotations(OWNER, None))) is None


def test_guests_read_nothing_without_the_right_to_it() -> None:
    feeder = _shared("lrswipkxte")
    query = feeder.machine.query
    for asked in (
        q.GetMailbox(OWNER, "INBOX"),
        q.FetchMessages(OWNER, "INBOX", ALL),
        q.FetchColumns(OWNER, "INBOX", ALL),
        q.FetchContents(OWNER, "INBOX"),
        q.FetchVanished(OWNER, "INBOX", 0),
    ):
        assert query(q.GuestQuery(GUEST, asked)) == query(asked)
        assert query(q.GuestQuery("c", asked)) is None
    body, bodies = q.FetchBody(OWNER, "INBOX", 1), q.FetchBodies(OWNER, "INBOX", ALL)
    machine = feeder.machine
    assert machine.body_of(q.GuestQuery(GUEST, body)) == body_hash("one")
    assert machine.body_of(q.GuestQuery("c", body)) is None
    assert len(machine.bodies_of(q.GuestQuery(GUEST, bodies)) or ()) == 2
    assert machine.bodies_of(q.GuestQuery("c", bodies)) is None
    acl = q.GetAcl(OWNER, "INBOX")
    assert query(q.GuestQuery(GUEST, acl)) is None, "which needs a"
    assert query(acl) == q.AclEntries(((GUEST, "lrswipkxte"),))


def test_the_owner_keeps_all_rights() -> None:
    feeder = _shared("")
    assert feeder.refused(_grant("lr", OWNER)) == "CANNOT"
    assert feeder.refused(_grant("lr", "-" + OWNER)) == "CANNOT"
    feeder.do(_grant("lr", "-anyone"))
    found = feeder.machine.query(q.ListShared(OWNER, OWNER))
    assert isinstance(found, q.SharedMailboxes) and found.shared[0][1] == RIGHTS


def test_new_mailboxes_are_shared_as_the_one_above_them() -> None:
    feeder = _shared("lrk")
    assert _outcome(feeder, c.CreateMailbox(OWNER, "INBOX/x/y", 1, bytes(16))) == ""
    assert _outcome(feeder, c.CreateMailbox(OWNER, "top", 1, bytes(16))) == "NOPERM"
    found = feeder.machine.query(q.ListShared(OWNER, GUEST))
    assert isinstance(found, q.SharedMailboxes)
    assert [(info.name, rights) for info, rights in found.shared] == [
        (name, "lrk") for name in ("INBOX", "INBOX/x", "INBOX/x/y")
    ]


def test_a_rename_needs_the_right_to_all_that_gets_another_name() -> None:
    feeder = _shared("lrkx")
    for name in ("INBOX/x", "INBOX/x/y"):
        feeder.do(c.CreateMailbox(OWNER, name, 1, bytes(16)))
    rename = c.RenameMailbox(OWNER, "INBOX/x", "INBOX/z", 1, bytes(16))
    feeder.do(c.SetAcl(OWNER, "INBOX/x/y", GUEST, c.StoreMode.REPLACE, "lr"))
    assert _outcome(feeder, rename) == "NOPERM"
    feeder.do(c.SetAcl(OWNER, "INBOX/x/y", GUEST, c.StoreMode.ADD, "x"))
    assert _outcome(feeder, replace(rename, name="z")) == "NOPERM", "nobody gave k there"
    assert _outcome(feeder, replace(rename, mailbox="INBOX")) == "CANNOT"
    assert _outcome(feeder, rename) == ""


def test_a_guest_is_not_told_what_the_owner_has() -> None:
    feeder = _shared("li")
    refused = _as_guest(feeder, replace(save(message("three")), quotas=((OWNER, 1),)))
    assert refused == r.Refused(r.Code.OVERQUOTA, "the owner of the mailbox is over quota")


def test_identifiers_are_bounded_and_go_with_the_mailbox_or_the_user() -> None:
    feeder = _shared("")
    feeder.do(c.CreateMailbox(OWNER, "x", 1, bytes(16)))
    for number in range(ACL_ENTRIES_MAX):
        feeder.do(c.SetAcl(OWNER, "x", f"u{number}", c.StoreMode.ADD, "lr"))
    more = c.SetAcl(OWNER, "x", GUEST, c.StoreMode.ADD, "lr")
    assert feeder.refused(more) == "LIMIT"
    feeder.do(c.SetAcl(OWNER, None, "u1", c.StoreMode.REPLACE, ""))
    assert feeder.do(more) == r.Done()
    feeder.do(c.NoteSharer(OWNER, GUEST))
    feeder.do(c.DeleteMailbox(OWNER, "x"))
    feeder.do(c.PurgeUser(OWNER))
    for table in ("acls", "sharers"):
        assert feeder.machine.index.engine.table(table).count() == 0


def test_the_digest_differs_when_rights_do() -> None:
    digests = {_shared(rights).machine.index.digest() for rights in ("l", "lr")}
    assert len(digests) == 2


def test_a_full_disk_takes_from_guests_what_frees_space() -> None:
    for command, kind in ((STORE_SEEN, STORE), (_grant("lr"), AS_GUEST)):
        request = encode_request(CLIENT, 1, 0, c.GuestCommand(GUEST, command))
        assert inspect_request(request)[2] == kind


def _own_seen(rights: str = "lrswite") -> Feeder:
    feeder = _shared(rights)
    assert feeder.do(c.SetOwnSeen(OWNER, "INBOX", own=True)) == r.Done()
    return feeder


def _unseen(feeder: Feeder, guest: str) -> int:
    found = feeder.machine.query(q.ListShared(OWNER, guest, "INBOX"))
    assert isinstance(found, q.SharedMailboxes)
    return found.shared[0][0].unseen


def test_what_a_guest_has_seen_is_the_guests_own_and_is_told_as_a_change() -> None:
    feeder = _own_seen()
    feeder.do(_grant("lrs", "c"))
    feeder.do(c.Store(OWNER, "INBOX", UidSet.single(2), c.StoreMode.ADD, ("\\Seen",)))
    result = _as_guest(feeder, replace(STORE_SEEN, uids=UidSet.single(1)))
    assert isinstance(result, r.StoreResult) and result.changed == UidSet.single(1)
    assert _flags(feeder, 1) == {"\\Deleted", "k"} and _flags(feeder, 2) == {"\\Seen"}
    assert [_unseen(feeder, who) for who in (OWNER, GUEST, "c")] == [1, 1, 2]
    page = feeder.machine.query(
        q.GuestQuery(GUEST, q.FetchMessages(OWNER, "INBOX", ALL, result.modseq - 1))
    )
    assert isinstance(page, q.MessagePage)
    assert [(one.uid, one.flags) for one in page.messages] == [(1, ("\\Seen", "\\Deleted", "k"))]
    contents = feeder.machine.query(q.GuestQuery(GUEST, q.FetchContents(OWNER, "INBOX")))
    assert isinstance(contents, q.MailboxContents)
    assert (contents.first_unseen, contents.mailbox.unseen) == (2, 1)


def test_replacing_flags_takes_a_guests_own_seen_away_and_nobody_elses() -> None:
    feeder = _own_seen()
    feeder.do(STORE_SEEN)
    assert _outcome(feeder, STORE_SEEN) == ""
    replaced = replace(STORE_SEEN, mode=c.StoreMode.REPLACE, flags=("\\Flagged",))
    assert _outcome(feeder, replaced) == ""
    assert _flags(feeder, 2) == {"\\Seen", "\\Flagged"}
    assert _unseen(feeder, GUEST) == 2


def test_a_message_that_a_guest_brings_is_unseen_by_all() -> None:
    feeder = _own_seen()
    assert _outcome(feeder, save(message("three", flags=("\\Seen", "k")))) == ""
    assert _flags(feeder, 3) == {"k"} and _unseen(feeder, GUEST) == 3


def test_a_copy_to_the_own_mailbox_is_seen_where_the_guest_has_seen_it() -> None:
    feeder = _own_seen()
    feeder.do(STORE_SEEN)
    _as_guest(feeder, replace(STORE_SEEN, uids=UidSet.single(2)))
    assert _outcome(feeder, c.Copy(OWNER, "INBOX", ALL, c.Target(GUEST, "INBOX"), 1)) == ""
    page = feeder.machine.query(q.FetchMessages(GUEST, "INBOX", ALL))
    assert isinstance(page, q.MessagePage)
    assert ["\\Seen" in one.flags for one in page.messages] == [False, True]


def test_what_guests_have_seen_is_bounded_and_forgotten_with_the_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feeder = _own_seen()
    monkeypatch.setattr("raftmail.shard.own_seen.SEEN_RANGES_MAX", 1)
    assert _outcome(feeder, STORE_SEEN) == ""
    assert _outcome(feeder, replace(STORE_SEEN, mode=c.StoreMode.REMOVE)) == "LIMIT"
    feeder.do(c.SetOwnSeen(OWNER, "INBOX", own=False))
    assert feeder.machine.index.engine.table("seen").count() == 0
    assert _unseen(feeder, GUEST) == 2
