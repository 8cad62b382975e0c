"""The strict parser takes what the grammar has, and nothing else. So no test that reads a server
with it passes over a fault."""

from __future__ import annotations

import pytest

from tests.frontends.imap.strict_cursor import GrammarViolation
from tests.frontends.imap.strict_parser import (
    ResponseSplitter,
    StrictParser,
    challenge,
)
from tests.frontends.imap.strict_response import StrictResponse

TEXT = b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 5 1)'
NOBODY = b"NIL NIL NIL NIL NIL NIL"
FULL = (
    b'("TEXT" "PLAIN" ("CHARSET" "x") "<id>" "d" "7BIT" 5 1 '
    b'NIL ("INLINE" NIL) ("de" "en") "l" 7 (NIL "x"))'
)


def parser(*enabled: bytes) -> StrictParser:
    """One that has read a greeting, and that these were enabled."""
    made = StrictParser()
    made.take(b"* OK hello\r\n")
    made.take(b"* ENABLED" + b"".join(b" " + one for one in enabled) + b"\r\n")
    return made


def body_of(structure: bytes) -> bytes:
    return b"* 1 FETCH (BODYSTRUCTURE %b)" % structure


GOOD = [
    b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN IMAP4rev2 LITERAL+] ready",
    b"* OK [PERMANENTFLAGS (\\Seen $x \\*)] kept",
    b"* OK [PERMANENTFLAGS ()] none",
    b"* OK [UIDNEXT 1] x",
    b'* NO [BADCHARSET (UTF-8 "US-ASCII")] x',
    b"a1 OK [APPENDUID 5 7:9] x",
    b"a1 OK [COPYUID 5 7,9 1:2] x",
    b"a1 NO [MODIFIED 7,9] x",
    b"a1 BAD x",
    b"* BYE [UNAVAILABLE] x",
    b"* OK [MAILBOXID (F-1_a)] x",
    b"* CAPABILITY IMAP4rev1",
    b"* ENABLED",
    b"* ENABLED CONDSTORE",
    b'* ID ("name" "x" "os" NIL)',
    b"* ID NIL",
    b'* LIST () "/" INBOX',
    b'* LIST (\\Noselect) "/" ""',
    b'* LIST (\\NonExistent \\HasChildren) NIL "a b" ("CHILDINFO" ("SUBSCRIBED"))',
    b'* LIST () "/" {3}\r\na&b',
    b'* LSUB () "/" a]b',
    b'* NAMESPACE (("" "/")("~" NIL)) NIL NIL',
    b"* STATUS x (MESSAGES 0 UIDNEXT 1 MAILBOXID (F1) APPENDLIMIT NIL SIZE 9)",
    b"* STATUS x ()",
    b"* FLAGS (\\Seen a)",
    b"* 0 EXISTS",
    b"* 0 RECENT",
    b"* 3 EXPUNGE",
    b"* SEARCH",
    b"* SEARCH 2 84 (MODSEQ 9)",
    b"* SORT",
    b"* SORT 2 1",
    b"* THREAD",
    b"* THREAD (2)(3 6 (4 23)(44 7 96))((1)(5))",
    b'* ESEARCH (TAG "a1") UID MIN 1 MAX 9 ALL 1:3,9 COUNT 4 MODSEQ 5',
    b"* ESEARCH (TAG a1)",
    b'* QUOTA "" (STORAGE 10 512)',
    b'* QUOTAROOT INBOX ""',
    b"* 1 FETCH (UID 5 FLAGS () MODSEQ (5))",
    b'* 1 FETCH (INTERNALDATE " 1-Jan-1970 00:00:00 +0000" RFC822.SIZE 0)',
    b'* 1 FETCH (BODY[] "" BODY[1.2.MIME]<5> NIL BODY[HEADER.FIELDS (a "b c")] {2}\r\n\r\n)',
    b"* 1 FETCH (BINARY[1]<0> ~{2}\r\n\x00x BINARY.SIZE[1.2] 9 BINARY[] NIL)",
    b"* 1 FETCH (EMAILID (M1) THREADID NIL)",
    b"* 1 FETCH (BODY %b BODYSTRUCTURE %b)" % (TEXT, FULL),
    body_of(b'(%b%b "MIXED")' % (TEXT, TEXT)),
    body_of(b'(%b "MIXED" ("BOUNDARY" "x") NIL NIL NIL)' % TEXT),
    body_of(b'("IMAGE" "PNG" NIL NIL NIL "BASE64" 5 NIL NIL "de")'),
    body_of(
        b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 9 (NIL NIL %b NIL NIL) %b 3)' % (NOBODY, TEXT)
    ),
    b'* 1 FETCH (ENVELOPE ("d" "" ((NIL NIL "a" "b")) NIL NIL '
    b'((NIL NIL "g" NIL)("n" NIL "a" "")(NIL NIL NIL NIL)(NIL NIL "c" "d")) NIL NIL NIL "<i>"))',
    b"+ go on",
    b"+ ",
]


