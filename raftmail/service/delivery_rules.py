"""Delivery rules: what the active script of a user wants done with a message before it is saved.

Mail is never lost over a rule. Where a script does not compile any more, fails for a message, or
takes too long or too much, the message goes to the INBOX. That is logged and counted.

Rules are read from the own replica of the user's shard, which may be a moment behind. Where there
is none, the master is asked, and the answer is believed for `RULES_KNOWN_S`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from raftmail.cluster.router import Router
from raftmail.mail.commands import CreateMailbox
from raftmail.mail.failures import Unavailable
from raftmail.mail.names import INBOX, mailbox_name
from raftmail.mail.queries import ActiveScript, ListMailboxes, MailboxInfo, ReadPoint, RulesInForce
from raftmail.sieve.compiler import compile_script
from raftmail.sieve.program import RuleProgram
from raftmail.sieve.rule_errors import RuleError, ScriptError
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import (
    FileInto,
    Redirect,
    Rejection,
    RuleOutcome,
    VacationReply,
)
from raftmail.sieve.run_state import Surroundings
from raftmail.sieve.script_run import AskSeen, ScriptRun

logger = logging.getLogger(__name__)

RULES_KNOWN_S: Final = 2.0
"""So long an answer of another node about a user's rules is believed."""
PROGRAMS_BYTES_MAX: Final = 4 << 20
"""Of scripts whose programs are kept. A program takes some ten times its script's length."""
_USER_BYTES: Final = 256
"""What a user counts as, beside the script."""
_INLINE_BYTES_MAX: Final = 2048
"""Longer scripts are compiled in a thread."""
_LISTING: Final = frozenset(("mailbox", "special-use"))
"""Extensions of scripts that look at the user's mailboxes."""


@dataclass(frozen=True, slots=True)
class RuleFolder:
    """A mailbox that a message goes into, and its flags there."""

    mailbox: str
    flags: tuple[str, ...] = ()


KEEP: Final = (RuleFolder(INBOX),)


@dataclass(frozen=True, slots=True)
class RuleDecision:
    """Where a message goes, each mailbox once; nowhere: it is thrown away. `rejection` is why it is
    refused, "" if it is not."""

    folders: tuple[RuleFolder, ...] = KEEP
    rejection: str = ""


@dataclass(frozen=True, slots=True)
class UserRules:
    """The active script of a user, compiled. `program` is None where that failed."""

    version: bytes
    name: str
    program: RuleProgram | None
    script_bytes: int


@dataclass(slots=True, repr=False)
class _Known:
    rules: UserRules | None
    until: float


