"""What the load knows of the mail of one user, and the operations that it makes up from that.

A user's mail stays small (`BIRTHS_MAX` messages), and is then left alone for a new user's. So the
checker can look at every order of the operations. A run of hours costs it no more for each message
than one of seconds.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos.history import Call

DELIVERIES = "lmtp"
"""The mailbox that LMTP delivers to: nothing is removed from it, nor are its flags changed, because
LMTP tells no UIDs."""

DOMAIN = "chaos.test"
WORKED = ("INBOX", "Work", "Trash")
MOVED = ("Drafts", "Letters", "Old")
"""Names that are made, renamed and removed all the time. Mail is saved under them and listed."""
ALL = UidSet.from_ranges([(1, (1 << 32) - 1)])
TOKEN_HEADER = b"X-Chaos-Token: "

BIRTHS_MAX = 70

_FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "$Later")
_OPEN_MAX = 6
"""Changes of one message whose outcome is open. More orders than these give, nobody can look at."""
_SIZES = ((0.70, 300, 4 << 10), (0.25, 4 << 10, 32 << 10), (0.045, 32 << 10, 256 << 10))
_SIZE_MAX = 4 << 20
_CROWDED = 0.1
"""The share of messages with many recipients in the header: their summaries make the log grow."""
_CROWD = (50, 600)
_CHANGES_OPEN_MAX = 3
"""Changes of names whose outcome is open, for one user."""

_MIX = (
    ("deliver", 20),
    ("save", 20),
    ("store", 15),
    ("copy", 8),
    ("move", 5),
    ("expunge", 6),
    ("list", 12),
    ("state", 5),
    ("body", 9),
    ("create", 3),
    ("rename", 3),
    ("delete", 2),
    ("file", 3),
    ("names", 2),
    ("look", 3),
)
_VERBS = [verb for verb, _ in _MIX]
_WEIGHTS = [weight for _, weight in _MIX]

Place = tuple[str, int]
"""Mailbox name and UID."""


class MailBag:
    """Makes messages: of mixed sizes to 4 MiB, most of them small, each with its token in the
    header."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ,."
        noise = rng.randbytes(_SIZE_MAX + (64 << 10))
        table = bytes(alphabet[at % len(alphabet)] for at in range(256))
        letters = noise.translate(table)
        self._text = b"".join(letters[at : at + 70] + b"\r\n" for at in range(0, len(letters), 70))

    def make(self, token: str) -> bytes:
        """A whole message, its lines ending in CRLF."""
        size = self._size()
        start = self.rng.randrange(0, (len(self._text) - size) // 72) * 72
        to = b"load@chaos.test"
        if self.rng.random() < _CROWDED:
            count = self.rng.randint(*_CROWD)
            to = b",\r\n ".join(
                [b"Reader %d <reader%d@chaos.test>" % (at, at) for at in range(count)]
            )
        return b"From: load@chaos.test\r\nSubject: %b\r\n%b%b\r\nTo: %b\r\n\r\n%b\r\n" % (
            token.encode(),
            TOKEN_HEADER,
            token.encode(),
            to,
            self._text[start : start + size].rstrip(b"\r\n"),
        )

    def _size(self) -> int:
        x = self.rng.random()
        for share, low, high in _SIZES:
            if x < share:
                return self.rng.randint(low, high)
            x -= share
        return self.rng.randint(256 << 10, _SIZE_MAX)


@dataclass(slots=True)
class Asked:
    """An operation that was made up. `body` is of a SAVE or a delivery (whose call is None),
    `places` are the messages it may change."""

    verb: str
    call: Call | None
    body: bytes = b""
    token: str = ""
    places: tuple[Place, ...] = ()


@dataclass(slots=True)
class Mailbag:
    """One user's mail, as far as answers have told."""

    user: str
    rng: random.Random
    bodies: MailBag
    births: int = 0
    """Messages that were asked for, in all mailboxes."""
    asked: int = 0
    uids: dict[str, set[int]] = field(default_factory=dict)
    gone: dict[str, set[int]] = field(default_factory=dict)
    modseqs: dict[str, int] = field(default_factory=dict)
    open: Counter[Place] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for name in (*WORKED, DELIVERIES):
            self.uids[name] = set()
            self.gone[name] = set()
            self.modseqs[name] = 1

    @property
    def is_full(self) -> bool:
        return self.births >= BIRTHS_MAX

    @property
    def is_overfull(self) -> bool:
        """No more may be asked: nobody could check it."""
        return self.births >= 4 * BIRTHS_MAX

    def next(self) -> Asked:
        """Make up an operation, and count what it may change as open."""
        self.asked += 1
        verb = self.rng.choices(_VERBS, _WEIGHTS)[0]
        asked = self._make(verb) or self._save()
        self.open.update(asked.places)
        return asked

    def _make(self, verb: str) -> Asked | None:
        """None when there is no message that it could be about."""
        rng = self.rng
        if verb == "deliver":
            self.births += 1
            token = self._token()
            return Asked(verb, None, self.bodies.make(token), token)
        if verb == "save":
            return self._save()
        if verb == "file":
            return self._save(MOVED)
        if verb in ("create", "rename", "delete"):
            return self._change_names(verb)
        if verb == "names":
            return Asked(verb, q.ListMailboxes(self.user))
        if verb == "look":
            name = rng.choice(MOVED)
            page = q.FetchMessages(self.user, name, ALL)
            return Asked(verb, page if rng.random() < 0.5 else q.GetMailbox(self.user, name))
        everywhere = (*WORKED, DELIVERIES)
        if verb == "list":
            return Asked(verb, self._list(rng.choice(everywhere)))
        if verb == "state":
            return Asked(verb, q.GetMailbox(self.user, rng.choice(everywhere)))
        changes = verb in ("store", "move", "expunge")
        name = rng.choice(WORKED if changes else everywhere)
        uids = self._pick(name, 1 if verb == "body" else 3)
        if not uids:
            return None
        if verb == "body":
            return Asked(verb, q.FetchBody(self.user, name, uids[0]))
        found = UidSet.from_uids(uids)
        places = tuple((name, uid) for uid in uids)
        if verb == "store":
            return Asked(verb, self._store(name, found), places=places)
        if verb == "expunge":
            only_deleted = rng.random() < 0.3
            return Asked(verb, c.Expunge(self.user, name, found, only_deleted), places=places)
        move = verb == "move"
        others = [other for other in WORKED if other != name or not move]
        target = c.Target(self.user, rng.choice(others))
        self.births += len(uids)
        copy = c.Copy(self.user, name, found, target, 0, move)
        return Asked(verb, copy, places=places)

    def _token(self) -> str:
        return f"{self.user.partition('@')[0]}-{self.asked}"

    def _change_names(self, verb: str) -> Asked | None:
        user, place = self.user, ("", 0)
        if self.open[place] >= _CHANGES_OPEN_MAX:
            return None
        name, other = self.rng.sample(MOVED, 2)
        calls: dict[str, Call] = {
            "create": c.CreateMailbox(user, name, 0, b""),
            "rename": c.RenameMailbox(user, name, other, 0, b""),
            "delete": c.DeleteMailbox(user, name),
        }
        return Asked(verb, calls[verb], places=(place,))

    def _save(self, among: tuple[str, ...] = WORKED) -> Asked:
        rng = self.rng
        self.births += 1
        token = self._token()
        # A body that many messages have is stored once.
        body = self.bodies.make(token) if rng.random() < 0.95 else b"Subject: again\r\n\r\n"
        names = [rng.choice(among)]
        if among is WORKED and rng.random() < 0.15:
            names = rng.sample(WORKED, 2)
            self.births += 1
        message = c.NewMessage(
            tuple(c.Target(self.user, name) for name in names),
            sha256(body).digest(),
            len(body),
            rng.randbytes(16),
            1_700_000_000_000_000 + self.asked,
            self._flags(2),
        )
        return Asked("save", c.Save(self.user, (message,), 0), body, token)

    def _store(self, name: str, uids: UidSet) -> c.Store:
        mode = self.rng.choice(tuple(c.StoreMode))
        flags = self._flags(3)
        if not flags and mode is not c.StoreMode.REPLACE:
            flags = ("\\Seen",)
        since = -1
        if self.rng.random() < 0.25:
            since = max(0, self.modseqs[name] - self.rng.randint(0, 3))
        return c.Store(self.user, name, uids, mode, flags, since)

    def _list(self, name: str) -> q.FetchMessages:
        since = 0
        if self.rng.random() < 0.3:
            since = max(0, self.modseqs[name] - self.rng.randint(0, 6))
        return q.FetchMessages(self.user, name, ALL, since)

    def _flags(self, most: int) -> tuple[str, ...]:
        return tuple(self.rng.sample(_FLAGS, self.rng.randint(0, most)))

    def _pick(self, name: str, most: int) -> list[int]:
        free = [uid for uid in sorted(self.uids[name]) if self.open[name, uid] < _OPEN_MAX]
        return self.rng.sample(free, min(len(free), self.rng.randint(1, most)))

    # -- what answers tell

    def settle(self, asked: Asked, *, lost: bool) -> None:
        """The operation has ended. What was lost stays open for ever."""
        if not lost:
            self.open.subtract(asked.places)

    def learn(self, call: Call, answer: object) -> None:
        """Take in UIDs and modseqs."""
        if isinstance(answer, r.SaveResult):
            assert isinstance(call, c.Save)
            for target, saved in zip(call.messages[0].targets, answer.saved, strict=True):
                self._there(str(target.mailbox), (saved.uid,), saved.modseq)
        elif isinstance(answer, r.CopyResult):
            assert isinstance(call, c.Copy)
            self._there(str(call.target.mailbox), answer.target_uids, answer.target_modseq)
            if call.move:
                self._gone(str(call.mailbox), answer.source_uids, answer.source_modseq)
        elif isinstance(answer, r.ExpungeResult):
            assert isinstance(call, c.Expunge)
            self._gone(str(call.mailbox), answer.uids, answer.highestmodseq)
        elif isinstance(answer, q.MessagePage):
            info = answer.mailbox
            self._there(info.name, [m.uid for m in answer.messages], info.highestmodseq)

    def _there(self, name: str, uids: UidSet | list[int] | tuple[int, ...], modseq: int) -> None:
        if name in MOVED:
            return
        self.uids[name].update(uid for uid in uids if uid not in self.gone[name])
        self.modseqs[name] = max(self.modseqs[name], modseq)

    def _gone(self, name: str, uids: UidSet, modseq: int) -> None:
        self.gone[name].update(uids)
        self.uids[name].difference_update(uids)
        self.modseqs[name] = max(self.modseqs[name], modseq)
