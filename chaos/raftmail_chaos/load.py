"""One load process: `python -m raftmail_chaos.load PLAN.json`.

Asks at the rate that it was told, whether or not answers come (open loop), over the client library
and over LMTP. Every operation goes to its user's history. What a live view needs goes to standard
output, a JSON line every half second. After SIGTERM it asks nothing more, waits for what is under
way, and ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from raftmail.client import Client, NewMail, ProtocolError, Refused, TryAgain
from raftmail.mail import commands as c
from raftmail.mail import queries as q
from raftmail.mail import results as r
from raftmail_chaos import lmtp
from raftmail_chaos.history import Call, Fate, Operation
from raftmail_chaos.imap_program import ImapProgram, trusting
from raftmail_chaos.imap_reader import ImapReader
from raftmail_chaos.mailbag import (
    ALL,
    BIRTHS_MAX,
    DELIVERIES,
    DOMAIN,
    MOVED,
    WORKED,
    Asked,
    MailBag,
    Mailbag,
)
from raftmail_chaos.mta import Mta
from raftmail_chaos.record import Body, Delivery, delivery_line, to_line, user_folder

LIVE_FILE = "live.json"

OUTSTANDING_MAX = 2000
"""Operations without an answer. While there are so many, what is due is left out, and counted."""

TRIES_MAX = 5
"""Of one ordinary delivery."""

PROGRAMS = 3
"""Mail programs of one user. The last of them changes nothing, and idles most of the time."""
_BESIDE_S = 0.4
"""Between two operations of others on that user's mail, on average."""
_OPEN_MAX = 3
"""Changes of a message whose outcome is open; one that has more is left to others."""
_PASSWORD = "chaos"
_PROGRAMS_END_S = 10.0
"""What mail programs have asked and is not answered by then is in the history as lost."""

_TELL_S = 0.5
_PREPARED_S = 20.0
"""For how long there are users ready while none can be made."""
_BIRTHS_SHARE = 0.6
"""Messages for each operation."""


@dataclass(frozen=True, slots=True)
class ChaosLoad:
    """What a load process does. `rate` is operations a second; addresses are host:port, one for
    each node; `history` is a folder. With `ca` (a file) the text protocol is spoken over TLS, and
    begun with `token`."""

    index: int
    seed: int
    rate: float
    clients: tuple[str, ...]
    lmtp: tuple[str, ...]
    history: str
    timeout_s: float
    ca: str | None = None
    token: str | None = None
    live: str = ""
    """A file that says which nodes there are now, in place of `clients` and `lmtp`."""
    mass_bytes: int = 0
    """What large messages and those for many recipients may come to together (see `mta`), within
    `mass_s` seconds; 0: none are sent."""
    mass_s: float = 60.0
    imaps: tuple[str, ...] = ()
    """Where mail programs come in, over TLS; one address for each node."""

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> ChaosLoad:
        value = json.loads(path.read_text(encoding="utf-8"))
        addresses = {name: tuple(value[name]) for name in ("clients", "lmtp", "imaps")}
        return cls(**value | addresses)


@dataclass(slots=True)
class Numbers:
    """What happened since it was last told, and `outstanding` now. `writes` are the acknowledged
    ones: when, and after how many ms."""

    asked: int = 0
    answered: int = 0
    messages: int = 0
    lost: int = 0
    nothing: int = 0
    left_out: int = 0
    outstanding: int = 0
    writes: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class _Bag:
    """A user's mail and the connections that ask about it: one for each node, the next node taking
    over where one fails."""

    mail: Mailbag
    clients: list[Client]
    out: TextIO
    under_way: int = 0
    programs: list[ImapProgram] = field(default_factory=list)
    reading: list[asyncio.Task[None]] = field(default_factory=list)
    """What those mail programs do."""


