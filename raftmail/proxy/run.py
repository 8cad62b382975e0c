"""The process of the proxy: signals, log and exit status."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvloop

from raftmail.net.errors import LoopErrors, describe
from raftmail.proxy.config import ProxyConfig, ProxyConfigError
from raftmail.proxy.mail_proxy import MailProxy, ProxiedCluster

_log = logging.getLogger("raftmail.proxy")

_FAILED = 70
"""EX_SOFTWARE of sysexits.h: a fault that is of no connection."""


def run_proxy(config: ProxyConfig, cluster: ProxiedCluster) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. SIGHUP has the certificate read again. Raises
    `ProxyConfigError`."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.raiseExceptions = False
    return uvloop.run(_serve(config, cluster))


async def _serve(config: ProxyConfig, cluster: ProxiedCluster) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    broken: list[BaseException] = []

    def fail(error: BaseException) -> None:
        _log.critical("the proxy ends over a fault of its own: %s", describe(error))
        broken.append(error)
        stop.set()

    LoopErrors(fail).install(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    proxy = MailProxy(config, cluster)
    loop.add_signal_handler(signal.SIGHUP, _renew, proxy)
    try:
        await proxy.start()
        _log.info("started, for %d nodes", len(cluster.nodes))
        await stop.wait()
        _log.info("stopping")
    finally:
        await proxy.stop()
    return _FAILED if broken else 0


def _renew(proxy: MailProxy) -> None:
    """SIGHUP: a certificate was renewed."""
    try:
        proxy.renew_certificate()
    except ProxyConfigError as e:
        _log.error("the certificate from before is kept: %s", e)
    else:
        _log.info("the certificate was read again")
