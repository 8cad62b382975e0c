"""Random clients against a server over a real state machine, for as long as one likes:

    python -m tests.frontends.imap.fuzz --seconds 600 [--seed 1]

What has to hold:

- Nothing that the server says breaks the grammar.
- Each command gets its one answer, or the connection ends with BYE.
- No error of the server's own comes up, and no memory stays held.
- Every client's picture is that of the mailbox whenever it was told everything.

A fault is printed with the seed that shows it again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from raftmail.frontends.imap.context import ImapContext
from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.imap.server import ImapServer
from raftmail.mail.budget import Budget
from raftmail.mail.failures import Failure
from raftmail.mail.queries import FetchMessages, ListMailboxes, MessageInfo, MessagePage
from raftmail.mail.uidset import STAR, UidSet
from tests.frontends.imap.client_model import ClientModel
from tests.frontends.imap.fuzz_commands import MAILBOXES, RandomCommands
from tests.frontends.imap.imap_kit import (
    NOW_S,
    PASSWORD,
    PATIENCE_S,
    USER,
    ImapClient,
    known,
)
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.pop3.fuzz_pop3 import FuzzedPop3

SESSIONS = 3
STEPS = 150
"""Of one world; the next begins with nothing."""
RESIDENT_KIB_MAX = 700 * 1024

_LIMITS = ImapLimits(message_bytes_max=100_000, bad_commands_max=1_000_000, deadline_s=5.0)
_SILENCE_S = 2.0
"""After it, what was begun by garbage is taken to have swallowed the rest."""
_MODES = (
    "", "", "CONDSTORE", "QRESYNC", "IMAP4rev2", "IMAP4rev2 QRESYNC", "UIDONLY", "UIDONLY QRESYNC",
)  # fmt: skip


class _Errors(logging.Handler):
    """Keeps what the server logs as its own fault."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(self.format(record))


class FuzzedSession:
    """One client, and what it believes."""

    def __init__(self, port: int, mode: str) -> None:
        self.client = ImapClient(port)
        self.mode = mode
        self.model = ClientModel()
        self.mailbox_id = b""
        self.ended = False

    async def begin(self) -> None:
        await self.client.log_in()
        if self.mode:
            await self.do(f"ENABLE {self.mode}")

    async def do(self, command: str, *literals: bytes) -> bytes:
        """The tagged answer; b"" when the server ended the connection with BYE."""
        if command.startswith("NOTIFY"):
            self.client.shifts_at_any_time = "(selected " in command
        try:
            _, answer = await self.client.do(command, *literals)
        except AssertionError as e:
            if not str(e).startswith("the connection ended"):
                raise
            assert self.client.heard[-1].kind == "BYE", f"no BYE after {command!r}"
            self.ended = True
            answer = b""
        for heard in self.client.heard:
            self.model.hear(heard)
            if heard.code is not None and heard.code[0] == "MAILBOXID" and not heard.tag:
                self.mailbox_id = heard.code[1]
        if ".SILENT" in command:
            self.model.flags.clear()  # the client knows what it did itself; the model does not
        return answer

    async def select(self, name: str, *, read_only: bool, parameters: str) -> None:
        """SELECT, and learn which message has which number."""
        word = "EXAMINE" if read_only else "SELECT"
        self.model.select(name, read_only=read_only)
        answer = await self.do(f"{word} {name}{parameters}")
        if not answer.startswith(b"OK"):
            self.model.leave()
        elif self.model.uids:
            which = "UID FETCH" if "UIDONLY" in self.mode else "FETCH"
            answer = await self.do(f"{which} 1:* (UID FLAGS)")
            if not answer.startswith(b"OK") or 0 in self.model.uids:
                await self.leave()

    async def leave(self) -> None:
        if self.model.mailbox and not self.ended:
            await self.do("UNSELECT")
        self.model.leave()


