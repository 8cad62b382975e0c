"""Scripts of delivery rules on their way in: none is kept that does not compile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from raftmail.cluster.router import Router
from raftmail.mail.commands import PutScript
from raftmail.mail.limits import validate
from raftmail.mail.queries import GetScript, ListScripts, ReadPoint, ScriptList
from raftmail.mail.results import Executed
from raftmail.service.fair_turns import FairTurns
from raftmail.service.service import ScriptLimits, ScriptTooLarge
from raftmail.sieve.compiler import compile_script

_INLINE_BYTES_MAX: Final = 2048
"""Longer scripts take some milliseconds to compile and up to seconds with what they include. They
are compiled in a thread, one at a time."""

_INCLUDE: Final = b"include"


@dataclass(slots=True, repr=False)
class ScriptKeeper:
    """Checks scripts, and puts those that are right into the shards of their users."""

    router: Router
    limits: ScriptLimits
    _compiling: FairTurns = field(default_factory=partial(FairTurns, 1))

    async def check_script(self, user: str, name: str, script: bytes, *, deadline_s: float) -> None:
        """See `service.RuleScripts`."""
        if len(script) > self.limits.script_bytes_max:
            raise ScriptTooLarge(
                f"the script has {len(script)} bytes; {self.limits.script_bytes_max} are the most"
            )
        others = dict[str, bytes]()
        if _INCLUDE in script.lower():
            others = await self._others(user, name, deadline_s)
        compiling = partial(compile_script, script, name=name, others=others)
        if len(script) <= _INLINE_BYTES_MAX and not others:
            compiling()
            return
        async with self._compiling.turn(user):
            await asyncio.get_running_loop().run_in_executor(None, compiling)

    async def put_script(
        self, user: str, name: str, script: bytes, *, deadline_s: float
    ) -> Executed:
        """See `service.RuleScripts`."""
        limits = self.limits
        deadline = self.router.clock() + deadline_s
        await self.check_script(user, name, script, deadline_s=deadline_s)
        command = PutScript(user, name, script, limits.scripts_max, limits.total_bytes_max)
        validate(command)
        return await self.router.execute(command, deadline_s=deadline - self.router.clock())

    async def _others(self, user: str, name: str, deadline_s: float) -> dict[str, bytes]:
        """The other scripts of a user."""
        deadline, point = self.router.clock() + deadline_s, ReadPoint()
        listed = await self.router.query(ListScripts(user), deadline_s=deadline_s, point=point)
        assert isinstance(listed, ScriptList)
        others = {}
        for one in listed.scripts:
            left_s = deadline - self.router.clock()
            query = GetScript(user, one.name)
            text = await self.router.query(query, deadline_s=left_s, point=point)
            if one.name != name and isinstance(text, bytes):
                others[one.name] = text
        return others
