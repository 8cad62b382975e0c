"""How a node's process ends, and what it says then: one line with what is wrong, where, and what to
do.

docs/adr/0001-what-ends-what.md has the policy.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Iterator

from raftmail.consensus.engine import WrongEngine
from raftmail.consensus.journal import JournalError
from raftmail.net.errors import TRACEBACK, describe
from raftmail.net.tls import TlsError
from raftmail.node.config import ConfigError
from raftmail.node.folder import FolderError
from raftmail.storage.blobs import BlobsDamaged
from raftmail.storage.disk import DiskError, DiskFull
from raftmail.storage.index import IndexDamaged

logger = logging.getLogger(__name__)

EXIT_FAILED = 1
"""The node did not start, for a reason that it names; or a command was refused."""

EXIT_FATAL = 70
"""Something that must not be survived, or that nobody foresaw."""

_SPEAKING = (
    ConfigError,
    FolderError,
    JournalError,
    BlobsDamaged,
    IndexDamaged,
    DiskError,
    TlsError,
    WrongEngine,
)
"""Errors whose text is written for operators."""

_REMEDIES = {
    errno.EROFS: "its file system is mounted read-only: look at the kernel's log, and mount it "
    "for writing",
    errno.ENOSPC: "there is no space left: make some, and start the node again",
    errno.EDQUOT: "the quota of its owner is used up: raise it, and start the node again",
    errno.EACCES: "the user that runs the node may not: give the node's folder to that user "
    "(chown -R)",
    errno.EPERM: "the user that runs the node may not: give the node's folder to that user (chown "
    "-R)",
    errno.ENOENT: "it is missing: is the disk mounted, and is the path in node.toml right?",
    errno.ENOTDIR: "a part of its path is no folder: is the path in node.toml right?",
    errno.EIO: "the disk failed to read or write it: look at the kernel's log, replace the disk, "
    "and run `raftmail node --replace`",
    errno.EMFILE: "this process may open no more files: raise the limit (ulimit -n, or "
    "LimitNOFILE= in systemd)",
    errno.ENFILE: "this machine can open no more files: raise fs.file-max, or end what has so "
    "many open",
    errno.EADDRINUSE: "another process listens there: stop it (ss -ltnp names it), or change the "
    "address in node.toml",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address: change it in node.toml",
}

_LIMITS = (
    (resource.RLIMIT_AS, "address space (ulimit -v, LimitAS=)"),
    (resource.RLIMIT_DATA, "data (ulimit -d, LimitDATA=)"),
    (resource.RLIMIT_NPROC, "processes and threads (ulimit -u, LimitNPROC=, TasksMax=)"),
)


def explain(error: BaseException) -> str:
    """An error for the operator, in one line without the place in the code, as far as it is one
    that can be foreseen."""
    number = _errno(error)
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, _SPEAKING):
        where = error.filename if error.filename is not None else "the node"
        text = f"{where}: {error.strerror or text}"
    elif isinstance(error, MemoryError):
        text, number = "the node gets no more memory", errno.ENOMEM
    elif _is_no_thread(error):
        text, number = "the node gets no more threads", errno.EAGAIN
    elif not isinstance(error, _SPEAKING):
        return f"{describe(error)}; {_report()}"
    remedy = _remedy(number, error)
    return f"{text}; {remedy}" if remedy and remedy not in text else text


def is_foreseen(error: BaseException) -> bool:
    """Whether `explain` knows what to do about an error."""
    return isinstance(error, (*_SPEAKING, OSError, MemoryError)) or _is_no_thread(error)


def die(error: BaseException) -> None:
    """An error that must not be survived: stop before anything is acknowledged on top of it."""
    try:
        wanted = error if TRACEBACK in os.environ else None
        logger.critical("the node stops: %s", explain(error), exc_info=wanted)
        logging.shutdown()
    finally:
        os._exit(EXIT_FATAL)


def _report() -> str:
    return f"start it again; if it ends so again, run it with {TRACEBACK}=1 and report what it says"


def _remedy(number: int | None, error: BaseException) -> str:
    if number in (errno.ENOMEM, errno.EAGAIN):
        limited = ", ".join(_limited()) or "none: look at the machine's own memory, and at cgroups"
        return f"limits that are set: {limited}"
    if isinstance(error, DiskFull):
        number = errno.ENOSPC
    return _REMEDIES.get(number or 0, "")


def _limited() -> Iterator[str]:
    for limit, name in _LIMITS:
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY:
            yield f"{name} is {soft}"


def _is_no_thread(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "start new thread" in str(error)


def _errno(error: BaseException | None) -> int | None:
    """The system's number for what happened, of an error or of what it came of."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        text = str(error)
        for number in _REMEDIES | {errno.ENOMEM: ""}:
            if text.endswith(os.strerror(number)):
                return number
        error = error.__cause__
    return None
