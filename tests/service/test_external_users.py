"""Passwords that are judged elsewhere."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from raftmail.mail.failures import Unavailable
from raftmail.service.external_users import CheckingProgram, PasswordEndpoint, check_url
from raftmail.service.login import Origin

HERE = Origin("192.0.2.1", "imap")
PATIENCE_S = 60.0


def program(tmp_path: Path, text: str, timeout_s: float = PATIENCE_S) -> CheckingProgram:
    script = tmp_path / "check.py"
    script.write_text(f"import os, sys, time\n{text}\n")
    return CheckingProgram((sys.executable, "-S", str(script), "an argument"), timeout_s)


def ask(source: CheckingProgram | PasswordEndpoint, password: bytes = b"secret") -> bool:
    return asyncio.run(source.check("anna@example.org", password, HERE))


JUDGES = """
data = os.fdopen(3, "rb").read()
said = data == b"anna@example.org\\0secret\\0\\0" and sys.argv[1:] == ["an argument"]
where = (os.environ["TCPREMOTEIP"], os.environ["PROTO"]) == ("192.0.2.1", "IMAP")
sys.exit(0 if said and where and sys.stdin.read() == "" else 1)
"""


def test_a_program_reads_user_and_password_and_judges_by_its_status(tmp_path: Path) -> None:
    source = program(tmp_path, JUDGES)
    assert ask(source)
    assert not ask(source, b"Secret")
    assert not ask(source, b"secret\0x"), "what would be another question is not asked"


def test_the_password_is_nowhere_but_in_what_the_program_reads(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    source = program(
        tmp_path,
        f"""
everything = open("/proc/self/cmdline").read() + open("/proc/self/environ").read()
open({str(shown)!r}, "w").write(everything)
""",
    )
    assert ask(source)
    assert "secret" not in shown.read_text()


@pytest.mark.parametrize("text", ["sys.exit(111)", "sys.exit(2)", "os.kill(os.getpid(), 9)"])
def test_a_program_that_does_not_know_is_no_wrong_password(tmp_path: Path, text: str) -> None:
    with pytest.raises(Unavailable, match="try again"):
        ask(program(tmp_path, text))


def test_a_program_that_is_not_there_is_no_wrong_password() -> None:
    with pytest.raises(Unavailable, match="try again"):
        ask(CheckingProgram(("/nonexistent/checkpassword",), PATIENCE_S))


def test_a_program_that_reads_nothing_may_judge_all_the_same(tmp_path: Path) -> None:
    source = program(tmp_path, "os.close(3)")
    assert ask(source, b"x" * 500_000)


def test_a_program_that_hangs_is_killed_with_what_it_has_begun(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    source = program(
        tmp_path,
        f"""
child = os.fork()
open({str(pids)!r}, "a").write(f"{{os.getpid()}}\\n")
time.sleep(1000)
""",
        timeout_s=3.0,
    )
    with pytest.raises(Unavailable, match="try again"):
        ask(source)
    for pid in pids.read_text().split():
        state = Path(f"/proc/{pid}/stat")
        assert not state.exists() or state.read_text().split(") ")[1][0] == "Z"


Answer = Callable[[bytes, dict[str, str]], bytes]


def serve(answer: Answer, talk: Callable[[PasswordEndpoint], Awaitable[None]]) -> None:
    """An endpoint that answers as a test says."""

    async def main() -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            asked = json.loads(await reader.readexactly(length))
            said = answer(head, asked)
            if said:
                writer.write(said)
                await writer.drain()
            else:
                await reader.read()
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(PATIENCE_S):
                await talk(PasswordEndpoint(f"http://127.0.0.1:{port}/check?x=1", 30.0))
        finally:
            server.close()

    asyncio.run(main())


def test_an_endpoint_is_told_all_and_judges_by_its_status() -> None:
    def answer(head: bytes, asked: dict[str, str]) -> bytes:
        assert head.startswith(b"POST /check?x=1 HTTP/1.1\r\nHost: 127.0.0.1:")
        assert asked.keys() == {"user", "password", "address", "protocol"}
        right = asked == {
            "user": "anna@example.org",
            "password": 'Zoë\'s "secret"',
            "address": "192.0.2.1",
            "protocol": "imap",
        }
        return b"HTTP/1.1 200 OK\r\n\r\n" if right else b"HTTP/1.1 401 Unauthorized\r\n\r\n"

    async def talk(source: PasswordEndpoint) -> None:
        assert await source.check("anna@example.org", 'Zoë\'s "secret"'.encode(), HERE)
        assert not await source.check("anna@example.org", b"other", HERE)
        assert not await source.check("anna@example.org", b"\xff", HERE)

    serve(answer, talk)


@pytest.mark.parametrize(
    ("said", "right"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.0 200\r\n\r\n", True),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", False),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", None),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", None),
        (b"HTTP/1.1 500 Oh\r\n\r\n", None),
        (b"HTTP/1.1 503 Busy\r\n\r\n", None),
        (b"HTTP/1.1 2000\r\n\r\n", None),
        (b"HTTP/1.1 abc\r\n\r\n", None),
        (b"nonsense\r\n", None),
        (b"HTTP/1.1 200", None),
        (b"x" * 100_000, None),
    ],
)
def test_an_endpoint_that_does_not_know_is_no_wrong_password(
    said: bytes, right: bool | None
) -> None:
    async def talk(source: PasswordEndpoint) -> None:
        if right is None:
            with pytest.raises(Unavailable, match="try again"):
                await source.check("anna@example.org", b"secret", HERE)
        else:
            assert await source.check("anna@example.org", b"secret", HERE) is right

    serve(lambda head, asked: said, talk)


def test_an_endpoint_that_is_silent_or_away_is_no_wrong_password() -> None:
    async def talk(source: PasswordEndpoint) -> None:
        silent = PasswordEndpoint(source.url, 0.2)
        with pytest.raises(Unavailable, match="try again"):
            await silent.check("anna@example.org", b"secret", HERE)

    serve(lambda head, asked: b"", talk)
    with pytest.raises(Unavailable, match="try again"):
        ask(PasswordEndpoint("http://127.0.0.1:1/", PATIENCE_S))


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    for source in (
        program(tmp_path, "print(os.fdopen(3).read(), file=sys.stderr); sys.exit(111)"),
        PasswordEndpoint("http://127.0.0.1:1/", PATIENCE_S),
    ):
        with pytest.raises(Unavailable):
            ask(source, b"hunter2-hunter2")
    assert "external source" in caplog.text and "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example.org/check",
        "http://127.0.0.1:8080/",
        "http://[::1]/x",
        "http://localhost",
    ],
)
def test_an_endpoint_is_reached_over_tls_or_on_this_machine(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example.org/",
        "http://10.0.0.1/",
        "ftp://127.0.0.1/",
        "https://",
        "127.0.0.1",
        "https://user:secret@id.example.org/",
        "https://id.example.org/a b",
        "https://id.example.org/#x",
        "https://id.example.org:x/",
        "https://zoë.example/",
        "https://x/\r\nHost: y",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_url(url)
