"""The machine by example: what the promises and the RFCs say of single commands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.annotations import (
    ANNOTATION_BYTES_MAX,
    ANNOTATIONS_MAX,
    USER_ANNOTATIONS_MAX,
)
from raftmail.mail.app_passwords import APP_PASSWORDS_MAX
from raftmail.mail.codec import ENTRY_HEAD, SAVE, encode_entry, encode_request
from raftmail.mail.packing import pack
from raftmail.mail.uidset import UID_MAX, UidSet
from raftmail.shard.machine import OutOfOrder
from raftmail.storage.check import check
from raftmail.storage.disk import DiskFull
from raftmail.storage.index import IndexFailed
from tests.mail import values
from tests.shard.machines import (
    CLIENT,
    Feeder,
    body_hash,
    entry_of,
    guid_of,
    message,
    new_machine,
    rows_of,
    save,
)
from tests.simulation.kv import MemoryEngine

SEEN = ("\\Seen",)


def _store(uids: str, flags: tuple[str, ...] = SEEN, since: int = -1) -> c.Store:
    return c.Store("a", "INBOX", UidSet.parse(uids), c.StoreMode.ADD, flags, since)


def _with_messages(count: int) -> Feeder:
    feeder = Feeder(new_machine())
    feeder.do(save(*[message()] * count))
    return feeder


def test_entries_apply_once_and_in_order() -> None:
    machine = new_machine()
    payload = entry_of((CLIENT, 1, 0, save()))
    assert len(machine.apply(1, 7, payload)) == 1
    assert machine.apply(1, 7, payload) == []
    assert (machine.applied_index, machine.applied_term) == (1, 7)
    with pytest.raises(OutOfOrder, match="entry 3"):
        machine.apply(3, 7, payload)


def test_a_request_sent_again_has_its_first_result_and_no_effect() -> None:
    machine = new_machine()
    payload = entry_of((CLIENT, 1, 0, save()))
    first = machine.apply(1, 1, payload)
    assert machine.apply(2, 1, payload) == first
    assert machine.known(CLIENT, 1) == first[0][2]
    assert machine.known(CLIENT, 2) is None
    assert machine.known(bytes(16), 1) is None
    info = machine.query(q.GetMailbox("a", "INBOX"))
    assert isinstance(info, q.MailboxInfo)
    assert info.messages == 1


def test_a_request_below_the_floor_is_stale() -> None:
    machine = new_machine()
    machine.apply(1, 1, entry_of((CLIENT, 1, 0, save()), (CLIENT, 2, 1, save())))
    ((*_, result),) = machine.apply(2, 1, entry_of((CLIENT, 1, 0, save())))
    assert isinstance(result, r.Refused)
    assert result.code == r.Code.STALE
    assert machine.known(CLIENT, 1) == result


def test_a_refusal_is_a_result_that_is_kept() -> None:
    """P3: what was refused once is refused when it is sent again, though it could be done by
    then."""
    machine = new_machine()
    delete = (CLIENT, 1, 0, c.DeleteMailbox("a", "x"))
    machine.apply(1, 1, entry_of(delete))
    machine.apply(2, 1, entry_of((CLIENT, 2, 0, c.CreateMailbox("a", "x", 1, bytes(16)))))
    ((*_, result),) = machine.apply(3, 1, entry_of(delete))
    assert isinstance(result, r.Refused)
    assert machine.query(q.GetMailbox("a", "x")) is not None


def test_raw_results_are_the_same_results() -> None:
    one, other = new_machine(), new_machine()
    payload = entry_of((CLIENT, 1, 0, save()))
    assert one.apply(1, 1, payload, want_results=False) == []
    assert [raw[:2] for raw in other.apply_raw(1, 1, payload)] == [(CLIENT, 1)]
    assert one.known(CLIENT, 1) == other.known(CLIENT, 1)


def test_uidvalidity_is_the_seed_or_the_next_one_free() -> None:
    feeder = Feeder(new_machine())
    given = [
        feeder.do(c.CreateMailbox("a", name, seed, bytes(16)))
        for name, seed in (("x", 100), ("y", 100), ("z", 50), ("w", 500))
    ]
    assert [x.uidvalidity for x in given] == [100, 101, 102, 500]  # type: ignore[union-attr]
    feeder.do(c.DeleteMailbox("a", "w"))
    again = feeder.do(c.CreateMailbox("a", "w", 1, bytes(16)))
    assert again.uidvalidity == 501  # type: ignore[union-attr]


def test_uids_are_not_given_again_after_an_expunge() -> None:
    feeder = _with_messages(3)
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("2:3")))
    result = feeder.do(save())
    assert result.saved[0].uid == 4  # type: ignore[union-attr]


def test_a_save_with_one_wrong_target_saves_nothing() -> None:
    feeder = Feeder(new_machine())
    where = (c.Target("b", "INBOX"), c.Target("a", "nowhere"))
    assert feeder.refused(save(message("one", *where))) == "NONEXISTENT"
    assert feeder.machine.query(q.ListMailboxes("b")) == ()
    assert feeder.machine.index.references(body_hash("one")) == 0


def test_a_delivery_goes_to_inbox_when_the_mailbox_is_missing() -> None:
    feeder = Feeder(new_machine())
    result = feeder.do(save(message("one", c.Target("a", "lists", or_inbox=True))))
    info = feeder.machine.query(q.GetMailbox("a", result.saved[0].mailbox))  # type: ignore[union-attr]
    assert isinstance(info, q.MailboxInfo)
    assert info.name == "INBOX"


def test_a_save_whose_body_the_entry_does_not_name_is_refused() -> None:
    machine = new_machine()
    payload = encode_entry([encode_request(CLIENT, 1, 0, save())], [bytes(32)])
    ((*_, result),) = machine.apply(1, 1, payload)
    assert isinstance(result, r.Refused)
    assert result.code == r.Code.BAD


def test_a_store_that_changes_nothing_leaves_the_modseq() -> None:
    feeder = _with_messages(1)
    feeder.do(_store("1"))
    assert feeder.do(_store("1")) == r.StoreResult(UidSet(), UidSet(), 0, 3)
    assert feeder.do(_store("2")) == r.StoreResult(UidSet(), UidSet(), 0, 3)


def test_unchangedsince_leaves_alone_what_changed_later() -> None:
    """RFC 7162 section 3.1.3, with its UNCHANGEDSINCE 0 that always fails."""
    feeder = _with_messages(3)
    feeder.do(_store("2"))
    result = feeder.do(_store("1:3", ("\\Flagged",), since=2))
    assert result == r.StoreResult(UidSet.parse("1,3"), UidSet.parse("2"), 4, 4)
    result = feeder.do(_store("1:3", ("\\Draft",), since=0))
    assert result == r.StoreResult(UidSet(), UidSet.parse("1:3"), 0, 4)


def test_a_mailbox_has_room_for_120_keywords() -> None:
    feeder = _with_messages(2)
    names = tuple(f"k{i}" for i in range(120))
    feeder.do(_store("1", names))
    assert feeder.refused(_store("1", ("one-too-many",))) == "LIMIT"
    assert feeder.refused(_store("1:2", ("one-too-many",))) == "LIMIT"
    assert feeder.refused(save(message("b", flags=("other",)))) == "LIMIT"
    assert isinstance(feeder.do(_store("2", ("K7",))), r.StoreResult)
    page = feeder.machine.query(q.FetchMessages("a", "INBOX", UidSet.single(2)))
    assert isinstance(page, q.MessagePage)
    assert page.messages[0].flags == ("k7",)


def test_keywords_of_several_messages_are_refused_together() -> None:
    feeder = Feeder(new_machine())
    halves = [tuple(f"{half}{i}" for i in range(70)) for half in "ab"]
    assert feeder.refused(save(*(message(flags=flags) for flags in halves))) == "LIMIT"
    assert feeder.machine.query(q.ListMailboxes("a")) == ()


def test_a_copy_carries_guid_date_flags_and_summary() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))
    feeder.do(save(message("t", c.Target("a", "x"), flags=("other", "k"), summary=b"S")))
    feeder.do(save(message("one", flags=("k", "\\Seen"), summary=b"s")))
    feeder.do(c.Copy("a", "INBOX", UidSet.single(1), c.Target("a", "x"), 1))
    pages = [
        feeder.machine.query(q.FetchMessages("a", name, UidSet.parse("*"), summaries=True))
        for name in ("INBOX", "x")
    ]
    (source,), (copied,) = (page.messages for page in pages)  # type: ignore[union-attr, misc]
    assert (copied.uid, copied.guid, copied.flags) == (2, guid_of("one"), source.flags)
    assert (copied.received_us, copied.summary) == (source.received_us, b"s")
    assert feeder.machine.index.references(body_hash("one")) == 2


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize(
    ("saved_us", "copied"), [(None, (-90, 44)), (55, (-90, 55)), (7, (-90, 7))]
)
def test_a_copy_keeps_its_zone_and_its_savedate_unless_it_is_given_another(
    move: bool, saved_us: int | None, copied: tuple[int, int]
) -> None:
    feeder = Feeder(new_machine())
    feeder.do(save(replace(message("one"), zone_minutes=-90, saved_us=44), message("two")))
    target = c.Target("a", "INBOX")
    feeder.do(c.Copy("a", "INBOX", UidSet.parse("1:2"), target, 1, move, saved_us=saved_us))
    page = feeder.machine.query(q.FetchMessages("a", "INBOX", UidSet.parse("3:4")))
    assert isinstance(page, q.MessagePage)
    one, two = page.messages
    assert (one.zone_minutes, one.saved_us) == copied
    assert (two.zone_minutes, two.saved_us) == (0, None if saved_us in (None, 7) else saved_us)
    assert check(feeder.machine.index) == []


def _replace(text: str, uid: int, ref: c.MailboxRef = "INBOX", to: str = "INBOX") -> c.Save:
    return replace(save(message(text, c.Target("a", to))), replaces=(ref, uid))


def test_what_is_replaced_goes_in_the_step_in_which_the_new_comes() -> None:
    feeder = _with_messages(2)
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))
    before = feeder.machine.query(q.GetMailbox("a", "INBOX"))
    assert isinstance(before, q.MailboxInfo)
    done = feeder.do(_replace("new", 1))
    assert isinstance(done, r.SaveResult)
    assert (done.saved[0].uid, done.saved[0].modseq) == (3, before.highestmodseq + 1)
    vanished = feeder.machine.query(q.FetchVanished("a", "INBOX", before.highestmodseq))
    assert vanished == UidSet.single(1)
    after = feeder.machine.query(q.GetMailbox("a", "INBOX"))
    assert isinstance(after, q.MailboxInfo)
    assert (after.messages, after.highestmodseq) == (2, before.highestmodseq + 1)
    feeder.do(_replace("other", 2, to="x"))
    page = feeder.machine.query(q.FetchMessages("a", "INBOX", UidSet.parse("1:*")))
    assert isinstance(page, q.MessagePage) and [one.uid for one in page.messages] == [3]
    assert check(feeder.machine.index) == []


def test_nothing_is_saved_when_what_is_to_be_replaced_is_not_there() -> None:
    feeder = _with_messages(1)
    feeder.do(c.CreateMailbox("b", "x", 1, bytes(16)))
    digest = [row for name, row in rows_of(feeder.machine).items() if name != "clients"]
    assert feeder.refused(_replace("new", 2)) == "NONEXISTENT"
    assert feeder.refused(_replace("new", 1, "x")) == "NONEXISTENT"
    assert feeder.refused(_replace("new", 1, 2)) == "NONEXISTENT", "it is another user's"
    assert feeder.refused(_replace("new", 1, to="y")) == "NONEXISTENT"
    assert digest == [row for name, row in rows_of(feeder.machine).items() if name != "clients"]


def test_the_quota_of_a_replacement_is_of_what_it_adds() -> None:
    feeder = Feeder(new_machine())
    feeder.do(save(message("0123456789")))
    assert feeder.refused(replace(_replace("0123456789ab", 1), quotas=(("a", 11),))) == "OVERQUOTA"
    done = feeder.do(replace(_replace("0123456789a", 1), quotas=(("a", 11),)))
    assert isinstance(done, r.SaveResult)
    done = feeder.do(replace(_replace("0123", 2), quotas=(("a", 3),)))
    assert isinstance(done, r.SaveResult), "it is over its quota, and becomes less"


@pytest.mark.parametrize("replaces", [("INBOX",), ("INBOX", 0), (b"INBOX", 1), ("INBOX", "1"), 7])
def test_a_replacement_that_cannot_be_is_refused_by_the_apply(replaces: object) -> None:
    feeder = _with_messages(1)
    fields = ((("a", "INBOX", False),), body_hash("a"), 1, guid_of("a"), 7, (), b"")
    request = pack((CLIENT, 9, 0, SAVE, "a", (fields,), 1000, (), 0, replaces))
    entry = encode_entry([request], [body_hash("a")])
    ((_, _, result),) = feeder.machine.apply(feeder.machine.applied_index + 1, 1, entry)
    assert isinstance(result, r.Refused) and result.code is r.Code.BAD


def test_dates_go_with_their_message() -> None:
    feeder = Feeder(new_machine())
    feeder.do(save(replace(message("one"), zone_minutes=60), replace(message("b"), saved_us=5)))
    assert len(feeder.machine.index.messages.dates) == 2
    feeder.do(c.Expunge("a", "INBOX", UidSet.single(1)))
    assert len(feeder.machine.index.messages.dates) == 1
    feeder.do(c.PurgeUser("a"))
    assert len(feeder.machine.index.messages.dates) == 0
    assert check(feeder.machine.index) == []


@pytest.mark.parametrize(
    "dates", [(1440, None), (-1440, None), (True, None), ("60", None), (0, 2**63), (0, b"")]
)
def test_dates_that_cannot_be_are_refused_by_the_apply(dates: tuple[object, object]) -> None:
    machine = new_machine()
    body = body_hash("one")
    fields = ((("a", "INBOX", False),), body, 3, guid_of("one"), 7, (), b"", (), *dates)
    request = pack((CLIENT, 1, 0, SAVE, "a", (fields,), 1000))
    ((_, _, result),) = machine.apply(1, 1, encode_entry([request], [body]))
    assert isinstance(result, r.Refused) and result.code is r.Code.BAD


def test_a_move_with_guids_that_are_not_the_messages_is_refused_whole() -> None:
    feeder = Feeder(new_machine())
    feeder.do(save(message("one"), message("two")))
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))

    def move(*guids: bytes) -> c.Copy:
        return c.Copy("a", "INBOX", UidSet.parse("1:9"), c.Target("a", "x"), 1, True, guids)

    for wrong in (("two", "one"), ("one",), ("one", "two", "three")):
        assert feeder.refused(move(*map(guid_of, wrong))) == "GUIDMISMATCH"
    result = feeder.do(move(guid_of("one"), guid_of("two")))
    assert result.source_uids == UidSet.parse("1:2")  # type: ignore[union-attr]
    assert feeder.machine.index.references(body_hash("one")) == 1


def test_renaming_inbox_moves_its_messages_and_leaves_it_empty() -> None:
    """RFC 9051 section 6.3.6."""
    feeder = _with_messages(3)
    feeder.do(c.CreateMailbox("a", "INBOX/kept", 1, bytes(16)))
    before = feeder.machine.query(q.GetMailbox("a", "INBOX"))
    result = feeder.do(c.RenameMailbox("a", "inbox", "old/mail", 9, b"g" * 16))
    after = feeder.machine.query(q.GetMailbox("a", "INBOX"))
    assert isinstance(before, q.MailboxInfo)
    assert isinstance(after, q.MailboxInfo)
    assert isinstance(result, r.MailboxResult)
    assert (after.number, after.uidvalidity, after.uidnext, after.messages) == (
        before.number,
        before.uidvalidity,
        4,
        0,
    )
    assert (result.name, result.guid, result.messages) == ("old/mail", b"g" * 16, 3)
    names = [info.name for info in feeder.machine.query(q.ListMailboxes("a"))]  # type: ignore
    assert names == ["INBOX", "INBOX/kept", "old", "old/mail"]


def test_a_mailbox_keeps_number_and_uids_when_it_is_renamed_with_its_children() -> None:
    feeder = Feeder(new_machine())
    made = feeder.do(c.CreateMailbox("a", "x/y", 1, bytes(16)))
    feeder.do(save(message("one", c.Target("a", "x/y"))))
    feeder.do(c.RenameMailbox("a", "x", "z/w", 1, bytes(16)))
    info = feeder.machine.query(q.GetMailbox("a", "z/w/y"))
    assert isinstance(info, q.MailboxInfo)
    assert (info.number, info.uidvalidity, info.messages) == (
        made.number,  # type: ignore[union-attr]
        made.uidvalidity,  # type: ignore[union-attr]
        1,
    )
    assert feeder.machine.query(q.GetMailbox("a", "x/y")) is None


def test_children_whose_new_names_would_be_too_long_stop_the_rename() -> None:
    feeder = Feeder(new_machine())
    stem = "/".join(["x" * 250] * 3)
    feeder.do(c.CreateMailbox("a", "s/" + stem, 1, bytes(16)))
    assert feeder.refused(c.RenameMailbox("a", "s", "y" * 255, 1, bytes(16))) == "CANNOT"
    assert feeder.refused(c.RenameMailbox("a", "s", "s/t", 1, bytes(16))) == "CANNOT"


def test_inbox_cannot_be_removed_and_children_of_others_stay() -> None:
    feeder = _with_messages(1)
    assert feeder.refused(c.DeleteMailbox("a", "Inbox")) == "CANNOT"
    feeder.do(c.CreateMailbox("a", "x/y", 1, bytes(16)))
    feeder.do(c.DeleteMailbox("a", "x"))
    assert feeder.machine.query(q.GetMailbox("a", "x/y")) is not None


def test_a_user_cannot_have_mailboxes_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raftmail.shard.mailboxes.MAILBOXES_MAX", 3)
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "x/y", 1, bytes(16)))
    assert feeder.refused(c.CreateMailbox("a", "z/w", 1, bytes(16))) == "LIMIT"
    feeder.do(c.CreateMailbox("a", "z", 1, bytes(16)))
    assert feeder.refused(c.RenameMailbox("a", "z", "p/q", 1, bytes(16))) == "LIMIT"
    for name in "xyz":
        feeder.do(c.Subscribe("a", name, True))
    assert feeder.refused(c.Subscribe("a", "w", True)) == "LIMIT"


def test_uids_that_are_used_up_refuse_and_do_not_wrap() -> None:
    feeder = _with_messages(1)
    mailbox = feeder.machine.index.mailboxes.named("a", "INBOX")
    assert mailbox is not None
    mailbox.uidnext = UID_MAX
    assert feeder.refused(save()) == "LIMIT"
    copy = c.Copy("a", "INBOX", UidSet.single(1), c.Target("a", "INBOX"), 1)
    assert feeder.refused(copy) == "LIMIT"


def test_another_users_mailbox_number_is_nobodys() -> None:
    feeder = _with_messages(1)
    info = feeder.machine.query(q.GetMailbox("a", "INBOX"))
    assert isinstance(info, q.MailboxInfo)
    assert feeder.machine.query(q.GetMailbox("b", info.number)) is None
    assert feeder.refused(c.Expunge("b", info.number, UidSet.single(1))) == "NONEXISTENT"


def test_app_passwords_are_named_counted_and_stay_when_the_password_changes() -> None:
    feeder = Feeder(new_machine())
    user = "a@x.org"

    def text() -> str:
        info = feeder.machine.query(q.GetUser(user))
        assert isinstance(info, q.UserInfo)
        return info.password_hash

    assert feeder.refused(c.PutAppPassword(user, "phone", 1, "k")) == "UNKNOWNUSER"
    assert feeder.refused(c.DropAppPassword(user, "phone")) == "UNKNOWNUSER"
    feeder.do(c.PutUser(user, "one"))
    feeder.do(c.PutAppPassword(user, "phone", 1, "k"))
    assert feeder.refused(c.PutAppPassword(user, "phone", 2, "l")) == "ALREADYEXISTS"
    feeder.do(c.PutUser(user, "two", replace=True))
    assert text() == "two\nphone\t1\tk"
    for number in range(APP_PASSWORDS_MAX - 1):
        feeder.do(c.PutAppPassword(user, f"device {number}", 1, "k"))
    assert feeder.refused(c.PutAppPassword(user, "one more", 1, "k")) == "LIMIT"
    feeder.do(c.DropAppPassword(user, "phone"))
    assert feeder.refused(c.DropAppPassword(user, "phone")) == "NONEXISTENT"
    feeder.do(c.PutAppPassword(user, "one more", 1, "k"))
    feeder.do(c.RemoveUser(user))
    feeder.do(c.PutUser(user, "three"))
    assert text() == "three", "a new user of the name has none of them"


def test_a_purge_leaves_nothing_of_the_user() -> None:
    feeder = _with_messages(2)
    feeder.do(c.Subscribe("a", "x", True))
    feeder.do(c.PurgeUser("a"))
    engine = feeder.machine.index.engine
    feeder.machine.index.flush()
    for table in ("mailboxes", "names", "messages", "summaries", "changes", "blobrefs"):
        assert engine.table(table).count() == 0
    assert feeder.machine.query(q.ListSubscriptions("a")) == ()


def test_pages_are_bounded_in_messages_and_bytes() -> None:
    feeder = Feeder(new_machine())
    for _ in range(3):
        feeder.do(save(*[message(summary=bytes(1 << 20))] * 3))
    everything = UidSet.parse("1:*")

    def page(**more: object) -> q.MessagePage:
        query = q.FetchMessages("a", "INBOX", everything, **more)  # type: ignore[arg-type]
        found = feeder.machine.query(query)
        assert isinstance(found, q.MessagePage)
        return found

    assert [m.uid for m in page(limit=4).messages] == [1, 2, 3, 4]
    assert page(limit=4).more
    assert not page(limit=9).more
    assert [m.uid for m in page(summaries=True).messages] == [1, 2, 3, 4]
    assert page(summaries=True).more


def test_changes_are_paged_alike_whether_few_or_many_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feeder = _with_messages(40)
    feeder.do(_store("3:30"))
    query = q.FetchMessages("a", "INBOX", UidSet.parse("5:*"), changed_since=2, limit=10)
    few = feeder.machine.query(query)
    monkeypatch.setattr("raftmail.shard.queries._CHANGED_MAX", 5)
    many = feeder.machine.query(query)
    assert few == many
    assert isinstance(few, q.MessagePage)
    assert [m.uid for m in few.messages] == list(range(5, 15))
    assert few.more


def test_the_digest_differs_when_anything_replicated_does() -> None:
    def digest(*commands: c.Command) -> bytes:
        feeder = Feeder(new_machine())
        feeder.do(save(message("one"), message("two")))
        feeder.do(c.CreateMailbox("a", "x", 5, bytes(16)))
        for command in commands:
            feeder.do(command)
        return feeder.machine.index.digest()

    store = c.Store("a", "INBOX", UidSet.single(1), c.StoreMode.ADD, SEEN)
    digests = [
        digest(c.Subscribe("a", "y", False)),
        digest(c.Subscribe("a", "x", True)),
        digest(store),
        digest(c.Store("a", "INBOX", UidSet.single(2), c.StoreMode.ADD, SEEN)),
        digest(c.PutUser("a@x.org", "h")),
        digest(c.RenameMailbox("a", "x", "y", 5, bytes(16))),
        digest(save(message("three", summary=b"s"))),
        digest(save(message("three", summary=b"t"))),
        digest(),
    ]
    assert len(set(digests)) == len(digests)
    assert digest(store) == digest(store)


def _operations_of(count: int, command: c.Command) -> int:
    feeder = Feeder(new_machine())
    for _ in range(count // 100):
        feeder.do(save(*[message(f"{feeder.seq} {i}") for i in range(100)]))
    feeder.machine.commit()
    engine = feeder.machine.index.engine
    assert isinstance(engine, MemoryEngine)
    before = engine.operations
    feeder.do(command)
    feeder.machine.commit()
    return engine.operations - before


@pytest.mark.parametrize(
    "command",
    [
        _store("7"),
        _store("7,9,20:30"),
        save(message("new")),
        c.Expunge("a", "INBOX", UidSet.parse("5:6")),
        c.Copy("a", "INBOX", UidSet.parse("5:6"), c.Target("a", "INBOX"), 1),
    ],
    ids=["store", "store many", "save", "expunge", "copy"],
)
def test_what_is_written_follows_the_change_and_not_the_mailbox(command: c.Command) -> None:
    assert _operations_of(100, command) == _operations_of(3000, command)


def test_a_command_over_thousands_of_messages_is_settled_page_by_page() -> None:
    feeder = Feeder(new_machine())
    for _ in range(4):
        feeder.do(save(*[message()] * 1000))
    most = 0
    messages = feeder.machine.index.messages
    settle = messages.settle

    def watched() -> None:
        nonlocal most
        most = max(most, len(messages.unsettled))
        settle()

    feeder.machine.index.messages.settle()
    messages.settle = watched  # type: ignore[method-assign]
    result = feeder.do(_store("1:*"))
    assert result.changed == UidSet.parse("1:4000")  # type: ignore[union-attr]
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))
    feeder.do(c.Copy("a", "INBOX", UidSet.parse("1:*"), c.Target("a", "x"), 1, move=True))
    assert most <= 1000
    assert check(feeder.machine.index) == []


def test_a_command_over_too_many_messages_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages count, not UIDs: what was expunged from a range costs nothing."""
    monkeypatch.setattr("raftmail.shard.store.TOUCHED_MAX", 5)
    monkeypatch.setattr("raftmail.shard.copy_move.TOUCHED_MAX", 5)
    monkeypatch.setattr("raftmail.shard.copy_move.COPIED_MAX", 5)
    feeder = _with_messages(9)
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("2:3")))
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))
    before = rows_of(feeder.machine)["messages"]
    everything = UidSet.parse("1:*")
    for command in (
        _store("1:*"),
        _store("1:8"),
        c.Expunge("a", "INBOX", everything),
        c.Expunge("a", "INBOX", everything, only_deleted=True),
        c.Copy("a", "INBOX", everything, c.Target("a", "x"), 1),
        c.Copy("a", "INBOX", everything, c.Target("a", "x"), 1, move=True),
    ):
        result = feeder.do(command)
        assert isinstance(result, r.Refused) and result.code is r.Code.LIMIT
        assert "at most 5 messages" in result.text
    assert rows_of(feeder.machine)["messages"] == before
    assert feeder.do(_store("1:7")).changed == UidSet.parse("1,4:7")  # type: ignore[union-attr]
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("1,4")))
    assert feeder.do(_store("1:*")).changed == UidSet.parse("8:9")  # type: ignore[union-attr]
    assert check(feeder.machine.index) == []


