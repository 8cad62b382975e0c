"""A mail program without I/O: what it says next, and what it makes of the answers.

It keeps its mailboxes from one connection to the next, and comes back with QRESYNC. Whatever it was
told goes into the history as operations, so that the checker judges it beside all others (P5):

- SELECT and STATUS are reads of the mailbox's state;
- after SELECT and NOOP, all that it keeps of the mailbox is one read of all messages;
- STORE, EXPUNGE, MOVE and APPEND are writes. What they changed is not told in full (`Untold`).

What cannot be true by itself is a `MirrorBroken` or a `BadImapAnswer`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import inf
from typing import Final

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import STAR, UidSet
from raftmail_chaos.history import Call, Fate, Operation, Untold
from raftmail_chaos.imap_answers import (
    Fetched,
    ImapAnswer,
    ImapSplitter,
    imap_date,
    read_answer,
    uids_of,
)
from raftmail_chaos.imap_mirror import ImapMirror, MirrorBroken

ALL: Final = UidSet.from_ranges([(1, (1 << 32) - 1)])
APPENDED_FROM_S: Final = 1_000_000_000
APPENDED_TO_S: Final = 1_500_000_000
"""INTERNALDATE of messages that are appended; no other mail is as old."""
APPENDED_S: Final = 1_000_000
"""How many seconds there are for each mail program's messages, one for each message."""

