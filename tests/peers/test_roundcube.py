"""Roundcube logs in, lists, opens, marks, moves, finds and sends."""

from __future__ import annotations

import imaplib
from typing import Any

import pytest

from tests.frontends.imap.imap_kit import PASSWORD, USER, message
from tests.peers.mail_cluster import subjects
from tests.peers.roundcube import roundcube
from tests.peers.smtp_sink import smtp_sink
from tests.peers.twin_server import serve

ENCODED = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Tue, 3 Feb 2026 04:05:06 +0100\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; "
    b"charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nsch=C3=B6n\r\n--b\r\n"
    b"Content-Type: application/pdf; name=paper.pdf\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=paper.pdf\r\n\r\naGVsbG8=\r\n--b--\r\n"
)


def _kept(port: int, mailbox: str) -> list[bytes]:
    with imaplib.IMAP4("127.0.0.1", port, timeout=60) as box:
        box.login(USER, PASSWORD)
        assert box.select(mailbox, readonly=True)[0] == "OK"
        found: list[Any] = box.fetch("1:*", "(BODY.PEEK[])")[1]
        return [one[1] for one in found if isinstance(one, tuple)]


def _filled(port: int) -> None:
    with imaplib.IMAP4("127.0.0.1", port, timeout=60) as box:
        box.login(USER, PASSWORD)
        for one in (message("first", "the words of the first"), ENCODED):
            assert box.append("INBOX", None, None, one)[0] == "OK"


@pytest.mark.long
def test_roundcube_shows_marks_moves_finds_and_sends() -> None:
    def talk(port: int) -> None:
        _filled(port)
        with smtp_sink(0) as sink, roundcube(port, sink.port) as browser:
            browser.log_in(USER, PASSWORD)
            rows = browser.listed("INBOX")
            assert set(rows) == {1, 2}
            assert "first" in rows[1]["subject"] and "Grüße" in rows[2]["subject"]
            assert "the words of the first" in browser.shown("INBOX", 1)
            page = browser.shown("INBOX", 2)
            assert "schön" in page and "paper.pdf" in page and "Jürgen" in page
            browser.do("mark", mbox="INBOX", uid="1", flag="flagged")
            for words, uids in (("Grüße", {2}), ("first", {1}), ("nothing like it", set())):
                assert set(browser.found("INBOX", words)) == uids, words
            sent = browser.send("bob@example.org", "from the web", "Hello Bob")
            assert "sent_successfully" in sent or "confirmation" in sent, sent[:3000]
            assert list(subjects(sink.messages)) == ["from the web"]
            assert list(subjects(_kept(port, "Sent"))) == ["from the web"]
            browser.do("move", mbox="INBOX", uid="2", target_mbox="Trash")
            assert set(browser.listed("INBOX")) == {1}
            assert len(_kept(port, "Trash")) == 1
        assert b"\\Flagged" in _flags(port)

    serve(talk)


def _flags(port: int) -> bytes:
    with imaplib.IMAP4("127.0.0.1", port, timeout=60) as box:
        box.login(USER, PASSWORD)
        box.select("INBOX", readonly=True)
        found: bytes = box.fetch("1", "(FLAGS)")[1][0]  # type: ignore[assignment]
        return found
