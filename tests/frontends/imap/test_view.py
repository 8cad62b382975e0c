"""A client that believes what it is told has the mailbox as it is, whoever changes it meanwhile."""

from __future__ import annotations

import random
import re

import pytest

from raftmail.frontends.imap.sequence import SequenceSet
from raftmail.frontends.imap.view import MailboxView, NoSuchNumber
from raftmail.mail.queries import MessageInfo
from raftmail.mail.uidset import UidSet


def info(uid: int, modseq: int, *flags: str) -> MessageInfo:
    return MessageInfo(uid, b"g" * 16, modseq, flags, 0, 10, b"b" * 32)


def view_of(*uids: int) -> MailboxView:
    view = MailboxView("INBOX", 1, 7)
    view.begin(UidSet.from_uids(uids), 1)
    return view


def chosen(view: MailboxView, text: str, *, by_uid: bool = False) -> list[int]:
    return list(view.choose(SequenceSet(UidSet.parse(text)), by_uid=by_uid))


class Mailbox:
    """What there is, and what became of it at which modseq."""

    def __init__(self) -> None:
        self.modseq = 1
        self.uidnext = 1
        self.messages: dict[int, MessageInfo] = {}
        self.vanished: dict[int, int] = {}

    def change(self, rng: random.Random) -> None:
        self.modseq += 1
        kind = rng.random()
        if kind < 0.4 or not self.messages:
            self.messages[self.uidnext] = info(self.uidnext, self.modseq)
            self.uidnext += 1
            return
        uid = rng.choice(list(self.messages))
        if kind < 0.7:
            self.messages[uid] = info(uid, self.modseq, f"$k{rng.randrange(3)}")
        else:
            del self.messages[uid]
            self.vanished[uid] = self.modseq

    def change_by(self, rng: random.Random, view: MailboxView, client: Believer) -> None:
        """What the client's own command does: it is told flags at once, and the rest is noted."""
        known = [uid for uid in view.uids if uid in self.messages]
        self.modseq += 1
        kind = rng.random()
        if kind < 0.4 or not known:
            new = self.messages[self.uidnext] = info(self.uidnext, self.modseq)
            self.uidnext += 1
            view.note_own(self.modseq, came=[new])
        elif kind < 0.7:
            uid = rng.choice(known)
            changed = self.messages[uid] = info(uid, self.modseq, f"$k{rng.randrange(3)}")
            client.hear([view.flags_of(changed)])
            view.told(uid, self.modseq)
            view.note_own(self.modseq)
        else:
            uid = rng.choice(known)
            del self.messages[uid]
            self.vanished[uid] = self.modseq
            view.note_own(self.modseq, gone=UidSet.single(uid))

    def note_in(self, view: MailboxView) -> None:
        """As `MailboxReader.refresh`."""
        since = view.modseq
        changed = [m for m in self.messages.values() if m.modseq > since]
        gone = [uid for uid, modseq in self.vanished.items() if modseq > since]
        view.note(changed, UidSet.from_uids(gone), self.modseq)


class Believer:
    """A client: UIDs by number as far as it knows them, and flags."""

    def __init__(self) -> None:
        self.uids: list[int] = []
        self.flags: dict[int, str] = {}

    def hear(self, lines: list[bytes]) -> None:
        for line in b"".join(lines).splitlines():
            number, what, *rest = line.decode().removeprefix("* ").split(" ", 2)
            if number in ("FLAGS", "OK"):
                continue
            if number == "VANISHED":
                for uid in UidSet.parse(what.strip()):
                    self.uids.remove(uid)
            elif what.strip() == "EXPUNGE":
                del self.uids[int(number) - 1]
            elif what.strip() == "EXISTS":
                assert int(number) >= len(self.uids)
                self.uids += [0] * (int(number) - len(self.uids))
            else:
                found = re.match(r"\(UID (\d+) FLAGS \((.*?)\)", rest[0])
                assert found is not None
                at, uid = int(number) - 1, int(found[1])
                assert self.uids[at] in (0, uid), "a number means what it meant"
                self.uids[at] = uid
                self.flags[uid] = found[2]


@pytest.mark.parametrize("seed", range(60))
def test_a_client_that_believes_what_it_hears_is_right_whenever_it_was_told_everything(
    seed: int,
) -> None:
    rng = random.Random(seed)
    mailbox, view, client = Mailbox(), MailboxView("INBOX", 1, 7), Believer()
    by_vanished = rng.random() < 0.5
    for _ in range(120):
        for _ in range(rng.randrange(4)):
            mailbox.change(rng)
        for _ in range(rng.randrange(3)):
            mailbox.change_by(rng, view, client)
        if rng.random() < 0.6:
            mailbox.note_in(view)
        whole = rng.random() < 0.5
        client.hear(view.tell(expunges=whole, vanished=by_vanished))
        assert client.uids == list(view.uids)
        if whole and view.modseq == mailbox.modseq:
            assert client.uids == sorted(mailbox.messages)
            for uid, message in mailbox.messages.items():
                assert client.flags[uid] == " ".join(message.flags)


def test_a_message_that_came_and_went_unseen_is_never_told() -> None:
    view = view_of(1)
    view.note([info(2, 2)], UidSet(), 2)
    view.note([], UidSet.single(2), 3)
    assert view.tell(expunges=True) == [] and not view.has_news


def test_flags_that_the_client_has_been_told_are_not_told_again() -> None:
    view = view_of(1, 2)
    view.told(1, 5)
    view.note([info(1, 5, "\\Seen"), info(2, 5, "\\Seen")], UidSet(), 5)
    assert view.tell(expunges=False) == [b"* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n"]


def test_an_own_change_is_noted_only_where_nobody_elses_is_before_it() -> None:
    view = view_of(1, 2)
    assert view.note_own(2, gone=UidSet.single(1)) and view.modseq == 2
    assert view.tell(expunges=True) == [b"* 1 EXPUNGE\r\n"]
    assert view.note_own(2), "nothing is new"
    assert not view.note_own(4, gone=UidSet.single(2)), "somebody made 3"
    assert view.modseq == 2 and not view.has_news


def test_sets_name_what_the_client_has_numbers_for() -> None:
    view = view_of(3, 5, 9)
    assert chosen(view, "1:2") == [3, 5]
    assert chosen(view, "*") == [9] and chosen(view, "2:*") == [5, 9]
    assert chosen(view, "7:*") == [9], "as clients ask for what is new"
    assert chosen(view, "4:*", by_uid=True) == [5, 9]
    assert chosen(view, "100:*", by_uid=True) == [9]
    assert chosen(view, "4,6", by_uid=True) == []
    for text in ("4", "2:4"):
        with pytest.raises(NoSuchNumber, match="there is no message 4"):
            chosen(view, text)
    assert chosen(view_of(), "1:*") == [] == chosen(view_of(), "1:*", by_uid=True)


def test_a_number_whose_message_is_gone_stays_until_it_is_told() -> None:
    view = view_of(1, 2, 3)
    view.note([], UidSet.single(2), 2)
    assert chosen(view, "2:3") == [2, 3]
    assert view.tell(expunges=False) == [] and view.has_news
    assert view.tell(expunges=True) == [b"* 2 EXPUNGE\r\n"]
    assert chosen(view, "2") == [3]
