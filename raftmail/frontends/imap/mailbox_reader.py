"""Reads of one user's mail, in pages, each behind a barrier (P5)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from raftmail.frontends.imap.view import MailboxView
from raftmail.mail.commands import MailboxRef
from raftmail.mail.queries import (
    AclEntries,
    AnnotationList,
    AnnotationValues,
    Answer,
    FetchBodies,
    FetchBody,
    FetchColumns,
    FetchContents,
    FetchMessages,
    FetchVanished,
    GetAcl,
    GetAnnotations,
    GetMailbox,
    GetUsage,
    GuestQuery,
    ListAnnotations,
    ListMailboxes,
    ListShared,
    ListSharers,
    ListSubscriptions,
    MailboxContents,
    MailboxInfo,
    MessageBodies,
    MessageColumns,
    MessageInfo,
    MessagePage,
    Query,
    ReadPoint,
    SharedMailboxes,
    Usage,
)
from raftmail.mail.uidset import STAR, UidSet
from raftmail.net.turns import after_others
from raftmail.service.service import Reads

ALL_UIDS = UidSet.from_ranges([(1, STAR)])
PAGE_MESSAGES = 500
PAGE_SUMMARIES = 100
"""Messages of a page, without and with summaries: what a session may do with them in one turn."""


class MailboxGone(Exception):
    """The mailbox was deleted since."""


class MailboxReader:
    """All methods raise `Unavailable`; those for a mailbox that is selected raise `MailboxGone`."""

    def __init__(self, service: Reads, user: str, deadline_s: float, guest: str = "") -> None:
        """`guest` reads mail of `user` as far as the rights go; "": it is the user's own."""
        self._service = service
        self._user = user
        self._guest = guest
        self._deadline_s = deadline_s
        self.point = ReadPoint()
        """Where the reads of the command that is under way have to be; see `renew`."""

    def renew(self) -> None:
        """Reads from here on see all that was acknowledged before (P5): the next waits for a
        barrier, which is theirs together."""
        self.point = ReadPoint()

    async def _ask(self, query: Query) -> Answer:
        return await self._service.query(query, deadline_s=self._deadline_s, point=self.point)

    def _ask_of(self, query: Any) -> Awaitable[Answer]:
        """Of one mailbox."""
        return self._ask(GuestQuery(self._guest, query) if self._guest else query)

    async def shared(self, ref: MailboxRef) -> tuple[MailboxInfo, str] | None:
        """A mailbox of somebody else, with the rights to it; None without any."""
        found = await self._ask(ListShared(self._user, self._guest, ref))
        return found.shared[0] if isinstance(found, SharedMailboxes) and found.shared else None

    async def all_shared(self) -> tuple[tuple[MailboxInfo, str], ...]:
        """All mailboxes of somebody else that may be listed, with the rights to them."""
        found = await self._ask(ListShared(self._user, self._guest))
        return found.shared if isinstance(found, SharedMailboxes) else ()

    async def sharers(self) -> list[str]:
        """Who may share mailboxes with the user, beside those who share with all of a domain."""
        found = await self._ask(ListSharers(self._user))
        assert isinstance(found, tuple)
        return [name for name in found if isinstance(name, str)]

    async def acl(self, ref: MailboxRef) -> tuple[tuple[str, str], ...]:
        """Identifiers and their rights. Raises `MailboxGone`."""
        found = await self._ask_of(GetAcl(self._user, ref))
        if not isinstance(found, AclEntries):
            raise MailboxGone
        return found.entries

    async def mailboxes(self) -> list[MailboxInfo]:
        """All, ordered by name."""
        query = ListMailboxes(self._user)
        found = await self._ask(query)
        assert isinstance(found, tuple)
        return [info for info in found if isinstance(info, MailboxInfo)]

    async def subscriptions(self) -> list[str]:
        """All names, ordered."""
        query = ListSubscriptions(self._user)
        found = await self._ask(query)
        assert isinstance(found, tuple)
        return [name for name in found if isinstance(name, str)]

    async def mailbox(self, ref: MailboxRef) -> MailboxInfo | None:
        """One mailbox; None when there is none."""
        query = GetMailbox(self._user, ref)
        found = await self._ask_of(query)
        return found if isinstance(found, MailboxInfo) else None

    async def pages(
        self, ref: MailboxRef, uids: UidSet, *, changed_since: int = 0, summaries: bool = False
    ) -> AsyncIterator[MessagePage]:
        """Messages by UID, ascending. Others have their turn after each page."""
        limit = PAGE_SUMMARIES if summaries else PAGE_MESSAGES
        while uids:
            query = FetchMessages(self._user, ref, uids, changed_since, summaries, limit)
            page = await self._ask_of(query)
            if not isinstance(page, MessagePage):
                raise MailboxGone
            yield page
            if not page.more or not page.messages:
                return
            uids = uids.part(page.messages[-1].uid + 1, STAR)
            await after_others()

    async def columns(
        self, ref: MailboxRef, uids: UidSet, *, summaries: bool, limit: int
    ) -> AsyncIterator[MessageColumns]:
        """Messages in columns, ascending by UID."""
        while uids:
            page = await self._ask_of(FetchColumns(self._user, ref, uids, summaries, limit))
            if not isinstance(page, MessageColumns):
                raise MailboxGone
            if page.uids:
                yield page
            if not page.more:
                return
            uids = uids.part(page.uids[-1] + 1, STAR)

    async def contents(self, ref: MailboxRef) -> MailboxContents:
        """What its messages are numbered by. Of a mailbox whose messages have to be read for that,
        some are read in each turn."""
        while True:
            query = FetchContents(self._user, ref)
            found = await self._ask_of(query)
            if not isinstance(found, MailboxContents):
                raise MailboxGone
            if found.whole:
                return found
            await after_others()

    async def annotations(self, ref: MailboxRef | None) -> dict[str, bytes]:
        """Values by name, of a mailbox, or of the user where it is None; none of a mailbox that is
        gone."""
        found = await self._ask_of(GetAnnotations(self._user, ref))
        return dict(found.entries) if isinstance(found, AnnotationValues) else {}

    async def annotation_digests(self) -> dict[tuple[int, str], bytes]:
        """Of all annotations, by number of the mailbox (0: the user's) and name."""
        found = await self._ask(ListAnnotations(self._user, (), digests=True))
        assert isinstance(found, AnnotationList)
        return {(number, name): digest for number, name, digest in found.entries}

    async def annotations_named(self, names: tuple[str, ...]) -> dict[int, dict[str, bytes]]:
        """Values by name, of all mailboxes, by number."""
        found = await self._ask(ListAnnotations(self._user, names, digests=False))
        assert isinstance(found, AnnotationList)
        values: dict[int, dict[str, bytes]] = defaultdict(dict)
        for number, name, value in found.entries:
            values[number][name] = value
        return values

    async def usage(self) -> Usage:
        """What all messages are together."""
        found = await self._ask(GetUsage(self._user))
        assert isinstance(found, Usage)
        return found

    async def body(self, ref: MailboxRef, uid: int) -> bytes | None:
        """A message's bytes; None when it is gone."""
        query = FetchBody(self._user, ref, uid)
        found = await self._ask_of(query)
        return found if isinstance(found, bytes) else None

    async def bodies(self, ref: MailboxRef, uids: UidSet) -> dict[int, bytes]:
        """The bytes of short messages by UID; of some, for which `body` has to be asked, there is
        nothing."""
        found = await self._ask_of(FetchBodies(self._user, ref, uids))
        return dict(found.bodies) if isinstance(found, MessageBodies) else {}

    async def vanished(self, ref: MailboxRef, since: int) -> UidSet:
        """UIDs that were expunged after a modseq."""
        query = FetchVanished(self._user, ref, since)
        found = await self._ask_of(query)
        if not isinstance(found, UidSet):
            raise MailboxGone
        return found

    async def refresh(self, view: MailboxView) -> None:
        """Note in a view what became of its mailbox. Messages are read before what is gone: what
        goes in between is told twice, which does no harm, and nothing is missed."""
        info = await self.mailbox(view.number)
        if info is None or info.uidvalidity != view.uidvalidity:
            raise MailboxGone
        if info.highestmodseq <= view.modseq:
            return
        messages: list[MessageInfo] = []
        since = view.modseq
        async for page in self.pages(view.number, ALL_UIDS, changed_since=since):
            messages += page.messages
        vanished = await self.vanished(view.number, since)
        view.note(messages, vanished, info.highestmodseq)
