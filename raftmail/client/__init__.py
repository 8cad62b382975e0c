"""The client library of the text protocol, for asyncio (`Client`) and for programs without an event
loop (`SyncClient`).

For the commands, the chaos tests and other programs. Touches sockets; of the project it uses only
what stands on the wire (`raftmail.net`, `raftmail.frontends.text`) and what mail is
(`raftmail.mail`).
"""

from raftmail.client.aio import Client, MailboxState, NewMail
from raftmail.client.errors import ClientError, ProtocolError, Refused, TryAgain
from raftmail.client.sync import SyncClient
from raftmail.net.token import check_token

__all__ = [
    "Client",
    "ClientError",
    "MailboxState",
    "NewMail",
    "ProtocolError",
    "Refused",
    "SyncClient",
    "TryAgain",
    "check_token",
]
