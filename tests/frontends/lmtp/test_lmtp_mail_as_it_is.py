"""Mail that came by LMTP is read by IMAP as it was sent, octet by octet, behind the trace fields of
the server."""

from __future__ import annotations

import asyncio

import pytest

from raftmail.frontends.lmtp.config import LmtpConfig, ServerConfig
from raftmail.frontends.lmtp.server import LmtpServer
from tests.frontends.imap.imap_kit import USER, ImapClient, run
from tests.frontends.imap.machine_service import MachineService
from tests.frontends.twin_service import TwinService

LINES = (997, 998, 999, 1000, 4096, 65537)
"""Octets of a line without its end: about the limits of RFC 5322, and of buffers."""


def with_dots(octets: int, at: tuple[int, ...]) -> bytes:
    """One line with dots at these octets, and about those where buffers are often cut."""
    line = bytearray(b"x" * octets)
    for position in (0, octets - 1, *at):
        for near in (position - 1, position, position + 1):
            if 0 <= near < octets:
                line[near] = ord(".")
    return bytes(line)


MESSAGES: dict[str, bytes] = {
    **{f"a line of {n}": b"S: x\r\n\r\n" + with_dots(n, (4096, 65536)) + b"\r\n" for n in LINES},
    "a line of 3,000,000": b"S: x\r\n\r\n" + with_dots(3_000_000, (65536, 1 << 20)) + b"\r\n",
    "a field of 20,000": b"X-Long: " + b"y" * 20_000 + b"\r\nSubject: z\r\n\r\nbody\r\n",
    "a field of 2,000,000": b"X-Long: " + b"y" * 2_000_000 + b"\r\nSubject: z\r\n\r\nbody\r\n",
    "dots at line starts": b"S: x\r\n\r\n.\r\n..\r\n.x\r\n...\r\nend\r\n",
    "bare line feeds": b"S: x\r\n\r\na\n.\nb\n.\r\nc\r\n",
    "bare carriage returns": b"S: x\r\n\r\na\r.\rb\r\r\n\r.\r\n",
    "all octets from 128": b"S: x\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
    "no header": b"\r\nbody\r\n",
    "nothing": b"",
    "no empty line": b"Subject: x\r\n",
    "a line that is no field": b"Subject: x\r\nno field\r\nTo: y\r\n\r\nbody\r\n",
    "a first line that begins with a space": b" leading\r\nSubject: x\r\n\r\nbody\r\n",
    "a line of From": b"From somebody at some time\r\nSubject: x\r\n\r\nFrom here\r\n",
}


async def delivered(service: MachineService, data: bytes, cut: int) -> None:
    """Deliver stuffed text through a server, in pieces of so many octets."""
    config = ServerConfig(session=LmtpConfig(host="mx.example"))
    server = LmtpServer(service, config, wall_clock=lambda: 1_700_000_000.0)
    _, port = await server.listen_tcp("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"LHLO client.example\r\nMAIL FROM:<a@example.org>\r\n")
        writer.write(b"RCPT TO:<%b>\r\nDATA\r\n" % USER.encode())
        while not (line := await reader.readline()).startswith(b"354"):
            assert line[:1] == b"2", line
        for at in range(0, len(data), cut):
            writer.write(data[at : at + cut])
            await writer.drain()
        assert (await reader.readline()).startswith(b"250")
    finally:
        writer.close()
        await server.stop(grace_s=0.05)


@pytest.mark.parametrize("name", MESSAGES)
def test_what_was_delivered_is_read_octet_by_octet_and_has_its_size(name: str) -> None:
    octets = MESSAGES[name]
    stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    service = MachineService()

    async def talk(client: ImapClient, same: TwinService) -> None:
        await delivered(service, stuffed + b".\r\n", max(len(stuffed) // 40, 1))
        await client.log_in()
        await client.ok("SELECT INBOX")
        await client.ok("FETCH 1 (RFC822.SIZE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT])")
        (told,) = [one.value for one in client.heard if one.kind == "FETCH"]
        whole = told["BODY[]"]
        assert whole.endswith(octets) and told["RFC822.SIZE"] == len(whole)
        assert told["BODY[HEADER]"] + told["BODY[TEXT]"] == whole
        trace = whole.removesuffix(octets) if octets else whole
        assert trace.startswith(b"Return-Path: <a@example.org>\r\n") and trace.endswith(b"\r\n")

    run(talk, service=service)
