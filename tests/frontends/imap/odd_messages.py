"""Messages as they should not be, and yet are. Some are made by hand, of the kinds that broke other
servers and clients. Others are damaged by chance, the same for a seed in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator

from hypothesis import strategies as st

from tests.fuzzing import altered


def crlf(text: str) -> bytes:
    """Text of a test as a message: lines end in CRLF."""
    return text.replace("\n", "\r\n").encode()


PLAIN = crlf("Subject: t\n\nhi\n")
"""18 octets."""

ENCLOSING = crlf(
    """Subject: outer
Content-Type: multipart/mixed; boundary=out

--out
Content-Type: text/plain

One.
--out
Content-Type: message/rfc822
Content-Description: letter

Subject: inner
Content-Type: multipart/mixed; boundary=in

--in
Content-Type: text/plain
Content-Transfer-Encoding: base64

VHdvLg==
--in
Content-Type: message/rfc822
Content-ID: <deep@x.example>

Subject: deepest
Content-Transfer-Encoding: quoted-printable

Thr=
ee=2E
--in--
--out--
"""
)
"""mixed{text, message/rfc822{mixed{text, message/rfc822{text}}}}."""

ODD: dict[str, bytes] = {
    "empty": b"",
    "only an empty line": b"\r\n",
    "no header": b"\r\nbody",
    "no body": b"Subject: x\r\n\r\n",
    "header without end": b"Subject: x",
    "bare line feeds": b"Subject: x\nTo: a@b\n\none\ntwo\n",
    "bare carriage returns": b"Subject: x\r\rTo: a@b\r\r\rone\r",
    "nul": b"Subject: a\0b\r\n\r\n\0body\0",
    "no boundary": b"Subject: nb\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n"
    b"plain\r\n",
    "boundary never seen": b"Content-Type: multipart/mixed; boundary=zz\r\n\r\nplain\r\n",
    "boundary without a value": b"Content-Type: multipart/alternative; boundary\r\n\r\nplain\r\n",
    "boundary never closed": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none",
    "empty parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n--b\r\n--b--",
    "same boundary inside": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b--\r\n",
    "specials in strings": b'From: "a\\"b\\\\c" <x@example.org>\r\n'
    b'Message-ID: <"q\\\\z"@example.org>\r\nContent-Type: text/pl"ain; name="q\\"x\\\\y"\r\n'
    b'Content-Description: he"llo\r\nContent-ID: <i"d@example.org>\r\n'
    b'Content-Disposition: att"ach; filename="a\\"b"\r\n\r\nx\r\n',
    "groups": b"From: a@b\r\nTo: undisclosed-recipients:;\r\n"
    b"Cc: Team A: Zed <z@example.org>, y@example.org;, w@example.org\r\n\r\nx",
    "empty address lists": b"To:\r\nCc: ,\r\nBcc: ;\r\n\r\nx",
    "addresses without a host": b'From: Zoe\r\nSender: <Zoe>\r\nTo: "only name"\r\n'
    b"Reply-To: <@rt.example:z@example.org>\r\n\r\nx",
    "words broken in addresses": b"From: =?utf-8?Q?a,b_<c@d>?= <x@example.org>\r\n"
    b"To: bb?= =?utf-8?Q?c <x@example.org>\r\n\r\nx",
    "type without a slash": b"Content-Type: X-ZIP\r\n\r\nx",
    "type of nothing": b"Content-Type:\r\n\r\nx",
    "type of parameters": b"Content-Type: ;charset=x\r\n\r\nx",
    "two types": b"Content-Type: text/html\r\nContent-Type: image/png\r\n\r\nx",
    "encoding of nothing": b"Content-Transfer-Encoding:\r\n\r\nx",
    "unknown encoding": b"Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x\r\n",
    "unknown charset": b"Content-Type: text/plain; charset=x-nope\r\n\r\ngr\xfc\xdfe abc",
    "8 bits without a charset": b"Subject: gr\xfc\xdfe\r\n\r\ngr\xfc\xdfe abc",
    "broken base64": b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nYWJjIGRlZg\r\n!!=\r\n",
    "encoded message": b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"U3ViamVjdDogeA0KDQp4",
    "only a message": b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody\r\n",
    "lines that are no fields": b"From someone at some time\r\n>x\r\nSubject: x\r\nno field\r\n"
    b": nameless\r\nTo : a@b\r\n\r\nx",
    "junk dates": b"Date: tomorrow\r\n\r\nx",
    "plain": PLAIN,
    "enclosing": ENCLOSING,
}
"""Small ones, by what is odd about them."""


def nested(levels: int) -> bytes:
    """Multiparts inside one another, each the only part of the one before."""
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(levels)
    ) + (b"\r\nthe end\r\n")


def many_parts(count: int) -> bytes:
    """A multipart of so many small parts."""
    return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"".join(
        b"--b\r\nContent-Type: text/plain\r\n\r\n%d\r\n" % number for number in range(count)
    )


def slow_messages(octets: int) -> Iterator[bytes]:
    """Messages of about so many octets which take a reader that goes back on itself for ever."""
    runs = [
        b"\r", b" ", b"\t", b"(", b"( ", b'"', b"\\", b"<", b",", b";", b"=", b"[a]", b"a@", b"=?",
        b"=?utf-8?q?a?= ", b"=?utf-8?b?", b"re:", b"(fwd)", b"[fwd:", b":", b"@", b"\r\r\n ",
        b"a=b;", b"<a@b> ", b"\xcc\x81\xcc\x96", b"a*0*=utf-8''b;", b"1 ",
    ]  # fmt: skip
    fields = [b"Subject", b"From", b"Content-Type", b"References", b"Date", b"Content-Disposition"]
    for run in runs:
        for field in fields:
            yield b"%b: %b x\r\n y\r\n\r\n" % (field, run * (octets // len(run)))
    runs = [b" ", b"=", b"=\r", b" \n", b"\t", b"\r", b"Q=", b"=3D", b"\n--b", b"\n--b ", b"--b\n"]
    for run in runs:
        for encoding in (b"quoted-printable", b"base64"):
            part = b"Content-Transfer-Encoding: %b\r\n\r\n" % encoding
            part += run * (octets // len(run))
            yield part
            yield b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" + part


def damaged(count: int, seed: int = 1) -> Iterator[bytes]:
    """Odd messages with bytes changed, cut, moved or doubled; the same for a seed."""
    rng = random.Random(seed)
    sources = list(ODD.values())
    for _ in range(count):
        yield altered(rng.choice(sources), rng.randrange(1 << 30))


_FRAGMENTS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b'"', b"\\", b"(",
    b")", b"<", b">", b"@", b"=", b"?", b"\xff", b"\xc3\xa4", b"--a", b"\r\n--a\r\n",
    b"\r\n--a--\r\n", b"Content-Type: multipart/mixed; boundary=a\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type: text/plain; charset=", b"utf-8", b"iso-2022-jp", b"utf-16", b"x-nope",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n",
    b"Content-Transfer-Encoding: x-odd\r\n", b"YWJj", b"=41", b"=\r\n", b"Subject: ", b"From: ",
    b"Date: ", b"Mon, 3 Jun 2024 09:59:57 +0200", b"3 Jun", b"2024", b"Message-ID: ",
    b"References: ", b"<a@b>", b"<c@d>", b"=?utf-8?q?=C3=A4?=", b"=?utf-8?b?w6Q=?=", b"=?x?q?",
    b"=?utf-8?b?w6", b"?=", b"re: ", b"[a]", b"(fwd)", b"[fwd: ", b"]",
]  # fmt: skip

odd_bytes = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(_FRAGMENTS) | st.binary(max_size=3), max_size=50).map(b"".join),
    st.builds(altered, st.sampled_from(sorted(ODD.values())), st.integers(0, 1 << 30)),
)
"""Any bytes, with those that look like mail more often than not."""
