"""Summaries are valid IMAP and agree with themselves, on the corpus and on any bytes whatever.

`Reader` is a strict reader of the two productions of RFC 3501 section 9, "envelope" and "body".
On well-formed messages the standard library's email package is the twin.
"""

import email
import email.message
import email.utils
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raftmail.mail.body import body_from
from raftmail.mail.envelope import addresses
from raftmail.mail.headers import select_fields
from raftmail.mail.summary import (
    SUMMARY_BYTES_MAX,
    Summary,
    SummaryError,
    decode_parts,
    decode_summary,
    encode_summary,
    header_fields,
    summarise,
)
from raftmail_cli.corpus import GENERATED_BYTES, corpus

Address = tuple[bytes | None, bytes | None, bytes | None, bytes | None]


@dataclass
class Envelope:
    strings: list[bytes | None] = field(default_factory=list)
    addresses: list[list[Address]] = field(default_factory=list)


@dataclass
class Body:
    kind: str
    octets: int | None = None
    envelope: Envelope | None = None
    children: list["Body"] = field(default_factory=list)


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def peek(self, expected: bytes) -> bool:
        return self.data.startswith(expected, self.at)

    def take(self, expected: bytes) -> None:
        assert self.peek(expected), (expected, self.data[self.at : self.at + 40])
        self.at += len(expected)

    def match(self, pattern: bytes) -> re.Match[bytes]:
        found = re.compile(pattern).match(self.data, self.at)
        assert found is not None, (pattern, self.data[self.at : self.at + 40])
        self.at = found.end()
        return found

    def number(self) -> int:
        return int(self.match(rb"0|[1-9]\d*")[0])

    def string(self) -> bytes:
        if self.peek(b"{"):
            size = int(self.match(rb"\{(0|[1-9]\d*)\}\r\n")[1])
            text = self.data[self.at : self.at + size]
            assert len(text) == size
            assert b"\0" not in text
            self.at += size
            return text
        quoted = self.match(rb'"((?:[\x01-\x09\x0b\x0c\x0e-!#-\[\]-\x7f]|\\["\\])*)"')[1]
        return re.sub(rb"\\(.)", rb"\1", quoted)

    def nil(self) -> bool:
        if self.peek(b"NIL"):
            self.at += 3
            return True
        return False

    def nstring(self) -> bytes | None:
        return None if self.nil() else self.string()

    def end(self) -> None:
        assert self.at == len(self.data)

    def address(self) -> Address:
        self.take(b"(")
        name = self.nstring()
        self.take(b" ")
        route = self.nstring()
        self.take(b" ")
        mailbox = self.nstring()
        self.take(b" ")
        host = self.nstring()
        self.take(b")")
        return name, route, mailbox, host

    def address_list(self) -> list[Address]:
        found: list[Address] = []
        if not self.nil():
            self.take(b"(")
            while not found or not self.peek(b")"):
                found.append(self.address())
            self.take(b")")
        in_group = False
        for name, route, mailbox, host in found:
            if host is None:
                assert name is None
                assert route is None
                assert in_group == (mailbox is None)
                in_group = not in_group
            else:
                assert mailbox is not None
        assert not in_group
        return found

    def envelope(self) -> Envelope:
        shown = Envelope()
        self.take(b"(")
        for index in range(10):
            if index:
                self.take(b" ")
            if 2 <= index <= 7:
                shown.addresses.append(self.address_list())
            else:
                shown.strings.append(self.nstring())
        self.take(b")")
        return shown

    def parameters(self) -> None:
        if not self.nil():
            self.take(b"(")
            self.string()
            self.take(b" ")
            self.string()
            while not self.peek(b")"):
                self.take(b" ")
                self.string()
                self.take(b" ")
                self.string()
            self.take(b")")

    def extension(self) -> None:
        """Disposition, language, location."""
        self.take(b" ")
        if not self.nil():
            self.take(b"(")
            self.string()
            self.take(b" ")
            self.parameters()
            self.take(b")")
        self.take(b" ")
        if self.peek(b"("):
            self.take(b"(")
            self.string()
            while not self.peek(b")"):
                self.take(b" ")
                self.string()
            self.take(b")")
        else:
            self.nstring()
        self.take(b" ")
        self.nstring()

    def body(self, extended: bool = True) -> Body:
        self.take(b"(")
        children = []
        while self.peek(b"("):
            children.append(self.body(extended))
        if children:
            self.take(b" ")
            shown = Body("multipart/" + self.string().decode(), children=children)
            if extended:
                self.take(b" ")
                self.parameters()
                self.extension()
            self.take(b")")
            return shown
        kind = self.string() + b"/"
        self.take(b" ")
        kind += self.string()
        self.take(b" ")
        self.parameters()
        self.take(b" ")
        self.nstring()
        self.take(b" ")
        self.nstring()
        self.take(b" ")
        self.string()
        self.take(b" ")
        shown = Body(kind.decode(), self.number())
        assert not kind.startswith(b"multipart/")
        if kind in (b"message/rfc822", b"message/global"):
            self.take(b" ")
            shown.envelope = self.envelope()
            self.take(b" ")
            shown.children.append(self.body(extended))
            self.take(b" ")
            self.number()
        elif kind.startswith(b"text/"):
            self.take(b" ")
            self.number()
        if extended:
            self.take(b" ")
            self.nstring()
            self.extension()
        self.take(b")")
        return shown


