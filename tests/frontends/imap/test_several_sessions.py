"""Several sessions of one user: each has its own numbers, and hears of the others where it may."""

from __future__ import annotations

from typing import Any

import pytest

from raftmail.frontends.imap.limits import ImapLimits
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.uidset import UidSet
from tests.frontends.imap.imap_kit import USER, ImapClient, filled, message, run, saved
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.imap.strict_response import StrictResponse
from tests.frontends.twin_service import TwinService


async def other_of(client: ImapClient, *enabled: str, mailbox: str = "INBOX") -> ImapClient:
    """Another session of the same user, with the mailbox selected."""
    other = await ImapClient(client.port).log_in()
    if enabled:
        await other.ok(f"ENABLE {' '.join(enabled)}")
    await other.ok(f"SELECT {mailbox}")
    return other


async def gone(client: ImapClient, uids: str) -> None:
    """Another session removes messages of INBOX."""
    other = await other_of(client)
    await other.ok(f"UID STORE {uids} +FLAGS.SILENT (\\Deleted)")
    await other.ok(f"UID EXPUNGE {uids}")
    await other.close()


def code(client: ImapClient, name: str) -> Any:
    """The value of a response code that was heard last."""
    found = [one.code[1] for one in client.heard if one.code and one.code[0] == name]
    assert found, f"{name} was not said: {client.heard}"
    return found[-1]


def vanished(client: ImapClient) -> list[tuple[bool, list[tuple[int, int]]]]:
    return [one.value for one in client.heard if one.kind == "VANISHED"]


# -- numbers ----------


def test_numbers_stay_while_others_expunge_and_no_other_message_stands_in_for_a_gone_one() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        await client.ok("CREATE x")
        await gone(client, "1")
        (line,) = await client.ok("FETCH 2 (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert line.startswith(b"* 2 FETCH (UID 2 ") and b"number 2" in line
        (line,) = await client.ok("STORE 3 +FLAGS (\\Flagged)")
        assert line == b"* 3 FETCH (FLAGS (\\Flagged))"
        assert await client.ok("SEARCH ALL") == [b"* SEARCH 2 3"]
        said, answer = await client.do("FETCH 1 (UID)")
        assert not said and answer.startswith(b"OK [EXPUNGEISSUED]")
        said, answer = await client.do("COPY 1 x")
        assert not said and answer.startswith(b"NO [EXPUNGEISSUED]")
        said, answer = await client.do("COPY 1:2 x")
        assert answer.startswith(b"OK [COPYUID ") and b" 2 1]" in answer
        assert said == [b"* 1 EXPUNGE"]
        assert await client.ok("FETCH 2 (UID)") == [b"* 2 FETCH (UID 3)"]

    run(talk, service=MachineService())


def test_expunges_are_told_before_the_answer_and_exists_is_not() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        await client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok("EXPUNGE") == [b"* 1 EXPUNGE"]
        for command in ("EXPUNGE", "NOOP", "CHECK", "UID EXPUNGE 1:*"):
            assert await client.ok(command) == [], command
        client.send(b"i IDLE\r\nDONE\r\n")
        said, _ = await client.answer(b"i")
        assert said == [b"+ idling"]

    run(talk, service=MachineService())


@pytest.mark.parametrize(
    ("wanted", "went"), [("3,7", [3, 7]), ("3:7", [3, 7]), ("7:*", [7, 8, 9, 10])]
)
def test_a_move_moves_what_it_names_and_nothing_else(wanted: str, went: list[int]) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 10)
        await client.ok("CREATE Trash")
        await gone(client, "4:6")
        other = await ImapClient(client.port).log_in()
        await saved(other, message("eleven"))
        await saved(other, message("twelve"))
        await other.close()
        await client.ok(f"UID MOVE {wanted} Trash")
        sources = code(client, "COPYUID")[1]
        assert [uid for low, high in sources for uid in range(low, high + 1)] == went
        await client.ok("NOOP")
        await client.ok("UID SEARCH ALL")
        left = client.heard[0].value[0]
        assert left == sorted({1, 2, 3, 7, 8, 9, 10, 11, 12} - set(went))

    run(talk, service=MachineService())


def test_the_own_append_to_the_mailbox_that_is_selected_is_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE Sent")
        await client.ok("SELECT Sent")
        said, answer = await client.do("APPEND Sent (\\Seen) {}", message("mine"))
        assert said[0] == b"* 1 EXISTS" and answer.startswith(b"OK [APPENDUID ")

    run(talk, service=MachineService())


def test_a_uid_that_is_gone_is_left_out_whole() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 5)
        await gone(client, "4")
        said = await client.ok("UID FETCH 3,4,5 (BODY.PEEK[])")
        bodies = [one for one in client.heard if one.kind == "FETCH" and "BODY[]" in one.value]
        assert [one.value["UID"] for one in bodies] == [3, 5] and said

    run(talk, service=MachineService())