_raw = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**64 - 1) | st.text(max_size=3)
    | st.binary(max_size=3) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner),
    max_leaves=5,
)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(st.tuples(values.commands, st.integers(0, 12), _raw), min_size=1, max_size=8))
def test_whatever_stands_in_a_request_nothing_raises_and_nothing_breaks(
    spoiled: list[tuple[c.Command, int, object]],
) -> None:
    feeder = _with_messages(5)
    machine = feeder.machine
    requests = []
    for seq, (command, at, value) in enumerate(spoiled, 1):
        raw = list(msgpack.unpackb(encode_request(b"x" * 16, seq, 0, command)))
        raw[at % len(raw)] = value
        requests.append(msgpack.packb(raw))
    hashes = [bytes(32)]
    before = machine.index.digest()
    results = machine.apply(2, 1, encode_entry(requests, hashes))
    assert check(machine.index) == []
    if not results:
        assert machine.index.references(body_hash("a")) == 5
        assert before != machine.index.digest()  # the applied index is in it
    # A refusal that a source gave is handed on in its words.
    carried = {one.refused_text for one, *_ in spoiled if isinstance(one, c.CopyIn)}
    for *_, result in results:
        if isinstance(result, r.Refused):
            assert result.text or "" in carried


@settings(max_examples=60)
@given(st.binary(max_size=60))
def test_an_entry_of_noise_has_no_effect_and_counts_as_applied(noise: bytes) -> None:
    machine = new_machine()
    for index, payload in enumerate((noise, ENTRY_HEAD.pack(1, 1, 0, 1) + noise), 1):
        assert machine.apply(index, 1, payload) == []
        assert machine.applied_index == index
    assert len(machine.index.clients) == 0