def read_body(data: bytes, extended: bool = True) -> Body:
    reader = Reader(data)
    shown = reader.body(extended)
    reader.end()
    return shown


def read_envelope(data: bytes) -> Envelope:
    reader = Reader(data)
    shown = reader.envelope()
    reader.end()
    return shown


Place = tuple[tuple[int, ...], Body]


def numbered(body: Body, path: tuple[int, ...] = (), of_message: bool = True) -> list[Place]:
    """The parts that a client would fetch, from what it is shown (RFC 3501 section 6.4.5)."""
    is_multipart = body.kind.startswith("multipart/")
    own = path if is_multipart or not of_message else (*path, 1)
    found = [] if is_multipart and of_message else [(own, body)]
    for number, child in enumerate(body.children, 1):
        if is_multipart:
            found += numbered(child, (*own, number), False)
        else:
            found += numbered(child, own, True)
    return found


def check(message: bytes) -> tuple[Summary, Body]:
    """Summarise, and check all that must be so for any bytes."""
    summary = summarise(message)
    encoded = encode_summary(summary)
    assert len(encoded) <= SUMMARY_BYTES_MAX
    assert decode_summary(encoded) == summary
    assert summary.size == len(message)
    read_envelope(summary.envelope)
    body = read_body(summary.bodystructure)
    assert numbered(read_body(body_from(summary.bodystructure), False)) == numbered(body)
    parts = decode_parts(summary.parts)
    places = numbered(body)
    assert [part.path for part in parts] == [path for path, _ in places]
    for part, (_, shown) in zip(parts, places, strict=True):
        assert part.body_offset == part.header_offset + part.header_bytes
        assert part.body_offset + part.body_bytes <= len(message)
        assert shown.octets in (None, part.body_bytes)
        assert (part.message_header_bytes is None) == (shown.envelope is None)
        assert (part.message_header_bytes or 0) <= part.body_bytes
    if (known := header_fields(summary, [b"Subject", b"References"])) is not None:
        block = message[: summary.header_bytes]
        if not block.endswith(b"\n"):
            block += b"\r\n"
        assert known == select_fields(block, (b"subject", b"references").__contains__)
    return summary, body


MESSAGES = dict(corpus(large=False))
BROKEN = {"addresses", "boundary_missing", "boundary_never_used", "broken_header", "odd_boundary"}
"""Messages of which the email package makes something else, though not something better."""


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_of_the_corpus_has_a_valid_summary(name: str) -> None:
    summary, _ = check(MESSAGES[name])
    assert summary.structure_complete
    assert summary.headers_complete == (name != "many_recipients")


@dataclass
class Tree:
    kind: str
    children: list["Tree"]


def twin_children(message: email.message.Message) -> list[email.message.Message]:
    """The parts of a part; the email package also takes reports apart, which IMAP does not."""
    kind = message.get_content_type()
    children = message.get_payload()
    if kind.startswith("multipart/") or kind == "message/rfc822":
        return [child for child in children if isinstance(child, email.message.Message)]
    return []


def twin_parts(message: email.message.Message) -> Tree:
    return Tree(message.get_content_type(), [twin_parts(part) for part in twin_children(message)])


def twin_leaves(message: email.message.Message) -> list[bytes | None]:
    """The bodies of parts without parts, but None for a report, of which no bytes are kept."""
    if children := twin_children(message):
        return [leaf for child in children for leaf in twin_leaves(child)]
    if message.is_multipart():
        return [None]
    charset = message.get_content_charset("ascii")
    return [str(message.get_payload()).encode(charset, "surrogateescape")]


def shown_parts(body: Body) -> Tree:
    return Tree(body.kind, [shown_parts(child) for child in body.children])


@pytest.mark.parametrize("name", sorted(MESSAGES.keys() - BROKEN))
def test_parts_of_well_formed_messages_are_those_that_the_email_package_finds(name: str) -> None:
    message = MESSAGES[name]
    twin = email.message_from_bytes(message)
    summary, body = check(message)
    assert shown_parts(body) == twin_parts(twin)
    leaves = [
        message[part.body_offset : part.body_offset + part.body_bytes]
        for part, (_, shown) in zip(decode_parts(summary.parts), numbered(body), strict=True)
        if not shown.children
    ]
    for leaf, expected in zip(leaves, twin_leaves(twin), strict=True):
        assert expected in (None, leaf)


