"""Commands, results, queries and answers as bytes, for the Raft log and for links between nodes.
Version 1.

An entry: `kind u8 = 1 | version u8 = 1 | blobs u16 | requests u16 | blobs × sha256 | msgpack array
of requests`, big-endian. A request: a msgpack array `[client, seq, floor, kind, field, ...]`, so
that requests are joined to an entry as they are, and an entry is decoded in one call. Results,
queries and answers: a version byte, then a msgpack array `[kind, field, ...]`.

Decoding trusts nothing: what does not have exactly the right shape raises `CodecError`, and
nothing else is ever raised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, TypeAlias

from raftmail.mail import commands as c
from raftmail.mail.codec_queries import (
    decode_answer,
    decode_query,
    encode_answer,
    encode_query,
    validate_query,
)
from raftmail.mail.codec_results import decode_result, encode_result
from raftmail.mail.limits import (
    BLOBS_MAX,
    CLIENT_BYTES,
    DIGEST_BYTES,
    ENTRY_BYTES_MAX,
    NUMBER_MAX,
    REQUEST_BYTES_MAX,
    REQUESTS_MAX,
    validate,
)
from raftmail.mail.packing import CodecError, Raw, pack, pack_fast, unpack
from raftmail.mail.uidset import UidSet

__all__ = [
    "CodecError",
    "Request",
    "check_request",
    "command_of",
    "decode_answer",
    "decode_entry",
    "decode_query",
    "decode_request",
    "decode_result",
    "encode_answer",
    "encode_entry",
    "encode_query",
    "encode_request",
    "encode_result",
    "entry_blobs",
    "head_is_good",
    "inspect_request",
    "open_entry",
    "validate",
    "validate_query",
]

VERSION = 1
ENTRY_BATCH = 1
ENTRY_HEAD = Struct(">BBHH")
_HEAD_BYTES = ENTRY_HEAD.size

(
    CREATE,
    DELETE,
    RENAME,
    SUBSCRIBE,
    SAVE,
    COPY,
    EXPUNGE,
    STORE,
    PUT_USER,
    REMOVE_USER,
    PURGE_USER,
    CONFIGURE,
    COPY_IN,
    PUT_APP_PASSWORD,
    DROP_APP_PASSWORD,
    ANNOTATE,
    MAKE_FIRST,
    PUT_SCRIPT,
    DELETE_SCRIPT,
    RENAME_SCRIPT,
    ACTIVATE_SCRIPT,
    SET_ACL,
    NOTE_SHARER,
    AS_GUEST,
    OWN_SEEN,
) = range(1, 26)

MESSAGE_FIELDS = (7, 8, 10, 12)
"""How many a message to save has: with delivery keys one more, with dates two more."""

FREEING = frozenset((
    DELETE, EXPUNGE, STORE, REMOVE_USER, PURGE_USER, CONFIGURE, DROP_APP_PASSWORD, DELETE_SCRIPT,
    ACTIVATE_SCRIPT,
))  # fmt: skip
"""The kinds of requests that a full disk still takes, from a reserve kept for them: what frees
space, what goes before that, and configuration, with which an operator repairs the cluster.

