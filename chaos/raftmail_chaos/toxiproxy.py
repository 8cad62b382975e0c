"""The links between nodes, each through a proxy of a real Toxiproxy server that can hurt it.

Node i dials node j at the proxy i→j. Between two nodes only one of the two connections stays, and
nobody knows which. So what is to hold from i to j is put on the upstream of proxy i→j and on the
downstream of proxy j→i.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from raftmail_chaos.errors import ChaosError
from raftmail_chaos.leash import leashed

PROGRAM = "toxiproxy-server"
_START_S = 15.0
_CALL_S = 60.0
"""To take a toxic away, the server waits until what it holds has gone on to a node.

That may be paused, or packets may not reach it.
"""
_POLL_S = 0.05
_VERSION = re.compile(r"version v?([0-9]+)\.([0-9]+)|version git")

_LATE_S = 5.0
"""How long what the server was late with is given to come about, before it is taken away again."""

T = TypeVar("T")


class _Late(ChaosError):
    """The server gave up waiting for itself, and answered nothing; it goes on with what it was
    asked."""


Way = tuple[str, str]
"""From one node to another."""


def find_server() -> Path | None:
    """The program, on PATH or beside this Python; None when it is nowhere."""
    found = shutil.which(PROGRAM)
    if found:
        return Path(found)
    beside = Path(sys.executable).with_name(PROGRAM)
    return beside if os.access(beside, os.X_OK) else None


def check_version(program: Path) -> str:
    """What it says of its version. Raises `ChaosError` for one before 2.1, which lacks toxics that
    are used here."""
    try:
        ran = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=_START_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ChaosError(f"{program}: cannot be run: {error}") from None
    text = (ran.stdout or ran.stderr).strip()
    found = _VERSION.search(text)
    if found is None:
        first = text.splitlines()[0] if text else "nothing"
        raise ChaosError(
            f"{program}: does not tell its version (it says {first!r}); Toxiproxy 2 is needed: "
            f"make toxiproxy"
        )
    if found[1] and int(found[1]) != 2:
        raise ChaosError(
            f"{program}: is Toxiproxy {found[1]}.{found[2]}, and 2 is needed: make toxiproxy"
        )
    return text


def _library() -> Any:
    try:
        from toxiproxy import Toxiproxy
    except ImportError:
        raise ChaosError(
            "the Python package toxiproxy-python is not installed: pip install 'raftmail[test]'"
        ) from None
    return Toxiproxy()


@dataclass(slots=True)
class ProxyLinks:
    """A running Toxiproxy server with a proxy for every way between two nodes."""

    process: subprocess.Popen[bytes]
    server: Any
    proxies: dict[Way, Any] = field(default_factory=dict)
    _closed: Counter[Way] = field(default_factory=Counter)
    _toxics: dict[str, list[tuple[Way, str]]] = field(default_factory=dict)
    _late: set[tuple[Way, str]] = field(default_factory=set)
    """Toxics whose coming the server did not confirm in time."""

    @classmethod
    def start(
        cls,
        program: Path,
        log: Path,
        peers: Mapping[str, str],
        take_port: Callable[[], str],
    ) -> ProxyLinks:
        """Start the server and make the proxies. Raises `ChaosError`."""
        server = _library()
        host, _, port = take_port().rpartition(":")
        # What a proxy for the web is asked for must not be asked for this.
        os.environ["NO_PROXY"] = ",".join(filter(None, (os.environ.get("NO_PROXY"), host)))
        with open(log, "ab") as out:
            process = subprocess.Popen(
                leashed([str(program), "-host", host, "-port", port]),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self = cls(process, server)
        try:
            server.update_api_consumer(host, int(port))
            self._wait(log)
            for i in peers:
                for j, address in peers.items():
                    if i != j:
                        made = server.create(address, f"{i}-{j}", listen=take_port())
                        self.proxies[i, j] = made
            self._probe(program)
            if not self.is_running:  # and it was another's that answered
                raise ChaosError(f"{PROGRAM} ended with status {process.returncode}: {log}")
        except ChaosError:
            self.stop()
            raise
        except Exception as error:
            self.stop()
            raise ChaosError(f"{program}: does not answer as Toxiproxy 2 does: {error!r}") from None
        return self

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + _START_S
        while not self.server.running():
            if self.process.poll() is not None:
                raise ChaosError(f"{PROGRAM} ended with status {self.process.returncode}: {log}")
            if time.monotonic() > deadline:
                raise ChaosError(f"{PROGRAM} does not answer after {_START_S:.0f} s: {log}")
            time.sleep(_POLL_S)

    def _probe(self, program: Path) -> None:
        """See that the server has the newest kind of toxic that is used: those built from source do
        not tell their version."""
        from toxiproxy.exceptions import InvalidToxic

        proxy = next(iter(self.proxies.values()))
        try:
            proxy.add_toxic(type="reset_peer", name="probe", toxicity=0.0)
        except InvalidToxic:
            raise ChaosError(
                f"{program}: this Toxiproxy is too old (it has no reset_peer): make toxiproxy"
            ) from None
        proxy.destroy_toxic("probe")

    @property
    def addresses(self) -> dict[Way, str]:
        """Where each node dials each other."""
        return {way: str(proxy.listen) for way, proxy in self.proxies.items()}

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    # -- faults, each under a name of its own

    async def cut(self, fault: str, ways: Iterable[Way]) -> None:
        """Let nothing through on these ways, without a word to anybody; connections stay."""
        await self.poison(fault, ways, "timeout", {"timeout": 0})

    async def poison(
        self,
        fault: str,
        ways: Iterable[Way],
        kind: str,
        attributes: Mapping[str, int],
        toxicity: float = 1.0,
    ) -> None:
        """Put a toxic on these ways; `toxicity` is the share of connections that get it."""
        placed = self._toxics.setdefault(fault, [])
        for i, j in ways:
            for way, stream in (((i, j), "upstream"), ((j, i), "downstream")):
                name = f"{fault}-{kind}-{stream}"
                placed.append((way, name))
                add = partial(
                    self.proxies[way].add_toxic,
                    type=kind,
                    name=name,
                    stream=stream,
                    toxicity=toxicity,
                    attributes=dict(attributes),
                )
                try:
                    await self._call(add)
                except _Late:
                    self._late.add((way, name))

    async def close(self, pairs: Iterable[Way]) -> None:
        """End the connections between these nodes and refuse new ones. Undone by `open`, as often
        as it was done."""
        for way in _both(pairs):
            self._closed[way] += 1
            if self._closed[way] == 1:
                await self._call(self.proxies[way].disable)

    async def open(self, pairs: Iterable[Way]) -> None:
        for way in _both(pairs):
            self._closed[way] -= 1
            if self._closed[way] == 0:
                await self._call(self.proxies[way].enable)

    async def cure(self, fault: str) -> None:
        """Take away what was put under a name."""
        from toxiproxy.exceptions import NotFound

        for way, name in self._toxics.pop(fault, []):
            take_away = partial(self.proxies[way].destroy_toxic, name)
            if (way, name) in self._late:
                self._late.discard((way, name))
                await asyncio.sleep(_LATE_S)  # so that it does not come only now
            with contextlib.suppress(NotFound):
                await self._call(take_away)

    async def heal(self) -> None:
        """Undo everything."""
        self._toxics.clear()
        self._closed.clear()
        await self._call(self.server.reset)

    async def _call(self, ask: Callable[[], T]) -> T:
        task = asyncio.create_task(asyncio.to_thread(ask))
        try:
            await asyncio.wait({task}, timeout=_CALL_S)
        except asyncio.CancelledError:
            # It comes about all the same; only then can it be undone.
            await asyncio.wait({task}, timeout=_CALL_S)
            raise
        if not task.done():
            raise ChaosError(f"{PROGRAM} does not answer within {_CALL_S:.0f} s")
        try:
            return task.result()
        except ValueError as error:  # of a body that is no JSON: there was none
            raise _Late(f"{PROGRAM} answered nothing: {error}") from None
        except OSError as error:  # all else that requests raises
            raise ChaosError(f"{PROGRAM} does not answer: {error}") from None

    def stop(self) -> None:
        """End the server."""
        self.process.kill()
        self.process.wait()


def _both(pairs: Iterable[Way]) -> set[Way]:
    return {way for i, j in pairs for way in ((i, j), (j, i))}
