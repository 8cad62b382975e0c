"""Names and lives of mailboxes, as mail programs in the field use them."""

from __future__ import annotations

import random

import pytest

from tests.frontends.imap.imap_kit import ImapClient, filled, message, run, saved
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService

WIRE = {
    "R&-D": "R&D",
    '"L&APY-hne &- Steuern"': "Löhne & Steuern",
    "&APg-re": "øre",
    "&ZeVnLIqe-": "日本語",
    "&ZeVnLA-&-&ip4-": "日本&語",
}


async def listed(client: ImapClient, command: str) -> dict[bytes, set[bytes]]:
    """Attributes by name."""
    await client.ok(command)
    return {one.value[1]: set(one.value[0]) for one in client.heard if one.kind in ("LIST", "LSUB")}


@pytest.mark.parametrize("wire", WIRE)
def test_a_name_is_the_same_in_every_command_and_in_utf8(wire: str) -> None:
    name = WIRE[wire]

    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok(f"CREATE {wire}")
        bare = wire.strip('"').encode()
        assert bare in await listed(client, 'LIST "" *')
        await client.ok(f"SUBSCRIBE {wire}")
        assert bare in await listed(client, 'LSUB "" *')
        await client.ok(f"STATUS {wire} (MESSAGES)")
        assert client.heard[0].value[0] == bare
        await client.ok(f"APPEND {wire} {{}}", message("x"))
        await client.ok(f"SELECT {wire}")
        modern = await ImapClient(client.port).log_in()
        await modern.ok("ENABLE IMAP4rev2")
        assert name.encode() in await listed(modern, 'LIST "" *')
        await modern.ok(f'SELECT "{name}"')
        assert [one.number for one in modern.heard if one.kind == "EXISTS"] == [1]
        await modern.ok(f'RENAME "{name}" "{name}2"')
        await modern.close()
        assert len(await listed(client, f'LIST "" {wire}')) == 0

    run(talk, service=MachineService())


