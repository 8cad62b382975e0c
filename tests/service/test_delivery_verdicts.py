"""No refusal of a save is ever a 250: whatever the reason, in every way that a delivery can
take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmail.cluster.router import Router
from raftmail.mail.commands import Save
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.results import Code, Done, Executed, Refused, SaveResult
from raftmail.service.delivery import ExpandedRecipient, MailDelivery
from raftmail.service.verdicts import Envelope, Recipient, Verdict
from tests.service.test_delivery import Twin, _address

SHORT = b"Subject: x\r\n\r\ny\r\n"
LONG = b"Subject: x\r\n\r\n" + b"y" * 78 * (1 << 12) + b"\r\n"
PERMANENT = {Code.LIMIT, Code.OVERQUOTA}
"""What the sender's waiting does not mend."""

FAILURES = [
    Failure("no master"),
    Failure("no answer", unknown=True),
    Failure("the disks are full", full=True),
    Failure("too long", final=True),
]


@dataclass
class Answering(Twin):
    """A router that answers every command alike, awaited or not."""

    outcome: Executed | Failure = field(default_factory=lambda: Failure("none"))

    async def execute(self, command: Save, *, blobs: Any, deadline_s: float) -> Executed:
        if isinstance(self.outcome, Failure):
            raise Unavailable(self.outcome)
        return self.outcome

    def execute_soon(
        self,
        command: Save,
        blobs: Any,
        deadline_s: float,
        done: Callable[[Executed | Failure], None],
    ) -> None:
        done(self.outcome)


def _refused(code: Code) -> Executed:
    return Executed(Refused(code, "not so"), 1, 1, "n")


def _verdicts(outcome: Executed | Failure, body: bytes, to: Sequence[Verdict]) -> list[Verdict]:
    """What the recipients are told, one for each of `to`."""
    delivery = MailDelivery(cast(Router, Answering(outcome=outcome)), 1.0)
    names = ("a", "b", "boss")
    recipients = [Recipient(_address(f"{names[i]}@x.org"), one) for i, one in enumerate(to)]
    trace = SimpleNamespace(prefix=lambda address: b"")
    envelope = Envelope(None, "h", "p", False, False, "t", 5.0, cast(Any, trace))

    async def run() -> list[Verdict]:
        told: list[Verdict] = []
        if delivery.deliver_soon(envelope, body, recipients, told.extend):
            assert len(told) == len(recipients), "the twin answers at once"
            return told
        return list(await delivery.deliver(envelope, body, recipients))

    return asyncio.run(run())


_ALONE = [Verdict.accepted()]
_ALIAS = [ExpandedRecipient(250, "2.1.5", "Recipient ok", ("a@x.org", "b@x.org"))]
_TWO = [Verdict.accepted(), Verdict.accepted()]
WAYS = [
    pytest.param(SHORT, _ALONE, id="short"),
    pytest.param(LONG, _ALONE, id="long"),
    pytest.param(SHORT, _ALIAS, id="alias"),
    pytest.param(SHORT, _TWO, id="two recipients"),
    pytest.param(LONG, _TWO, id="long, two recipients"),
]


@pytest.mark.parametrize(("body", "to"), WAYS)
@pytest.mark.parametrize("code", list(Code))
def test_a_refused_save_is_never_a_250(code: Code, body: bytes, to: list[Verdict]) -> None:
    for verdict in _verdicts(_refused(code), body, to):
        assert verdict.code >= 400
        assert (verdict.code >= 500) <= (code in PERMANENT), "only these are bounced"


@pytest.mark.parametrize(("body", "to"), WAYS)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.text)
def test_an_outcome_that_is_not_known_is_a_4xx(
    failure: Failure, body: bytes, to: list[Verdict]
) -> None:
    for verdict in _verdicts(failure, body, to):
        assert 400 <= verdict.code < 500
        assert (verdict.code == 452) == failure.full


@pytest.mark.parametrize(("body", "to"), WAYS)
def test_what_was_saved_is_a_250(body: bytes, to: list[Verdict]) -> None:
    for verdict in _verdicts(Executed(SaveResult(()), 1, 1, "n"), body, to):
        assert verdict.code == 250


def test_no_other_answer_to_a_save_is_taken_for_a_delivery() -> None:
    for body in (SHORT, LONG):
        (verdict,) = _verdicts(Executed(Done(), 1, 1, "n"), body, _ALONE)
        assert verdict.code == 451