def tell_live(path: Path, nodes: Sequence[tuple[str, str, str]]) -> None:
    """Have load processes know which nodes there are: addresses for clients, LMTP and IMAP."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(nodes), encoding="utf-8")
    new.replace(path)


class Worker:
    """Runs a plan until `stop`."""

    def __init__(self, plan: ChaosLoad) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.numbers = Numbers()
        self._clients, self._lmtp, self._imaps = plan.clients, plan.lmtp, plan.imaps
        self._bodies = MailBag(random.Random(plan.seed + 1))
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: dict[int, tuple[_Bag, Operation]] = {}
        self._open: list[_Bag] = []
        self._operations = 0
        self._bags = 0
        ahead = int(plan.rate * _BIRTHS_SHARE * _PREPARED_S / BIRTHS_MAX) + 2
        self._prepared: asyncio.Queue[_Bag] = asyncio.Queue(ahead)
        self._pool = lmtp.MtaConnections()
        self._problems: list[str] = []
        self._broken: list[str] = []
        self._mass_client: Client | None = None
        self._mta = Mta(
            plan.index,
            plan.seed + 2,
            plan.mass_bytes,
            plan.mass_s,
            Path(plan.history),
            lambda: self._lmtp,
            self._make_mass_user,
            self._took_mass,
            self._problems_append,
        )

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Ask until stopped; then wait for what is under way. What has no answer by then is in the
        history as lost."""
        helpers = [asyncio.create_task(self._tell()), asyncio.create_task(self._prepare())]
        if self.plan.mass_bytes:
            self._begin(self._mta.run(self._stopping))
        if self.plan.imaps:
            self._begin(self._read_mail())
        try:
            await self._ask_on()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self.plan.timeout_s + 20)
        finally:
            for helper in helpers:
                helper.cancel()
            self._mta.give_up()
            if self._mass_client is not None:
                await self._mass_client.close()
            for bag, operation in self._pending.values():
                _write(bag, to_line(operation))
            for bag in self._open:
                for task in bag.reading:
                    task.cancel()
                await asyncio.gather(*bag.reading, return_exceptions=True)
            for bag in self._open:
                bag.out.close()
            self._pool.close()
            self._say()

    # -- users

    async def _prepare(self) -> None:
        """Have the next user ready before the mail of this one is full."""
        while True:
            await self._prepared.put(await self._new_bag())

    async def _new_bag(self) -> _Bag:
        self._bags += 1
        user = f"w{self.plan.index}u{self._bags}@{DOMAIN}"
        clients = [self._client(at) for at in range(len(self._clients))]
        await self._make_user(clients[0], user, ("Work", "Trash", DELIVERIES))
        folder = user_folder(Path(self.plan.history), user)
        bag = _Bag(Mailbag(user, self.rng, self._bodies), clients, _writing(folder))
        self._open.append(bag)
        return bag

    def _client(self, at: int) -> Client:
        """One that asks a certain node, and the others where that fails."""
        plan, addresses = self.plan, self._clients
        return Client(
            (*addresses[at:], *addresses[:at]),
            timeout_s=plan.timeout_s,
            ca=plan.ca,
            token=plan.token,
        )

    async def _make_user(self, client: Client, user: str, mailboxes: Sequence[str]) -> None:
        await self._insist(lambda: client.add_user(user, _PASSWORD))
        for name in mailboxes:
            await self._insist(lambda name=name: client.create_mailbox(user, name))

    async def _make_mass_user(self, user: str) -> None:
        if self._mass_client is None:
            self._mass_client = self._client(0)
        await self._make_user(self._mass_client, user, (DELIVERIES,))

    def _took_mass(self) -> None:
        self.numbers.messages += 1

    def _problems_append(self, problem: str) -> None:
        self._problems.append(problem)

    async def _insist(self, ask: Any) -> None:
        while True:
            try:
                await ask()
            except TryAgain:
                await asyncio.sleep(0.1)
            except Refused as refused:
                if refused.code is not r.Code.ALREADYEXISTS:
                    self._problems.append(f"a new user's mailboxes: {refused}")
                    raise
                return  # an attempt before this one, whose answer was lost
            else:
                return

    async def _retire(self, bag: _Bag) -> None:
        for program in bag.programs:
            program.stop()
        if bag.reading:
            _, late = await asyncio.wait(bag.reading, timeout=_PROGRAMS_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*bag.reading, return_exceptions=True)
        while bag.under_way:  # noqa: ASYNC110  once for hundreds of operations
            await asyncio.sleep(0.2)
        for client in bag.clients:
            await client.close()
        self._open.remove(bag)
        bag.out.close()

    # -- mail programs

    async def _read_mail(self) -> None:
        """Have mail programs read and write the mail of one user at a time, while others write
        into it now and then."""
        trust = trusting(self.plan.ca)
        while not self._stopping.is_set():
            bag = await self._new_bag()
            for number in range(PROGRAMS):
                bag.programs.append(program := self._program(bag, number, trust))
                bag.reading.append(asyncio.create_task(program.run()))
            while not (bag.mail.is_full or self._stopping.is_set()):
                await asyncio.sleep(self.rng.expovariate(1.0 / _BESIDE_S))
                self._ask(bag)
            await self._retire(bag)

    def _program(self, bag: _Bag, number: int, trust: ssl.SSLContext | None) -> ImapProgram:
        def record(operation: Operation) -> None:
            if isinstance(operation.answer, bytes):
                operation.answer = Body.of(operation.answer)
            self._operations += 1
            operation.number = self._operations
            bag.mail.births += isinstance(operation.call, c.Save)
            _write(bag, to_line(operation))

        reader = ImapReader(
            f"imap{number}",
            bag.mail.user,
            _PASSWORD,
            WORKED,
            random.Random(self.rng.random()),
            record,
            number,
            idles_only=number == PROGRAMS - 1,
            may_touch=lambda name, uid: bag.mail.open[name, uid] < _OPEN_MAX,
        )
        rng = random.Random(self.rng.random())
        return ImapProgram(reader, rng, lambda: self._imaps, trust, self._broken.append)

    # -- asking

    async def _ask_on(self) -> None:
        loop = asyncio.get_running_loop()
        bag = await self._next_bag()
        due = loop.time()
        while bag is not None and not self._stopping.is_set():
            due += self.rng.expovariate(self.plan.rate)
            delay = due - loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            if bag.mail.is_full and not self._prepared.empty():
                self._begin(self._retire(bag))
                bag = self._prepared.get_nowait()
            if self.numbers.outstanding >= OUTSTANDING_MAX or bag.mail.is_overfull:
                self.numbers.left_out += 1
            else:
                self._ask(bag)
            if delay < -1.0:
                await asyncio.sleep(0)  # far behind: answers must be read as well
        if bag is not None:
            self._begin(self._retire(bag))

    async def _next_bag(self) -> _Bag | None:
        first = asyncio.create_task(self._prepared.get())
        stopped = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((first, stopped), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if first.done():
            return first.result()
        first.cancel()
        return None

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._problems.append(f"the load itself failed: {error!r}")

    def _ask(self, bag: _Bag) -> None:
        asked = bag.mail.next()
        self.numbers.asked += 1
        self.numbers.outstanding += 1
        bag.under_way += 1
        if asked.call is None:
            self._begin(self._deliver(bag, asked))
            return
        client = self.rng.choice(bag.clients)
        self._operations += 1
        operation = Operation(
            self._operations,
            f"w{self.plan.index}-{client.client_id.hex()[:6]}",
            asked.call,
            time.monotonic(),
        )
        self._pending[operation.number] = bag, operation
        name = _moving(asked.call)
        user = bag.mail.user
        sent = _send(client, asked) if name is None else _send_anew(client, asked, user, name)
        self._begin(self._follow(bag, asked, operation, sent))

    async def _follow(
        self, bag: _Bag, asked: Asked, operation: Operation, answer: Awaitable[Any]
    ) -> None:
        call = operation.call
        is_write = isinstance(call, c.Command)
        numbers = self.numbers
        try:
            value = await answer
            operation.returned = now = time.monotonic()
            operation.fate = Fate.ANSWERED
            numbers.answered += 1
            if isinstance(value, r.Executed):
                operation.answer, operation.index = value.result, value.index
                numbers.messages += _births(value.result)
                self._acknowledged(now, operation.invoked)
            elif isinstance(value, bytes):
                operation.answer = Body.of(value)
            else:
                operation.answer = value
            bag.mail.learn(call, operation.answer)
        except Refused as refused:
            operation.returned = time.monotonic()
            numbers.answered += 1
            operation.fate = Fate.LOST if refused.code is r.Code.STALE else Fate.ANSWERED
            nothing = not is_write and refused.code is r.Code.NONEXISTENT
            operation.answer = None if nothing else r.Refused(refused.code, refused.text)
        except TryAgain as failure:
            if is_write and failure.outcome_unknown:
                numbers.lost += 1
            else:
                operation.returned = time.monotonic()
                operation.fate = Fate.NOTHING
                numbers.nothing += 1
        except ProtocolError as error:
            self._problems.append(f"an answer that makes no sense: {error} ({operation})"[:600])
        finally:
            self._pending.pop(operation.number, None)
            _write(bag, to_line(operation))
            self._end(bag, asked, lost=operation.fate is Fate.LOST)

    async def _deliver(self, bag: _Bag, asked: Asked) -> None:
        """Give it to LMTP as a transfer agent does: what is not answered, or put off, again, the
        same bytes, through any node."""
        invoked = time.monotonic()
        delivery = Delivery(asked.token, bag.mail.user, DELIVERIES, invoked, invoked, 0, True)
        sent = False
        try:
            for tries in range(1, TRIES_MAX + 1):
                began = time.monotonic()
                code, text, went_out = await self._give(bag.mail.user, asked.body)
                sent = sent or went_out
                delivery = replace(
                    delivery,
                    returned=time.monotonic(),
                    # After a refusal an earlier try may still have had an effect.
                    code=code if code < 500 or tries == 1 else 0,
                    sent=sent,
                    text=text,
                    tries=tries,
                )
                if 200 <= code < 300 or code >= 500 or self._stopping.is_set():
                    break
                await asyncio.sleep(self.rng.uniform(0.2, 2.0))
        finally:
            delivery = replace(delivery, returned=time.monotonic(), size_bytes=len(asked.body))
            _write(bag, delivery_line(delivery))
            self._end(bag, asked, lost=False)
        if delivery.acknowledged:
            self.numbers.answered += 1
            self.numbers.messages += 1
            self._acknowledged(delivery.returned, began)
        elif delivery.code or not delivery.sent:
            self.numbers.nothing += 1
        else:
            self.numbers.lost += 1

    async def _give(self, user: str, body: bytes) -> lmtp.MtaReply:
        """One try."""
        local, _, domain = user.partition("@")
        to = f"{local}+{DELIVERIES}@{domain}"
        node = self.rng.choice(self._lmtp)
        try:
            given = await self._pool.deliver(
                node, "load@chaos.test", to, body, self.plan.timeout_s + 15
            )
            return lmtp.MtaReply(*given)
        except lmtp.LmtpLost as lost:
            return lmtp.MtaReply(0, str(lost), lost.sent)

    def _acknowledged(self, now: float, invoked: float) -> None:
        self.numbers.writes.append((round(now, 4), round((now - invoked) * 1000, 2)))

    def _end(self, bag: _Bag, asked: Asked, *, lost: bool) -> None:
        bag.mail.settle(asked, lost=lost)
        bag.under_way -= 1
        self.numbers.outstanding -= 1

    # -- telling

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_TELL_S)
            self._hear_live()
            for bag in self._open:
                bag.out.flush()
            self._say()

    def _hear_live(self) -> None:
        path = Path(self.plan.live)
        if self.plan.live and path.exists():
            nodes = json.loads(path.read_text(encoding="utf-8"))
            self._clients, self._lmtp, self._imaps = map(tuple, zip(*nodes, strict=True))

    def _say(self) -> None:
        numbers = self.numbers
        value = asdict(numbers) | {"problems": self._problems, "broken": self._broken}
        print(json.dumps(value, separators=(",", ":")), flush=True)  # noqa: T201  for the runner
        self._problems = []
        self._broken.clear()
        self.numbers = Numbers(outstanding=numbers.outstanding)


