"""Clients that people write programs with, as they are: what they call is understood, and what they
are told they read."""

from __future__ import annotations

import asyncio
import imaplib
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.frontends.imap.imap_kit import PASSWORD, USER, ImapClient, message, run
from tests.frontends.imap.strict_imaplib import StrictImaplib
from tests.frontends.twin_service import TwinService
from tests.peers.twin_server import PATIENCE_S, serve

imapclient = pytest.importorskip("imapclient", reason="IMAPClient is not installed")
aioimaplib = pytest.importorskip("aioimaplib", reason="aioimaplib is not installed")

WORDS = [message(word) for word in ("one", "two", "three")]
FAR_S = 60.0


def test_imaplib_does_what_it_can() -> None:
    def talk(port: int) -> None:
        with StrictImaplib("127.0.0.1", port, timeout=FAR_S) as box:
            assert box.login(USER, PASSWORD)[0] == "OK"
            assert box.create('"Sent Mail"')[0] == "OK"
            for body in WORDS:
                date = imaplib.Time2Internaldate(datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC))
                status, told = box.append("INBOX", "(\\Seen)", date, body)
                assert status == "OK" and b"APPENDUID" in told[0]
            names = [line.rsplit(b" ", 1)[-1] for line in box.list()[1] if isinstance(line, bytes)]
            assert b"INBOX" in names
            assert box.select("INBOX") == ("OK", [b"3"])
            assert box.search(None, "SUBJECT", "two") == ("OK", [b"2"])
            assert box.sort("(REVERSE ARRIVAL)", "UTF-8", "ALL")[0] == "OK"
            assert box.thread("REFERENCES", "UTF-8", "ALL")[0] == "OK"
            found: Any = box.fetch("2", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")[1]
            assert found[0][1] == WORDS[1]
            assert b'"03-Feb-2026 04:05:06 +0000"' in found[0][0].replace(b'" ', b'"0')
            assert box.store("1", "+FLAGS", "(\\Flagged $Forwarded)")[0] == "OK"
            assert b"$Forwarded" in box.uid("FETCH", "1", "(FLAGS)")[1][0]
            assert box.copy("1", '"Sent Mail"')[0] == "OK"
            assert box.uid("MOVE", "3", '"Sent Mail"')[0] == "OK"
            assert box.store("1", "+FLAGS", "(\\Deleted)")[0] == "OK"
            assert box.expunge() == ("OK", [b"3", b"1"])  # the first is of MOVE
            assert box.status('"Sent Mail"', "(MESSAGES UIDNEXT)")[1][0].endswith(
                b"(MESSAGES 2 UIDNEXT 3)"
            )
            assert box.noop()[0] == "OK"
            assert box.unselect()[0] == "OK"
            assert box.enable("CONDSTORE")[0] == "OK"

    serve(talk)


def opened(port: int) -> Any:
    client = imapclient.IMAPClient("127.0.0.1", port, ssl=False, timeout=FAR_S)
    client.login(USER, PASSWORD)
    return client


def test_imapclient_does_what_it_can() -> None:
    def talk(port: int) -> None:
        with opened(port) as client:
            assert client.has_capability("UIDPLUS")
            client.create_folder("Entwürfe & mehr")
            assert "Entwürfe & mehr" in [name for _, _, name in client.list_folders()]
            client.subscribe_folder("Entwürfe & mehr")
            assert [name for _, _, name in client.list_sub_folders()] == ["Entwürfe & mehr"]
            for body in WORDS:
                client.append("INBOX", body, flags=[imapclient.SEEN])
            assert client.multiappend("Entwürfe & mehr", WORDS)
            chosen = client.select_folder("INBOX")
            assert chosen[b"EXISTS"] == 3 and chosen[b"UIDNEXT"] == 4
            assert client.search(["SUBJECT", "two"]) == [2]
            assert client.search(["SUBJECT", "größe"], charset="UTF-8") == []
            assert client.sort(["REVERSE ARRIVAL"]) and client.thread()
            found = client.fetch([1, 2], ["ENVELOPE", "BODYSTRUCTURE", "FLAGS", "BODY.PEEK[]"])
            assert found[2][b"ENVELOPE"].subject == b"two"
            assert found[2][b"BODY[]"] == WORDS[1]
            assert found[1][b"BODYSTRUCTURE"][0].lower() == b"text"
            assert client.add_flags([1], [imapclient.FLAGGED])[1] == (b"\\Seen", b"\\Flagged")
            client.copy([1], "Entwürfe & mehr")
            client.move([3], "Entwürfe & mehr")
            client.delete_messages([1])
            client.uid_expunge([1])
            assert client.search() == [2]
            assert client.folder_status("Entwürfe & mehr", ["MESSAGES"]) == {b"MESSAGES": 5}
            client.unselect_folder()
            client.rename_folder("Entwürfe & mehr", "Drafts")
            client.delete_folder("Drafts")
            if client.has_capability("QUOTA"):
                client.get_quota_root("INBOX")

    serve(talk)


def test_imapclient_hears_of_new_mail_while_it_idles() -> None:
    def talk(port: int) -> None:
        with opened(port) as client, opened(port) as other:
            other.append("INBOX", WORDS[0])
            client.select_folder("INBOX")
            client.idle()
            other.append("INBOX", WORDS[1])
            heard: list[Any] = []
            deadline = time.monotonic() + FAR_S
            while (2, b"EXISTS") not in heard and time.monotonic() < deadline:
                heard += client.idle_check(timeout=1)
            assert (2, b"EXISTS") in heard
            client.idle_done()
            assert client.search() == [1, 2]

    serve(talk)


def test_aioimaplib_does_what_it_can() -> None:
    async def talk(first: ImapClient, _: TwinService) -> None:
        await first.log_in()
        await first.ok("APPEND INBOX {}", WORDS[0])
        client = aioimaplib.IMAP4("127.0.0.1", first.port, timeout=FAR_S)
        await client.wait_hello_from_server()
        assert (await client.login(USER, PASSWORD)).result == "OK"
        assert (await client.append(WORDS[1], "INBOX", "(\\Seen)")).result == "OK"
        listed = await client.list('""', "*")
        assert any(line.endswith(b"INBOX") for line in listed.lines)
        assert (await client.select("INBOX")).result == "OK"
        found = await client.search("SUBJECT", "two")
        assert found.lines[0] == b"2"
        fetched = await client.uid("fetch", "1:*", "(FLAGS BODY.PEEK[])")
        assert [bytes(one) for one in fetched.lines if isinstance(one, bytearray)] == WORDS[:2]
        assert (await client.store("1", "+FLAGS", "(\\Flagged)")).result == "OK"
        assert (await client.create("Kept")).result == "OK"
        assert (await client.copy("1", "Kept")).result == "OK"
        assert (await client.move("2", "Kept")).result == "OK"
        idle = await client.idle_start(timeout=FAR_S)
        await first.ok("APPEND INBOX {}", WORDS[2])
        heard = []
        while b"2 EXISTS" not in heard:
            heard += await client.wait_server_push(timeout=FAR_S)
        client.idle_done()
        await asyncio.wait_for(idle, FAR_S)
        assert (await client.store("1", "+FLAGS", "(\\Deleted)")).result == "OK"
        assert (await client.expunge()).result == "OK"
        assert (await client.status("Kept", "(MESSAGES)")).lines[0] == b"Kept (MESSAGES 2)"
        assert (await client.logout()).result == "OK"

    run(talk, patience_s=PATIENCE_S)


def test_many_blocking_clients_at_once_see_one_mailbox() -> None:
    def talk(port: int) -> None:
        failed: list[BaseException] = []

        def one(number: int) -> None:
            try:
                with StrictImaplib("127.0.0.1", port, timeout=FAR_S) as box:
                    box.login(USER, PASSWORD)
                    assert box.append("INBOX", None, None, message(f"from {number}"))[0] == "OK"
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        with StrictImaplib("127.0.0.1", port, timeout=FAR_S) as box:
            box.login(USER, PASSWORD)
            assert box.select("INBOX") == ("OK", [b"4"])

    serve(talk)
