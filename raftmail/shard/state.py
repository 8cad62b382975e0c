"""What all commands need: the index, mailboxes by reference, and the way a command is refused."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NoReturn

from raftmail.mail.codec import CodecError, command_of
from raftmail.mail.codec_results import MAILBOX, REFUSED
from raftmail.mail.flags import KEYWORDS_MAX, keyword_mask, parse_flags
from raftmail.mail.limits import check_ref, check_user
from raftmail.mail.names import INBOX, quoted, stored_name
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.mail.uidset import UidSet
from raftmail.storage.index import Index
from raftmail.storage.records import MailboxRecord

MAILBOXES_MAX = 5000
"""Mailboxes that one user can have; also subscriptions."""

_CACHED_USERS_MAX = 50_000
_CACHED_FLAGS_MAX = 4096


class Refusal(Exception):
    """The command is refused. Raised before anything was changed."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.raw: Raw = (REFUSED, code.value, text[:1000])


def bad(raw: Raw) -> NoReturn:
    """Refuse a request whose fields were found wrong, in the words of the strict decoder."""
    try:
        command_of(raw)
    except CodecError as e:
        raise Refusal(Code.BAD, str(e)) from None
    raise Refusal(Code.BAD, "the command breaks a limit")


class State:
    """The index, and caches over it. A cached reference always leads to the mailbox that the index
    has."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.refs: dict[str, dict[str | int, MailboxRecord]] = {}
        self._owned: dict[str, list[MailboxRecord]] = {}
        self.flags: dict[tuple[str, ...], tuple[int, tuple[str, ...]]] = {}
        self.rows_changed = 0

    def find(self, user: str, ref: str | int) -> MailboxRecord | None:
        """A mailbox by name or number. Raises `Refusal` for what can be neither."""
        refs = self.refs.get(user)
        if refs is not None:
            mailbox = refs.get(ref)
            if mailbox is not None:
                return mailbox
        try:
            check_user("user", user)
            check_ref("mailbox", ref)
        except ValueError as e:
            raise Refusal(Code.BAD, str(e)) from None
        if isinstance(ref, str):
            mailbox = self.index.mailboxes.named(user, stored_name(ref))
        else:
            mailbox = self.index.mailboxes.get(ref)
            if mailbox is not None and mailbox.user != user:
                return None
        if mailbox is not None:
            if refs is None:
                if len(self.refs) >= _CACHED_USERS_MAX:
                    self.refs.clear()
                refs = self.refs[user] = {}
            elif len(refs) > 4 * MAILBOXES_MAX:
                refs.clear()
            refs[ref] = mailbox
        return mailbox

    def must_find(self, user: str, ref: str | int) -> MailboxRecord:
        """A mailbox by name or number. Raises `Refusal`."""
        mailbox = self.find(user, ref)
        if mailbox is None:
            raise Refusal(Code.NONEXISTENT, f"{user} has no mailbox {quoted(ref)}")
        return mailbox

    def destination(self, user: str, ref: str | int, or_inbox: bool) -> MailboxRecord | None:
        """Where a message goes; None for an INBOX that has yet to be made. Raises `Refusal`."""
        mailbox = self.find(user, ref)
        if mailbox is None:
            if or_inbox:
                return self.find(user, INBOX)
            if type(ref) is not str or stored_name(ref) != INBOX:
                raise Refusal(Code.NONEXISTENT, f"{user} has no mailbox {quoted(ref)}")
        return mailbox

    def make_inbox(self, user: str, uidvalidity_seed: int) -> MailboxRecord:
        """Make INBOX, if it is still missing, with a GUID that follows from the state."""
        found = self.find(user, INBOX)
        if found is not None:
            return found
        index = self.index
        salt = f"{user}\0{index.next_mailbox}\0{max(uidvalidity_seed, index.last_uidvalidity + 1)}"
        guid = blake2b(salt.encode(), digest_size=16).digest()
        self._owned.pop(user, None)
        return index.new_mailbox(user, INBOX, guid, uidvalidity_seed, "")

    def parsed_flags(self, flags: Any) -> tuple[int, tuple[str, ...]] | None:
        """System mask and keywords of a request's flags; None when they are wrong."""
        if type(flags) is not tuple:
            return None
        try:
            parsed = self.flags.get(flags)
            if parsed is None:
                if set(map(type, flags)) - {str}:
                    return None
                parsed = parse_flags(flags)
                if len(self.flags) >= _CACHED_FLAGS_MAX:
                    self.flags.clear()
                self.flags[flags] = parsed
        except (ValueError, TypeError):
            return None
        return parsed

    def forget(self, user: str) -> None:
        """Drop cached references of a user whose mailboxes were made, renamed or removed."""
        self.refs.pop(user, None)
        self._owned.pop(user, None)

    def forget_all(self) -> None:
        """Drop all cached references to mailboxes."""
        self.refs.clear()
        self._owned.clear()

    def chosen(self, mailbox: MailboxRecord, uids: UidSet, most: int) -> UidSet:
        """`uids` of a mailbox, with the last message's for `*`. Raises `Refusal` when there are
        more than `most` messages among them."""
        messages = self.index.messages
        wanted = messages.resolve(mailbox, uids)
        if mailbox.messages > most and len(wanted) > most:
            count = 0
            for rows in messages.pages(mailbox, wanted):
                count += len(rows)
                if count > most:
                    raise Refusal(
                        Code.LIMIT,
                        f"one command changes at most {most} messages; give it fewer UIDs, and "
                        f"the rest to others",
                    )
        return wanted

    # Quotas

    def owned(self, user: str) -> list[MailboxRecord]:
        """All mailboxes of a user."""
        found = self._owned.get(user)
        if found is None:
            if len(self._owned) >= _CACHED_USERS_MAX:
                self._owned.clear()
            found = self._owned[user] = self.index.mailboxes.of(user)
        return found

    def check_quota(self, user: str, more_bytes: int, quota_bytes: int) -> None:
        """Whether a user can have messages of so many bytes more. The size of all that a user has
        is the sum of what the mailboxes' records say. So it is kept, checked and compared with
        them. Raises `Refusal`.
        """
        used = sum([mailbox.size_bytes for mailbox in self.owned(user)])
        if used + more_bytes > quota_bytes:
            raise Refusal(
                Code.OVERQUOTA,
                f"{user} is over quota: has {used} of {quota_bytes} bytes, and {more_bytes} more "
                f"do not go in",
            )


def masked(
    mailbox: MailboxRecord | None, keywords: tuple[str, ...], *, add: bool
) -> tuple[int, tuple[str, ...]]:
    """Keyword mask in a mailbox (None: in one that is still empty) and the keywords it has to be
    given first. Raises `Refusal` when it cannot have so many."""
    bits = mailbox.bits if mailbox is not None else {}
    mask, missing = keyword_mask(keywords, bits, add=add)
    if missing and len(bits) + len(missing) > KEYWORDS_MAX:
        raise Refusal(
            Code.LIMIT,
            f"a mailbox can have {KEYWORDS_MAX} keywords; no room for {quoted(missing[0])}",
        )
    return mask, missing


def mailbox_result(mailbox: MailboxRecord) -> Raw:
    """A `MailboxResult`."""
    return (
        MAILBOX,
        mailbox.number,
        mailbox.name,
        mailbox.guid,
        mailbox.uidvalidity,
        mailbox.uidnext,
        mailbox.highestmodseq,
        mailbox.messages,
    )
