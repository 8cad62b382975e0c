"""What BODY[...], BINARY[...] and BINARY.SIZE[...] give, by example and of any bytes."""

from __future__ import annotations

import email

import pytest
from hypothesis import given

from raftmail.frontends.imap.fetch_items import (
    Attribute,
    BinarySection,
    BinarySize,
    BodySection,
    Partial,
    SectionKind,
)
from raftmail.frontends.imap.sections import (
    binary_of,
    binary_size_of,
    needs_body,
    section_of,
    shown,
)
from raftmail.mail.summary import Summary, decode_parts, summarise
from raftmail.mail.transfer import UnknownEncodingError
from raftmail_cli.corpus import corpus
from tests.frontends.imap.odd_messages import (
    ENCLOSING,
    ODD,
    PLAIN,
    damaged,
    many_parts,
    nested,
    odd_bytes,
    slow_messages,
)
from tests.fuzzing import bounded, bounded_memory

ALL, HEADER, TEXT = SectionKind.ALL, SectionKind.HEADER, SectionKind.TEXT
MIME, FIELDS, FIELDS_NOT = SectionKind.MIME, SectionKind.FIELDS, SectionKind.FIELDS_NOT


def wanted(
    part: tuple[int, ...] = (),
    kind: SectionKind = ALL,
    fields: tuple[bytes, ...] = (),
    partial: Partial | None = None,
) -> BodySection:
    return BodySection(part, kind, fields, partial, True, b"BODY[x]")


def fetched(message: bytes, item: BodySection) -> bytes | None:
    """The section, from the summary alone if that is said to be enough."""
    summary = summarise(message)
    given_body = message if needs_body(summary, item) else b""
    found = section_of(summary, given_body, item)
    assert found == section_of(summary, message, item)
    return found


def section(
    message: bytes, *part: int, kind: SectionKind = ALL, fields: tuple[bytes, ...] = ()
) -> bytes | None:
    return fetched(message, wanted(part, kind, fields))


def binary(message: bytes, *part: int, partial: Partial | None = None) -> bytes | None:
    item = BinarySection(part, partial, True)
    summary = summarise(message)
    given_body = message if needs_body(summary, item) else b""
    return binary_of(summary, given_body, item)


def binary_size(message: bytes, *part: int) -> int:
    summary = summarise(message)
    item = BinarySize(part)
    given_body = message if needs_body(summary, item) else b""
    return binary_size_of(summary, given_body, item)


@pytest.mark.parametrize("name", ODD)
def test_header_and_text_together_are_the_message_and_have_its_size(name: str) -> None:
    message = ODD[name]
    whole = section(message)
    assert whole == message
    assert summarise(message).size == len(message)
    assert (section(message, kind=HEADER) or b"") + (section(message, kind=TEXT) or b"") == message


def test_the_only_part_of_a_message_is_its_text_and_has_its_header() -> None:
    assert section(PLAIN, 1) == section(PLAIN, kind=TEXT) == b"hi\r\n"
    assert section(PLAIN, 1, kind=MIME) == section(PLAIN, kind=HEADER) == b"Subject: t\r\n\r\n"


def test_a_part_that_does_not_exist_is_nil() -> None:
    for part in ((2,), (1, 1), (4294967295,), (1,) * 200):
        for kind in (ALL, HEADER, TEXT, MIME, FIELDS, FIELDS_NOT):
            assert section(PLAIN, *part, kind=kind) is None
        assert binary(PLAIN, *part) is None
        assert binary_size(PLAIN, *part) == 0


def test_header_and_text_of_a_part_that_is_no_message_are_nil() -> None:
    for kind in (HEADER, TEXT, FIELDS, FIELDS_NOT):
        assert section(PLAIN, 1, kind=kind) is None
        assert section(ENCLOSING, 2, 1, kind=kind) is None


def test_the_message_itself_has_no_mime_header() -> None:
    assert section(PLAIN, kind=MIME) is None


INNER_HEADER = b"Subject: inner\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n"


