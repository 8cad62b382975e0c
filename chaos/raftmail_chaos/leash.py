"""Becomes a program that is killed when the process that started it ends, however that ends.

Run by path, with the pid of who starts it, the network namespace to go into ("" to stay), and the
program's argv: nothing of what a chaos run started may outlive it, not even when the run itself is
killed. Linux alone can do that (prctl(2), PR_SET_PDEATHSIG), and execve(2) keeps it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET = 0x40000000


def leashed(argv: list[str], network: str = "") -> list[str]:
    """The argv that runs `argv` as a program that ends with this process. To be started from the
    main thread.

    `network` is the path of a network namespace, which root can go into."""
    here = str(Path(__file__).resolve())
    return [sys.executable, "-I", "-S", here, str(os.getpid()), network, *argv]


def main(parent: int, network: str, argv: list[str]) -> None:
    """Become the program. Ends at once when the parent is gone already, or the namespace cannot be
    entered."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    if network:
        fd = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            sys.exit(f"{network}: cannot be entered: {os.strerror(ctypes.get_errno())}")
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
