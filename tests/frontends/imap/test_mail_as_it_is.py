"""Mail is shown as it is, whatever it is: what FETCH says of odd messages agrees with itself, and
no message keeps another from being read."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.frontends.imap.imap_kit import ImapClient, message, run, saved
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.imap.odd_messages import ENCLOSING, ODD, PLAIN, crlf, damaged, nested
from tests.frontends.imap.strict_structures import StrictBody
from tests.frontends.twin_service import TwinService

ITEMS = (
    "UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[] RFC822.HEADER "
    "BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1] BODY.PEEK[1.MIME] BINARY.PEEK[] BINARY.SIZE[]"
)
WHAT_HEADERS = "BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]"


async def fetched(client: ImapClient, number: int, items: str) -> dict[str, Any]:
    """What one FETCH of one message says, by item."""
    await client.ok(f"FETCH {number} ({items})")
    found: dict[str, Any] = {}
    for heard in client.heard:
        if heard.kind == "FETCH" and heard.number == number:
            found.update(heard.value)
    return found


def leaves(body: StrictBody, path: tuple[int, ...] = ()) -> list[tuple[str, StrictBody]]:
    """Parts that are no multiparts, by their number."""
    if body.media == b"MULTIPART":
        return [
            leaf
            for number, child in enumerate(body.children, 1)
            for leaf in leaves(child, (*path, number))
        ]
    shown = path or (1,)
    found = [(".".join(map(str, shown)), body)]
    if body.envelope is not None:
        inner = body.children[0]
        # An embedded single body is part 1 of its message.
        found += leaves(inner, shown if inner.media == b"MULTIPART" else (*shown, 1))
    return found


async def agrees(client: ImapClient, number: int, octets: bytes) -> None:
    """All that FETCH says of a message is said of the same octets."""
    octets = octets.replace(b"\x00", b" ")
    told = await fetched(client, number, f"{ITEMS} {WHAT_HEADERS}")
    assert told["BODY[]"] == octets
    assert told["RFC822.SIZE"] == len(octets) == told["BINARY.SIZE[]"]
    header = told["BODY[HEADER]"]
    assert header == told["RFC822.HEADER"] and header + told["BODY[TEXT]"] == octets
    assert told["BODY[HEADER.FIELDS (SUBJECT)]"].endswith(b"\r\n")
    structure = told["BODYSTRUCTURE"]
    assert _basic(structure) == _basic(told["BODY"])
    parts = leaves(structure)
    if len(parts) > 40:
        parts = [*parts[:20], *parts[-20:]]
    for path, part in parts:
        found = await fetched(client, number, f"BODY.PEEK[{path}] BODY.PEEK[{path}.MIME]")
        body = found[f"BODY[{path}]"]
        assert body is not None and len(body) == part.octets, path
        assert found[f"BODY[{path}.MIME]"] is not None
    if structure.media != b"MULTIPART" and structure.envelope is None:
        assert told["BODY[1]"] == told["BODY[TEXT]"]


def _basic(body: StrictBody) -> Any:
    """A structure without extension data."""
    children = [_basic(child) for child in body.children]
    parameters = None if body.media == b"MULTIPART" else body.parameters
    return (
        body.media, body.subtype, children, parameters, body.id, body.description, body.encoding,
        body.octets, body.lines, body.envelope,
    )  # fmt: skip


def test_odd_messages_are_shown_as_they_are_and_keep_none_from_being_read() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        odd = [octets for octets in ODD.values() if octets]
        for octets in odd:
            await saved(client, octets)
            await saved(client, message("good"))
        await client.ok("SELECT INBOX")
        await client.ok(f"FETCH 1:* ({ITEMS})")
        numbers = [heard.number for heard in client.heard if heard.kind == "FETCH"]
        assert numbers == list(range(1, 2 * len(odd) + 1))
        for number, octets in enumerate(odd):
            await agrees(client, 2 * number + 1, octets)

    run(talk, service=MachineService())


@pytest.mark.parametrize("seed", range(3))
def test_damaged_messages_are_shown_as_they_are(seed: int) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        odd = [octets for octets in damaged(15, seed + 100) if octets]
        for octets in odd:
            await saved(client, octets)
        await client.ok("SELECT INBOX")
        for number, octets in enumerate(odd, 1):
            await agrees(client, number, octets)

    run(talk, service=MachineService())


def test_ten_thousand_levels_are_shown_as_far_as_the_limit() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await saved(client, nested(10_000))
        await saved(client, PLAIN)
        await client.ok("SELECT INBOX")
        await agrees(client, 1, nested(10_000))
        await agrees(client, 2, PLAIN)

    run(talk, service=MachineService())


async def one(client: ImapClient, octets: bytes) -> None:
    """Log in and select a mailbox that has this message alone."""
    await client.log_in()
    await saved(client, octets)
    await client.ok("SELECT INBOX")


@pytest.mark.parametrize(
    "items",
    [
        "BODY.PEEK[1]<400000.400000>",
        "BODY.PEEK[]<400000.1>",
        "BINARY.PEEK[1]<400000.400000>",
        "BODY.PEEK[2]",
        "BODY.PEEK[HEADER.FIELDS (X-None)]<2.5>",
        "BODY.PEEK[TEXT]<400000.1>",
    ],
)
def test_no_octets_are_said_in_quotes_and_never_as_a_literal(items: str) -> None:
    octets = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\n\r\n0123456789\r\n--b\r\n\r\n\r\n--b--\r\n"
    )

    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, octets)
        (line,) = await client.ok(f"UID FETCH 1 ({items})")
        assert line.endswith(b' "")') and b"{0}" not in line

    run(talk, service=MachineService())


def test_a_message_without_text_has_a_text_of_no_octets() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, b"Subject: x\r\n\r\n")
        (line,) = await client.ok("FETCH 1 (RFC822.TEXT)")
        assert line.startswith(b'* 1 FETCH (RFC822.TEXT ""')
        (line,) = await client.ok("FETCH 1 (BODY[TEXT] BODY[1] BINARY[1])")
        assert line == b'* 1 FETCH (BODY[TEXT] "" BODY[1] "" BINARY[1] "")'

    run(talk, service=MachineService())


def test_partials_are_cut_to_what_there_is_and_all_of_one_command_are_answered() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, PLAIN)
        assert len(PLAIN) == 18
        told = await fetched(
            client,
            1,
            "BODY[]<0.1> BODY[]<17.1> BODY[]<18.1> BODY[]<4294967295.1> BODY[]<5.4294967295>",
        )
        assert told == {
            "BODY[]<0>": b"S",
            "BODY[]<17>": b"\n",
            "BODY[]<18>": b"",
            "BODY[]<4294967295>": b"",
            "BODY[]<5>": PLAIN[5:],
            "FLAGS": [b"\\Seen"],
        }
        _, answer = await client.do("FETCH 1 (BODY[]<0.0>)")
        assert answer.startswith(b"BAD")
        await client.ok("NOOP")

    run(talk, service=MachineService())


def test_partials_of_any_size_put_together_are_the_whole() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, ENCLOSING)
        for size in (1, 7, 64, len(ENCLOSING) - 1, len(ENCLOSING)):
            together = b""
            while True:
                await client.ok(f"FETCH 1 (BODY.PEEK[]<{len(together)}.{size}>)")
                piece = client.heard[0].value[f"BODY[]<{len(together)}>"]
                if not piece:
                    break
                together += piece
            assert together == ENCLOSING

    run(talk, service=MachineService())


def test_names_of_header_fields_are_echoed_as_atoms_in_the_order_of_the_request() -> None:
    octets = b"Subject: a\r\n folded\r\nFrom: b\r\nmessage-id: <c>\r\nDate: d\r\n\r\nx"

    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, octets)
        told = await fetched(
            client,
            1,
            'BODY.PEEK[HEADER.FIELDS (SUBJECT "from" Message-Id X-None)] '
            "BODY.PEEK[HEADER.FIELDS.NOT (date)] BODY.PEEK[HEADER.FIELDS (X-None)]",
        )
        assert told == {
            "BODY[HEADER.FIELDS (SUBJECT from Message-Id X-None)]": (
                b"Subject: a\r\n folded\r\nFrom: b\r\nmessage-id: <c>\r\n\r\n"
            ),
            "BODY[HEADER.FIELDS.NOT (date)]": (
                b"Subject: a\r\n folded\r\nFrom: b\r\nmessage-id: <c>\r\n\r\n"
            ),
            "BODY[HEADER.FIELDS (X-None)]": b"\r\n",
        }

    run(talk, service=MachineService())


def test_a_multipart_without_parts_has_a_part_that_can_be_fetched() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        for name in ("no boundary", "boundary never seen", "boundary without a value"):
            await saved(client, ODD[name])
        await client.ok("SELECT INBOX")
        await client.ok("FETCH 1:3 (BODYSTRUCTURE BODY.PEEK[1])")
        heard = [one.value for one in client.heard if one.kind == "FETCH"]
        assert len(heard) == 3
        for value in heard:
            assert leaves(value["BODYSTRUCTURE"])[0][1].octets == len(value["BODY[1]"])

    run(talk, service=MachineService())


def test_addresses_keep_their_four_members_whatever_stands_in_them() -> None:
    octets = crlf(
        """From: =?iso-8859-1?Q?aa?=
 =?iso-8859-1?Q?bb?= <x@example.org>
