"""What sharing a mailbox takes: a hint for the one who is given something, then the right."""

from __future__ import annotations

from raftmail.mail.commands import Command, GuestCommand, NoteSharer, SetAcl, StoreMode
from raftmail.mail.rights import grantee, is_negative


def sharing_steps(command: SetAcl, guest: str = "") -> tuple[Command, ...]:
    """The commands that carry out a `SetAcl`, one after the other, which `guest` gives where it is
    not the owner's own. Who is given rights finds the mailbox: that is seen to first. So what stops
    in between gives no right that nobody finds, and is repeated by asking again."""
    asked: Command = command if guest in ("", command.user) else GuestCommand(guest, command)
    gives = command.mode is not StoreMode.REMOVE and command.rights
    if not gives or is_negative(command.identifier):
        return (asked,)
    return NoteSharer(grantee(command.identifier, command.user), command.user), asked
