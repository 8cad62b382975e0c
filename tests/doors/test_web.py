"""Requests of the web are told from commands."""

from __future__ import annotations

import pytest

from raftmail.doors.web import is_web_line


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"get /x",
        b"POST /admin?x=1 HTTP/1.0",
        b"PUT http://127.0.0.1:9001/ HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"CONNECT 127.0.0.1:9002 HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"PROPFIND /dav HTTP/1.1",
        b"LHLO / HTTP/1.1",
        b"NOOP NOOP HTTP/1.1",
        b"Host: 127.0.0.1:9001",
        b"host : x",
        b"User-Agent: curl/8",
        b"Content-Type: text/plain",
        b"Transfer-Encoding: chunked",
        b"Sec-Fetch-Mode: no-cors",
        b"X-Forwarded-For: ::1",
    ],
)
def test_a_line_of_a_web_request_is_known(line: bytes) -> None:
    assert is_web_line(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"a1 NOOP",
        b"GET NOOP",
        b"get COPY 1 1:* 2",
        b"move MOVE 1 * 2",
        b"host HELLO 1",
        b"LHLO mx.example.org",
        b"MAIL FROM:<post/a@example.org>",
        b"RCPT TO:<get@example.org>",
        b"QUIT",
        b"h HELLO 1 client=00",
    ],
)
def test_a_command_is_no_web_request(line: bytes) -> None:
    assert not is_web_line(line)
