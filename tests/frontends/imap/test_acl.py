"""Mailboxes of others by IMAP: ACL (RFC 4314), the namespaces that they are in (RFC 2342), and LIST
with MYRIGHTS (RFC 8440)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from raftmail.mail.commands import CreateMailbox, SetAcl, SetOwnSeen, StoreMode
from raftmail.service.credentials import make_credentials
from tests.frontends.imap.imap_kit import PASSWORD, USER, ImapClient, message, run
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService

OWNER = "bob@example.org"
SHARED_OWNER = "shared-folders@example.org"
BOX = f'"Other Users/{OWNER}/Box"'
_HASHED = make_credentials(PASSWORD.encode(), b"salt of the tests")
_ALL = b"lrswipkxteacd"

_Talk = Callable[[ImapClient, ImapClient], Awaitable[None]]


async def _log_in(client: ImapClient, user: str) -> ImapClient:
    await client.connect()
    await client.ok(f"LOGIN {user} {PASSWORD}")
    return client


def _with_owner(talk: _Talk, rights: str = "") -> None:
    """Have anna and bob talk; bob has a mailbox Box with two messages, and anna some rights."""

    async def prepared(client: ImapClient, service: TwinService) -> None:
        service.strict = True
        for user in (OWNER, SHARED_OWNER, "eve@example.org", "eve@other.org"):
            service.users[user] = _HASHED
        await client.log_in()
        owner = await _log_in(ImapClient(client.port), OWNER)
        await owner.ok("CREATE Box")
        for flags in ("\\Deleted k", ""):
            await owner.ok(f"APPEND Box ({flags}) {{}}", message("one"))
        if rights:
            await owner.ok(f"SETACL Box {USER} {rights}")
        await talk(client, owner)
        await owner.close()

    run(prepared, service=MachineService())


async def _refused(client: ImapClient, command: str, *literals: bytes) -> bytes:
    """The code of a NO."""
    _, answer = await client.do(command, *literals)
    assert answer.startswith(b"NO ["), answer
    return answer[4 : answer.index(b"]")]


def test_rights_are_set_told_and_taken_away() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        me = b"* ACL Box %b %b" % (OWNER.encode(), _ALL)
        assert await owner.ok("GETACL Box") == [me]
        await owner.ok(f"SETACL Box {USER} lrc")
        told = b"%b %b lrkxc" % (me, USER.encode())
        assert await owner.ok("GETACL Box") == [told]
        await owner.ok(f"SETACL Box {USER} +sd")
        await owner.ok(f"SETACL Box {USER} -kxr")
        await owner.ok("SETACL Box -anyone w")
        last = b"%b %b lsted -anyone w" % (me, USER.encode())
        assert sorted((await owner.ok("GETACL Box"))[0].split()) == sorted(last.split())
        await owner.ok(f"DELETEACL Box {USER}")
        await owner.ok("DELETEACL Box -anyone")
        assert await owner.ok("GETACL Box") == [me]
        await owner.ok(f"SETACL Box {USER} lr")
        assert await client.ok(f"MYRIGHTS {BOX}") == [b"* MYRIGHTS %b lr" % BOX.encode()]
        assert await owner.ok("MYRIGHTS Box") == [b"* MYRIGHTS Box " + _ALL]

    _with_owner(talk)


def test_listrights_tells_what_the_owner_has_and_others_may_have() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        told = b"* LISTRIGHTS Box %b " % OWNER.encode()
        assert await owner.ok(f"LISTRIGHTS Box {OWNER}") == [told + _ALL]
        each = b" ".join(bytes((one,)) for one in _ALL)
        assert await owner.ok("LISTRIGHTS Box anyone") == [b'* LISTRIGHTS Box anyone "" ' + each]

    _with_owner(talk)


def test_what_cannot_be_granted_is_refused() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        for wrong in ("nobody@example.org", OWNER, "a/b@example.org", '"two words"'):
            assert await _refused(owner, f"SETACL Box {wrong} lr") == b"CANNOT"
        _, answer = await owner.do(f"SETACL Box {USER} lz")
        assert answer.startswith(b"BAD")
        assert await _refused(owner, f"SETACL Nothing {USER} lr") == b"NONEXISTENT"
        for command in ("GETACL", "MYRIGHTS"):
            assert await _refused(owner, f"{command} Nothing") == b"NONEXISTENT"

    _with_owner(talk)


def test_a_mailbox_is_listed_once_it_is_shared_and_until_it_is_not() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        own = [b'* LIST (\\HasNoChildren) "/" INBOX']
        assert await client.ok('LIST "" *') == own
        await owner.ok(f"SETACL Box {USER} lr")
        box = b'* LIST (\\HasNoChildren) "/" ' + BOX.encode()
        tops = [
            b'* LIST (\\NonExistent \\Noselect \\HasChildren) "/" "Other Users"',
            b'* LIST (\\NonExistent \\Noselect \\HasChildren) "/" "Other Users/%b"'
            % OWNER.encode(),
        ]
        assert await client.ok('LIST "" *') == [*own, *tops, box]
        assert await client.ok('LIST "" %') == [*own, tops[0]]
        assert await client.ok('LIST "" "Other Users/%"') == [tops[1]]
        assert await client.ok(f'LIST "" {BOX}') == [box]
        assert await owner.ok('LIST "" "Other Users/*"') == []
        await owner.ok(f"SETACL Box {USER} r")
        assert await client.ok('LIST "" *') == own

    _with_owner(talk)


def test_list_tells_rights_and_status_of_what_may_be_read() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        await owner.ok("CREATE Box/Deep")
        await owner.ok(f"SETACL Box/Deep {USER} l")
        command = 'LIST "" (Box "Other Users/*") RETURN (MYRIGHTS STATUS (MESSAGES))'
        deep = BOX.encode()[:-1] + b'/Deep"'
        said = [line for line in await client.ok(command) if b"NonExistent" not in line]
        assert said == [
            b'* LIST (\\HasChildren) "/" ' + BOX.encode(),
            b"* MYRIGHTS %b lr" % BOX.encode(),
            b"* STATUS %b (MESSAGES 2)" % BOX.encode(),
            b'* LIST (\\HasNoChildren) "/" ' + deep,
            b"* MYRIGHTS %b l" % deep,
        ]
        own = await client.ok('LIST "" INBOX RETURN (MYRIGHTS)')
        assert own[1] == b"* MYRIGHTS INBOX " + _ALL

    _with_owner(talk, "lr")


def test_anyone_is_all_users_of_the_domain() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        await owner.ok("SETACL Box anyone lr")
        for user, count in (("eve@example.org", 1), ("eve@other.org", 0)):
            eve = await _log_in(ImapClient(client.port), user)
            assert len(await eve.ok(f'LIST "" {BOX}')) == count
            if not count:
                assert await _refused(eve, f"SELECT {BOX}") == b"NONEXISTENT"
            await eve.close()

    _with_owner(talk)


def test_folders_of_the_shared_user_have_a_namespace_of_their_own() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        told = b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared Folders/" "/"))'
        assert await client.ok("NAMESPACE") == [told]
        shared = await _log_in(ImapClient(client.port), SHARED_OWNER)
        await shared.ok("CREATE Team/News")
        await shared.ok("SETACL Team/News anyone lr")
        await client.ok('SELECT "Shared Folders/Team/News"')
        said = await client.ok('LIST "" "Shared Folders/*"')
        assert b'* LIST (\\HasNoChildren) "/" "Shared Folders/Team/News"' in said
        other = f'"Other Users/{SHARED_OWNER}/Team/News"'
        assert await _refused(client, f"SELECT {other}") == b"NONEXISTENT"
        await shared.close()

    _with_owner(talk)


def test_a_selected_mailbox_is_as_writable_as_the_rights_are() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        said, answer = await client.do(f"SELECT {BOX}")
        assert answer.startswith(b"OK [READ-ONLY]") and b"* 2 EXISTS" in said
        assert b"* OK [PERMANENTFLAGS ()] these are kept" in said
        for command in ("STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "MOVE 1 INBOX"):
            assert await _refused(client, command) == b"NOPERM"
        await client.ok("FETCH 1 (FLAGS BODY[])")
        await owner.ok(f"SETACL Box {USER} +s")
        said, answer = await client.do(f"SELECT {BOX}")
        assert answer.startswith(b"OK [READ-WRITE]")
        assert b"* OK [PERMANENTFLAGS (\\Seen)] these are kept" in said
        told = await client.ok("STORE 1 FLAGS (\\Seen \\Flagged)")
        assert told == [b"* 1 FETCH (FLAGS (\\Seen \\Deleted k))"]
        assert await _refused(client, "STORE 1 +FLAGS (\\Flagged)") == b"NOPERM"
        assert await _refused(client, "EXPUNGE") == b"NOPERM"
        await client.ok("CLOSE")
        assert await owner.ok("STATUS Box (MESSAGES UNSEEN)") == [
            b"* STATUS Box (MESSAGES 2 UNSEEN 1)"
        ]

    _with_owner(talk, "lr")


_COMMANDS = [
    ("r", f"SELECT {BOX}"),
    ("r", f"EXAMINE {BOX}"),
    ("r", f"STATUS {BOX} (MESSAGES)"),
    ("r", f"GETMETADATA {BOX} /shared/comment"),
    ("r", f"GETQUOTAROOT {BOX}"),
    ("w", f'SETMETADATA {BOX} (/shared/comment "x")'),
    ("k", f"CREATE {BOX[:-1]}/New"),
    ("x", f"DELETE {BOX}"),
    ("a", f"GETACL {BOX}"),
    ("a", f"SETACL {BOX} anyone lr"),
    ("a", f"DELETEACL {BOX} anyone"),
    ("a", f"LISTRIGHTS {BOX} anyone"),
]


@pytest.mark.parametrize("right, command", _COMMANDS)
def test_a_command_needs_its_right_and_tells_nothing_without_l(right: str, command: str) -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        command_ = command.replace("/New", '/New"')
        await owner.ok(f"SETACL Box {USER} l" + "lrswipkxtea".replace(right, "").replace("l", ""))
        assert await _refused(client, command_) == b"NOPERM"
        await owner.ok(f"SETACL Box {USER} -l")
        hidden = await client.do(command_)
        nowhere = await client.do(command_.replace("Box", "Nowhere"))
        ghost = await client.do(command_.replace(OWNER, "ghost@example.org"))
        if right != "k":
            assert hidden == nowhere == ghost and hidden[1].startswith(b"NO [NONEXISTENT]")
        await owner.ok(f"SETACL Box {USER} l{right}")
        await client.ok(command_)

    _with_owner(talk)


def test_mail_goes_between_own_mailboxes_and_those_of_others() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        await client.ok(f"SELECT {BOX}")
        said, answer = await client.do("COPY 1:2 INBOX")
        assert b"COPYUID" in answer
        assert await _refused(client, "MOVE 1 INBOX") == b"NOPERM"
        await owner.ok(f"SETACL Box {USER} +tei")
        await client.ok(f"SELECT {BOX}")
        await client.ok("MOVE 1 INBOX")
        assert await client.ok("STATUS INBOX (MESSAGES)") == [b"* STATUS INBOX (MESSAGES 3)"]
        assert await owner.ok("STATUS Box (MESSAGES)") == [b"* STATUS Box (MESSAGES 1)"]
        await client.ok("SELECT INBOX")
        await client.ok(f"COPY 1 {BOX}")
        await client.ok(f"APPEND {BOX} (\\Seen k \\Deleted) {{}}", message("two"))
        await owner.ok("SELECT Box")
        said = await owner.ok("FETCH 2:3 FLAGS")
        assert said == [
            b"* 2 FETCH (FLAGS (\\Deleted))",
            b"* 3 FETCH (FLAGS (\\Deleted))",
        ], "the flags that anna may set"
        _, answer = await client.do(f"REPLACE 1 {BOX} {{}}", message("three"))
        assert answer.startswith(b"NO [CANNOT]")
        nowhere = BOX.replace("Box", "Nowhere")
        assert await _refused(client, f"COPY 1 {nowhere}") == b"TRYCREATE"

    _with_owner(talk, "lr")


def test_changes_of_a_mailbox_of_others_are_told_while_it_is_selected() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        await client.ok(f"SELECT {BOX}")
        client.send(b"i IDLE\r\n")
        assert await client.response() == b"+ idling\r\n"
        await owner.ok("APPEND Box {}", message("three"))
        assert await client.response() == b"* 3 EXISTS\r\n"
        assert b"FETCH" in await client.response()
        client.send(b"DONE\r\n")
        assert (await client.response()).startswith(b"i OK")
        await client.ok("UNSELECT")
        await owner.ok("APPEND Box {}", message("four"))
        assert await client.ok("NOOP") == []

    _with_owner(talk, "lr")


def test_a_session_ends_when_the_right_to_read_is_taken_away() -> None:
    async def talk(client: ImapClient, owner: ImapClient) -> None:
        await client.ok(f"SELECT {BOX}")
        client.send(b"i IDLE\r\n")
        await client.response()
        await owner.ok(f"DELETEACL Box {USER}")
        assert (await client.response()).startswith(b"* BYE")

    _with_owner(talk, "lr")


def test_own_mailboxes_with_the_names_of_namespaces_stay_what_they_are() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        assert isinstance(service, MachineService)
        await client.log_in()
        await client.ok("CREATE Old")
        await client.ok("RENAME Old New")
        for name in ('"Other Users"', '"Other Users/x"', '"Shared Folders"'):
            assert await _refused(client, f"CREATE {name}") == b"CANNOT"
            assert await _refused(client, f"RENAME New {name}") == b"CANNOT"
        service.feeder.do(CreateMailbox(USER, "Shared Folders/Mine", 1, bytes(16)))
        await client.ok('APPEND "Shared Folders/Mine" {}', message("one"))
        await client.ok('SELECT "Shared Folders/Mine"')
        await client.ok('RENAME "Shared Folders/Mine" Mine')
        await client.ok("SELECT Mine")

    run(talk, service=MachineService())


def test_guests_have_a_seen_of_their_own_where_the_mailbox_is_so() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        assert isinstance(service, MachineService)
        service.users["eve@example.org"] = _HASHED
        await client.log_in()
        service.feeder.do(CreateMailbox(OWNER, "Box", 1, bytes(16)))
        service.feeder.do(SetAcl(OWNER, "Box", "anyone", StoreMode.REPLACE, "lrsi"))
        service.feeder.do(SetOwnSeen(OWNER, "Box", own=True))
        for text in ("one", "two"):
            await client.ok(f"APPEND {BOX} {{}}", message(text))
        eve = await _log_in(ImapClient(client.port), "eve@example.org")
        await eve.ok(f"SELECT {BOX}")
        await client.ok(f"SELECT {BOX}")
        assert any(b"\\Seen" in line for line in await client.ok("FETCH 1 BODY[]"))
        assert await client.ok("SEARCH UNSEEN") == [b"* SEARCH 2"]
        status = b"* STATUS %b (UNSEEN %%d)" % BOX.encode()
        assert await client.ok(f"STATUS {BOX} (UNSEEN)") == [status % 1]
        assert b"* SEARCH 1 2" in await eve.ok("SEARCH UNSEEN")
        assert (await eve.ok(f"STATUS {BOX} (UNSEEN)"))[0] == status % 2
        said = await client.ok(f"SELECT {BOX}")
        assert b"* OK [UNSEEN 2] the first that is unseen" in said
        await eve.close()

    run(talk, service=MachineService())
