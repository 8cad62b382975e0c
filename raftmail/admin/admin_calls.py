"""Administrative calls find who answers them: here by a handler, elsewhere by a message to the
node."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from raftmail.admin.api.arguments import read_arguments, write_arguments
from raftmail.admin.api.calls import BY_NAME, CALLS, Asker, Call, kind_of
from raftmail.admin.api.codec import BadAnswer, decode, encode
from raftmail.cluster.router import Router
from raftmail.mail.admin import JSON
from raftmail.mail.failures import Failure, Unavailable

logger = logging.getLogger(__name__)

R = TypeVar("R")
Handlers: TypeAlias = Mapping[type[Call[Any]], Callable[[Any, float], Awaitable[Any]]]
"""What answers each call: it gets the call and a deadline by the router's clock.

It raises ValueError for what is refused, with the reason, and `Unavailable`."""


class NotUnderstood(Unavailable):
    """A node has answered, and its answer is none of this release."""


@dataclass(slots=True, repr=False)
class AdminCalls:
    """Holds the handlers of this node.

    Invariant: once the node is put together, each call in the table has one handler."""

    router: Router
    handlers: dict[type[Call[Any]], Callable[[Any, float], Awaitable[Any]]] = field(
        default_factory=dict
    )
    _said: dict[tuple[str, str], str] = field(default_factory=dict)
    """The last answer of a node, by node and call, that was logged as not understood."""

    def add(self, handlers: Handlers) -> None:
        """Have calls answered."""
        assert not self.handlers.keys() & handlers.keys(), "one handler for each call"
        self.handlers |= handlers

    async def answer_operator(
        self, what: str, arguments: Mapping[str, str], deadline: float
    ) -> JSON:
        """Of a client. Raises ValueError for a call that there is not or may not be made, for bad
        arguments and what is refused; `Unavailable`."""
        kind = BY_NAME.get(what)
        if kind is None:
            known = ", ".join(one.name for one in CALLS if one.asker is Asker.OPERATOR)
            raise ValueError(f"there is no administrative call {what[:60]!r}; there are {known}")
        if kind.asker is not Asker.OPERATOR:
            raise ValueError(f"{what} is for nodes alone")
        call = read_arguments(kind.call, what, arguments)
        return encode(await self.do(call, deadline))

    async def answer_node(self, what: str, arguments: Mapping[str, str], deadline: float) -> JSON:
        """Of another node. Raises as `answer_operator`."""
        kind = BY_NAME.get(what)
        if kind is None:
            raise ValueError(f"this release has no administrative call {what[:60]!r}")
        call = read_arguments(kind.call, what, arguments, strict=False)
        return encode(await self.do(call, deadline))

    async def do(self, call: Call[R], deadline: float) -> R:
        """Answer a call here. Raises ValueError, `Unavailable`."""
        found: R = await self.handlers[type(call)](call, deadline)
        return found

    async def ask(self, node: str, call: Call[R], wait_s: float) -> R:
        """Have a node answer, this one or another.

        Raises `Unavailable`, among them `NotUnderstood`; for what this node itself refuses
        ValueError."""
        if node == self.router.node:
            return await self.do(call, self.router.clock() + wait_s)
        kind = kind_of(call)
        answer = await self.router.ask(node, kind.name, write_arguments(call), wait_s)
        try:
            found: R = decode(kind.answer, answer)
        except BadAnswer as e:
            text = f"what {node} answers to {kind.name} is not understood: {e}"
            if self._said.get((node, kind.name)) != text:
                self._said[node, kind.name] = text
                logger.warning("%s", text)
            raise NotUnderstood(Failure(text)) from None
        return found