class FuzzedWorld:
    """One server and its clients; the same for a seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.commands = RandomCommands(self.rng)
        self.service = MachineService()
        known(self.service)
        self.sessions: list[FuzzedSession] = []
        self.pop3 = FuzzedPop3(self.rng, self.service)
        self.port = 0
        self.last = ""
        """What was done last, for whoever looks for a fault."""

    async def run(self, steps: int) -> None:
        async with self._served():
            for _ in range(SESSIONS):
                await self._join()
            for name in MAILBOXES[1:]:
                await self.sessions[0].do(f"CREATE {name}")
            for _ in range(steps):
                await self._step()
            for session in self.sessions:
                await self._compare(session)
                await session.client.close()

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        context = ImapContext(
            self.service, lambda: NOW_S, Budget(1 << 26), asyncio.Semaphore(4), _LIMITS
        )
        server = ImapServer(context)
        _, self.port = await server.listen_tcp("127.0.0.1", 0)
        await self.pop3.begin()
        try:
            yield
        finally:
            for session in self.sessions:
                await session.client.close()
            await server.stop(1.0)
            await self.pop3.stop()
        assert not context.budget.used_bytes, "memory is held for nobody"

    async def _join(self) -> None:
        session = FuzzedSession(self.port, self.rng.choice(_MODES))
        await session.begin()
        self.sessions.append(session)

    async def _step(self) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.15:
            one, other = rng.sample(self.sessions, 2)
            await asyncio.gather(self._act(one), self._act(other))
        elif kind < 0.2:
            await self._idle(*rng.sample(self.sessions, 2))
        elif kind < 0.24:
            await self._pipeline(garbage=rng.random() < 0.7)
        elif kind < 0.27:
            await self.pop3.visit()
        else:
            if rng.random() < 0.03:
                self.service.failures.append(Failure("an election is under way"))
            await self._act(rng.choice(self.sessions))
        if rng.random() < 0.3:
            await self._compare(rng.choice(self.sessions))
        ended = [session for session in self.sessions if session.ended]
        for session in ended:
            await session.client.close()
            self.sessions.remove(session)
            await self._join()

    async def _act(self, session: FuzzedSession) -> None:
        rng, commands, model = self.rng, self.commands, session.model
        if session.ended:
            return
        kind = rng.random()
        if kind < 0.12 or not model.mailbox:
            parameters = ""
            if "QRESYNC" in session.mode and model.uidvalidity and rng.random() < 0.5:
                parameters = f" (QRESYNC ({model.uidvalidity} {rng.randint(1, 60)}))"
            name = rng.choice(MAILBOXES)
            await session.select(name, read_only=rng.random() < 0.1, parameters=parameters)
            if not model.mailbox and not session.ended:
                await session.do(f"CREATE {name}")  # most commands are of no use without it
        elif kind < 0.3:
            make = commands.append if rng.random() < 0.7 else self._catenate
            command, literals = make()
            answer = await session.do(command, *literals)
            self._own_append_is_told(session, command, answer)
        elif kind < 0.33:
            last = model.uids[-1] if model.uids else 1
            command, literals = commands.replace(len(model.uids), last)
            await session.do(command, *literals)
        elif kind < 0.4:
            await session.do(commands.of_mailboxes())
        elif kind < 0.41:
            await session.do(f"DELETE {commands.mailbox()}")
            if model.mailbox and self._number(session.mailbox_id) is None:
                model.leave()  # by itself, or by another: then it is told BYE with the next command
        elif kind < 0.43:
            await session.leave()
        else:
            last = model.uids[-1] if model.uids else 1
            await session.do(commands.of_messages(len(model.uids), last))

    def _catenate(self) -> tuple[str, list[bytes]]:
        return self.commands.catenate(self.rng.randint(1, 30))

    def _own_append_is_told(self, session: FuzzedSession, command: str, answer: bytes) -> None:
        if answer.startswith(b"OK") and not self.service.failures and session.model.uids:
            code = next(one.code for one in reversed(session.client.heard) if one.code)
            uidvalidity, ((low, high), *_) = code[1]
            if uidvalidity == session.model.uidvalidity:
                assert {low, high} <= set(session.model.uids), f"{command!r} is not seen"

    async def _idle(self, idler: FuzzedSession, other: FuzzedSession) -> None:
        """One idles while another acts."""
        if idler.ended or other.ended:
            return
        client = idler.client
        client.heard.clear()
        client.send(b"idle IDLE\r\n")
        while not (said := await client.response()).startswith(b"+ "):
            assert said.startswith(b"* "), said  # NOTIFY tells between commands
        await self._act(other)
        client.send(b"DONE\r\n")
        try:
            _, answer = await client.answer(b"idle")
            assert answer.startswith(b"OK"), answer
        except AssertionError:
            assert client.heard[-1].kind == "BYE"
            idler.ended = True
        for heard in client.heard:
            idler.model.hear(heard)

    async def _compare(self, session: FuzzedSession) -> None:
        """What a client knows after NOOP is what there is."""
        self.service.failures.clear()
        if session.ended or not session.model.mailbox:
            return
        answer = await session.do("NOOP")
        if session.ended:
            return
        assert answer.startswith(b"OK"), answer
        there = self._messages(session.mailbox_id)
        model = session.model
        assert model.uids == [one.uid for one in there], "the picture is wrong"
        for one in there:
            told = model.flags.get(one.uid)
            really = frozenset(flag.lower().encode() for flag in one.flags)
            assert told is None or told == really, f"flags of UID {one.uid}: {told}, not {really}"
            body = model.bodies.get(one.uid)
            assert body is None or body == self.service.bodies[one.blob].replace(b"\0", b" ")

    def _messages(self, mailbox_id: bytes) -> list[MessageInfo]:
        """What is in a mailbox."""
        query = self.service.machine.query
        number = self._number(mailbox_id)
        assert number is not None, f"{mailbox_id!r} is gone, and its client was not told"
        page = query(FetchMessages(USER, number, UidSet.from_ranges([(1, STAR)])))
        assert isinstance(page, MessagePage) and not page.more
        return list(page.messages)

    def _number(self, mailbox_id: bytes) -> int | None:
        """Of a mailbox; None when it is gone."""
        infos: Any = self.service.machine.query(ListMailboxes(USER))
        found = [one.number for one in infos if b"F" + one.guid.hex().encode() == mailbox_id]
        return found[0] if found else None

    # -- bytes ----------

    async def _pipeline(self, *, garbage: bool) -> None:
        """A client that waits for nothing, and whose bytes are cut anywhere."""
        rng, commands = self.rng, self.commands
        client = await ImapClient(self.port).connect()
        client.send(f"in LOGIN {USER} {PASSWORD}\r\nsel SELECT INBOX\r\n".encode())
        tags = [b"in", b"sel"]
        data = b""
        for number in range(rng.randint(1, 25)):
            text = commands.of_messages(5, 20) if rng.random() < 0.6 else commands.of_mailboxes()
            line = text.encode()
            if garbage and rng.random() < 0.4:
                data += commands.garbage(b"q%d %b\r\n" % (number, line))
                continue
            tags.append(b"g%d" % number)
            data += b"g%d %b\r\n" % (number, line)
        if garbage:
            data += b'"\r\n' + b"x" * 200_000 + b"\r\n"
        data += b"\r\nend NOOP\r\n"
        reading = asyncio.create_task(self._answers(client, _SILENCE_S if garbage else PATIENCE_S))
        while data:
            size = rng.choice((1, 2, 7, 60, 5000, 1 << 20))
            client.send(data[:size])
            data = data[size:]
            if rng.random() < 0.5:
                await asyncio.sleep(0)
        answered = await reading
        if not garbage:
            assert answered == [*tags, b"end"], f"{tags} were answered as {answered}"
        assert len(set(answered) & set(tags)) == len([tag for tag in answered if tag in tags])
        await client.close()

    async def _answers(self, client: ImapClient, patience_s: float) -> list[bytes]:
        """The tags that were answered, up to the last, or to BYE, or to silence."""
        found: list[bytes] = []
        while True:
            try:
                line = await asyncio.wait_for(client.response(), patience_s)
            except TimeoutError:
                return found  # a literal that was begun has swallowed the rest
            except ConnectionResetError:
                line = b""
            if not line:
                return found
            heard = client.heard[-1]
            if heard.tag:
                found.append(heard.tag)
                if heard.tag == b"end":
                    return found


def fuzz(seed: int, steps: int = STEPS) -> None:
    """One world. Raises AssertionError at a fault."""
    errors = _Errors()
    logger = logging.getLogger("raftmail")
    logger.addHandler(errors)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.found.append(str(context)))
        await FuzzedWorld(seed).run(steps)

    try:
        asyncio.run(main())
    finally:
        logger.removeHandler(errors)
    assert not errors.found, "\n".join(errors.found)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=int(time.time()))
    options.add_argument("--worlds", type=int, default=1 << 30, help="at most so many")
    asked = options.parse_args()
    logging.disable(logging.DEBUG)
    end = time.monotonic() + asked.seconds
    seed = asked.seed
    while time.monotonic() < end and seed < asked.seed + asked.worlds:
        try:
            fuzz(seed)
        except BaseException:
            print(f"a fault; it comes again with --seed {seed} --worlds 1", flush=True)
            raise
        used_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert used_kib < RESIDENT_KIB_MAX, f"{used_kib} KiB are used after seed {seed}"
        seed += 1
    print(f"{seed - asked.seed} worlds of {STEPS} steps from seed {asked.seed}: no fault")


if __name__ == "__main__":
    main()
