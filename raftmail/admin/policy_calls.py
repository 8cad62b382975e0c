"""What operators ask about users: rules, domains, aliases, and where a new user's mail is to be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from raftmail.admin.config_writer import ConfigSource, ConfigWriter
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
from raftmail.mail.addresses import account, alias_address, spellings
from raftmail.mail.admin import JSON
from raftmail.mail.failures import Unavailable
from raftmail.mail.limits import NUMBER_MAX
from raftmail.mail.names import quoted
from raftmail.mail.queries import GetUsage, GetUser, ListUsers, Usage

Arguments = Mapping[str, str]
Handler = Callable[[Arguments, float], Awaitable[JSON]]

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
    waits: Callable[[float], Awaitable[Mapping[str, str]]]
    """What the root's master waits for; see `ControllerLoop.waits`."""

    @property
    def handlers(self) -> dict[str, Handler]:
        """By the names of the calls."""
        return {
            "rules": self._rules,
            "rule-set": self._set_rule,
            "rule-remove": self._remove_rule,
            "domains": self._domains,
            "domain-set": self._set_domain,
            "domain-remove": self._remove_domain,
            "aliases": self._aliases,
            "alias-set": self._set_alias,
            "alias-remove": self._remove_alias,
            "place": self._place,
            "quota-set": self._set_quota,
            "users": self._users,
            "user": self._user,
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

    # -- rules ---------------------------------------------------------------------------------------

    async def _rules(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        found = list(state.table(RuleRecord).values())
        changing = any(one.state is not RuleState.ACTIVE for one in found)
        waits = await self.waits(deadline) if changing else {}
        return {
            "rules": [
                {
                    "domain": one.domain,
                    "pool": one.pool,
                    "state": one.state.value,
                    "waits_for": waits.get(f"rule {one.domain}", ""),
                }
                for one in found
            ],
            "pools": [pool_row(one) for one in state.table(PoolRecord).values()],
        }

    async def _set_rule(self, arguments: Arguments, deadline: float) -> JSON:
        default = rules.Wish()
        wish = rules.Wish(
            _names(arguments, "zones"),
            _names(arguments, "labels"),
            _names(arguments, "nodes"),
            _number(arguments, "replicas", default.replicas),
            _number(arguments, "shards", default.shards),
            arguments.get("master") or BALANCED,
        )
        domain, pool = arguments.get("domain", ""), arguments.get("pool", "")
        state = await self._make(lambda s: rules.set_rule(s, domain, wish, pool), deadline)
        return _rule_row(state, domain)

    async def _remove_rule(self, arguments: Arguments, deadline: float) -> JSON:
        domain = arguments.get("domain", "")
        state = await self._make(lambda s: rules.remove_rule(s, domain), deadline)
        return _rule_row(state, domain)

    async def _place(self, arguments: Arguments, deadline: float) -> JSON:
        """For a user who is yet to be made."""
        address = account(arguments.get("address", ""))
        shard = _number(arguments, "shard", 0)
        left_s = deadline - self.router.clock()
        exists = await self.router.query(GetUser(address), deadline_s=left_s) is not None
        await self._make(lambda s: rules.place_user(s, address, shard, exists=exists), deadline)
        return {"address": address, "shard": shard}

    # -- domains and aliases -------------------------------------------------------------------------

    async def _domains(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        found = sorted(state.table(DomainRecord).values(), key=lambda one: one.name)
        return {"domains": [_domain_row(one) for one in found]}

    async def _set_domain(self, arguments: Arguments, deadline: float) -> JSON:
        name, catch_all = arguments.get("name", ""), arguments.get("catch_all")
        quota_bytes = None
        if "quota" in arguments:
            quota_bytes = _size(arguments, "quota", allowed="none")
        if catch_all:
            (catch_all,) = await self._targets([catch_all], deadline)
        state = await self._make(
            lambda s: rules.set_domain(s, name, catch_all, quota_bytes), deadline
        )
        name = rules.domain_of(state, name)
        return _domain_row(state.find(DomainRecord, name) or DomainRecord(name))

    async def _remove_domain(self, arguments: Arguments, deadline: float) -> JSON:
        name = arguments.get("name", "")
        await self._make(lambda s: rules.remove_domain(s, name), deadline)
        return {"name": name}

    # -- quotas --------------------------------------------------------------------------------------

    async def _set_quota(self, arguments: Arguments, deadline: float) -> JSON:
        """`bytes` is a number, `none` (no limit), or `default` (that of the domain)."""
        address, is_user = await self._there(arguments.get("address", ""), deadline)
        default = arguments.get("bytes") == "default"
        bytes_max = None if default else _size(arguments, "bytes", allowed="none or default")
        # Who is no user any more can still have the quota taken away.
        if not default and not is_user:
            raise ValueError(f"there is no user {address}")
        state = await self._make(lambda s: rules.set_quota(s, address, bytes_max), deadline)
        return await self._user_row(state, address, deadline)

    async def _user(self, arguments: Arguments, deadline: float) -> JSON:
        address, is_user = await self._there(arguments.get("address", ""), deadline)
        state = await self._newest(deadline)
        if not is_user:
            raise ValueError(f"there is no user {address}")
        return await self._user_row(state, address, deadline)

    async def _users(self, arguments: Arguments, deadline: float) -> JSON:
        """Users after an address, in order, with what they have; only those of a domain, if one is named. `after` of the answer is
        what to go on with, "" at the end."""
        after, domain = arguments.get("after", ""), arguments.get("domain", "").lower()
        state = await self._newest(deadline)
        left_s = deadline - self.router.clock()
        found = await self.router.query(ListUsers(after, USERS_MAX), deadline_s=left_s)
        assert isinstance(found, tuple)
        names = [one for one in found if isinstance(one, str)]
        rows = await asyncio.gather(
            *[
                self._user_row(state, one, deadline)
                for one in names
                if not domain or one.endswith("@" + domain)
            ]
        )
        return {"users": rows, "after": names[-1] if len(names) == USERS_MAX else ""}

    async def _user_row(self, state: ClusterState, address: str, deadline: float) -> dict[str, Any]:
        """`used_bytes` and `messages` are None while the user's shard does not answer."""
        usage: Usage | None = None
        with suppress(Unavailable):
            left_s = deadline - self.router.clock()
            answer = await self.router.query(GetUsage(address), deadline_s=left_s)
            assert isinstance(answer, Usage)
            usage = answer
        return {
            "address": address,
            "shard": state.shard_of(address),
            "quota_bytes": state.quota_of(address),
            "own_quota": state.find(QuotaRecord, address) is not None,
            "used_bytes": None if usage is None else usage.size_bytes,
            "messages": None if usage is None else usage.messages,
        }

    async def _aliases(self, arguments: Arguments, deadline: float) -> JSON:
        """Those of a domain, or all; in order, after an address."""
        state = await self._newest(deadline)
        domain, after = arguments.get("domain", ""), arguments.get("after", "")
        found = [
            {"address": one.address, "to": list(one.to)}
            for one in sorted(state.table(AliasRecord).values(), key=lambda one: one.address)
            if one.address > after and (not domain or one.address.endswith("@" + domain))
        ]
        return {"aliases": found[:ALIASES_MAX], "more": len(found) > ALIASES_MAX}

    async def _set_alias(self, arguments: Arguments, deadline: float) -> JSON:
        address, to = arguments.get("address", ""), _names(arguments, "to")
        targets = await self._targets(to, deadline)
        await self._make(lambda s: rules.set_alias(s, address, targets), deadline)
        return {"address": alias_address(address), "to": targets}

    async def _there(self, text: str, deadline: float) -> tuple[str, bool]:
        """The name of the user whom an address means, and whether there is one. Raises ValueError, `Unavailable`."""
        names = spellings(text)
        for name in names:
            left_s = deadline - self.router.clock()
            if await self.router.query(GetUser(name), deadline_s=left_s) is not None:
                return name, True
        return names[0], False

    async def _targets(self, to: Iterable[str], deadline: float) -> list[str]:
        """Where mail for others would arrive: users and aliases that are here. Raises ValueError, `Unavailable`."""
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
                f"no user or alias of this cluster: {shown}; mail is not sent on to other systems, and users are added "
                "before aliases lead to them"
            )
        return list(found)

    async def _remove_alias(self, arguments: Arguments, deadline: float) -> JSON:
        address = arguments.get("address", "")
        await self._make(lambda s: rules.remove_alias(s, address), deadline)
        return {"address": address}


def _domain_row(domain: DomainRecord) -> dict[str, Any]:
    return {
        "name": domain.name,
        "catch_all": domain.catch_all,
        "quota_bytes": domain.quota_bytes,
    }


def pool_row(pool: PoolRecord) -> dict[str, Any]:
    """A pool as calls show it."""
    return {
        "name": pool.name,
        "shards": list(pool.shards),
        "replicas": pool.replication,
        "zones": list(pool.zones),
        "labels": list(pool.labels),
        "nodes": list(pool.nodes),
        "master": pool.master,
    }


def _rule_row(state: ClusterState, domain: str) -> dict[str, Any]:
    rule = state.find(RuleRecord, rules.domain_of(state, domain))
    pool = None if rule is None else state.find(PoolRecord, rule.pool)
    return {
        "domain": domain,
        "state": "" if rule is None else rule.state.value,
        "pool": None if pool is None else pool_row(pool),
    }


def _names(arguments: Arguments, name: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in arguments.get(name, "").split(",") if one.strip())


def _size(arguments: Arguments, name: str, *, allowed: str) -> int:
    """Bytes, or 0 for `none`."""
    text = arguments.get(name, "")
    if text == "none":
        return 0
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) <= NUMBER_MAX:
        raise ValueError(f"{name}: a number of bytes from 1 on, {allowed}, not {text!r}")
    return int(text)


def _number(arguments: Arguments, name: str, default: int) -> int:
    text = arguments.get(name, "")
    if text and (not text.isascii() or not text.isdigit() or len(text) > 9):
        raise ValueError(f"{name}: a whole number, not {text!r}")
    return int(text) if text else default
