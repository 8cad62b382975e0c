"""What operators ask about shared mailboxes (RFC 4314)."""

from __future__ import annotations

from dataclasses import dataclass

from raftmail.admin.admin_calls import Handlers
from raftmail.admin.api.calls import ChooseSeen, ForgetGrants, ListShares, ShareMailbox
from raftmail.admin.api.policies import GrantsForgotten, ShareRow, Shares
from raftmail.cluster.router import Router
from raftmail.mail.addresses import spellings
from raftmail.mail.commands import Command, SetAcl, SetOwnSeen, StoreMode
from raftmail.mail.names import mailbox_name, quoted
from raftmail.mail.queries import AclEntries, GetAcl, GetUser, ListSharers, UserInfo
from raftmail.mail.results import Refused
from raftmail.mail.rights import ANYONE, is_negative, read_rights, whose
from raftmail.mail.sharing import sharing_steps


@dataclass(slots=True, repr=False)
class SharingCalls:
    """Refusals are ValueError."""

    router: Router

    @property
    def handlers(self) -> Handlers:
        return {
            ShareMailbox: self._share,
            ChooseSeen: self._choose_seen,
            ListShares: self._list,
            ForgetGrants: self._forget,
        }

    async def _share(self, call: ShareMailbox, deadline: float) -> Shares:
        owner = await self._user(call.user, deadline)
        identifier = call.identifier
        if whose(identifier) != ANYONE:
            who = await self._user(whose(identifier), deadline)
            identifier = f"-{who}" if is_negative(identifier) else who
        name = mailbox_name(call.mailbox)
        wanted = SetAcl(owner, name, identifier, StoreMode.REPLACE, read_rights(call.rights))
        for step in sharing_steps(wanted):
            await self._execute(step, deadline)
        return await self._shares(owner, name, deadline)

    async def _choose_seen(self, call: ChooseSeen, deadline: float) -> Shares:
        owner = await self._user(call.user, deadline)
        name = mailbox_name(call.mailbox)
        await self._execute(SetOwnSeen(owner, name, call.own), deadline)
        return await self._shares(owner, name, deadline)

    async def _list(self, call: ListShares, deadline: float) -> Shares:
        owner = await self._user(call.user, deadline)
        return await self._shares(owner, mailbox_name(call.mailbox), deadline)

    async def _forget(self, call: ForgetGrants, deadline: float) -> GrantsForgotten:
        """Those of whom it is kept that they may share with the user are asked, and no others."""
        name = spellings(call.address)[0]
        left_s = deadline - self.router.clock()
        found = await self.router.query(ListSharers(name), deadline_s=left_s)
        assert isinstance(found, tuple)
        owners = [owner for owner in found if isinstance(owner, str)]
        for owner in owners:
            for identifier in (name, f"-{name}"):
                command = SetAcl(owner, None, identifier, StoreMode.REPLACE, "")
                await self._execute(command, deadline)
        return GrantsForgotten(name, len(owners))

    async def _shares(self, owner: str, name: str, deadline: float) -> Shares:
        left_s = deadline - self.router.clock()
        found = await self.router.query(GetAcl(owner, name), deadline_s=left_s)
        if not isinstance(found, AclEntries):
            raise ValueError(f"{owner} has no mailbox {quoted(name)}")
        rows = tuple(ShareRow(identifier, rights) for identifier, rights in found.entries)
        return Shares(owner, name, rows, found.own_seen)

    async def _user(self, address: str, deadline: float) -> str:
        names = spellings(address)
        for name in names:
            left_s = deadline - self.router.clock()
            found = await self.router.query(GetUser(name), deadline_s=left_s)
            if isinstance(found, UserInfo):
                return name
        raise ValueError(f"there is no user {names[0]}")

    async def _execute(self, command: Command, deadline: float) -> None:
        done = await self.router.execute(command, deadline_s=deadline - self.router.clock())
        if isinstance(done.result, Refused):
            raise ValueError(done.result.text)
