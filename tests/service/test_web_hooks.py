"""New mail is told to URLs that operators configure."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from raftmail.mail import queries as q
from raftmail.mail.arrivals import Arrival
from raftmail.mail.failures import Failure, Unavailable
from raftmail.mail.flags import SEEN
from raftmail.mail.summary import encode_summary, summarise
from raftmail.service import web_hooks
from raftmail.service.web_hooks import HookLimits, WebHooks, id_of
from tests.net.certificates import Certificates

SECRET = b"a secret of tests"
PATIENCE_S = 60.0
OK, NO = b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 500 Oh\r\n\r\n"
HEADER = b"From: =?utf-8?q?Zo=C3=AB?= <zoe@example.org>\r\nSubject: tea\r\n at four\r\n\r\n"


class MailOfTests:
    """A clock, and one message that everybody has."""

    def __init__(self) -> None:
        self.now = 0.0
        self.down = False

    @property
    def clock(self) -> Callable[[], float]:
        return lambda: self.now

    async def query(
        self, query: q.Query, *, deadline_s: float, point: q.ReadPoint | None = None
    ) -> q.Answer:
        assert isinstance(query, q.FetchMessages)
        if self.down:
            raise Unavailable(Failure("nobody leads"))
        box = q.MailboxInfo(1, "a", "x", b"", 1, 9, 1, 1, 0, 1, "", False, b"")
        summary = encode_summary(summarise(HEADER))
        found = q.MessageInfo(query.uids.first, bytes(16), 1, (), 0, 9, bytes(32), summary)
        return q.MessagePage(box, (found,), False)


class Endpoint:
    """Answers as it is told; keeps what it was sent, with the signatures."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.bodies: list[bytes] = []
        self.signatures: list[str] = []
        self.hangs = False
        self.called = asyncio.Event()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /mail HTTP/1.1\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        self.bodies.append(await reader.readexactly(int(fields[b"Content-Length"])))
        self.signatures.append(fields[web_hooks.SIGNATURE.encode()].decode())
        self.called.set()
        if self.hangs:
            await reader.read()
        else:
            writer.write(self.answers.pop(0) if self.answers else OK)
            await writer.drain()
        writer.close()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for body in self.bodies for event in json.loads(body)["events"]]


def arrival(uid: int, user: str = "anna@example.org", **fields: Any) -> Arrival:
    return Arrival(user, 3, "INBOX", "", 17, uid, 0)._replace(**fields)


Talk = Callable[[WebHooks, Endpoint, MailOfTests], Awaitable[None]]


