"""What a summary says of a message, by example."""

import dataclasses

import pytest

from raftmail.mail.body import body_from
from raftmail.mail.envelope import ADDRESS_STRING_BYTES_MAX, addresses
from raftmail.mail.headers import HEADER_BYTES_MAX, unfold, without_comments
from raftmail.mail.mime import NESTING_MAX, PARTS_MAX
from raftmail.mail.summary import (
    HEADERS_BYTES_MAX,
    SUMMARY_BYTES_MAX,
    Part,
    SummaryError,
    decode_parts,
    decode_summary,
    encode_summary,
    find_part,
    finished_envelopes,
    finished_structures,
    header_fields,
    kept_headers,
    summarise,
)


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


PLAIN = crlf(
    """Date: Mon, 3 Jun 2024 09:59:57 +0200
From: "Lindqvist, Marta" <marta@orchard.example>
Received: from somewhere
To: ivo@harbour.example,
\tNadia <nadia@harbour.example>
Subject: The "long"
  ladders
Message-ID: <1@orchard.example>
In-Reply-To: <0@harbour.example>
Content-Type: Text/Plain; Charset=UTF-8

One.
Two.
"""
)

FORWARDED = crlf(
    """From: a@x.example
Content-Type: multipart/mixed; boundary=out

--out

One.
--out
Content-Type: message/rfc822

Subject: inner
Content-Type: multipart/alternative; boundary=in

--in

Plain.
--in
Content-Type: text/html

<p>
--in--
--out
Content-Type: message/rfc822

Subject: single

Body.
--out--
"""
)


def test_envelope_of_a_plain_message() -> None:
    marta = b'(("Lindqvist, Marta" NIL "marta" "orchard.example"))'
    assert summarise(PLAIN).envelope == (
        b'("Mon, 3 Jun 2024 09:59:57 +0200" "The \\"long\\"  ladders" %b %b %b '
        b'((NIL NIL "ivo" "harbour.example")("Nadia" NIL "nadia" "harbour.example")) NIL NIL '
        b'"<0@harbour.example>" "<1@orchard.example>")' % (marta, marta, marta)
    )


def test_structure_of_a_plain_message_counts_its_octets_and_lines() -> None:
    assert summarise(PLAIN).bodystructure == (
        b'("text" "plain" ("charset" "UTF-8") NIL NIL "7bit" 12 2 NIL NIL NIL NIL)'
    )


def test_sizes_divide_the_message_into_header_and_text() -> None:
    summary = summarise(PLAIN)
    assert summary.size == len(PLAIN)
    assert PLAIN[summary.header_bytes :] == b"One.\r\nTwo.\r\n"


def test_a_memoryview_is_summarised_like_its_bytes() -> None:
    assert summarise(memoryview(PLAIN)) == summarise(PLAIN)


def test_an_empty_message_has_an_empty_text_part() -> None:
    summary = summarise(b"")
    assert summary.envelope == b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"
    assert summary.bodystructure == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'
    )
    assert decode_parts(summary.parts) == (Part((1,), 0, 0, 0, 0, None),)


def test_a_present_but_empty_subject_is_an_empty_string_and_not_nil() -> None:
    assert summarise(b"Subject: \r\n\r\n").envelope.startswith(b'(NIL "" NIL')


def test_8_bit_and_control_bytes_go_out_as_literals_and_nul_as_a_space() -> None:
    envelope = summarise("Subject: Äpple\r\nMessage-ID: <\x07\x00>\r\n\r\n".encode()).envelope
    assert b" {6}\r\n\xc3\x84pple NIL" in envelope
    assert envelope.endswith(b" {4}\r\n<\x07 >)")


def test_sender_and_reply_to_fall_back_to_from_also_when_they_are_empty() -> None:
    envelope = summarise(b"From: a@b\r\nSender: \r\nReply-To: ,\r\n\r\n").envelope
    assert envelope.count(b'((NIL NIL "a" "b"))') == 3


