"""The dialogue of one log-in, as a front end leads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raftmail.frontends.sasl.mechanisms import begin
from raftmail.frontends.sasl.steps import (
    Challenge,
    SaslMalformed,
    SaslReply,
    SaslStep,
    ScramAsked,
)
from raftmail.service.login import LoggedIn, LogInOutcome, LogInRefused, Origin
from raftmail.service.service import Accounts


class SaslExchange:
    """`step` is what comes next. A `Challenge` is sent to the client, and `answer` goes on from
    there. An outcome is the end. All else are questions, which `ask` has the accounts answer."""

    def __init__(
        self, mechanism: str, initial: bytes | None, bindings: Mapping[str, bytes]
    ) -> None:
        """`mechanism` is one of `mechanisms.offered`. `initial` is the client's first answer,
        decoded, where it came with the command."""
        self.mechanism = mechanism
        self._talk = begin(mechanism, initial, bindings)
        self.step = self._next(lambda: next(self._talk))

    def answer(self, data: bytes) -> None:
        """The client's answer to the challenge, decoded (`base64_lines.decode_answer`)."""
        assert isinstance(self.step, Challenge)
        self._send(data)

    async def ask(
        self, accounts: Accounts, origin: Origin, *, deadline_s: float
    ) -> Challenge | LogInOutcome:
        """The next step that is no question. Raises `Unavailable`, and the log-in has ended."""
        while not isinstance(self.step, (Challenge, LoggedIn, LogInRefused)):
            if isinstance(self.step, ScramAsked):
                self._send(await accounts.scram_offer(self.step.user, deadline_s=deadline_s))
            else:
                self._send(await accounts.log_in(self.step, origin, deadline_s=deadline_s))
        return self.step

    def _send(self, reply: SaslReply) -> None:
        self.step = self._next(lambda: self._talk.send(reply))

    @staticmethod
    def _next(go_on: Callable[[], SaslStep]) -> SaslStep | LogInOutcome:
        try:
            return go_on()
        except StopIteration as e:
            assert isinstance(e.value, (LoggedIn, LogInRefused))
            return e.value
        except SaslMalformed as e:
            return e.refusal