def with_hooks(talk: Talk, whose: str = "*", **limits: Any) -> Endpoint:
    async def main() -> Endpoint:
        endpoint, mail = Endpoint(), MailOfTests()
        server = await asyncio.start_server(endpoint.connected, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mail"
        hooks = WebHooks(mail, {whose: url}, SECRET, HookLimits(**limits), lambda: 1000.0)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await talk(hooks, endpoint, mail)
        finally:
            await hooks.close()
            server.close()
        return endpoint

    return asyncio.run(main())


async def settled(hooks: WebHooks) -> None:
    """Until nothing waits."""
    while tasks := [one.task for one in hooks._receivers.values() if one.task is not None]:
        await asyncio.wait(tasks)


def test_an_event_says_where_the_message_is_and_is_signed() -> None:
    async def talk(hooks: WebHooks, endpoint: Endpoint, mail: MailOfTests) -> None:
        hooks.hear([arrival(7)])
        await settled(hooks)
        assert (hooks.counts.told, hooks.counts.failed, hooks.waiting) == (1, 0, 0)

    endpoint = with_hooks(talk)
    assert json.loads(endpoint.bodies[0]) == {
        "sent": 1000,
        "events": [
            {
                "id": id_of(arrival(7)),
                "user": "anna@example.org",
                "mailbox": "INBOX",
                "uidvalidity": 17,
                "uid": 7,
            }
        ],
    }
    signed = hmac.new(SECRET, endpoint.bodies[0], hashlib.sha256).hexdigest()
    assert endpoint.signatures == [f"sha256={signed}"]


def test_sender_and_subject_are_told_where_that_is_configured_and_they_can_be_read() -> None:
    async def talk(hooks: WebHooks, endpoint: Endpoint, mail: MailOfTests) -> None:
        hooks.hear([arrival(7)])
        await settled(hooks)
        mail.down = True
        hooks.hear([arrival(8)])
        await settled(hooks)

    first, second = with_hooks(talk, details=True).events
    assert (first["from"], first["subject"]) == ("Zoë <zoe@example.org>", "tea at four")
    assert second["uid"] == 8 and "subject" not in second


def test_an_id_is_of_one_message_in_one_mailbox() -> None:
    one = arrival(7)
    assert id_of(one) == id_of(one._replace(name="renamed", system=SEEN))
    others = [arrival(8), arrival(7, "b@example.org"), one._replace(uidvalidity=18)]
    assert len({id_of(other) for other in (one, *others)}) == 4


def test_nothing_is_told_of_others_nor_of_what_is_no_new_mail() -> None:
    async def talk(hooks: WebHooks, endpoint: Endpoint, mail: MailOfTests) -> None:
        hooks.hear([arrival(1, "b@other.org"), arrival(2, system=SEEN)])
        hooks.hear([arrival(3, special_use=use) for use in ("\\Sent", "\\Drafts", "\\Junk")])
        hooks.hear([arrival(4, special_use="\\Archive")])
        await settled(hooks)

    assert [event["uid"] for event in with_hooks(talk, "example.org").events] == [4]


def test_the_closest_url_is_taken() -> None:
    urls = {"a@x.org": "http://localhost/a", "x.org": "http://localhost/x", "*": "http://localhost"}
    hooks = WebHooks(MailOfTests(), urls, SECRET, HookLimits(), lambda: 0.0)
    assert [hooks._url_of(user) for user in ("a@x.org", "b@x.org", "a@y.org")] == [*urls.values()]


def test_what_a_receiver_did_not_take_is_sent_again_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_hooks, "BACKOFF_MIN_S", 0.0)

    async def talk(hooks: WebHooks, endpoint: Endpoint, mail: MailOfTests) -> None:
        endpoint.answers = [NO, b"nonsense\r\n", b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"]
        hooks.hear([arrival(uid) for uid in range(1, web_hooks.EVENTS_MAX + 2)])
        await settled(hooks)
        assert (hooks.counts.told, hooks.counts.failed) == (web_hooks.EVENTS_MAX + 1, 3)

    endpoint = with_hooks(talk)
    sizes = [len(json.loads(body)["events"]) for body in endpoint.bodies]
    assert sizes == [web_hooks.EVENTS_MAX] * 4 + [1]
    told = [event["uid"] for event in endpoint.events[3 * web_hooks.EVENTS_MAX :]]
    assert told == list(range(1, web_hooks.EVENTS_MAX + 2))


def test_a_receiver_that_hangs_holds_nobody_and_the_oldest_events_go() -> None:
    async def talk(hooks: WebHooks, endpoint: Endpoint, mail: MailOfTests) -> None:
        endpoint.hangs = True
        hooks.hear([arrival(1)])
        await endpoint.called.wait()
        hooks.hear([arrival(uid) for uid in range(2, 6)])
        (receiver,) = hooks._receivers.values()
        assert [one.uid for _, one in receiver.waiting] == [4, 5]
        assert (hooks.waiting, hooks.counts.dropped) == (3, 2)

    with_hooks(talk, waiting_max=3)


def test_a_receiver_that_does_not_answer_in_time_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_hooks, "BACKOFF_MIN_S", 0.0)

    async def talk(hooks: WebHooks, endpoint: Endpoint, mail: MailOfTests) -> None:
        endpoint.hangs = True
        hooks.hear([arrival(1)])
        await endpoint.called.wait()
        endpoint.hangs = False
        await settled(hooks)
        assert (hooks.counts.told, hooks.counts.failed) == (1, 1)

    with_hooks(talk, timeout_s=0.5)


def test_what_could_not_be_told_for_too_long_is_not_told_any_more() -> None:
    async def talk(hooks: WebHooks, endpoint: Endpoint, mail: MailOfTests) -> None:
        hooks.hear([arrival(1)])
        mail.now = 11.0
        await settled(hooks)
        assert (hooks.counts.dropped, hooks.waiting) == (1, 0)

    assert with_hooks(talk, keep_s=10.0).bodies == []


def test_a_receiver_for_whom_no_authority_vouches_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_hooks, "BACKOFF_MIN_S", 0.0)
    known = Certificates(tmp_path / "ca", "test")
    shown = known.files("n1")

    async def main() -> None:
        endpoint, mail = Endpoint(), MailOfTests()
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(shown.certificate, shown.key)
        server = await asyncio.start_server(endpoint.connected, "127.0.0.1", 0, ssl=served)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/mail"
        hooks = WebHooks(mail, {"*": url}, SECRET, HookLimits(), lambda: 0.0)
        async with asyncio.timeout(PATIENCE_S):
            hooks.hear([arrival(1)])
            while not hooks.counts.failed:  # noqa: ASYNC110  nothing tells of a failure
                await asyncio.sleep(0)
            assert not endpoint.bodies
            hooks.context = ssl.create_default_context(cafile=str(known.ca))
            await settled(hooks)
        assert [event["uid"] for event in endpoint.events] == [1]
        await hooks.close()
        server.close()

    asyncio.run(main())