def test_repeated_recipient_fields_are_joined_and_of_other_fields_the_first_counts() -> None:
    envelope = summarise(b"To: a@b\r\nSubject: 1\r\nTo: c@d\r\nSubject: 2\r\n\r\n").envelope
    assert b'((NIL NIL "a" "b")(NIL NIL "c" "d"))' in envelope
    assert envelope.startswith(b'(NIL "1" ')


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"a@b.example", b'(NIL NIL "a" "b.example")'),
        (b"Ann Bee <a@b>", b'("Ann Bee" NIL "a" "b")'),
        (b'"Ann \\"Bee\\"" <a@b>', b'("Ann \\"Bee\\"" NIL "a" "b")'),
        (b'"" <a@b>', b'(NIL NIL "a" "b")'),
        (b"a@b (Ann (the) Bee)", b'("Ann (the) Bee" NIL "a" "b")'),
        (b"J. R. <a@b>", b'("J. R." NIL "a" "b")'),
        (b'"a b"@c', b'(NIL NIL "a b" "c")'),
        (b'<"a@b"@c>', b'(NIL NIL "a@b" "c")'),
        (b"a . b @ c", b'(NIL NIL "a.b" "c")'),
        (b"a@b . c .d", b'(NIL NIL "a" "b.c.d")'),
        (b"Ann a@b.c. d (x) e", b'("Ann" NIL "a" "b.c.d")'),
        (b"a@[192.0.2.1]", b'(NIL NIL "a" "[192.0.2.1]")'),
        (b"<@r,@s:a@b>", b'(NIL "@r,@s" "a" "b")'),
        (b"Ann <@r:a@b>, c@d", b'("Ann" "@r" "a" "b")(NIL NIL "c" "d")'),
        (b"crew: a@b, Cee <c@d>;, e@f", b'(NIL NIL "crew" NIL)(NIL NIL "a" "b")("Cee" NIL "c" "d")'
         b'(NIL NIL NIL NIL)(NIL NIL "e" "f")'),
        (b"undisclosed-recipients:;", b'(NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL)'),
        (b"never: a@b", b'(NIL NIL "never" NIL)(NIL NIL "a" "b")(NIL NIL NIL NIL)'),
        (b"nobody", b'(NIL NIL "nobody" "")'),
        (b"Ann Bee a@b", b'("Ann Bee" NIL "a" "b")'),
        (b"Ann <a@b", b'("Ann" NIL "a" "b")'),
        (b"Ann <a@b, c@d", b'("Ann" NIL "a" "b")(NIL NIL "c" "d")'),
        (b"Mailer <>", b'("Mailer" NIL "" "")'),
        (b"Ann\r\n Bee <a@b>", b'("Ann Bee" NIL "a" "b")'),
        (b"=?utf-8?q?Gr=C3=A9ta?= <a@b>", b'("=?utf-8?q?Gr=C3=A9ta?=" NIL "a" "b")'),
        (b"a@b,,\t,c@d,", b'(NIL NIL "a" "b")(NIL NIL "c" "d")'),
    ],
)  # fmt: skip
def test_addresses(field: bytes, expected: bytes) -> None:
    assert addresses(field, 1000) == b"(" + expected + b")"


@pytest.mark.parametrize("field", [b"", b" \r\n ", b",", b"(only a comment)", b";"])
def test_no_address_is_nil(field: bytes) -> None:
    assert addresses(field, 1000) == b"NIL"


@pytest.mark.parametrize("suffix", [b"", b", (read slowly)"])
def test_an_address_list_ends_with_a_whole_address_where_its_room_ends(suffix: bytes) -> None:
    field = b", ".join(b"someone%d@example.org" % i for i in range(100)) + suffix
    shown = addresses(field, 1000)
    assert 900 < len(shown) <= 1000
    assert shown.endswith(b'"example.org"))')


def test_a_group_is_closed_where_the_room_ends() -> None:
    shown = addresses(b"crew: " + b", ".join([b"a@b"] * 100), 200)
    assert len(shown) <= 200
    assert shown.endswith(b'"b")(NIL NIL NIL NIL))')


@pytest.mark.parametrize("suffix", [b"", b" (read slowly)"])
def test_a_member_of_an_address_is_cut_at_its_limit(suffix: bytes) -> None:
    shown = addresses(b"x" * 5000 + b" <a@b>" + suffix, 2000)
    assert shown == b'(("%b" NIL "a" "b"))' % (b"x" * ADDRESS_STRING_BYTES_MAX)


