"""The verdict on a run's histories: `python -m raftmail_chaos.judge FOLDER` prints it as JSON.

Users share nothing, so each user's history is checked by itself. Deliveries over LMTP get the place
in it that the final read of their mailbox tells. An acknowledged one must be there exactly once.
That holds also when it was given more than once, the same bytes, because a reply was lost or put it
off (P9).
"""

from __future__ import annotations

import json
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.checker import examine
from raftmail_chaos.history import Fate, History, Operation
from raftmail_chaos.record import Body, Delivery, read_user, users_of

TOKENS_FILE = "tokens.json"
"""Where the final read notes the token of each delivered message, by UID, in the user's folder."""

CHECK_S = 30.0
"""How long the check of one user's history may take; most take some milliseconds."""

_SHOWN_MAX = 50


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """One broken rule: the checker's name for it, whose mail, and the operations that show it."""

    rule: str
    user: str
    text: str


@dataclass(slots=True)
class HistoryVerdict:
    """What the histories say. Counts are of the whole run, the final read included."""

    findings: list[RuleFinding] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    """Users whose history has more possible orders than can be looked at."""
    passed_over: int = 0
    """Messages of other users with too many unanswered writes to tell."""
    operations: int = 0
    users: int = 0
    fates: Counter[str] = field(default_factory=Counter)
    acknowledged_messages: int = 0
    acknowledged_writes: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    """Deliveries that were given more than once."""
    looks: int = 0
    """How often mail programs told all that they kept of a mailbox."""
    opened: int = 0
    """How often mail programs opened one, or asked for its state."""
    doubled: int = 0
    """Of those, the ones that are there more than once."""
    largest_bytes: int = 0
    recipients_most: int = 0
    """Of one transaction."""

    @property
    def broken(self) -> Counter[str]:
        """How often each rule was broken."""
        return Counter(finding.rule for finding in self.findings)


def judge(folder: Path) -> HistoryVerdict:
    """Check all histories of a folder. Raises ValueError, OSError for what cannot be read."""
    verdict = HistoryVerdict()
    for user in users_of(folder):
        operations: list[Operation] = []
        deliveries: list[Delivery] = []
        for item in read_user(folder / user):
            if isinstance(item, Delivery):
                deliveries.append(item)
            else:
                operations.append(item)
        path = folder / user / TOKENS_FILE
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        tokens = {int(uid): token for uid, token in told.items()}
        judge_user(verdict, user, operations, deliveries, tokens)
    return verdict


