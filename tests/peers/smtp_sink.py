"""A server that takes mail by SMTP and keeps it, for programs that send (RFC 5321)."""

from __future__ import annotations

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

_ANSWERS: Final = {
    b"EHLO": b"250 sink\r\n",
    b"HELO": b"250 sink\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}

_HELD_S: Final = 120.0


class SmtpSink(socketserver.ThreadingTCPServer):
    """What was taken is in `messages`, in order.

    It answers the message number `hold_at`, counted from 1, only when `go` is set; `held` says that
    it has come."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, hold_at: int) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.messages: list[bytes] = []
        self._hold_at = hold_at
        self.held, self.go = Event(), Event()

    def take(self, message: bytes) -> None:
        self.messages.append(message)
        if len(self.messages) == self._hold_at:
            self.held.set()
            self.go.wait(_HELD_S)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Talk(socketserver.StreamRequestHandler):
    server: SmtpSink
    timeout = 60.0

    def handle(self) -> None:
        self.wfile.write(b"220 sink\r\n")
        verb = b""
        while verb != b"QUIT" and (line := self.rfile.readline()):
            verb = line[:4].upper()
            self.wfile.write(_ANSWERS.get(verb, b"250 yes\r\n"))
            if verb == b"DATA":
                self.server.take(self._message())
                self.wfile.write(b"250 taken\r\n")

    def _message(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)


@contextmanager
def smtp_sink(hold_at: int) -> Iterator[SmtpSink]:
    with SmtpSink(hold_at) as sink:
        thread = Thread(target=sink.serve_forever)
        thread.start()
        try:
            yield sink
        finally:
            sink.go.set()
            sink.shutdown()
            thread.join()