# -- QRESYNC ----------


@pytest.mark.parametrize(
    ("removed", "told"),
    [("5", [(5, 5)]), ("4:5", [(4, 5)]), ("1:5", [(1, 5)]), ("2,4", [(2, 2), (4, 4)])],
)
def test_vanished_reaches_up_to_the_last_uid_that_was_given(
    removed: str, told: list[tuple[int, int]]
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 5)
        await client.ok("SELECT INBOX")
        modseq, validity = code(client, "HIGHESTMODSEQ"), code(client, "UIDVALIDITY")
        await gone(client, removed)
        other = await other_of(client, "QRESYNC")
        await other.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
        assert vanished(other) == [(True, told)]
        for known in ("", " 1:5", " 1:9"):
            await other.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq}{known}))")
            assert vanished(other) == [(True, told)], known
        await other.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq} 1:2))")
        assert vanished(other) in ([], [(True, [(1, 2)])], [(True, [(2, 2)])])
        await other.close()

    run(talk, service=MachineService())


def test_a_resynchronisation_needs_to_be_enabled_and_leaves_what_is_selected() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        for enabled in ("", "ENABLE CONDSTORE"):
            if enabled:
                await client.ok(enabled)
            said, answer = await client.do("SELECT INBOX (QRESYNC (1 1))")
            assert not said and answer.startswith(b"BAD")
        assert await client.ok("SEARCH ALL") == [b"* SEARCH 1 2"]

    run(talk)


