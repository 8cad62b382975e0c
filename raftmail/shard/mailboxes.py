"""CREATE, DELETE, RENAME, SUBSCRIBE, and users."""

from __future__ import annotations

from hashlib import blake2b

from raftmail.mail.app_passwords import APP_PASSWORDS_MAX, AppPassword, UserPasswords
from raftmail.mail.codec_results import DONE_RAW
from raftmail.mail.commands import (
    CreateMailbox,
    DeleteMailbox,
    DropAppPassword,
    MakeFirstMailboxes,
    PurgeUser,
    PutAppPassword,
    PutUser,
    RemoveUser,
    RenameMailbox,
    Subscribe,
)
from raftmail.mail.names import INBOX, SEPARATOR, parents, quoted, stored_name
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.shard import configuration
from raftmail.shard.annotations import check_annotations, check_sole_use
from raftmail.shard.copy_move import move_all
from raftmail.shard.sharing import inherit
from raftmail.shard.state import MAILBOXES_MAX, Refusal, State, mailbox_result
from raftmail.storage.records import MailboxRecord


def create(state: State, command: CreateMailbox) -> Raw:
    """Raises `Refusal`."""
    user, name = command.user, stored_name(command.name)
    if state.find(user, name) is not None:
        raise Refusal(Code.ALREADYEXISTS, f"{user} has a mailbox {quoted(name)} already")
    if command.sole_use and command.special_use:
        check_sole_use(state, user, command.special_use)
    above = _missing_parents(state, user, name)
    _check_room(state, user, len(above) + 1)
    mailbox = _make(
        state, user, [*above, name], command.guid, command.uidvalidity_seed, command.special_use
    )
    return mailbox_result(mailbox)


def make_first(state: State, command: MakeFirstMailboxes) -> Raw:
    """Raises `Refusal`."""
    user, seed = command.user, command.uidvalidity_seed
    if state.owned(user):
        state.make_inbox(user, seed)
        return DONE_RAW
    wanted = [(INBOX, ""), *((stored_name(name), use) for name, use in command.mailboxes)]
    subscriptions = state.index.subscriptions
    if subscriptions.count(user, MAILBOXES_MAX) + len(wanted) > MAILBOXES_MAX:
        raise Refusal(Code.LIMIT, f"a user can have {MAILBOXES_MAX} subscriptions")
    for name, use in wanted:
        guid = blake2b(name.encode(), digest_size=16, key=command.guid).digest()
        _make(state, user, [*_missing_parents(state, user, name), name], guid, seed, use)
        if not subscriptions.has(user, name):
            subscriptions.put(user, name)
    return DONE_RAW


def delete(state: State, command: DeleteMailbox) -> Raw:
    """Raises `Refusal`."""
    mailbox = state.must_find(command.user, command.mailbox)
    if mailbox.name == INBOX:
        raise Refusal(Code.CANNOT, "INBOX cannot be removed")
    result = mailbox_result(mailbox)
    _remove(state, mailbox)
    return result


def rename(state: State, command: RenameMailbox) -> Raw:
    """Raises `Refusal`."""
    user, new = command.user, stored_name(command.name)
    mailbox = state.must_find(user, command.mailbox)
    old = mailbox.name
    if new == INBOX or state.find(user, new) is not None:
        raise Refusal(Code.ALREADYEXISTS, f"{user} has a mailbox {quoted(new)} already")
    above = _missing_parents(state, user, new)
    if old == INBOX:
        _check_room(state, user, len(above) + 1)
        annotations = list(state.index.annotations.of(user, mailbox.number).items())
        check_annotations(state, user, state.index.next_mailbox, annotations)
        made = _make(state, user, [*above, new], command.guid, command.uidvalidity_seed, "")
        if annotations:  # INBOX keeps its own (RFC 5464 section 4.1)
            state.rows_changed += len(annotations)
            state.index.annotations.put(user, made.number, annotations)
        move_all(state, mailbox, made)
        return mailbox_result(made)
    prefix = old + SEPARATOR
    if new.startswith(prefix):
        raise Refusal(Code.CANNOT, f"{quoted(old)} cannot be moved below itself")
    _check_room(state, user, len(above))
    moves = _children_moves(state, user, prefix, new)
    if above:
        _make(state, user, above, command.guid, command.uidvalidity_seed, "")
    for child, name in moves:
        state.index.mailboxes.rename(child, name)
    state.index.mailboxes.rename(mailbox, new)
    state.forget(user)
    state.rows_changed += len(moves)
    return mailbox_result(mailbox)


def subscribe(state: State, command: Subscribe) -> Raw:
    """Raises `Refusal`."""
    user, name = command.user, stored_name(command.name)
    subscriptions = state.index.subscriptions
    state.index.mailboxes.relisted(user)
    if not command.subscribed:
        subscriptions.delete(user, name)
    elif not subscriptions.has(user, name):
        if subscriptions.count(user, MAILBOXES_MAX) >= MAILBOXES_MAX:
            raise Refusal(Code.LIMIT, f"a user can have {MAILBOXES_MAX} subscriptions")
        subscriptions.put(user, name)
    return DONE_RAW


