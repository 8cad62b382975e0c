"""The delivery rules of users as a node knows them: read, compiled, and kept for the next mail."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from raftmail.cluster.router import Router
from raftmail.mail.queries import ActiveScript, ReadPoint, RulesInForce
from raftmail.service.fair_turns import FairTurns
from raftmail.sieve.compiler import compile_script
from raftmail.sieve.program import RuleProgram
from raftmail.sieve.rule_errors import ScriptError

CACHE_BYTES_MAX: Final = 32 << 20
"""Of compiled scripts, by `_SIZE_FACTOR`."""

_SIZE_FACTOR: Final = 50
"""A compiled script takes up to 40 times the bytes of its text."""
_ENTRY_BYTES: Final = 4096

WITHOUT_S: Final = 2.0
"""A node without a replica of a user's shard believes for so long that there are no rules."""
WITHOUT_MAX: Final = 100_000

_INLINE_BYTES_MAX: Final = 2048
_INCLUDE: Final = b"include"


@dataclass(frozen=True, slots=True)
class CompiledRules:
    """Rules of one user. `program` is None where they do not compile any more; `why` tells it."""

    version: bytes
    name: str
    program: RuleProgram | None
    why: str
    size_bytes: int

    @property
    def asks_for_mailboxes(self) -> bool:
        """Whether the run, or what comes of it, needs to know which mailboxes there are."""
        if self.program is None:
            return False
        programs = (self.program, *self.program.library.values())
        return any(one.requires & _OF_MAILBOXES for one in programs)


_OF_MAILBOXES: Final = frozenset(("fileinto", "mailbox", "special-use"))


@dataclass(slots=True, repr=False)
class KnownRules:
    """Of one node. Invariant: the compiled scripts have at most `bytes_max` together; those that
    were not used for longest go first."""

    router: Router
    bytes_max: int = CACHE_BYTES_MAX
    _compiled: dict[str, CompiledRules] = field(default_factory=dict)
    _bytes: int = 0
    _without: dict[str, float] = field(default_factory=dict)
    _compiling: FairTurns = field(default_factory=partial(FairTurns, 1))

    def has_none(self, user: str) -> bool:
        """Whether a user is known to have no active script: at once, and cheap. What this node's
        replica of the shard says may be older by as much as that replica lags."""
        found = self.router.query_now(ActiveScript(user))
        if found is not None:
            return found[0] is None
        return self._without.get(user, 0.0) > self.router.clock()

    async def of(self, user: str, point: ReadPoint, deadline_s: float) -> CompiledRules | None:
        """The rules in force; None: there are none. Raises `Unavailable`."""
        router = self.router
        known = self._compiled.pop(user, None)
        if known is not None:
            self._bytes -= known.size_bytes
        query = ActiveScript(user, b"" if known is None else known.version)
        found = await router.query(query, deadline_s=deadline_s, point=point)
        if not isinstance(found, RulesInForce):
            if len(self._without) >= WITHOUT_MAX:
                self._without.clear()
            self._without[user] = router.clock() + WITHOUT_S
            return None
        self._without.pop(user, None)
        if known is None or found.version != known.version:
            known = await self._compile(user, found)
        self._keep(user, known)
        return known

    def _keep(self, user: str, rules: CompiledRules) -> None:
        before = self._compiled.pop(user, None)
        if before is not None:
            self._bytes -= before.size_bytes
        self._compiled[user] = rules
        self._bytes += rules.size_bytes
        while self._bytes > self.bytes_max:
            oldest = next(iter(self._compiled))
            self._bytes -= self._compiled.pop(oldest).size_bytes

    async def _compile(self, user: str, found: RulesInForce) -> CompiledRules:
        script = found.script
        others = dict(found.others) if _INCLUDE in script.lower() else {}
        compiling = partial(compile_script, script, name=found.name, others=others)
        size = len(script) + sum(map(len, others.values()))
        try:
            if size <= _INLINE_BYTES_MAX:
                program = compiling()
            else:
                async with self._compiling.turn(user):
                    loop = asyncio.get_running_loop()
                    program = await loop.run_in_executor(None, compiling)
        except ScriptError as e:
            return CompiledRules(found.version, found.name, None, str(e), _ENTRY_BYTES)
        size_bytes = size * _SIZE_FACTOR + _ENTRY_BYTES
        return CompiledRules(found.version, found.name, program, "", size_bytes)
