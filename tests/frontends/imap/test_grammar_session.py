"""Commands about the connection, and what is common to all."""

from __future__ import annotations

import base64

import pytest

from raftmail.frontends.imap import commands as c
from tests.frontends.imap.parsing import parsed, request_of, wrong

BARE = {
    b"CAPABILITY": c.ImapCapability(),
    b"CHECK": c.Check(),
    b"CLOSE": c.Close(),
    b"EXPUNGE": c.ImapExpunge(None),
    b"IDLE": c.Idle(),
    b"LOGOUT": c.Logout(),
    b"NAMESPACE": c.Namespace(),
    b"NOOP": c.Noop(),
    b"STARTTLS": c.StartTls(),
    b"UNSELECT": c.Unselect(),
}


@pytest.mark.parametrize("text", BARE)
def test_commands_without_arguments_have_none(text: bytes) -> None:
    assert parsed(text) == parsed(text.lower()) == BARE[text]
    for more in (b" ", b" x", b"(", b" {0+}\r\n", b"x"):
        assert wrong(text + more).startswith("BAD ")


def test_a_literal_of_nothing_behind_starttls_is_an_argument_too_many() -> None:
    """R77."""
    assert "the end of the command is expected" in wrong(b"STARTTLS {0+}\r\n")


def test_commands_that_are_not_known_are_named() -> None:
    assert wrong(b"XYZZY 1") == "BAD there is no command XYZZY"
    assert wrong(b"") == wrong(b"(x)") == wrong(b" NOOP") == "BAD a command has a name"
    assert wrong(b"UID NOOP").startswith("BAD one of COPY, EXPUNGE, FETCH,")
    assert wrong(b"UID").startswith("BAD a space and one of")
    assert len(wrong(b"X" * 1000)) < 100


@pytest.mark.parametrize(
    "text",
    [
        *(b"SELECT", b"SELECT ", b"SELECT  a", b"SELECT a ", b"SELECT a b", b"DELETE a b"),
        *(b"RENAME a", b"LOGIN a", b"LOGIN a b c", b"STORE 1", b"FETCH 1", b"COPY 1", b"SEARCH"),
        *(b"STATUS a", b"APPEND a", b"LIST a", b"LSUB a", b"ENABLE", b"ID", b"UID EXPUNGE"),
        *(b"AUTHENTICATE", b"GETQUOTA", b"COMPRESS", b"EXPUNGE 1", b"THREAD REFERENCES UTF-8"),
    ],
)
def test_missing_and_extra_arguments_and_spaces_are_told(text: bytes) -> None:
    assert " is expected, not " in wrong(text)


def test_login_takes_strings_in_every_form() -> None:
    """R75."""
    password = 'a"b\\c'
    for form in (b'"a\\"b\\\\c"', b'{5+}\r\na"b\\c'):
        assert parsed(b"LOGIN x " + form) == c.Login("x", password)
    assert parsed(b'LOGIN x "({x?"') == c.Login("x", "({x?")
    assert parsed(b'LOGIN x " lead"') == c.Login("x", " lead")
    assert parsed(b'LOGIN x ""') == c.Login("x", "")
    assert parsed("LOGIN x {4+}\r\nZoë".encode()) == c.Login("x", "Zoë")
    assert parsed('LOGIN x "Zoë"'.encode()) == c.Login("x", "Zoë")
    assert parsed(b'LOGIN "a*b" c]d') == c.Login("a*b", "c]d")
    assert parsed(b"LOGIN a+b@example.org c") == c.Login("a+b@example.org", "c")


@pytest.mark.parametrize(
    "arguments",
    [
        *(b"x Zq7 Xk9", b'x "Zq7', b'x Zq7"Xk9', b"x Zq7\\Xk9", b"x Zq7{Xk9"),
        *(b"x (Zq7)", b"x {4+}\r\nZq7\xff", b"Zq7 (", b'"Zq7" x y', b"x  Zq7"),
    ],
)
def test_a_login_that_is_wrong_does_not_repeat_the_secret(arguments: bytes) -> None:
    """R75."""
    answer = wrong(b"LOGIN " + arguments)
    assert answer.startswith("BAD ") and "Zq7" not in answer and "Xk9" not in answer


def test_secrets_are_not_shown() -> None:
    for text in (b"LOGIN bob secret", b"AUTHENTICATE PLAIN " + base64.b64encode(b"\0b\0secret")):
        assert "secret" not in repr(parsed(text))
        assert "secret" not in repr(request_of(text))


def test_authenticate_may_bring_the_first_answer() -> None:
    assert parsed(b"AUTHENTICATE plain") == c.Authenticate("PLAIN", None)
    assert parsed(b"AUTHENTICATE PLAIN =") == c.Authenticate("PLAIN", b"")
    assert parsed(b"AUTHENTICATE PLAIN AGEAYg==") == c.Authenticate("PLAIN", b"\0a\0b")
    assert parsed(b"AUTHENTICATE SCRAM-SHA-256-PLUS") == c.Authenticate("SCRAM-SHA-256-PLUS", None)
    for bad in (b"AGEAYg", b"A", b"AGEA*Yg==", b"===", b'"A GEAYg=="', b"AGEAYg== "):
        answer = wrong(b"AUTHENTICATE PLAIN " + bad)
        assert answer.startswith("BAD ") and "AGE" not in answer


def test_enable_takes_any_capabilities() -> None:
    """R46."""
    assert parsed(b"ENABLE QRESYNC condstore FOO UTF8=ACCEPT FOO") == c.Enable(
        ("QRESYNC", "CONDSTORE", "FOO", "UTF8=ACCEPT")
    )


def test_id_takes_pairs_or_nil() -> None:
    assert parsed(b"ID NIL") == parsed(b"ID ()") == c.Id(())
    assert parsed(b'ID ("name" "x" "os" NIL)') == c.Id((("name", "x"), ("os", None)))
    pairs = b" ".join(b'"a%d" "b"' % at for at in range(31))
    for bad in (b'("name")', b'("name" "x" "y")', b"(name x)", b"(%b)" % pairs, b'(NIL "x")'):
        assert wrong(b"ID " + bad).startswith("BAD ")
    assert wrong(b'ID ("%b" "x")' % (b"n" * 31))
    assert wrong(b'ID ("n" "%b")' % (b"x" * 1025))


def test_compress_knows_one_algorithm() -> None:
    assert parsed(b"COMPRESS deflate") == c.Compress()
    assert wrong(b"COMPRESS LZ4") == "BAD DEFLATE is expected, not `LZ4`"
