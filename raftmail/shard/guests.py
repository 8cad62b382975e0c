"""What users do with mailboxes of others (RFC 4314 section 4): rights are checked where and when a
command is applied. So nobody writes any more once a right is taken away, whatever a session
believes.

Who has not the right `l` is told the same of a mailbox as if it did not exist (section 6).
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.codec import command_of
from raftmail.mail.flags import ALL_FLAGS, DELETED, SEEN, SYSTEM
from raftmail.mail.names import INBOX, SEPARATOR, parents, stored_name
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.mail.rights import rights_of
from raftmail.shard import copy_move, mailboxes, sharing
from raftmail.shard.annotations import annotate
from raftmail.shard.own_seen import SeenChange, seen_by
from raftmail.shard.save import SaveCommand
from raftmail.shard.state import Refusal, State
from raftmail.shard.store import StoreCommand
from raftmail.storage.records import MailboxRecord

SHARED_ANNOTATIONS = "/shared/"
"""What guests see and set of a mailbox's annotations (RFC 5464 section 3.1)."""

_NONE_SUCH = "there is no such mailbox"
_OTHER_FLAGS = ALL_FLAGS & ~(SEEN | DELETED)

_PLAIN: dict[type, Callable[[State, Any], Raw]] = {
    c.CreateMailbox: mailboxes.create,
    c.DeleteMailbox: mailboxes.delete,
    c.RenameMailbox: mailboxes.rename,
    c.Expunge: copy_move.expunge,
    c.SetAnnotations: annotate,
    c.SetAcl: sharing.set_acl,
}


class GuestCommands:
    """Carries out `GuestCommand` requests."""

    def __init__(self, state: State, save: SaveCommand, store: StoreCommand) -> None:
        self._state = state
        self._save = save
        self._store = store

    def execute(self, raw: Raw, blobs: Set[bytes]) -> Raw:
        """The result. Raises `Refusal`, CodecError."""
        command = command_of(raw)
        assert isinstance(command, c.GuestCommand)
        guest, wanted = command.guest, command.command
        inner = (*raw[:3], *raw[5])
        try:
            if isinstance(wanted, c.Store):
                return self._store_flags(guest, wanted, inner)
            if isinstance(wanted, c.Save):
                return self._save_messages(guest, wanted, inner, blobs)
            if isinstance(wanted, c.CopyIn):
                return self._copy_in(guest, wanted, inner, blobs)
            if isinstance(wanted, c.Copy):
                return self._copy(guest, wanted)
            self._check(guest, wanted)
            return _PLAIN[type(wanted)](self._state, wanted)
        except Refusal as e:
            raise _told_to_guest(e, guest, wanted.user) from None

    def _check(self, guest: str, command: Any) -> None:
        """Whether a guest may do what is done as for the owner. Raises `Refusal`."""
        state, user = self._state, command.user
        match command:
            case c.CreateMailbox():
                if command.special_use:
                    raise Refusal(Code.CANNOT, "a special use is for own mailboxes")
                self._check_above(guest, user, command.name)
            case c.DeleteMailbox():
                must(state, guest, user, command.mailbox, "x")
            case c.RenameMailbox():
                self._check_rename(guest, command)
            case c.Expunge():
                # What goes without being marked was moved away, which needs both (RFC 6851).
                must(state, guest, user, command.mailbox, "e" if command.only_deleted else "te")
            case c.SetAnnotations():
                if command.mailbox is None:
                    raise Refusal(Code.NOPERM, "these are the owner's")
                must(state, guest, user, command.mailbox, "w")
                if not all(name.startswith(SHARED_ANNOTATIONS) for name, _ in command.entries):
                    raise Refusal(Code.NOPERM, "the private annotations are the owner's")
            case _:
                if command.mailbox is None:
                    raise Refusal(Code.NOPERM, "one mailbox is named")
                must(state, guest, user, command.mailbox, "a")

    def _check_above(self, guest: str, user: str, name: str) -> None:
        """Whether a guest may make a mailbox: with `k` on the nearest that is above it."""
        for above in reversed(parents(stored_name(name))):
            if self._state.find(user, above) is not None:
                must(self._state, guest, user, above, "k")
                return
        if guest != user:
            raise Refusal(Code.NOPERM, "the owner alone makes mailboxes there")

    def _check_rename(self, guest: str, command: c.RenameMailbox) -> None:
        state, user = self._state, command.user
        mailbox = must(state, guest, user, command.mailbox, "x")
        if mailbox.name == INBOX and guest != user:
            raise Refusal(Code.CANNOT, "the INBOX of others is not renamed")
        for child in state.owned(user):
            if child.name.startswith(mailbox.name + SEPARATOR):
                must(state, guest, user, child.number, "x")
        self._check_above(guest, user, command.name)

    def _store_flags(self, guest: str, command: c.Store, inner: Raw) -> Raw:
        """As far as there are rights: a flag that a guest may not change stays as it is, and the
        others are changed (RFC 4314 section 4)."""
        mailbox = must(self._state, guest, command.user, command.mailbox, "")
        rights = _rights(self._state, guest, mailbox)
        system, keywords = settable(rights)
        wanted = self._state.parsed_flags(command.flags)
        assert wanted is not None  # it was validated
        is_any = system or keywords
        if command.mode is not c.StoreMode.REPLACE:
            is_any = bool(wanted[0] & system or (wanted[1] and keywords))
        if not is_any and (command.flags or command.mode is c.StoreMode.REPLACE):
            raise _refusal(rights, "stw")
        seen = seen_by(self._state, mailbox, guest)
        own = None
        if seen is not None:
            if system & SEEN:
                own = SeenChange(self._state, mailbox, guest, seen, command.uids)
                own.begin(command.mode, named=bool(wanted[0] & SEEN))
            system &= ~SEEN
        return self._store.execute_within(inner, system, keywords=keywords, own=own)

    def _save_messages(self, guest: str, command: c.Save, inner: Raw, blobs: Set[bytes]) -> Raw:
        state = self._state
        messages = []
        for message, raw in zip(command.messages, inner[5], strict=True):
            system, keywords = ALL_FLAGS, True
            for target in message.targets:
                one = must(state, guest, target.user, target.mailbox, "i")
                may = self._settable_new(guest, one)
                system, keywords = system & may[0], keywords and may[1]
            flags = _kept_flags(message.flags, system, keywords=keywords)
            messages.append((*raw[:5], flags, *raw[6:]))
        if command.replaces is not None:
            must(state, guest, command.user, command.replaces[0], "te")
        return self._save.execute((*inner[:5], tuple(messages), *inner[6:]), blobs)

    def _copy_in(self, guest: str, command: c.CopyIn, inner: Raw, blobs: Set[bytes]) -> Raw:
        if not command.refused_code:
            to = command.target
            target = must(self._state, guest, to.user, to.mailbox, "i")
            system, keywords = self._settable_new(guest, target)
            messages = tuple(
                (*raw[:5], _kept_flags(raw[5], system, keywords=keywords), *raw[6:])
                for raw in inner[5]
            )
            inner = (*inner[:5], messages, *inner[6:])
        return self._save.copy_in(inner, blobs)

    def _copy(self, guest: str, command: c.Copy) -> Raw:
        state, to = self._state, command.target
        must(state, guest, command.user, command.mailbox, "rte" if command.move else "r")
        system, keywords = ALL_FLAGS, True
        if to.user != guest:
            target = must(state, guest, to.user, to.mailbox, "i")
            system, keywords = self._settable_new(guest, target)
        source = state.must_find(command.user, command.mailbox)
        seen = seen_by(state, source, guest)
        return copy_move.copy(state, command, system, keywords=keywords, seen=seen)

    def _settable_new(self, guest: str, mailbox: MailboxRecord) -> tuple[int, bool]:
        """As `settable`, of messages that come. Where each has a \\Seen of the own, nobody has seen
        them."""
        system, keywords = settable(_rights(self._state, guest, mailbox))
        if seen_by(self._state, mailbox, guest) is not None:
            system &= ~SEEN
        return system, keywords


