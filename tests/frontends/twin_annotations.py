"""Annotations (RFC 5464) as the state machine keeps them, in the obvious way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.annotations import ANNOTATIONS_MAX, SPECIAL_USE, annotation_digest


class UsedMailbox(Protocol):
    """A mailbox of the twin service."""

    number: int
    user: str
    special_use: str


class TwinAnnotations:
    """By user and number of the mailbox; 0: beside all mailboxes."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, int], dict[str, bytes]] = {}

    def set(
        self, command: c.SetAnnotations, box: UsedMailbox | None, boxes: Mapping[int, UsedMailbox]
    ) -> r.Result:
        owner = command.user, box.number if box is not None else 0
        values = dict(self._values.get(owner, {}))
        for name, value in command.entries:
            values.pop(name, None)
            if value is not None and name != SPECIAL_USE:
                values[name] = value
        if len(values) > ANNOTATIONS_MAX:
            return r.Refused(r.Code.LIMIT, "too many annotations")
        if SPECIAL_USE in dict(command.entries):
            use = (dict(command.entries)[SPECIAL_USE] or b"").decode()
            used = [b for b in boxes.values() if b.user == command.user and b.special_use == use]
            if use and (box is None or not use.startswith("\\") or used not in ([], [box])):
                return r.Refused(r.Code.CANNOT, "no such use")
            if box is not None:
                box.special_use = use
        self._values[owner] = values
        return r.Done()

    def of(self, user: str, box: UsedMailbox | None) -> q.AnnotationValues:
        values = dict(self._values.get((user, box.number if box is not None else 0), {}))
        if box is not None and box.special_use:
            values[SPECIAL_USE] = box.special_use.encode()
        return q.AnnotationValues(tuple(sorted(values.items())))

    def listed(
        self, query: q.ListAnnotations, boxes: Mapping[int, UsedMailbox]
    ) -> q.AnnotationList:
        found = []
        for box in (None, *(b for b in boxes.values() if b.user == query.user)):
            for name, value in self.of(query.user, box).entries:
                told = annotation_digest(value) if query.digests else value
                if name in query.names or not query.names:
                    found.append((box.number if box is not None else 0, name, told))
        return q.AnnotationList(tuple(sorted(found)))