def test_parts_are_numbered_as_imap_numbers_them() -> None:
    parts = decode_parts(summarise(FORWARDED).parts)
    assert [part.path for part in parts] == [(1,), (2,), (2, 1), (2, 2), (3,), (3, 1)]


def test_part_places_give_the_exact_bytes() -> None:
    summary = summarise(FORWARDED)

    def places(*path: int) -> tuple[bytes, bytes, bytes | None]:
        part = find_part(summary.parts, path)
        assert part is not None
        body = FORWARDED[part.body_offset : part.body_offset + part.body_bytes]
        header = FORWARDED[part.header_offset : part.header_offset + part.header_bytes]
        inner = part.message_header_bytes
        return header, body, None if inner is None else body[:inner]

    assert places(1) == (b"\r\n", b"One.", None)
    assert places(2, 2) == (b"Content-Type: text/html\r\n\r\n", b"<p>", None)
    assert places(3) == (
        b"Content-Type: message/rfc822\r\n\r\n",
        b"Subject: single\r\n\r\nBody.",
        b"Subject: single\r\n\r\n",
    )
    assert places(3, 1) == (b"Subject: single\r\n\r\n", b"Body.", None)
    assert find_part(summary.parts, (4,)) is None
    assert find_part(summary.parts, ()) is None


def test_a_forwarded_message_is_shown_with_its_envelope_body_and_lines() -> None:
    assert summarise(FORWARDED).bodystructure.endswith(
        b'("message" "rfc822" NIL NIL NIL "7bit" 24 '
        b'(NIL "single" NIL NIL NIL NIL NIL NIL NIL NIL) '
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 5 0 NIL NIL NIL NIL) '
        b'2 NIL NIL NIL NIL) "mixed" ("boundary" "out") NIL NIL NIL)'
    )


def test_body_is_bodystructure_without_extension_data() -> None:
    text = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" %d 0)'
    message = b'("message" "rfc822" NIL NIL NIL "7bit" %d (NIL "%b"' + b" NIL" * 8 + b") "
    assert body_from(summarise(FORWARDED).bodystructure) == b"".join(
        (
            b"(",
            text % 4,
            message % (128, b"inner"),
            b"(" + text % 6 + b'("text" "html" NIL NIL NIL "7bit" 3 0) "alternative") 10)',
            message % (24, b"single"),
            text % 5 + b' 2) "mixed")',
        )
    )


@pytest.mark.parametrize("broken", [b"", b"(", b'("text" "plain"', b"NIL", b"()"])
def test_body_of_something_else_is_refused(broken: bytes) -> None:
    with pytest.raises(ValueError, match="BODYSTRUCTURE"):
        body_from(broken)


def test_extension_data_is_shown_where_it_belongs() -> None:
    message = (
        b"Content-Type: application/pdf; name=a.pdf\r\n"
        b"Content-ID: <i@x>\r\nContent-Description: A \\ file\r\n"
        b"Content-Transfer-Encoding: BASE64 (always)\r\nContent-MD5: abc=\r\n"
        b"Content-Disposition: Attachment; filename=a b.pdf; size=3\r\n"
        b"Content-Language: en, sv\r\nContent-Location: http://x.example/\r\n\r\n"
    )
    assert summarise(message).bodystructure == (
        b'("application" "pdf" ("name" "a.pdf") "<i@x>" "A \\\\ file" "base64" 0 "abc=" '
        b'("attachment" ("filename" "a b.pdf" "size" "3")) ("en" "sv") "http://x.example/")'
    )


@pytest.mark.parametrize(
    "content_type",
    [b"multipart/mixed", b'multipart/mixed; boundary=""', b"multipart/mixed; boundary=other",
     b"text", b"/", b";;;", b"\xff/\xff", b"x/" + b"y" * 200],
)  # fmt: skip
def test_what_has_no_readable_type_is_shown_as_plain_text(content_type: bytes) -> None:
    message = b"Content-Type: " + content_type + b"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n"
    assert summarise(message).bodystructure == (
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 17 4 NIL NIL NIL NIL)'
    )


def test_an_encoded_message_part_is_opaque() -> None:
    message = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nRnJvbQ=="
    assert summarise(message).bodystructure == (
        b'("application" "octet-stream" NIL NIL NIL "base64" 8 NIL NIL NIL NIL)'
    )


