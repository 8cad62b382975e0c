"""The commands of ACL (RFC 4314 section 7)."""

from __future__ import annotations

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap.scanner import ParseError, Scanner
from raftmail.mail.commands import StoreMode
from raftmail.mail.rights import read_rights

_MODES = {"+": StoreMode.ADD, "-": StoreMode.REMOVE}


def _name(scanner: Scanner) -> str:
    scanner.space("a mailbox name")
    return scanner.mailbox()


def _identifier(scanner: Scanner) -> str:
    scanner.space("an identifier")
    return scanner.text("an identifier")


def set_acl(scanner: Scanner) -> c.ImapSetAcl:
    """A right that is not known is BAD (section 3.1)."""
    name, identifier = _name(scanner), _identifier(scanner)
    scanner.space("rights")
    text = scanner.text("rights")
    mode = _MODES.get(text[:1], StoreMode.REPLACE)
    if mode is not StoreMode.REPLACE:
        text = text[1:]
    try:
        rights = read_rights(text)
    except ValueError as e:
        raise ParseError(str(e)) from None
    return c.ImapSetAcl(name, identifier, mode, rights)


def delete_acl(scanner: Scanner) -> c.ImapSetAcl:
    return c.ImapSetAcl(_name(scanner), _identifier(scanner), StoreMode.REPLACE, "")


def get_acl(scanner: Scanner) -> c.ImapGetAcl:
    return c.ImapGetAcl(_name(scanner))


def list_rights(scanner: Scanner) -> c.ListRights:
    return c.ListRights(_name(scanner), _identifier(scanner))


def my_rights(scanner: Scanner) -> c.MyRights:
    return c.MyRights(_name(scanner))
