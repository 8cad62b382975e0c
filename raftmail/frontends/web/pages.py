"""What there is on the web: a table of paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from raftmail.frontends.web.apple_profile import KIND, apple_profile
from raftmail.frontends.web.autoconfig import autoconfig
from raftmail.frontends.web.autodiscover import (
    OUTLOOK,
    asked_for,
    autodiscover,
    autodiscover_error,
)
from raftmail.frontends.web.exchange import WebAnswer, WebRequest
from raftmail.mail import addresses
from raftmail.mail.client_setup import ClientSetup

_READS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class WebPages:
    """`domains` are those that are told about, by their A-labels; none is every domain."""

    setup: ClientSetup
    domains: frozenset[str] = frozenset()

    def answer(self, request: WebRequest) -> WebAnswer:
        """Answer any request."""
        methods = _PAGES.get(request.path.lower())
        if methods is None or not self.setup.servers:
            return WebAnswer.text(HTTPStatus.NOT_FOUND, "there is no such page")
        page = methods.get("GET" if request.method == "HEAD" else request.method)
        if page is None:
            allowed = ", ".join(("GET, HEAD" if m == "GET" else m) for m in methods)
            return WebAnswer.text(HTTPStatus.METHOD_NOT_ALLOWED, f"use {allowed}", Allow=allowed)
        return page(self, request)

    def autoconfig(self, request: WebRequest) -> WebAnswer:
        """See `frontends.web.autoconfig`."""
        given = request.query.get("emailaddress", "")
        if not given:
            return WebAnswer.text(
                HTTPStatus.BAD_REQUEST, "say for whom: ?emailaddress=ANNA@EXAMPLE.ORG"
            )
        found = self._user(given)
        if isinstance(found, WebAnswer):
            return found
        address, domain = found
        return WebAnswer.xml(autoconfig(self.setup, domain, address))

    def autodiscover(self, request: WebRequest) -> WebAnswer:
        """See `frontends.web.autodiscover`. Errors have the status 200 there."""
        given, schema = asked_for(request.body)
        if schema not in ("", OUTLOOK):
            return WebAnswer.xml(autodiscover_error(schema=True))
        found = self._user(given)
        if isinstance(found, WebAnswer):
            return WebAnswer.xml(autodiscover_error(schema=False))
        return WebAnswer.xml(autodiscover(self.setup, found[0]))

    def apple(self, request: WebRequest) -> WebAnswer:
        """See `frontends.web.apple_profile`."""
        given = request.query.get("email", "")
        if not given:
            return WebAnswer.text(HTTPStatus.BAD_REQUEST, "say for whom: ?email=ANNA@EXAMPLE.ORG")
        found = self._user(given)
        if isinstance(found, WebAnswer):
            return found
        address, domain = found
        profile = apple_profile(self.setup, domain, address)
        if profile is None:
            return WebAnswer.text(
                HTTPStatus.NOT_FOUND,
                "there is no profile: this site has not set where mail is handed in",
            )
        headers = {"Content-Disposition": 'attachment; filename="mail.mobileconfig"'}
        return WebAnswer(HTTPStatus.OK, KIND, profile, headers)

    def _user(self, given: str) -> tuple[str, str] | WebAnswer:
        """The address in its one form, with its domain. Whether there is such a user is told to
        nobody."""
        try:
            address = addresses.account(given)
        except ValueError as e:
            return WebAnswer.text(HTTPStatus.BAD_REQUEST, f"that is no address: {e}")
        _, at, domain = address.rpartition("@")
        if not at or (self.domains and domain not in self.domains):
            return WebAnswer.text(HTTPStatus.NOT_FOUND, "this site has no mail of that domain")
        return address, domain


_Page = Callable[[WebPages, WebRequest], WebAnswer]

_PAGES: Final[dict[str, dict[str, _Page]]] = {
    "/mail/config-v1.1.xml": {"GET": WebPages.autoconfig},
    "/.well-known/autoconfig/mail/config-v1.1.xml": {"GET": WebPages.autoconfig},
    "/autodiscover/autodiscover.xml": {"POST": WebPages.autodiscover},
    "/apple.mobileconfig": {"GET": WebPages.apple},
}
"""By path in small letters (Outlook writes some large), then by method."""
