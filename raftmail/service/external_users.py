"""Passwords that are judged elsewhere: by a program, or by an HTTP endpoint."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Protocol
from urllib.parse import urlsplit

from raftmail.mail.failures import Failure, Unavailable
from raftmail.service.http_post import post_json
from raftmail.service.login import Origin

_log = logging.getLogger("raftmail.login")

_DOWN: Final = "the source of users does not answer: try again"


class ExternalUsers(Protocol):
    """A source of users that is not the cluster's."""

    async def check(self, user: str, password: bytes, origin: Origin) -> bool:
        """Whether it is the user's password. Raises `Unavailable` where that is not known."""


@dataclass(frozen=True, slots=True, repr=False)
class CheckingProgram:
    """A program like `checkpassword` (https://cr.yp.to/checkpwd/interface.html).

    It reads `user NUL password NUL NUL` from descriptor 3. Exit status 0 says that the password is
    right, 1 that it is not, and any other that nobody knows. It finds the client's address in
    TCPREMOTEIP and the protocol in PROTO. One that takes longer than `timeout_s` is killed."""

    command: tuple[str, ...]
    timeout_s: float

    async def check(self, user: str, password: bytes, origin: Origin) -> bool:
        """See `ExternalUsers`."""
        if b"\0" in password or "\0" in user:
            return False
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "PROTO": origin.protocol.upper(),
            "TCPREMOTEIP": origin.address,
        }
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                'exec "$@" 3<&0 </dev/null',
                "raftmail",
                *self.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        except OSError as e:
            raise _down(f"{self.command[0]} cannot be started: {e}") from None
        status = await self._talk(process, user.encode() + b"\0" + password + b"\0\0")
        if status in (0, 1):
            return status == 0
        raise _down(f"{self.command[0]} ended with status {status}")

    async def _talk(self, process: asyncio.subprocess.Process, said: bytes) -> int:
        assert process.stdin is not None
        try:
            async with asyncio.timeout(self.timeout_s):
                with suppress(ConnectionError):  # it may end without having read all
                    process.stdin.write(said)
                    await process.stdin.drain()
                    process.stdin.close()
                return await process.wait()
        except TimeoutError:
            raise _down(f"{self.command[0]} took longer than {self.timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await asyncio.shield(process.wait())


@dataclass(frozen=True, slots=True, repr=False)
class PasswordEndpoint:
    """An HTTP endpoint, by https, or by http on this machine.

    It is sent a POST of JSON with `user`, `password`, `address` and `protocol`. Status 200 or 204
    says that the password is right, 401 or 403 that it is not, and any other that nobody knows."""

    url: str
    timeout_s: float
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    async def check(self, user: str, password: bytes, origin: Origin) -> bool:
        """See `ExternalUsers`."""
        try:
            text = password.decode()
        except UnicodeDecodeError:
            return False
        asked = {
            "user": user,
            "password": text,
            "address": origin.address,
            "protocol": origin.protocol,
        }
        try:
            async with asyncio.timeout(self.timeout_s):
                status = await post_json(self.url, json.dumps(asked).encode(), self.context)
        except TimeoutError:
            raise _down(f"it took longer than {self.timeout_s:g} s") from None
        except (OSError, ValueError, asyncio.IncompleteReadError) as e:
            raise _down(str(e) or type(e).__name__) from None
        if status in (200, 204, 401, 403):
            return status < 400
        raise _down(f"it answered with status {status}")


def check_url(text: str) -> str:
    """The URL of an endpoint. Raises ValueError that says what is wrong."""
    url = urlsplit(text)
    host = url.hostname or ""
    if url.scheme not in ("http", "https") or not host or not text.isascii() or "@" in url.netloc:
        raise ValueError("a URL is https://HOST[:PORT]/PATH, without a user")
    if any(character.isspace() for character in text) or url.fragment:
        raise ValueError("a URL has no spaces and no #")
    _ = url.port  # raises for what is no port
    if url.scheme == "http" and not _is_loopback(host):
        raise ValueError("http is for 127.0.0.1, ::1 and localhost alone; use https")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _down(why: str) -> Unavailable:
    _log.warning("the external source of users: %s", why)
    return Unavailable(Failure(_DOWN))