@pytest.mark.parametrize(
    ("part", "kind", "expected"),
    [
        ((1,), ALL, b"One."),
        ((2,), MIME, b"Content-Type: message/rfc822\r\nContent-Description: letter\r\n\r\n"),
        ((2,), HEADER, INNER_HEADER),
        ((2, 1), ALL, b"VHdvLg=="),
        ((2, 1), MIME, b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        ((2, 2), MIME, b"Content-Type: message/rfc822\r\nContent-ID: <deep@x.example>\r\n\r\n"),
        (
            (2, 2),
            HEADER,
            b"Subject: deepest\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
        ),
        ((2, 2), TEXT, b"Thr=\r\nee=2E"),
        ((2, 2, 1), ALL, b"Thr=\r\nee=2E"),
        ((2, 2, 1, 1), ALL, None),
    ],
)
def test_parts_of_enclosed_messages_are_numbered_through(
    part: tuple[int, ...], kind: SectionKind, expected: bytes | None
) -> None:
    assert section(ENCLOSING, *part, kind=kind) == expected


def test_an_enclosed_message_is_its_header_and_its_text() -> None:
    whole = section(ENCLOSING, 2)
    assert whole is not None
    assert whole == INNER_HEADER + (section(ENCLOSING, 2, kind=TEXT) or b"")
    assert whole.endswith(b"ee=2E\r\n--in--")


def test_a_message_that_is_only_a_message_has_that_message_as_part_1() -> None:
    message = ODD["only a message"]
    assert section(message, 1, kind=HEADER) == b"Subject: inner\r\n\r\n"
    assert section(message, 1, kind=TEXT) == section(message, 1, 1) == b"body\r\n"


@pytest.mark.parametrize("name", ["no boundary", "boundary never seen", "boundary without a value"])
def test_a_multipart_without_parts_is_fetched_as_the_text_that_it_is_shown_as(name: str) -> None:
    assert b'"text" "plain"' in summarise(ODD[name]).bodystructure
    assert section(ODD[name], 1) == b"plain\r\n"


FIELDED = (
    b"Date: now\r\nSUBJECT: a\r\n  folded\r\nX-None: n\r\nMessage-Id: <a@b>\r\n"
    b"no field\r\nsubject: again\r\n\r\nSubject: body"
)


def test_fields_are_found_in_any_case_in_their_order_with_their_folds() -> None:
    names = (b"subject", b"FROM", b"MESSAGE-ID")
    assert section(FIELDED, kind=FIELDS, fields=names) == (
        b"SUBJECT: a\r\n  folded\r\nMessage-Id: <a@b>\r\nsubject: again\r\n\r\n"
    )


def test_fields_that_the_summary_keeps_are_answered_without_the_body() -> None:
    summary = summarise(FIELDED)
    assert not needs_body(summary, wanted(kind=FIELDS, fields=(b"subject", b"From")))
    assert needs_body(summary, wanted(kind=FIELDS, fields=(b"subject", b"X-None")))
    assert needs_body(summary, wanted(kind=FIELDS_NOT, fields=(b"subject",)))


def test_fields_not_is_every_other_field() -> None:
    assert section(FIELDED, kind=FIELDS_NOT, fields=(b"Subject", b"x-none")) == (
        b"Date: now\r\nMessage-Id: <a@b>\r\n\r\n"
    )


def test_where_no_field_matches_the_empty_line_is_left() -> None:
    assert section(FIELDED, kind=FIELDS, fields=(b"X-Nowhere",)) == b"\r\n"
    assert section(FIELDED, kind=FIELDS, fields=(b"To",)) == b"\r\n"
    assert section(b"", kind=FIELDS, fields=(b"To",)) == b"\r\n"
    assert section(b"", kind=FIELDS_NOT, fields=(b"To",)) == b"\r\n"


def test_fields_of_an_enclosed_message_are_its_own() -> None:
    assert section(ENCLOSING, 2, kind=FIELDS, fields=(b"Subject",)) == b"Subject: inner\r\n\r\n"
    assert section(ENCLOSING, 2, 2, kind=FIELDS, fields=(b"subject",)) == (
        b"Subject: deepest\r\n\r\n"
    )


def test_a_field_that_ends_the_message_gets_a_line_end() -> None:
    for fields in ((b"Subject",), (b"Subject", b"X-Not-Kept")):
        assert section(b"Subject: x", kind=FIELDS, fields=fields) == b"Subject: x\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "count", "expected"),
    [
        (0, 1, b"S"),
        (17, 1, b"\n"),
        (17, 9, b"\n"),
        (18, 1, b""),
        (4294967295, 1, b""),
        (2**63 - 1, 2**63 - 1, b""),
        (5, 4294967295, PLAIN[5:]),
        (0, 400000, PLAIN),
    ],
)
def test_a_partial_is_cut_to_what_there_is(first: int, count: int, expected: bytes) -> None:
    partial = Partial(first, count)
    assert fetched(PLAIN, wanted(partial=partial)) == expected
    assert binary(PLAIN, partial=partial) == expected


