"""Child processes and event loops, as every measurement here needs them."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.01
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """A measurement cannot be taken; the text says why and what would help."""


@contextmanager
def first_of_group() -> Iterator[None]:
    """What tasks of a group raise comes out as what it is: of several BenchErrors, the first."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors, others = group.split(BenchError)
        if errors is None or others is not None:
            raise
        error: BaseException = errors
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed, because a generator's CPU is taken from what it measures."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def require_program(name: str, package: str, folders: str = "/usr/sbin:/usr/bin") -> Path:
    """Where the program is; BenchError naming the Debian package when it is missing."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{folders}")
    if found is None:
        raise BenchError(f"{name} is not installed: install Debian's package {package}")
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 that nobody listened on a moment ago."""
    with ExitStack() as stack:
        ports: list[int] = []
        for _ in range(count):
            held = stack.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
        return ports


def stop_session(process: subprocess.Popen[bytes], grace_s: float = 10.0) -> None:
    """End a process started with ``start_new_session``, then whatever is left of its group.

    SIGTERM first; SIGKILL to the group after ``grace_s``, or for children that stayed behind.
    Returns when none of them is left, or after another ``grace_s``.
    """
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline_s = time.monotonic() + grace_s
    while time.monotonic() < deadline_s:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(_POLL_S)


def session_cpu_s(session_id: int) -> float:
    """CPU seconds used so far by all processes of a session, with the children they reaped.

    Processes that end between two calls are counted through the parent that waited for them.
    """
    ticks = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text()
        except OSError:
            continue
        # The name stands in brackets and may hold spaces; the fields after it may not.
        fields = stat.rpartition(")")[2].split()
        if int(fields[3]) == session_id:
            ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class CpuUse:
    """What a stretch of time cost. ``other_cores`` is how many cores were busy on average with
    neither the server nor this process's children, or stolen by the hypervisor: a figure taken
    while it was far from zero is a figure of a disturbed machine.
    """

    server_s: float
    other_cores: float


class CpuMeter:
    """CPU between its making and :meth:`read`; ``server_cpu_s`` tells the server's use so far."""

    def __init__(self, server_cpu_s: Callable[[], float]) -> None:
        self._server_cpu_s = server_cpu_s
        self._before = self._now()

    def read(self) -> CpuUse:
        now = self._now()
        elapsed_s, all_s, server_s, children_s = (
            after - before for after, before in zip(now, self._before, strict=True)
        )
        other_s = max(0.0, all_s - server_s - children_s)
        return CpuUse(server_s=server_s, other_cores=other_s / elapsed_s)

    def _now(self) -> tuple[float, float, float, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (
            time.monotonic(),
            _busy_cpu_s(),
            self._server_cpu_s(),
            children.ru_utime + children.ru_stime,
        )


def _busy_cpu_s() -> float:
    """Seconds that all cores together were not idle since the machine started (proc(5), stat)."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
