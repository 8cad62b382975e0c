"""How large a command may be. A front end checks with `validate` and tells its user; the decoder
checks again."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from raftmail.mail import commands as c
from raftmail.mail.annotations import ANNOTATIONS_MAX, check_annotation, check_annotation_name
from raftmail.mail.app_passwords import check_app_name
from raftmail.mail.first_mailboxes import check_first_mailboxes
from raftmail.mail.flags import parse_flags
from raftmail.mail.names import SPECIAL_USES, check_text, check_user_name, quoted, stored_name
from raftmail.mail.new_accounts import check_new
from raftmail.mail.record_rules import check_record
from raftmail.mail.results import Code
from raftmail.mail.rights import check_identifier, check_rights
from raftmail.mail.scripts import (
    SCRIPT_TOTAL_BYTES_MAX,
    SCRIPTS_MAX_HIGHEST,
    check_script,
    check_script_name,
)
from raftmail.mail.uidset import UID_MAX, UidSet

ENTRY_BYTES_MAX = 8 << 20
"""One Raft entry: a batch of requests with its head."""

REQUEST_BYTES_MAX = ENTRY_BYTES_MAX - (64 << 10)
REQUESTS_MAX = 65535
BLOBS_MAX = 65535
MESSAGES_MAX = 1000
TARGETS_MAX = 1000
SAVED_MAX = 10_000
"""Messages times targets of one Save."""

TOUCHED_MAX = 50_000
"""Messages that one STORE or EXPUNGE looks at. A replica does nothing else meanwhile, so it must
not take as long as an election would."""

COPIED_MAX = 20_000
"""Messages of one COPY or MOVE, which costs more for each."""

SUMMARY_BYTES_MAX = 1 << 20
SIZE_BYTES_MAX = 2**32 - 1
GUID_BYTES = 16
GUIDS_MAX = 400_000
DIGEST_BYTES = 32
CLIENT_BYTES = 16
PASSWORD_HASH_BYTES_MAX = 1024
UIDVALIDITY_MAX = 2**32 - 1
NUMBER_MAX = 2**63 - 1
"""The highest modseq, sequence number and mailbox number (RFC 7162 has modseqs of 63 bits)."""

DELIVERY_KEY_BYTES = 32
MARKS_MAX = 32
"""Marks of one message."""

DELIVERED_ONCE_S_MAX = 366 * 86_400

_KEPT = re.compile("[ -~]*")
_REFUSALS = frozenset(Code)
RECEIVED_US_MAX = 2**62
ZONE_MINUTES_MAX = 24 * 60 - 1
RECORD_KEY_BYTES_MAX = 400
RECORD_BYTES_MAX = 256 << 10
"""The value of one record of the cluster's configuration."""

RECORDS_MAX = 10_000
"""Records that one Configure writes, and records that it expects."""

QUERY_LIMIT_MAX = 1000


def validate(command: c.Command) -> None:
    """Check every field of a command against the rules and limits that do not depend on the
    shard's state.

    Raises ValueError whose text names the field."""
    check: Callable[[Any], None] | None = _CHECKS.get(type(command))
    if check is None:
        raise ValueError(f"command: {type(command).__name__} is no command")
    check(command)


def check_user(field: str, user: object) -> None:
    _is(field, user, str)
    _named(field, check_user_name, user)


def check_record_key(field: str, key: object) -> None:
    """The key of a record of the cluster's configuration: text that can be seen."""
    _is(field, key, str)
    assert isinstance(key, str)
    if not key:
        raise ValueError(f"{field}: a key is not empty")
    _named(field, check_text, key)
    if len(key.encode()) > RECORD_KEY_BYTES_MAX:
        raise ValueError(f"{field}: a key has at most {RECORD_KEY_BYTES_MAX} bytes")


def check_name(field: str, name: object) -> None:
    _is(field, name, str)
    _named(field, stored_name, name)


def check_ref(field: str, ref: object) -> None:
    if type(ref) is int:
        check_int(field, ref, 1, NUMBER_MAX)
    else:
        check_name(field, ref)


