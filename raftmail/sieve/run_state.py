"""What a run of a script knows and has decided so far. Tests read it, and actions change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from raftmail.mail.flags import parse_flags
from raftmail.sieve.rule_addresses import MailAddress
from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_limits import RuleLimits
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import (
    Action,
    FileInto,
    Redirect,
    Rejection,
    SeenOnce,
    VacationReply,
)
from raftmail.sieve.rule_text import RuleText, VariableName

REDIRECTED_FIELD: Final = b"x-sieve-redirected-from"
"""Whoever carries out a redirect puts it before the message, with the recipient's address."""


class Unanswered(Exception):
    """A test asks whether a message with this key was seen within so many seconds (RFC 7352)."""

    def __init__(self, key: bytes, seconds: int) -> None:
        super().__init__("not known yet")
        self.key, self.seconds = key, seconds


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a run asks beside the message. It asks nothing else, so equal surroundings give
    equal outcomes."""

    sender: MailAddress | None
    """Of the envelope; None is the null path `<>`."""
    recipient: MailAddress
    """To whom it is delivered, as the envelope has it."""
    own_addresses: frozenset[bytes]
    """Addresses of the user, in small letters: mail to one of them may be answered."""
    mailboxes: Mapping[str, str]
    """The user's mailboxes, each with its special uses, separated by blanks."""
    now_unix_s: int
    zone_minutes: int = 0
    """What dates are told in where a script names no zone (RFC 5260 section 4.1)."""
    detail_separator: bytes = b"+"


@dataclass(slots=True)
class Scope:
    """The variables of one script. `captures` are what `${0}` and the like stand for."""

    global_names: frozenset[str]
    values: dict[str, bytes] = field(default_factory=dict)
    captures: tuple[bytes, ...] = ()


@dataclass(slots=True, repr=False)
class RunState:
    message: RuleMessage
    around: Surroundings
    limits: RuleLimits
    scope: Scope
    global_values: dict[str, bytes] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    """The internal variable of RFC 5232 section 2."""
    implicit_keep: bool = True
    actions: list[Action] = field(default_factory=list)
    answers: dict[bytes, bool] = field(default_factory=dict)
    """Whether messages with these keys were seen before."""
    work_octets: int = 0

    def pay(self, octets: int) -> None:
        """Counts work that is about to be done. Raises RuleError when it is too much."""
        self.work_octets += octets
        if self.work_octets > self.limits.work_octets_max:
            raise RuleError(
                f"the rules took too much work for this message: more than "
                f"{self.limits.work_octets_max >> 20} MiB were compared"
            )

    def text(self, text: RuleText) -> bytes:
        """A string with its variables put in."""
        constant = text.constant
        if constant is not None:
            return constant
        out = [one if isinstance(one, bytes) else self.value(one) for one in text.pieces]
        length = sum(len(one) for one in out)
        if length > self.limits.text_bytes_max:
            raise RuleError(
                f"a string of {length} bytes came of variables; "
                f"{self.limits.text_bytes_max} are the most"
            )
        self.pay(length)
        return b"".join(out)

    def texts(self, texts: Sequence[RuleText]) -> list[bytes]:
        return [self.text(one) for one in texts]

    def value(self, name: VariableName) -> bytes:
        """A variable that nobody set is empty (RFC 5229 section 3)."""
        if name.number >= 0:
            captures = self.scope.captures
            return captures[name.number] if name.number < len(captures) else b""
        return self._values(name).get(name.name, b"")

    def set_value(self, name: VariableName, value: bytes) -> None:
        """What is too long is cut off, after a whole character."""
        most = self.limits.variable_bytes_max
        if len(value) > most:
            value = value[:most].decode("utf-8", "ignore").encode()
        self._values(name)[name.name] = value

    def _values(self, name: VariableName) -> dict[str, bytes]:
        is_global = name.is_global or name.name in self.scope.global_names
        return self.global_values if is_global else self.scope.values

    def file_into(self, new: FileInto) -> None:
        """A message goes into a mailbox once, with the flags of the last command (RFC 5232 section
        2 leaves that open)."""
        self._check_no_rejection("files the message")
        for at, one in enumerate(self.actions):
            if isinstance(one, FileInto) and one.mailbox == new.mailbox:
                create = one.create or new.create
                use = new.special_use or one.special_use
                self.actions[at] = FileInto(new.mailbox, new.flags, create, use)
                return
        self._add(new)

    def redirect(self, new: Redirect) -> None:
        self._check_no_rejection("redirects the message")
        if new in self.actions:
            return
        self._check_no_loop()
        if sum(isinstance(one, Redirect) for one in self.actions) >= self.limits.redirects_max:
            raise RuleError(
                f"a message is redirected to {self.limits.redirects_max} addresses at most"
            )
        self._add(new)

    def _check_no_loop(self) -> None:
        """RFC 5228 section 10: a message that was redirected for this user before has come back.
        One that went through very many hosts goes no further (RFC 5321 section 6.3)."""
        own = {*self.around.own_addresses, self.around.recipient.whole.lower()}
        came_from = self.message.values(REDIRECTED_FIELD, self.pay)
        if any(one.lower() in own for one in came_from):
            raise RuleError("the message has come back from a redirect of this user")
        hops = len(self.message.raw_values(b"received"))
        if hops > self.limits.hops_max:
            raise RuleError(
                f"a message that went through {hops} hosts is not sent on; "
                f"{self.limits.hops_max} are the most"
            )

    def reject(self, new: Rejection) -> None:
        """RFC 5429 section 2.2: never with another, with a delivery or with a reply."""
        for one in self.actions:
            if isinstance(one, Rejection):
                raise RuleError("a message is rejected once")
            if isinstance(one, FileInto | Redirect | VacationReply):
                raise RuleError("a message that is rejected cannot be kept, sent on or answered")
        self.implicit_keep = False
        self._add(new)

    def reply(self, new: VacationReply) -> None:
        self._check_no_rejection("answers the message")
        self._add(new)

    def check_may_reply(self) -> None:
        """RFC 5230 section 4.7: `vacation` once in a run."""
        if any(isinstance(one, VacationReply) for one in self.actions):
            raise RuleError("vacation is used once for a message")
        self._check_no_rejection("answers the message")

    def remember(self, new: SeenOnce) -> None:
        if all(not isinstance(one, SeenOnce) or one.key != new.key for one in self.actions):
            self._add(new)

    def _check_no_rejection(self, what: str) -> None:
        if any(isinstance(one, Rejection) for one in self.actions):
            raise RuleError(f"a command {what}, which was rejected before")

    def _add(self, new: Action) -> None:
        if len(self.actions) >= self.limits.actions_max:
            raise RuleError(f"a message has {self.limits.actions_max} actions at most")
        self.actions.append(new)


def flags_in(texts: Sequence[bytes]) -> tuple[str, ...]:
    """The flags in strings, each once in its first spelling. A string may have several, with blanks
    between; what no message can have as a flag is passed over (RFC 5232 section 2)."""
    found: dict[str, str] = {}
    for text in texts:
        for word in text.split():
            flag = word.decode("utf-8", "replace")
            if flag.lower() in found:
                continue
            try:
                parse_flags((flag,))
            except ValueError:
                continue
            found[flag.lower()] = flag
    return tuple(found.values())
