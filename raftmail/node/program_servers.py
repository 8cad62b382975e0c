"""The servers of mail programs: one for each protocol that has an address in the configuration."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from raftmail.frontends.imap.limits import ImapLimits
from raftmail.frontends.managesieve.limits import ManageSieveLimits
from raftmail.frontends.pop3.limits import Pop3Limits
from raftmail.frontends.web.pages import WebPages
from raftmail.mail.budget import Budget
from raftmail.mail.endpoint import split_address
from raftmail.mail.networks import parse_networks
from raftmail.net.gate import Descriptors, Guests
from raftmail.node.config import Config, ConfigError
from raftmail.service.service import Service

if TYPE_CHECKING:
    from raftmail.frontends.imap.server import ImapServer
    from raftmail.frontends.managesieve.server import ManageSieveServer
    from raftmail.frontends.pop3.server import Pop3Server
    from raftmail.frontends.web.server import WebServer


@dataclass(slots=True, repr=False)
class ProgramServers:
    """`budget` has what literals and bodies of all sessions hold, and `fetching` bodies whose size
    is not known yet. Both are those of the text protocol's clients. `wall` is Unix time."""

    config: Config
    service: Service
    wall: Callable[[], float]
    budget: Budget
    fetching: asyncio.Semaphore
    descriptors: Descriptors
    guests: Guests = field(default_factory=Guests)
    """Mail programs at all ports, which have one limit together."""
    _imap: list[ImapServer] = field(default_factory=list)
    _pop3: list[Pop3Server] = field(default_factory=list)
    _managesieve: list[ManageSieveServer] = field(default_factory=list)
    _web: list[WebServer] = field(default_factory=list)

    async def listen(self, tls: ssl.SSLContext | None) -> None:
        """Listen on every address of the configuration. `tls` is for the ports that begin with it,
        and for STARTTLS and STLS on the others. Raises `ConfigError`."""
        addresses = self.config.listen.programs
        for address, implicit_tls in ((addresses.imap, False), (addresses.imaps, True)):
            if address:
                self._imap.append(server := self._make_imap(tls, implicit_tls=implicit_tls))
                await self._open(server.listen_tcp, address)
        for address, implicit_tls in ((addresses.pop3, False), (addresses.pop3s, True)):
            if address:
                self._pop3.append(pop3 := self._make_pop3(tls, implicit_tls=implicit_tls))
                await self._open(pop3.listen_tcp, address)
        if addresses.managesieve:
            self._managesieve.append(sieve := self._make_managesieve(tls))
            await self._open(sieve.listen_tcp, addresses.managesieve)
        listen = self.config.listen
        for address, web_tls in ((listen.web, None), (listen.webs, tls)):
            if address:
                self._web.append(web := self._make_web(web_tls))
                await self._open(web.listen_tcp, address)

    def take_over(self, config: Config, tls: ssl.SSLContext | None) -> None:
        """Use the limits of this configuration and this context for connections from now on."""
        for server in self._imap:
            server.take_over(_imap_limits(config), tls)
        for pop3 in self._pop3:
            pop3.take_over(_pop3_limits(config), tls)
        for sieve in self._managesieve:
            sieve.take_over(_managesieve_limits(config), tls)
        for web in self._web:
            web.take_over(_web_pages(config), tls)

    async def stop(self, grace_s: float) -> None:
        """Accept no more; sessions end when nothing of theirs is under way."""
        stops = [server.stop for server in self._imap] + [server.stop for server in self._pop3]
        stops += [server.stop for server in self._managesieve]
        stops += [server.stop for server in self._web]
        await asyncio.gather(*(stop(grace_s) for stop in stops))

    async def _open(self, listen_tcp: Callable[..., Awaitable[object]], address: str) -> None:
        config = self.config
        try:
            await listen_tcp(*split_address(address), shared=config.node.workers > 1)
        except OSError as e:
            raise ConfigError(
                f"{config.path}: cannot listen on {address}: {e.strerror or e}"
            ) from None

    def _make_imap(self, tls: ssl.SSLContext | None, *, implicit_tls: bool) -> ImapServer:
        # Loaded where it is wanted: it would be a sixth of what a start loads.
        from raftmail.frontends.imap.context import ImapContext
        from raftmail.frontends.imap.server import ImapServer

        limits = _imap_limits(self.config)
        context = ImapContext(self.service, self.wall, self.budget, self.fetching, limits, tls)
        return ImapServer(
            context, implicit_tls=implicit_tls, descriptors=self.descriptors, guests=self.guests
        )

    def _make_pop3(self, tls: ssl.SSLContext | None, *, implicit_tls: bool) -> Pop3Server:
        from raftmail.frontends.pop3.context import Pop3Context
        from raftmail.frontends.pop3.server import Pop3Server

        context = Pop3Context(self.service, self.budget, _pop3_limits(self.config), tls)
        return Pop3Server(
            context, implicit_tls=implicit_tls, descriptors=self.descriptors, guests=self.guests
        )

    def _make_managesieve(self, tls: ssl.SSLContext | None) -> ManageSieveServer:
        from raftmail.frontends.managesieve.context import ManageSieveContext
        from raftmail.frontends.managesieve.server import ManageSieveServer

        limits = _managesieve_limits(self.config)
        context = ManageSieveContext(self.service, self.budget, limits, tls)
        return ManageSieveServer(context, descriptors=self.descriptors, guests=self.guests)

    def _make_web(self, tls: ssl.SSLContext | None) -> WebServer:
        from raftmail.frontends.web.server import WebServer

        return WebServer(_web_pages(self.config), tls=tls, descriptors=self.descriptors)


def _web_pages(config: Config) -> WebPages:
    return WebPages(config.setup.told, config.setup.told_domains)


def _managesieve_limits(config: Config) -> ManageSieveLimits:
    mail = config.mail
    return ManageSieveLimits(
        connections_max=mail.client_connections_max,
        address_connections_max=mail.address_connections_max,
        deadline_s=float(mail.deadline_s),
        proxy_networks=parse_networks(config.listen.proxy_networks),
    )


def _pop3_limits(config: Config) -> Pop3Limits:
    mail = config.mail
    return Pop3Limits(
        connections_max=mail.client_connections_max,
        address_connections_max=mail.address_connections_max,
        deadline_s=float(mail.deadline_s),
        proxy_networks=parse_networks(config.listen.proxy_networks),
    )


def _imap_limits(config: Config) -> ImapLimits:
    mail = config.mail
    return ImapLimits(
        connections_max=mail.client_connections_max,
        address_connections_max=mail.address_connections_max,
        deadline_s=float(mail.deadline_s),
        message_bytes_max=mail.message_bytes_max,
        proxy_networks=parse_networks(config.listen.proxy_networks),
    )
