"""What mail programs leave out of a history, filled in from what others were told.

IMAP tells neither the number of a mailbox nor, when a message is appended, its GUID. The number is
that of the name, which others were told. The GUID is found by INTERNALDATE, which no two messages
that mail programs append have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.history import Fate, Operation


def complete(operations: Sequence[Operation]) -> list[Operation]:
    """The same operations, those of mail programs with numbers and GUIDs."""
    numbers = _numbers(operations)
    guids = _guids(operations)
    return [_completed(o, numbers, guids) if _is_partial(o) else o for o in operations]


def _is_partial(o: Operation) -> bool:
    if isinstance(o.call, c.Save) and not o.call.messages[0].guid:
        return True
    if isinstance(o.answer, r.CopyResult):
        return not o.answer.target
    return not getattr(_info(o), "number", 1)


def _info(o: Operation) -> q.MailboxInfo | None:
    """The mailbox that a read is of."""
    if isinstance(o.answer, q.MessagePage):
        return o.answer.mailbox
    return o.answer if isinstance(o.answer, q.MailboxInfo) else None


def _numbers(operations: Sequence[Operation]) -> dict[tuple[str, str], int]:
    """By user and name; of one that nobody was told, a number that no mailbox has."""
    found: dict[tuple[str, str], int] = {}
    for o in operations:
        if o.fate is not Fate.ANSWERED:
            continue
        info = _info(o)
        if info is not None and info.number:
            found[info.user, info.name] = info.number
        elif isinstance(o.call, c.Save) and isinstance(o.answer, r.SaveResult):
            targets = [target for message in o.call.messages for target in message.targets]
            for target, saved in zip(targets, o.answer.saved, strict=True):
                if saved.mailbox:
                    found[saved.user, str(target.mailbox)] = saved.mailbox
        elif isinstance(o.call, c.Copy) and isinstance(o.answer, r.CopyResult) and o.answer.target:
            found[o.call.target.user, str(o.call.target.mailbox)] = o.answer.target
    return found


def _guids(operations: Sequence[Operation]) -> dict[tuple[str, int], bytes]:
    """By user and INTERNALDATE, of messages that were seen."""
    appended = {
        (o.call.user, o.call.messages[0].received_us)
        for o in operations
        if isinstance(o.call, c.Save) and not o.call.messages[0].guid
    }
    found: dict[tuple[str, int], bytes] = {}
    for o in operations:
        if appended and isinstance(o.answer, q.MessagePage):
            for message in o.answer.messages:
                key = o.answer.mailbox.user, message.received_us
                if key in appended:
                    found[key] = message.guid
    return found


def _completed(
    o: Operation, numbers: dict[tuple[str, str], int], guids: dict[tuple[str, int], bytes]
) -> Operation:
    def number(user: str, name: str) -> int:
        return numbers.setdefault((user, name), -1 - len(numbers))

    done = replace(o)
    answer = o.answer
    if isinstance(o.call, c.Save):
        (message,) = o.call.messages
        (target,) = message.targets
        unseen = sha256(b"%d" % message.received_us).digest()[:16]
        guid = guids.get((o.call.user, message.received_us), unseen)
        done.call = replace(o.call, messages=(replace(message, guid=guid),))
        if isinstance(answer, r.SaveResult):
            at = number(target.user, str(target.mailbox))
            done.answer = r.SaveResult(tuple(replace(one, mailbox=at) for one in answer.saved))
    elif isinstance(o.call, c.Copy) and isinstance(answer, r.CopyResult):
        at = number(o.call.target.user, str(o.call.target.mailbox))
        done.answer = replace(answer, target=at)
    elif isinstance(answer, q.MailboxInfo):
        done.answer = replace(answer, number=number(answer.user, answer.name))
    elif isinstance(answer, q.MessagePage):
        info = answer.mailbox
        at = number(info.user, info.name)
        done.answer = replace(answer, mailbox=replace(info, number=at))
    return done