@pytest.mark.parametrize("wire", ["a&b", "x&AGE-", "&ZeU", "&ZeVnLA-&ip4-", "&2AA-", "&!-", "&"])
def test_a_name_that_is_written_wrong_is_refused_and_makes_no_second_one(wire: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for command in ("CREATE", "SELECT", "SUBSCRIBE", "DELETE"):
            _, answer = await client.do(f'{command} "{wire}"')
            assert answer.startswith((b"NO [CANNOT]", b"BAD")), command
        assert set(await listed(client, 'LIST "" *')) == {b"INBOX"}

    run(talk, service=MachineService())


def test_a_mailbox_that_is_made_again_is_empty_and_has_another_id_and_a_greater_uidvalidity() -> (
    None
):
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        last, ids = 0, set()
        for _ in range(5):
            await client.ok("CREATE x")
            await client.ok("STATUS x (MESSAGES UIDVALIDITY UIDNEXT MAILBOXID)")
            told = client.heard[0].value[1]
            assert told["MESSAGES"] == 0 and told["UIDNEXT"] == 1
            assert last < told["UIDVALIDITY"] < 2**32 and told["MAILBOXID"] not in ids
            last = told["UIDVALIDITY"]
            ids.add(told["MAILBOXID"])
            await saved(client, message("x"), "x")
            await client.ok("DELETE x")

    run(talk, service=MachineService())


def test_who_removes_what_it_has_selected_goes_on_and_others_are_told_bye() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE x")
        await saved(client, message("x"), "x")
        other = await ImapClient(client.port).log_in()
        for one in (client, other):
            await one.ok("SELECT x")
        await client.ok("RENAME x y")
        await client.ok("DELETE y")
        _, answer = await client.do("FETCH 1 (UID)")
        assert answer.startswith(b"BAD") and b"no mailbox is selected" in answer
        await client.ok("NOOP")
        assert await client.ok("SELECT INBOX")
        other.send(b"a NOOP\r\n")
        assert b"* BYE the mailbox that was selected is gone" in await other.response()
        await other.close()

    run(talk, service=MachineService())


def test_mailboxes_made_renamed_and_deleted_at_random_keep_their_own_mail_and_ids() -> None:
    rng = random.Random(7)

    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        has: dict[str, tuple[bytes, int]] = {}
        used: set[bytes] = set()
        for _ in range(120):
            name = rng.choice("abcdef")
            kind = rng.randrange(4)
            if kind == 0 and name not in has:
                await client.ok(f"CREATE {name}")
                await client.ok(f"STATUS {name} (MAILBOXID)")
                made = client.heard[0].value[1]["MAILBOXID"]
                assert made not in used
                used.add(made)
                has[name] = (made, 0)
            elif kind == 1 and name in has:
                await saved(client, message(name), name)
                has[name] = (has[name][0], has[name][1] + 1)
            elif kind == 2 and name in has:
                await client.ok(f"DELETE {name}")
                del has[name]
            elif kind == 3 and name in has:
                new = rng.choice("abcdef")
                _, answer = await client.do(f"RENAME {name} {new}")
                assert answer.startswith(b"NO [ALREADYEXISTS]" if new in has else b"OK"), answer
                if new not in has:
                    has[new] = has.pop(name)
        for name, (made, count) in has.items():
            await client.ok(f"STATUS {name} (MAILBOXID MESSAGES)")
            assert client.heard[0].value[1] == {"MAILBOXID": made, "MESSAGES": count}

    run(talk, service=MachineService())


def test_return_options_never_filter_and_selection_options_do() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for name in ("A", "A/b", "C", "C/d"):
            await client.ok(f"CREATE {name}")
        await client.ok("CREATE Sent (USE (\\Sent))")
        await client.ok("SUBSCRIBE A/b")
        await client.ok("SUBSCRIBE C")
        top = {b"INBOX", b"A", b"C", b"Sent"}
        found = await listed(client, 'LIST "" "%" RETURN (SUBSCRIBED CHILDREN)')
        assert set(found) == top
        assert b"\\Subscribed" in found[b"C"] and b"\\HasChildren" in found[b"A"]
        assert set(await listed(client, 'LIST (SUBSCRIBED) "" "*"')) == {b"A/b", b"C"}
        found = await listed(client, 'LIST "" "%" RETURN (SPECIAL-USE)')
        assert set(found) == top and b"\\Sent" in found[b"Sent"]
        assert set(await listed(client, 'LIST (SPECIAL-USE) "" "*"')) == {b"Sent"}
        _, answer = await client.do('LIST (RECURSIVEMATCH) "" "*"')
        assert answer.startswith(b"BAD")
        await client.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"')
        told = {one.value[1]: one.value[2] for one in client.heard if one.kind == "LIST"}
        assert set(told) == {b"A", b"C"}
        assert told[b"A"] == {b"CHILDINFO": [b"SUBSCRIBED"]} and told[b"C"] == {}

    run(talk, service=MachineService())


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ('"" "%"', {"INBOX", "A", "B"}),
        ('"A/" "%"', {"A/x", "A/y"}),
        ('"" "A/%/c"', {"A/x/c", "A/y/c"}),
        ('"" "*/"', set()),
        ('"" "*c"', {"A/x/c", "A/y/c"}),
        ('"" "%/%"', {"A/x", "A/y"}),
        ('"" ("B" "A/%")', {"A/x", "A/y", "B"}),
        ('"" inbox', {"INBOX"}),
        ('"A" "*"', {"A", "A/x", "A/x/c", "A/y", "A/y/c"}),
    ],
)
def test_patterns_match_names_and_the_parents_that_only_have_some_below(
    pattern: str, names: set[str]
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for name in ("A/x/c", "A/y/c", "B"):
            await client.ok(f"CREATE {name}")
        found = await listed(client, f"LIST {pattern}")
        assert {name.decode() for name in found} == names
        assert await client.ok('LIST "" ""') == [b'* LIST (\\Noselect) "/" ""']

    run(talk, service=MachineService())


def test_a_special_use_is_of_one_mailbox_and_is_refused_with_its_own_code() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE Sent (USE (\\Sent))")
        for command in (
            "CREATE Gesendet (USE (\\Sent))",
            "CREATE Both (USE (\\Drafts \\Trash))",
            "CREATE Odd (USE (\\Nonsense))",
        ):
            _, answer = await client.do(command)
            assert answer.startswith(b"NO [USEATTR]"), (command, answer)
        assert set(await listed(client, 'LIST "" *')) == {b"INBOX", b"Sent"}

    run(talk, service=MachineService())


def test_inbox_that_is_renamed_gives_its_mail_away_and_stays() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 2)
        await client.ok("UNSELECT")
        await client.ok("CREATE INBOX/k")
        await client.ok("STATUS INBOX (UIDNEXT MAILBOXID)")
        before = client.heard[0].value[1]
        await client.ok("RENAME INBOX old")
        await client.ok("STATUS old (MESSAGES MAILBOXID)")
        old = client.heard[0].value[1]
        await client.ok("STATUS INBOX (MESSAGES UIDNEXT MAILBOXID)")
        after = client.heard[0].value[1]
        assert old["MESSAGES"] == 2 and after["MESSAGES"] == 0
        assert after["UIDNEXT"] >= before["UIDNEXT"] and old["MAILBOXID"] != after["MAILBOXID"]
        assert b"INBOX/k" in await listed(client, 'LIST "" *')

    run(talk, service=MachineService())