def test_an_inner_multipart_that_is_not_closed_ends_with_the_outer_part() -> None:
    message = crlf(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\n"
        "Content-Type: multipart/mixed; boundary=o-i\n\n--o-i\n\ninner\n--o\n\nouter\n--o--\n"
    )
    parts = decode_parts(summarise(message).parts)
    assert [
        (part.path, message[part.body_offset : part.body_offset + part.body_bytes])
        for part in parts
    ] == [((1,), b"--o-i\r\n\r\ninner"), ((1, 1), b"inner"), ((2,), b"outer")]


def test_bare_line_feeds_end_lines_too() -> None:
    message = PLAIN.replace(b"\r\n", b"\n")
    summary = summarise(message)
    assert summary.envelope == summarise(PLAIN).envelope
    assert message[summary.header_bytes :] == b"One.\nTwo.\n"


def test_common_header_fields_are_answered_from_the_summary() -> None:
    summary = decode_summary(encode_summary(summarise(PLAIN)))
    assert header_fields(summary, [b"SUBJECT", b"To", b"Cc"]) == (
        b"To: ivo@harbour.example,\r\n\tNadia <nadia@harbour.example>\r\n"
        b'Subject: The "long"\r\n  ladders\r\n'
    )


def test_a_field_that_is_not_cached_cannot_be_answered_from_the_summary() -> None:
    assert header_fields(summarise(PLAIN), [b"Subject", b"Received"]) is None


def test_a_field_too_long_for_the_cache_makes_it_incomplete_but_keeps_the_others() -> None:
    summary = summarise(
        b"References: " + b"<x@y> " * HEADERS_BYTES_MAX + b"\r\nSubject: s\r\n\r\n",
    )
    assert summary.headers == b"Subject: s\r\n"
    assert not summary.headers_complete
    assert header_fields(summary, [b"Subject"]) is None


def test_fields_beyond_the_header_limit_are_not_read() -> None:
    filler = b"X-Filler: " + b"x" * 1000 + b"\r\n"
    message = b"Subject: s\r\n" + filler * (HEADER_BYTES_MAX // 1000) + b"To: a@b\r\n\r\nbody"
    summary = summarise(message)
    assert summary.envelope == b'(NIL "s" NIL NIL NIL NIL NIL NIL NIL NIL)'
    assert not summary.headers_complete
    assert message[summary.header_bytes :] == b"body"


def test_a_message_within_all_limits_is_complete() -> None:
    summary = summarise(FORWARDED)
    assert summary.headers_complete
    assert summary.structure_complete


def test_parts_beyond_the_limit_are_left_out_and_the_summary_says_so() -> None:
    message = b"Content-Type: multipart/x; boundary=b\r\n\r\n" + b"--b\r\n\r\n\r\n" * (
        PARTS_MAX + 5
    )
    summary = summarise(message)
    count = len(decode_parts(summary.parts))
    assert count == summary.bodystructure.count(b'"plain"')
    assert 600 < count <= PARTS_MAX
    assert not summary.structure_complete
    assert len(encode_summary(summary)) <= SUMMARY_BYTES_MAX


def test_containers_beyond_the_nesting_limit_are_opaque() -> None:
    message = b"Content-Type: message/rfc822\r\n\r\n" * (NESTING_MAX + 20) + b"\r\nx"
    summary = summarise(message)
    assert len(decode_parts(summary.parts)) == NESTING_MAX + 1
    assert summary.bodystructure.count(b'"octet-stream"') == 1
    assert not summary.structure_complete


def test_false_delimiters_without_end_stop_the_scan() -> None:
    message = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n"
        + b"--bogus\n" * 20_000
        + b"--b\r\n\r\nlast\r\n--b--\r\n"
    )
    summary = summarise(message)
    assert not summary.structure_complete
    assert len(decode_parts(summary.parts)) == 1


def test_a_long_list_of_recipients_gets_the_room_that_others_leave() -> None:
    message = b"To: " + b", ".join(b"member%03d@example.org" % i for i in range(999)) + b"\r\n\r\n"
    summary = summarise(message)
    always_bytes = 16 * 1024  # of To, Cc and Bcc together
    assert 2 * always_bytes - 1024 < len(summary.envelope)
    assert len(encode_summary(summary)) <= SUMMARY_BYTES_MAX


