"""Starting and stopping a node.

`run` is what the command line calls. Everything foreseeable that keeps a node from starting
(configuration, folders, ports, certificates, damage) ends in one line on stderr and exit code 1.
What must not be survived while it runs ends the process at once with exit code 70. That is a failed
sync, no memory, or an error that nobody foresaw and that was not met in the turn of one replica.
The other nodes go on, and the journal tells the rest at the next start.
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
from contextlib import suppress
from pathlib import Path

import uvloop

from raftmail.consensus.engine import WrongEngine, check_version
from raftmail.net.errors import TRACEBACK, LoopErrors
from raftmail.node.budget import address_limits, check_memory, memory_limits
from raftmail.node.cluster_size import first_size
from raftmail.node.config import Config, ConfigError, load
from raftmail.node.exit_message import EXIT_FAILED, EXIT_FATAL, die, explain, is_foreseen
from raftmail.node.folder import FolderError
from raftmail.node.join import begin_replacing
from raftmail.node.node import Node
from raftmail.node.turn_scheduler import SYNC_THREADS_MAX
from raftmail.node.workers import WorkerMonitor

logger = logging.getLogger(__name__)

UNUSED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""They would end a process that says nothing about them."""

GC_THRESHOLDS = (50_000, 20, 50)
"""Mail makes hardly any cycles: the collector, which looks at everything that lives, need not come
often."""

THREADS_MAX = 2 * SYNC_THREADS_MAX
"""For syncs that answers wait for, and as many for others."""


def run(path: Path, *, replace: bool = False) -> int:
    """Run the node of a configuration file (or its folder) until SIGTERM or SIGINT, as one process
    or as several workers.

    With `replace`, one whose data was lost, which gets new replicas from the others. Returns the
    exit code.
    """
    for number in (signal.SIGHUP, *UNUSED_SIGNALS):
        signal.signal(number, signal.SIG_IGN)  # until the node can do something about them
    try:
        check_version()
        config = load(path)
        sizes = [first_size(worker) for worker in config.every_worker]
        check_memory(config, sizes, memory_limits(), address_limits())
        if replace:
            begin_replacing(config)
    except (ConfigError, FolderError, WrongEngine, OSError) as e:
        return _refuse(e)
    _log_as(config.node.name)
    for text in config.retired:
        logger.warning("%s: %s", config.path, text)
    if config.node.workers > 1:
        return WorkerMonitor(config, _run_worker).run()
    return _run_loop(config)


def _log_as(name: str) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s {name} %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    # A line that cannot be written, because the disk is full or nobody reads, is lost, and nothing
    # else happens.
    logging.raiseExceptions = False


def _run_worker(config: Config) -> int:
    _log_as(config.node.name)
    return _run_loop(config)


def _run_loop(config: Config) -> int:
    try:
        return uvloop.run(_serve(config))
    except Exception as e:
        return _refuse(e)


def _refuse(error: BaseException) -> int:
    """Say why the node does not start, and with which code it ends."""
    if TRACEBACK in os.environ:
        logger.critical("the node does not start", exc_info=error)
    print(f"raftmail: {explain(error)}", file=sys.stderr)  # noqa: T201
    return EXIT_FAILED if is_foreseen(error) else EXIT_FATAL


async def _serve(config: Config) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    LoopErrors(die).install(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    for number in UNUSED_SIGNALS:
        loop.add_signal_handler(number, _note_unused, number)
    with ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="sync") as executor:
        node = Node(config, loop, executor, die, time.time)
        loop.add_signal_handler(signal.SIGHUP, node.reload)
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
        except Exception as e:
            stopping.cancel()
            code = _refuse(e)
            with suppress(Exception):  # of what did not start, not all can be stopped
                await node.stop()
            return code
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


def _note_unused(number: signal.Signals) -> None:
    logger.info("%s has no meaning here; SIGHUP reloads the configuration", number.name)
