"""Runs the delivery rules of users over their mail, and says where it goes.

Whatever goes wrong with rules, the message goes where it would go without them: that is told in the
log and counted, and the mail is neither lost nor late.

Invariants:

1. At most `RUNS_AT_ONCE` runs are under way, and users take turns.
2. A run has half of the time that is left for the delivery.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Final

from raftmail.cluster.router import Router
from raftmail.mail.commands import CreateMailbox
from raftmail.mail.failures import Unavailable
from raftmail.mail.names import INBOX, SPECIAL_USES
from raftmail.mail.queries import GetDelivery, KnownDelivery, ListMailboxes, MailboxInfo, ReadPoint
from raftmail.mail.results import Code, Refused
from raftmail.mail.smtp_address import Address
from raftmail.service.fair_turns import FairTurns
from raftmail.service.known_rules import CompiledRules, KnownRules
from raftmail.service.verdicts import TEXT_BYTES_MAX, Verdict
from raftmail.sieve.rule_addresses import MailAddress
from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import FileInto, Redirect, Rejection, RuleOutcome, VacationReply
from raftmail.sieve.run_state import Surroundings
from raftmail.sieve.script_run import AskSeen, Halt, ScriptRun

LOG = logging.getLogger(__name__)

RUNS_AT_ONCE: Final = 4
SAY_AGAIN_S: Final = 60.0
"""Of the rules of one user no more than one failure is told in so much time; all are counted."""
SAID_MAX: Final = 1000
ALARM_S: Final = 3600.0
"""For so long a redirect that could not be carried out is an alarm."""

_INLINE_BYTES_MAX: Final = 256 << 10
"""Over longer messages a run goes on in a thread."""


@dataclass(frozen=True, slots=True)
class Filed:
    """One copy of a message. `mailbox` "" is where it would go without rules."""

    mailbox: str
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What rules want. Without `files` the message is thrown away, or refused by `rejection`.
    `seen_keys` are remembered with the message."""

    files: tuple[Filed, ...]
    seen_keys: tuple[bytes, ...] = ()
    rejection: Verdict | None = None


AS_WITHOUT_RULES: Final = Judgement((Filed("", ()),))


@dataclass(frozen=True, slots=True)
class RuledMail:
    """A message for one user, as rules are asked about it. `key` is of the delivery, b"" where
    deliveries are not remembered."""

    user: str
    message: bytes
    sender: Address | None
    recipient: Address
    own_addresses: frozenset[bytes]
    received_unix_s: int
    key: bytes
    deadline: float


@dataclass(slots=True)
class RuleCounts:
    """Messages, since the start."""

    judged: int = 0
    failed: int = 0
    """Those whose rules failed; they went where they would go without."""
    redirects_kept: int = 0
    """Those that were to be sent on, and were kept: this release sends no mail."""
    unanswered: int = 0
    """Those that rules would have answered."""


