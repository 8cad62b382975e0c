"""The states of a session, and which commands are taken in each (RFC 9051 section 3).

| state | commands |
|---|---|
| `NOT_AUTHENTICATED` | those of any state; STARTTLS, AUTHENTICATE, LOGIN |
| `AUTHENTICATED` | those of any state; those about mailboxes; IDLE, ENABLE |
| `SELECTED` | those of `AUTHENTICATED`; those about messages |
| `ENDED` | none |
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from raftmail.frontends.imap import commands as i


class SessionState(Enum):
    """What is known of the client; the value is how a refusal names it."""

    NOT_AUTHENTICATED = "before you have logged in"
    AUTHENTICATED = "while no mailbox is selected"
    SELECTED = "while a mailbox is selected"
    ENDED = "after the end"


_ANY: Final = frozenset((i.ImapCapability, i.Noop, i.Logout, i.Id))
_BEFORE_LOGIN: Final = frozenset((i.StartTls, i.Authenticate, i.Login))
_OF_MAILBOXES: Final = frozenset(
    (
        i.Enable,
        i.Select,
        i.Create,
        i.Delete,
        i.Rename,
        i.ImapSubscribe,
        i.Unsubscribe,
        i.List,
        i.Lsub,
        i.Namespace,
        i.Status,
        i.Append,
        i.Idle,
        i.GetQuota,
        i.GetQuotaRoot,
        i.Notify,
        i.GetMetadata,
        i.SetMetadata,
        i.ImapSetAcl,
        i.ImapGetAcl,
        i.ListRights,
        i.MyRights,
        i.Compress,
    )
)
_OF_MESSAGES: Final = frozenset(
    (
        i.Check,
        i.Close,
        i.Unselect,
        i.ImapExpunge,
        i.Search,
        i.Sort,
        i.Thread,
        i.ImapFetch,
        i.ImapStore,
        i.ImapCopy,
        i.ImapMove,
        i.Replace,
    )
)

TAKEN: Final[dict[SessionState, frozenset[type]]] = {
    SessionState.NOT_AUTHENTICATED: _ANY | _BEFORE_LOGIN,
    SessionState.AUTHENTICATED: _ANY | _OF_MAILBOXES,
    SessionState.SELECTED: _ANY | _OF_MAILBOXES | _OF_MESSAGES,
    SessionState.ENDED: frozenset(),
}