@pytest.mark.parametrize("line", GOOD, ids=lambda line: repr(line[:40]))
def test_what_the_grammar_has_is_taken(line: bytes) -> None:
    parser().take(line + b"\r\n")


BAD = [
    b"",
    b"*",
    b"* ",
    b"* OK",
    b"* OK ",
    b"* OK [ALERT]",
    b"* OK [NONSENSE] x",
    b"* OK [UIDNEXT 0] x",
    b"* OK [UIDNEXT 1 ] x",
    b"* OK [CLOSED 1] x",
    b"* OK gr\xc3\xbcn",
    b"a+ OK x",
    b"a BYE x",
    b"a1 OK [COPYUID 5 7,9 1:3] x",
    b"a1 OK [APPENDUID 0 7] x",
    b"a1 OK [APPENDUID 5 *] x",
    b"* CAPABILITY LITERAL+",
    b"* CAPABILITY IMAP4rev1  ID",
    b'* ID ("name")',
    b'* ID (NIL "x")',
    b'* LIST "/" INBOX',
    b'* LIST (\\HasChildren \\HasNoChildren) "/" INBOX',
    b'* LIST (\\Noselect \\Marked) "/" INBOX',
    b'* LIST () "//" INBOX',
    b'* LIST () "/" a b',
    b'* LIST () "/" "gr\xc3\xbcn"',
    b'* LIST () "/" x ()',
    b"* NAMESPACE NIL NIL",
    b"* NAMESPACE () NIL NIL",
    b"* STATUS x (MESSAGES -1)",
    b"* STATUS x (MESSAGES 1 MESSAGES 1)",
    b"* STATUS x (UIDNEXT 0)",
    b"* STATUS x (MESSAGES 01)",
    b"* STATUS x (MESSAGES 4294967296)",
    b"* FLAGS (a A)",
    b'* FLAGS (a"b)',
    b"* 0 EXPUNGE",
    b"* 0 FETCH (UID 1)",
    b"* 1 FETCH ()",
    b"* 1 FETCH (UID 0)",
    b"* 1 FETCH (UID 1 )",
    b"* 1 FETCH (UID 1  FLAGS ())",
    b"* 1 FETCH (UID 1 UID 1)",
    b"* 1 FETCH (MODSEQ 5)",
    b"* 1 FETCH (MODSEQ (0))",
    b"* 1 FETCH (BODY[] {0}\r\n)",
    b"* 1 FETCH (BODY[] ~{1}\r\nx)",
    b"* 1 FETCH (BODY[] {2}\r\nx\x00)",
    b"* 1 FETCH (BODY[] {9}\r\nx)",
    b'* 1 FETCH (BODY[] "a\\b")',
    b'* 1 FETCH (BODY[] "gr\xc3\xbcn")',
    b"* 1 FETCH (BODY[] x)",
    b'* 1 FETCH (BODY[MIME] "")',
    b'* 1 FETCH (BODY[0] "")',
    b'* 1 FETCH (BODY[HEADER.FIELDS ()] "")',
    b'* 1 FETCH (BINARY[1.HEADER] "")',
    b'* 1 FETCH (INTERNALDATE "1-Jan-1970 00:00:00 +0000")',
    b"* SEARCH (MODSEQ 5)",
    b"* SEARCH 0",
    b"* SEARCH 1 1",
    b"* THREAD ",
    b"* THREAD ()",
    b"* THREAD (1 (2))",
    b"* THREAD (1)(1)",
    b"* ESEARCH (TAG x) ALL",
    b"* ESEARCH (TAG x) COUNT 1 COUNT 1",
    b"* ESEARCH (TAG x) ALL 1:3,2",
    b"* VANISHED 1",
    b"* NONSENSE",
    b"+",
    body_of(b"()"),
    body_of(b'("MIXED")'),
    body_of(b'(NIL "MIXED")'),
    body_of(b'(%b %b "MIXED")' % (TEXT, TEXT)),
    body_of(b'(%b "MIXED" ())' % TEXT),
    body_of(b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 5)'),
    body_of(b'("TEXT" NIL NIL NIL NIL "7BIT" 5 1)'),
    body_of(b'("TEXT" "PLAIN" NIL NIL NIL NIL 5 1)'),
    body_of(b'("TEXT" "PLAIN" NIL NIL NIL "" 5 1)'),
    body_of(b'("TEXT" "PLAIN" ("CHARSET" NIL) NIL NIL "7BIT" 5 1)'),
    body_of(b'("TEXT" "PLAIN" ("CHARSET") NIL NIL "7BIT" 5 1)'),
    body_of(b'("IMAGE" "PNG" NIL NIL NIL "BASE64" 5 1)'),
    body_of(b'("TEXT" "PLAIN" NIL NIL NIL "7BIT" 5 1 NIL "INLINE")'),
    b"* 1 FETCH (BODY %b)" % FULL,
    b"* 1 FETCH (ENVELOPE (NIL NIL () NIL NIL NIL NIL NIL NIL NIL))",
    b"* 1 FETCH (ENVELOPE (NIL NIL NIL NIL NIL NIL NIL NIL NIL))",
    b'* 1 FETCH (ENVELOPE (NIL NIL ((NIL NIL NIL "h")) NIL NIL NIL NIL NIL NIL NIL))',
    b'* 1 FETCH (ENVELOPE (NIL NIL ((NIL NIL "g" NIL)) NIL NIL NIL NIL NIL NIL NIL))',
    b"* 1 FETCH (ENVELOPE (NIL NIL ((NIL NIL NIL NIL)) NIL NIL NIL NIL NIL NIL NIL))",
    b'* 1 FETCH (ENVELOPE (NIL NIL ((NIL NIL "a" "b") (NIL NIL "a" "b")) '
    b"NIL NIL NIL NIL NIL NIL NIL))",
]