def check_int(field: str, value: object, low: int, high: int) -> None:
    if type(value) is not int and not (isinstance(value, int) and not isinstance(value, bool)):
        raise ValueError(f"{field}: an integer, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{field}: {value} is not from {low} to {high}")


def check_bytes(field: str, value: object, length: int) -> None:
    _is(field, value, bytes)
    if len(value) != length:  # type: ignore[arg-type]
        raise ValueError(f"{field}: {length} bytes, not {len(value)}")  # type: ignore[arg-type]


def _is(field: str, value: object, kind: type) -> None:
    if type(value) is not kind:
        raise ValueError(f"{field}: {kind.__name__}, not {type(value).__name__}")


def _named(field: str, rule: object, value: object) -> object:
    try:
        return rule(value)  # type: ignore[operator]
    except ValueError as e:
        raise ValueError(f"{field}: {e}") from None


def _flags(field: str, flags: object) -> None:
    _is(field, flags, tuple)
    for flag in flags:  # type: ignore[attr-defined]
        _is(field, flag, str)
    _named(field, parse_flags, flags)


def _seed(value: object) -> None:
    check_int("uidvalidity_seed", value, 0, UIDVALIDITY_MAX)


def _create(x: c.CreateMailbox) -> None:
    check_user("user", x.user)
    check_name("name", x.name)
    _seed(x.uidvalidity_seed)
    check_bytes("guid", x.guid, GUID_BYTES)
    _is("special_use", x.special_use, str)
    if x.special_use != "" and x.special_use not in SPECIAL_USES:
        raise ValueError(
            f"special_use: {quoted(x.special_use)} is none of {', '.join(sorted(SPECIAL_USES))}"
        )
    _is("sole_use", x.sole_use, bool)


def _delete(x: c.DeleteMailbox) -> None:
    check_user("user", x.user)
    check_ref("mailbox", x.mailbox)


def _rename(x: c.RenameMailbox) -> None:
    check_user("user", x.user)
    check_ref("mailbox", x.mailbox)
    check_name("name", x.name)
    _seed(x.uidvalidity_seed)
    check_bytes("guid", x.guid, GUID_BYTES)


def _subscribe(x: c.Subscribe) -> None:
    check_user("user", x.user)
    check_name("name", x.name)
    _is("subscribed", x.subscribed, bool)


def _make_first(x: c.MakeFirstMailboxes) -> None:
    check_user("user", x.user)
    _is("mailboxes", x.mailboxes, tuple)
    for item in x.mailboxes:
        if type(item) is not tuple or tuple(map(type, item)) != (str, str):
            raise ValueError("mailboxes: pairs of a name and a special use")
    _named("mailboxes", check_first_mailboxes, x.mailboxes)
    _seed(x.uidvalidity_seed)
    check_bytes("guid", x.guid, GUID_BYTES)


def _set_annotations(x: c.SetAnnotations) -> None:
    check_user("user", x.user)
    if x.mailbox is not None:
        check_ref("mailbox", x.mailbox)
    _is("entries", x.entries, tuple)
    if not 1 <= len(x.entries) <= ANNOTATIONS_MAX:
        raise ValueError(f"entries: 1 to {ANNOTATIONS_MAX}, not {len(x.entries)}")
    for entry in x.entries:
        _is("entries", entry, tuple)
        if len(entry) != 2:
            raise ValueError("entries: pairs")
        check_annotation_name("entries", entry[0])
        check_annotation("entries", entry[1])
    if len({entry[0] for entry in x.entries}) != len(x.entries):
        raise ValueError("entries: each name once")


def _put_script(x: c.PutScript) -> None:
    check_user("user", x.user)
    check_script_name("name", x.name)
    check_script("script", x.script)
    check_int("scripts_max", x.scripts_max, 1, SCRIPTS_MAX_HIGHEST)
    check_int("total_bytes_max", x.total_bytes_max, 0, SCRIPT_TOTAL_BYTES_MAX)