def _limited(limit: int, *messages: c.NewMessage, user: str = "a") -> c.Save:
    return c.Save("a", messages or (message(),), 1000, ((user, limit),))


def test_a_save_over_quota_is_refused_whole() -> None:
    feeder = Feeder(new_machine())
    feeder.do(_limited(10, message("12345"), message("67890")))
    both = message("x", c.Target("b", "INBOX"), c.Target("a", "INBOX"))
    assert feeder.refused(_limited(10, both)) == "OVERQUOTA"
    assert feeder.machine.query(q.GetUsage("a")) == q.Usage(2, 10)
    assert feeder.machine.query(q.GetUsage("b")) == q.Usage(0, 0)
    feeder.do(_limited(10, message("more", c.Target("b", "INBOX"))))  # not of whom it is a limit
    feeder.do(c.Expunge("a", "INBOX", UidSet.parse("1")))
    feeder.do(_limited(10, message("12345")))
    feeder.do(c.CreateMailbox("a", "x", 5, bytes(16)))
    assert feeder.refused(_limited(10, message("1", c.Target("a", "x")))) == "OVERQUOTA"


def test_a_refusal_over_quota_is_given_again_when_there_is_room() -> None:
    """P3: whoever sends the same request again gets the same answer; whoever wants the mail saved
    makes a new one."""
    machine = new_machine()
    machine.apply(1, 1, entry_of((CLIENT, 1, 0, _limited(1, message("12")))))
    ((*_, result),) = machine.apply(2, 1, entry_of((CLIENT, 1, 0, _limited(99, message("12")))))
    assert isinstance(result, r.Refused) and result.code is r.Code.OVERQUOTA
    assert "has 0 of 1 bytes, and 2 more do not go in" in result.text


