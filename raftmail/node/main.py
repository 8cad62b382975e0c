"""Starting and stopping a node.

`run` is what the command line calls. Everything foreseeable that keeps a node from starting
(configuration, folders, ports, certificates, damage) ends in one line on stderr and exit code 1.
What must not be survived while it runs (a failed sync, damage, a broken promise of Raft) ends the
process at once with exit code 70: the other replicas go on, and the journal tells the rest at the
next start.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import uvloop

from raftmail.consensus.appends import Diverged
from raftmail.consensus.engine import WrongEngine, check_version
from raftmail.consensus.journal import JournalError
from raftmail.node.config import Config, ConfigError, load
from raftmail.node.folder import FolderError
from raftmail.node.joining import begin_replacing
from raftmail.node.node import Node
from raftmail.node.turns import SYNC_THREADS_MAX
from raftmail.node.workers import Watch
from raftmail.storage.blobs import BlobsDamaged
from raftmail.storage.disk import DiskError
from raftmail.storage.index import IndexDamaged
from raftmail.wire.tls import TlsError

logger = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_FATAL = 70

GC_THRESHOLDS = (50_000, 20, 50)
"""Mail makes hardly any cycles: the collector, which looks at everything that lives, need not come often."""

THREADS_MAX = 2 * SYNC_THREADS_MAX
"""For syncs that answers wait for, and as many for others."""

_START_ERRORS = (
    ConfigError,
    FolderError,
    JournalError,
    BlobsDamaged,
    IndexDamaged,
    DiskError,
    TlsError,
    WrongEngine,
    OSError,
    ValueError,
)


def run(path: Path, *, replace: bool = False) -> int:
    """Run the node of a configuration file (or its folder) until SIGTERM or SIGINT, as one process or as several workers; with
    `replace`, one whose data was lost, which gets new replicas from the others. Returns the exit code."""
    try:
        check_version()
        config = load(path)
        if replace:
            begin_replacing(config)
    except (ConfigError, FolderError, WrongEngine) as e:
        return _refuse(e)
    _log_as(config.node.name)
    for text in config.retired:
        logger.warning("%s: %s", config.path, text)
    if config.node.workers > 1:
        return Watch(config, _run_worker).run()
    return uvloop.run(_serve(config))


def _log_as(name: str) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s {name} %(levelname)s %(name)s: %(message)s",
        force=True,
    )


def _run_worker(config: Config) -> int:
    _log_as(config.node.name)
    return uvloop.run(_serve(config))


def _refuse(error: BaseException) -> int:
    print(f"raftmail: {error}", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="sync") as executor:
        node = Node(config, loop, executor, _die, time.time)
        starting = loop.create_task(node.start())
        stopping = loop.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await node.stop()
            return 0
        try:
            await starting
        except _START_ERRORS as e:
            stopping.cancel()
            await node.stop()
            return _refuse(e)
        # What was made at the start stays: keep the collector from looking at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        logger.info("started, pid %d", os.getpid())
        await stopping
        logger.info("stopping")
        await node.stop()
        logger.info("stopped")
    return 0


def _die(error: BaseException) -> None:
    """An error that must not be survived: stop before anything is acknowledged on top of it."""
    if isinstance(error, Diverged | DiskError | IndexDamaged | JournalError):
        logger.critical("the node stops: %s", error)
    else:
        logger.critical("the node stops after an error that it does not know", exc_info=error)
    logging.shutdown()
    os._exit(EXIT_FATAL)
