"""A replica that fell behind becomes what the source is, whatever happened in between."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.mail import commands as c
from raftmail.mail.queries import FetchMessages, MessagePage
from raftmail.mail.uidset import UidSet
from raftmail.resync.limits import ResyncLimits
from raftmail.storage.records import IndexDamaged
from tests.resync.ends import History, Node, assert_equal, resync

USERS = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["INBOX", "x", "y", "x/z"])
UIDS = st.tuples(st.integers(1, 30), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES, USERS),
    st.tuples(st.just("save"), NAMES, USERS, st.integers(1, 9), st.integers(0, 40)),
    st.tuples(st.just("flag"), NAMES, UIDS, st.sampled_from(["\\Seen", "k1", "k2"])),
    st.tuples(st.just("unflag"), NAMES, UIDS, st.sampled_from(["\\Seen", "k1"])),
    st.tuples(st.just("expunge"), NAMES, UIDS),
    st.tuples(st.just("copy"), NAMES, UIDS, NAMES, st.booleans()),
    st.tuples(st.just("delete"), NAMES, USERS),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("subscribe"), NAMES, st.booleans()),
    st.tuples(st.just("annotate"), NAMES, st.booleans()),
    st.tuples(st.just("script"), NAMES, st.booleans()),
    st.tuples(st.just("share"), NAMES, st.booleans()),
    st.tuples(st.just("user"), st.sampled_from(["u", "v"]), st.booleans()),
    st.tuples(st.just("configure"), st.sampled_from(["color/a", "color/b"]), st.booleans()),
)


def history_of(steps: list[tuple[object, ...]]) -> History:
    log = History()
    for step in steps:
        match step:
            case ("create", str(name), str(user)):
                log.create(name, user)
            case ("save", str(name), str(user), int(count), int(salt)):
                texts = [f"m{salt + i}" for i in range(count)]
                log.save(name, *texts, user=user, client=salt % 5, keyed=salt % 2 == 0)
            case ("flag", str(name), (int(low), int(high)), str(flag)):
                log.flag(name, low, high, flag)
            case ("unflag", str(name), (int(low), int(high)), str(flag)):
                log.flag(name, low, high, flag, add=False)
            case ("expunge", str(name), (int(low), int(high))):
                log.expunge(name, low, high)
            case ("copy", str(name), (int(low), int(high)), str(to), bool(move)):
                log.copy(name, low, high, to, move=move)
            case ("delete", str(name), str(user)):
                log.do(c.DeleteMailbox(user, name))
            case ("rename", str(name), str(new)):
                log.do(c.RenameMailbox("a", name, new, 5, b"guid of a rename"))
            case ("subscribe", str(name), bool(on)):
                log.do(c.Subscribe("a", name, on))
            case ("annotate", str(name), bool(on)):
                value = b"value %d" % len(log) if on else None
                where = name if len(log) % 3 else None
                log.do(c.SetAnnotations("a", where, (("/private/comment", value),)))
            case ("script", str(name), bool(on)):
                log.do(c.PutScript("a", name, b"# %d" % len(log)))
                log.do(c.ActivateScript("a", name if on else ""))
            case ("share", str(name), bool(on)):
                log.do(c.NoteSharer("b", name.lower()))
                log.do(c.SetAcl("a", name, "b", c.StoreMode.REPLACE, "lrs" if on else ""))
                log.do(c.SetOwnSeen("a", name, len(log) % 3 > 0))
                everything = UidSet.parse("1:*")
                store = c.Store("a", name, everything, c.StoreMode.ADD, ("\\Seen",))
                log.do(c.GuestCommand("b", store))
            case ("user", str(name), bool(there)):
                address = f"{name}@example.org"
                log.do(c.PutUser(address, f"hash{len(log)}") if there else c.RemoveUser(address))
            case ("configure", str(name), bool(there)):
                log.do(c.Configure(((name, b"%d" % len(log) if there else None), ("last", b"x"))))
            case _:
                raise AssertionError(step)
    return log


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=40), st.data())
def test_any_prefix_of_a_history_becomes_the_whole(
    steps: list[tuple[object, ...]], data: st.DataObject
) -> None:
    log = history_of(steps)
    cut = data.draw(st.integers(0, len(log)))
    giver, target = Node("giver"), Node("target")
    log.save("INBOX", "last")
    giver.apply(log.entries)
    target.apply(log.entries[:cut])
    resync(target, giver)
    assert target.sink.take_finished() == (giver.index.applied_index, 3)
    assert target.index.durable_index == giver.index.applied_index
    assert_equal(target, giver)
    referenced = {key for key, _ in giver.rows()["blobrefs"]}
    assert referenced <= set(target.bodies.bodies)
    assert target.sink.missing.total() == (0, 0)
    more = History()
    more.entries = list(log.entries)
    more.save("INBOX", "after", "wards")
    more.expunge("INBOX", 1, 3)
    giver.apply(more.entries[len(log) :])
    target.apply(more.entries[len(log) :])
    assert_equal(target, giver)


@settings(max_examples=30)
@given(st.lists(STEPS, max_size=25), st.lists(STEPS, max_size=25))
def test_a_replica_with_another_history_becomes_the_source(
    mine: list[tuple[object, ...]], theirs: list[tuple[object, ...]]
) -> None:
    """It never comes to that; but what is there is compared, not believed."""
    giver, target = Node("giver", ResyncLimits()), Node("target", ResyncLimits())
    log, own = history_of(theirs), history_of(mine)
    while len(log) <= len(own):
        log.save("INBOX", "filler")
    giver.apply(log.entries)
    target.apply(own.entries)
    resync(target, giver)
    assert_equal(target, giver)


def test_a_source_that_has_not_committed_lately_serves_who_stands_ahead_of_its_commit() -> None:
    giver, target = Node("giver"), Node("target")
    log = History()
    log.save("INBOX", "one")
    log.save("INBOX", "two")
    log.save("INBOX", "three")
    giver.apply(log.entries[:1])
    for payload, bodies in log.entries[1:]:
        for digest, body in bodies.items():
            giver.bodies.append(digest, body)
        giver.machine.apply(giver.machine.applied_index + 1, 3, payload)
    target.apply(log.entries[:2])
    assert giver.index.committed_index < target.index.applied_index
    resync(target, giver)
    assert_equal(target, giver)


def test_an_equal_replica_is_told_so() -> None:
    giver, target = Node("giver"), Node("target")
    log = History()
    log.save("INBOX", "one")
    giver.apply(log.entries)
    target.apply(log.entries)
    target.sink.start(0.0, "giver", 1, records=True, full=True)
    target.sink.lost(0.0, "the test begins another way")
    resync(target, giver, 2, full=True)
    assert_equal(target, giver)


def test_what_was_delivered_is_known_after_a_resync() -> None:
    log = History()
    log.save("INBOX", "before", keyed=True)
    behind = len(log)
    log.save("INBOX", *[f"m{number}" for number in range(40)], keyed=True)
    log.expunge("INBOX", 1, 30)
    source, target = Node("source"), Node("target")
    source.apply(log.entries)
    target.apply(log.entries[:behind])
    resync(target, source)
    log.save("INBOX", "before", *[f"m{number}" for number in range(40)], "new", keyed=True)
    for node in (source, target):
        node.apply(log.entries[-1:])
    assert_equal(target, source)
    inbox = target.index.mailboxes.named("a", "INBOX")
    assert inbox is not None
    assert inbox.uidnext == 43


def test_dates_are_the_same_after_a_resync_and_stay_so() -> None:
    log = History()
    log.save("INBOX", "before", "and after")
    behind = len(log)
    log.save("INBOX", *[f"m{number}" for number in range(40)])
    log.expunge("INBOX", 1, 30)
    source, target = Node("source"), Node("target")
    source.apply(log.entries)
    target.apply(log.entries[:behind])
    resync(target, source)
    log.copy("INBOX", 31, 36, "INBOX", move=True)
    log.expunge("INBOX", 37, 40)
    for node in (source, target):
        node.apply(log.entries[-2:])
    assert_equal(target, source)
    page = target.machine.query(FetchMessages("a", "INBOX", UidSet.parse("1:*")))
    assert isinstance(page, MessagePage)
    assert [(one.uid, one.zone_minutes) for one in page.messages] == [
        (41, 0), (42, 60), (43, 0), (44, 60), (45, 0), (46, 60), (47, 0), (48, 60),
    ]  # fmt: skip


@pytest.mark.parametrize("table", ["deliveries", "delivered", "dates"])
def test_what_rotted_of_a_small_table_is_what_the_source_has_after_a_resync(table: str) -> None:
    log = History()
    log.save("INBOX", *[f"m{number}" for number in range(20)], keyed=True)
    source, target = Node("source"), Node("target")
    for node in (source, target):
        node.apply(log.entries)
    rows = target.engine.table(table)
    for key, record in rows.page(b"", None)[3:6]:
        rows.set(key, record[:-1] + bytes((record[-1] ^ 1,)))
    assert target.sink.suspect(IndexDamaged(table, b"key"))
    resync(target, source)
    assert_equal(target, source)