@dataclass(slots=True, repr=False)
class DeliveryRules:
    """The rules of all users, for the deliveries of one process.

    Invariant: the scripts of `_known` have at most `PROGRAMS_BYTES_MAX` together."""

    router: Router
    failures: int = 0
    """Messages that went to the INBOX because rules failed."""
    _known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _compiling: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, 1))

    def has_none_now(self, user: str) -> bool:
        """Whether it is known without asking anybody that a user has no rules."""
        found = self.router.query_now(ActiveScript(user))
        if found is not None:
            return found[0] is None
        known = self._known.get(user)
        return known is not None and known.rules is None and known.until > self.router.clock()

    async def of(self, user: str, deadline_s: float) -> UserRules | None:
        """The rules of a user; None: there are none. Raises `Unavailable`."""
        known = self._known.get(user)
        query = ActiveScript(user, b"" if known is None or not known.rules else known.rules.version)
        here = self.router.query_now(query)
        if here is not None:
            (found,) = here
        elif known is not None and known.until > self.router.clock():
            return known.rules
        else:
            found = await self.router.query(query, deadline_s=deadline_s)
        rules: UserRules | None = None
        if isinstance(found, RulesInForce):
            if known is not None and known.rules and known.rules.version == found.version:
                rules = known.rules
            else:
                rules = await self._compiled(user, found)
        self._keep(user, rules)
        return rules

    async def decide(
        self,
        user: str,
        rules: UserRules,
        message: RuleMessage,
        around: Surroundings,
        deadline: float,
    ) -> RuleDecision:
        """What becomes of a message. After `deadline`, by the router's clock, it is kept. Raises
        `Unavailable` where the user's mailboxes have to be known."""
        if rules.program is None:
            self.failures += 1
            return RuleDecision()
        if _looks_at_mailboxes(rules.program):
            around = replace(around, mailboxes=await self._mailboxes(user, deadline))
        try:
            outcome = await self._run(ScriptRun(rules.program, message, around), deadline)
        except RuleError as e:
            return self._kept(user, rules, str(e))
        except Unavailable:
            raise
        except Exception as e:  # whatever is wrong with the rules, the mail is not
            logger.exception("the rules of %s failed in a way that nobody foresaw", user)
            return self._kept(user, rules, f"{type(e).__name__}")
        return await self._carried_out(user, rules, outcome, around, deadline)

    # -- inside ------------------------------------------------------------------------------

    async def _run(self, run: ScriptRun, deadline: float) -> RuleOutcome:
        while True:
            state = run.advance()
            if isinstance(state, RuleOutcome):
                return state
            if isinstance(state, AskSeen):
                run.answer(state.key, seen=False)
                continue
            if self.router.clock() > deadline:
                raise RuleError("the rules took too long for this message")
            await asyncio.sleep(0)  # others have their turn

    async def _carried_out(
        self,
        user: str,
        rules: UserRules,
        outcome: RuleOutcome,
        around: Surroundings,
        deadline: float,
    ) -> RuleDecision:
        folders: dict[str, RuleFolder] = {}
        unsent = ""
        for action in outcome.actions:
            if isinstance(action, Rejection):
                return RuleDecision((), action.reason or "refused by the recipient's rules")
            if isinstance(action, FileInto):
                name = await self._folder(user, action, around, deadline)
                folders.setdefault(name, RuleFolder(name, action.flags))
            elif isinstance(action, Redirect):
                unsent = action.address
            elif isinstance(action, VacationReply):
                logger.info("the rules of %s would answer a message: nothing is sent", user)
        if unsent and not folders:
            return self._kept(user, rules, f"this node sends nothing on, to {unsent!a} either")
        return RuleDecision(tuple(folders.values()))

    async def _folder(
        self, user: str, action: FileInto, around: Surroundings, deadline: float
    ) -> str:
        """The name of the mailbox, which is made if the script wants that. A name that no mailbox
        can have is INBOX."""
        if action.special_use:
            wanted = action.special_use.lower()
            for name, uses in around.mailboxes.items():
                if wanted in uses.lower().split():
                    return name
        try:
            name = mailbox_name(action.mailbox)
        except ValueError as e:
            logger.warning("the rules of %s file into %a: %s", user, action.mailbox, e)
            return INBOX
        if action.create and name not in around.mailboxes and name != INBOX:
            command = CreateMailbox(user, name, around.now_unix_s, os.urandom(16))
            left_s = deadline - self.router.clock()
            await self.router.execute(command, deadline_s=max(left_s, 0.0))
        return name

    def _kept(self, user: str, rules: UserRules, why: str) -> RuleDecision:
        self.failures += 1
        logger.warning(
            "the rules of %s (script %a) failed, and the message goes to the INBOX: %s",
            user,
            rules.name,
            why,
        )
        return RuleDecision()

    async def _mailboxes(self, user: str, deadline: float) -> dict[str, str]:
        left_s = max(deadline - self.router.clock(), 0.0)
        point = ReadPoint(self.router.shard_of(user), 0)
        found = await self.router.query(ListMailboxes(user), deadline_s=left_s, point=point)
        assert isinstance(found, tuple)
        return {one.name: one.special_use for one in found if isinstance(one, MailboxInfo)}

    async def _compiled(self, user: str, found: RulesInForce) -> UserRules:
        others = dict(found.others)
        compiling = partial(compile_script, found.script, name=found.name, others=others)
        program: RuleProgram | None = None
        try:
            if len(found.script) <= _INLINE_BYTES_MAX and not others:
                program = compiling()
            else:
                async with self._compiling:
                    program = await asyncio.get_running_loop().run_in_executor(None, compiling)
        except ScriptError as e:
            logger.warning(
                "the active script %a of %s is not right, so all mail goes to the INBOX: %s",
                found.name,
                user,
                e,
            )
        size = len(found.script) + sum(len(text) for text in others.values())
        return UserRules(found.version, found.name, program, size)

    def _keep(self, user: str, rules: UserRules | None) -> None:
        before = self._known.pop(user, None)
        if before is not None:
            self._bytes -= _size_of(before.rules)
        self._known[user] = _Known(rules, self.router.clock() + RULES_KNOWN_S)
        self._bytes += _size_of(rules)
        while self._bytes > PROGRAMS_BYTES_MAX and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self._bytes -= _size_of(oldest.rules)


def _size_of(rules: UserRules | None) -> int:
    return _USER_BYTES + (0 if rules is None else rules.script_bytes)


def _looks_at_mailboxes(program: RuleProgram) -> bool:
    every = (program, *program.library.values())
    return any(not _LISTING.isdisjoint(one.requires) for one in every)