def test_the_largest_of_everything_fits_in_the_limit() -> None:
    def field(name: bytes, value: bytes) -> bytes:
        return b"%b: %b\r\n" % (name, value)

    long = b"\xff" * 4000
    sender = b", ".join([b'"%b" <a@b>' % (b"\xff" * 500)] * 6)
    recipients = b", ".join([b'"%b" <a@b>' % (b"\xff" * 500)] * 80)
    header = b"".join(
        (
            *(field(name, long) for name in (b"Subject", b"Date", b"Message-ID", b"In-Reply-To")),
            *(field(name, sender) for name in (b"From", b"Sender", b"Reply-To")),
            field(b"To", recipients),
            field(b"Content-Type", b"x/y" + b'; name="\xff"' * 900),
            field(b"Content-Disposition", b"x" + b'; filename="\xff"' * 900),
            *(field(b"Content-" + name, long) for name in (b"ID", b"Description", b"MD5")),
            field(b"Content-Location", long),
            field(b"Content-Language", b"a," * 900),
            field(b"Content-Transfer-Encoding", b"x" * 4000),
        )
    )
    assert len(header) < HEADER_BYTES_MAX
    encoded = encode_summary(summarise(header + b"\r\n"))
    assert SUMMARY_BYTES_MAX * 9 // 10 < len(encoded) <= SUMMARY_BYTES_MAX
    assert b'"x" "y"' in decode_summary(encoded).bodystructure


def test_a_summary_survives_its_encoding() -> None:
    for message in (PLAIN, FORWARDED, b""):
        summary = summarise(message)
        assert decode_summary(encode_summary(summary)) == summary
        cut = dataclasses.replace(summary, headers_complete=False, structure_complete=False)
        assert decode_summary(encode_summary(cut)) == cut


def test_a_summary_cut_anywhere_is_refused() -> None:
    encoded = encode_summary(summarise(PLAIN))
    for length in range(len(encoded)):
        with pytest.raises(SummaryError):
            decode_summary(encoded[:length])
    with pytest.raises(SummaryError):
        decode_summary(encoded + b" ")


@pytest.mark.parametrize(("offset", "value", "said"), [(0, 9, "version 9"), (1, 8, "flags")])
def test_an_unknown_version_or_flag_is_refused(offset: int, value: int, said: str) -> None:
    encoded = bytearray(encode_summary(summarise(PLAIN)))
    encoded[offset] = value
    with pytest.raises(SummaryError, match=said):
        decode_summary(bytes(encoded))


def test_a_summary_above_the_limit_is_refused() -> None:
    big = dataclasses.replace(summarise(PLAIN), headers=b"x" * SUMMARY_BYTES_MAX)
    with pytest.raises(SummaryError, match="allowed"):
        decode_summary(encode_summary(big))


@pytest.mark.parametrize(
    "parts", [b"", b"\x02", b"\x01x", b"\x01\x02\x01" + bytes(17), b"\x01\x01" + bytes(18)]
)
def test_a_list_that_is_no_part_list_is_refused(parts: bytes) -> None:
    with pytest.raises(SummaryError, match="part list"):
        decode_parts(parts)


def test_a_long_run_of_carriage_returns_in_a_folded_field_is_read_once() -> None:
    """If it were read again from each of them, this would not end for a long time."""
    run = b"\r" * 3_000_000
    assert unfold(b"a" + run + b"b\n c" + run + b"\n d") == b"a" + run + b"b c d"


@pytest.mark.parametrize("comment", [b"(x)", b"(x (y) z)", b"((x))", b"(\\))", b"(a)(b)", b"()"])
def test_a_comment_beside_a_type_an_encoding_or_a_language_is_passed_over(comment: bytes) -> None:
    message = (
        b"Content-Type: %b image/png %b\r\nContent-Transfer-Encoding: %b base64\r\n"
        b"Content-Language: %b de\r\n\r\nYQ==" % ((comment,) * 4)
    )
    assert summarise(message).bodystructure == (
        b'("image" "png" NIL NIL NIL "base64" 4 NIL NIL "de" NIL)'
    )


