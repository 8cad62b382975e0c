"""One client as its commands see it: who it is, what it has enabled, and what it has selected."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple

from raftmail.frontends.imap import responses
from raftmail.frontends.imap.annotation_news import AnnotationNews
from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.imap.mailbox_names import encode_name
from raftmail.frontends.imap.mailbox_reader import MailboxReader
from raftmail.frontends.imap.namespaces import MailboxPlace, full_name, place_of
from raftmail.frontends.imap.notifier import Notifier
from raftmail.frontends.imap.progress import CommandProgress
from raftmail.frontends.imap.responses import ResponseCode
from raftmail.frontends.imap.view import MailboxView
from raftmail.mail import commands as c
from raftmail.mail.changes import Change, MailboxChanged
from raftmail.mail.commands import MailboxRef
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.limits import TOUCHED_MAX, validate
from raftmail.mail.names import INBOX, mailbox_name
from raftmail.mail.queries import MailboxInfo
from raftmail.mail.results import Code, Executed, ExpungeResult, Refused, Result
from raftmail.mail.rights import RIGHTS
from raftmail.mail.uidset import UidSet
from raftmail.net.room import take_room
from raftmail.service.service import Service

_CODES: Final = {
    Code.NONEXISTENT: ResponseCode.NONEXISTENT,
    Code.ALREADYEXISTS: ResponseCode.ALREADYEXISTS,
    Code.CANNOT: ResponseCode.CANNOT,
    Code.LIMIT: ResponseCode.LIMIT,
    Code.NOPERM: ResponseCode.NOPERM,
    Code.OVERQUOTA: ResponseCode.OVERQUOTA,
}


WRITING: Final = frozenset("stwei")
"""Who has none of these rights has a mailbox for reading only (RFC 4314 section 5.2)."""


class Extension(Enum):
    """What a client can enable (RFC 5161); the value is how it is written."""

    CONDSTORE = "CONDSTORE"
    QRESYNC = "QRESYNC"
    REV2 = "IMAP4REV2"
    UID_ONLY = "UIDONLY"
    """RFC 9586."""
    UTF8_ACCEPT = "UTF8=ACCEPT"
    """RFC 9755."""
    METADATA = "METADATA"
    """RFC 5464: changes of annotations are told; METADATA-SERVER, of those of the server."""
    METADATA_SERVER = "METADATA-SERVER"


class CommandRefused(Exception):
    """The command had no effect, or only in part: NO, with the code and the text."""

    def __init__(self, code: ResponseCode | None, text: str, detail: bytes = b"") -> None:
        super().__init__(text)
        self.code = code
        self.detail = detail
        """What stands behind the code in its brackets."""


class CommandWrong(Exception):
    """The command makes no sense here: BAD, with the text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The tagged OK of a command. `code` is written in brackets. Expunges may be told before it
    unless it is one of the commands that talk of sequence numbers (RFC 9051 section 7.5.1)."""

    text: str
    code: bytes = b""
    expunges: bool = True
    modseq: int = 0
    """Told as HIGHESTMODSEQ, in place of a code."""


class Located(NamedTuple):
    """A mailbox that was found, and what the client may do with it."""

    info: MailboxInfo
    rights: str


@dataclass(slots=True, repr=False)
class LoggedInClient:
    """A client that has logged in. `write` sends, `drained` waits until the client has read."""

    context: ImapContext
    user: str
    write: Callable[[bytes], None]
    drained: Callable[[], Awaitable[None]]
    service: Service = field(init=False)
    limits: ImapLimits = field(init=False)
    wall_s: Callable[[], float] = field(init=False)
    reader: MailboxReader = field(init=False)
    """Of the client's own mail."""
    view_reader: MailboxReader = field(init=False)
    """Of the mailbox that is selected, which may be somebody else's."""
    view: MailboxView | None = None
    enabled: set[Extension] = field(default_factory=set)
    tag: bytes = b""
    """Of the command that is under way."""
    notifier: Notifier | None = None
    """What NOTIFY asked for, if it did."""
    annotation_news: AnnotationNews | None = None
    """What is known of annotations, where changes are told."""
    heard_modseq: int = 0
    """Up to where changes were heard of in the mailbox that is selected."""
    stale: bool = False
    """Something changed in the mailbox that is selected, or may have."""

    def __post_init__(self) -> None:
        self.service = self.context.service
        self.limits = self.context.limits
        self.wall_s = self.context.wall_s
        self.reader = MailboxReader(self.service, self.user, self.limits.deadline_s)
        self.view_reader = self.reader

    @property
    def utf8(self) -> bool:
        """Whether mailbox names go as UTF-8 (RFC 9051 section 5.1, RFC 9755 section 3)."""
        return not self.enabled.isdisjoint((Extension.REV2, Extension.UTF8_ACCEPT))

    @property
    def rev2(self) -> bool:
        """Whether answers are those of RFC 9051 where RFC 3501 has others."""
        return Extension.REV2 in self.enabled

    @property
    def uid_only(self) -> bool:
        """Whether messages have no sequence numbers (RFC 9586)."""
        return Extension.UID_ONLY in self.enabled

    @property
    def dialect(self) -> Dialect:
        """The grammar of what it says."""
        utf8_accept = Extension.UTF8_ACCEPT in self.enabled
        return Dialect(self.utf8, utf8_accept, self.uid_only)

    @property
    def hears(self) -> bool:
        """Whether it is told of changes while it idles."""
        sources = (self.view, self.notifier, self.annotation_news)
        return any(source is not None for source in sources)

    @property
    def has_news(self) -> bool:
        """Whether something was heard of other mailboxes, or of annotations, that was not looked
        at."""
        heard = self.notifier is not None and self.notifier.has_news
        return heard or (self.annotation_news is not None and self.annotation_news.stale)

    def hear(self, change: Change) -> None:
        """Something changed, or may have, other than in the mailbox that is selected."""
        if self.notifier is not None:
            self.notifier.hear(change)
        if self.annotation_news is not None and not isinstance(change, MailboxChanged):
            self.annotation_news.stale = True

    def progress(self, goal: int) -> CommandProgress:
        """Of the command that is under way, which looks at so many messages."""
        return CommandProgress(self.write, self.tag, goal, asyncio.get_running_loop().time)

    @property
    def qresync(self) -> bool:
        return Extension.QRESYNC in self.enabled

    def use_modseqs(self) -> None:
        """The client has said that it knows CONDSTORE (RFC 7162 section 3.1)."""
        self.enabled.add(Extension.CONDSTORE)
        if self.view is not None:
            self.view.tells_modseq = True

    def selected(self) -> MailboxView:
        """The mailbox that is selected, which the session has seen to."""
        assert self.view is not None
        return self.view

    def writable(self) -> MailboxView:
        """As `selected`. Raises `CommandRefused` when it was opened by EXAMINE."""
        view = self.selected()
        if view.read_only and WRITING.isdisjoint(view.rights):
            raise CommandRefused(ResponseCode.NOPERM, "you have the right to read it only")
        if view.read_only:
            raise CommandRefused(ResponseCode.CANNOT, "the mailbox is open for reading only")
        return view

    def renew(self) -> None:
        """See `MailboxReader.renew`."""
        self.reader.renew()
        self.view_reader.renew()

    @property
    def selected_number(self) -> int:
        """Of the own mailbox that is selected; 0 while none is."""
        view = self.view
        return view.number if view is not None and view.owner == self.user else 0

    def reader_of(self, owner: str) -> MailboxReader:
        """Of the mail of an owner, as far as this client may read it."""
        if owner == self.user:
            return self.reader
        if self.view is not None and self.view.owner == owner:
            return self.view_reader
        return MailboxReader(self.service, owner, self.limits.deadline_s, guest=self.user)

    async def place(self, name: str) -> MailboxPlace:
        """Which mailbox a name means. Who has one from before that is named as others' mailboxes
        are, means that one. Raises `CommandRefused`, `Unavailable`."""
        name = good_name(name)
        place = place_of(name, self.user)
        if place.owner != self.user and await self.reader.mailbox(name) is not None:
            return MailboxPlace(self.user, name)
        return place

    async def owned_place(self, name: str) -> MailboxPlace:
        """As `place`. Raises `CommandRefused` where no mailbox can have that name."""
        place = await self.place(name)
        if not place.owner:
            raise CommandRefused(ResponseCode.NONEXISTENT, "there is no such mailbox")
        return place

    async def locate(self, name: str, needed: str) -> Located:
        """A mailbox on which the client has all these rights, and one at least. Raises
        `CommandRefused`, `Unavailable`."""
        place = await self.owned_place(name)
        if place.owner == self.user:
            return Located(await self.mailbox(place.name), RIGHTS)
        found = await self.reader_of(place.owner).shared(place.name)
        info, rights = found or (None, "")
        if info is None or any(right not in rights for right in needed):
            if "l" in rights:
                missing = " ".join(right for right in needed if right not in rights)
                text = f"you have not the right to do this ({missing})"
                raise CommandRefused(ResponseCode.NOPERM, text)
            raise CommandRefused(ResponseCode.NONEXISTENT, "there is no such mailbox")
        return Located(info, rights)

    def full_name(self, info: MailboxInfo) -> str:
        """The name under which this client finds a mailbox."""
        return full_name(info.user, info.name, self.user)

    def shown(self, name: str) -> bytes:
        """A mailbox name as this client reads it."""
        octets = encode_name(name, utf8=self.utf8)
        return responses.astring(octets) if octets.isascii() else responses.utf8_string(octets)

    async def execute(
        self, command: c.Command, blobs: Sequence[c.Blob] = (), *, creates: bool = False
    ) -> Result:
        """Have a command applied; what it gives back. With `creates`, a mailbox that is missing
        could be made by the client. Raises `CommandRefused`, `CommandWrong`, `Unavailable`."""
        try:
            validate(command)
        except ValueError as e:
            raise CommandRefused(ResponseCode.CANNOT, str(e)) from None
        asked = self._as_guest(command)
        done = await self.service.execute(asked, blobs=blobs, deadline_s=self.limits.deadline_s)
        return self.note_done(asked.user, done, creates=creates)

    def _as_guest(self, command: Any) -> Any:
        """A command, as one of a guest where it is about mail of others."""
        owners = {command.user}
        if isinstance(command, c.Copy):
            owners.add(command.target.user)
        return command if owners == {self.user} else c.GuestCommand(self.user, command)

    def note_done(self, owner: str, done: Executed, *, creates: bool = False) -> Result:
        """What a command about mail of an owner gave back; reads from here on see it. Raises
        `CommandRefused`."""
        self.reader_of(owner).point.reached(done.shard, done.index)
        result = done.result
        if isinstance(result, Refused):
            code = _CODES.get(result.code)
            if creates and result.code is Code.NONEXISTENT:
                code = ResponseCode.TRYCREATE
            raise CommandRefused(code, result.text)
        return result

    async def expunge(self, view: MailboxView, uids: UidSet) -> int:
        """Remove those of the messages that are marked \\Deleted, and note it in the view; the
        modseq of that, 0 when there were none. Raises as `execute`."""
        modseq = 0
        progress = self.progress(len(uids))
        for part in parts_of(uids, TOUCHED_MAX):
            done = await self.execute(c.Expunge(view.owner, view.number, part, only_deleted=True))
            assert isinstance(done, ExpungeResult)
            is_known = done.highestmodseq == view.modseq
            if done.uids:
                modseq = done.highestmodseq
                is_known = view.note_own(modseq, gone=done.uids)
            if not is_known:
                self.stale = True  # others changed something
            progress.add(len(part))
        return modseq

    async def mailbox(self, name: str) -> MailboxInfo:
        """A mailbox by name. INBOX is always there (RFC 9051 section 5.1): it is made when somebody
        looks for it. Raises `CommandRefused` when there is none."""
        info = await self.reader.mailbox(name)
        if info is None and name == INBOX:
            made = c.CreateMailbox(self.user, INBOX, int(self.wall_s()), os.urandom(16))
            try:
                await self.execute(made)
            except CommandRefused as e:
                if e.code is not ResponseCode.ALREADYEXISTS:
                    raise  # else another session was faster
            info = await self.reader.mailbox(name)
        if info is None:
            raise CommandRefused(ResponseCode.NONEXISTENT, "there is no such mailbox")
        return info

    @asynccontextmanager
    async def body(
        self, ref: MailboxRef, uid: int, reader: MailboxReader | None = None
    ) -> AsyncIterator[bytes | None]:
        """A message's bytes, counted in the budget until they are needed no more; None when it is
        gone. Without `reader`, it is one of the mailbox that is selected. Raises `Unavailable`,
        also when bodies of others leave no room within the deadline."""
        budget = self.context.budget
        async with self.context.fetching:
            found = await (reader or self.view_reader).body(ref, uid)
            size = 0 if found is None else len(found)
            if not await take_room(budget, size, self.limits.deadline_s):
                raise Unavailable(Failure("the node holds as many messages as it may"))
        try:
            yield found
        finally:
            budget.give(size)

    @asynccontextmanager
    async def bodies(
        self, ref: MailboxRef, uids: UidSet, size_bytes: int
    ) -> AsyncIterator[dict[int, bytes]]:
        """The bytes of messages that have so many together, counted as by `body`. Raises
        `Unavailable`."""
        budget = self.context.budget
        if not await take_room(budget, size_bytes, self.limits.deadline_s):
            raise Unavailable(Failure("the node holds as many messages as it may"))
        try:
            yield await self.view_reader.bodies(ref, uids)
        finally:
            budget.give(size_bytes)

    async def refresh(self) -> None:
        """Read what became of the mailbox that is selected."""
        self.stale = False
        view = self.view
        if view is None:
            return
        await self.view_reader.refresh(view)
        if view.modseq < self.heard_modseq:
            self.view_reader.renew()  # another replica is ahead of the one that was read
            await self.view_reader.refresh(view)

    def told_modseq(self, modseq: int) -> None:
        """A client may keep a modseq that it was told. So it has to hear of all before that, such
        as what is gone (RFC 7162 section 3.2)."""
        view = self.view
        if view is not None and view.tells_modseq and modseq > view.modseq:
            self.stale = True

    def tell(self, *, expunges: bool, flags: bool = True) -> None:
        """Say what may be said now of the mailbox that is selected: without `flags`, none of
        messages that the client knew."""
        view = self.view
        if view is not None and view.has_news:
            vanished = self.qresync or self.uid_only
            for line in view.tell(expunges=expunges, vanished=vanished, flags=flags):
                self.write(line)


def good_name(name: str) -> str:
    """The one spelling of a mailbox name. Raises `CommandRefused` for one that no mailbox can
    have."""
    try:
        return mailbox_name(name)
    except ValueError as e:
        raise CommandRefused(ResponseCode.CANNOT, str(e)) from None


def parts_of(uids: UidSet, most: int) -> Iterator[UidSet]:
    """A set in sets of at most so many UIDs, ascending."""
    if len(uids) <= most:
        if uids:
            yield uids
        return
    every = list(uids)
    for at in range(0, len(every), most):
        yield UidSet.from_uids(every[at : at + most])
