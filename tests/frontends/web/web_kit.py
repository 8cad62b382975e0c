"""A web session without sockets, and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftmail.frontends.web.limits import WebLimits
from raftmail.frontends.web.pages import WebPages
from raftmail.frontends.web.session import WebSession
from raftmail.mail.client_setup import ClientSetup

SETUP = ClientSetup.of(
    "Example Mail",
    {
        "imaps": "mail.example.org:993",
        "imap": "mail.example.org:143",
        "pop3s": "mail.example.org:995",
        "submissions": "smtp.example.org:465",
        "submission": "smtp.example.org:587",
        "managesieve": "mail.example.org:4190",
    },
)


@dataclass
class FakeConnection:
    """In place of `net.connection.Connection`."""

    out: bytearray = field(default_factory=bytearray)
    closed: bool = False
    began_at: float = 0.0
    heard_at: float = 0.0

    def write(self, data: bytes) -> None:
        assert not self.closed, "written after the end"
        self.out += data

    def hang_up(self) -> None:
        self.closed = True


class Browser:
    """Sends bytes to a session and reads answers."""

    def __init__(
        self,
        setup: ClientSetup = SETUP,
        domains: frozenset[str] = frozenset(),
        limits: WebLimits | None = None,
    ) -> None:
        self.connection = FakeConnection()
        pages = WebPages(setup, domains)
        self.session = WebSession(pages.answer, self.connection, limits or WebLimits())  # type: ignore[arg-type]
        self.session.start()

    def send(self, data: bytes, step: int = 0) -> bytes:
        """All that is answered; `step` bytes at once."""
        for at in range(0, len(data), step or len(data)):
            if not self.connection.closed:
                self.session.receive(data[at : at + (step or len(data))])
        answer = bytes(self.connection.out)
        self.connection.out.clear()
        return answer

    def get(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        return parsed(self.send(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()))

    def post(self, target: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The same, with a body."""
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        return parsed(self.send(head.encode() + body))


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers by their names in small letters, and the body of one answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return int(first.split(" ")[1]), headers, body
