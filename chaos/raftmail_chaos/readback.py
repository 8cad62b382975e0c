"""After the faults: everything is read back through every node, as operations of the history like
any other."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raftmail.client import Client, ClientError, Refused
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos.history import Call, Fate, Operation
from raftmail_chaos.judge import TOKENS_FILE
from raftmail_chaos.mailbag import ALL, DELIVERIES, DOMAIN, TOKEN_HEADER
from raftmail_chaos.record import Body, to_line, users_of

TIMEOUT_S = 20.0
_USERS_AT_ONCE = 4
_BODIES_AT_ONCE = 16
_LARGE_BYTES = 1 << 20
"""Longer bodies are read one at a time through each node: they have to fit into memory."""
_HEADER_BYTES = 4096


@dataclass(slots=True)
class ReadBack:
    """What reading everything found. `problems` are what cannot be read."""

    history: Path
    messages: int = 0
    problems: list[str] = field(default_factory=list)

    async def run(self, clients: Mapping[str, Client]) -> None:
        """Read the mail of every user of the histories through every node, and write what was seen
        beside them."""
        users = users_of(self.history)
        await asyncio.gather(
            *[
                self._through(name, client, users, is_first=at == 0)
                for at, (name, client) in enumerate(clients.items())
            ]
        )

    async def _through(
        self, node: str, client: Client, users: list[str], *, is_first: bool
    ) -> None:
        gate = asyncio.Semaphore(_USERS_AT_ONCE)
        large = asyncio.Lock()
        async with client:

            async def one(user: str) -> None:
                async with gate:
                    reader = _Reader(node, client, f"{user}@{DOMAIN}", large)
                    await reader.run()
                    self.problems += reader.problems
                    reader.write(self.history / user, with_tokens=is_first)
                    if is_first:
                        self.messages += reader.messages

            await asyncio.gather(*map(one, users))


@dataclass(slots=True)
class _Reader:
    """Reads one user's mail through one node."""

    node: str
    client: Client
    user: str
    large: asyncio.Lock
    messages: int = 0
    problems: list[str] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    tokens: dict[int, str] = field(default_factory=dict)

    async def run(self) -> None:
        client, user = self.client, self.user
        infos = await self._ask(q.ListMailboxes(user), client.mailboxes(user))
        gate = asyncio.Semaphore(_BODIES_AT_ONCE)
        for info in infos or ():
            call = q.FetchMessages(user, info.name, ALL)
            page = await self._ask(call, client.message_page(user, info.name, ALL))
            if isinstance(page, q.MessagePage):
                self.messages += len(page.messages)
                small = [m for m in page.messages if m.size_bytes <= _LARGE_BYTES]
                await asyncio.gather(*[self._body(gate, info.name, m.uid) for m in small])
                for m in page.messages:
                    if m.size_bytes > _LARGE_BYTES:
                        await self._body(self.large, info.name, m.uid)

    async def _body(self, gate: asyncio.Semaphore | asyncio.Lock, name: str, uid: int) -> None:
        async with gate:
            call = q.FetchBody(self.user, name, uid)
            data = await self._ask(call, self.client.body(self.user, name, uid))
        if name == DELIVERIES and isinstance(data, bytes):
            token = token_of(data)
            if token:
                self.tokens[uid] = token

    async def _ask(self, call: Call, answering: Awaitable[Any]) -> Any:
        operation = Operation(0, f"readback-{self.node}", call, time.monotonic())
        answer: Any = None
        try:
            answer = await answering
        except Refused as refused:
            if refused.code is not r.Code.NONEXISTENT:
                self.problems.append(f"through node {self.node}: {call}: {refused}")
                return None
        except ClientError as error:
            self.problems.append(f"through node {self.node}: {call}: {error}")
            return None
        operation.returned = time.monotonic()
        operation.fate = Fate.ANSWERED
        operation.answer = Body.of(answer) if isinstance(answer, bytes) else answer
        self.operations.append(operation)
        return answer

    def write(self, folder: Path, *, with_tokens: bool) -> None:
        lines = "".join(f"{to_line(operation)}\n" for operation in self.operations)
        (folder / f"readback-{self.node}.jsonl").write_text(lines, encoding="utf-8")
        if with_tokens:
            (folder / TOKENS_FILE).write_text(json.dumps(self.tokens), encoding="utf-8")


def token_of(data: bytes) -> str:
    """The token in the header of a message that the load made; "" when there is none."""
    for line in data[:_HEADER_BYTES].split(b"\r\n"):
        if line.startswith(TOKEN_HEADER):
            return line.removeprefix(TOKEN_HEADER).decode("ascii", "replace")
    return ""
