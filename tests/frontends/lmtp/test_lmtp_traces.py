"""Whole conversations, kept as text; the name of a file in traces/ is its claim.

`C:` is a line from the client, `C>` are bytes from it (Python escapes, no line end). `S:` is a line
from the server, `M:` a message as the backend gets it. `config:` stands first and sets limits.
`TLS` ends a handshake, `WAIT n` lets n seconds pass, `DRAIN` stops the server, `CLOSED` is its end.

The backend of the traces knows every user but `unknown`, has no word on `later`, and finds the
mailbox of `full` full. RAFTMAIL_REWRITE_TRACES=1 writes what the session answers into the files,
for review.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.frontends.lmtp.config import LmtpConfig
from raftmail.frontends.lmtp.events import (
    Closed,
    Event,
    MessageReceived,
    OutputFull,
    RecipientOffered,
    TlsRequested,
)
from raftmail.frontends.lmtp.protocol import LmtpSession
from raftmail.service.verdicts import Recipient, Verdict

FILES = sorted((Path(__file__).parent / "traces").glob("*.txt"))
Cut = Callable[[bytes], Iterator[bytes]]


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    for index in range(len(data)):
        yield data[index : index + 1]


def is_client(line: str) -> bool:
    return line.startswith(("C:", "C>"))


def client_bytes(line: str) -> bytes:
    if line.startswith("C:"):
        return line[2:].removeprefix(" ").encode() + b"\r\n"
    return line[3:].encode("latin-1").decode("unicode_escape").encode("latin-1")


def read_config(lines: list[str]) -> LmtpConfig:
    config = LmtpConfig(host="mx.example")
    for line in lines:
        if line.startswith("config:"):
            pairs = (pair.split("=") for pair in line[7:].split())
            values: dict[str, Any] = {name: int(value) for name, value in pairs}
            config = replace(config, **values)
    return config


def resolve(event: RecipientOffered) -> Verdict:
    if event.address.user == "unknown":
        return Verdict.unknown_user()
    return Verdict.try_later() if event.address.user == "later" else Verdict.accepted()


def deliver(recipient: Recipient) -> Verdict:
    if recipient.address.user == "full":
        return Verdict(452, "4.2.2", "Mailbox is full")
    return Verdict.delivered(f"Delivered to {recipient.address.user!a}")


class Player:
    """A session with the backend of the traces; `transcript` is what came out of it."""

    def __init__(self, config: LmtpConfig) -> None:
        self.now = 1000.0
        self.transcript: list[str] = []
        self._output = b""
        self._messages: list[str] = []
        self.session = LmtpSession(config, "[192.0.2.1]", self.now)
        self.flush()

    def send(self, data: bytes, cut: Cut) -> None:
        for piece in cut(data):
            self.act(self.session.receive_data(piece, self.now))

    def act(self, event: Event | None) -> None:
        while event is not None:
            if isinstance(event, RecipientOffered):
                event = self.session.answer_recipient(resolve(event), self.now)
            elif isinstance(event, MessageReceived):
                names = ", ".join(f"<{recipient.address}>" for recipient in event.recipients)
                self._messages.append(
                    f"M: <{event.sender or ''}> -> {names}"
                    f"{' utf8' * event.utf8}{' tls' * event.tls} {event.lhlo_name}: {event.body!r}"
                )
                verdicts = [deliver(recipient) for recipient in event.recipients]
                event = self.session.complete(verdicts, self.now)
            elif isinstance(event, OutputFull):
                self._output += self.session.take_output()
                event = self.session.output_sent(self.now)
            else:
                assert isinstance(event, TlsRequested | Closed)
                break
        self._output += self.session.take_output()

    def flush(self) -> None:
        output = self._output + self.session.take_output()
        assert not output or output.endswith(b"\r\n")
        self.transcript += self._messages
        self.transcript += [f"S: {line}" for line in output.decode().split("\r\n")[:-1]]
        self._output, self._messages = b"", []
        if isinstance(self.session.pending, Closed) and "CLOSED" not in self.transcript:
            self.transcript.append("CLOSED")


def play(lines: list[str], cut: Cut) -> list[str]:
    """The lines as they come out when the client's are sent, with those of the server made anew."""
    player = Player(read_config(lines))
    head = [line for line in lines if line.startswith(("#", "config:"))]
    # Client lines with nothing of the server between them were sent together.
    together = {
        index
        for index, (before, after) in enumerate(itertools.pairwise(lines))
        if is_client(before) and is_client(after)
    }
    block = b""
    for index, line in enumerate(lines):
        if is_client(line):
            player.transcript.append(line)
            block += client_bytes(line)
            if index not in together:
                player.send(block, cut)
                player.flush()
                block = b""
        elif line == "TLS":
            player.transcript.append(line)
            player.act(player.session.tls_started(player.now))
            player.flush()
        elif line.startswith("WAIT "):
            player.transcript.append(line)
            player.now += float(line[5:])
            player.act(player.session.expire(player.now))
            player.flush()
        elif line == "DRAIN":
            player.transcript.append(line)
            player.act(player.session.drain(player.now))
            player.flush()
        else:
            assert line.startswith(("#", "config:", "S:", "M:", "CLOSED")), line
    return head + player.transcript


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_trace(path: Path) -> None:
    lines = path.read_text().splitlines()
    played = play(lines, whole)
    if os.environ.get("RAFTMAIL_REWRITE_TRACES"):
        path.write_text("\n".join(played) + "\n")
    else:
        assert played == lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_trace_is_the_same_byte_by_byte(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert play(lines, bytewise) == lines


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_trace_is_the_same_when_all_is_sent_ahead(path: Path) -> None:
    """Lines of the server between those of the client do not change what it says."""
    lines = path.read_text().splitlines()
    ahead: list[str] = []
    waiting: list[str] = []
    for line in lines:
        if line.startswith(("S:", "M:")):
            waiting.append(line)
        else:
            if not is_client(line):
                ahead += waiting
                waiting = []
            ahead.append(line)
    played = play(ahead + waiting, whole)
    for kind in ("S:", "M:"):
        assert [line for line in played if line.startswith(kind)] == [
            line for line in lines if line.startswith(kind)
        ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_trace_is_the_same_however_it_is_cut(path: Path, cuts: list[int]) -> None:
    def cut(data: bytes) -> Iterator[bytes]:
        start = count = 0
        while start < len(data):
            size = cuts[count % len(cuts)]
            yield data[start : start + size]
            start += size
            count += 1

    lines = path.read_text().splitlines()
    assert play(lines, cut) == lines