def test_partials_of_parts_and_fields_count_from_their_own_start() -> None:
    assert fetched(ENCLOSING, wanted((1,), partial=Partial(1, 2))) == b"ne"
    assert fetched(ENCLOSING, wanted((1,), partial=Partial(4, 2))) == b""
    fields = wanted(kind=FIELDS, fields=(b"Subject",), partial=Partial(9, 3))
    assert fetched(PLAIN, fields) == b"t\r\n"
    assert binary(ENCLOSING, 2, 1, partial=Partial(1, 2)) == b"wo"


def test_a_partial_beyond_the_end_is_answered_without_the_body() -> None:
    assert not needs_body(summarise(PLAIN), wanted((1,), partial=Partial(400000, 400000)))


def test_an_answer_names_the_first_octet_of_a_partial_and_not_its_length() -> None:
    assert shown(wanted(partial=Partial(5, 9))) == b"BODY[x]<5>"
    assert shown(wanted()) == b"BODY[x]"
    assert shown(BinarySection((1, 2), Partial(0, 9), True)) == b"BINARY[1.2]<0>"
    assert shown(BinarySection((), None, True)) == b"BINARY[]"
    assert shown(BinarySize((3,))) == b"BINARY.SIZE[3]"


def test_attributes_never_need_the_body() -> None:
    assert not any(needs_body(summarise(PLAIN), attribute) for attribute in Attribute)


def encoded(encoding: bytes, text: bytes) -> bytes:
    return b"Content-Transfer-Encoding: %b\r\n\r\n%b" % (encoding, text)


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        (b"7bit", b"a=3D\r\n", b"a=3D\r\n"),
        (b"8BIT", b"\xff\0", b"\xff\0"),
        (b"binary", b"\0\r\n", b"\0\r\n"),
        (b"", b"YQ==", b"YQ=="),
        (b"Base64 (always)", b"YWJj\r\nZGVm\r\n", b"abcdef"),
        (b"base64", b"", b""),
        (b"base64", b"YW Jj!\r\n?ZGVm", b"abcdef"),
        (b"base64", b"YWI", b"ab"),
        (b"base64", b"YWI=\r\nfooter", b"ab"),
        (b"base64", b"YWJjZ", b"abc"),
        (b"base64", b"=", b""),
        (b"base64", b"YQ=", b"a"),
        (b"quoted-printable", b"a=3Db=c3=A4", b"a=b\xc3\xa4"),
        (b"quoted-printable", b"two =\r\nwords  \t\r\nend =\n", b"two words\r\nend "),
        (b"quoted-printable", b"=", b""),
        (b"quoted-printable", b"=4", b"=4"),
        (b"quoted-printable", b"=XY=4", b"=XY=4"),
        (b"quoted-printable", b"=\rkept\r\n", b"=\rkept\r\n"),
        (b"quoted-printable", b"a = \r\nb", b"a b"),
        (b"quoted-printable", b" \r\n \n\t", b"\r\n\n\t"),
    ],
)
def test_binary_undoes_the_transfer_encoding(encoding: bytes, text: bytes, expected: bytes) -> None:
    message = encoded(encoding, text)
    assert binary(message, 1) == expected
    assert binary_size(message, 1) == len(expected)


def test_binary_of_an_unknown_encoding_is_refused_and_body_is_not() -> None:
    message = ODD["unknown encoding"]
    with pytest.raises(UnknownEncodingError, match="x-uuencode"):
        binary(message, 1)
    with pytest.raises(UnknownEncodingError, match="x-uuencode"):
        binary_size(message, 1)
    assert section(message, 1) == b"begin 644 x\r\n"


def test_binary_finds_parts_of_enclosed_messages_by_their_whole_number() -> None:
    assert binary(ENCLOSING, 2, 1) == b"Two."
    assert binary(ENCLOSING, 2, 2, 1) == b"Three."
    assert binary_size(ENCLOSING, 2, 2, 1) == 6