@pytest.mark.parametrize("line", BAD, ids=lambda line: repr(line[:60]))
def test_what_the_grammar_does_not_have_is_refused(line: bytes) -> None:
    with pytest.raises(GrammarViolation):
        parser().take(line + b"\r\n")


@pytest.mark.parametrize("line", [b"* OK x", b"* OK x\n", b"* OK x\r\n\r\n", b"* OK x\r\r\n"])
def test_a_response_ends_with_one_crlf(line: bytes) -> None:
    with pytest.raises(GrammarViolation):
        parser().take(line)


def test_utf8_in_quotes_is_only_for_those_who_enabled_it() -> None:
    line = b'* LIST () "/" "gr\xc3\xbcn"\r\n'
    assert parser(b"IMAP4rev2").take(line).value[1] == "grün".encode()
    assert parser(b"UTF8=ACCEPT").take(line).value[1] == "grün".encode()
    with pytest.raises(GrammarViolation):
        parser(b"IMAP4rev2").take(b'* LIST () "/" "gr\xfcn"\r\n')


@pytest.mark.parametrize("line", [b"* SEARCH 1", b"* 0 RECENT", b"* OK [UNSEEN 1] x"])
def test_what_imap4rev2_has_dropped_is_not_said_after_it_was_enabled(line: bytes) -> None:
    parser().take(line + b"\r\n")
    with pytest.raises(GrammarViolation):
        parser(b"IMAP4rev2").take(line + b"\r\n")


def test_with_qresync_vanished_stands_for_expunge() -> None:
    assert parser(b"QRESYNC").take(b"* VANISHED (EARLIER) 1:2,9\r\n").value == (
        True,
        [(1, 2), (9, 9)],
    )
    assert parser(b"QRESYNC").take(b"* VANISHED 7\r\n").value == (False, [(7, 7)])
    with pytest.raises(GrammarViolation):
        parser(b"QRESYNC").take(b"* 1 EXPUNGE\r\n")


@pytest.mark.parametrize("line", [b"* 1 EXISTS", b"a OK x", b"* CAPABILITY IMAP4rev1", b"+ x"])
def test_a_connection_begins_with_a_greeting(line: bytes) -> None:
    with pytest.raises(GrammarViolation):
        StrictParser().take(line + b"\r\n")


def test_after_bye_only_one_tagged_answer_comes() -> None:
    ended = parser()
    ended.take(b"* BYE x\r\n")
    with pytest.raises(GrammarViolation):
        ended.take(b"* OK x\r\n")
    ended = parser()
    ended.take(b"* BYE x\r\n")
    ended.take(b"a OK x\r\n")
    with pytest.raises(GrammarViolation):
        ended.take(b"b OK x\r\n")


def test_a_challenge_is_whole_base64() -> None:
    assert challenge(StrictResponse("+", value=b"YWJj")) == b"abc"
    assert challenge(StrictResponse("+", value=b"")) == b""
    with pytest.raises(GrammarViolation):
        challenge(StrictResponse("+", value=b"YWJ"))


def test_values_are_what_was_said() -> None:
    found = parser().take(b'* 3 FETCH (UID 5 BODY[1]<0> {3}\r\n"\r\n FLAGS (\\Seen a))\r\n')
    assert (found.kind, found.number) == ("FETCH", 3)
    assert found.value == {"UID": 5, "BODY[1]<0>": b'"\r\n', "FLAGS": [b"\\Seen", b"a"]}
    found = parser().take(b"a NO [OVERQUOTA] too much\r\n")
    assert (found.kind, found.tag, found.value) == ("NO", b"a", b"too much")
    assert found.code == ("OVERQUOTA", None)


def test_a_stream_is_cut_into_responses_wherever_it_is_split() -> None:
    whole = [
        b"* OK x\r\n",
        b"* 1 FETCH (BODY[] {4}\r\na\r\nb ENVELOPE {1}\r\nx)\r\n",
        b"a OK x\r\n",
    ]
    data = b"".join(whole)
    for at in range(len(data)):
        splitter = ResponseSplitter()
        assert splitter.feed(data[:at]) + splitter.feed(data[at:]) == whole
        assert not splitter.left
