"""A session of the text protocol, without sockets: traces of conversations, and what traces cannot
show."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.frontends.text.context import TextContext
from raftmail.frontends.text.limits import TextLimits
from raftmail.frontends.text.session import TextSession
from raftmail.mail.failures import Failure
from raftmail.mail.first_mailboxes import FirstMailboxes
from raftmail.net.limits import ReaderLimits
from raftmail.net.lines import Line
from raftmail.service.credentials import Credentials
from raftmail.service.passwords import hash_password, verify_password
from tests.frontends.twin_service import TwinService

TRACES = sorted((Path(__file__).parent / "traces").glob("session_*.txt"))
CLIENT = b"c" * 32


class TestChannel:
    """Collects what a session writes."""

    __test__ = False

    def __init__(self) -> None:
        self.congested = False
        self.began_at = self.heard_at = 0.0
        self.written: list[bytes] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.hung_up = False
        self.compressed = False
        self.peer: tuple[Line, bytes] | None = None
        self.session: TextSession

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def resume_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self.session.run)

    async def drained(self) -> None:
        assert not self.congested, "these tests do not read while they are congested"

    def compress(self) -> None:
        self.compressed = True

    def detach(self) -> asyncio.Transport:
        return asyncio.Transport()

    def accept(self, transport: asyncio.Transport, line: Line, rest: bytes) -> None:
        self.peer = line, rest

    def hang_up(self) -> None:
        self.hung_up = True

    async def quiet(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            while self.tasks:
                await asyncio.gather(*self.tasks)

    def take(self) -> bytes:
        written = b"".join(self.written)
        self.written.clear()
        return written


def open_session(
    twin: TwinService,
    *,
    trusted: bool = True,
    limits: TextLimits | None = None,
    first_mailboxes: FirstMailboxes = (),
) -> tuple[TextSession, TestChannel]:
    twin.token = "secret"
    front = TextContext(twin, "n1", "test", lambda: 1000.0, limits or TextLimits())
    front.first_mailboxes = first_mailboxes
    channel = TestChannel()
    session = channel.session = TextSession(front, channel, trusted=trusted, peers=channel)
    return session, channel


def unescape(text: str) -> bytes:
    return text.encode().decode("unicode_escape").encode("latin-1")


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_a_conversation_goes_as_it_is_written(path: Path) -> None:
    """`C` lines are sent (Python's escapes), what follows each must be answered. `=untrusted` at
    the beginning leaves out the trust. Random values stand as `#`."""

    text = path.read_text().splitlines()

    async def converse() -> None:
        twin = TwinService()
        session, channel = open_session(twin, trusted="=untrusted" not in text)
        session.start()
        channel.take()
        expected: list[str] = []
        answered: list[str] = []
        for line in text:
            if line.startswith("C "):
                session.receive(unescape(line[2:]) + b"\r\n")
                await channel.quiet()
                raw = channel.take().decode()
                raw = re.sub(r"(guid|blob|digest)=[0-9a-f]+", r"\1=#", raw)
                answered += [line, *raw.removesuffix("\r\n").split("\r\n")] if raw else [line]
            if line and line[0] not in "#=":
                expected.append(line)
        assert answered == expected
        assert channel.hung_up == session.ended

    asyncio.run(converse())


def test_outstanding_commands_stop_at_their_limit_and_go_on_when_answered() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin, limits=TextLimits(outstanding_commands_max=3))
        session.receive(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
        await channel.quiet()
        twin.hold = True
        stores = b"".join(b"t%d STORE 1 1 +FLAGS \\Seen\r\n" % i for i in range(8))
        session.receive(stores)
        assert (session.outstanding, session.blocked, len(twin.held)) == (3, True, 3)
        twin.release()
        await asyncio.sleep(0)
        assert (session.outstanding, session.blocked, len(twin.held)) == (3, True, 3)
        twin.release()
        await asyncio.sleep(0)
        twin.release()
        assert (session.outstanding, session.blocked) == (0, False)
        tags = [line.split()[0] for line in channel.take().splitlines()][2:]
        assert tags == [b"t%d" % i for i in range(8)]

    asyncio.run(run())


def test_a_congested_output_stops_commands_and_listings() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin)
        session.receive(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
        await channel.quiet()
        channel.congested = True
        session.receive(b"t1 NOOP\r\n")
        assert session.blocked
        channel.take()
        channel.congested = False
        session.run()
        assert channel.take() == b"t1 OK\r\n"

    asyncio.run(run())


def test_literals_of_a_connection_wait_for_those_before_them() -> None:
    async def run() -> None:
        twin = TwinService()
        limits = TextLimits(connection_buffered_bytes_max=1500)
        session, channel = open_session(twin, limits=limits)
        session.receive(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
        await channel.quiet()
        twin.hold = True
        session.receive(b"".join(b"s%d SAVE 1 {1000}\r\n%b\r\n" % (i, b"x" * 1000) for i in (1, 2)))
        assert (len(twin.held), session.blocked) == (1, True)
        twin.release()
        await asyncio.sleep(0)
        assert (len(twin.held), session.blocked) == (1, False)
        twin.release()
        assert session._writer.held_bytes == 0

    asyncio.run(run())


def test_literals_over_the_total_are_answered_retry_without_effect() -> None:
    async def run() -> None:
        twin = TwinService()
        limits = TextLimits(total_buffered_bytes_max=1500)
        front = TextContext(twin, "n1", "test", lambda: 0.0, limits)
        channels = [TestChannel(), TestChannel()]
        for channel in channels:
            channel.session = TextSession(front, channel, trusted=True)
            channel.session.receive(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
            await channel.quiet()
            channel.take()
        twin.hold = True
        executions = twin.executions
        for channel in channels:
            channel.session.receive(b"s SAVE 1 {1000}\r\n" + b"x" * 1000 + b"\r\n")
        assert channels[1].take().startswith(b's RETRY "the node holds as many')
        assert twin.executions == executions + 1
        channels[0].session.end()
        assert front.budget.used_bytes == 1000
        twin.release()
        assert front.budget.used_bytes == 0
        assert channels[0].take() == b""

    asyncio.run(run())


def test_half_a_literal_is_given_back_when_the_connection_ends() -> None:
    async def run() -> None:
        session, _ = open_session(TwinService())
        session.receive(b"s SAVE 1 {1000}\r\nxxx")
        assert session._writer.budget.used_bytes == 1000
        session.end()
        assert session._writer.budget.used_bytes == 0

    asyncio.run(run())


def test_a_line_too_long_is_said_and_ends_the_connection() -> None:
    async def run() -> None:
        limits = TextLimits(reader=ReaderLimits(line_bytes_max=50))
        session, channel = open_session(TwinService(), limits=limits)
        session.receive(b"t1 NOOP\r\n" + b"x" * 60)
        assert channel.hung_up
        assert channel.take().splitlines()[:2] == [
            b"t1 OK",
            b'* BAD "a line is longer than 50 bytes"',
        ]

    asyncio.run(run())


def test_the_own_floor_passes_over_nothing_that_is_outstanding() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin)
        session.receive(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
        await channel.quiet()
        twin.hold = True
        session.receive(b"".join(b"t%d STORE 1 1 FLAGS x\r\n" % i for i in range(3)))
        first, second, third = twin.held
        second()
        third()
        session.receive(b"t4 STORE 1 1 FLAGS x\r\n")
        assert [(seq, floor) for _, _, seq, floor, _ in twin.requests[1:]] == [
            (2, 1),
            (3, 1),
            (4, 1),
            (5, 1),
        ]
        first()
        session.receive(b"t5 STORE 1 1 FLAGS x\r\n")
        assert twin.requests[-1][2:4] == (6, 4)

    asyncio.run(run())


def test_a_long_chunk_is_done_in_turns() -> None:
    async def run() -> None:
        session, channel = open_session(TwinService())
        session.receive(b"".join(b"t%d NOOP\r\n" % i for i in range(1200)))
        done = [len(channel.take().splitlines())]
        while session.blocked:
            await asyncio.sleep(0)
            done.append(len(channel.take().splitlines()))
        assert done == [500, 500, 200]

    asyncio.run(run())


def test_logout_waits_for_the_answers_of_what_is_under_way() -> None:
    async def run() -> None:
        twin = TwinService()
        twin.hold = True
        session, channel = open_session(twin)
        session.receive(b"a CREATE ann x\r\nb LOGOUT\r\nc NOOP\r\n")
        assert (channel.take(), session.blocked) == (b"", True)
        twin.release()
        await asyncio.sleep(0)
        tags = [line.split()[0] for line in channel.take().splitlines()]
        assert (tags, channel.hung_up) == ([b"a", b"b", b"*"], True)

    asyncio.run(run())


def test_deadlines_are_passed_on_and_cut_to_their_limit() -> None:
    async def run() -> None:
        twin = TwinService()
        session, _ = open_session(twin)
        session.receive(b"a CREATE ann x deadline=0.5\r\nb CREATE ann y deadline=9999\r\n")
        session.receive(b"c CREATE ann z\r\n")
        assert twin.deadlines == [0.5, 120.0, 10.0]

    asyncio.run(run())


def test_passwords_are_hashed_before_they_leave_the_session() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin)
        session.receive(b'a USER ADD Ann@Example "pass word"\r\n')
        await channel.quiet()
        assert channel.take() == b"a OK index=1 shard=0 master=n1\r\n"
        kept = Credentials.parse(twin.users["ann@example"])
        assert kept.fits_slowly(b"pass word")
        assert not kept.fits_slowly(b"password")

    asyncio.run(run())


def test_a_user_may_have_a_password_that_is_judged_elsewhere() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin)
        for line, answer in (
            (b"a USER ADD ann@example external=yes", b"a OK"),
            (b"b USER PASSWD ann@example external=no", b'b BAD "external=yes says'),
            (b"c USER PASSWD ann@example x external=yes", b'c BAD "usage'),
            (b"d USER PASSWD ann@example", b'd BAD "usage'),
        ):
            session.receive(line + b"\r\n")
            await channel.quiet()
            assert channel.take().startswith(answer)
        assert twin.users["ann@example"] == "external"

    asyncio.run(run())


def test_a_user_who_is_added_has_the_mailboxes_that_are_configured_for_new_users() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin, first_mailboxes=(("Spam", "\\Junk"),))
        session.receive(b"a USER ADD ann@example external=yes\r\n")
        await channel.quiet()
        assert channel.take().startswith(b"a OK")
        uses = {box.name: box.special_use for box in twin.boxes.values()}
        assert uses == {"INBOX": "", "Spam": "\\Junk"}

    asyncio.run(run())


def test_what_is_no_password_hash_verifies_nothing() -> None:
    good = hash_password(b"x", b"salt")
    assert verify_password(b"x", good)
    for bad in ("", "scrypt", good.replace("scrypt", "plain"), good[:-64], "scrypt$3$8$1$00$00"):
        assert not verify_password(b"x", bad)


def test_a_large_message_is_read_in_an_executor_and_saved_all_the_same() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin)
        session.receive(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
        await channel.quiet()
        body = b"Subject: large\r\n\r\n" + b"x" * 300_000
        session.receive(b"s SAVE 1 {%d}\r\n%b\r\n" % (len(body), body))
        assert session.outstanding == 1
        await channel.quiet()
        assert b"s OK saved=" in channel.take()
        assert list(twin.bodies.values()) == [body]
        assert session._writer.budget.used_bytes == 0

    asyncio.run(run())


def test_a_failure_says_whether_the_outcome_is_known() -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin)
        twin.failures += [Failure("no master"), Failure("lost", unknown=True)]
        twin.failures += [Failure("disk", full=True)]
        session.receive(b"a CREATE ann x\r\nb CREATE ann x\r\nc CREATE ann x\r\n")
        assert channel.take().splitlines() == [
            b'a RETRY "no master"',
            b'b RETRY "lost" outcome=unknown',
            b'c RETRY "disk" full=yes',
        ]

    asyncio.run(run())


COMMANDS = st.sampled_from(
    [
        b"a STORE 1 1 +FLAGS \\Seen\r\n",
        b"b SAVE 1 flags=\\Seen {3}\r\nabc\r\n",
        b"c MSAVE 1 - - - {1}\r\nx 9 - - - y\r\n",
        b"d MAILBOX 1 ann x uidnext=1\r\n",
        b"e LIST 1 1:* summary since=0\r\n",
        b"f FETCH 1 1\r\n",
        b"g COPY 1 1:* 1 guids=zz\r\n",
        b"h USER LIST after=x\r\n",
        b"i ADMIN echo a=b\r\n",
        b"j HELLO 1 client=" + CLIENT + b"\r\n",
        b"k EXPUNGE 1 1:* deleted seq=5 floor=4\r\n",
        b"l RENAME ann x y\r\n",
    ]
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(COMMANDS, st.binary(max_size=20), st.just(b"\xff\x00 ")), max_size=15))
def test_whatever_is_sent_the_session_answers_or_hangs_up_and_never_raises(
    pieces: list[bytes],
) -> None:
    async def run() -> None:
        twin = TwinService()
        session, channel = open_session(twin)
        session.receive(b"a CREATE ann x\r\nb MAILBOX 1 ann x\r\n")
        for piece in pieces:
            if not session.ended:
                session.receive(piece)
        await channel.quiet()
        assert session.outstanding == 0
        session.end()
        assert session._writer.budget.used_bytes == 0

    asyncio.run(run())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"1", b"2", b"01", b"x"]),
            st.sampled_from([b"1", b"1:2", b"2:1", b"0", b"*", b"1:*", b"x", b"4294967296"]),
            st.sampled_from([b"+FLAGS", b"-flags", b"FLAGS", b"?"]),
            st.sampled_from([b"\\Seen", b"a,B", b"\\Bad", b"a%2Cb", b""]),
            st.sampled_from([b"", b" seq=1", b" seq=0", b" seq=2 floor=1", b" unchangedsince=3"]),
            st.sampled_from([b"", b" seq=1", b" x=1", b" extra"]),
        ),
        max_size=5,
    )
)
def test_the_hot_path_of_store_answers_as_the_quoted_one_does(
    stores: list[tuple[bytes, ...]],
) -> None:
    async def run(quote: bytes) -> bytes:
        twin = TwinService()
        session, channel = open_session(twin)
        session.receive(
            b"h HELLO 1 client=" + CLIENT + b"\r\na CREATE ann x\r\nb MAILBOX 1 ann x\r\n"
        )
        session.receive(b"c SAVE 1 {0}\r\n\r\nd SAVE 1 {0}\r\n\r\n")
        await channel.quiet()
        channel.take()
        for box, uids, how, flags, *named in stores:
            session.receive(
                b"t STORE %b%b%b %b %b %b%b\r\n"
                % (quote, box, quote, uids, how, flags, b"".join(named))
            )
        return channel.take()

    assert asyncio.run(run(b"")) == asyncio.run(run(b'"'))
