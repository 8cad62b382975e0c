"""A message on its way through the proxy: kept until a node has said what becomes of it.

The same bytes may go to several nodes, one after the other. A node that has taken them already
gives its first answer again (P9).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

END: Final = b"\r\n.\r\n"
NOT_NOW: Final = b"451 4.3.0 No node can take it just now, try again\r\n"


@dataclass(slots=True, repr=False)
class HeldMail:
    """One transaction (RFC 2033). `sender` is the line of MAIL, `recipients` are those lines of
    RCPT that were accepted. The text is as it came, with its dots and its end."""

    sender: bytes
    recipients: list[bytes] = field(default_factory=list)
    text: bytearray = field(default_factory=bytearray)
    replies: dict[int, bytes] = field(default_factory=dict)
    """What is final, by recipient."""
    is_over: bool = False
    """The text is longer than may be, and is not kept."""
    _tail: bytes = b"\r\n"

    def add(self, data: bytes, bytes_max: int) -> int:
        """Take text; where it ends in `data`, or -1 while it does not."""
        seen = self._tail + data
        found = seen.find(END)
        end = -1 if found < 0 else found + len(END) - len(self._tail)
        self._tail = seen[-(len(END) - 1) :]
        taken = data if end < 0 else data[:end]
        if self.is_over or len(self.text) + len(taken) > bytes_max:
            self.is_over = True
            self.text.clear()
        else:
            self.text += taken
        return end

    @property
    def open(self) -> list[int]:
        """The recipients without a final answer."""
        return [at for at in range(len(self.recipients)) if at not in self.replies]

    @property
    def answer(self) -> bytes:
        """What the client is told of all recipients, in their order."""
        return b"".join(self.replies.get(at, NOT_NOW) for at in range(len(self.recipients)))


def is_for_now(reply: bytes) -> bool:
    """Whether another node, or this one a moment later, may say otherwise: what an election makes a
    node say. Full disks and too many recipients are told at once."""
    return reply.startswith((b"421", b"450", b"451"))
