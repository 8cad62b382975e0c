"""Results as msgpack arrays `[kind, field, ...]`, and as bytes.

The apply makes the arrays, and dataclasses only of those that somebody waits for: `result_of` and
`raw_of` go between.
"""

from __future__ import annotations

from typing import Any

from raftmail.mail import results as r
from raftmail.mail.limits import GUID_BYTES, NUMBER_MAX, check_bytes, check_int
from raftmail.mail.packing import CodecError, Raw, pack, unpack_versioned
from raftmail.mail.uidset import UidSet

VERSION = 1
_PREFIX = bytes((VERSION,))

REFUSED, DONE, MAILBOX, SAVED, COPIED, EXPUNGED, STORED, CONFIGURED = range(8)
DONE_RAW: Raw = (DONE,)


def encode_result(result: r.Result) -> bytes:
    """A result as bytes."""
    return _PREFIX + pack(raw_of(result))


def decode_result(data: bytes) -> r.Result:
    """Read what `encode_result` wrote. Raises `CodecError`."""
    return check_result(unpack_versioned(data, VERSION, "result"))


def raw_of(result: r.Result) -> Raw:
    """A result as an array."""
    if isinstance(result, r.StoreResult):
        return (
            STORED,
            result.changed.to_wire(),
            result.rejected.to_wire(),
            result.modseq,
            result.highestmodseq,
        )
    if isinstance(result, r.SaveResult):
        saved = [(s.user, s.mailbox, s.uidvalidity, s.uid, s.modseq) for s in result.saved]
        return (SAVED, saved)
    if isinstance(result, r.Refused):
        return (REFUSED, result.code.value, result.text)
    if isinstance(result, r.MailboxResult):
        return (
            MAILBOX,
            result.number,
            result.name,
            result.guid,
            result.uidvalidity,
            result.uidnext,
            result.highestmodseq,
            result.messages,
        )
    if isinstance(result, r.CopyResult):
        return (
            COPIED,
            result.uidvalidity,
            result.target,
            result.source_uids.to_wire(),
            result.target_uids.to_wire(),
            result.source_modseq,
            result.target_modseq,
        )
    if isinstance(result, r.ExpungeResult):
        return (EXPUNGED, result.uids.to_wire(), result.highestmodseq)
    if isinstance(result, r.Configured):
        return (CONFIGURED, result.revision)
    return DONE_RAW


def result_of(raw: Raw) -> r.Result:
    """The result of an array that the apply made; no checks beyond those that come by
    themselves."""
    kind = raw[0]
    if kind == STORED:
        wire = UidSet.from_wire
        return r.StoreResult(wire(raw[1]), wire(raw[2]), raw[3], raw[4])
    if kind == SAVED:
        return r.SaveResult(tuple([r.Saved(*saved) for saved in raw[1]]))
    if kind == REFUSED:
        return r.Refused(r.Code(raw[1]), raw[2])
    if kind == DONE:
        return _DONE
    if kind == MAILBOX:
        return r.MailboxResult(*raw[1:])
    if kind == COPIED:
        wire = UidSet.from_wire
        return r.CopyResult(raw[1], raw[2], wire(raw[3]), wire(raw[4]), raw[5], raw[6])
    if kind == EXPUNGED:
        return r.ExpungeResult(UidSet.from_wire(raw[1]), raw[2])
    if kind == CONFIGURED:
        return r.Configured(raw[1])
    raise ValueError(f"no result has the kind {kind}")


_DONE = r.Done()
_FIELDS = {
    REFUSED: (str, str),
    DONE: (),
    MAILBOX: (int, str, bytes, int, int, int, int),
    SAVED: (tuple,),
    COPIED: (int, int, None, None, int, int),
    EXPUNGED: (None, int),
    STORED: (None, None, int, int),
    CONFIGURED: (int,),
}
_SAVED_FIELDS = (str, int, int, int, int)


def check_result(raw: Raw) -> r.Result:
    """The result of an array from elsewhere. Raises `CodecError` unless `raw_of` makes such
    arrays."""
    try:
        kinds = _FIELDS.get(raw[0])
        if kinds is None:
            raise ValueError(f"no result has the kind {raw[0]}")
        _typed(raw[1:], kinds)
        if raw[0] == SAVED:
            for saved in raw[1]:
                if type(saved) is not tuple:
                    raise ValueError("saved: arrays")
                _typed(saved, _SAVED_FIELDS)
        elif raw[0] == MAILBOX:
            check_bytes("guid", raw[3], GUID_BYTES)
        return result_of(raw)
    except (ValueError, TypeError) as e:
        raise CodecError(f"result: {e}") from None


def _typed(values: Raw, kinds: tuple[Any, ...]) -> None:
    if len(values) != len(kinds):
        raise ValueError(f"{len(kinds)} fields, not {len(values)}")
    for value, kind in zip(values, kinds, strict=True):
        if kind is int:
            check_int("number", value, 0, NUMBER_MAX)
        elif kind is not None and type(value) is not kind:
            raise ValueError(f"{kind.__name__}, not {type(value).__name__}")