def test_a_copy_meets_the_quota_and_a_move_within_the_own_mailboxes_never() -> None:
    feeder = _with_messages(3)
    feeder.do(c.CreateMailbox("a", "x", 5, bytes(16)))

    def go(user: str, *, move: bool, quota: int) -> c.Copy:
        target = c.Target(user, "INBOX" if user == "b" else "x")
        return c.Copy("a", "INBOX", UidSet.parse("1:2"), target, 5, move, quota_bytes=quota)

    assert feeder.refused(go("a", move=False, quota=4)) == "OVERQUOTA"
    feeder.do(go("a", move=False, quota=5))
    assert feeder.machine.query(q.GetUsage("a")) == q.Usage(5, 5)
    assert feeder.refused(go("b", move=True, quota=1)) == "OVERQUOTA"
    moved = feeder.do(go("a", move=True, quota=1))
    assert isinstance(moved, r.CopyResult) and len(moved.source_uids) == 2


def test_what_comes_from_another_shard_meets_the_quota() -> None:
    feeder = Feeder(new_machine())
    target = c.Target("a", "INBOX")
    uids = UidSet.parse("7")
    new = (message("12345", target),)
    assert feeder.refused(c.CopyIn("a", new, 5, target, uids, quota_bytes=4)) == "OVERQUOTA"
    result = feeder.do(c.CopyIn("a", new, 5, target, uids, quota_bytes=5))
    assert isinstance(result, r.CopyResult)


