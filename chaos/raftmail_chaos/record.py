"""Histories as files: one JSON line for each operation, written when its fate is known.

Dataclasses become objects with their class under `_`, bytes `{"hex": ...}`, UID sets `{"uids":
...}`. Bodies that were read are kept as what they are (`Body`), not as bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.uidset import UidSet
from raftmail_chaos.history import Fate, Operation, Untold


@dataclass(frozen=True, slots=True)
class Body:
    """A message's bytes, as a read found them: enough to compare."""

    sha256: bytes
    size_bytes: int

    @classmethod
    def of(cls, data: bytes) -> Body:
        return cls(sha256(data).digest(), len(data))


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message given to LMTP, known by a token in its header: LMTP tells neither UID nor GUID.

    `code` is the reply that decided, 0 when none came. With `sent` the message had gone out whole
    before that. Times are seconds. One that was not acknowledged was given again, the same bytes,
    up to `tries` times in all; `recipients` had it in one transaction."""

    token: str
    user: str
    mailbox: str
    invoked: float
    returned: float
    code: int
    sent: bool
    text: str = ""
    tries: int = 1
    size_bytes: int = 0
    recipients: int = 1

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.code < 300


_CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        c.CreateMailbox, c.DeleteMailbox, c.RenameMailbox, c.Target, c.NewMessage, c.Save, c.Copy,
        c.Expunge, c.Store, c.SetAnnotations, c.PutScript, c.DeleteScript, c.ActivateScript,
        q.ListMailboxes, q.GetMailbox, q.FetchMessages, q.FetchBody, q.GetAnnotations,
        q.GetScript, q.ActiveScript, q.RulesInForce,
        q.AnnotationValues, q.MailboxInfo, q.MessageInfo, q.MessagePage,
        r.Refused, r.Done, r.MailboxResult, r.Saved, r.SaveResult, r.CopyResult, r.ExpungeResult,
        r.StoreResult,
        Body, Delivery, Untold,
    )
}  # fmt: skip

_ENUMS: dict[str, type[Enum]] = {kind.__name__: kind for kind in (c.StoreMode, r.Code)}


def to_plain(value: object) -> Any:
    """What JSON can say. Raises TypeError for a class that no history has."""
    if isinstance(value, Enum):
        return {"enum": type(value).__name__, "value": value.value}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, UidSet):
        return {"uids": [list(pair) for pair in value.ranges()]}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    name = type(value).__name__
    if name in _CLASSES and is_dataclass(value):
        return {"_": name} | {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    raise TypeError(f"no history has a {name}")


def from_plain(plain: Any) -> Any:
    """The reverse of `to_plain`. Raises KeyError, TypeError, ValueError."""
    if isinstance(plain, list):
        return tuple(from_plain(item) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if "_" in plain:
        kind = _CLASSES[plain["_"]]
        return kind(**{name: from_plain(item) for name, item in plain.items() if name != "_"})
    if "hex" in plain:
        return bytes.fromhex(plain["hex"])
    if "uids" in plain:
        return UidSet.from_ranges((low, high) for low, high in plain["uids"])
    return _ENUMS[plain["enum"]](plain["value"])


def to_line(operation: Operation) -> str:
    """One line, without its end."""
    value = {
        "n": operation.number,
        "by": operation.process,
        "asked": operation.invoked,
        "answered": None if operation.returned == inf else operation.returned,
        "fate": operation.fate.value,
        "index": operation.index,
        "call": to_plain(operation.call),
        "answer": to_plain(operation.answer),
    }
    return json.dumps(value, separators=(",", ":"))


def delivery_line(delivery: Delivery) -> str:
    """One line, without its end."""
    return json.dumps(to_plain(delivery), separators=(",", ":"))


def read_lines(lines: Iterable[str]) -> Iterator[Operation | Delivery]:
    """What lines tell. Raises ValueError with the number of a line that tells nothing."""
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            if "_" in value:
                delivery = from_plain(value)
                assert isinstance(delivery, Delivery)
                yield delivery
                continue
            yield Operation(
                value["n"],
                value["by"],
                from_plain(value["call"]),
                value["asked"],
                inf if value["answered"] is None else value["answered"],
                Fate(value["fate"]),
                from_plain(value["answer"]),
                value["index"],
            )
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise ValueError(f"line {number} is no operation: {error!r}") from None


def user_folder(history: Path, user: str) -> Path:
    """Where the history of one user is: users share nothing, and whole runs are too much to hold in
    memory."""
    return history / user.partition("@")[0]


def users_of(history: Path) -> list[str]:
    """Whose histories there are, by the names of their folders."""
    return sorted(path.name for path in history.iterdir() if path.is_dir())


def read_user(folder: Path) -> Iterator[Operation | Delivery]:
    """All operations of one user, from every `*.jsonl` of the user's folder. Raises ValueError,
    OSError."""
    for path in sorted(folder.glob("*.jsonl")):
        with open(path, encoding="utf-8") as lines:
            try:
                yield from read_lines(lines)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
