"""Fetching an invitation, before anything of the cluster is known: see `raftmail.admin.invitation`
for why that is safe."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing

from raftmail.client.connection import ANSWERS
from raftmail.client.errors import ProtocolError, Refused, TryAgain
from raftmail.frontends.text.values import read_refused
from raftmail.mail.endpoint import dialled
from raftmail.net.lines import Line, LineReader, quote


def fetch_invitation(address: str, invite: str, *, tls: bool, timeout_s: float) -> bytes:
    """The sealed bundle of an invitation, from one node. Whoever answers is not known: the bundle
    proves itself when it is opened.

    Raises `Refused` when the node has no such invitation, `TryAgain` when it cannot be reached,
    `ProtocolError`."""
    try:
        plain = socket.create_connection(dialled(address), timeout_s)
        with closing(plain), closing(_secured(plain) if tls else plain) as connection:
            connection.sendall(b"i INVITE %b\r\ni LOGOUT\r\n" % quote(invite.encode()))
            line = _answer(connection)
    except (OSError, ValueError) as error:
        raise TryAgain(f"{address}: {error}") from None
    if line.words[1:2] == [b"NO"]:
        refused = read_refused(line)
        raise Refused(refused.code, f"{address}: {refused.text}")
    if line.words[1:2] != [b"OK"] or len(line.words) != 3:
        raise ProtocolError(f"{address} does not answer INVITE as a node does")
    return line.words[2]


def _secured(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _answer(connection: socket.socket) -> Line:
    reader = LineReader(ANSWERS)
    while data := connection.recv(1 << 16):
        reader.feed(data)
        while (item := reader.take_one()) is not None:
            line = item if isinstance(item, Line) else Line.of(item) if type(item) is list else None
            if line is not None and line.words[:1] == [b"i"]:
                return line
    raise OSError("closed before it answered")
