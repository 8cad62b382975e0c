"""Messages whose fields and parts are thrown together out of the tokens of their grammars, for
comparing servers. No mail program writes them so; that is how readers of mail come to disagree.

All lines end in CRLF and no message has a NUL. The same seed makes the same messages."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

_WORDS: Final = ("anna", "bob", "x.org", "a", "B-b", "mail", "d_e", "12", "x=y", "c'd", "{n}", "~")
_SPACES: Final = (" ", " ", " ", "", "", "  ", "\t", "\r\n ", "\r\n\t", " \r\n  ")
_COMMENTS: Final = ("(c)", "(a (b) c)", "(\\))", "()", '(")', "(a@b.c)", "((x))")
_STRINGS: Final = ('"q"', '"a b"', '""', '"a\\"b"', '"a,b"', '"<x>"', '"(c)"', '"x@y"', '"a;b"')
_ENCODED: Final = (
    "=?utf-8?q?J=C3=BC?=", "=?iso-8859-1?Q?a=2Cb?=", "=?utf-8?b?R3LDvA==?=", "=?utf-8?q?a_b?=",
    "=?x?q?y?=", "=?utf-8?q??=", "=?utf-8?b?R3L?=",
)  # fmt: skip
_EIGHT_BITS: Final = ("\u00fc", "\u65e5\u672c", "gr\u00fc\u00df")
_TYPES: Final = (
    "text/plain", "TEXT/html", "text / plain", "text/plain(c)", "(c)text/plain", "image/png",
    "application/x-a.b+c", "message/delivery-status", "text/x_y", "audio/*", "text/ html",
    "message/rfc822", "message/global", "multipart/mixed", "Multipart/Digest", "text/plain/x",
)  # fmt: skip
_NAMES: Final = (
    "charset", "name", "FORMAT", "x-a", "filename", "a.b", "x_y", "size",
)  # fmt: skip
_VALUES: Final = (
    "utf-8", '"utf-8"', "us-ascii", '"a b"', '"a\\"b"', '"a;b"', "x (c)", "x (a (b) c)", '"(c)"',
    "utf-8''%C3%A4", '""', "'single'", "\u00fc", '"\u00fc"', '"a\r\n b"', "x\r\n ",
    '" a "', '"a\\\\b"', "1.0", '"="',
)  # fmt: skip
_ENCODINGS: Final = (
    "7bit", "8BIT", "base64", "Base64", "quoted-printable", "binary", "(c) base64", "base64 (c)",
    "(a (b) c) base64", "base64;", "base64; x=y", '"base64"', "base 64", "x-uuencode", "",
    "quoted-printable\r\n ", "\r\n base64", "quoted printable", "utf-8", "base64,7bit",
)  # fmt: skip
_DISPOSITIONS: Final = ("inline", "ATTACHMENT", "(c) inline", "inline (c)", "form-data", '"inline"')
_BOUNDARIES: Final = ("b", "b-", "--b", "b c", "b'()+_,-./:=?", "B", "=_b", "b" * 66)
"""None begins another, with a digit before it that tells how deep it is."""
_DATES: Final = (
    "Tue, 3 Feb 2026 04:05:06 +0100", "3 Feb 2026 04:05:06", "Tue , 03 Feb 2026 4:5:6 +0100",
    "Tue, 3 Feb 2026 04:05:06 +0100 (CET)", "(c) 3 Feb 2026 04:05 -0000", "3 Feb (c) 2026 04:05 Z",
    "Tue, 3\r\n Feb 2026 04:05:06 GMT", "3-Feb-2026 04:05:06 EST", "Tue Feb  3 04:05:06 2026",
    "Tue, 29 Feb 2026 04:05:06 +0000", "2026-02-03T04:05:06Z", "Tue, 3 February 2026 04:05 +0000",
    "Wed, 3 Feb 2026 24:00:00 +0000", "3 Feb 26 04:05:06 +0000", "3 Feb 126 04:05:06 UT",
    "3 Feb 2026 04:05:60 +0000", "3 Feb 2026 04:05:06 +9999", "03 Feb 2026", "3 Feb 2026 04:05 A",
    "Tue, 3 Feb 2026 04 : 05 : 06 +0100", "3 FEB 2026 04:05:06 +0000", "",
)  # fmt: skip
_SUBJECTS: Final = (
    "Re: ", "RE : ", "re[2]: ", "Fwd: ", "FW: ", "[a] ", "[a]Re: ", "Re: [b] ", "(fwd)", " (FWD)",
    "[fwd: ", "]", "Aw: ", "Re:Re:", "\r\n ", "=?utf-8?q?Re:_?=", "=?utf-8?q?Re?=: ", "x", "hello",
    "[", "[]", "Re: Re",
)  # fmt: skip
_IDS: Final = (
    "<a@x.org>", "<b@x.org>", "<c@x.org>", "<d@x.org>", "<e@y>", "a@x.org", '<"q r"@x.org>',
    "<a @x.org>", "(c)", "<a@x.org", "<>", "<A@x.org>", "junk", "\r\n ", "<a@x.org><b@x.org>",
)  # fmt: skip
_BODIES: Final = (
    "hello\r\n", "", "\r\n", "no end", "aGVsbG8=\r\n", "a=C3=BCb=\r\nc\r\n", ".\r\n..\r\n",
    "\xfc\r\n", "From x@y Tue Feb  3 04:05:06 2026\r\n", ">From x\r\n", "--\r\n", "---b\r\n",
    "  lead\r\n",
)  # fmt: skip


class TokenSoup:
    """Makes one message."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def _of(self, choices: Sequence[str]) -> str:
        return self._random.choice(choices)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def message(self, depth: int = 0) -> bytes:
        lines = []
        for name in ("From", "To", "Cc", "Sender", "Reply-To", "Bcc"):
            if self._chance(0.5 if name != "From" else 0.9):
                lines.append(f"{name}:{self._space()}{self.addresses()}")
        if self._chance(0.8):
            count = self._random.randint(0, 4)
            lines.append("Subject: " + "".join(self._of(_SUBJECTS) for _ in range(count)))
        if self._chance(0.8):
            lines.append(f"Date: {self._of(_DATES)}")
        for name in ("Message-ID", "In-Reply-To", "References"):
            if self._chance(0.6):
                count = self._random.randint(1, 1 if name == "Message-ID" else 3)
                lines.append(f"{name}: " + " ".join(self._of(_IDS) for _ in range(count)))
        if self._chance(0.05):
            lines.append(self._of(("no colon", ": no name", "X y: z", "X-Odd:", ">From x")))
        self._random.shuffle(lines)
        whole = "".join(f"{line}\r\n" for line in lines if line.strip())
        return whole.encode() + self.entity(depth)

    def _space(self) -> str:
        return self._of(_SPACES)

    def addresses(self) -> str:
        """An address list: mostly right at heart, with rubbish of all kinds between."""
        out = []
        for _ in range(self._random.randint(1, 3)):
            kind = self._random.randrange(9)
            if kind == 0:
                out.append(f"{self._phrase()}:{self._space()}{self._mailbox()};")
            elif kind == 1:
                out.append(f"{self._phrase()}:{self._space()};")
            elif kind == 2:
                out.append(self._soup())
            else:
                out.append(self._mailbox())
        return self._of((",", ", ", " , ", ",\r\n ", ",(c) ")).join(out)

    def _mailbox(self) -> str:
        local = self._of(("anna", "b.c", '"q r"', "d.", "x+y", "\u00fc", "e (c)", "f ."))
        host = self._of(("x.org", "[192.0.2.1]", "X.Org", " x.org", "x . org", "y", "\u00fc.org"))
        address = f"{local}@{host}"
        if self._chance(0.3):
            return address + (f" {self._of(_COMMENTS)}" if self._chance(0.4) else "")
        return f"{self._phrase()}{self._space()}<{address}>"

    def _phrase(self) -> str:
        count = self._random.randint(0, 3)
        tokens = (_WORDS, _STRINGS, _ENCODED, _COMMENTS, _EIGHT_BITS)
        return " ".join(self._of(self._random.choice(tokens)) for _ in range(count))

    def _soup(self) -> str:
        tokens = (_WORDS, _STRINGS, _ENCODED, _COMMENTS, _SPACES, ("@", "<", ">", ":", ";", "."))
        count = self._random.randint(1, 6)
        return "".join(self._of(self._random.choice(tokens)) for _ in range(count))

    def entity(self, depth: int) -> bytes:
        """The fields of MIME, the empty line, and the body."""
        boundary = f"{depth}{self._of(_BOUNDARIES)}"
        lines = ["MIME-Version: " + self._of(("1.0", "1.0 (c)"))]
        lines += [f"Content-Type: {self._type(boundary)}"] if self._chance(0.85) else []
        if self._chance(0.5):
            lines.append(f"Content-Transfer-Encoding: {self._of(_ENCODINGS)}")
        if self._chance(0.4):
            value = self._of(_DISPOSITIONS) + self._parameters()
            lines.append(f"Content-Disposition: {value}")
        if self._chance(0.2):
            lines.append(f"Content-ID: {self._of(_IDS)}")
        if self._chance(0.2):
            lines.append(f"Content-Description: {self._phrase()}")
        if self._chance(0.2):
            lines.append("Content-Language: " + self._of(("de", "de, en", "de,", "(c) de")))
        if self._chance(0.2):
            lines.append(
                "Content-Location: " + self._of(("a b", "x (c)", "http://x/\r\n y", '"q"'))
            )
        self._random.shuffle(lines)
        header = "".join(f"{line}\r\n" for line in lines).encode()
        empty = b"\r\n" if self._chance(0.96) else b""
        return header + empty + self._body(depth, boundary, "".join(lines).lower())

    def _type(self, boundary: str) -> str:
        kind = self._of(_TYPES)
        if self._chance(0.35):
            kind = self._of(("multipart/mixed", "multipart/alternative", "multipart/digest"))
        value = kind + self._parameters()
        if "multipart" in kind.lower() and self._chance(0.9):
            plain = boundary.isalnum() and self._chance(0.5)
            value += f"; boundary={boundary}" if plain else f'; boundary="{boundary}"'
        return value

    def _parameters(self) -> str:
        out = ""
        for _ in range(self._random.randrange(3)):
            before = self._of((";", "; ", " ; ", ";\r\n ", "; (c) ", ";;"))
            equals = self._of(("=", "=", "=", " = ", "= "))
            out += f"{before}{self._of(_NAMES)}{equals}{self._of(_VALUES)}"
        return out

    def _body(self, depth: int, boundary: str, header: str) -> bytes:
        if depth < 4 and "multipart/" in header:
            out = b"" if self._chance(0.7) else self._text()
            for _ in range(self._random.randint(1, 3)):
                out += self._line(boundary, "") + self.entity(depth + 1)
                out += b"" if self._chance(0.1) else b"\r\n"
            return (
                out
                + (self._line(boundary, "--") if self._chance(0.8) else b"")
                + (self._text() if self._chance(0.2) else b"")
            )
        if depth < 4 and "message/" in header:
            return self.message(depth + 1)
        return self._text()

    def _line(self, boundary: str, end: str) -> bytes:
        if self._chance(0.05):
            end += self._of((" ", "\t "))
        return f"--{boundary}{end}\r\n".encode()

    def _text(self) -> bytes:
        count = self._random.randint(0, 3)
        return "".join(self._of(_BODIES) for _ in range(count)).encode("utf-8")


def thrown_together(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Names and messages."""
    for number in range(count):
        yield f"soup: {number}", TokenSoup(seed * 100_000 + number).message()
