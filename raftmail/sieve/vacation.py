"""`vacation` (RFC 5230): who is answered, and what one answer is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

from raftmail.sieve.rule_actions import checked_address
from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_outcome import VacationReply
from raftmail.sieve.rule_text import RuleText
from raftmail.sieve.run_state import RunState

_ROBOT = re.compile(
    rb"(?:mailer-daemon|listserv|majordomo|no-?reply|do-?not-?reply|owner-.*|.*-request|.*-owner"
    rb"|.*-bounces?)(?:[+=].*)?",
    re.DOTALL,
)
"""Local parts that no answer is for (RFC 5230 section 4.6, RFC 3834 section 2)."""

_LIST_FIELDS = (
    b"list-id", b"list-help", b"list-subscribe", b"list-unsubscribe", b"list-post", b"list-owner",
    b"list-archive",
)  # fmt: skip
_RECIPIENT_FIELDS = (
    b"to", b"cc", b"bcc", b"resent-to", b"resent-cc", b"resent-bcc",
)  # fmt: skip
_BULK = frozenset((b"bulk", b"list", b"junk"))


@dataclass(frozen=True, slots=True)
class VacationAction:
    """Answers once in `seconds`, if somebody is there to be answered. It neither keeps the message
    nor throws it away (RFC 5230 section 4.7)."""

    reason: RuleText
    subject: RuleText | None
    sender: RuleText | None
    addresses: tuple[RuleText, ...]
    is_mime: bool
    handle: RuleText | None
    seconds: int

    def perform(self, run: RunState) -> None:
        run.check_may_reply()
        to = run.around.sender
        if to is None or not to.domain or not self._is_for_us(run):
            return
        reason = run.text(self.reason)
        subject = b"" if self.subject is None else run.text(self.subject)
        sender = b"" if self.sender is None else run.text(self.sender)
        handle = b"" if self.handle is None else b"handle " + run.text(self.handle)
        if self.handle is None:
            parts = (subject, sender, b"mime" if self.is_mime else b"", reason)
            handle = b"".join(b"%d %b " % (len(one), one) for one in parts)
        whole = to.whole.lower()
        try:
            address = checked_address(to.whole)
            answers_as = checked_address(sender) if sender else ""
        except ValueError as e:
            raise RuleError(f"vacation: {e}") from None
        run.reply(
            VacationReply(
                address,
                sender.decode("utf-8", "replace") if answers_as else "",
                subject.decode("utf-8", "replace"),
                reason.decode("utf-8", "replace"),
                self.is_mime,
                sha256(b"%d %b %b" % (len(handle), handle, whole)).digest(),
                self.seconds,
            )
        )

    def _is_for_us(self, run: RunState) -> bool:
        """Whether a person wrote it to this user (RFC 5230 sections 4.5 and 4.6)."""
        message, to = run.message, run.around.sender
        own = {*run.around.own_addresses, run.around.recipient.whole.lower()}
        own |= {one.lower() for one in run.texts(self.addresses)}
        if to is None or to.whole.lower() in own or _ROBOT.fullmatch(to.local.lower()):
            return False
        if any(message.has(name) for name in _LIST_FIELDS):
            return False
        for value in message.values(b"auto-submitted", run.pay):
            if value.partition(b";")[0].strip().lower() != b"no":
                return False
        if any(one.lower() in _BULK for one in message.values(b"precedence", run.pay)):
            return False
        for value in message.values(b"x-auto-response-suppress", run.pay):
            words = {one.strip().lower() for one in value.split(b",")}
            if words & {b"all", b"oof", b"autoreply"}:
                return False
        return any(
            address.whole.lower() in own
            for name in _RECIPIENT_FIELDS
            for address in message.addresses(name, 0, run.pay)
        )
