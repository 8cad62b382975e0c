"""URLs of messages (RFC 5092) as CATENATE takes them."""

from __future__ import annotations

import pytest

from raftmail.frontends.imap.fetch_items import Partial, SectionKind
from raftmail.frontends.imap.message_url import URL_BYTES_MAX, BadUrlError, read_url


@pytest.mark.parametrize(
    ("text", "mailbox", "uidvalidity", "uid"),
    [
        (b"/Drafts/;UID=20", "Drafts", 0, 20),
        (b"/Drafts;UIDVALIDITY=385759045/;UID=20", "Drafts", 385759045, 20),
        (b"/a/b%20c/;uid=7", "a/b c", 0, 7),
        (b"/Gr%C3%BC%C3%9Fe/;UID=1", "Gr\u00fc\u00dfe", 0, 1),
        (b"/a%3Bb;UIDVALIDITY=1/;UID=4294967295", "a;b", 1, 4294967295),
        (b";UID=20", None, 0, 20),
        (b"Sibling/;UID=3", "Box/Sibling", 0, 3),
    ],
)
def test_a_mailbox_and_a_message_are_read(
    text: bytes, mailbox: str | None, uidvalidity: int, uid: int
) -> None:
    url = read_url(text, "Box/Selected")
    assert (url.mailbox, url.uidvalidity, url.uid) == (mailbox, uidvalidity, uid)
    assert (url.section.part, url.section.kind, url.section.partial) == ((), SectionKind.ALL, None)


def test_a_section_and_a_part_of_it_are_read() -> None:
    url = read_url(b"/x/;UID=1/;SECTION=1.2.MIME/;PARTIAL=10.5", None)
    assert (url.section.part, url.section.kind) == ((1, 2), SectionKind.MIME)
    assert url.section.partial == Partial(10, 5)
    url = read_url(b"/x/;UID=1/;section=HEADER.FIELDS%20(Date%20Subject)", None)
    assert (url.section.kind, url.section.fields) == (SectionKind.FIELDS, (b"Date", b"Subject"))
    partial = read_url(b"/x/;UID=1/;PARTIAL=3", None).section.partial
    assert partial is not None and partial.first == 3 and partial.count > 2**62


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"/",
        b"/x",
        b"/x/",
        b"/x;UID=1",
        b"/x/;UID=0",
        b"/x/;UID=4294967296",
        b"/x/;UID=1:2",
        b"/x/;UID=*",
        b"/x;UIDVALIDITY=0/;UID=1",
        b"/x/;UID=1/;SECTION=",
        b"/x/;UID=1/;SECTION=NONSENSE",
        b"/x/;UID=1/;SECTION=1.2]",
        b"/x/;UID=1/;SECTION=1%0D%0A",
        b"/x/;UID=1/;PARTIAL=1.0",
        b"/x/;UID=1/;PARTIAL=",
        b"/x/;UID=1?SUBJECT%20a",
        b"/x%/;UID=1",
        b"/x%ff/;UID=1",
        b"/x%zz/;UID=1",
        b"//host/x/;UID=1",
        b"imap://host/x/;UID=1",
        b"imap:x/;UID=1",
        b"/x/;UID=1;URLAUTH=anonymous:INTERNAL:00",
        b"/" + b"x" * URL_BYTES_MAX + b"/;UID=1",
    ],
)
def test_what_is_no_url_of_an_own_message_is_refused(text: bytes) -> None:
    with pytest.raises(BadUrlError):
        read_url(text, "Box")


def test_without_a_mailbox_that_is_selected_a_url_names_one() -> None:
    with pytest.raises(BadUrlError, match="no mailbox is selected"):
        read_url(b";UID=1", None)