def test_vanished_has_its_place_and_needs_to_be_enabled() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        for command in (
            "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
            "UID FETCH 1:* (FLAGS) (VANISHED)",
            "FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        ):
            _, answer = await client.do(command)
            assert answer.startswith(b"BAD"), command
        await client.ok("ENABLE QRESYNC")
        await client.ok("UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)")
        for command in (
            "UID FETCH 1:* (FLAGS) (VANISHED)",
            "FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        ):
            _, answer = await client.do(command)
            assert answer.startswith(b"BAD"), command

    run(talk, service=MachineService())


def test_enabled_is_always_said_and_names_what_is_known() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        assert await client.ok("ENABLE FOO") == [b"* ENABLED"]
        assert await client.ok("ENABLE QRESYNC CONDSTORE FOO") == [b"* ENABLED QRESYNC CONDSTORE"]

    run(talk, service=MachineService())


def test_with_qresync_expunges_are_told_as_uids_and_only_where_they_may() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 6)
        await client.ok("ENABLE QRESYNC")
        await gone(client, "2")
        for command in ("FETCH 1 (UID)", "STORE 3 +FLAGS (\\Flagged)", "SEARCH ALL"):
            await client.ok(command)
            assert not vanished(client), command
        await client.ok("UID FETCH 1 (FLAGS)")
        assert vanished(client) == [(False, [(2, 2)])]
        await gone(client, "3")
        await client.ok("NOOP")
        assert vanished(client) == [(False, [(3, 3)])]
        client.heard.clear()
        client.send(b"i IDLE\r\n")
        await client.response()
        await gone(client, "4,6")
        while not vanished(client):
            await client.response()
        assert vanished(client) == [(False, [(4, 4), (6, 6)])]
        client.send(b"DONE\r\n")
        await client.answer(b"i")

    run(talk, service=MachineService())


def test_a_store_that_came_too_late_names_its_messages_as_the_command_did() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        await gone(client, "1")
        await client.ok("NOOP")
        await client.ok("FETCH 1 (MODSEQ)")
        modseq = client.heard[0].value["MODSEQ"]
        other = await other_of(client)
        await other.ok("UID STORE 3 +FLAGS.SILENT (\\Flagged)")
        await other.close()
        await client.ok(f"STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Seen)")
        assert code(client, "MODIFIED") in ([(2, 2)], [(1, 2)])
        first = next(one for one in client.heard if one.kind == "FETCH" and one.number == 1)
        assert first.value["MODSEQ"] > modseq
        await client.ok("UID FETCH 2 (MODSEQ)")
        modseq = client.heard[0].value["MODSEQ"] - 1
        await client.ok(f"UID STORE 2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Seen)")
        assert code(client, "MODIFIED") == [(2, 2)]

    run(talk, service=MachineService())


@pytest.mark.parametrize("enabled", ["", "CONDSTORE"])
@pytest.mark.parametrize("moment", ["before", "between"])
def test_a_silent_store_tells_what_others_changed(enabled: str, moment: str) -> None:
    """RFC 9051 section 6.4.6: else the client keeps flags that the message does not have."""

    class Meanwhile(MachineService):
        """Flags change after a STORE was applied, and before it is answered."""

        armed = False

        def _execute(self, command: c.Command) -> r.Result:
            result = super()._execute(command)
            if self.armed and isinstance(command, c.Store):
                self.armed = False
                flags = (r"\Flagged",)
                self._execute(c.Store(USER, "INBOX", UidSet.single(2), c.StoreMode.ADD, flags))
            return result

    service = Meanwhile()

    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 3)
        if enabled:
            await client.ok(f"ENABLE {enabled}")
        await client.ok("NOOP")
        if moment == "before":
            other = await other_of(client)
            await other.ok(r"UID STORE 2 +FLAGS.SILENT (\Flagged)")
            await other.close()
        service.armed = moment == "between"
        await client.ok(r"UID STORE 1:3 +FLAGS.SILENT (\Seen)")
        told = {one.value["UID"]: one.value["FLAGS"] for one in flags_of(client)}
        assert set(told[2]) == {rb"\Seen", rb"\Flagged"}
        await client.ok(r"UID STORE 1:3 +FLAGS.SILENT (\Answered)")
        assert not flags_of(client)

    run(talk, service=service)


def flags_of(client: ImapClient) -> list[StrictResponse]:
    return [one for one in client.heard if one.kind == "FETCH" and "FLAGS" in one.value]


def come(service: MachineService) -> None:
    """Another message is delivered."""
    digest = next(iter(service.bodies))
    new = c.NewMessage((c.Target(USER, "INBOX"),), digest, 9, bytes(16), 1, (), b"")
    service._execute(c.Save(USER, (new,), 1))


async def kept(client: ImapClient, count: int) -> tuple[int, int]:
    """What a client keeps that has left a mailbox of so many: HIGHESTMODSEQ and UIDVALIDITY."""
    await filled(client, count)
    await client.ok("ENABLE QRESYNC")
    await client.ok("SELECT INBOX")
    found = code(client, "HIGHESTMODSEQ"), code(client, "UIDVALIDITY")
    await client.ok("UNSELECT")
    return found


