"""Runs a program, step by step (RFC 5228 section 2.10).

A run stops between two steps, so that whoever drives it can do something else in between. It ends
with an outcome or with a RuleError. After an error no action counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from raftmail.mail.names import INBOX
from raftmail.sieve.program import Branch, Include, Jump, Leave, Perform, RuleProgram
from raftmail.sieve.rule_errors import RuleError
from raftmail.sieve.rule_limits import DEFAULT_RULE_LIMITS, RuleLimits
from raftmail.sieve.rule_message import RuleMessage
from raftmail.sieve.rule_outcome import FileInto, RuleOutcome
from raftmail.sieve.run_state import RunState, Scope, Surroundings, Unanswered

_WORK_AT_ONCE_OCTETS = 1 << 20


class Halt(Enum):
    """Why a run has stopped without an outcome."""

    MORE = "there is more to do: go on when other work had its turn"


@dataclass(frozen=True, slots=True)
class AskSeen:
    """Whether a message with this key was seen within so many seconds: `ScriptRun.answer` takes the
    answer."""

    key: bytes
    seconds: int


@dataclass(slots=True)
class _Frame:
    program: RuleProgram
    scope: Scope
    at: int = 0


class ScriptRun:
    """One run of one script over one message."""

    def __init__(
        self,
        program: RuleProgram,
        message: RuleMessage,
        around: Surroundings,
        limits: RuleLimits = DEFAULT_RULE_LIMITS,
    ) -> None:
        scope = Scope(program.global_names)
        self._state = RunState(message, around, limits, scope)
        self._frames = [_Frame(program, scope)]
        self._included: set[str] = set()
        self._steps = 0

    def answer(self, key: bytes, seen: bool) -> None:
        """What `AskSeen` asked."""
        self._state.answers[key] = seen

    def advance(self, steps: int = 200) -> RuleOutcome | AskSeen | Halt:
        """Goes on for so many steps, or until it has compared about a MiB.

        Raises RuleError, with the line, when the script fails for this message."""
        state = self._state
        work_max = state.work_octets + _WORK_AT_ONCE_OCTETS
        for _ in range(steps):
            frame = self._frames[-1]
            if frame.at >= len(frame.program.steps):
                if not self._leave(all_scripts=False):
                    return self._outcome()
                continue
            try:
                going_on = self._step(frame)
            except Unanswered as e:
                return AskSeen(e.key, e.seconds)
            except RuleError as e:
                line = frame.program.steps[frame.at].line
                raise RuleError(e.text, line) from None
            if not going_on:
                return self._outcome()
            if state.work_octets > work_max:
                break
        return Halt.MORE

    def _step(self, frame: _Frame) -> bool:
        """Whether there is another."""
        state = self._state
        self._steps += 1
        if self._steps > state.limits.steps_max:
            raise RuleError(f"the rules took more than {state.limits.steps_max} steps")
        step = frame.program.steps[frame.at]
        if isinstance(step, Branch):
            frame.at = step.if_true if step.test.holds(state) else step.if_false
        elif isinstance(step, Jump):
            frame.at = step.to
        elif isinstance(step, Perform):
            step.action.perform(state)
            frame.at += 1
        elif isinstance(step, Leave):
            return self._leave(step.all_scripts)
        else:
            self._include(frame, step)
        return True

    def _include(self, frame: _Frame, step: Include) -> None:
        """RFC 6609 section 3.2."""
        program = self._frames[0].program.library.get(step.script)
        if program is None and not step.optional:
            raise RuleError(f"there is no script {step.script!a} to include")
        frame.at += 1
        if program is None or (step.once and step.script in self._included):
            return
        self._included.add(step.script)
        self._state.scope = Scope(program.global_names)
        self._frames.append(_Frame(program, self._state.scope))

    def _leave(self, all_scripts: bool) -> bool:
        """Whether a script goes on that included this one."""
        if all_scripts or len(self._frames) == 1:
            return False
        self._frames.pop()
        self._state.scope = self._frames[-1].scope
        return True

    def _outcome(self) -> RuleOutcome:
        state = self._state
        if state.implicit_keep:
            state.file_into(FileInto(INBOX, state.flags))
        return RuleOutcome(tuple(state.actions), self._steps, state.work_octets)