def _delete_script(x: c.DeleteScript) -> None:
    check_user("user", x.user)
    check_script_name("name", x.name)


def _rename_script(x: c.RenameScript) -> None:
    check_user("user", x.user)
    check_script_name("name", x.name)
    check_script_name("new_name", x.new_name)


def _activate_script(x: c.ActivateScript) -> None:
    check_user("user", x.user)
    if x.name != "":
        check_script_name("name", x.name)


def _set_acl(x: c.SetAcl) -> None:
    check_user("user", x.user)
    _is("mode", x.mode, c.StoreMode)
    check_identifier("identifier", x.identifier)
    check_rights("rights", x.rights)
    if x.mailbox is not None:
        check_ref("mailbox", x.mailbox)
    elif x.mode is c.StoreMode.ADD or (x.mode is c.StoreMode.REPLACE and x.rights):
        raise ValueError("mailbox: rights are given on one mailbox")


def _set_own_seen(x: c.SetOwnSeen) -> None:
    check_user("user", x.user)
    check_ref("mailbox", x.mailbox)
    _is("own", x.own, bool)


def _note_sharer(x: c.NoteSharer) -> None:
    check_user("user", x.user)
    check_user("owner", x.owner)


def _guest(x: c.GuestCommand) -> None:
    check_user("guest", x.guest)
    validate(x.command)
    command = x.command
    if isinstance(command, c.Save) and any(
        target.user != command.user for message in command.messages for target in message.targets
    ):
        raise ValueError("command: all messages of a guest go to one user")


def _target(field: str, target: c.Target) -> None:
    _is(field, target, c.Target)
    check_user(f"{field}.user", target.user)
    check_ref(f"{field}.mailbox", target.mailbox)
    _is(f"{field}.or_inbox", target.or_inbox, bool)


def _save(x: c.Save) -> None:
    check_user("user", x.user)
    _seed(x.uidvalidity_seed)
    _is("messages", x.messages, tuple)
    if not 1 <= len(x.messages) <= MESSAGES_MAX:
        raise ValueError(f"messages: from 1 to {MESSAGES_MAX} of them, not {len(x.messages)}")
    _messages(x.messages)
    _is("quotas", x.quotas, tuple)
    if len(x.quotas) > SAVED_MAX:
        raise ValueError(f"quotas: at most {SAVED_MAX}, not {len(x.quotas)}")
    for quota in x.quotas:
        _is("quotas", quota, tuple)
        if len(quota) != 2:
            raise ValueError("quotas: pairs")
        check_user("quotas", quota[0])
        check_int("quotas", quota[1], 1, NUMBER_MAX)
    check_int("delivered_once_s", x.delivered_once_s, 0, DELIVERED_ONCE_S_MAX)
    if not x.delivered_once_s and any(message.delivery_keys for message in x.messages):
        raise ValueError("delivered_once_s: delivery keys need a time")
    if x.replaces is not None:
        _is("replaces", x.replaces, tuple)
        if len(x.replaces) != 2:
            raise ValueError("replaces: a mailbox and a UID")
        check_ref("replaces", x.replaces[0])
        check_int("replaces", x.replaces[1], 1, UID_MAX)