Sender: =?utf-8?Q?a,b_<c@d>?= <x@example.org>
Reply-To: bb?= =?utf-8?Q?c <x@example.org>
To: undisclosed-recipients:;
Cc: Team A: Zed <z@example.org>, y@example.org;, w@example.org
Bcc: ,
Subject: long
\tfold
References: """
        + " ".join(f"<{number}@example.org>" for number in range(600))
        + "\n\nx\n"
    )

    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, octets)
        told = await fetched(client, 1, "ENVELOPE BODY.PEEK[HEADER]")
        envelope = told["ENVELOPE"]
        assert envelope.subject == b"long\tfold"
        assert envelope.addresses[3] == (
            (None, None, b"undisclosed-recipients", None),
            (None, None, None, None),
        )
        assert envelope.addresses[4] == (
            (None, None, b"Team A", None),
            (b"Zed", None, b"z", b"example.org"),
            (None, None, b"y", b"example.org"),
            (None, None, None, None),
            (None, None, b"w", b"example.org"),
        )
        assert envelope.addresses[5] == ()
        assert len(envelope.addresses[0]) == 1 and all(envelope.addresses[1:3])
        assert b"Subject: long\r\n\tfold\r\n" in told["BODY[HEADER]"]

    run(talk, service=MachineService())


_ENVELOPE_DEFAULTS = [
    (b"From: a@b\r\n", [1, 1, 1], None, None),
    (b"From: a@b\r\nSender:\r\nReply-To: ,\r\n", [1, 1, 1], None, None),
    (b"To: a@b\r\n", [0, 0, 0], None, None),
    (b"Subject:\r\nDate: \r\n", [0, 0, 0], b"", b""),
    (b"X-Nothing: x\r\n", [0, 0, 0], None, None),
]


@pytest.mark.parametrize(("header", "counts", "subject", "date"), _ENVELOPE_DEFAULTS)
def test_what_is_missing_in_an_envelope_is_nil_or_as_from(
    header: bytes, counts: list[int], subject: bytes | None, date: bytes | None
) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, header + b"\r\nx")
        envelope = (await fetched(client, 1, "ENVELOPE"))["ENVELOPE"]
        assert [len(addresses) for addresses in envelope.addresses[:3]] == counts
        assert (envelope.subject, envelope.date) == (subject, date)

    run(talk, service=MachineService())


def test_a_part_beyond_the_last_is_nil_and_the_connection_stays() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, PLAIN)
        told = await fetched(
            client, 1, "BODY.PEEK[2] BODY.PEEK[1.1] BODY.PEEK[2.MIME] BODY.PEEK[1.HEADER]"
        )
        assert set(told.values()) == {None}
        told = await fetched(client, 1, "BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[TEXT]")
        assert told["BODY[1]"] == told["BODY[TEXT]"] == b"hi\r\n"

    run(talk, service=MachineService())


_NUMBERED = {
    "BODY[2.MIME]": b"Content-Description: letter",
    "BODY[2.HEADER]": b"Subject: inner",
    "BODY[2.1]": b"VHdvLg==",
    "BODY[2.2.MIME]": b"Content-ID: <deep@x.example>",
    "BODY[2.2.HEADER]": b"Subject: deepest",
    "BODY[2.2.1]": b"Thr=\r\nee=2E",
    "BINARY[2.1]": b"Two.",
    "BINARY[2.2.1]": b"Three.",
}


def test_enclosed_messages_are_numbered_through() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await one(client, ENCLOSING)
        items = " ".join(re.sub(r"\[", ".PEEK[", name) for name in _NUMBERED)
        told = await fetched(client, 1, items)
        for name, expected in _NUMBERED.items():
            assert expected in told[name], name
        told = await fetched(client, 1, "BODY.PEEK[2] BODY.PEEK[2.HEADER] BODY.PEEK[2.TEXT]")
        assert told["BODY[2]"] == told["BODY[2.HEADER]"] + told["BODY[2.TEXT]"]

    run(talk, service=MachineService())


def test_a_client_that_takes_quoted_strings_as_utf8_reads_every_message_too() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        await client.ok("ENABLE IMAP4rev2")
        odd = [octets for octets in ODD.values() if octets]
        for octets in odd:
            await saved(client, octets)
        await client.ok("SELECT INBOX")
        await client.ok(f"FETCH 1:* ({ITEMS})")
        told = [one.value["BODY[]"] for one in client.heard if one.kind == "FETCH"]
        assert told == [octets.replace(b"\x00", b" ") for octets in odd]

    run(talk, service=MachineService())


def test_a_message_that_cannot_be_decoded_does_not_keep_the_others_from_being_told() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        head = b"Content-Transfer-Encoding: "
        for encoding in (b"base64", b"x-odd", b"8bit", b"x-odd", b"7bit"):
            await saved(client, head + encoding + b"\r\n\r\nQQ==")
        await client.ok("SELECT INBOX")
        said, answer = await client.do("FETCH 1:* (UID BINARY.PEEK[1])")
        assert answer.startswith(b"NO [UNKNOWN-CTE]")
        assert [line.split()[1] for line in said] == [b"1", b"3", b"5"]

    run(talk)