@pytest.mark.parametrize("value", [b'"(x)"', b"a(1).png", b"a((1))(2).png"])
def test_parentheses_of_a_file_name_are_no_comment(value: bytes) -> None:
    shown = summarise(b"Content-Type: image/png; name=" + value + b"\r\n\r\nx").bodystructure
    assert b'("name" "%b")' % value.strip(b'"') in shown


@pytest.mark.parametrize("piece", [b"(", b"( ", b"(a) ", b"(a)(b", b"(\\", b'("', b' "(" '])
def test_comments_without_end_are_read_once(piece: bytes) -> None:
    """If they were read again from each of them, this would not end for a long time."""
    without_comments(piece * 300_000)


def test_quotes_and_backslashes_of_a_sender_are_escaped_in_every_string() -> None:
    message = (
        b'Content-Type: text/pl"ain; name="q\\"x\\\\y"\r\nContent-Description: he"llo\r\n'
        b'Content-ID: <i"d@example.org>\r\nContent-Disposition: att"ach; filename="a\\"b"\r\n'
        b'Message-ID: <"q\\\\z"@example.org>\r\nFrom: "a\\"b\\\\c" <x@example.org>\r\n\r\nx\r\n'
    )
    summary = summarise(message)
    assert summary.bodystructure == (
        b'("text" "pl" ("name" "q\\"x\\\\y") "<i\\"d@example.org>" "he\\"llo" "7bit" 3 1 NIL '
        b'("att" ("filename" "a\\"b")) NIL NIL)'
    )
    assert b'(("a\\"b\\\\c" NIL "x" "example.org"))' in summary.envelope
    assert summary.envelope.endswith(b'"<\\"q\\\\\\\\z\\"@example.org>")')


def test_of_two_content_types_the_first_counts() -> None:
    message = b"Content-Type: text/html\r\nContent-Type: image/png\r\n\r\nx"
    assert summarise(message).bodystructure.startswith(b'("text" "html" ')


@pytest.mark.parametrize("encoding", [b"", b"Content-Transfer-Encoding:\r\n"])
def test_a_part_without_an_encoding_has_7bit_and_never_nil(encoding: bytes) -> None:
    message = b"Content-Type: text/plain; charset=x\r\n" + encoding + b"\r\nx"
    assert summarise(message).bodystructure == (
        b'("text" "plain" ("charset" "x") NIL NIL "7bit" 1 0 NIL NIL NIL NIL)'
    )


@pytest.mark.parametrize("content_type", [b"image/png; name", b"image/png; name; =x; ;"])
def test_a_parameter_without_a_value_is_left_out(content_type: bytes) -> None:
    message = b"Content-Type: " + content_type + b"\r\n\r\nx"
    assert summarise(message).bodystructure == (
        b'("image" "png" NIL NIL NIL "7bit" 1 NIL NIL NIL NIL)'
    )


def test_nothing_stands_between_the_parts_of_a_multipart() -> None:
    shown = summarise(FORWARDED).bodystructure
    assert shown.count(b')("') == 3


def test_what_is_finished_is_told_of_many_as_of_each() -> None:
    summaries = [summarise(b"Subject: %d\r\n\r\n" % number * (number + 1)) for number in range(9)]
    summaries.append(summarise(b""))
    summaries.append(summarise(b"To: " + b"a@example.org, " * 5000 + b"\r\n\r\n"))
    assert not summaries[-1].headers_complete
    encoded = [encode_summary(one) for one in summaries]
    assert finished_envelopes(encoded) == [one.envelope for one in summaries]
    assert finished_structures(encoded) == [one.bodystructure for one in summaries]
    headers = [one.headers if one.headers_complete else None for one in summaries]
    assert kept_headers(encoded) == headers


@pytest.mark.parametrize("damage", [b"", b"x", bytes(34), b"\x02"])
def test_what_is_finished_is_not_told_of_a_summary_that_is_damaged(damage: bytes) -> None:
    good = encode_summary(summarise(b"Subject: a\r\n\r\nb\r\n"))
    for bad in (damage, damage + good[len(damage) + 1 :], good + damage + b"x"):
        for finished in (finished_envelopes, finished_structures):
            with pytest.raises(SummaryError):
                finished([good, bad, good])
        assert kept_headers([good, bad])[-1] is None
