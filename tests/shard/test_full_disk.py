"""A disk with less space than the reserve: mail is refused, and what frees space is taken
(`codec.FREEING`)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmail.mail import commands as c
from raftmail.mail.codec import encode_request
from raftmail.mail.failures import Failure
from raftmail.mail.results import Executed
from raftmail.mail.uidset import UidSet
from raftmail.shard.replica import Replica
from raftmail.storage.blobs import SECOND_RESERVE_BYTES_MAX
from tests.shard.machines import body_hash, message
from tests.shard.test_index_recovery import TEXTS, Machinery
from tests.simulation.disk import PLENTY_BYTES

CLIENT = b"client of tests!"


class Full(Machinery):
    """It has saved `TEXTS`, and then its disk is nearly full."""

    def __init__(self) -> None:
        super().__init__()
        self.save(TEXTS)
        self.seq = len(TEXTS)
        self.reserve(PLENTY_BYTES + PLENTY_BYTES // 2)

    def reserve(self, least: int) -> None:
        """Have another reserve, and have the replica look at it."""
        blobs = self.replica.blobs
        blobs.limits = replace(blobs.limits, free_bytes_min=least)
        for _ in range(80):
            self.turn()

    def ask(self, command: c.Command, blobs: tuple[tuple[bytes, bytes], ...] = ()) -> object:
        self.seq += 1
        request = encode_request(CLIENT, self.seq, self.seq - 1, command)
        answers: list[Executed | Failure] = []
        self.replica.submit(self.now, request, blobs, answers.append)
        for _ in range(100):
            self.turn()
        (answer,) = answers
        return answer


def _save(text: str) -> tuple[c.Save, tuple[tuple[bytes, bytes], ...]]:
    command = c.Save("a", (message(text),), 1000)
    return command, ((body_hash(text), text.encode()),)


FREEING: list[c.Command] = [
    c.Expunge("a", "INBOX", UidSet.parse("1")),
    c.DeleteMailbox("a", "INBOX"),
    c.RemoveUser("a@example.org"),
    c.PurgeUser("a"),
]


@pytest.mark.parametrize("command", FREEING, ids=lambda command: type(command).__name__)
def test_what_frees_space_is_taken_by_a_full_disk(command: c.Command) -> None:
    machinery = Full()
    assert machinery.replica.disk_full
    assert isinstance(machinery.ask(command), Executed)


def test_a_full_disk_refuses_mail_at_once_and_says_what_is_taken() -> None:
    machinery = Full()
    answer = machinery.ask(*_save("one more"))
    assert isinstance(answer, Failure) and answer.full
    assert "disk is full" in answer.text and "expunge" in answer.text
    machinery.reserve(0)
    assert isinstance(machinery.ask(*_save("one more")), Executed)


def test_below_half_of_the_reserve_nothing_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machinery = Full()
    monkeypatch.setattr(machinery.disk, "free_bytes", lambda: (100 << 20) - 1)
    machinery.reserve(200 << 20)
    answer = machinery.ask(FREEING[0])
    assert isinstance(answer, Failure) and answer.full
    assert "nothing is taken" in answer.text and "expunge" not in answer.text


def test_however_large_the_reserve_is_what_frees_space_is_taken_while_there_is_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machinery = Full()
    monkeypatch.setattr(machinery.disk, "free_bytes", lambda: SECOND_RESERVE_BYTES_MAX)
    machinery.reserve(3 * PLENTY_BYTES)
    assert isinstance(machinery.ask(FREEING[0]), Executed)


def test_there_is_space_again_only_with_an_eighth_more_than_the_reserve() -> None:
    machinery = Full()
    machinery.reserve(PLENTY_BYTES)
    assert machinery.replica.disk_full, "what is given back would be used up at once"
    machinery.reserve(PLENTY_BYTES // 8 * 7)
    assert not machinery.replica.disk_full


def test_mail_that_waits_when_the_disk_becomes_full_is_refused_and_what_frees_space_goes_on() -> (
    None
):
    machinery = Machinery()
    machinery.save(TEXTS)
    replica: Replica = machinery.replica
    answers: list[Executed | Failure] = []
    seq = len(TEXTS) + 1
    command, blobs = _save("one more")
    replica.submit(machinery.now, encode_request(CLIENT, seq, 0, command), blobs, answers.append)
    replica.submit(
        machinery.now, encode_request(CLIENT, seq + 1, 0, FREEING[0]), [], answers.append
    )
    replica.blobs.limits = replace(replica.blobs.limits, free_bytes_min=PLENTY_BYTES * 3 // 2)
    replica.blobs.nearly_full(machinery.now + 2)
    machinery.now += 2
    for _ in range(100):
        machinery.turn()
    assert [type(answer) for answer in answers] == [Failure, Executed]
