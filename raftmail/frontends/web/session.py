"""One connection of the web. HTTP/1.1 is h11's; here are limits, time and order.

A request is answered before the next is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import h11

from raftmail.frontends.web.exchange import WebAnswer, WebRequest
from raftmail.frontends.web.limits import WebLimits
from raftmail.net.connection import Connection
from raftmail.net.session import Bye, Session

_log = logging.getLogger(__name__)

_ALWAYS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: nothing is kept, framed, or taken for something else."""


class WebSession(Session):
    """`answer` is a page's: it returns at once, and raises nothing for what a client sent."""

    def __init__(
        self, answer: Callable[[WebRequest], WebAnswer], connection: Connection, limits: WebLimits
    ) -> None:
        self._answer = answer
        self._connection = connection
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_bytes_max)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._answered = 0
        self._since = connection.began_at

    @property
    def known(self) -> bool:
        """It has sent a whole request."""
        return self._answered > 0

    @property
    def held_bytes(self) -> int:
        """The request that is under way."""
        return len(self._body) + len(self._http.trailing_data[0])

    def receive(self, data: bytes) -> None:
        """Take what came; answer what is whole."""
        try:
            self._http.receive_data(data)
            while self._take(self._http.next_event()):
                pass
        except h11.RemoteProtocolError as e:
            self._refuse(e.error_status_hint, f"that is no request: {e}")

    def check(self, now: float) -> None:
        """Close what has taken too long (RFC 9112 section 9.8)."""
        if now - self._since <= self._limits.request_s:
            return
        if self._request is None:
            self._connection.hang_up()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not come whole in time")

    def postpone(self, paused_s: float) -> None:
        """It was not read from."""
        self._since += paused_s

    def bye(self, why: Bye, text: str) -> None:
        """Say that the node cannot answer now, where a request is under way or none was made."""
        if why is Bye.STOPPING and self._request is None:
            self._connection.hang_up()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, text)

    def _take(self, event: object) -> bool:
        """Whether there may be a further event."""
        if isinstance(event, h11.Request):
            return self._begin(event)
        if isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._limits.body_bytes_max:
                self._refuse(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"a request has at most {self._limits.body_bytes_max} bytes",
                )
                return False
            return True
        if isinstance(event, h11.EndOfMessage):
            return self._end()
        if isinstance(event, h11.ConnectionClosed):
            self._connection.hang_up()
        return False

    def _begin(self, request: h11.Request) -> bool:
        self._request = request
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[])
            self._connection.write(self._http.send(go_on) or b"")
        return True

    def _end(self) -> bool:
        """The request is whole: answer it, and begin anew."""
        assert self._request is not None
        self._answered += 1
        request = self._request
        try:
            asked = WebRequest.read(request.method, request.target, bytes(self._body))
        except ValueError:
            answer = WebAnswer.text(HTTPStatus.BAD_REQUEST, "the target of a request is a path")
        else:
            answer = self._answer(asked)
        self._send(answer, last=self._answered >= self._limits.requests_max)
        self._request = None
        self._body.clear()
        self._since = self._connection.heard_at
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            self._connection.hang_up()
            return False
        self._http.start_next_cycle()
        return True

    def _refuse(self, status: int, text: str) -> None:
        """Answer if that is still possible, and close."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._send(WebAnswer.text(status, text), last=True)
        self._request = None
        self._connection.hang_up()

    def _send(self, answer: WebAnswer, *, last: bool) -> None:
        headers = {
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            **_ALWAYS,
            **answer.headers,
        }
        if last:
            headers["Connection"] = "close"
        reason = HTTPStatus(answer.status).phrase.encode()
        http = self._http
        head = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason)
        write = self._connection.write
        write(http.send(head) or b"")
        asked = self._request.method if self._request is not None else b"GET"
        if asked != b"HEAD":
            write(http.send(h11.Data(data=answer.body)) or b"")
        write(http.send(h11.EndOfMessage()) or b"")