@pytest.mark.parametrize("quotas", [7, (("a",),), (("a", 0),), ((1, 5),), b"", (("a", "5"),)])
def test_quotas_that_are_none_are_bad(quotas: object) -> None:
    raw = msgpack.unpackb(encode_request(CLIENT, 1, 0, save()), use_list=False)
    request = msgpack.packb((*raw, quotas))
    machine = new_machine()
    ((*_, result),) = machine.apply(1, 1, encode_entry([request], [body_hash("a")]))
    assert isinstance(result, r.Refused) and result.code is r.Code.BAD


def test_after_a_failed_apply_nothing_is_applied_committed_or_read_before_an_abort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half an entry may stand in the open transaction: only the last commit is a state of the
    log."""
    machine = new_machine()
    machine.apply(1, 1, b"")
    machine.commit()

    def full(payload: bytes) -> Any:
        raise DiskFull("no space in the middle of an entry")

    with monkeypatch.context() as patch:
        patch.setattr(machine, "_requests", full)
        with pytest.raises(DiskFull):
            machine.apply(2, 1, b"\x01")
    assert machine.index.failed and machine.applied_index == 1
    with pytest.raises(OutOfOrder, match="before an abort"):
        machine.apply(2, 1, b"")
    with pytest.raises(IndexFailed):
        machine.query(q.GetUser("a@x.org"))
    with pytest.raises(IndexFailed):
        machine.commit()
    machine.abort()
    machine.apply(2, 1, b"")
    machine.commit()
    assert machine.applied_index == 2


def test_annotations_are_bounded_and_go_with_their_mailbox() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16)))
    most = tuple((f"/private/x{number}", b"y") for number in range(ANNOTATIONS_MAX))
    for where in ("x", None):
        feeder.do(c.SetAnnotations("a", where, most))
        assert feeder.refused(c.SetAnnotations("a", where, (("/private/more", b"y"),))) == "LIMIT"
        feeder.do(c.SetAnnotations("a", where, (("/private/more", b"y"), ("/private/x1", None))))
    assert feeder.refused(c.SetAnnotations("b", "x", most)) == "NONEXISTENT"
    feeder.do(c.RenameMailbox("a", "x", "y", 1, bytes(16)))
    found = feeder.machine.query(q.GetAnnotations("a", "y"))
    assert isinstance(found, q.AnnotationValues) and len(found.entries) == ANNOTATIONS_MAX
    feeder.do(c.DeleteMailbox("a", "y"))
    assert feeder.machine.index.annotations.totals("a").rows == ANNOTATIONS_MAX
    feeder.do(c.PurgeUser("a"))
    assert feeder.machine.index.engine.table("annotations").count() == 0
    assert check(feeder.machine.index) == []


def test_annotations_of_a_user_are_bounded_in_number_and_in_bytes() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "INBOX", 1, bytes(16)))
    many = tuple((f"/private/x{number}", b"y") for number in range(ANNOTATIONS_MAX))
    for number in range(USER_ANNOTATIONS_MAX // ANNOTATIONS_MAX):
        feeder.do(c.CreateMailbox("a", f"x{number}", 1, bytes(16)))
        feeder.do(c.SetAnnotations("a", f"x{number}", many))
    assert feeder.refused(c.SetAnnotations("a", "INBOX", (("/private/x", b""),))) == "LIMIT"
    large = tuple((name, bytes(ANNOTATION_BYTES_MAX)) for name, _ in many)
    feeder.do(c.SetAnnotations("a", "x0", large))
    assert feeder.refused(c.SetAnnotations("a", "x1", large)) == "LIMIT"
    feeder.do(c.SetAnnotations("a", "x0", tuple((name, None) for name, _ in many)))
    feeder.do(c.SetAnnotations("a", "x1", large))
    feeder.do(c.SetAnnotations("b", None, large))
    assert check(feeder.machine.index) == []


def test_renaming_inbox_copies_its_annotations_where_there_is_room() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "INBOX", 1, bytes(16)))
    large = tuple((f"/private/x{number}", bytes(ANNOTATION_BYTES_MAX)) for number in range(50))
    feeder.do(c.SetAnnotations("a", "INBOX", large))
    feeder.do(c.RenameMailbox("a", "INBOX", "x", 1, bytes(16)))
    for name in ("INBOX", "x"):
        found = feeder.machine.query(q.GetAnnotations("a", name))
        assert isinstance(found, q.AnnotationValues) and len(found.entries) == 50
    feeder.do(c.SetAnnotations("a", None, large[:20]))
    assert feeder.refused(c.RenameMailbox("a", "INBOX", "z", 1, bytes(16))) == "LIMIT"
    assert feeder.machine.query(q.GetMailbox("a", "z")) is None


def test_a_special_use_has_one_mailbox_where_that_is_asked_for() -> None:
    feeder = Feeder(new_machine())
    sent = b"\\Sent"
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16), "\\Sent", sole_use=True))
    again = c.CreateMailbox("a", "y", 1, bytes(16), "\\Sent", sole_use=True)
    assert feeder.refused(again) == "CANNOT"
    feeder.do(c.CreateMailbox("a", "y", 1, bytes(16)))
    use = c.SetAnnotations("a", "y", (("/private/specialuse", sent), ("/private/x", b"y")))
    assert feeder.refused(use) == "CANNOT"
    assert feeder.machine.query(q.GetAnnotations("a", "y")) == q.AnnotationValues(())
    feeder.do(c.SetAnnotations("a", "x", (("/private/specialuse", None),)))
    feeder.do(use)
    told = q.AnnotationValues((("/private/specialuse", sent), ("/private/x", b"y")))
    assert feeder.machine.query(q.GetAnnotations("a", "y")) == told
    info = feeder.machine.query(q.GetMailbox("a", "y"))
    assert isinstance(info, q.MailboxInfo) and info.special_use == "\\Sent"
    assert feeder.refused(c.SetAnnotations("a", None, (("/private/specialuse", sent),))) == "CANNOT"


def test_annotations_of_all_mailboxes_are_listed_by_name_or_by_digest() -> None:
    feeder = Feeder(new_machine())
    feeder.do(c.CreateMailbox("a", "x", 1, bytes(16), "\\Sent"))
    for where in ("x", None):
        feeder.do(c.SetAnnotations("a", where, (("/private/x", b"1"), ("/shared/y", b"2"))))
    use = (1, "/private/specialuse", b"\\Sent")
    every = q.AnnotationList(
        (
            (0, "/private/x", b"1"),
            (0, "/shared/y", b"2"),
            use,
            (1, "/private/x", b"1"),
            (1, "/shared/y", b"2"),
        )
    )
    query = feeder.machine.query
    assert query(q.ListAnnotations("a", (), digests=False)) == every
    named = q.ListAnnotations("a", ("/private/x", "/private/specialuse"), digests=False)
    told = q.AnnotationList(((0, "/private/x", b"1"), use, (1, "/private/x", b"1")))
    assert query(named) == told
    digests = query(q.ListAnnotations("a", (), digests=True))
    assert isinstance(digests, q.AnnotationList)
    assert [entry[:2] for entry in digests.entries] == [entry[:2] for entry in every.entries]
    assert {len(entry[2]) for entry in digests.entries} == {8}


def test_the_digest_differs_when_an_annotation_does() -> None:
    digests = set()
    for value in (None, b"one", b"two"):
        machine = new_machine()
        Feeder(machine).do(c.SetAnnotations("a", None, (("/private/x", value),)))
        digests.add(machine.index.digest())
    assert len(digests) == 3
