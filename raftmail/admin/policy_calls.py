"""What operators ask about users: rules, domains, aliases, and where a new user's mail is to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from raftmail.admin.admin_calls import Handlers
from raftmail.admin.api.calls import (
    GetUserUsage,
    ListAliases,
    ListDomains,
    ListRules,
    ListUsage,
    LocateUser,
    PlaceUser,
    RemoveAlias,
    RemoveDomain,
    RemoveRule,
    SetAlias,
    SetDomain,
    SetQuota,
    SetRule,
)
from raftmail.admin.api.policies import (
    Alias,
    Aliases,
    AliasRemoved,
    Domain,
    DomainRemoved,
    Domains,
    Placed,
    Pool,
    Rule,
    RuleChanged,
    Rules,
    UserPlace,
    UsersPage,
    UserUsage,
)
from raftmail.admin.config_writer import ConfigSource, ConfigWriter
from raftmail.admin.status_calls import StatusCalls
from raftmail.cluster import rules
from raftmail.cluster.changes import Change, ChangeDenied
from raftmail.cluster.leader_balancing import BALANCED
from raftmail.cluster.records import (
    AliasRecord,
    DomainRecord,
    PoolRecord,
    QuotaRecord,
    RuleRecord,
    RuleState,
)
from raftmail.cluster.router import Router
from raftmail.cluster.state import ClusterState
from raftmail.mail import queries
from raftmail.mail.addresses import account, alias_address, spellings
from raftmail.mail.failures import Unavailable
from raftmail.mail.names import quoted

ALIASES_MAX = 10_000
"""Aliases in one answer."""

USERS_MAX = 200
"""Users that are looked at for one answer, and asked for in their shards all at once."""


@dataclass(slots=True, repr=False)
class PolicyCalls:
    """Every change is made, or refused with the reason (ValueError), before the call returns."""

    router: Router
    config_source: ConfigSource
    writer: ConfigWriter
    status: StatusCalls

    @property
    def handlers(self) -> Handlers:
        return {
            ListRules: self._rules,
            SetRule: self._set_rule,
            RemoveRule: self._remove_rule,
            ListDomains: self._domains,
            SetDomain: self._set_domain,
            RemoveDomain: self._remove_domain,
            ListAliases: self._aliases,
            SetAlias: self._set_alias,
            RemoveAlias: self._remove_alias,
            PlaceUser: self._place,
            SetQuota: self._set_quota,
            ListUsage: self._users,
            GetUserUsage: self._user,
            LocateUser: self._place_of,
        }

    async def _newest(self, deadline: float) -> ClusterState:
        return await self.config_source.newest(deadline - self.router.clock())

    async def _make(
        self, decide: Callable[[ClusterState], Change], deadline: float
    ) -> ClusterState:
        try:
            return await self.writer.change(lambda state, _: decide(state), deadline)
        except ChangeDenied as e:
            raise ValueError(str(e)) from None

    # -- rules -------------------------------------------------------------------------------------

    async def _rules(self, call: ListRules, deadline: float) -> Rules:
        state = await self._newest(deadline)
        found = list(state.table(RuleRecord).values())
        changing = any(one.state is not RuleState.ACTIVE for one in found)
        waits = await self.status.waits() if changing else {}
        return Rules(
            tuple(
                Rule(one.domain, one.pool, one.state.value, waits.get(f"rule {one.domain}", ""))
                for one in found
            ),
            tuple(_pool(one) for one in state.table(PoolRecord).values()),
        )

    async def _set_rule(self, call: SetRule, deadline: float) -> RuleChanged:
        default = rules.Wish()
        wish = rules.Wish(
            call.zones,
            call.labels,
            call.nodes,
            default.replicas if call.replicas is None else call.replicas,
            default.shards if call.shards is None else call.shards,
            call.master or BALANCED,
        )
        state = await self._make(
            lambda s: rules.set_rule(s, call.domain, wish, call.pool), deadline
        )
        return _rule(state, call.domain)

    async def _remove_rule(self, call: RemoveRule, deadline: float) -> RuleChanged:
        state = await self._make(lambda s: rules.remove_rule(s, call.domain), deadline)
        return _rule(state, call.domain)

    async def _place(self, call: PlaceUser, deadline: float) -> Placed:
        """For a user who is yet to be made."""
        address, shard = account(call.address), call.shard
        exists = await self._exists(address, deadline)
        await self._make(lambda s: rules.place_user(s, address, shard, exists=exists), deadline)
        return Placed(address, shard)

    # -- domains and aliases -----------------------------------------------------------------------

    async def _domains(self, call: ListDomains, deadline: float) -> Domains:
        state = await self._newest(deadline)
        found = sorted(state.table(DomainRecord).values(), key=lambda one: one.name)
        return Domains(tuple(_domain(one) for one in found))

    async def _set_domain(self, call: SetDomain, deadline: float) -> Domain:
        catch_all = call.catch_all
        if catch_all:
            (catch_all,) = await self._targets([catch_all], deadline)
        state = await self._make(
            lambda s: rules.set_domain(s, call.name, catch_all, call.quota_bytes), deadline
        )
        name = rules.domain_of(state, call.name)
        return _domain(state.find(DomainRecord, name) or DomainRecord(name))

    async def _remove_domain(self, call: RemoveDomain, deadline: float) -> DomainRemoved:
        await self._make(lambda s: rules.remove_domain(s, call.name), deadline)
        return DomainRemoved(call.name)

    # -- quotas ------------------------------------------------------------------------------------

    async def _set_quota(self, call: SetQuota, deadline: float) -> UserUsage:
        address, is_user = await self._there(call.address, deadline)
        # Who is no user any more can still have the quota taken away.
        if call.quota_bytes is not None and not is_user:
            raise ValueError(f"there is no user {address}")
        state = await self._make(lambda s: rules.set_quota(s, address, call.quota_bytes), deadline)
        return await self._usage(state, address, deadline)

    async def _user(self, call: GetUserUsage, deadline: float) -> UserUsage:
        address, is_user = await self._there(call.address, deadline)
        state = await self._newest(deadline)
        if not is_user:
            raise ValueError(f"there is no user {address}")
        return await self._usage(state, address, deadline)

    async def _place_of(self, call: LocateUser, deadline: float) -> UserPlace:
        address = spellings(call.address)[0]
        router = self.router
        shard = router.shard_of(address)
        master = router.leader_of(shard) or ""
        return UserPlace(address, shard, master, tuple(router.view.members(shard)))

    async def _users(self, call: ListUsage, deadline: float) -> UsersPage:
        domain = call.domain.lower()
        state = await self._newest(deadline)
        left_s = deadline - self.router.clock()
        query = queries.ListUsers(call.after, USERS_MAX)
        found = await self.router.query(query, deadline_s=left_s)
        assert isinstance(found, tuple)
        names = [one for one in found if isinstance(one, str)]
        rows = await asyncio.gather(
            *[
                self._usage(state, one, deadline)
                for one in names
                if not domain or one.endswith("@" + domain)
            ]
        )
        return UsersPage(tuple(rows), names[-1] if len(names) == USERS_MAX else "")

    async def _usage(self, state: ClusterState, address: str, deadline: float) -> UserUsage:
        usage: queries.Usage | None = None
        with suppress(Unavailable):
            left_s = deadline - self.router.clock()
            answer = await self.router.query(queries.GetUsage(address), deadline_s=left_s)
            assert isinstance(answer, queries.Usage)
            usage = answer
        return UserUsage(
            address,
            state.shard_of(address),
            state.quota_of(address),
            state.find(QuotaRecord, address) is not None,
            None if usage is None else usage.size_bytes,
            None if usage is None else usage.messages,
        )

    async def _aliases(self, call: ListAliases, deadline: float) -> Aliases:
        state = await self._newest(deadline)
        found = [
            Alias(one.address, one.to)
            for one in sorted(state.table(AliasRecord).values(), key=lambda one: one.address)
            if one.address > call.after
            and (not call.domain or one.address.endswith("@" + call.domain))
        ]
        return Aliases(tuple(found[:ALIASES_MAX]), len(found) > ALIASES_MAX)

    async def _set_alias(self, call: SetAlias, deadline: float) -> Alias:
        targets = await self._targets(call.to, deadline)
        await self._make(lambda s: rules.set_alias(s, call.address, targets), deadline)
        return Alias(alias_address(call.address), tuple(targets))

    async def _exists(self, address: str, deadline: float) -> bool:
        left_s = deadline - self.router.clock()
        return await self.router.query(queries.GetUser(address), deadline_s=left_s) is not None

    async def _there(self, text: str, deadline: float) -> tuple[str, bool]:
        """The name of the user whom an address means, and whether there is one. Raises ValueError,
        `Unavailable`."""
        names = spellings(text)
        for name in names:
            if await self._exists(name, deadline):
                return name, True
        return names[0], False

    async def _targets(self, to: Iterable[str], deadline: float) -> list[str]:
        """Where mail for others would arrive: users and aliases that are here. Raises ValueError,
        `Unavailable`."""
        state = await self._newest(deadline)
        unknown = []
        found: dict[str, None] = {}
        for text in to:
            alias = next((one for one in spellings(text) if state.find(AliasRecord, one)), "")
            name, is_user = (alias, True) if alias else await self._there(text, deadline)
            found[name] = None
            if not is_user:
                unknown.append(name)
        if unknown:
            shown = ", ".join(map(quoted, unknown[:3]))
            raise ValueError(
                f"no user or alias of this cluster: {shown}; mail is not sent on to other "
                f"systems, and users are added "
                "before aliases lead to them"
            )
        return list(found)

    async def _remove_alias(self, call: RemoveAlias, deadline: float) -> AliasRemoved:
        await self._make(lambda s: rules.remove_alias(s, call.address), deadline)
        return AliasRemoved(call.address)


def _domain(domain: DomainRecord) -> Domain:
    return Domain(domain.name, domain.catch_all, domain.quota_bytes)


def _pool(pool: PoolRecord) -> Pool:
    return Pool(
        pool.name,
        pool.shards,
        pool.replication,
        pool.zones,
        pool.labels,
        pool.nodes,
        pool.master,
    )


def _rule(state: ClusterState, domain: str) -> RuleChanged:
    rule = state.find(RuleRecord, rules.domain_of(state, domain))
    pool = None if rule is None else state.find(PoolRecord, rule.pool)
    return RuleChanged(
        domain,
        "" if rule is None else rule.state.value,
        None if pool is None else _pool(pool),
    )
