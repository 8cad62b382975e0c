"""What users move into Junk and out of it is learnt."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.results import Code, CopyResult, Executed, Refused, Result, Saved, SaveResult
from raftmail.mail.uidset import UidSet
from raftmail.service.junk_teacher import JunkTeacher, TeachingLimits
from raftmail.service.learning_program import LearningProgram
from tests.node.cluster import wait_for

USES = {1: "", 2: "\\Junk", 3: "\\Trash", 4: "\\Junk"}
PATIENCE_S = 60.0


class Mailboxes:
    """Answers what the teacher asks: mailboxes by number, and messages of a few octets."""

    clock: Callable[[], float] = staticmethod(lambda: 0.0)

    def __init__(self, body: bytes = b"Subject: x\r\n\r\n") -> None:
        self.body = body
        self.down = False
        self.asked: list[q.Query] = []

    async def query(
        self, query: q.Query, *, deadline_s: float, point: q.ReadPoint | None = None
    ) -> q.Answer:
        self.asked.append(query)
        if self.down:
            raise Unavailable(Failure("nobody leads"))
        match query:
            case q.GetMailbox(user, int(number)):
                use = USES.get(number)
                return None if use is None else self._info(user, number, use)
            case q.FetchMessages(user, int(number), uids):
                found = [
                    q.MessageInfo(uid, bytes(16), 1, (), 0, len(self.body), bytes(32))
                    for uid in uids
                ]
                return q.MessagePage(self._info(user, number, ""), tuple(found), False)
            case q.FetchBody():
                return self.body
        raise AssertionError(query)

    def _info(self, user: str, number: int, use: str) -> q.MailboxInfo:
        return q.MailboxInfo(number, user, "x", bytes(16), 1, 9, 1, 1, 0, 1, use, False, bytes(16))


class Notes:
    """A program that writes down what it is given."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "learnt"
        self.script = folder / "learn.py"
        self.script.write_text(
            "import os, sys\n"
            "data = sys.stdin.buffer.read()\n"
            f"with open({str(self.path)!r}, 'a') as f:\n"
            "    said = (*sys.argv[1:], os.environ['RAFTMAIL_USER'], len(data))\n"
            "    f.write(' '.join(map(str, said)) + chr(10))\n"
        )

    def program(self, *words: str) -> LearningProgram:
        return LearningProgram((sys.executable, "-S", str(self.script), *words), PATIENCE_S)

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


def move(source: int, target: int, *uids: int) -> tuple[c.Copy, CopyResult]:
    command = c.Copy("a", source, UidSet.from_uids(uids), c.Target("a", "x"), 1, move=True)
    given = UidSet.from_uids(uid + 100 for uid in uids)
    return command, CopyResult(1, target, command.uids, given, 5, 6)


def teach(teacher: JunkTeacher, *noted: tuple[c.Command, Result]) -> None:
    """Note these, and wait until everything is done."""

    async def run() -> None:
        for command, result in noted:
            teacher.note(command, result)
        async with asyncio.timeout(PATIENCE_S):
            while teacher._tasks:
                await asyncio.gather(*teacher._tasks)
        await teacher.close()

    asyncio.run(run())


def teacher_of(notes: Notes, mail: Mailboxes | None = None, **limits: int) -> JunkTeacher:
    spam, ham = notes.program("spam", "--user={user}"), notes.program("ham")
    return JunkTeacher(mail or Mailboxes(), spam, ham, TeachingLimits(**limits))


def test_into_junk_is_spam_and_out_of_it_is_none(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    teacher = teacher_of(notes, at_once_max=1)
    teach(teacher, move(1, 2, 1, 2), move(2, 1, 3))
    assert notes.lines == ["spam --user=a a 14", "spam --user=a a 14", "ham a 14"]
    assert (teacher.taught.learnt, teacher.taught.failed, teacher.taught.dropped) == (3, 0, 0)


def test_what_is_thrown_away_or_stays_junk_or_is_elsewhere_teaches_nothing(
    tmp_path: Path,
) -> None:
    notes = Notes(tmp_path)
    refused = Refused(Code.NONEXISTENT, "no such mailbox")
    teach(
        teacher_of(notes),
        move(2, 3, 1),
        move(2, 4, 1),
        move(1, 3, 1),
        move(2, 9, 1),
        move(1, 2),
        (move(1, 2, 1)[0], refused),
    )
    assert notes.lines == []


def test_what_a_guest_moves_teaches_as_well(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    command, result = move(1, 2, 1)
    teach(teacher_of(notes), (c.GuestCommand("b", command), result))
    assert notes.lines == ["spam --user=a a 14"]


def test_what_a_program_saves_in_junk_is_spam(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    saved = SaveResult((Saved("a", 2, 1, 7, 3), Saved("a", 1, 1, 8, 3)))
    teach(teacher_of(notes), (c.Save("a", (), 1), saved))
    assert notes.lines == ["spam --user=a a 14"]


def test_what_waits_is_bounded_and_the_rest_is_counted(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    teacher = teacher_of(notes, waiting_max=2, moves_max=1)
    teach(teacher, move(1, 2, *range(1, 6)), move(1, 2, 9))
    assert len(notes.lines) == 2 and teacher.taught.dropped == 4


def test_a_long_message_is_left_out_before_its_body_is_read(tmp_path: Path) -> None:
    notes, mail = Notes(tmp_path), Mailboxes(b"x" * 11)
    teacher = teacher_of(notes, mail, message_bytes_max=10)
    teach(teacher, move(1, 2, 1))
    assert teacher.taught.dropped == 1
    assert not any(isinstance(one, q.FetchBody) for one in mail.asked)


def test_a_program_that_fails_or_is_not_there_is_counted_and_not_called_again(
    tmp_path: Path,
) -> None:
    calls = tmp_path / "calls"
    failing = LearningProgram(("/bin/sh", "-c", f"echo >> {calls}; exit 3"), PATIENCE_S)
    missing = LearningProgram(("/nonexistent/learn",), PATIENCE_S)
    teacher = JunkTeacher(Mailboxes(b"x" * 500_000), failing, missing)
    teach(teacher, move(1, 2, 1), move(2, 1, 1))
    assert (teacher.taught.failed, calls.read_text()) == (2, "\n")


def test_mail_that_cannot_be_read_now_teaches_nothing_and_is_counted(tmp_path: Path) -> None:
    notes, mail = Notes(tmp_path), Mailboxes()
    mail.down = True
    teacher = teacher_of(notes, mail)
    teach(teacher, move(1, 2, 1, 2))
    assert notes.lines == [] and teacher.taught.failed == 2


def test_a_program_that_hangs_is_killed_with_what_it_has_begun(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = f"sleep 1000 & echo $$ $! > {pids}; wait"
    program = LearningProgram(("/bin/sh", "-c", command), 2.0)
    assert "longer than 2 s" in asyncio.run(program.learn("a", b"x"))
    for pid in pids.read_text().split():
        wait_for(f"the end of {pid}", partial(has_ended, pid))


def has_ended(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return state.split(") ")[1][0] == "Z"


def test_a_move_is_answered_before_anything_is_looked_at(tmp_path: Path) -> None:
    command, result = move(1, 2, 1)
    mail = Mailboxes()
    teacher = teacher_of(Notes(tmp_path), mail)

    async def execute(
        command: c.Command, *, blobs: Sequence[c.Blob] = (), deadline_s: float
    ) -> Executed:
        return Executed(result, 1, 1, "n1")

    async def run() -> None:
        executed = await teacher.watching(execute)(command, deadline_s=1.0)
        assert executed.result == result and not mail.asked
        await teacher.close()

    asyncio.run(run())