def test_who_is_told_a_modseq_at_select_is_told_all_that_came_before_it() -> None:
    """A message comes, and flags change, after SELECT has counted."""

    class Meanwhile(MachineService):
        armed = False

        def _query(self, query: q.Query) -> q.Answer:
            if self.armed and isinstance(query, q.FetchVanished):
                self.armed = False
                come(self)
                flags = (r"\Flagged",)
                self._execute(c.Store(USER, "INBOX", UidSet.single(1), c.StoreMode.ADD, flags))
            return super()._query(query)

    service = Meanwhile()

    async def talk(client: ImapClient, _: TwinService) -> None:
        modseq, validity = await kept(client, 2)
        service.armed = True
        await client.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
        assert [one.number for one in client.heard if one.kind == "EXISTS"] == [2, 3]
        assert {one.value["UID"] for one in flags_of(client)} == {1, 3}

    run(talk, service=service)


def test_a_message_that_goes_before_it_could_be_told_is_told_by_its_uid() -> None:
    """EXISTS counted it. A client that does not hear of it has one number too many for ever."""

    class Meanwhile(MachineService):
        armed = False

        def _query(self, query: q.Query) -> q.Answer:
            if self.armed and isinstance(query, q.FetchMessages):
                self.armed = False
                gone = UidSet.from_uids([2, 4])
                self._execute(c.Expunge(USER, "INBOX", gone, only_deleted=False))
            return super()._query(query)

    service = Meanwhile()

    async def talk(client: ImapClient, __: TwinService) -> None:
        modseq, validity = await kept(client, 3)
        come(service)
        come(service)
        service.armed = True
        await client.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
        uids = {one.number: one.value["UID"] for one in client.heard if one.kind == "FETCH"}
        exists = [one.number for one in client.heard if one.kind == "EXISTS"]
        assert exists == [5] and uids[4] == 4 and uids[5] == 5
        if not vanished(client):
            await client.ok("NOOP")
        assert vanished(client) == [(False, [(2, 2), (4, 4)])]

    run(talk, service=service)


def test_what_came_and_went_while_select_was_answered_is_not_told_as_vanished() -> None:
    class Meanwhile(MachineService):
        armed = False

        def _query(self, query: q.Query) -> q.Answer:
            if self.armed and isinstance(query, q.FetchVanished):
                self.armed = False
                come(self)
                gone = UidSet.from_uids([2, 4])
                self._execute(c.Expunge(USER, "INBOX", gone, only_deleted=False))
            return super()._query(query)

    service = Meanwhile()

    async def talk(client: ImapClient, _: TwinService) -> None:
        modseq, validity = await kept(client, 3)
        service.armed = True
        await client.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
        told = vanished(client)
        if not told:
            await client.ok("NOOP")
        assert [spans for _, spans in vanished(client)] == [[(2, 2)]]

    run(talk, service=service)


def test_a_modseq_that_may_be_kept_never_lies_beyond_changes_that_cannot_be_read() -> None:
    """Another client's change cannot be read after one's own was applied."""

    class Silent(MachineService):
        armed = False

        def _query(self, query: q.Query) -> q.Answer:
            if self.armed and isinstance(query, q.GetMailbox):
                raise Unavailable(Failure("no master"))
            return super()._query(query)

    service = Silent()

    async def talk(client: ImapClient, _: TwinService) -> None:
        await filled(client, 3)
        await client.ok("ENABLE QRESYNC")
        await client.ok("SELECT INBOX")
        kept = code(client, "HIGHESTMODSEQ")
        await client.ok(r"UID STORE 3 +FLAGS.SILENT (\Deleted)")
        other = await other_of(client)
        await other.ok(r"UID STORE 1 +FLAGS.SILENT (\Flagged)")
        await other.close()
        service.armed = True
        await client.ok(r"UID STORE 2 +FLAGS (\Seen)")
        assert code(client, "HIGHESTMODSEQ") <= kept + 1
        await client.ok("UID EXPUNGE 3")
        assert code(client, "HIGHESTMODSEQ") <= kept + 1
        service.armed = False
        await client.ok("NOOP")
        assert vanished(client) == [(False, [(3, 3)])]
        assert {one.value["UID"] for one in flags_of(client)} == {1}

    run(talk, service=service)