_STEPS: Final = {
    "noop": 8,
    "store": 3,
    "silent": 6,
    "expunge": 2,
    "move": 2,
    "append": 2,
    "status": 2,
    "select": 3,
    "idle": 2,
    "body": 2,
}
_STATUS_ITEMS: Final = dict.fromkeys(("MESSAGES", "UIDNEXT", "UIDVALIDITY", "HIGHESTMODSEQ"))
_FLAGS: Final = ("\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "$Later")
_TOUCHED_MAX: Final = 5
_EXCUSED: Final = ("UNAVAILABLE",)
"""Codes of a NO that any command may have: it waited for too long, or the disk was full. An error
of the server's own (`SERVERBUG`) is no excuse."""
_NOTHING: Final = ("TRYCREATE",)
"""Those that tell that nothing happened: INBOX is made with the first mail."""


@dataclass(slots=True)
class _Doing:
    """The command that is under way, about the mailbox `name`. `call` is of a write. The others are
    what was told since it was asked."""

    verb: str
    line: str
    tag: bytes
    invoked: float
    name: str
    call: c.Command | None = None
    copied: list[bytes] = field(default_factory=list)
    told: tuple[tuple[str, int], ...] = ()
    fetched: Fetched | None = None


@dataclass(slots=True)
class _Look:
    """What a mailbox was, to be told once all messages in it can be named."""

    mirror: ImapMirror
    invoked: float
    returned: float
    mails: dict[int, tuple[frozenset[str], int]]
    asked: bool = False
    """Whether the names were asked for: a message may have gone meanwhile."""


@dataclass(slots=True)
class ImapReader:
    """`number` is this program's among all of a user's; `record` takes what goes into the history.
    `writes` is whether it changes anything."""

    name: str
    user: str
    password: str
    mailboxes: Sequence[str]
    rng: random.Random
    record: Callable[[Operation], None]
    number: int = 0
    idles_only: bool = False
    may_touch: Callable[[str, int], bool] = lambda name, uid: True
    """Whether one more change of a message is not too many for the checker."""
    looks: int = 0
    resyncs: int = 0
    """How often a mailbox was opened with QRESYNC."""
    mirrors: dict[str, ImapMirror] = field(default_factory=dict)
    selected: ImapMirror | None = None
    _splitter: ImapSplitter = field(default_factory=ImapSplitter)
    _doing: _Doing | None = None
    _look: _Look | None = None
    _stage: int = 0
    _tags: int = 0
    _appended: int = 0
    _fresh_from: float = inf
    """When the last command was said whose answers are of that time or later."""

    # -- the connection ----------

    def connected(self) -> None:
        """A connection stands; its greeting comes."""
        self._splitter = ImapSplitter()
        self._stage = 0

    def lost(self) -> None:
        """The connection is gone, with the answer to what was asked last."""
        doing, self._doing = self._doing, None
        if doing is not None and doing.call is not None:
            self.record(Operation(0, self.name, doing.call, doing.invoked))
        self._tell_look()
        if self.selected is not None:
            self.selected.leave()
            self.selected = None

    @property
    def is_ready(self) -> bool:
        """Whether the next command may be said."""
        return self._stage > 0 and self._doing is None

    @property
    def is_busy_opening(self) -> bool:
        """Whether something has to be asked before it knows all of what it opened."""
        mirror = self.selected
        if self._stage < 3:
            return True
        return mirror is not None and (not mirror.is_whole or self._names_lack(mirror))

    @property
    def idles(self) -> bool:
        """Whether the server was asked to tell what comes; `end_idle` ends it."""
        return self._doing is not None and self._doing.verb == "idle"

    @property
    def kept(self) -> int:
        """How many messages it keeps, in all mailboxes."""
        return sum(len(mirror.kept) for mirror in self.mirrors.values())

    # -- what it says ----------

    def next_command(self, now: float) -> bytes:
        """What it says next; only when it `is_ready`."""
        if self._stage == 1:
            return self._say("login", f"LOGIN {self.user} {self.password}", now)
        if self._stage == 2:
            return self._say("enable", "ENABLE QRESYNC", now)
        mirror = self.selected
        if mirror is None:
            return self.select(self.rng.choice(self.mailboxes), now)
        if not mirror.is_whole:
            first = mirror.known_last + 1 if mirror.known_last < STAR else 1
            return self._say("fetch", f"UID FETCH {first}:* (FLAGS MODSEQ)", now)
        if self._look is not None and self._names_lack(mirror):
            self._look.asked = True
            nameless = mirror.nameless
            items = "(EMAILID RFC822.SIZE INTERNALDATE)"
            return self._say("name", f"UID FETCH {nameless.format()} {items}", now)
        self._tell_look()
        return self._step(mirror, now)

    def _names_lack(self, mirror: ImapMirror) -> bool:
        return self._look is not None and not self._look.asked and bool(mirror.nameless)

    def select(self, name: str, now: float) -> bytes:
        """Open a mailbox: with QRESYNC, unless it is the first time."""
        self._tell_look()
        if self.selected is not None:
            self.selected.leave()
        mirror = self.mirrors.setdefault(name, ImapMirror(name))
        self.selected = mirror
        resyncs = mirror.modseq > 0
        parameter = ""
        known_last = STAR
        if resyncs:
            self.resyncs += 1
            known = ""
            if mirror.kept and self.rng.random() < 0.4:
                known_last = max(mirror.kept)
                known = f" 1:{known_last}"
            parameter = f" (QRESYNC ({mirror.uidvalidity} {mirror.modseq}{known}))"
        mirror.begin_select(resyncs=resyncs, known_last=known_last)
        return self._say("select", f"SELECT {name}{parameter}", now)

    def noop(self, now: float) -> bytes:
        """Ask for what is new."""
        return self._say("noop", "NOOP", now)

    def end_idle(self) -> bytes:
        """It has waited long enough."""
        assert self._doing is not None
        self._doing.verb = "idled"
        return b"DONE\r\n"

    def _step(self, mirror: ImapMirror, now: float) -> bytes:
        verb = "idle" if self.idles_only and self.rng.random() < 0.6 else ""
        steps = ("noop", "select", "status") if self.idles_only else tuple(_STEPS)
        verb = verb or self.rng.choices(steps, [_STEPS[step] for step in steps])[0]
        if verb == "select":
            return self.select(self.rng.choice(self.mailboxes), now)
        if verb == "status":
            name = self.rng.choice(self.mailboxes)
            return self._say("status", f"STATUS {name} ({' '.join(_STATUS_ITEMS)})", now, name)
        if verb == "idle":
            return self._say("idle", "IDLE", now)
        if verb == "append":
            return self._append(now)
        free = [uid for uid in sorted(mirror.kept) if self.may_touch(mirror.name, uid)]
        uids = UidSet.from_uids(
            self.rng.sample(free, min(len(free), self.rng.randint(1, _TOUCHED_MAX)))
        )
        if verb == "noop" or not uids:
            return self.noop(now)
        if verb == "body":
            return self._fetch_body(mirror, now)
        return self._change(verb, mirror, uids, now)

    def _fetch_body(self, mirror: ImapMirror, now: float) -> bytes:
        """Of a message that a mail program appended: those of others are read by others."""
        appended = [
            uid
            for uid, one in sorted(mirror.identities.items())
            if one.received_us < APPENDED_TO_S * 1_000_000
        ]
        if not appended:
            return self.noop(now)
        uid = self.rng.choice(appended)
        return self._say("body", f"UID FETCH {uid} (BODY.PEEK[])", now)

    def _change(self, verb: str, mirror: ImapMirror, uids: UidSet, now: float) -> bytes:
        name, user, shown = mirror.name, self.user, uids.format()
        if verb == "expunge":
            call: c.Command = c.Expunge(user, name, uids, only_deleted=True)
            return self._say("expunge", f"UID EXPUNGE {shown}", now, call=call)
        if verb == "move":
            other = self.rng.choice([one for one in self.mailboxes if one != name])
            call = c.Copy(user, name, uids, c.Target(user, other), 0, move=True)
            return self._say("move", f"UID MOVE {shown} {other}", now, call=call)
        mode = self.rng.choice(tuple(c.StoreMode))
        flags = tuple(self.rng.sample(_FLAGS, self.rng.randint(1, 2)))
        sign = {c.StoreMode.ADD: "+", c.StoreMode.REMOVE: "-", c.StoreMode.REPLACE: ""}[mode]
        silent = ".SILENT" if verb == "silent" else ""
        line = f"UID STORE {shown} {sign}FLAGS{silent} ({' '.join(flags)})"
        return self._say(verb, line, now, call=c.Store(user, name, uids, mode, flags))

    def _append(self, now: float) -> bytes:
        """A message whose INTERNALDATE nothing else has: by that its GUID is found."""
        self._appended += 1
        at = APPENDED_FROM_S + self.number * APPENDED_S + self._appended
        body = b"Subject: %b %d\r\n\r\n" % (self.name.encode(), self._appended)
        body += b"." * self.rng.randint(1, 500) + b"\r\n"
        name = self.rng.choice(self.mailboxes)
        flags = tuple(self.rng.sample(_FLAGS, self.rng.randint(0, 2)))
        message = c.NewMessage(
            (c.Target(self.user, name),),
            sha256(body).digest(),
            len(body),
            b"",
            at * 1_000_000,
            flags,
        )
        line = f'APPEND {name} ({" ".join(flags)}) "{imap_date(at)}" {{{len(body)}+}}'
        call = c.Save(self.user, (message,), 0)
        return self._say("append", line, now, call=call) + body + b"\r\n"

    def _say(
        self, verb: str, line: str, now: float, name: str = "", call: c.Command | None = None
    ) -> bytes:
        self._tags += 1
        tag = b"t%d" % self._tags
        if not name and self.selected is not None:
            name = self.selected.name
        self._doing = _Doing(verb, line, tag, now, name, call)
        if verb not in ("body", "name"):
            self._fresh_from = now
        return tag + b" " + line.encode() + b"\r\n"

    # -- what it hears ----------

    def hear(self, data: bytes, now: float) -> None:
        """Take in what came. Raises `MirrorBroken`, `BadImapAnswer`."""
        for response in self._splitter.feed(data):
            self._hear(read_answer(response), now)

    def _hear(self, answer: ImapAnswer, now: float) -> None:
        doing = self._doing
        if self._stage == 0:
            if answer.kind not in ("OK", "BYE") or answer.tag:
                raise MirrorBroken(f"the server greets with {answer.kind}")
            self._stage = 1
        elif answer.tag:
            if doing is None or answer.tag != doing.tag:
                raise MirrorBroken(f"the server answers {answer.tag!r}, which was not asked")
            self._doing = None
            self._end(doing, answer, now)
        elif doing is not None and answer.kind == "STATUS":
            doing.told = answer.values
        elif doing is not None and answer.code == "COPYUID":
            doing.copied.append(answer.argument)
        elif answer.kind not in ("BYE", "NO", "BAD") and self.selected is not None:
            if doing is not None and answer.fetched is not None:
                doing.fetched = answer.fetched
            self.selected.hear(answer)

    def _end(self, doing: _Doing, answer: ImapAnswer, now: float) -> None:
        if answer.kind != "OK":
            self._refused(doing, answer, now)
        elif doing.verb in ("login", "enable"):
            self._stage += 1
        elif doing.verb == "status":
            self._tell_status(doing, now)
        elif doing.verb == "select":
            self._opened(doing, now)
        elif doing.verb == "body":
            self._tell_body(doing, now)
        elif isinstance(doing.call, c.Save):
            self._tell_write(doing, now, _saved(self.user, answer))
        elif isinstance(doing.call, c.Copy):
            self._tell_write(doing, now, _moved(doing.copied))
        elif doing.call is not None:
            self._tell_write(doing, now, Untold())
        selected = self.selected
        if answer.kind == "OK" and selected is not None:
            if isinstance(doing.call, c.Store) and doing.verb == "silent":
                selected.stored(doing.call.uids, doing.call.mode, doing.call.flags)
            selected.hear(answer)
            selected.settle()
            if doing.verb in ("select", "noop") and selected.is_whole:
                self._begin_look(doing, selected, now)

    def _refused(self, doing: _Doing, answer: ImapAnswer, now: float) -> None:
        known = self.mirrors.get(doing.name)
        is_new = known is None or not known.uidvalidity
        excused = (*_EXCUSED, *_NOTHING, *(("NONEXISTENT",) if is_new else ()))
        if answer.kind != "NO" or answer.code not in excused:
            raise MirrorBroken(
                f"{doing.line!r} is answered {answer.kind} {answer.code} {answer.text}"
            )
        if doing.call is not None:
            fate = Fate.NOTHING if answer.code in _NOTHING else Fate.LOST
            end = now if fate is Fate.NOTHING else inf
            self.record(Operation(0, self.name, doing.call, doing.invoked, end, fate))
        if doing.verb == "select" and self.selected is not None:
            self.selected.leave()
            self.selected = None

    def _opened(self, doing: _Doing, now: float) -> None:
        mirror = self.selected
        assert mirror is not None
        exists = len(mirror.numbers)
        mirror.end_select()
        info = self._info(
            mirror.name, mirror.uidvalidity, mirror.uidnext, mirror.told_modseq, exists
        )
        self._tell(doing, q.GetMailbox(self.user, mirror.name), info, now)

    # -- what it tells ----------

    def _tell(
        self, doing: _Doing, call: Call, answer: object, now: float, since: float = inf
    ) -> None:
        invoked = min(doing.invoked, since)
        self.record(Operation(0, self.name, call, invoked, now, Fate.ANSWERED, answer))

    def _tell_write(self, doing: _Doing, now: float, answer: object) -> None:
        assert doing.call is not None
        self._tell(doing, doing.call, answer, now)

    def _tell_status(self, doing: _Doing, now: float) -> None:
        told = dict(doing.told)
        if told.keys() != _STATUS_ITEMS.keys():
            raise MirrorBroken(f"{doing.line!r} is answered with {sorted(told)}")
        info = self._info(
            doing.name,
            told["UIDVALIDITY"],
            told["UIDNEXT"],
            told["HIGHESTMODSEQ"],
            told["MESSAGES"],
        )
        self._tell(doing, q.GetMailbox(self.user, doing.name), info, now)

    def _tell_body(self, doing: _Doing, now: float) -> None:
        """What never changes may be read as of the command before."""
        if doing.fetched is not None and doing.fetched.body is not None:
            call = q.FetchBody(self.user, doing.name, doing.fetched.uid)
            self._tell(doing, call, doing.fetched.body, now, self._fresh_from)

    def _begin_look(self, doing: _Doing, mirror: ImapMirror, now: float) -> None:
        mails = {uid: (mail.flags, mail.modseq) for uid, mail in mirror.kept.items()}
        self._look = _Look(mirror, doing.invoked, now, mails)

    def _tell_look(self) -> None:
        """What was kept of the mailbox; without messages that went before they could be named."""
        look, self._look = self._look, None
        if look is None:
            return
        self.looks += 1
        named = look.mirror.identities
        messages = tuple(
            q.MessageInfo(
                uid,
                named[uid].guid,
                modseq,
                tuple(sorted(flags)),
                named[uid].received_us,
                named[uid].size_bytes,
                b"",
            )
            for uid, (flags, modseq) in sorted(look.mails.items())
            if uid in named
        )
        nameless = UidSet.from_uids(uid for uid in look.mails if uid not in named)
        info = self._info(look.mirror.name, look.mirror.uidvalidity, 0, 0, len(messages))
        call = q.FetchMessages(self.user, look.mirror.name, ALL - nameless)
        page = q.MessagePage(info, messages, False)
        self.record(Operation(0, self.name, call, look.invoked, look.returned, Fate.ANSWERED, page))

    def _info(
        self, name: str, uidvalidity: int, uidnext: int, modseq: int, messages: int
    ) -> q.MailboxInfo:
        """A mailbox's number is not told, nor what else there is in `MailboxInfo`."""
        return q.MailboxInfo(
            0,
            self.user,
            name,
            b"",
            uidvalidity,
            uidnext,
            modseq,
            messages,
            0,
            0,
            "",
            False,
            b"",
        )


def _saved(user: str, answer: ImapAnswer) -> r.SaveResult:
    """What APPENDUID tells (RFC 4315 section 3)."""
    validity, _, uids = answer.argument.partition(b" ")
    if answer.code != "APPENDUID" or not validity.isdigit() or not uids.isdigit():
        raise MirrorBroken(f"APPEND is answered without APPENDUID: {answer}")
    return r.SaveResult((r.Saved(user, 0, int(validity), int(uids), 0),))


def _moved(copied: Sequence[bytes]) -> r.CopyResult:
    """What COPYUID tells, once for each part of a long command."""
    validity, sources, targets = 0, UidSet(), UidSet()
    for one in copied:
        words = one.split(b" ")
        if len(words) != 3 or not words[0].isdigit():
            raise MirrorBroken(f"COPYUID {one!r} cannot be read")
        validity = int(words[0])
        sources, targets = sources | uids_of(words[1]), targets | uids_of(words[2])
    return r.CopyResult(validity, 0, sources, targets, 0, 0)
