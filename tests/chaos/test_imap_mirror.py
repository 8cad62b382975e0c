"""What a mail program of the load keeps, and what it does not believe."""

from __future__ import annotations

import pytest

from raftmail.mail.commands import StoreMode
from raftmail.mail.uidset import UidSet
from raftmail_chaos.imap_answers import BadImapAnswer, ImapSplitter, read_answer
from raftmail_chaos.imap_mirror import ImapMirror, MirrorBroken


def hear(mirror: ImapMirror, *lines: str) -> None:
    for line in lines:
        mirror.hear(read_answer(f"{line}\r\n".encode()))


def opened(*uids: int) -> ImapMirror:
    """A mailbox with these messages, each as of modseq 5."""
    mirror = ImapMirror("INBOX")
    mirror.begin_select(resyncs=False)
    hear(
        mirror,
        f"* {len(uids)} EXISTS",
        "* OK [UIDVALIDITY 7] valid",
        "* OK [UIDNEXT 10] next",
        "* OK [HIGHESTMODSEQ 5] highest",
    )
    mirror.end_select()
    for number, uid in enumerate(uids, 1):
        hear(mirror, f"* {number} FETCH (UID {uid} FLAGS () MODSEQ (5))")
    mirror.settle()
    assert mirror.is_whole and mirror.modseq == 5
    return mirror


def resynced(mirror: ImapMirror, *lines: str, known_last: int = (1 << 32) - 1) -> None:
    mirror.leave()
    mirror.begin_select(resyncs=True, known_last=known_last)
    hear(mirror, *lines)
    mirror.end_select()
    mirror.settle()


def test_qresync_gives_what_there_is() -> None:
    mirror = opened(2, 4, 6)
    lines = "* 3 EXISTS", "* OK [HIGHESTMODSEQ 9] highest", "* VANISHED (EARLIER) 1,4"
    flags = r"* 2 FETCH (UID 6 FLAGS (\Seen) MODSEQ (8))", "* 3 FETCH (UID 9 FLAGS () MODSEQ (9))"
    resynced(mirror, *lines, *flags)
    assert mirror.numbers == [2, 6, 9] and mirror.modseq == 9 and mirror.vanished == 1


@pytest.mark.parametrize(
    "lines",
    [
        ("* 2 EXISTS",),  # VANISHED is left out
        ("* 3 EXISTS", "* VANISHED (EARLIER) 4"),  # of a living one
        ("* 4 EXISTS",),  # a message is left out
        ("* 3 EXISTS", "* 1 FETCH (UID 4 FLAGS () MODSEQ (6))"),
        ("* 3 EXISTS", "* OK [HIGHESTMODSEQ 4] back"),
        ("* 3 EXISTS", "* OK [UIDNEXT 9] back"),
        ("* 3 EXISTS", "* OK [UIDVALIDITY 8] other"),
        ("* 3 EXISTS", "* VANISHED (EARLIER) 70"),
    ],
)
def test_what_cannot_be_true_after_qresync_is_found(lines: tuple[str, ...]) -> None:
    with pytest.raises(MirrorBroken):
        resynced(opened(2, 4, 6), *lines)


@pytest.mark.parametrize(
    "lines",
    [
        ("* 2 EXISTS",),
        ("* VANISHED 3",),
        ("* VANISHED 4", "* 3 EXISTS", "* 3 FETCH (UID 4 FLAGS () MODSEQ (9))"),
        ("* 4 EXISTS", "* 4 FETCH (UID 5 FLAGS () MODSEQ (9))"),
        ("* 1 FETCH (UID 4 FLAGS () MODSEQ (9))",),
        ("* 1 FETCH (UID 2 FLAGS () MODSEQ (4))",),
        (r"* 1 FETCH (UID 2 FLAGS (\Seen) MODSEQ (5))",),
        ("* VANISHED (EARLIER) 2",),
        (
            f"* 1 FETCH (UID 2 EMAILID (M{1:032x}) RFC822.SIZE 1)",
            f"* 1 FETCH (UID 2 EMAILID (M{2:032x}) RFC822.SIZE 1)",
        ),
    ],
)
def test_what_cannot_be_true_beside_what_was_told_is_found(lines: tuple[str, ...]) -> None:
    with pytest.raises(MirrorBroken):
        hear(opened(2, 4, 6), *lines)


def test_a_modseq_is_kept_when_its_command_has_ended() -> None:
    mirror = opened(2, 4)
    hear(mirror, "* 1 FETCH (UID 2 FLAGS () MODSEQ (8))")
    assert mirror.modseq == 5
    mirror.settle()
    assert mirror.modseq == 8
    hear(mirror, "* OK [HIGHESTMODSEQ 7] more is to be told")
    mirror.settle()
    assert mirror.modseq == 7


def test_a_silent_store_changes_what_the_server_does_not_tell_anew() -> None:
    mirror = opened(2, 4)
    hear(
        mirror,
        "* 1 FETCH (UID 2 MODSEQ (6))",
        r"* 2 FETCH (UID 4 FLAGS (\Flagged) MODSEQ (6))",
    )
    mirror.stored(UidSet.parse("2,4"), StoreMode.ADD, (r"\Seen",))
    assert mirror.kept[2].flags == {r"\seen"} and mirror.kept[4].flags == {r"\flagged"}


def test_messages_above_those_that_were_known_are_asked_for() -> None:
    mirror = opened(2, 4)
    resynced(mirror, "* 3 EXISTS", "* OK [HIGHESTMODSEQ 9] highest", known_last=4)
    assert mirror.numbers == [2, 4, 0] and not mirror.is_whole and mirror.modseq == 5


def test_a_message_that_goes_during_select_takes_its_number_along() -> None:
    mirror = ImapMirror("INBOX")
    mirror.begin_select(resyncs=False)
    hear(mirror, "* 3 EXISTS", "* 3 FETCH (UID 6 FLAGS () MODSEQ (6))", "* VANISHED 4")
    mirror.end_select()
    assert mirror.numbers == [0, 6]


@pytest.mark.parametrize(
    "line",
    [
        "* 1 FETCH (UID 2 FLAGS (\\Seen) )",
        "* 1 FETCH (UID 2 UID 2)",
        "* 0 FETCH (UID 2)",
        "* 1 FETCH UID 2",
        "* VANISHED 0",
        "* STATUS INBOX (MESSAGES)",
        "* NEWS of something",
        "t1 FINE done",
        "* OK [UIDNEXT 5",
    ],
)
def test_what_has_no_place_in_the_grammar_is_not_read(line: str) -> None:
    with pytest.raises(BadImapAnswer):
        read_answer(f"{line}\r\n".encode())


def test_responses_are_cut_at_their_ends_however_they_come() -> None:
    whole = b"* 1 FETCH (UID 2 BODY[] {5}\r\na\r\nb\r)\r\nt1 OK done\r\n"
    splitter = ImapSplitter()
    found = [one for at in range(len(whole)) for one in splitter.feed(whole[at : at + 1])]
    assert found == [whole[:-12], whole[-12:]]
    fetched = read_answer(found[0]).fetched
    assert (
        fetched is not None and fetched.body == b"a\r\nb\r" and read_answer(found[1]).tag == b"t1"
    )
