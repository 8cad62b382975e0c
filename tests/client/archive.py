"""A program that uses the client library: it saves a mail, moves what was read, and says what it
knows of each call."""

from __future__ import annotations

from raftmail.client import Client, Refused, TryAgain
from raftmail.mail.results import Code
from raftmail.mail.uidset import UidSet


async def save(client: Client, user: str, body: bytes) -> str:
    """What became of a mail."""
    try:
        done = await client.save(user, "INBOX", body)
    except Refused as refused:
        return f"not saved, and it would not be another time: {refused.text}"
    except TryAgain as lost:
        return "perhaps saved" if lost.outcome_unknown else "not saved, try later"
    return f"saved: a majority of shard {done.shard} has it on disk"


async def archive(client: Client, user: str) -> UidSet:
    """The UIDs that went from INBOX to Archive: all that has been read."""
    try:
        await client.create_mailbox(user, "Archive", special_use="\\Archive")
    except Refused as refused:
        if refused.code is not Code.ALREADYEXISTS:
            raise
    everything = UidSet.parse("1:*")
    read = [m.uid async for m in client.messages(user, "INBOX", everything) if "\\Seen" in m.flags]
    if read:
        await client.copy(user, "INBOX", UidSet.from_uids(read), "Archive", move=True)
    return UidSet.from_uids(read)
