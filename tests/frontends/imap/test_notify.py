"""NOTIFY (RFC 5465): a client hears of what it asked for, in every mailbox, at any moment."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.fetch_items import Attribute
from raftmail.frontends.imap.grammar import parse
from raftmail.frontends.imap.notify_events import EventGroup, NotifyEvent, NotifyFilter
from raftmail.frontends.imap.request_reader import ImapRequest
from raftmail.frontends.imap.scanner import ParseError
from raftmail.mail.changes import Missed
from tests.frontends.imap.imap_kit import USER, ImapClient, Talk, message, run
from tests.frontends.twin_service import TwinService

_COME_AND_GO = frozenset((NotifyEvent.MESSAGE_NEW, NotifyEvent.MESSAGE_EXPUNGE))


def parsed(text: str) -> c.ImapCommand:
    return parse(ImapRequest(b"a", (text.encode(),), 0), Dialect())


def test_a_request_is_read_with_all_that_it_can_have() -> None:
    assert parsed("NOTIFY NONE") == c.Notify(False, ())
    found = parsed(
        "notify set status (selected-delayed (MessageNew (uid ENVELOPE) messageexpunge FlagChange))"
        " (subtree (A B) (MailboxName)) (mailboxes C NONE)"
        " (personal (MessageExpunge MessageNew SubscriptionChange))"
    )
    assert found == c.Notify(
        True,
        (
            EventGroup(
                NotifyFilter.SELECTED_DELAYED,
                frozenset(),
                _COME_AND_GO | {NotifyEvent.FLAG_CHANGE},
                (Attribute.UID, Attribute.ENVELOPE),
            ),
            EventGroup(
                NotifyFilter.SUBTREE,
                frozenset(("A", "B")),
                frozenset((NotifyEvent.MAILBOX_NAME,)),
                (),
            ),
            EventGroup(NotifyFilter.MAILBOXES, frozenset(("C",)), frozenset(), ()),
            EventGroup(
                NotifyFilter.PERSONAL,
                frozenset(),
                _COME_AND_GO | {NotifyEvent.SUBSCRIPTION_CHANGE},
                (),
            ),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        "NOTIFY",
        "NOTIFY SET",
        "NOTIFY SET STATUS",
        "NOTIFY NONE NONE",
        "NOTIFY SET (personal)",
        "NOTIFY SET (personal ())",
        "NOTIFY SET (personal (MessageNew))",
        "NOTIFY SET (personal (FlagChange))",
        "NOTIFY SET (personal (MessageNew (UID) MessageExpunge))",
        "NOTIFY SET (personal (MessageExpunge (UID) MessageNew))",
        "NOTIFY SET (selected (MailboxName))",
        "NOTIFY SET (selected NONE) (selected-delayed NONE)",
        "NOTIFY SET (subtree (MailboxName))",
        "NOTIFY SET (mailboxes () NONE)",
        "NOTIFY SET (nobody NONE)",
        "NOTIFY SET (personal NONE) ",
    ],
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parsed(text)


@pytest.mark.parametrize("event", ["AnnotationChange", "AnyOther"])
def test_events_that_are_not_told_of_are_named_with_those_that_are(event: str) -> None:
    with pytest.raises(ParseError) as e:
        parsed(f"NOTIFY SET (personal ({event}))")
    assert e.value.no
    assert e.value.code == (
        "BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange "
        "MailboxMetadataChange ServerMetadataChange)"
    )


def test_a_client_reads_which_events_there_are() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        _, answer = await client.do("NOTIFY SET (personal (AnyOther))")
        assert answer.startswith(b"NO [BADEVENT (MessageNew MessageExpunge ")

    run(talk)


def with_other(talk: Talk) -> None:
    """Run it with a client that has logged in, and mailboxes A and B."""

    async def prepared(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for name in ("A", "B"):
            await client.ok(f"CREATE {name}")
        await client.ok("SELECT INBOX")
        await talk(client, service)

    run(prepared)


async def another(client: ImapClient) -> ImapClient:
    return await ImapClient(client.port).log_in()


def test_mailboxes_that_are_not_selected_are_told_of_between_commands() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await other.ok("SELECT A")
        await client.ok("NOTIFY SET (mailboxes A (MessageNew MessageExpunge))")
        await other.ok("APPEND B {}", message("not asked for"))
        await other.ok("APPEND A {}", message("one"))
        said = await client.response()
        assert said.startswith(b"* STATUS A (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ")
        assert b" UNSEEN 1 " in said
        await other.ok("NOOP")
        await other.ok("STORE 1 +FLAGS (\\Deleted)")  # flags were not asked for
        await other.ok("EXPUNGE")
        assert (await client.response()).startswith(b"* STATUS A (MESSAGES 0 UIDNEXT 2 ")
        await other.close()

    with_other(talk)


def test_changes_of_flags_are_told_if_they_are_asked_for() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await other.ok("APPEND A {}", message("one"))
        await other.ok("SELECT A")
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge FlagChange))")
        await other.ok("STORE 1 +FLAGS (\\Seen)")
        said = await client.response()
        assert said.startswith(b"* STATUS A (MESSAGES 1 ") and b" UNSEEN 0 " in said
        await other.close()

    with_other(talk)


def test_status_tells_first_how_everything_is() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        said = await client.ok(
            "NOTIFY SET STATUS (subtree A (MessageNew MessageExpunge)) (personal (MailboxName))"
        )
        assert [line.split(b" (")[0] for line in said] == [b"* STATUS A"]

    with_other(talk)


def test_names_and_subscriptions_are_told_by_list() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await client.ok("NOTIFY SET (personal (MailboxName SubscriptionChange))")
        for command, said in (
            ("CREATE New", b'* LIST () "/" New\r\n'),
            ("RENAME New Newer", b'* LIST () "/" Newer ("OLDNAME" (New))\r\n'),
            ("SUBSCRIBE Newer", b'* LIST (\\Subscribed) "/" Newer\r\n'),
            ("UNSUBSCRIBE Newer", b'* LIST () "/" Newer\r\n'),
            ("DELETE Newer", b'* LIST (\\NonExistent) "/" Newer\r\n'),
        ):
            await other.ok(command)
            assert await client.response() == said
        await other.close()

    with_other(talk)


@pytest.mark.parametrize("delayed", [False, True])
def test_the_mailbox_that_is_selected_is_told_of_at_once(delayed: bool) -> None:
    which = "selected-delayed" if delayed else "selected"

    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await other.ok("SELECT INBOX")
        await client.ok(
            f"NOTIFY SET ({which} (MessageNew (RFC822.SIZE) MessageExpunge FlagChange))"
        )
        await other.ok("APPEND INBOX {}", message("one"))
        size = len(message("one"))
        assert await client.response() == b"* 1 EXISTS\r\n"
        assert await client.response() == b"* 1 FETCH (UID 1 FLAGS ())\r\n"
        assert await client.response() == b"* 1 FETCH (UID 1 RFC822.SIZE %d)\r\n" % size
        await other.ok("NOOP")
        await other.ok("STORE 1 +FLAGS (\\Deleted)")
        assert await client.response() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted))\r\n"
        await other.ok("EXPUNGE")
        if delayed:
            # one of those that may change numbers
            assert await client.ok("UID SEARCH ALL") == [b"* SEARCH", b"* 1 EXPUNGE"]
        else:
            assert await client.response() == b"* 1 EXPUNGE\r\n"
        await other.close()

    with_other(talk)


def test_flags_that_were_not_asked_for_wait_for_a_command() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await other.ok("APPEND INBOX {}", message("one"))
        await other.ok("SELECT INBOX")
        await client.ok("NOOP")
        await client.ok("NOTIFY SET (selected (MessageNew MessageExpunge))")
        await other.ok("STORE 1 +FLAGS (\\Seen)")
        await other.ok("APPEND INBOX {}", message("two"))
        assert await client.response() == b"* 2 EXISTS\r\n"
        assert await client.response() == b"* 2 FETCH (UID 2 FLAGS ())\r\n"
        assert await client.ok("NOOP") == [b"* 1 FETCH (UID 1 FLAGS (\\Seen))"]
        await other.close()

    with_other(talk)


def test_everything_is_compared_when_changes_may_have_been_missed() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))")
        watches, service.watches = service.watches, []
        other = await another(client)
        service.watches = []
        await other.ok("APPEND A {}", message("one"))
        await other.ok("CREATE C")
        service.watches = watches
        for _, watch in watches:
            watch.hear(Missed(USER))
        assert await client.response() == b'* LIST () "/" C\r\n'
        assert (await client.response()).startswith(b"* STATUS A (MESSAGES 1 ")
        await other.close()

    with_other(talk)


def test_a_client_that_idles_is_told_of_other_mailboxes_too() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
        client.send(b"x IDLE\r\n")
        assert (await client.response()).startswith(b"+ ")
        await other.ok("APPEND B {}", message("one"))
        assert (await client.response()).startswith(b"* STATUS B (MESSAGES 1 ")
        client.send(b"DONE\r\n")
        assert (await client.answer(b"x"))[1].startswith(b"OK")
        await other.close()

    with_other(talk)


def test_nothing_is_told_between_commands_after_none() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        other = await another(client)
        await client.ok("NOTIFY SET (personal (MessageNew MessageExpunge))")
        await client.ok("NOTIFY NONE")
        await other.ok("APPEND A {}", message("one"))
        await other.ok("APPEND INBOX {}", message("two"))
        assert await client.ok("CAPABILITY") != []
        assert await client.ok("NOOP") == [b"* 1 EXISTS", b"* 1 FETCH (UID 1 FLAGS ())"]
        await other.close()

    with_other(talk)
