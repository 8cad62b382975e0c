"""What operators ask about users: rules, domains, aliases, and where a new user's mail is to be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raftmail.cluster import rules
from raftmail.cluster.changes import Change, Refused
from raftmail.cluster.masters import BALANCED
from raftmail.cluster.records import Alias, Domain, Pool, Rule
from raftmail.cluster.router import Router
from raftmail.cluster.state import ClusterState
from raftmail.mail.names import user_address
from raftmail.mail.queries import GetUser
from raftmail.mail.service import JSON
from raftmail.node.desk import Desk
from raftmail.node.following import Following

Arguments = Mapping[str, str]
Handler = Callable[[Arguments, float], Awaitable[JSON]]

ALIASES_MAX = 10_000
"""Aliases in one answer."""


@dataclass(slots=True)
class Policies:
    """Every change is made, or refused with the reason (ValueError), before the call returns."""

    router: Router
    following: Following
    desk: Desk

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
        }

    async def _newest(self, deadline: float) -> ClusterState:
        return await self.following.newest(deadline - self.router.clock())

    async def _make(
        self, decide: Callable[[ClusterState], Change], deadline: float
    ) -> ClusterState:
        try:
            return await self.desk.change(lambda state, _: decide(state), deadline)
        except Refused as e:
            raise ValueError(str(e)) from None

    # -- rules ---------------------------------------------------------------------------------------

    async def _rules(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        return {
            "rules": [
                {"domain": one.domain, "pool": one.pool, "state": one.state.value}
                for one in state.table(Rule).values()
            ],
            "pools": [pool_row(one) for one in state.table(Pool).values()],
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
        address = user_address(arguments.get("address", ""))
        shard = _number(arguments, "shard", 0)
        left_s = deadline - self.router.clock()
        exists = await self.router.query(GetUser(address), deadline_s=left_s) is not None
        await self._make(lambda s: rules.place_user(s, address, shard, exists=exists), deadline)
        return {"address": address, "shard": shard}

    # -- domains and aliases -------------------------------------------------------------------------

    async def _domains(self, arguments: Arguments, deadline: float) -> JSON:
        state = await self._newest(deadline)
        found = sorted(state.table(Domain).values(), key=lambda one: one.name)
        return {"domains": [{"name": one.name, "catch_all": one.catch_all} for one in found]}

    async def _set_domain(self, arguments: Arguments, deadline: float) -> JSON:
        made = Domain(arguments.get("name", ""), arguments.get("catch_all", ""))
        await self._make(lambda s: rules.set_domain(s, made), deadline)
        return {"name": made.name, "catch_all": made.catch_all}

    async def _remove_domain(self, arguments: Arguments, deadline: float) -> JSON:
        name = arguments.get("name", "")
        await self._make(lambda s: rules.remove_domain(s, name), deadline)
        return {"name": name}

    async def _aliases(self, arguments: Arguments, deadline: float) -> JSON:
        """Those of a domain, or all; in order, after an address."""
        state = await self._newest(deadline)
        domain, after = arguments.get("domain", ""), arguments.get("after", "")
        found = [
            {"address": one.address, "to": list(one.to)}
            for one in sorted(state.table(Alias).values(), key=lambda one: one.address)
            if one.address > after and (not domain or one.address.endswith("@" + domain))
        ]
        return {"aliases": found[:ALIASES_MAX], "more": len(found) > ALIASES_MAX}

    async def _set_alias(self, arguments: Arguments, deadline: float) -> JSON:
        address, to = arguments.get("address", ""), _names(arguments, "to")
        await self._make(lambda s: rules.set_alias(s, address, to), deadline)
        return {"address": address, "to": list(to)}

    async def _remove_alias(self, arguments: Arguments, deadline: float) -> JSON:
        address = arguments.get("address", "")
        await self._make(lambda s: rules.remove_alias(s, address), deadline)
        return {"address": address}


def pool_row(pool: Pool) -> dict[str, Any]:
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
    rule = state.find(Rule, domain.lower())
    pool = None if rule is None else state.find(Pool, rule.pool)
    return {
        "domain": domain,
        "state": "" if rule is None else rule.state.value,
        "pool": None if pool is None else pool_row(pool),
    }


def _names(arguments: Arguments, name: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in arguments.get(name, "").split(",") if one.strip())


def _number(arguments: Arguments, name: str, default: int) -> int:
    text = arguments.get(name, "")
    if text and (not text.isascii() or not text.isdigit() or len(text) > 9):
        raise ValueError(f"{name}: a whole number, not {text!r}")
    return int(text) if text else default
