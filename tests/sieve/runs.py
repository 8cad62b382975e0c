"""Scripts run over messages, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from raftmail.sieve.compiler import compile_script
from raftmail.sieve.rule_addresses import split_address
from raftmail.sieve.rule_limits import DEFAULT_RULE_LIMITS, RuleLimits
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import Action
from raftmail.sieve.run_state import Surroundings
from raftmail.sieve.script_run import AskSeen, Halt, ScriptRun

PLAIN = b"From: anna@example.org\r\nTo: me@example.org\r\nSubject: hello\r\n\r\nbody\r\n"
AROUND = Surroundings(
    split_address(b"anna@example.org"),
    split_address(b"me@example.org"),
    frozenset((b"me@example.org",)),
    {"INBOX": "", "Archive": "\\Archive", "Junk": "\\Junk", "Lists/Python": ""},
    1_800_000_000,
)


def outcome_of(
    script: str | bytes,
    message: bytes = PLAIN,
    *,
    around: Surroundings = AROUND,
    others: Mapping[str, bytes] | None = None,
    limits: RuleLimits = DEFAULT_RULE_LIMITS,
    seen: frozenset[bytes] = frozenset(),
) -> tuple[Action, ...]:
    """The actions. Raises ScriptError or RuleError."""
    text = script.encode() if isinstance(script, str) else script
    program = compile_script(text, name="main", others=others, limits=limits)
    run = ScriptRun(program, RuleMessage(message), around, limits)
    while True:
        state = run.advance(7)
        if isinstance(state, AskSeen):
            run.answer(state.key, state.key in seen)
        elif not isinstance(state, Halt):
            return state.actions


def sent_by(address: bytes) -> Surroundings:
    return replace(AROUND, sender=split_address(address) if address else None)