def test_expunge_tells_its_modseq_and_a_resync_from_there_shows_none_of_it() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 5)
        await client.ok("ENABLE QRESYNC")
        await client.ok("SELECT INBOX")
        before, validity = code(client, "HIGHESTMODSEQ"), code(client, "UIDVALIDITY")
        await client.ok("UID STORE 3,4 +FLAGS.SILENT (\\Deleted)")
        await client.ok("UID EXPUNGE 3:9")
        assert vanished(client) == [(False, [(3, 4)])]
        first = code(client, "HIGHESTMODSEQ")
        assert first > before + 1
        _, answer = await client.do("EXPUNGE")
        assert not vanished(client) and answer.startswith(b"OK")
        await client.ok("UID STORE 5 +FLAGS.SILENT (\\Deleted)")
        assert await client.ok("CLOSE") == []
        other = await other_of(client, "QRESYNC")
        await other.ok(f"SELECT INBOX (QRESYNC ({validity} {first}))")
        assert vanished(other) == [(True, [(5, 5)])]
        last = code(other, "HIGHESTMODSEQ")
        await other.ok(f"SELECT INBOX (QRESYNC ({validity} {first - 1}))")
        assert vanished(other) == [(True, [(3, 5)])]
        await other.ok(f"SELECT INBOX (QRESYNC ({validity} {last}))")
        assert vanished(other) == []
        await other.close()

    run(talk, service=MachineService())


def test_a_modseq_that_may_be_kept_never_lies_beyond_an_expunge_that_is_untold() -> None:
    """RFC 7162 section 3.2: what a client keeps must not make it miss the expunge."""

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 3)
        await client.ok("ENABLE QRESYNC")
        await client.ok("SELECT INBOX")
        validity = code(client, "UIDVALIDITY")
        kept = code(client, "HIGHESTMODSEQ")
        await gone(client, "2")
        await client.ok("STORE 3 +FLAGS (\\Flagged)")
        assert not vanished(client)
        for one in client.heard:
            if one.kind == "FETCH":
                kept = max(kept, one.value.get("MODSEQ", 0))
            if one.code and one.code[0] == "HIGHESTMODSEQ":
                kept = one.code[1]
        other = await other_of(client, "QRESYNC")
        await other.ok(f"SELECT INBOX (QRESYNC ({validity} {kept}))")
        assert vanished(other) == [(True, [(2, 2)])]
        await other.close()

    run(talk, service=MachineService())


@pytest.mark.parametrize(
    "command",
    [
        "SEARCH MODSEQ 1",
        "FETCH 1 (MODSEQ)",
        "UID FETCH 1 (UID) (CHANGEDSINCE 1)",
        "STATUS INBOX (HIGHESTMODSEQ)",
        "ENABLE CONDSTORE",
        "SELECT INBOX (CONDSTORE)",
        "STORE 1 (UNCHANGEDSINCE 99) +FLAGS.SILENT (\\Seen)",
    ],
)
def test_who_speaks_of_modseqs_is_told_them_from_then_on(command: str) -> None:
    """RFC 7162 section 3.1."""

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        (line,) = await client.ok("STORE 2 +FLAGS (\\Draft)")
        assert b"MODSEQ" not in line
        await client.ok(command)
        (line,) = await client.ok("STORE 2 +FLAGS (\\Flagged)")
        assert b"MODSEQ (" in line

    run(talk, service=MachineService())


# -- IDLE ----------


