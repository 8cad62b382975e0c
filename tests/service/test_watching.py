"""Changes that a session has not taken are bounded, and nothing of them is lost."""

from __future__ import annotations

from raftmail.mail.changes import Change, MailboxChanged, MailboxesChanged, Missed
from raftmail.service.watching import CHANGES_MAX, Watch

USER = "anna@example.org"


def changed(mailbox: int, modseq: int = 1) -> MailboxChanged:
    return MailboxChanged(USER, mailbox, 1, 1, modseq, 1)


def hear(*changes: Change) -> tuple[Watch, list[None]]:
    woken: list[None] = []
    watch = Watch(lambda: woken.append(None))
    for change in changes:
        watch.hear(change)
    return watch, woken


def test_changes_wait_in_order_and_wake_the_session_once() -> None:
    watch, woken = hear(changed(1), MailboxesChanged(USER), changed(2))
    assert watch.take() == [changed(1), MailboxesChanged(USER), changed(2)]
    assert (len(woken), watch.take()) == (1, [])
    watch.hear(changed(3))
    assert len(woken) == 2


def test_of_one_mailbox_the_newest_change_stands_for_all() -> None:
    watch, _ = hear(*(changed(1, modseq) for modseq in range(10 * CHANGES_MAX)), changed(2))
    assert watch.take() == [changed(1, 10 * CHANGES_MAX - 1), changed(2)]


def test_at_the_bound_the_session_is_told_to_compare_everything() -> None:
    watch, woken = hear(*map(changed, range(CHANGES_MAX)))
    assert len(watch.take()) == CHANGES_MAX
    watch, woken = hear(*map(changed, range(3 * CHANGES_MAX)))
    assert (watch.take(), len(woken)) == ([Missed(USER)], 1)
    watch.hear(changed(1))
    assert watch.take() == [changed(1)]


def test_who_is_to_compare_everything_is_told_nothing_else() -> None:
    watch, _ = hear(changed(1), Missed(USER), changed(2), MailboxesChanged(USER))
    assert watch.take() == [Missed(USER)]


def test_a_watch_that_is_closed_ends_its_source() -> None:
    class Source:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    watch, _ = hear(changed(1))
    watch.source = source = Source()
    watch.close()
    assert (watch.take(), source.closed) == ([], 1)