def test_binary_of_what_has_parts_is_what_it_is() -> None:
    assert binary(ENCLOSING) == ENCLOSING
    assert binary(ENCLOSING, 2) == section(ENCLOSING, 2)
    assert binary(ENCLOSING, 2, 2) == section(ENCLOSING, 2, 2)
    lying = b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" + (
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"--b\r\n\r\nYQ==\r\n--b--\r\n--a--"
    )
    assert binary(lying, 1) == section(lying, 1) == b"--b\r\n\r\nYQ==\r\n--b--"


def test_binary_of_a_message_that_is_encoded_is_that_message() -> None:
    assert binary(ODD["encoded message"], 1) == b"Subject: x\r\n\r\nx"


OTHERWISE_READ = {"boundary_missing", "boundary_never_used", "boundary_unclosed", "odd_boundary"}
OTHERWISE_READ |= {"broken_header", "delivery_report", "read_receipt"}
"""Broken messages, and those of which the email package takes apart what is no multipart."""
WELL_FORMED = {name: message for name, message in corpus(large=False) if name not in OTHERWISE_READ}


@pytest.mark.parametrize("name", WELL_FORMED)
def test_binary_of_well_formed_messages_is_what_the_email_package_decodes(name: str) -> None:
    message = WELL_FORMED[name]
    summary = summarise(message)
    parts = decode_parts(summary.parts)
    leaves = [
        binary_of(summary, message, BinarySection(part.path, None, True))
        for part in parts
        if not any(other.path[:-1] == part.path for other in parts)
    ]
    twins = [
        twin.get_payload(decode=True)
        for twin in email.message_from_bytes(message).walk()
        if not twin.is_multipart()
    ]
    assert leaves == twins


def every_item(summary: Summary) -> list[BodySection]:
    paths = [(), (1, 2, 3), *(part.path for part in decode_parts(summary.parts))]
    return [
        wanted(path, kind, (b"subject", b"x-odd"), partial)
        for path in paths
        for kind in SectionKind
        for partial in (None, Partial(2, 3))
    ]


def check(message: bytes) -> None:
    """Everything of a message can be asked for, and what is said to need no body needs none."""
    summary = summarise(message)
    for item in every_item(summary):
        found = section_of(summary, message, item)
        if not needs_body(summary, item):
            assert section_of(summary, b"", item) == found
        if found is not None and item.partial is not None:
            assert len(found) <= item.partial.count
    for part in decode_parts(summary.parts):
        try:
            decoded = binary_of(summary, message, BinarySection(part.path, None, True))
        except UnknownEncodingError:
            continue
        assert decoded is not None
        assert binary_size_of(summary, message, BinarySize(part.path)) == len(decoded)


@bounded
@given(odd_bytes)
def test_no_bytes_are_too_odd_to_be_fetched(message: bytes) -> None:
    check(message)


def test_no_damage_keeps_a_message_from_being_fetched() -> None:
    for message in damaged(300):
        check(message)


def test_ten_thousand_levels_are_fetched_as_far_as_they_are_shown() -> None:
    message = nested(10_000)
    summary = summarise(message)
    deepest = decode_parts(summary.parts)[-1]
    assert len(deepest.path) > 5
    assert (section(message, *deepest.path) or b"").endswith(b"the end\r\n")
    assert section(message, *deepest.path, 1) is None


def test_a_hundred_thousand_parts_are_fetched_as_far_as_they_are_shown() -> None:
    message = many_parts(100_000)
    summary = summarise(message)
    last = decode_parts(summary.parts)[-1].path[0]
    assert section(message, last) == b"%d" % (last - 1)
    assert section(message, last + 1) is None
    for number in range(1, last):
        item = BinarySection((number,), None, True)
        assert binary_of(summary, message, item) == b"%d" % (number - 1)


def test_no_run_of_octets_is_read_again_from_each_of_them() -> None:
    """If one were, this would not end for a long time."""
    for message in slow_messages(60_000):
        summary = summarise(message)
        for item in (wanted((1,)), wanted(kind=FIELDS_NOT, fields=(b"to",))):
            section_of(summary, message, item)
        binary_of(summary, message, BinarySection((1,), None, True))


def test_a_header_of_many_short_fields_is_chosen_from_in_little_memory() -> None:
    message = b"a:\nto:\n" * 100_000 + b"\n"
    summary = summarise(message)
    with bounded_memory(3 << 20):
        found = section_of(summary, message, wanted(kind=FIELDS_NOT, fields=(b"to",)))
    assert found == b"a:\n" * 100_000 + b"\r\n"