def test_idle_ends_by_done_in_any_case_and_what_follows_is_answered() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        client.send(b"a IDLE\r\n")
        assert await client.response() == b"+ idling\r\n"
        client.send(b"done\r\nb NOOP\r\n")
        assert (await client.answer(b"a"))[1].startswith(b"OK")
        assert (await client.answer(b"b"))[1].startswith(b"OK")
        client.send(b"c IDLE\r\nDONE\r\nDONE\r\nd NOOP\r\n")
        assert (await client.answer(b"c"))[1].startswith(b"OK")
        assert (await client.answer(b"DONE"))[1].startswith(b"BAD")
        assert (await client.answer(b"d"))[1].startswith(b"OK")

    run(talk, service=MachineService())


def test_what_came_during_idle_is_told_before_its_answer() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        other = await ImapClient(client.port).log_in()
        client.send(b"a IDLE\r\n")
        assert await client.response() == b"+ idling\r\n"
        other.send(b"x APPEND INBOX {3+}\r\nhi!\r\n")
        await other.answer(b"x")
        client.send(b"DONE\r\n")
        said, _ = await client.answer(b"a")
        assert b"* 2 EXISTS" in said
        await other.close()

    run(talk, service=MachineService())


def test_who_has_selected_nothing_may_idle() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        client.send(b"a IDLE\r\nDONE\r\n")
        assert (await client.answer(b"a"))[1].startswith(b"OK")

    run(talk, service=MachineService())


def test_two_sessions_idle_in_two_mailboxes_and_each_hears_of_its_own() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        await client.ok("CREATE x")
        other = await other_of(client, mailbox="x")
        for one in (client, other):
            one.send(b"i IDLE\r\n")
            assert await one.response() == b"+ idling\r\n"
        third = await ImapClient(client.port).log_in()
        await third.ok("APPEND x {}", message("to x"))
        assert await other.response() == b"* 1 EXISTS\r\n"
        await third.ok("APPEND INBOX {}", message("to INBOX"))
        assert await client.response() == b"* 2 EXISTS\r\n"
        for one in (client, other):
            one.send(b"DONE\r\n")
            assert (await one.answer(b"i"))[1].startswith(b"OK")
        await other.close()
        await third.close()

    run(talk, service=MachineService())


def test_who_is_silent_in_idle_for_too_long_is_told_bye_and_never_a_tagged_ok() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        client.send(b"i IDLE\r\n")
        assert await client.response() == b"+ idling\r\n"
        assert (await client.response()).startswith(b"* BYE")
        assert await client.response() == b""

    run(talk, ImapLimits(idle_s=0.3), service=MachineService())


# -- keywords ----------


def test_a_keyword_that_is_new_is_announced_to_every_session_before_it_is_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        other = await other_of(client)
        said = await client.ok("STORE 1 +FLAGS (MyKw)")
        assert said[0].startswith(b"* FLAGS (") and b" MyKw)" in said[0]
        said = await other.ok("NOOP")
        assert said[0].startswith(b"* FLAGS (") and b" MyKw)" in said[0]
        said = await client.ok("STORE 2 +FLAGS (MYKW)")
        assert said == [b"* 2 FETCH (FLAGS (MyKw))"]
        assert await other.ok("FETCH 1:2 (FLAGS)") == [
            b"* 1 FETCH (FLAGS (MyKw))",
            b"* 2 FETCH (FLAGS (MyKw))",
        ]
        await other.ok("SELECT INBOX")
        flags = next(one.value for one in other.heard if one.kind == "FLAGS")
        assert flags.count(b"MyKw") == 1
        assert code(other, "PERMANENTFLAGS").count(b"MyKw") == 1
        await other.close()

    run(talk, service=MachineService())


def test_a_keyword_that_came_with_new_mail_is_announced_where_flags_are_fetched() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        other = await ImapClient(client.port).log_in()
        await other.ok("APPEND INBOX ($Junk) {}", message("junk"))
        await other.close()
        said = await client.ok("NOOP")
        assert said[0] == b"* 2 EXISTS"
        assert said[1].startswith(b"* FLAGS (") and b"$Junk" in said[1]
        assert said[2].startswith(b"* 2 FETCH (")

    run(talk, service=MachineService())
