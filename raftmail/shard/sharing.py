"""Who may do what with a mailbox (RFC 4314), and who shares with whom."""

from __future__ import annotations

from raftmail.mail.codec_results import DONE_RAW
from raftmail.mail.commands import NoteSharer, SetAcl, StoreMode
from raftmail.mail.names import parents
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.mail.rights import ACL_ENTRIES_MAX, RIGHTS, SHARERS_MAX, AclEntry, whose
from raftmail.shard.state import Refusal, State
from raftmail.storage.records import MailboxRecord


def set_acl(state: State, command: SetAcl) -> Raw:
    """Raises `Refusal`."""
    user = command.user
    if command.mailbox is None:
        for mailbox in state.owned(user):
            _put(state, mailbox, changed(state.index.acls.of(mailbox.number), command))
        return DONE_RAW
    mailbox = state.must_find(user, command.mailbox)
    if whose(command.identifier) == user:
        raise Refusal(Code.CANNOT, "the owner of a mailbox has all rights, and keeps them")
    entries = changed(state.index.acls.of(mailbox.number), command)
    if len(entries) > ACL_ENTRIES_MAX:
        raise Refusal(Code.LIMIT, f"a mailbox is shared with {ACL_ENTRIES_MAX} identifiers at most")
    _put(state, mailbox, entries)
    return DONE_RAW


def changed(entries: tuple[AclEntry, ...], command: SetAcl) -> tuple[AclEntry, ...]:
    """Entries after a command."""
    found = dict(entries)
    rights = found.pop(command.identifier, "")
    if command.mode is StoreMode.ADD:
        rights += command.rights
    elif command.mode is StoreMode.REMOVE:
        rights = "".join(right for right in rights if right not in command.rights)
    else:
        rights = command.rights
    if rights:
        found[command.identifier] = "".join(right for right in RIGHTS if right in rights)
    return tuple(sorted(found.items()))


def _put(state: State, mailbox: MailboxRecord, entries: tuple[AclEntry, ...]) -> None:
    if entries != state.index.acls.of(mailbox.number):
        state.rows_changed += 1
        state.index.acls.put(mailbox.number, entries)
        state.index.mailboxes.relisted(mailbox.user)


def inherit(state: State, made: MailboxRecord) -> None:
    """A new mailbox is shared as the one is that it was made below."""
    above = parents(made.name)
    parent = state.find(made.user, above[-1]) if above else None
    if parent is not None:
        entries = state.index.acls.of(parent.number)
        if entries:
            state.index.acls.put(made.number, entries)


def note_sharer(state: State, command: NoteSharer) -> Raw:
    """Raises `Refusal`."""
    sharers = state.index.sharers
    if not sharers.has(command.user, command.owner):
        if sharers.count(command.user, SHARERS_MAX) >= SHARERS_MAX:
            raise Refusal(Code.LIMIT, f"{SHARERS_MAX} users share with {command.user} already")
        sharers.put(command.user, command.owner)
        state.index.mailboxes.relisted(command.user)
    return DONE_RAW
