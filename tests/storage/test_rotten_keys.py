"""A key that rots hides its row from whoever looks for it: that is damage, and not the same as no
row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raftmail.mail.uidset import UidSet
from raftmail.storage import messages
from raftmail.storage.dates import MessageDates
from raftmail.storage.index import TABLES, Index, IndexIdentity
from raftmail.storage.kv import LmdbEngine
from raftmail.storage.records import (
    MESSAGE_KEY,
    IndexDamaged,
    MailboxRecord,
    unpack_message,
)

FIXED_BYTES = 64
MESSAGES = 9
KEY = bytes(32)

BITS_OF_NAMES = (0, 1, 3, 4, 5, 6, 30, 33, 62, 66)
BITS_OF_MESSAGES = (34, 57, 58, 62, 63, 64, 80, 88, 90, 91, 92, 94)
"""Some make the key lower than those before it, which hides the rows before it as well."""


def _mailbox(index: Index) -> MailboxRecord:
    found = index.mailboxes.named("b@x.org", "INBOX")
    assert found is not None
    return found


def _look_for_names(index: Index) -> None:
    assert index.mailboxes.named("b@x.org", "INBOX") is not None


def _list_names(index: Index) -> None:
    assert len(index.mailboxes.of("b@x.org")) == 1


def _look_for_messages(index: Index) -> None:
    for uid in range(1, MESSAGES + 1):
        assert index.messages.message(_mailbox(index), uid) is not None


def _list_messages(index: Index) -> None:
    mailbox = _mailbox(index)
    for high in range(1, MESSAGES + 1):
        rows = list(index.messages.pages(mailbox, UidSet.from_ranges([(1, high)])))
        assert sum(map(len, rows)) == high


def _choose_messages(index: Index) -> None:
    mailbox = _mailbox(index)
    for uids in ([1, 3, 5, 7, 9], [2, 4, 6, 8]):
        rows = list(index.messages.pages(mailbox, UidSet.from_uids(uids)))
        assert sum(map(len, rows)) == len(uids)


def _page_messages(index: Index) -> None:
    """Pages that are full, so that nobody looks for the end of the range."""
    mailbox = _mailbox(index)
    for low in range(1, MESSAGES):
        uids = UidSet.from_ranges([(low, MESSAGES)])
        for key, record in index.messages.rows(mailbox, uids, 2):
            unpack_message(key, record)


def _page_through_messages(index: Index) -> None:
    mailbox = _mailbox(index)
    for low in range(1, MESSAGES):
        uids = UidSet.from_ranges([(low, low + 1)])
        for key, record in next(iter(index.messages.pages(mailbox, uids))):
            unpack_message(key, record)


def _look_for_users(index: Index) -> None:
    for name in "abc":
        assert index.users.get(f"{name}@x.org") is not None


def _list_subscriptions(index: Index) -> None:
    for name in "abc":
        assert index.subscriptions.of(f"{name}@x.org") == ["INBOX"]


def _list_acls(index: Index) -> None:
    for number in range(1, 4):
        assert index.acls.of(number) == (("d@x.org", "lr"),)


def _look_for_seen(index: Index) -> None:
    for number in range(1, 4):
        assert index.seen.is_own(number)
        assert index.seen.of(number, "d@x.org") == UidSet.single(1)


def _list_sharers(index: Index) -> None:
    for name in "abc":
        assert index.sharers.of(f"{name}@x.org") == ["d@x.org"]


def _list_annotations(index: Index) -> None:
    for name in "abc":
        assert index.annotations.of(f"{name}@x.org", 0) == {"/private/x": b"value"}
        assert index.annotations.of_all(f"{name}@x.org") == [(0, "/private/x", b"value")]


def _list_scripts(index: Index) -> None:
    for name in "abc":
        assert index.scripts.of(f"{name}@x.org") == [("main", b"keep;")]


def _look_for_scripts(index: Index) -> None:
    for name in "abc":
        assert index.scripts.get(f"{name}@x.org", "main") == b"keep;"


def _look_for_deliveries(index: Index) -> None:
    for name in "abc":
        assert index.delivered.find(f"{name}@x.org", KEY) is not None


def _look_for_dates(index: Index) -> None:
    for number in range(1, 4):
        for uid in range(1, MESSAGES + 1):
            assert index.messages.dates.get(MESSAGE_KEY.pack(number, uid)) is not None


def _list_dates(index: Index) -> None:
    rows = index.messages.records.page(b"", None)
    found = index.messages.dates.of(rows[MESSAGES : 2 * MESSAGES])
    assert len(found) == MESSAGES


LOOKS = [
    ("names", _look_for_names),
    ("names", _list_names),
    ("messages", _look_for_messages),
    ("messages", _list_messages),
    ("messages", _choose_messages),
    ("messages", _page_messages),
    ("messages", _page_through_messages),
    ("users", _look_for_users),
    ("subscriptions", _list_subscriptions),
    ("acls", _list_acls),
    ("sharers", _list_sharers),
    ("seen", _look_for_seen),
    ("annotations", _list_annotations),
    ("scripts", _list_scripts),
    ("scripts", _look_for_scripts),
    ("delivered", _look_for_deliveries),
    ("dates", _look_for_dates),
    ("dates", _list_dates),
]


def _make(folder: Path) -> None:
    index = Index(LmdbEngine(folder, TABLES), IndexIdentity("c", 1, "1"))
    for number, user in enumerate(["a@x.org", "b@x.org", "c@x.org"]):
        mailbox = index.new_mailbox(user, "INBOX", bytes(16), number + 1, "")
        index.mailboxes.add(mailbox)
        for _ in range(MESSAGES):
            dates = MessageDates(60, 1)
            fixed = bytes(FIXED_BYTES)
            index.messages.add(mailbox, mailbox.uidnext, 0, 0, fixed, b"summary", dates)
        index.users.put(user, "hash")
        index.subscriptions.put(user, "INBOX")
        index.acls.put(number + 1, (("d@x.org", "lr"),))
        index.sharers.put(user, "d@x.org")
        index.seen.set_own(number + 1, True)
        index.seen.put(number + 1, "d@x.org", UidSet.single(1))
        index.annotations.put(user, 0, [("/private/x", b"value")])
        index.scripts.put(user, "main", b"keep;")
        index.delivered.add(user, KEY, (number + 1, 1, 1, 1), 0, 0)
    index.commit()
    index.close()


def _flip(path: Path, table: str, at: int, bit: int) -> None:
    """Change a bit of the key of a row, in the file, where LMDB takes it for a key like any
    other."""
    engine = LmdbEngine(path.parent, TABLES)
    row = engine.table(table).page(b"", None)[at]
    engine.close()
    data = bytearray(path.read_bytes())
    start = data.find(row[0] + row[1])
    assert start >= 0
    while start >= 0:
        data[start + bit // 8] ^= 1 << bit % 8
        start = data.find(row[0] + row[1], start + 1)
    path.write_bytes(data)


@pytest.mark.parametrize(("table", "look"), LOOKS, ids=[look.__name__ for _, look in LOOKS])
def test_what_a_rotten_key_hides_is_damage_and_not_missing(
    tmp_path: Path, table: str, look: Callable[[Index], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if look is _page_through_messages:
        monkeypatch.setattr(messages, "PAGE_ROWS", 2)
    _make(tmp_path / "good")
    by_message = table in ("messages", "dates")
    rows = MESSAGES + MESSAGES // 2 + (table == "dates") if by_message else 1
    good = (tmp_path / "good" / "data.mdb").read_bytes()
    for bit in BITS_OF_MESSAGES if by_message else BITS_OF_NAMES:
        (tmp_path / "rotten").mkdir(exist_ok=True)
        (tmp_path / "rotten" / "data.mdb").write_bytes(good)
        _flip(tmp_path / "rotten" / "data.mdb", table, rows, bit)
        engine = LmdbEngine(tmp_path / "rotten", TABLES)
        try:
            with pytest.raises(IndexDamaged):
                look(Index(engine))
        finally:
            engine.close()


@pytest.mark.parametrize(("table", "look"), LOOKS, ids=[look.__name__ for _, look in LOOKS])
def test_without_rot_all_is_found(
    tmp_path: Path, table: str, look: Callable[[Index], None]
) -> None:
    _make(tmp_path / "good")
    engine = LmdbEngine(tmp_path / "good", TABLES)
    index = Index(engine)
    look(index)
    mailbox = _mailbox(index)
    assert index.messages.message(mailbox, MESSAGES + 1) is None
    assert index.mailboxes.named("b@x.org", "Other") is None and index.users.get("d@x.org") is None
    assert index.delivered.find("d@x.org", KEY) is None
    engine.close()
