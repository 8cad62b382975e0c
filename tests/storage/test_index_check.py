"""fsck of the index finds each kind of damage and finds none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from zlib import crc32

import pytest

from raftmail.mail import commands as c
from raftmail.mail.uidset import UidSet
from raftmail.shard.machine import Machine
from raftmail.storage.check import PROBLEMS_MAX, check
from raftmail.storage.records import (
    BLOBREF,
    CHANGE_KEY,
    CRC,
    EXPUNGE_KEY,
    MESSAGE,
    MESSAGE_KEY,
    NUMBER,
    IndexDamaged,
    MailboxRecord,
    seal,
    seal_packed,
    unseal_packed,
)
from raftmail.storage.script_table import ScriptTable
from tests.shard.machines import CLIENT, Feeder, body_hash, message, new_machine, save
from tests.simulation.kv import MemoryEngine


def _machine() -> tuple[Machine, MemoryEngine]:
    machine = new_machine()
    feeder = Feeder(machine)
    feeder.do(c.CreateMailbox("a", "x", 5, bytes(16)))
    feeder.do(c.Subscribe("a", "x", True))
    feeder.do(c.SetAcl("a", "x", "b", c.StoreMode.ADD, "lr"))
    feeder.do(c.NoteSharer("a", "b"))
    feeder.do(c.SetOwnSeen("a", "x", True))
    feeder.do(c.SetAnnotations("a", "x", (("/private/comment", b"value"),)))
    feeder.do(c.SetAnnotations("a", None, (("/private/comment", b"value"),)))
    feeder.do(c.PutScript("a", "main", b"keep;"))
    feeder.do(c.ActivateScript("a", "main"))
    feeder.do(c.PutUser("a@x.org", "hash"))
    feeder.do(c.Configure((("color/n1", b"value"), ("color/n2", b"value"))))
    feeder.do(c.Configure((("color/n2", None),)))
    saved = save(*(message(text, flags=("k",)) for text in ("one", "two", "two", "three")))
    keyed = replace(saved.messages[0], delivery_keys=(b"k" * 32,), zone_minutes=60)
    feeder.do(replace(saved, messages=(keyed, *saved.messages[1:]), delivered_once_s=60))
    feeder.do(c.Expunge("a", "INBOX", UidSet.single(4)))
    machine.index.put_places([(bytes(32), b"place")])
    machine.index.put_local(b"key", b"value")
    machine.commit()
    engine = machine.index.engine
    assert isinstance(engine, MemoryEngine)
    return machine, engine


KEY = MESSAGE_KEY.pack(2, 1)


def _mailbox_with(engine: MemoryEngine, **fields: object) -> None:
    key = NUMBER.pack(2)
    table = engine.table("mailboxes")
    record = table.get(key)
    assert record is not None
    mailbox = MailboxRecord.unpacked(unseal_packed("mailboxes", key, record))
    for name, value in fields.items():
        setattr(mailbox, name, value)
    table.put(key, seal_packed(key, mailbox.packed()))


def _message_with(engine: MemoryEngine, at: int, value: object) -> None:
    record = engine.table("messages").get(KEY)
    assert record is not None
    fields = list(MESSAGE.unpack(record))
    fields[at] = value
    body = MESSAGE.pack(*fields)[:-4]
    engine.table("messages").put(KEY, body + CRC.pack(crc32(body, 2)))


def _flip(table: str) -> Callable[[MemoryEngine], None]:
    def damage(engine: MemoryEngine) -> None:
        key, record = engine.table(table).page(b"", None, 1)[0]
        at = len(record) // 2
        engine.table(table).put(key, record[:at] + bytes([record[at] ^ 4]) + record[at + 1 :])

    return damage


_SEEN = NUMBER.pack(2) + b"b"
_KEY_OF_X, _KEY_OF_NONE = NUMBER.pack(1), NUMBER.pack(99)
_CHANGE = CHANGE_KEY.pack(2, 2, 1)
_ANNOTATED = b"a\0" + NUMBER.pack(2) + b"/private/comment"
_UNCOUNTED = b"a\0" + NUMBER.pack(2) + b"/private/x"
_STRAY = b"a\0" + NUMBER.pack(99) + b"/private/x"
_FOREIGN = b"b\0" + NUMBER.pack(2) + b"/private/x"
_MISNAMED = b"a\0" + NUMBER.pack(2) + b"x"
_MAIN, _SCRIPT = b"a\0main", b"a\0x"
_ORDER = b"r" + NUMBER.pack(2) + bytes(2)
_DAMAGES: dict[str, tuple[Callable[[MemoryEngine], object], str]] = {
    **{
        f"a flipped bit in {table}": (_flip(table), "damaged")
        for table in (
            "mailboxes", "names", "subscriptions", "acls", "sharers", "seen",
            "annotations", "scripts", "users", "config",
            "messages", "summaries", "changes",
            "expunges", "blobrefs", "clients", "deliveries", "delivered", "dates", "places",
            "local", "meta",
        )
    },
    "an annotation of no mailbox": (
        lambda e: e.table("annotations").put(_STRAY, seal(_STRAY, b"value")),
        "no such mailbox",
    ),
    "an annotation with another name": (
        lambda e: e.table("annotations").put(_MISNAMED, seal(_MISNAMED, b"value")),
        "a name is /private/",
    ),
    "an annotation of another user's mailbox": (
        lambda e: e.table("annotations").put(_FOREIGN, seal(_FOREIGN, b"value")),
        "another user's",
    ),
    "an annotation that is nobody's": (
        lambda e: e.table("annotations").put(b"x", seal(b"x", b"value")),
        "nobody's",
    ),
    "an annotation that is not counted": (
        lambda e: e.table("annotations").put(_UNCOUNTED, seal(_UNCOUNTED, b"value")),
        "tells of 2 rows, but there are 3",
    ),
    "an annotation of other bytes": (
        lambda e: e.table("annotations").put(_ANNOTATED, seal(_ANNOTATED, b"eulav")),
        "or others",
    ),
    "a script that is nobody's": (
        lambda e: e.table("scripts").put(b"x", seal(b"x", b"value")),
        "nobody's",
    ),
    "a script that is not counted": (
        lambda e: e.table("scripts").put(_SCRIPT, seal_packed(_SCRIPT, ("x", b"keep;"))),
        "tells of 1 rows, but there are 2",
    ),
    "a script with another name": (
        lambda e: e.table("scripts").put(_SCRIPT, seal_packed(_SCRIPT, ("y", b"keep;"))),
        "the script has another name",
    ),
    "a script of other bytes": (
        lambda e: e.table("scripts").put(_MAIN, seal_packed(_MAIN, ("main", b"stop;"))),
        "or others",
    ),
    "a script that no node takes": (
        lambda e: e.table("scripts").put(_MAIN, seal_packed(_MAIN, ("main", bytes(1 << 20)))),
        "a script has at most",
    ),
    "an active script that is not there": (
        lambda e: ScriptTable(e).activate("a", "y"),
        "the script that is active is not there",
    ),
    "what was seen where guests have not the own": (
        lambda e: e.table("seen").put(_SEEN, seal_packed(_SEEN, 7)),
        "guests have not the own",
    ),
    "what was seen that is no set": (
        lambda e: e.table("seen").put(_SEEN, seal_packed(_SEEN, "x")),
        "damaged",
    ),
    "who may do what with no mailbox": (
        lambda e: e.table("acls").put(_KEY_OF_NONE, seal_packed(_KEY_OF_NONE, (("b", "lr"),))),
        "no such mailbox",
    ),
    "rights that there are not": (
        lambda e: e.table("acls").put(_KEY_OF_X, seal_packed(_KEY_OF_X, (("b", "lz"),))),
        "is no right",
    ),
    "a missing message": (lambda e: e.table("messages").delete(KEY), "tells of 3 messages"),
    "a missing summary": (lambda e: e.table("summaries").delete(KEY), "summary is missing"),
    "a summary too many": (
        lambda e: e.table("summaries").put(MESSAGE_KEY.pack(2, 9), seal(b"", b"")),
        "without a message",
    ),
    "another message's summary": (
        lambda e: e.table("summaries").put(KEY, seal(KEY, b"other")),
        "another message's",
    ),
    "a missing change": (lambda e: e.table("changes").delete(_CHANGE), "table of changes"),
    "a configured record that is not filed by its revision": (
        lambda e: e.table("config").delete(_ORDER),
        "revision and place (2, 0), and is filed under None",
    ),
    "a configured record that is missing": (
        lambda e: e.table("config").delete(b"kcolor/n1"),
        "revision and place None",
    ),
    "a revision below that of a record": (
        lambda e: e.table("config").put(b"s", seal_packed(b"s", (1, 0, 1))),
        "revision 1, floor 0",
    ),
    "a change too many": (
        lambda e: e.table("changes").put(
            CHANGE_KEY.pack(2, 1, 1), CRC.pack(crc32(CHANGE_KEY.pack(2, 1, 1)))
        ),
        "not a message's",
    ),
    "a missing name": (
        lambda e: e.table("names").delete(b"a\0INBOX"), "no row in the table of names"
    ),
    "a name of no mailbox": (
        lambda e: e.table("names").put(b"a\0z", seal(b"a\0z", NUMBER.pack(77))),
        "mailbox 77, which does not exist",
    ),
    "a second name": (
        lambda e: e.table("names").put(b"a\0z", seal(b"a\0z", NUMBER.pack(2))),
        "which has another name",
    ),
    "a missing mailbox": (
        lambda e: e.table("mailboxes").delete(NUMBER.pack(2)), "mailbox 2, which does not exist"
    ),
    "a wrong count": (lambda e: _mailbox_with(e, messages=4), "tells of 4 messages, but has 3"),
    "a wrong count of unseen": (lambda e: _mailbox_with(e, unseen=1), "1 unseen messages"),
    "a wrong size": (lambda e: _mailbox_with(e, size_bytes=1), "1 bytes, but has 9"),
    "a wrong mailbox digest": (lambda e: _mailbox_with(e, digest=1), "digest is not that of its"),
    "a UID that would be given twice": (lambda e: _mailbox_with(e, uidnext=3), "would give UID 3"),
    "a modseq from the future": (lambda e: _mailbox_with(e, highestmodseq=1), "modseq 2 is above"),
    "keywords nobody knows": (lambda e: _mailbox_with(e, keywords=[]), "does not know"),
    "a wrong message digest": (lambda e: _message_with(e, 6, bytes(16)), "not that of its fields"),
    "wrong flags": (lambda e: _message_with(e, 2, 1), "not that of its fields"),
    "an expunged message that is there": (
        lambda e: e.table("expunges").put(
            EXPUNGE_KEY.pack(2, 3), seal_packed(EXPUNGE_KEY.pack(2, 3), 1)
        ),
        "that is there is said to have left",
    ),
    "an expunged message that never was": (
        lambda e: e.table("expunges").put(
            EXPUNGE_KEY.pack(2, 3), seal_packed(EXPUNGE_KEY.pack(2, 3), 99)
        ),
        "what never was",
    ),
    "a lost row of the expunge log": (
        lambda e: e.table("expunges").delete(EXPUNGE_KEY.pack(2, 3)), "1 rows of its expunge log"
    ),
    "a wrong count of a body": (
        lambda e: e.table("blobrefs").put(
            body_hash("two"), seal(body_hash("two"), BLOBREF.pack(3, 3))
        ),
        "belong to 3 messages, but belongs to 2",
    ),
    "a body not counted": (
        lambda e: e.table("blobrefs").delete(body_hash("one")), "is not counted"
    ),
    "a result below the floor": (
        lambda e: e.table("clients").put(
            CLIENT, seal_packed(CLIENT, (5, 9, [(3, (1,))], []))
        ),
        "below its floor",
    ),
    "a mailbox number that would be given twice": (
        lambda e: e.table("meta").put(b"state", seal_packed(b"state", (5, 1, 2, 9999))),
        "next mailbox would be 2",
    ),
    "a UIDVALIDITY that would be given twice": (
        lambda e: e.table("meta").put(b"state", seal_packed(b"state", (5, 1, 9, 4))),
        "the last UIDVALIDITY is 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", _DAMAGES)
def test_each_damage_is_found_and_told_in_plain_words(damage: str) -> None:
    _, engine = _machine()
    plant, words = _DAMAGES[damage]
    plant(engine)
    problems = check(engine)
    assert any(words in str(problem) for problem in problems), problems


def test_a_sound_index_has_no_problems() -> None:
    machine, engine = _machine()
    assert check(machine.index) == []
    assert check(engine.snapshot()) == []


def test_problems_are_bounded() -> None:
    machine, engine = _machine()
    for number in range(PROBLEMS_MAX + 10):
        engine.table("names").put(b"%d\0x" % number, b"")
    assert len(check(machine.index)) == PROBLEMS_MAX


@pytest.mark.parametrize("table", ["messages", "mailboxes", "clients", "meta"])
def test_damage_is_met_as_an_error_that_names_table_and_key(table: str) -> None:
    _, engine = _machine()
    _flip(table)(engine)
    with pytest.raises(IndexDamaged, match=table) as caught:
        feeder = Feeder(new_machine(engine))
        feeder.seq = 100
        feeder.do(c.Expunge("a", "INBOX", UidSet.single(1)))
        feeder.machine.index.mailboxes.of("a")
    assert caught.value.table == table
    assert caught.value.key