@pytest.mark.parametrize("name", sorted(MESSAGES.keys() - BROKEN - {"many_recipients", "utf8"}))
def test_envelopes_of_well_formed_messages_are_as_the_email_package_reads_them(name: str) -> None:
    twin = email.message_from_bytes(MESSAGES[name])
    shown = read_envelope(summarise(MESSAGES[name]).envelope)

    def raw(value: str) -> bytes:
        return value.encode("ascii", "surrogateescape")

    twin_fields = {key.lower(): value for key, value in reversed(list(twin.raw_items()))}
    for text, key in zip(
        shown.strings, ("date", "subject", "in-reply-to", "message-id"), strict=True
    ):
        expected = twin_fields.get(key)
        assert text == (None if expected is None else raw(re.sub(r"\r?\n", "", expected)))
    for found, key in zip(
        shown.addresses, ("from", "sender", "reply-to", "to", "cc", "bcc"), strict=True
    ):
        value = twin_fields.get(key)
        if value is None and key in ("sender", "reply-to"):
            value = twin_fields.get("from")
        pairs = email.utils.getaddresses([value]) if value is not None else []
        assert [
            (name or b"", b"%b@%b" % (box or b"", host or b"")) for name, _, box, host in found
        ] == [(raw(re.sub(r"\r?\n", "", display)), raw(address)) for display, address in pairs]


def test_generated_messages_are_the_same_every_time_and_as_large_as_they_say() -> None:
    large = {name: message for name, message in corpus() if name in GENERATED_BYTES}
    assert large.keys() == GENERATED_BYTES.keys()
    for name, message in large.items():
        assert abs(len(message) - GENERATED_BYTES[name]) < GENERATED_BYTES[name] // 100
    name = "generated_1mb"
    assert dict(corpus())[name] == large[name]
    _, body = check(large[name])
    assert shown_parts(body) == twin_parts(email.message_from_bytes(large[name]))


def test_corpus_files_have_crlf_line_ends_but_for_the_one_that_shows_bare_lf() -> None:
    for name, message in MESSAGES.items():
        bare = message.count(b"\n") - message.count(b"\r\n")
        assert (bare > 0) == (name == "bare_lf"), name


FRAGMENTS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\n\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b'"', b"\\",
    b"(", b")", b"<", b">", b"@", b"[", b"]", b"=", b"{3}\r\n", b"\xff", b"\xc3\xa4", b"NIL", b"x",
    b"--a", b"--b", b"--a--", b"--b--", b"\r\n--a\r\n", b"\r\n--b\r\n", b"\r\n--a--\r\n",
    b"\n--b--\n", b"Content-Type: ", b"multipart/mixed; boundary=a", b"text/plain",
    b'multipart/digest; boundary="b"', b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
    b"message/rfc822", b"\r\nContent-Type: message/rfc822\r\n\r\n", b"Content-Disposition: ",
    b"attachment; filename=", b"Content-Language: ", b"Content-ID: ", b"Content-MD5: ",
    b"Content-Transfer-Encoding: ", b"base64", b"charset=utf-8", b"From: ", b"To: ", b"Cc: ",
    b"Subject: ", b"Date: ", b"Message-ID: ", b"Sender: ", b"a@b", b"A <a@b>", b"group: ",
    b"<@r:a@b>", b'"q" ', b"(c)",
]  # fmt: skip

pieces = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=60).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | pieces)
@example(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a")
@example(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n--a\r\n--a--")
@example(b"Content-Type: multipart/digest; boundary=a\n\n--a\n\n--a\n")
@example(b"Content-Type: multipart/digest; boundary=a\n\n--a\n\n\n\n--a")
@example(b"Content-Type: message/rfc822")
@example(b"\r")
def test_any_bytes_have_a_valid_summary(message: bytes) -> None:
    check(message)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    small = [message for message in MESSAGES.values() if len(message) < 2000]
    message = draw(st.sampled_from(small))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(message)))
        end = draw(st.integers(start, min(len(message), start + 60)))
        insert = draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=3))
        message = message[:start] + insert + message[end:]
    return message


@settings(max_examples=150, deadline=None)
@given(damaged())
def test_damaged_messages_have_a_valid_summary(message: bytes) -> None:
    check(message)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([*FRAGMENTS, b"\r\nX: y", b" <a@b>, "]), min_size=1, max_size=8),
    st.integers(100, 20_000),
    st.sampled_from([b"", b"To: ", b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"]),
)
def test_endless_repetition_has_a_valid_summary(
    repeated: list[bytes], times: int, start: bytes
) -> None:
    check((start + b"".join(repeated) * times)[:400_000])


name_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)
atom = st.text("abyz09!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(name_text, atom, atom), min_size=1, max_size=6), st.booleans())
def test_well_formed_addresses_come_back_as_they_were_written(
    written: list[tuple[str, str, str]], slowly: bool
) -> None:
    field = ",\r\n ".join(
        email.utils.formataddr((name, f"{local}@{host}")) for name, local, host in written
    )
    reader = Reader(addresses(field.encode() + b", (comment)" * slowly, 10_000))
    found = reader.address_list()
    reader.end()
    assert found == [
        (name.encode() or None, None, local.encode(), host.encode())
        for name, local, host in written
    ]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_decoders_refuse_rubbish_with_their_own_error(rubbish: bytes, version: int) -> None:
    for decode in (decode_summary, decode_parts):
        try:
            decode(bytes([version]) + rubbish)
        except SummaryError:
            pass