def _messages(messages: tuple[c.NewMessage, ...]) -> None:
    saved = 0
    for at, message in enumerate(messages):
        field = f"messages[{at}]"
        _is(field, message, c.NewMessage)
        _is(f"{field}.targets", message.targets, tuple)
        if not 1 <= len(message.targets) <= TARGETS_MAX:
            raise ValueError(
                f"{field}.targets: from 1 to {TARGETS_MAX} of them, not {len(message.targets)}"
            )
        for target in message.targets:
            _target(f"{field}.targets", target)
        check_bytes(f"{field}.blob", message.blob, DIGEST_BYTES)
        check_int(f"{field}.size_bytes", message.size_bytes, 0, SIZE_BYTES_MAX)
        check_bytes(f"{field}.guid", message.guid, GUID_BYTES)
        check_int(f"{field}.received_us", message.received_us, -RECEIVED_US_MAX, RECEIVED_US_MAX)
        _flags(f"{field}.flags", message.flags)
        _is(f"{field}.summary", message.summary, bytes)
        if len(message.summary) > SUMMARY_BYTES_MAX:
            raise ValueError(f"{field}.summary: at most {SUMMARY_BYTES_MAX} bytes")
        check_dates(field, message.zone_minutes, message.saved_us)
        if message.delivery_keys != ():
            _delivery_keys(f"{field}.delivery_keys", message)
        _is(f"{field}.is_further", message.is_further, bool)
        if message.marks != ():
            _marks(f"{field}.marks", message)
        saved += len(message.targets)
    if saved > SAVED_MAX:
        raise ValueError(f"messages: with their targets {saved} to save, more than {SAVED_MAX}")


def check_dates(field: str, zone_minutes: object, saved_us: object) -> None:
    check_int(f"{field}.zone_minutes", zone_minutes, -ZONE_MINUTES_MAX, ZONE_MINUTES_MAX)
    if saved_us is not None:
        check_int(f"{field}.saved_us", saved_us, -RECEIVED_US_MAX, RECEIVED_US_MAX)


def _delivery_keys(field: str, message: c.NewMessage) -> None:
    _is(field, message.delivery_keys, tuple)
    if len(message.delivery_keys) != len(message.targets):
        raise ValueError(f"{field}: one for each target")
    for key in message.delivery_keys:
        check_bytes(field, key, DELIVERY_KEY_BYTES)


def _marks(field: str, message: c.NewMessage) -> None:
    _is(field, message.marks, tuple)
    if not message.delivery_keys or len(message.marks) > MARKS_MAX:
        raise ValueError(f"{field}: at most {MARKS_MAX}, of a message with delivery keys")
    for key in message.marks:
        check_bytes(field, key, DELIVERY_KEY_BYTES)


def _copy(x: c.Copy) -> None:
    check_user("user", x.user)
    check_ref("mailbox", x.mailbox)
    _is("uids", x.uids, UidSet)
    _target("target", x.target)
    _seed(x.uidvalidity_seed)
    _is("move", x.move, bool)
    _is("guids", x.guids, tuple)
    if len(x.guids) > GUIDS_MAX:
        raise ValueError(f"guids: at most {GUIDS_MAX}, not {len(x.guids)}")
    for guid in x.guids:
        check_bytes("guids", guid, GUID_BYTES)
    check_int("quota_bytes", x.quota_bytes, 0, NUMBER_MAX)
    check_dates("copies", 0, x.saved_us)


def _copy_in(x: c.CopyIn) -> None:
    check_user("user", x.user)
    _seed(x.uidvalidity_seed)
    _target("target", x.target)
    if x.target.user != x.user:
        raise ValueError("target: it is the user's")
    _is("source_uids", x.source_uids, UidSet)
    _is("messages", x.messages, tuple)
    if len(x.messages) > MESSAGES_MAX:
        raise ValueError(f"messages: at most {MESSAGES_MAX} of them, not {len(x.messages)}")
    _messages(x.messages)
    if any(message.targets != (x.target,) for message in x.messages):
        raise ValueError("messages: their target is the command's")
    if any(message.delivery_keys for message in x.messages):
        raise ValueError("messages: what is copied has no delivery keys")
    if len(x.source_uids) != len(x.messages) or x.source_uids.last > UID_MAX:
        raise ValueError("source_uids: one for each message")
    _is("refused_code", x.refused_code, str)
    _is("refused_text", x.refused_text, str)
    if x.refused_code and (x.messages or x.refused_code not in _REFUSALS):
        raise ValueError("refused_code: a code, and no messages")
    check_int("quota_bytes", x.quota_bytes, 0, NUMBER_MAX)


def _expunge(x: c.Expunge) -> None:
    check_user("user", x.user)
    check_ref("mailbox", x.mailbox)
    _is("uids", x.uids, UidSet)
    _is("only_deleted", x.only_deleted, bool)


