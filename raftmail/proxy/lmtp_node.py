"""A node as the proxy speaks LMTP to it (RFC 2033): replies to commands that are sent together."""

from __future__ import annotations

from collections.abc import Sequence

from raftmail.proxy.held_mail import HeldMail, is_for_now
from raftmail.proxy.node_connection import NodeConnection, NodeLost


class LmtpNode:
    """One connection, greeted. Its transaction is the one that was begun last."""

    def __init__(self, connection: NodeConnection) -> None:
        self.connection = connection

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may be begun."""
        return not self.connection.lost

    async def exchange(self, lines: Sequence[bytes]) -> list[bytes]:
        """Send lines together; a reply for each. Raises `NodeLost`."""
        self.connection.write(b"".join(lines))
        return [await self.reply() for _ in lines]

    async def reply(self) -> bytes:
        """A reply, of several lines perhaps. Raises `NodeLost`."""
        reply = b""
        while True:
            line = await self.connection.line()
            if not line[:3].isdigit() or len(reply) > 8192:
                raise NodeLost("that is no reply of LMTP")
            reply += line + b"\r\n"
            if line[3:4] != b"-":
                if line.startswith(b"421"):
                    raise NodeLost("it says 421")
                return reply

    async def deliver(self, mail: HeldMail) -> None:
        """Have the open recipients of a message served, in a transaction of its own. Final answers
        go into `mail`. Raises `NodeLost`, and nothing is known of the rest."""
        sender = (await self.exchange([mail.sender]))[0]
        if not sender.startswith(b"2"):
            self._all(mail, sender)
            return
        asked = mail.open
        answers = await self.exchange([mail.recipients[at] for at in asked])
        taken = []
        for at, reply in zip(asked, answers, strict=True):
            if reply.startswith(b"2"):
                taken.append(at)
            elif not is_for_now(reply):
                mail.replies[at] = reply
        if taken:
            await self.send_text(mail, taken)
        else:
            await self.exchange([b"RSET\r\n"])

    async def send_text(self, mail: HeldMail, taken: Sequence[int]) -> None:
        """DATA and the text, for the recipients that this node has accepted. Raises `NodeLost`."""
        (go_on,) = await self.exchange([b"DATA\r\n"])
        if not go_on.startswith(b"354"):
            self._all(mail, go_on)
            return
        self.connection.write(bytes(mail.text))
        for at in taken:
            reply = await self.reply()
            if not is_for_now(reply):
                mail.replies[at] = reply

    @staticmethod
    def _all(mail: HeldMail, reply: bytes) -> None:
        if not is_for_now(reply):
            for at in mail.open:
                mail.replies[at] = reply
