"""Sharing a mailbox: in the shard of the one who is given something, and in the owner's."""

from __future__ import annotations

from raftmail.mail.commands import GuestCommand, NoteSharer, SetAcl, StoreMode
from raftmail.mail.results import Executed, Refused
from raftmail.mail.rights import grantee, is_negative
from raftmail.service.service import Commands


async def share(
    service: Commands, command: SetAcl, *, guest: str = "", deadline_s: float
) -> Executed:
    """Carry out a `SetAcl`, which `guest` gives where it is not the owner's own. Who is given
    rights finds the mailbox: that is seen to first. So what stops in between gives no right that
    nobody finds, and is repeated by asking again. Raises `Unavailable`."""
    gives = command.mode is not StoreMode.REMOVE and command.rights
    if gives and not is_negative(command.identifier):
        note = NoteSharer(grantee(command.identifier, command.user), command.user)
        noted = await service.execute(note, deadline_s=deadline_s)
        if isinstance(noted.result, Refused):
            return noted
    asked = command if guest in ("", command.user) else GuestCommand(guest, command)
    return await service.execute(asked, deadline_s=deadline_s)
