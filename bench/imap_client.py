"""A blocking IMAP client that measures: it reads answers without looking into them."""

from __future__ import annotations

import re
import socket
import ssl
import time
from types import TracebackType
from typing import Self

from bench.runtime import BenchError
from raftmail.mail.endpoint import split_address

_TAIL_BYTES = 4096
_READ_BYTES = 1 << 20


class BenchImapClient:
    """One connection that has logged in. With `tls` it begins TLS before that."""

    def __init__(
        self, address: str, user: str, password: str, *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Raises BenchError, OSError."""
        self._count = 0
        self._socket = socket.create_connection(split_address(address), timeout=300.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.recv(_READ_BYTES)  # the greeting
        if tls is not None:
            self.ask("STARTTLS")
            self._socket = tls.wrap_socket(self._socket)
        self.ask(f"LOGIN {user} {password}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, command: str | bytes) -> bytes:
        """The end of what is said to a command, which has to be answered OK. Raises BenchError."""
        self._count += 1
        tag = b"q%d " % self._count
        octets = command.encode() if isinstance(command, str) else command
        self._socket.sendall(tag + octets + b"\r\n")
        tail = b""
        ends = re.compile(rb"(?:^|\r\n)" + tag + rb"[^\r\n]*\r\n\Z")
        while not (tail.endswith(b"\r\n") and ends.search(tail)):
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise BenchError(f"the server closed the connection after {octets[:60]!r}")
            tail = (tail + data)[-max(_TAIL_BYTES, len(data)) :]
        answer = tail[tail.rindex(tag) + len(tag) :]
        if not answer.startswith(b"OK"):
            raise BenchError(f"{octets[:60]!r}: {answer[:200]!r}")
        return tail

    def time_s(self, command: str | bytes) -> float:
        """How long a command takes."""
        begun_s = time.perf_counter()
        self.ask(command)
        return time.perf_counter() - begun_s

    def append(self, mailbox: str, messages: list[bytes]) -> None:
        """Save messages, all with one command."""
        parts = b"".join(b" {%d+}\r\n%b" % (len(one), one) for one in messages)
        self.ask(b"APPEND " + mailbox.encode() + parts)