def _store(x: c.Store) -> None:
    check_user("user", x.user)
    check_ref("mailbox", x.mailbox)
    _is("uids", x.uids, UidSet)
    _is("mode", x.mode, c.StoreMode)
    _flags("flags", x.flags)
    check_int("unchanged_since", x.unchanged_since, -1, NUMBER_MAX)


def _put_user(x: c.PutUser) -> None:
    check_user("address", x.address)
    _is("replace", x.replace, bool)
    if not x.replace:
        _named("address", check_new, x.address)
    _is("password_hash", x.password_hash, str)
    if len(x.password_hash) > PASSWORD_HASH_BYTES_MAX or not x.password_hash.isascii():
        raise ValueError(f"password_hash: at most {PASSWORD_HASH_BYTES_MAX} ASCII characters")


def _put_app_password(x: c.PutAppPassword) -> None:
    check_user("address", x.address)
    _is("name", x.name, str)
    _named("name", check_app_name, x.name)
    check_int("made_s", x.made_s, 0, RECEIVED_US_MAX // 1_000_000)
    _is("kept", x.kept, str)
    if len(x.kept) > PASSWORD_HASH_BYTES_MAX or not _KEPT.fullmatch(x.kept):
        raise ValueError(f"kept: at most {PASSWORD_HASH_BYTES_MAX} visible ASCII characters")


def _drop_app_password(x: c.DropAppPassword) -> None:
    check_user("address", x.address)
    _is("name", x.name, str)
    _named("name", check_app_name, x.name)


def _remove_user(x: c.RemoveUser) -> None:
    check_user("address", x.address)


def _purge(x: c.PurgeUser) -> None:
    check_user("user", x.user)


def _configure(x: c.Configure) -> None:
    for field, items in (("puts", x.puts), ("expected", x.expected)):
        _is(field, items, tuple)
        if len(items) > RECORDS_MAX:
            raise ValueError(f"{field}: at most {RECORDS_MAX} records, not {len(items)}")
        for item in items:
            _is(field, item, tuple)
            if len(item) != 2:
                raise ValueError(f"{field}: pairs")
            check_record_key(field, item[0])
        if len({item[0] for item in items}) != len(items):
            raise ValueError(f"{field}: each key once")
    if not x.puts:
        raise ValueError("puts: at least one record")
    for key, value in x.puts:
        if value is not None:
            _is(f"puts: {key}", value, bytes)
            if len(value) > RECORD_BYTES_MAX:
                raise ValueError(f"puts: {key}: at most {RECORD_BYTES_MAX} bytes, not {len(value)}")
        try:
            check_record(key, value)
        except ValueError as e:
            raise ValueError(f"the record {quoted(key)} cannot be written: {e}") from None
    for key, revision in x.expected:
        check_int(f"expected: {key}", revision, 0, NUMBER_MAX)


_CHECKS: dict[type, Callable[[Any], None]] = {
    c.CreateMailbox: _create,
    c.DeleteMailbox: _delete,
    c.RenameMailbox: _rename,
    c.Subscribe: _subscribe,
    c.SetAnnotations: _set_annotations,
    c.MakeFirstMailboxes: _make_first,
    c.PutScript: _put_script,
    c.DeleteScript: _delete_script,
    c.RenameScript: _rename_script,
    c.ActivateScript: _activate_script,
    c.SetAcl: _set_acl,
    c.SetOwnSeen: _set_own_seen,
    c.NoteSharer: _note_sharer,
    c.GuestCommand: _guest,
    c.Save: _save,
    c.Copy: _copy,
    c.CopyIn: _copy_in,
    c.Expunge: _expunge,
    c.Store: _store,
    c.PutUser: _put_user,
    c.PutAppPassword: _put_app_password,
    c.DropAppPassword: _drop_app_password,
    c.RemoveUser: _remove_user,
    c.PurgeUser: _purge,
    c.Configure: _configure,
}
