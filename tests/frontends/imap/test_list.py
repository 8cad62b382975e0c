"""LIST with selections, returns and patterns (RFC 5258, RFC 6154), and CREATE with a use."""

from __future__ import annotations

import pytest

from tests.frontends.imap.imap_kit import ImapClient, Talk, message, run
from tests.frontends.twin_service import TwinService


def with_mailboxes(talk: Talk) -> None:
    """Run it with A, A/b, A/b/c (\\Sent, subscribed), D (subscribed), and E/f, which is subscribed
    and not there."""

    async def prepared(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for name in ("A", "A/b", "D"):
            await client.ok(f"CREATE {name}")
        await client.ok("CREATE A/b/c (USE (\\sent))")
        for name in ("A/b/c", "D", "E/f"):
            await client.ok(f"SUBSCRIBE {name}")
        await talk(client, service)

    run(prepared)


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (
            'LIST (SUBSCRIBED) "" "*"',
            [
                '(\\HasNoChildren \\Subscribed \\Sent) "/" A/b/c',
                '(\\HasNoChildren \\Subscribed) "/" D',
                '(\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) "/" E/f',
            ],
        ),
        (
            'LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"',
            [
                '(\\HasChildren) "/" A ("CHILDINFO" ("SUBSCRIBED"))',
                '(\\HasNoChildren \\Subscribed) "/" D',
                '(\\NonExistent \\Noselect \\HasNoChildren) "/" E ("CHILDINFO" ("SUBSCRIBED"))',
            ],
        ),
        (
            'LIST (SPECIAL-USE RECURSIVEMATCH) "" "A/%"',
            ['(\\HasChildren) "/" A/b ("CHILDINFO" ("SPECIAL-USE"))'],
        ),
        (
            'LIST (SPECIAL-USE SUBSCRIBED RECURSIVEMATCH) "" (A "A/b/*")',
            [
                '(\\HasChildren) "/" A ("CHILDINFO" ("SUBSCRIBED" "SPECIAL-USE"))',
                '(\\HasNoChildren \\Subscribed \\Sent) "/" A/b/c',
            ],
        ),
        ('LIST (SPECIAL-USE) "" "*"', ['(\\HasNoChildren \\Sent) "/" A/b/c']),
        (
            'LIST "" "%" RETURN (SUBSCRIBED CHILDREN)',
            [
                '(\\HasChildren) "/" A',
                '(\\HasNoChildren \\Subscribed) "/" D',
                '(\\HasNoChildren) "/" INBOX',
            ],
        ),
        ('LIST (REMOTE) "A/" "%"', ['(\\HasChildren) "/" A/b']),
        (
            'LIST () "" ("A/%/c" D)',
            ['(\\HasNoChildren \\Sent) "/" A/b/c', '(\\HasNoChildren) "/" D'],
        ),
        ('LIST "" "*/"', []),
    ],
)
def test_a_selection_chooses_and_a_return_only_tells(command: str, lines: list[str]) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        assert await client.ok(command) == [b"* LIST " + line.encode() for line in lines]

    with_mailboxes(talk)


def test_a_list_tells_the_status_of_what_it_lists() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.ok("APPEND D {}", message("one"))
        said = await client.ok('LIST (SUBSCRIBED) "" (D "E*") RETURN (STATUS (MESSAGES SIZE))')
        assert said == [
            b'* LIST (\\HasNoChildren \\Subscribed) "/" D',
            b"* STATUS D (MESSAGES 1 SIZE %d)" % len(message("one")),
            b'* LIST (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) "/" E/f',
        ]

    with_mailboxes(talk)


def test_a_use_is_given_once_and_only_if_it_is_known() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        for uses in ("\\Sent", "\\Foo", "\\Junk \\Trash"):
            _, answer = await client.do(f"CREATE new (USE ({uses}))")
            assert answer.startswith(b"NO [USEATTR]"), answer
        assert await client.ok('LIST "" new') == []
        await client.ok("CREATE new (USE (\\JUNK))")
        assert await client.ok('LIST "" new') == [b'* LIST (\\HasNoChildren \\Junk) "/" new']

    with_mailboxes(talk)


def test_many_mailboxes_are_listed_in_turns() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for number in range(500):
            service._create("anna@example.org", f"m{number:03}/below", 1, b"%016d" % number)
        assert len(await client.ok('LIST "" "*"')) == 1001

    run(talk)
