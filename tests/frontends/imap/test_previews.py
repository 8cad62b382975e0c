"""PREVIEW (RFC 8970): which words it has, what it costs at most, and what LAZY leaves out."""

from __future__ import annotations

import base64

import pytest

from raftmail.frontends.imap import previews
from raftmail.frontends.imap.previews import PreviewCache, preview_of
from raftmail.mail.summary import summarise
from tests.frontends.imap.imap_kit import ImapClient, filled, message, run
from tests.frontends.twin_service import TwinService

HTML = b"Content-Type: text/html; charset=utf-8\r\n\r\n"


def _preview(body: bytes) -> str:
    return preview_of(summarise(body), body)


def _mixed(*parts: bytes) -> bytes:
    head = b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n"
    return head + b"".join(b"--bb\r\n%b\r\n" % part for part in parts) + b"--bb--\r\n"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"Subject: x\r\n\r\n  Hello,\r\n\r\n\tworld. \r\n", "Hello, world."),
        (b"Subject: x\r\n\r\n", ""),
        (b"", ""),
        (b"Content-Type: image/png\r\n\r\nabcdef\r\n", ""),
        (
            b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n",
            "Gr\u00fc\u00dfe",
        ),
        (
            b"Content-Transfer-Encoding: base64\r\n\r\n"
            + base64.b64encode(b"in base 64")
            + b"\r\n",
            "in base 64",
        ),
        (b"Content-Transfer-Encoding: x-other\r\n\r\nabc\r\n", ""),
        (
            HTML + b"<html><head><title>T</title></head><style>p{}</style><p>One<br>two</p>",
            "One two",
        ),
        (HTML + b"a<b>b</b>c &amp; <!-- <p>not</p> -->d<script>if (1<2)</script>", "abc & d"),
        (HTML + b"<style>never ends", ""),
        (HTML + b"so <", "so"),
        (HTML + b"zero&zwnj;width &nbsp; and\x00 more", "zerowidth and more"),
    ],
)
def test_a_preview_is_the_first_words_as_plain_text(body: bytes, shown: str) -> None:
    assert _preview(body) == shown


def test_plain_text_goes_before_html_and_an_attachment_is_none() -> None:
    html, plain = HTML + b"<p>html</p>", b"Content-Type: text/plain\r\n\r\nplain"
    attached = b"Content-Disposition: attachment\r\n" + plain
    assert _preview(_mixed(html, plain)) == "plain"
    assert _preview(_mixed(html, attached)) == "html"
    assert _preview(_mixed(attached)) == ""
    assert _preview(_mixed(b"\r\n \r\n", html)) == "html"


def test_a_preview_has_at_most_200_characters_and_never_more_than_it_reads() -> None:
    assert _preview(b"\r\n" + b"x" * 5000) == "x" * 200
    assert len(_preview(b"\r\n" + b"ab " * 5000)) <= 200
    assert _preview(b"\r\n" + b" " * previews.READ_BYTES_MAX + b"late") == ""
    assert _preview(HTML + b"<style>" * 100_000) == ""


def test_the_cache_keeps_what_was_asked_for_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "PREVIEWS_KEPT_MAX", 2)
    cache = PreviewCache()
    cache.put(b"1", "one")
    cache.put(b"2", "two")
    assert cache.get(b"1") == "one"
    cache.put(b"3", "three")
    assert [cache.get(key) for key in (b"1", b"2", b"3")] == ["one", None, "three"]


def test_fetch_tells_the_preview_and_makes_nothing_seen() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        assert await client.ok("FETCH 1 (PREVIEW FLAGS)") == [
            b'* 1 FETCH (PREVIEW "hello" FLAGS ())'
        ]
        assert await client.ok("FETCH 1 PREVIEW (LAZY)") == [b'* 1 FETCH (PREVIEW "hello")']
        said = await client.ok("UID FETCH 1 preview (CHANGEDSINCE 1)")
        assert said[0].startswith(b'* 1 FETCH (UID 1 PREVIEW "hello" MODSEQ (')

    run(talk)


def test_lazy_is_nil_for_a_message_that_is_long_until_somebody_has_asked() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        long = message("long", "hello" + " more" * previews.LAZY_BYTES_MAX)
        await client.ok("APPEND INBOX {}", long)
        await client.ok("SELECT INBOX")
        assert await client.ok("FETCH 1 (PREVIEW (LAZY))") == [b"* 1 FETCH (PREVIEW NIL)"]
        (line,) = await client.ok("FETCH 1 (PREVIEW)")
        assert line.startswith(b'* 1 FETCH (PREVIEW "hello more')
        assert await client.ok("FETCH 1 (UID PREVIEW (LAZY))") == [
            line.replace(b"(PREVIEW", b"(UID 1 PREVIEW")
        ]

    run(talk)


def test_a_preview_that_is_not_ascii_is_a_literal() -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await client.log_in()
        body = b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        await client.ok("APPEND INBOX {}", body)
        await client.ok("SELECT INBOX")
        (line,) = await client.ok("FETCH 1 PREVIEW")
        assert line == b"* 1 FETCH (PREVIEW {7}\r\nGr\xc3\xbc\xc3\x9fe)"

    run(talk)


@pytest.mark.parametrize("item", ["PREVIEW (EAGER)", "(PREVIEW (LAZY LAZY))", "(PREVIEW LAZY)"])
def test_another_modifier_of_preview_is_bad(item: str) -> None:
    async def talk(client: ImapClient, service: TwinService) -> None:
        await filled(client, 1)
        _, answer = await client.do(f"FETCH 1 {item}")
        assert answer.startswith(b"BAD")

    run(talk)