def settable(rights: str) -> tuple[int, bool]:
    """Which system flags somebody may change, and whether keywords (RFC 4314 section 2.1)."""
    other = "w" in rights
    system = (SEEN if "s" in rights else 0) | (DELETED if "t" in rights else 0)
    return system | (_OTHER_FLAGS if other else 0), other


def _kept_flags(flags: tuple[str, ...], system: int, *, keywords: bool) -> tuple[str, ...]:
    """Flags of a new message that a guest may set; others are left out (RFC 4314 section 4)."""
    bits = {name.lower(): bit for name, bit in SYSTEM.items()}
    return tuple(
        flag for flag in flags if (system & bits[flag.lower()] if flag[0] == "\\" else keywords)
    )


def _rights(state: State, guest: str, mailbox: MailboxRecord) -> str:
    return rights_of(guest, mailbox.user, state.index.acls.of(mailbox.number))


def must(state: State, guest: str, user: str, ref: str | int, needed: str) -> MailboxRecord:
    """A mailbox on which a guest has all of these rights. Raises `Refusal`."""
    mailbox = state.find(user, ref)
    if mailbox is None:
        raise Refusal(Code.NONEXISTENT, _NONE_SUCH)
    rights = _rights(state, guest, mailbox)
    if any(right not in rights for right in needed) or not rights:
        raise _refusal(rights, needed)
    return mailbox


def _refusal(rights: str, needed: str) -> Refusal:
    if "l" not in rights:
        return Refusal(Code.NONEXISTENT, _NONE_SUCH)
    missing = " ".join(right for right in needed if right not in rights)
    return Refusal(Code.NOPERM, f"you have not the right to do this ({missing})")


def _told_to_guest(refusal: Refusal, guest: str, user: str) -> Refusal:
    """A refusal that tells nothing of what the owner alone knows."""
    code = Code(refusal.raw[1])
    if guest == user or code is not Code.OVERQUOTA:
        return refusal
    return Refusal(code, "the owner of the mailbox is over quota")


# -- reads -----------------------------------------------------------------------------------------


def may_read(state: State, query: q.GuestQuery) -> bool:
    """Whether a query of a guest is answered."""
    inner = query.query
    if inner.mailbox is None:
        return False
    try:
        mailbox = state.find(inner.user, inner.mailbox)
    except Refusal:
        return False
    needed = "a" if isinstance(inner, q.GetAcl) else "r"
    return mailbox is not None and needed in _rights(state, query.guest, mailbox)


def shared_with(state: State, query: q.ListShared) -> list[tuple[MailboxRecord, str]]:
    """See `ListShared`."""
    if query.mailbox is None:
        found = state.owned(query.user)
    else:
        try:
            one = state.find(query.user, query.mailbox)
        except Refusal:
            one = None
        found = [] if one is None else [one]
    shared = [(mailbox, _rights(state, query.guest, mailbox)) for mailbox in found]
    if query.mailbox is not None:
        return [(mailbox, rights) for mailbox, rights in shared if rights]
    return [(mailbox, rights) for mailbox, rights in shared if "l" in rights]
