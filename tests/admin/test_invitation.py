"""Invitations: what is fetched without proof opens only with the token."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path

import pytest

from raftmail.admin.invitation import BadInvitation, Bundle, Token
from raftmail.admin.open_invitation import sealed_bundle
from raftmail.client import Refused
from raftmail.client.invitation import fetch_invitation
from raftmail.cluster.records import InviteRecord, encode, key_of
from raftmail.cluster.state import ClusterState
from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.server import TextListener
from raftmail.net import tls
from tests.frontends.twin_service import TwinService
from tests.net.certificates import Certificates

CA = "-----BEGIN CERTIFICATE-----\nof the cluster\n"
BUNDLE = Bundle(
    "0" * 32, 16, 3, "n4", "h:1", "h:2", "", {"n1": "g:1"}, CA, "certificate", "key", "sesame",
    {"zone": "b"},
)  # fmt: skip


def _token() -> Token:
    return Token.new((("127.0.0.1:9", True), ("127.0.0.1:8", False)), CA.encode())


def test_a_token_is_one_word_that_reads_back() -> None:
    token = _token()
    word = token.encode()
    assert len(word.split()) == 1
    assert Token.decode(f" {word}\n") == token


def test_a_token_that_was_not_copied_whole_is_told() -> None:
    word = _token().encode()
    for wrong in (
        "",
        "hello",
        word[:-1],
        word[:40],
        word.replace(word[30], "A" if word[30] != "A" else "B", 1),
    ):
        with pytest.raises(BadInvitation, match="not a whole token"):
            Token.decode(wrong)


def test_a_bundle_opens_with_its_token_alone() -> None:
    token = _token()
    sealed = token.seal(BUNDLE)
    assert b"sesame" not in sealed
    assert token.open(sealed) == BUNDLE
    for other in (_token(), replace(token, secret=bytes(32)), replace(token, invite="0" * 32)):
        with pytest.raises(BadInvitation, match="not made with it"):
            other.open(sealed)
    with pytest.raises(BadInvitation, match="not made with it"):
        token.open(sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_a_bundle_of_another_authority_than_the_token_names_is_refused() -> None:
    token = _token()
    sealed = token.seal(replace(BUNDLE, ca="of someone else"))
    with pytest.raises(BadInvitation, match="another cluster"):
        token.open(sealed)


@pytest.mark.parametrize("secured", [False, True])
def test_a_new_machine_fetches_its_bundle_without_the_clients_token(
    tmp_path: Path, secured: bool
) -> None:
    async def run() -> None:
        sealed = bytes(range(256)) * 12
        front = TextContext(TwinService("secret"), "n1", "test", lambda: 0.0)

        async def find(invite: str) -> bytes | None:
            return {"ab": sealed}.get(invite)

        front.invitation = find
        context = (
            tls.server_context(Certificates(tmp_path / "ca", "test").files("n1"))
            if secured
            else None
        )
        listener = TextListener(front, trust_loopback=False, tls=context)
        _, port = await listener.listen("127.0.0.1", 0)

        def fetch(invite: str) -> bytes:
            return fetch_invitation(f"127.0.0.1:{port}", invite, tls=secured, timeout_s=10)

        try:
            assert await asyncio.to_thread(fetch, "ab") == sealed
            with pytest.raises(Refused, match="no such invitation"):
                await asyncio.to_thread(fetch, "cd")
        finally:
            await listener.close()

    asyncio.run(run())


class Known:
    """A node whose state lags behind the root's."""

    def __init__(self, state: ClusterState, newest: ClusterState) -> None:
        self.state, self._newest = state, newest
        self.asked = 0

    async def newest(self, deadline_s: float) -> ClusterState:
        self.asked += 1
        return self._newest

    async def reached(self, revision: int, deadline_s: float) -> None:
        return


def _state_with(*invites: InviteRecord) -> ClusterState:
    return ClusterState().with_puts(tuple((key_of(one), encode(one)) for one in invites))


def test_an_invitation_that_was_withdrawn_elsewhere_is_not_given_out() -> None:
    open_ = InviteRecord("ab" * 16, "n4", "h:1", 2000, base64.b64encode(b"sealed").decode())
    before, after = _state_with(open_), _state_with()
    lagging = Known(before, after)
    assert asyncio.run(sealed_bundle(lagging, open_.id, 1000)) is None
    assert asyncio.run(sealed_bundle(Known(before, before), open_.id, 1000)) == b"sealed"
    assert asyncio.run(sealed_bundle(Known(before, before), open_.id, 2000)) is None, "it is over"


def test_an_invitation_that_the_node_does_not_know_costs_the_root_nothing() -> None:
    nothing = Known(ClusterState(), ClusterState())
    assert asyncio.run(sealed_bundle(nothing, "cd" * 16, 1000)) is None
    assert not nothing.asked