def put_user(state: State, command: PutUser) -> Raw:
    """Raises `Refusal`."""
    text = state.index.users.get(command.address)
    exists = text is not None
    if exists and not command.replace:
        raise Refusal(Code.ALREADYEXISTS, f"there is a user {command.address} already")
    if command.replace and not exists:
        raise Refusal(Code.UNKNOWNUSER, f"there is no user {command.address}")
    if not exists:
        configuration.check_new_user(state, command.address)
    apps = UserPasswords.parse(text).apps if text is not None else ()
    kept = UserPasswords(command.password_hash, apps)
    state.index.users.put(command.address, kept.format())
    return DONE_RAW


def put_app_password(state: State, command: PutAppPassword) -> Raw:
    """Raises `Refusal`."""
    kept = _passwords(state, command.address)
    if kept.find(command.name) is not None:
        raise Refusal(
            Code.ALREADYEXISTS,
            f"{command.address} has an app password of that name already: remove it first",
        )
    if len(kept.apps) >= APP_PASSWORDS_MAX:
        raise Refusal(
            Code.LIMIT,
            f"{command.address} has {APP_PASSWORDS_MAX} app passwords already: remove one first",
        )
    made = AppPassword(command.name, command.made_s, command.kept)
    more = UserPasswords(kept.own, (*kept.apps, made))
    state.index.users.put(command.address, more.format())
    return DONE_RAW


def drop_app_password(state: State, command: DropAppPassword) -> Raw:
    """Raises `Refusal`."""
    kept = _passwords(state, command.address)
    left = tuple(one for one in kept.apps if one.name != command.name)
    if len(left) == len(kept.apps):
        raise Refusal(
            Code.NONEXISTENT, f"{command.address} has no app password of that name: list them"
        )
    state.index.users.put(command.address, UserPasswords(kept.own, left).format())
    return DONE_RAW


def _passwords(state: State, address: str) -> UserPasswords:
    """Of a user. Raises `Refusal`."""
    text = state.index.users.get(address)
    if text is None:
        raise Refusal(Code.UNKNOWNUSER, f"there is no user {address}")
    return UserPasswords.parse(text)


def remove_user(state: State, command: RemoveUser) -> Raw:
    """Raises `Refusal`."""
    if not state.index.users.delete(command.address):
        raise Refusal(Code.UNKNOWNUSER, f"there is no user {command.address}")
    return DONE_RAW


def purge(state: State, command: PurgeUser) -> Raw:
    """Removing what is not there is done too."""
    state.index.annotations.forget_user(command.user)
    state.index.scripts.forget_user(command.user)
    for mailbox in state.index.mailboxes.of(command.user):
        _remove(state, mailbox)
    for names in (state.index.subscriptions, state.index.sharers):
        for name in names.of(command.user):
            names.delete(command.user, name)
    state.index.delivered.forget_user(command.user)
    return DONE_RAW


def _missing_parents(state: State, user: str, name: str) -> list[str]:
    return [above for above in parents(name) if state.find(user, above) is None]


def _check_room(state: State, user: str, more: int) -> None:
    if more and state.index.mailboxes.count(user, MAILBOXES_MAX) + more > MAILBOXES_MAX:
        raise Refusal(Code.LIMIT, f"a user can have {MAILBOXES_MAX} mailboxes")


def _make(
    state: State, user: str, names: list[str], guid: bytes, seed: int, special_use: str
) -> MailboxRecord:
    """Make mailboxes; the last has `guid` and `special_use`, the others GUIDs that follow from
    it."""
    for name in names[:-1]:
        salted = blake2b(name.encode(), digest_size=16, key=guid).digest()
        inherit(state, state.index.new_mailbox(user, name, salted, seed, ""))
    made = state.index.new_mailbox(user, names[-1], guid, seed, special_use)
    inherit(state, made)
    state.forget(user)
    return made


def _children_moves(
    state: State, user: str, prefix: str, new: str
) -> list[tuple[MailboxRecord, str]]:
    """The mailboxes below one that is renamed, with their new names. Raises `Refusal` when one
    cannot have its name."""
    moves: list[tuple[MailboxRecord, str]] = []
    for child in state.index.mailboxes.of(user):
        if not child.name.startswith(prefix):
            continue
        name = new + SEPARATOR + child.name[len(prefix) :]
        try:
            name = stored_name(name)
        except ValueError as e:
            raise Refusal(
                Code.CANNOT, f"{quoted(child.name)} below it cannot be renamed: {e}"
            ) from None
        if state.find(user, name) is not None:
            raise Refusal(Code.ALREADYEXISTS, f"{user} has a mailbox {quoted(name)} already")
        moves.append((child, name))
    return moves


def _remove(state: State, mailbox: MailboxRecord) -> None:
    state.rows_changed += mailbox.messages
    state.index.messages.drop_mailbox(mailbox)
    state.index.annotations.forget(mailbox.user, mailbox.number)
    state.index.acls.put(mailbox.number, ())
    state.index.seen.set_own(mailbox.number, False)
    state.index.mailboxes.remove(mailbox)
    state.forget(mailbox.user)
