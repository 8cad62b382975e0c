"""HTTP on a connection: limits, time, order."""

from __future__ import annotations

import pytest

from raftmail.frontends.web.limits import WebLimits
from raftmail.net.session import Bye
from tests.frontends.web.web_kit import Browser, parsed

PAGE = "/mail/config-v1.1.xml?emailaddress=anna@example.org"
REQUEST = f"GET {PAGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_a_page_is_answered_and_the_connection_stays() -> None:
    browser = Browser()
    for _ in range(3):
        status, headers, body = browser.get(PAGE)
        assert status == 200 and len(body) == int(headers["content-length"])
        assert headers["cache-control"] == "no-store"
    assert not browser.connection.closed and browser.session.known


def test_requests_that_come_together_are_answered_in_order_and_byte_by_byte_too() -> None:
    together = Browser().send(REQUEST + REQUEST.replace(b"mail/", b"none/") + REQUEST)
    assert [part[:3] for part in together.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]
    assert Browser().send(REQUEST, step=1) == Browser().send(REQUEST)


def test_head_has_the_headers_of_get_and_no_body() -> None:
    browser = Browser()
    status, headers, body = browser.get(PAGE, "HEAD")
    assert (status, body) == (200, b"") and int(headers["content-length"]) > 100
    assert browser.get(PAGE)[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "OPTIONS"])
def test_other_methods_hear_what_is_allowed(method: str) -> None:
    status, headers, _ = Browser().get(PAGE, method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_a_client_of_http_1_0_is_answered_and_let_go() -> None:
    browser = Browser()
    answer = browser.send(f"GET {PAGE} HTTP/1.0\r\n\r\n".encode())
    assert parsed(answer)[0] == 200 and browser.connection.closed


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"EHLO there\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a%0d%0ab HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(sent: bytes) -> None:
    answer = Browser().send(sent)
    assert 400 <= parsed(answer)[0] < 502


def test_a_head_without_an_end_is_refused_at_the_limit() -> None:
    browser = Browser(limits=WebLimits(head_bytes_max=1000))
    answer = browser.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 2000)
    assert parsed(answer)[0] == 431 and browser.connection.closed


def test_a_body_beyond_the_limit_is_refused_however_it_is_sent() -> None:
    head = b"POST /autodiscover/autodiscover.xml HTTP/1.1\r\nHost: x\r\n"
    for rest in (
        b"Content-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"Transfer-Encoding: chunked\r\n\r\n" + b"3e8\r\n" + b"x" * 1000 + b"\r\n" + b"1\r\ny\r\n",
    ):
        browser = Browser(limits=WebLimits(body_bytes_max=1000))
        assert parsed(browser.send(head + rest))[0] == 413
        assert browser.connection.closed
        assert browser.session.held_bytes <= 5000


def test_who_waits_for_a_go_on_gets_it_before_the_body() -> None:
    browser = Browser()
    head = b"POST /autodiscover/autodiscover.xml HTTP/1.1\r\nHost: x\r\n"
    head += b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    assert browser.send(head).startswith(b"HTTP/1.1 100 ")
    assert parsed(browser.send(b"hi"))[0] == 200


def test_a_request_that_is_slow_hears_so_and_a_silent_connection_is_closed() -> None:
    slow = Browser(limits=WebLimits(request_s=10.0))
    slow.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
    slow.session.check(10.0)
    assert not slow.connection.closed
    slow.session.check(10.1)
    assert parsed(bytes(slow.connection.out))[0] == 408 and slow.connection.closed
    silent = Browser(limits=WebLimits(request_s=10.0))
    silent.session.check(10.1)
    assert silent.connection.closed and not silent.connection.out


def test_a_connection_is_closed_after_so_many_requests() -> None:
    browser = Browser(limits=WebLimits(requests_max=2))
    assert "connection" not in browser.get(PAGE)[1]
    assert browser.get(PAGE)[1]["connection"] == "close" and browser.connection.closed


@pytest.mark.parametrize(("why", "status"), [(Bye.FULL, 503), (Bye.STOPPING, None)])
def test_a_goodbye_is_one_of_http(why: Bye, status: int | None) -> None:
    browser = Browser()
    browser.session.bye(why, why.value)
    assert browser.connection.closed
    out = bytes(browser.connection.out)
    assert (parsed(out)[0] if out else None) == status
