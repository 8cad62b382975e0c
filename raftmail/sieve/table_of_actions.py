"""All commands that do something, with their arguments. Commands that only say what comes next
(`if`, `stop`, `require`, `include` and the like) are the compiler's."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from raftmail.sieve.program import RuleAction
from raftmail.sieve.rule_actions import (
    DiscardAction,
    FileIntoAction,
    FlagAction,
    KeepAction,
    RedirectAction,
    RejectAction,
    SetAction,
    checked_address,
    checked_mailbox,
    checked_special_use,
)
from raftmail.sieve.rule_arguments import ActionRule, ArgumentKind, CheckedArguments, TagRule
from raftmail.sieve.vacation import VacationAction

_NUMBER, _STRING, _STRINGS = ArgumentKind.NUMBER, ArgumentKind.STRING, ArgumentKind.STRINGS

_FLAGS = TagRule("flags", "flags", _STRINGS, "imap4flags")
_COPY = TagRule("copy", "copy", None, "copy")
_DAY_S = 86_400
VACATION_DAYS: Final = 7
VACATION_DAYS_MAX: Final = 90
"""RFC 5230 section 4.1: a longer time is this one."""
VACATION_S_MIN: Final = 60
"""RFC 6131 section 2: a shorter time is this one."""

_WILD = re.compile(rb"([*?\\])").sub


def _length(text: bytes) -> bytes:
    """In characters; an octet that is none counts as one."""
    return b"%d" % len(text.decode("utf-8", "replace"))


_MODIFIERS: Mapping[str, tuple[str, Callable[[bytes], bytes]]] = {
    "lower": ("case", bytes.lower),
    "upper": ("case", bytes.upper),
    "lowerfirst": ("first", lambda text: text[:1].lower() + text[1:]),
    "upperfirst": ("first", lambda text: text[:1].upper() + text[1:]),
    "quotewildcard": ("quote", lambda text: _WILD(rb"\\\1", text)),
    "length": ("length", _length),
}
"""Modifiers with their groups, in the order of RFC 5229 section 4.1. Case is of A to Z alone."""
_ORDER = ("case", "first", "quote", "length")


def _file_into(given: CheckedArguments) -> RuleAction:
    given.check_constants(given.value(0), checked_mailbox)
    given.check_constants(given.value_of("specialuse"), checked_special_use)
    return FileIntoAction(
        given.text(0),
        given.texts_of("flags"),
        bool(given.tag("copy")),
        bool(given.tag("create")),
        given.text_of("specialuse"),
    )


def _redirect(given: CheckedArguments) -> RuleAction:
    given.check_constants(given.value(0), checked_address)
    return RedirectAction(given.text(0), bool(given.tag("copy")))


def _set(given: CheckedArguments) -> RuleAction:
    name = given.variable(given.value(0))
    modifiers = [given.tag(group) for group in _ORDER]
    return SetAction(name, given.text(1), tuple(_MODIFIERS[one][1] for one in modifiers if one))


def _flag(given: CheckedArguments) -> RuleAction:
    variable = None if given.optional is None else given.variable(given.optional)
    return FlagAction(given.name, variable, given.texts(0))


def _vacation(given: CheckedArguments) -> RuleAction:
    time = given.value_of("time")
    seconds = VACATION_DAYS * _DAY_S
    if time is not None:
        seconds = max(VACATION_S_MIN, time.number)
        if given.tag("time") == "days":
            seconds = max(1, time.number) * _DAY_S
    return VacationAction(
        given.text(0),
        given.text_of("subject"),
        given.text_of("from"),
        given.texts_of("addresses") or (),
        bool(given.tag("mime")),
        given.text_of("handle"),
        min(seconds, VACATION_DAYS_MAX * _DAY_S),
    )


_RULES = (
    ActionRule("keep", "", (_FLAGS,), (), lambda given: KeepAction(given.texts_of("flags"))),
    ActionRule("discard", "", (), (), lambda given: DiscardAction()),
    ActionRule(
        "fileinto",
        "fileinto",
        (
            _FLAGS,
            _COPY,
            TagRule("create", "create", None, "mailbox"),
            TagRule("specialuse", "specialuse", _STRING, "special-use"),
        ),
        (_STRING,),
        _file_into,
    ),
    ActionRule("redirect", "", (_COPY,), (_STRING,), _redirect),
    ActionRule(
        "reject", "reject", (), (_STRING,), lambda given: RejectAction(given.text(0), False)
    ),
    ActionRule(
        "ereject", "ereject", (), (_STRING,), lambda given: RejectAction(given.text(0), True)
    ),
    ActionRule(
        "set",
        "variables",
        tuple(TagRule(name, group) for name, (group, _) in _MODIFIERS.items()),
        (_STRING, _STRING),
        _set,
    ),
    *(
        ActionRule(name, "imap4flags", (), (_STRINGS,), _flag, _STRING, "variables")
        for name in ("setflag", "addflag", "removeflag")
    ),
    ActionRule(
        "vacation",
        "vacation",
        (
            TagRule("days", "time", _NUMBER),
            TagRule("seconds", "time", _NUMBER, "vacation-seconds"),
            TagRule("subject", "subject", _STRING),
            TagRule("from", "from", _STRING),
            TagRule("addresses", "addresses", _STRINGS),
            TagRule("mime", "mime"),
            TagRule("handle", "handle", _STRING),
        ),
        (_STRING,),
        _vacation,
    ),
)

ACTIONS: Final[Mapping[str, ActionRule]] = {one.name: one for one in _RULES}