@dataclass(slots=True, repr=False)
class DeliveryRules:
    """Of one node."""

    router: Router
    known: KnownRules
    counts: RuleCounts = field(default_factory=RuleCounts)
    _running: FairTurns = field(default_factory=partial(FairTurns, RUNS_AT_ONCE))
    _said: dict[str, float] = field(default_factory=dict)
    _alarm_until: float = -1.0

    @staticmethod
    def of(router: Router) -> DeliveryRules:
        """With bounds as they are by default."""
        return DeliveryRules(router, KnownRules(router))

    def alarms(self) -> Sequence[str]:
        """What operators have to hear of."""
        if self.router.clock() >= self._alarm_until:
            return ()
        return (
            "rules redirect mail, and this release sends none: it is kept in INBOX; the log names "
            "the users",
        )

    async def judge(self, rules: CompiledRules, mail: RuledMail, point: ReadPoint) -> Judgement:
        """Where a message goes. What fails is told and counted here. Raises `Unavailable`."""
        self.counts.judged += 1
        left_s = (mail.deadline - self.router.clock()) / 2
        try:
            async with asyncio.timeout(left_s), self._running.turn(mail.user):
                return await self._judge(rules, mail, point)
        except RuleError as e:
            self.note_failure(mail.user, str(e))
        except TimeoutError:
            self.note_failure(mail.user, "the rules took too long")
        except Unavailable:
            raise
        except Exception as e:
            LOG.exception("the rules of %s ended by a fault of this program", mail.user)
            self.note_failure(mail.user, f"{type(e).__name__}: {e}")
        return AS_WITHOUT_RULES

    def note_failure(self, user: str, why: str) -> None:
        """Rules of a user failed for a message."""
        self.counts.failed += 1
        self._say(
            user, f"the rules of {user} failed, and mail goes where it would go without: {why}"
        )

    def _say(self, user: str, text: str) -> None:
        now = self.router.clock()
        if self._said.get(user, -1.0) > now:
            return
        if len(self._said) >= SAID_MAX:
            self._said.clear()
        self._said[user] = now + SAY_AGAIN_S
        LOG.warning("%s", text)

    async def _judge(self, rules: CompiledRules, mail: RuledMail, point: ReadPoint) -> Judgement:
        if rules.program is None:
            raise RuleError(f"the script is not right: {rules.why}")
        boxes: Mapping[str, str] = {INBOX: ""}
        if rules.asks_for_mailboxes:
            boxes = await self._mailboxes(mail, point)
        recipient = mail.recipient
        around = Surroundings(
            None if mail.sender is None else _mail_address(mail.sender),
            _mail_address(recipient),
            mail.own_addresses,
            boxes,
            mail.received_unix_s,
            detail_separator=recipient.separator.encode(),
        )
        run = ScriptRun(rules.program, RuleMessage(mail.message), around)
        outcome = await self._run(run, mail, point)
        return await self._judgement(mail, outcome, boxes, point)

    async def _mailboxes(self, mail: RuledMail, point: ReadPoint) -> Mapping[str, str]:
        left_s = mail.deadline - self.router.clock()
        found = await self.router.query(ListMailboxes(mail.user), deadline_s=left_s, point=point)
        assert isinstance(found, tuple)
        return {one.name: one.special_use for one in found if isinstance(one, MailboxInfo)}

    async def _run(self, run: ScriptRun, mail: RuledMail, point: ReadPoint) -> RuleOutcome:
        """Goes on turn by turn, so that nobody else waits for it."""
        loop = asyncio.get_running_loop()
        long = len(mail.message) > _INLINE_BYTES_MAX
        while True:
            state = await loop.run_in_executor(None, run.advance) if long else run.advance()
            if isinstance(state, RuleOutcome):
                return state
            if isinstance(state, AskSeen):
                run.answer(state.key, await self._was_seen(state, mail, point))
            else:
                assert state is Halt.MORE
                await asyncio.sleep(0)

    async def _was_seen(self, asked: AskSeen, mail: RuledMail, point: ReadPoint) -> bool:
        """RFC 7352."""
        left_s = mail.deadline - self.router.clock()
        query = GetDelivery(mail.user, _mark(asked.key))
        found = await self.router.query(query, deadline_s=left_s, point=point)
        if not isinstance(found, KnownDelivery):
            return False
        return found.received_us // 1_000_000 + asked.seconds > mail.received_unix_s

    async def _judgement(
        self,
        mail: RuledMail,
        outcome: RuleOutcome,
        boxes: Mapping[str, str],
        point: ReadPoint,
    ) -> Judgement:
        files: dict[str, Filed] = {}
        marks: list[bytes] = []
        rejection: Verdict | None = None
        sends = False
        for one in outcome.actions:
            if isinstance(one, FileInto):
                name = await self._mailbox_for(mail, one, boxes)
                files.setdefault(name, Filed(name, one.flags))
            elif isinstance(one, Rejection):
                rejection = await self._rejection(mail, one, point)
            elif isinstance(one, Redirect):
                sends = True
            elif isinstance(one, VacationReply):
                self.counts.unanswered += 1
                self._say(mail.user, f"{mail.user} answers mail by rules, and no answer is sent")
            else:
                marks.append(_mark(one.key))
        if sends:
            self.counts.redirects_kept += 1
            self._alarm_until = self.router.clock() + ALARM_S
            self._say(mail.user, f"{mail.user} redirects mail by rules: it is kept, and not sent")
            if not files:
                files[""] = Filed("", ())
        return Judgement(tuple(files.values()), tuple(marks), rejection)

    async def _mailbox_for(
        self, mail: RuledMail, action: FileInto, boxes: Mapping[str, str]
    ) -> str:
        """The name of the mailbox; "" is where mail goes without rules (RFC 5228 section 4.1: when
        there is no such mailbox it may be that)."""
        name, use = action.mailbox, action.special_use
        if use:
            with_use = [one for one, uses in boxes.items() if use in uses.split()]
            if with_use:
                return with_use[0]
        if name == INBOX:
            return ""
        if name in boxes:
            return name
        why = "there is none; `fileinto :create` makes it"
        if action.create:
            left_s = mail.deadline - self.router.clock()
            special = use if use in SPECIAL_USES else ""
            seed, guid = mail.received_unix_s, os.urandom(16)
            command = CreateMailbox(mail.user, name, seed, guid, special)
            made = (await self.router.execute(command, deadline_s=left_s)).result
            if not isinstance(made, Refused) or made.code is Code.ALREADYEXISTS:
                return name
            why = made.text
        self.note_failure(mail.user, f"fileinto {name!a}: {why}")
        return ""

    async def _rejection(self, mail: RuledMail, action: Rejection, point: ReadPoint) -> Verdict:
        """The reply that refuses a message for one recipient (RFC 5429 section 2.1). One that was
        delivered before has been, whatever rules say by now (P9)."""
        if mail.key:
            left_s = mail.deadline - self.router.clock()
            query = GetDelivery(mail.user, mail.key)
            if await self.router.query(query, deadline_s=left_s, point=point) is not None:
                return Verdict.delivered()
        words = " ".join(action.reason.encode("ascii", "replace").decode().split())
        if not words or not words.isprintable():
            words = "The recipient refuses this message"
        return Verdict(550, "5.7.1", words[:TEXT_BYTES_MAX])


def _mail_address(address: Address) -> MailAddress:
    return MailAddress(address.local.encode(), address.domain.encode())


def _mark(key: bytes) -> bytes:
    """Under what it is remembered that a message was seen: no delivery has such a key."""
    return sha256(b"raftmail duplicate 1" + key).digest()
