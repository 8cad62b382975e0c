"""Commands about the connection and who is at its end (RFC 9051 sections 6.1 to 6.3.1)."""

from __future__ import annotations

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.scanner import ParseError, Scanner, utf8_text
from raftmail.frontends.sasl.base64_lines import SaslSyntaxError, decode_initial

ID_FIELDS_MAX = 30
ID_NAME_BYTES_MAX = 30
ID_VALUE_BYTES_MAX = 1024
"""Limits of RFC 2971 section 3.3."""


def id_(scanner: Scanner) -> c.Id:
    scanner.space("a list in parentheses, or NIL")
    if scanner.skip_word("NIL"):
        return c.Id(())
    fields = scanner.items("names and values", lambda: _id_field(scanner), empty=True)
    if len(fields) > ID_FIELDS_MAX:
        raise ParseError(f"ID has at most {ID_FIELDS_MAX} fields")
    return c.Id(tuple(fields))


def _id_field(scanner: Scanner) -> tuple[str, str | None]:
    name = scanner.string("a name in quotes")
    scanner.space("a value")
    value = scanner.nstring("a value in quotes")
    if len(name) > ID_NAME_BYTES_MAX or len(value or b"") > ID_VALUE_BYTES_MAX:
        raise ParseError(
            f"ID has names of at most {ID_NAME_BYTES_MAX} bytes and values of at most "
            f"{ID_VALUE_BYTES_MAX}"
        )
    text = None if value is None else utf8_text(value, "a value of ID")
    return utf8_text(name, "a name of ID"), text


def authenticate(scanner: Scanner) -> c.Authenticate:
    scanner.space("a mechanism")
    mechanism = scanner.word("a mechanism")
    scanner.secret = True
    initial = None
    if scanner.skip(b" "):
        answer = scanner.astring("an initial response in BASE64")
        try:
            initial = decode_initial(answer)
        except SaslSyntaxError as e:
            raise ParseError(str(e)) from None
    return c.Authenticate(mechanism, initial)


def login(scanner: Scanner) -> c.Login:
    scanner.secret = True
    scanner.space("a user name")
    user = scanner.text("a user name")
    scanner.space("a password")
    return c.Login(user, scanner.text("a password"))


def enable(scanner: Scanner) -> c.Enable:
    scanner.space("a capability")
    found = [scanner.word("a capability")]
    while scanner.skip(b" "):
        found.append(scanner.word("a capability"))
    return c.Enable(tuple(dict.fromkeys(found)))


def compress(scanner: Scanner) -> c.Compress:
    scanner.space("DEFLATE")
    if not scanner.skip_word("DEFLATE"):
        scanner.fail("DEFLATE")
    return c.Compress()
