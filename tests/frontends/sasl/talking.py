"""Has mechanisms talk without I/O: the client's messages on one side, accounts on the other."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raftmail.frontends.sasl.exchange import SaslExchange
from raftmail.frontends.sasl.steps import Challenge
from raftmail.service.credentials import make_credentials, scram_salt_of
from raftmail.service.login import LogInOutcome, Origin
from tests.frontends.twin_service import TwinService

ANNA = "anna@example.org"
PASSWORD = b"secret"
HERE = Origin("192.0.2.1", "test")
_KEPT = make_credentials(PASSWORD, scram_salt_of("", ANNA))

Saying = bytes | Callable[[bytes], bytes]
"""What a client says, perhaps made of the challenge."""


def accounts() -> TwinService:
    service = TwinService()
    service.users[ANNA] = _KEPT
    return service


def talk(
    mechanism: str,
    *said: Saying,
    initial: bytes | None = None,
    bindings: Mapping[str, bytes] | None = None,
    service: TwinService | None = None,
) -> tuple[list[bytes], LogInOutcome | None]:
    """The challenges and the outcome; None: it goes on."""

    async def main() -> tuple[list[bytes], LogInOutcome | None]:
        challenges: list[bytes] = []
        left = list(said)
        exchange = SaslExchange(mechanism, initial, bindings or {})
        asked = service or accounts()
        while True:
            step = await exchange.ask(asked, HERE, deadline_s=30.0)
            if not isinstance(step, Challenge):
                assert not left, "the client had more to say"
                return challenges, step
            challenges.append(step.data)
            if not left:
                return challenges, None
            one = left.pop(0)
            exchange.answer(one if isinstance(one, bytes) else one(step.data))

    return asyncio.run(main())


@dataclass
class ScramClient:
    """The client's side of SCRAM-SHA-256, by the book (RFC 5802 section 3)."""

    user: str
    password: bytes
    header: bytes = b"n,,"
    binding: bytes = b""
    nonce: bytes = b"fyko+d2lbbFgONRv9qkxdawL"

    @property
    def first(self) -> bytes:
        name = self.user.replace("=", "=3D").replace(",", "=2C")
        self._bare = b"n=%b,r=%b" % (name.encode(), self.nonce)
        return self.header + self._bare

    def final(self, challenge: bytes) -> bytes:
        nonce, salt, count = (part[2:] for part in challenge.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(count))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bare = b"c=%b,r=%b" % (base64.b64encode(self.header + self.binding), nonce)
        message = b",".join((self._bare, challenge, bare))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._expected = b"v=" + base64.b64encode(hmac.digest(server_key, message, "sha256"))
        return b"%b,p=%b" % (bare, base64.b64encode(proof))

    def end(self, challenge: bytes) -> bytes:
        """The server has shown that it knows the password, too."""
        assert challenge == self._expected
        return b""