def test_a_rename_leaves_subscriptions_to_the_client() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE p/a")
        for name in ("p", "p/a"):
            await client.ok(f"SUBSCRIBE {name}")
        await client.ok("RENAME p q")
        said = await client.ok('LSUB "" "*"')
        assert said == [b'* LSUB () "/" p', b'* LSUB () "/" p/a']

    run(talk, service=MachineService())


def test_a_rename_takes_what_is_below_with_it() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE p/c")
        await client.ok("CREATE other")
        for _ in range(2):
            await saved(client, message("x"), "p/c")
        await client.ok("SUBSCRIBE p/c")
        await client.ok("STATUS p/c (UIDNEXT UIDVALIDITY MESSAGES MAILBOXID)")
        before = client.heard[0].value[1]
        await client.ok("RENAME p q")
        await client.ok("STATUS q/c (UIDNEXT UIDVALIDITY MESSAGES MAILBOXID)")
        after = client.heard[0].value[1]
        assert {key: after[key] for key in ("UIDNEXT", "MESSAGES", "MAILBOXID")} == {
            key: before[key] for key in ("UIDNEXT", "MESSAGES", "MAILBOXID")
        }
        assert set(await listed(client, 'LIST "" *')) == {b"INBOX", b"q", b"q/c", b"other"}
        for command in ("RENAME q q/x", "RENAME nowhere z", "RENAME q q/c/d"):
            _, answer = await client.do(command)
            assert answer.startswith(b"NO"), command
        _, answer = await client.do("RENAME q other")
        assert answer.startswith(b"NO [ALREADYEXISTS]")

    run(talk, service=MachineService())


def test_status_of_the_mailbox_that_is_selected_is_as_it_is_now() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("CREATE x")
        await client.ok("SELECT x")
        other = await ImapClient(client.port).log_in()
        await saved(other, message("x"), "x")
        await client.ok("STATUS x (MESSAGES UIDNEXT UNSEEN HIGHESTMODSEQ SIZE DELETED)")
        told = next(one.value[1] for one in client.heard if one.kind == "STATUS")
        assert (told["MESSAGES"], told["UIDNEXT"], told["UNSEEN"], told["DELETED"]) == (1, 2, 1, 0)
        assert told["SIZE"] == len(message("x"))
        _, answer = await client.do("STATUS x ()")
        assert answer.startswith(b"BAD")
        _, answer = await client.do("STATUS nowhere (MESSAGES)")
        assert answer.startswith(b"NO [NONEXISTENT]")
        await other.close()

    run(talk, service=MachineService())


def test_the_mailbox_before_is_told_to_be_closed_when_another_is_selected() -> None:
    """RFC 7162 section 3.2.11: servers with QRESYNC say so to every client."""

    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        await client.ok("CREATE x")
        said = await client.ok("SELECT x")
        assert said[0].startswith(b"* OK [CLOSED]")
        said, answer = await client.do("SELECT nowhere")
        assert said[0].startswith(b"* OK [CLOSED]") and answer.startswith(b"NO [NONEXISTENT]")
        _, answer = await client.do("FETCH 1 (UID)")
        assert answer.startswith(b"BAD")

    run(talk, service=MachineService())
