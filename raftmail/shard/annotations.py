"""Setting annotations of mailboxes and users (RFC 5464)."""

from __future__ import annotations

from collections.abc import Sequence

from raftmail.mail.annotations import (
    ANNOTATIONS_MAX,
    SPECIAL_USE,
    USER_ANNOTATION_BYTES_MAX,
    USER_ANNOTATIONS_MAX,
)
from raftmail.mail.codec_results import DONE_RAW
from raftmail.mail.commands import SetAnnotations
from raftmail.mail.names import INBOX, SPECIAL_USES, quoted
from raftmail.mail.packing import Raw
from raftmail.mail.results import Code
from raftmail.shard.state import Refusal, State
from raftmail.storage.records import MailboxRecord


def annotate(state: State, command: SetAnnotations) -> Raw:
    """All are set, or none. Raises `Refusal`."""
    user = command.user
    mailbox = None if command.mailbox is None else state.must_find(user, command.mailbox)
    kept = [entry for entry in command.entries if entry[0] != SPECIAL_USE]
    check_annotations(state, user, 0 if mailbox is None else mailbox.number, kept)
    if len(kept) < len(command.entries):
        use = _special_use(state, mailbox, dict(command.entries)[SPECIAL_USE])
        if mailbox is not None and mailbox.special_use != use:
            mailbox.special_use = use
            state.index.mailboxes.touch(mailbox)
    if kept:
        state.rows_changed += len(kept)
        state.index.annotations.put(user, 0 if mailbox is None else mailbox.number, kept)
    state.index.mailboxes.relisted(user)
    return DONE_RAW


def check_annotations(
    state: State, user: str, number: int, entries: Sequence[tuple[str, bytes | None]]
) -> None:
    """Whether a user may have these as well. What frees space is always taken. Raises
    `Refusal`."""
    annotations = state.index.annotations
    before = annotations.of(user, number)
    after = dict(before)
    for name, value in entries:
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    rows, size = len(after) - len(before), _size(after) - _size(before)
    totals = annotations.totals(user)
    if rows > 0 and len(after) > ANNOTATIONS_MAX:
        raise Refusal(
            Code.LIMIT, f"{ANNOTATIONS_MAX} annotations are kept, not {len(after)}: remove some"
        )
    if rows > 0 and totals.rows + rows > USER_ANNOTATIONS_MAX:
        raise Refusal(
            Code.LIMIT,
            f"a user can have {USER_ANNOTATIONS_MAX} annotations, of all mailboxes: remove some",
        )
    if size > 0 and totals.bytes + size > USER_ANNOTATION_BYTES_MAX:
        raise Refusal(
            Code.LIMIT,
            f"all annotations of a user can have {USER_ANNOTATION_BYTES_MAX} bytes, of names and "
            f"values: remove some",
        )


def _size(values: dict[str, bytes]) -> int:
    return sum([len(name) + len(value) for name, value in values.items()])


def _special_use(state: State, mailbox: MailboxRecord | None, value: bytes | None) -> str:
    """The special use that a value of `SPECIAL_USE` stands for. Raises `Refusal`."""
    if not value:
        return ""
    use = value.decode("latin-1")
    if use not in SPECIAL_USES:
        known = ", ".join(sorted(SPECIAL_USES))
        raise Refusal(Code.CANNOT, f"{quoted(use)} is no special use; a mailbox has one of {known}")
    if mailbox is None or mailbox.name == INBOX:
        raise Refusal(Code.CANNOT, "a special use is for a mailbox other than INBOX")
    check_sole_use(state, mailbox.user, use, mailbox)
    return use


def check_sole_use(state: State, user: str, use: str, but: MailboxRecord | None = None) -> None:
    """Whether no mailbox of a user, or none but this one, has a special use. Raises `Refusal`."""
    for other in state.owned(user):
        if other.special_use == use and (but is None or other.number != but.number):
            raise Refusal(Code.CANNOT, f"{quoted(other.name)} is {use} already")
