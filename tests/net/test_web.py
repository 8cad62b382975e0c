"""Requests of the web are told from commands."""

from __future__ import annotations

import pytest

from raftmail.net.web import is_no_command, is_web_line


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
        b"INVITE sip:a@b SIP/2.0",
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


@pytest.mark.parametrize(
    "line",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03abc",
        b"a\x00b",
        b"------WebKitFormBoundary7MA4YWxk",
        b"*1",
        b"$4",
        b"/x",
        b'{"a": 1}',
        b"<policy-file-request/>",
        b"POST / HTTP/1.1",
    ],
)
def test_a_line_of_another_protocol_is_no_command(line: bytes) -> None:
    assert is_no_command(line + b"\r\n")


@pytest.mark.parametrize(
    "line", [b"", b"\t", b"LHLO x", b"lhlo [127.0.0.1]", b"EHLO x", b"MAIL FROM:<\xc3\xa9@x.org>"]
)
def test_a_command_or_a_slip_of_a_client_is_not_taken_for_another_protocol(line: bytes) -> None:
    assert not is_no_command(line + b"\r\n")