def judge_user(
    verdict: HistoryVerdict,
    user: str,
    operations: Sequence[Operation],
    deliveries: Sequence[Delivery],
    tokens: Mapping[int, str],
) -> None:
    """Check one user's history, and count it. `tokens` are those of the messages that were
    delivered, by UID."""
    verdict.users += 1
    saves, findings = _as_saves(verdict, user, operations, deliveries, tokens)
    verdict.findings += findings
    whole = sorted([*operations, *saves], key=lambda o: o.invoked)
    for number, operation in enumerate(whole):
        operation.number = number
    findings = [*_wrong_bodies(user, operations)]
    try:
        with _limit(CHECK_S):
            said = examine(History(whole))
            verdict.passed_over += len(said.passed_over)
            for problem in said.problems:
                findings.append(RuleFinding(problem.rule, user, str(problem)))
    except TimeoutError:
        verdict.undecided.append(user)
    verdict.findings += findings[:_SHOWN_MAX]
    _count(verdict, operations, deliveries)


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what is done inside, when it takes longer. For the main thread."""

    def expire(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _as_saves(
    verdict: HistoryVerdict,
    user: str,
    operations: Sequence[Operation],
    deliveries: Sequence[Delivery],
    tokens: Mapping[int, str],
) -> tuple[list[Operation], list[RuleFinding]]:
    """The deliveries as SAVEs with the UIDs that they turned out to have."""
    if not deliveries:
        return [], []
    mailbox = deliveries[0].mailbox
    last: q.MessagePage | None = None
    for o in sorted(operations, key=lambda o: o.invoked):
        is_whole = isinstance(o.call, q.FetchMessages) and not o.call.changed_since
        if is_whole and isinstance(o.answer, q.MessagePage) and o.answer.mailbox.name == mailbox:
            last = o.answer
    there: dict[str, list[q.MessageInfo]] = defaultdict(list)
    for message in last.messages if last is not None else ():
        if message.uid in tokens:
            there[tokens[message.uid]].append(message)
    saves, findings = [], []
    for at, delivery in enumerate(deliveries):
        found = there.get(delivery.token, [])
        if delivery.acknowledged and not found:
            findings.append(RuleFinding("SAVE", user, f"acknowledged and not there: {delivery}"))
        if len(found) > 1:
            findings.append(RuleFinding("once", user, f"there {len(found)} times: {delivery}"))
            verdict.doubled += delivery.tries > 1
        if found and delivery.code >= 500:
            findings.append(
                RuleFinding("refused", user, f"refused for good, and there: {delivery}")
            )
        for message in found:
            assert last is not None
            saves.append(_as_save(at, delivery, message, last.mailbox))
    return saves, findings


def _as_save(at: int, delivery: Delivery, found: q.MessageInfo, info: q.MailboxInfo) -> Operation:
    target = c.Target(delivery.user, info.number)
    message = c.NewMessage(
        (target,), found.blob, found.size_bytes, found.guid, found.received_us, found.flags
    )
    operation = Operation(at, "lmtp", c.Save(delivery.user, (message,), 0), delivery.invoked)
    if delivery.acknowledged:
        saved = r.Saved(delivery.user, info.number, info.uidvalidity, found.uid, found.modseq)
        operation.returned = delivery.returned
        operation.fate = Fate.ANSWERED
        operation.answer = r.SaveResult((saved,))
    return operation


def _wrong_bodies(user: str, operations: Iterable[Operation]) -> Iterable[RuleFinding]:
    """Reads of bodies that are not what the messages' records say. What these say is compared with
    what was saved by the checker."""
    numbers: dict[str, int] = {}
    bodies: dict[tuple[int, int], Body] = {}
    for o in operations:
        if isinstance(o.answer, q.MessagePage):
            if not o.answer.mailbox.number:
                continue  # a mail program's, which is told of no body
            number = numbers[o.answer.mailbox.name] = o.answer.mailbox.number
            for m in o.answer.messages:
                bodies[number, m.uid] = Body(m.blob, m.size_bytes)
        elif isinstance(o.answer, r.SaveResult) and isinstance(o.call, c.Save):
            for saved in o.answer.saved:
                if not saved.mailbox:
                    continue
                message = o.call.messages[0]
                bodies[saved.mailbox, saved.uid] = Body(message.blob, message.size_bytes)
    for o in operations:
        if isinstance(o.call, q.FetchBody) and isinstance(o.answer, Body):
            wanted = bodies.get((numbers.get(str(o.call.mailbox), 0), o.call.uid))
            if wanted is not None and wanted != o.answer:
                yield RuleFinding("body", user, f"is not what was saved: {o}")


def _count(
    verdict: HistoryVerdict, operations: Sequence[Operation], deliveries: Sequence[Delivery]
) -> None:
    verdict.operations += len(operations) + len(deliveries)
    for o in operations:
        verdict.fates[o.fate.value] += 1
        name = type(o.call).__name__
        verdict.kinds["Move" if isinstance(o.call, c.Copy) and o.call.move else name] += 1
        answer = o.answer
        if o.process.startswith("imap"):
            verdict.looks += isinstance(answer, q.MessagePage)
            verdict.opened += isinstance(answer, q.MailboxInfo)
        is_write = isinstance(o.call, c.Command) and not isinstance(answer, r.Refused)
        if o.fate is Fate.ANSWERED and is_write:
            verdict.acknowledged_writes += 1
            if isinstance(answer, r.SaveResult):
                verdict.acknowledged_messages += len(answer.saved)
            elif isinstance(answer, r.CopyResult):
                verdict.acknowledged_messages += len(answer.target_uids)
    for delivery in deliveries:
        verdict.kinds["Delivery"] += 1
        verdict.retried += delivery.tries > 1
        verdict.largest_bytes = max(verdict.largest_bytes, delivery.size_bytes)
        verdict.recipients_most = max(verdict.recipients_most, delivery.recipients)
        if delivery.acknowledged:
            verdict.fates["answered"] += 1
            verdict.acknowledged_messages += 1
            verdict.acknowledged_writes += 1
        else:
            verdict.fates["nothing" if delivery.code or not delivery.sent else "lost"] += 1


def verdict_to_json(verdict: HistoryVerdict) -> str:
    value = {f.name: getattr(verdict, f.name) for f in fields(verdict)}
    return json.dumps(value | {"findings": [asdict(finding) for finding in verdict.findings]})


def verdict_from_json(text: str) -> HistoryVerdict:
    """Raises ValueError, TypeError, KeyError."""
    value = json.loads(text)
    value["findings"] = [RuleFinding(**finding) for finding in value["findings"]]
    for name in ("fates", "kinds"):
        value[name] = Counter(value[name])
    return HistoryVerdict(**value)


if __name__ == "__main__":
    sys.stdout.write(verdict_to_json(judge(Path(sys.argv[1]))) + "\n")