A message is marked as deleted before it is expunged. Another script is made active before one can
be deleted."""


@dataclass(frozen=True, slots=True)
class Request:
    """A command under the client id and sequence number that make it happen once (P3). Everything
    up to `floor` was answered: its results may be forgotten. `client` is 16 bytes, `seq` from 1,
    `floor` < `seq`."""

    client: bytes
    seq: int
    floor: int
    command: c.Command


# Requests


def encode_request(client: bytes, seq: int, floor: int, command: c.Command) -> bytes:
    """A request. The command is taken as valid (see `validate`); raises ValueError when it is too
    long or cannot be encoded."""
    if type(command) is c.Store:
        value: Raw = (
            client,
            seq,
            floor,
            STORE,
            command.user,
            command.mailbox,
            command.uids.to_wire(),
            command.mode,
            command.flags,
            command.unchanged_since,
        )
    else:
        value = (client, seq, floor, *_TO_RAW[type(command)](command))
    try:
        data = pack_fast(value)
    except (ValueError, OverflowError, TypeError):
        data = pack(value)  # fails again, and says so in our words
    if len(data) > REQUEST_BYTES_MAX:
        raise ValueError(
            f"command: {len(data)} bytes when encoded, more than the limit of {REQUEST_BYTES_MAX}"
        )
    kind = value[3]
    if kind == STORE:
        blobs: tuple[bytes, ...] = ()
    elif kind == SAVE and len(value[5]) == 1:
        blobs = (value[5][0][1],)
        if len(blobs[0]) != DIGEST_BYTES:
            return data
    else:
        return data
    if len(client) == CLIENT_BYTES and 0 <= floor < seq <= NUMBER_MAX:
        _made[0] = (data, (client, seq, kind, blobs))
    return data


_Inspected: TypeAlias = tuple[bytes, int, int, tuple[bytes, ...]]
_made: list[tuple[bytes, _Inspected]] = [(b"", (b"", 0, 0, ()))]
"""The request of the hot paths that was encoded last, and what `inspect_request` says of it: a
master that makes a request inspects it at once."""


def decode_request(request: bytes) -> Request:
    """Read and check a request wholly. Raises `CodecError`."""
    if len(request) > REQUEST_BYTES_MAX:
        raise CodecError(f"a request of {len(request)} bytes, more than {REQUEST_BYTES_MAX}")
    return request_of(unpack(request))


def request_of(raw: Any) -> Request:
    """The request that msgpack gave. Raises `CodecError`."""
    if not head_is_good(raw):
        raise CodecError("a request is an array that begins with client, seq, floor and kind")
    return Request(raw[0], raw[1], raw[2], command_of(raw))


def check_request(request: bytes, kind: int) -> None:
    """Refuse before it is proposed what the apply would refuse whatever the state is: a request of
    the kinds that are seldom. Those of the hot paths are checked by who makes them, and by the
    apply. Raises `CodecError`."""
    if kind not in (SAVE, STORE):
        decode_request(request)


def head_is_good(raw: Any) -> bool:
    """Whether `raw` begins like a request: client, seq, floor and a kind."""
    return (
        type(raw) is tuple
        and len(raw) > 4
        and type(raw[0]) is bytes
        and len(raw[0]) == CLIENT_BYTES
        and type(raw[1]) is int
        and type(raw[2]) is int
        and 0 <= raw[2] < raw[1] <= NUMBER_MAX
        and type(raw[3]) is int
    )


def command_of(raw: Raw) -> c.Command:
    """The command of a request with a good head. Raises `CodecError`."""
    kind = raw[3]
    reader = _FROM_RAW.get(kind)
    if reader is None:
        raise CodecError(f"no command has the kind {kind}")
    if not reader.length <= len(raw) <= reader.length + reader.optional:
        raise CodecError(f"{reader.name} has {reader.length - 4} fields, not {len(raw) - 4}")
    try:
        command = reader.read(*raw[4:])
        validate(command)
    except ValueError as e:
        raise CodecError(f"{reader.name}: {e}") from None
    except TypeError:  # whose text depends on Python's version, and results are compared
        raise CodecError(f"{reader.name}: a field of the wrong type") from None
    return command


def inspect_request(request: bytes) -> tuple[bytes, int, int, tuple[bytes, ...]]:
    """What a master has to know before it proposes a request: client, seq, kind, and the hashes of
    the bodies that it names, each once. Raises `CodecError` when the bytes are no single request,
    so that one bad request cannot spoil the entry that it shares with others. Fields that are
    wrong in themselves are left to the apply, which refuses them."""
    made, inspected = _made[0]
    if request is made:
        return inspected
    if len(request) > REQUEST_BYTES_MAX:
        raise CodecError(f"a request of {len(request)} bytes, more than {REQUEST_BYTES_MAX}")
    raw = unpack(request)
    if not head_is_good(raw):
        raise CodecError("a request is an array that begins with client, seq, floor and kind")
    kind, messages = raw[3], raw[5] if len(raw) > 5 else None
    if kind == AS_GUEST:
        kind, fields = _inner(raw[4:])
        messages = fields[1] if len(fields) > 1 else None
    if kind not in (SAVE, COPY_IN):
        # What frees space does so whoever asks for it.
        return raw[0], raw[1], kind if kind in FREEING else raw[3], ()
    if type(messages) is not tuple:
        raise CodecError("a Save has an array of messages")
    blobs: dict[bytes, None] = {}
    for message in messages:
        if (
            type(message) is not tuple
            or len(message) < 2
            or type(message[1]) is not bytes
            or len(message[1]) != DIGEST_BYTES
        ):
            raise CodecError("a message to save names its body by a sha256")
        blobs[message[1]] = None
    return raw[0], raw[1], raw[3], tuple(blobs)


def _inner(fields: Raw) -> tuple[int, Raw]:
    """Kind and fields of what a guest asks for; kind 0 where it is nothing."""
    inner = fields[1] if len(fields) > 1 else None
    if type(inner) is not tuple or not inner or type(inner[0]) is not int:
        return 0, ()
    return inner[0], inner[1:]


# Entries


def encode_entry(requests: Sequence[bytes], blobs: Sequence[bytes]) -> bytes:
    """A batch of requests, with the hashes of all bodies that they name. Raises ValueError when it
    goes over a limit."""
    count = len(requests)
    if not 0 < count <= REQUESTS_MAX or len(blobs) > BLOBS_MAX:
        raise ValueError(f"{count} requests and {len(blobs)} blobs do not go into an entry")
    array = bytes((0x90 | count,)) if count < 16 else b"\xdc" + count.to_bytes(2, "big")
    data = b"".join(
        (ENTRY_HEAD.pack(ENTRY_BATCH, VERSION, len(blobs), count), *blobs, array, *requests)
    )
    if len(data) > ENTRY_BYTES_MAX:
        raise ValueError(f"an entry of {len(data)} bytes, more than {ENTRY_BYTES_MAX}")
    return data


def entry_blobs(payload: bytes) -> tuple[bytes, ...]:
    """The hashes in front of an entry; () of an empty one (no-op). Raises `CodecError`."""
    if not payload:
        return ()
    return _split(payload)[0]


def decode_entry(payload: bytes) -> tuple[Raw, ...]:
    """The requests of an entry as msgpack gives them: each still has to be checked (`request_of`).
    Raises `CodecError`."""
    return open_entry(payload)[1]


def open_entry(payload: bytes) -> tuple[tuple[bytes, ...], tuple[Raw, ...]]:
    """Hashes and requests of an entry. Raises `CodecError`."""
    blobs, count, start = _split(payload)
    requests = unpack(memoryview(payload)[start:])
    if type(requests) is not tuple or len(requests) != count:
        raise CodecError(f"an entry that does not hold the {count} requests that its head tells")
    return blobs, requests


def _split(payload: bytes) -> tuple[tuple[bytes, ...], int, int]:
    if len(payload) > ENTRY_BYTES_MAX:
        raise CodecError(f"an entry of {len(payload)} bytes, more than {ENTRY_BYTES_MAX}")
    if len(payload) <= _HEAD_BYTES:
        raise CodecError("an entry that is cut off")
    kind, version, blobs, count = ENTRY_HEAD.unpack_from(payload)
    if kind != ENTRY_BATCH or version != VERSION:
        raise CodecError(f"an entry of kind {kind}, version {version}; known is 1, version 1")
    end = _HEAD_BYTES + blobs * DIGEST_BYTES
    if len(payload) <= end or not count:
        raise CodecError("an entry that is cut off")
    if not blobs:
        return (), count, end
    return (
        tuple(payload[at : at + DIGEST_BYTES] for at in range(_HEAD_BYTES, end, DIGEST_BYTES)),
        count,
        end,
    )


# Commands, field by field


def _target_raw(x: c.Target) -> Raw:
    return (x.user, x.mailbox, x.or_inbox)


def _message_raw(x: c.NewMessage) -> Raw:
    raw = (
        [_target_raw(target) for target in x.targets],
        x.blob,
        x.size_bytes,
        x.guid,
        x.received_us,
        x.flags,
        x.summary,
    )
    if x.is_further or x.marks:
        return (*raw, x.delivery_keys, x.zone_minutes, x.saved_us, x.is_further, x.marks)
    if x.zone_minutes or x.saved_us is not None:
        return (*raw, x.delivery_keys, x.zone_minutes, x.saved_us)
    return (*raw, x.delivery_keys) if x.delivery_keys else raw


def _save_raw(x: c.Save) -> Raw:
    messages = [_message_raw(message) for message in x.messages]
    raw = (SAVE, x.user, messages, x.uidvalidity_seed)
    if x.replaces is not None:
        return (*raw, x.quotas, x.delivered_once_s, x.replaces)
    if x.delivered_once_s:
        return (*raw, x.quotas, x.delivered_once_s)
    return (*raw, x.quotas) if x.quotas else raw


def _copy_raw(x: c.Copy) -> Raw:
    raw = (
        COPY,
        x.user,
        x.mailbox,
        x.uids.to_wire(),
        _target_raw(x.target),
        x.uidvalidity_seed,
        x.move,
        x.guids,
    )
    if x.saved_us is not None:
        return (*raw, x.quota_bytes, x.saved_us)
    return (*raw, x.quota_bytes) if x.quota_bytes else raw


def _copy_in_raw(x: c.CopyIn) -> Raw:
    # It begins like a Save, of which it is one that tells where the messages come from.
    raw = (
        COPY_IN,
        x.user,
        [_message_raw(message) for message in x.messages],
        x.uidvalidity_seed,
        _target_raw(x.target),
        x.source_uids.to_wire(),
        x.refused_code,
        x.refused_text,
    )
    return (*raw, x.quota_bytes) if x.quota_bytes else raw


def _create_raw(x: c.CreateMailbox) -> Raw:
    raw = (CREATE, x.user, x.name, x.uidvalidity_seed, x.guid, x.special_use)
    return (*raw, x.sole_use) if x.sole_use else raw


def _rename_raw(x: c.RenameMailbox) -> Raw:
    return (RENAME, x.user, x.mailbox, x.name, x.uidvalidity_seed, x.guid)


_TO_RAW: dict[type, Callable[[Any], Raw]] = {
    c.CreateMailbox: _create_raw,
    c.DeleteMailbox: lambda x: (DELETE, x.user, x.mailbox),
    c.RenameMailbox: _rename_raw,
    c.Subscribe: lambda x: (SUBSCRIBE, x.user, x.name, x.subscribed),
    c.Save: _save_raw,
    c.Copy: _copy_raw,
    c.Expunge: lambda x: (EXPUNGE, x.user, x.mailbox, x.uids.to_wire(), x.only_deleted),
    c.PutUser: lambda x: (PUT_USER, x.address, x.password_hash, x.replace),
    c.PutAppPassword: lambda x: (PUT_APP_PASSWORD, x.address, x.name, x.made_s, x.kept),
    c.DropAppPassword: lambda x: (DROP_APP_PASSWORD, x.address, x.name),
    c.RemoveUser: lambda x: (REMOVE_USER, x.address),
    c.PurgeUser: lambda x: (PURGE_USER, x.user),
    c.CopyIn: _copy_in_raw,
    c.Configure: lambda x: (CONFIGURE, x.puts, x.expected),
    c.MakeFirstMailboxes: lambda x: (
        MAKE_FIRST,
        x.user,
        x.mailboxes,
        x.uidvalidity_seed,
        x.guid,
    ),
    c.SetAnnotations: lambda x: (ANNOTATE, x.user, x.mailbox, x.entries),
    c.PutScript: lambda x: (
        PUT_SCRIPT,
        x.user,
        x.name,
        x.script,
        x.scripts_max,
        x.total_bytes_max,
    ),
    c.DeleteScript: lambda x: (DELETE_SCRIPT, x.user, x.name),
    c.RenameScript: lambda x: (RENAME_SCRIPT, x.user, x.name, x.new_name),
    c.ActivateScript: lambda x: (ACTIVATE_SCRIPT, x.user, x.name),
    c.SetAcl: lambda x: (SET_ACL, x.user, x.mailbox, x.identifier, x.mode, x.rights),
    c.SetOwnSeen: lambda x: (OWN_SEEN, x.user, x.mailbox, x.own),
    c.NoteSharer: lambda x: (NOTE_SHARER, x.user, x.owner),
    c.Store: lambda x: (
        STORE,
        x.user,
        x.mailbox,
        x.uids.to_wire(),
        x.mode,
        x.flags,
        x.unchanged_since,
    ),
    c.GuestCommand: lambda x: (AS_GUEST, x.guest, _TO_RAW[type(x.command)](x.command)),
}


def _array(field: str, value: object) -> Raw:
    if type(value) is not tuple:
        raise ValueError(f"{field}: an array, not {type(value).__name__}")
    return value


def _read_target(raw: object) -> c.Target:
    values = _array("target", raw)
    if len(values) != 3:
        raise ValueError("target: three fields")
    return c.Target(*values)


def _read_message(raw: object) -> c.NewMessage:
    values = _array("messages", raw)
    if len(values) not in MESSAGE_FIELDS:
        raise ValueError("messages: seven fields each, or eight, ten or twelve")
    targets = tuple(_read_target(target) for target in _array("targets", values[0]))
    return c.NewMessage(targets, *values[1:])


def _read_save(
    user: Any,
    messages: Any,
    seed: Any,
    quotas: Any = (),
    once_s: Any = 0,
    replaces: Any = None,
) -> c.Save:
    read = tuple(_read_message(m) for m in _array("messages", messages))
    return c.Save(user, read, seed, quotas, once_s, replaces)


def _read_copy(
    user: Any,
    mailbox: Any,
    uids: Any,
    target: Any,
    seed: Any,
    move: Any,
    guids: Any,
    quota: Any = 0,
    saved: Any = None,
) -> c.Copy:
    wanted = UidSet.from_wire(uids)
    return c.Copy(user, mailbox, wanted, _read_target(target), seed, move, guids, quota, saved)


def _read_copy_in(
    user: Any,
    messages: Any,
    seed: Any,
    target: Any,
    uids: Any,
    code: Any,
    text: Any,
    quota: Any = 0,
) -> c.CopyIn:
    read = tuple(_read_message(m) for m in _array("messages", messages))
    wanted = UidSet.from_wire(uids)
    return c.CopyIn(user, read, seed, _read_target(target), wanted, code, text, quota)


def _read_expunge(user: Any, mailbox: Any, uids: Any, only_deleted: Any) -> c.Expunge:
    return c.Expunge(user, mailbox, UidSet.from_wire(uids), only_deleted)


_MODES = {mode.value: mode for mode in c.StoreMode}


def _read_store(user: Any, mailbox: Any, uids: Any, mode: Any, flags: Any, since: Any) -> c.Store:
    if type(mode) is not int or mode not in _MODES:
        raise ValueError("mode: 0, 1 or 2")
    return c.Store(user, mailbox, UidSet.from_wire(uids), _MODES[mode], flags, since)


def _read_acl(user: Any, mailbox: Any, identifier: Any, mode: Any, rights: Any) -> c.SetAcl:
    if type(mode) is not int or mode not in _MODES:
        raise ValueError("mode: 0, 1 or 2")
    return c.SetAcl(user, mailbox, identifier, _MODES[mode], rights)


def _read_guest(guest: Any, inner: Any) -> c.GuestCommand:
    kind, fields = _inner((guest, inner))
    if kind not in _OF_GUESTS:
        raise ValueError(f"command: no guest asks for kind {kind}")
    command: Any = command_of((b"", 0, 0, kind, *fields))
    return c.GuestCommand(guest, command)


_OF_GUESTS = frozenset(
    (CREATE, DELETE, RENAME, ANNOTATE, SET_ACL, SAVE, COPY, COPY_IN, EXPUNGE, STORE)
)


@dataclass(frozen=True, slots=True, repr=False)
class _Reader:
    """`optional` fields at the end are left out when they have nothing to say."""

    name: str
    length: int
    read: Callable[..., c.Command]
    optional: int = 0


_FROM_RAW: dict[int, _Reader] = {
    CREATE: _Reader("CreateMailbox", 9, c.CreateMailbox, 1),
    DELETE: _Reader("DeleteMailbox", 6, c.DeleteMailbox),
    RENAME: _Reader("RenameMailbox", 9, c.RenameMailbox),
    SUBSCRIBE: _Reader("Subscribe", 7, c.Subscribe),
    SAVE: _Reader("Save", 7, _read_save, 3),
    COPY: _Reader("Copy", 11, _read_copy, 2),
    EXPUNGE: _Reader("Expunge", 8, _read_expunge),
    STORE: _Reader("Store", 10, _read_store),
    PUT_USER: _Reader("PutUser", 7, c.PutUser),
    PUT_APP_PASSWORD: _Reader("PutAppPassword", 8, c.PutAppPassword),
    DROP_APP_PASSWORD: _Reader("DropAppPassword", 6, c.DropAppPassword),
    REMOVE_USER: _Reader("RemoveUser", 5, c.RemoveUser),
    PURGE_USER: _Reader("PurgeUser", 5, c.PurgeUser),
    COPY_IN: _Reader("CopyIn", 11, _read_copy_in, 1),
    CONFIGURE: _Reader("Configure", 6, c.Configure),
    MAKE_FIRST: _Reader("MakeFirstMailboxes", 8, c.MakeFirstMailboxes),
    ANNOTATE: _Reader("SetAnnotations", 7, c.SetAnnotations),
    PUT_SCRIPT: _Reader("PutScript", 9, c.PutScript),
    DELETE_SCRIPT: _Reader("DeleteScript", 6, c.DeleteScript),
    RENAME_SCRIPT: _Reader("RenameScript", 7, c.RenameScript),
    ACTIVATE_SCRIPT: _Reader("ActivateScript", 6, c.ActivateScript),
    SET_ACL: _Reader("SetAcl", 9, _read_acl),
    NOTE_SHARER: _Reader("NoteSharer", 6, c.NoteSharer),
    OWN_SEEN: _Reader("SetOwnSeen", 7, c.SetOwnSeen),
    AS_GUEST: _Reader("GuestCommand", 6, _read_guest),
}
