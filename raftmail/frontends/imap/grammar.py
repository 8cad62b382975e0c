"""Makes a command of a request: the table of all commands by name (RFC 9051 section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from raftmail.frontends.imap import commands as c
from raftmail.frontends.imap import grammar_acl as acl
from raftmail.frontends.imap import grammar_mailbox as mailbox
from raftmail.frontends.imap import grammar_message as message
from raftmail.frontends.imap import grammar_metadata as metadata
from raftmail.frontends.imap import grammar_search as search
from raftmail.frontends.imap import grammar_session as session
from raftmail.frontends.imap.dialect import Dialect
from raftmail.frontends.imap.grammar_notify import notify
from raftmail.frontends.imap.request_reader import ImapRequest
from raftmail.frontends.imap.scanner import ParseError, Scanner, uid_required

_Parser: TypeAlias = Callable[[Scanner], c.ImapCommand]

_BARE: dict[str, c.ImapCommand] = {
    "CAPABILITY": c.ImapCapability(),
    "CHECK": c.Check(),
    "CLOSE": c.Close(),
    "IDLE": c.Idle(),
    "LOGOUT": c.Logout(),
    "NAMESPACE": c.Namespace(),
    "NOOP": c.Noop(),
    "STARTTLS": c.StartTls(),
    "UNSELECT": c.Unselect(),
}
"""Commands without arguments."""

_PARSERS: dict[str, _Parser] = {
    "APPEND": mailbox.append,
    "AUTHENTICATE": session.authenticate,
    "COMPRESS": session.compress,
    "CREATE": mailbox.create,
    "DELETE": mailbox.delete,
    "DELETEACL": acl.delete_acl,
    "ENABLE": session.enable,
    "EXAMINE": mailbox.examine,
    "GETACL": acl.get_acl,
    "GETMETADATA": metadata.get_metadata,
    "GETQUOTA": mailbox.get_quota,
    "GETQUOTAROOT": mailbox.get_quota_root,
    "ID": session.id_,
    "LIST": mailbox.list_,
    "LISTRIGHTS": acl.list_rights,
    "LOGIN": session.login,
    "LSUB": mailbox.lsub,
    "MYRIGHTS": acl.my_rights,
    "NOTIFY": notify,
    "RENAME": mailbox.rename,
    "SELECT": mailbox.select,
    "SETACL": acl.set_acl,
    "SETMETADATA": metadata.set_metadata,
    "STATUS": mailbox.status,
    "SUBSCRIBE": mailbox.subscribe,
    "UNSUBSCRIBE": mailbox.unsubscribe,
}

_WITH_UID: dict[str, Callable[[Scanner, bool], c.ImapCommand]] = {
    "COPY": message.copy,
    "EXPUNGE": message.expunge,
    "FETCH": message.fetch,
    "MOVE": message.move,
    "REPLACE": mailbox.replace,
    "SEARCH": search.search,
    "SORT": search.sort,
    "STORE": message.store,
    "THREAD": search.thread,
}
"""Commands that UID may stand before; the flag says whether it does."""


def parse(request: ImapRequest, dialect: Dialect) -> c.ImapCommand:
    """The command that a request is. Raises ParseError: for one that is not known, for arguments
    that are wrong, missing or too many, and for a space at the end."""
    scanner = Scanner(request.parts, dialect)
    command = _command(scanner)
    scanner.end()
    return command


def _command(scanner: Scanner) -> c.ImapCommand:
    name = scanner.peek_word()
    uid = name == "UID"
    if uid:
        scanner.take(name)
        scanner.space("one of " + ", ".join(_WITH_UID))
        name = scanner.peek_word()
    with_uid = _WITH_UID.get(name)
    if with_uid is not None:
        if scanner.dialect.uid_only and not uid and name != "EXPUNGE":
            raise uid_required("commands with sequence numbers")
        scanner.take(name)
        return with_uid(scanner, uid)
    if uid:
        scanner.fail("one of " + ", ".join(_WITH_UID))
    bare = _BARE.get(name)
    if bare is not None:
        scanner.take(name)
        return bare
    parser = _PARSERS.get(name)
    if parser is None:
        raise ParseError(f"there is no command {name[:40]}" if name else "a command has a name")
    scanner.take(name)
    return parser(scanner)
