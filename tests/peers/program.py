"""Programs of Debian in the tests: each runs as an ordinary user, in a folder of its own."""

from __future__ import annotations

import os
import pty
import pwd
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

RUN_S = 120.0


def need(program: str, package: str) -> str:
    """The path of a program; without it the test is skipped."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program}: install Debian's package {package}")
    return found


class ProgramFolder:
    """Where a program runs: its home, its files, and the user that it runs as."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = os.geteuid() == 0
        self._account = pwd.getpwnam("nobody") if self._root else pwd.getpwuid(os.getuid())
        self.own(folder)

    def own(self, *paths: Path) -> None:
        """Give files to the user that the program runs as."""
        if self._root:
            for path in paths:
                os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def make(self, *names: str) -> Path:
        """A folder, with those above it; the last one's path."""
        path = self.folder
        for name in names:
            path = path / name
            if not path.exists():
                path.mkdir()
                self.own(path)
        return path

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)
        self.own(path)
        return path

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "cwd": self.folder,
            "env": {
                **{k: v for k, v in os.environ.items() if k.startswith("RAFTMAIL")},
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "TERM": "xterm",
                "LANG": "C.UTF-8",
                "TZ": "UTC",
            },
        }
        if self._root:
            options |= {
                "user": self._account.pw_uid,
                "group": self._account.pw_gid,
                "extra_groups": (),
            }
        return options

    def run(
        self, *command: str, given: bytes = b"", patience_s: float = RUN_S
    ) -> subprocess.CompletedProcess[bytes]:
        """What it wrote, and its exit status. Raises TimeoutExpired."""
        return subprocess.run(
            command, input=given, capture_output=True, timeout=patience_s, **self._options()
        )

    def ok(self, *command: str, given: bytes = b"", allowed: Sequence[int] = (0,)) -> bytes:
        """What it wrote; its exit status must be one of these."""
        done = self.run(*command, given=given)
        assert done.returncode in allowed, (command, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def on_terminal(self, *command: str, patience_s: float = RUN_S) -> bytes:
        """What a program that wants a terminal shows until it ends."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            **self._options(),
        )
        os.close(slave)
        shown = b""
        deadline = time.monotonic() + patience_s
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if select.select([master], [], [], 0.2)[0]:
                    try:
                        shown += os.read(master, 65536)
                    except OSError:
                        break
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{command[0]} did not end: {shown[-2000:]!r}") from None
        finally:
            os.close(master)
        assert process.returncode == 0, shown[-2000:]
        return shown

    @contextmanager
    def begun(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """One that runs until it is ended here, with all that it has started. What it writes is in
        the file `said`."""
        with (self.folder / "said").open("wb") as said:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                **self._options(),
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def program_folder() -> Iterator[ProgramFolder]:
    """A temporary folder that an ordinary user reaches, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="peer-"))
    try:
        yield ProgramFolder(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