def _writing(folder: Path) -> TextIO:
    folder.mkdir(parents=True)
    return open(folder / "load.jsonl", "w", encoding="utf-8")


def _write(bag: _Bag, line: str) -> None:
    bag.out.write(line + "\n")


def _births(result: object) -> int:
    if isinstance(result, r.SaveResult):
        return len(result.saved)
    if isinstance(result, r.CopyResult):
        return len(result.target_uids)
    return 0


def _moving(call: Call | None) -> str | None:
    """The name of a mailbox that may have had another one, if messages in it are asked for."""
    match call:
        case c.Save():
            name = call.messages[0].targets[0].mailbox
        case q.FetchMessages():
            name = call.mailbox
        case _:
            return None
    return name if isinstance(name, str) and name in MOVED else None


async def _send_anew(client: Client, asked: Asked, user: str, name: str) -> Any:
    """Ask for the mailbox that has this name now: a session goes on with the one that had it when
    it was first named."""
    await client.mailbox_state(user, name)
    return await _send(client, asked)


def _send(client: Client, asked: Asked) -> Awaitable[Any]:
    """Ask a node. A write begins at once; a read when it is awaited."""
    call = asked.call
    match call:
        case c.Save():
            message = call.messages[0]
            targets = [(target.user, str(target.mailbox)) for target in message.targets]
            mail = NewMail(targets, asked.body, message.flags, message.received_us, message.guid)
            return client.save_all((mail,))
        case c.Store():
            return client.store(
                call.user,
                str(call.mailbox),
                call.uids,
                call.mode,
                call.flags,
                unchanged_since=call.unchanged_since,
            )
        case c.Copy():
            return client.copy(
                call.user, str(call.mailbox), call.uids, str(call.target.mailbox), move=call.move
            )
        case c.Expunge():
            return client.expunge(
                call.user, str(call.mailbox), call.uids, only_deleted=call.only_deleted
            )
        case c.CreateMailbox():
            return client.create_mailbox(call.user, call.name)
        case c.RenameMailbox():
            return client.rename_mailbox(call.user, str(call.mailbox), call.name)
        case c.DeleteMailbox():
            return client.delete_mailbox(call.user, str(call.mailbox))
        case q.ListMailboxes():
            return client.mailboxes(call.user)
        case q.FetchMessages():
            return client.message_page(
                call.user, str(call.mailbox), ALL, changed_since=call.changed_since
            )
        case q.FetchBody():
            return client.body(call.user, str(call.mailbox), call.uid)
        case q.GetMailbox():
            return _state(client, call)
        case _:
            raise AssertionError(f"the load never asks {call}")


async def _state(client: Client, call: q.GetMailbox) -> q.MailboxInfo:
    name = str(call.mailbox)
    state = await client.mailbox_state(call.user, name)
    return q.MailboxInfo(
        state.number,
        call.user,
        name,
        b"",
        state.uidvalidity,
        state.uidnext,
        state.highestmodseq,
        state.messages,
        0,
        0,
        "",
        False,
        b"",
    )


async def run(plan: ChaosLoad) -> None:
    """Run a plan until SIGTERM."""
    worker = Worker(plan)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    await worker.run()


if __name__ == "__main__":
    asyncio.run(run(ChaosLoad.load(Path(sys.argv[1]))))
