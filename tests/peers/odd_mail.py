"""Messages for comparing servers. Some are made by hand, of the kinds that mail programs send and
that broke other servers. Others are made by chance, the same for a seed in every run. All lines end
in CRLF and no message has a NUL, since servers differ in what they do with others."""

from __future__ import annotations

import base64
import quopri
import random
import re
from collections.abc import Iterator
from typing import Final

from tests.frontends.imap.odd_messages import ODD, damaged

_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def mended(message: bytes) -> bytes:
    """A message with its line ends and NULs as mail has them."""
    return _BARE.sub(b"\r\n", message.replace(b"\0", b"?"))


def mail(header: str, body: str = "Hello.\n", *, charset: str = "utf-8") -> bytes:
    """A message as a test writes it."""
    text = header.strip("\n") + "\n\n" + body
    return text.replace("\n", "\r\n").encode(charset)


_ADDRESSES: Final = {
    "plain": "From: anna@example.org\nTo: bob@example.org",
    "names": 'From: Anna Berg <anna@example.org>\nTo: "Bob, the Builder" <bob@example.org>',
    "several": "From: a@x.org, B <b@x.org>\nTo: c@x.org,d@x.org , e@x.org",
    "group": "From: a@x.org\nTo: Friends: Bob <b@x.org>, c@x.org;",
    "empty group": "From: a@x.org\nTo: undisclosed-recipients:;",
    "group among others": "To: a@x.org, G: b@x.org;, c@x.org\nFrom: d@x.org",
    "quoted group": 'To: "My Group": b@x.org;\nFrom: d@x.org',
    "comments": "From: anna@x.org (Anna Berg)\nTo: (to) bob@x.org",
    "comment in comment": "From: a@x.org (A (the first) B)",
    "route": "From: <@r.example,@s.example:z@x.org>",
    "quoted local part": 'From: "john doe"@x.org\nTo: "a.b"@x.org',
    "escapes": 'From: "a \\"quoted\\" name\\\\" <a@x.org>',
    "domain literal": "From: a@[192.0.2.1]\nTo: B <b@[IPv6:2001:db8::1]>",
    "dots in a name": "From: J. R. Smith <jrs@x.org>",
    "angle without name": "From: <a@x.org>\nTo:<b@x.org>",
    "spaces around": "From:  Anna   Berg   <a@x.org>  \nTo:   b@x.org   ",
    "folded": "From: Anna\n Berg\n <a@x.org>\nTo: a@x.org,\n b@x.org,\n\tc@x.org",
    "encoded name": "From: =?utf-8?q?J=C3=BCrgen?= <j@x.org>\nTo: =?iso-8859-1?Q?Zo=EB?= <z@x.org>",
    "encoded name in pieces": "From: =?utf-8?q?J=C3=BC?=\n =?utf-8?q?rgen?= <j@x.org>",
    "encoded comma": "From: =?utf-8?q?Berg=2C_Anna?= <a@x.org>",
    "utf-8 as it is": "From: Jürgen <j@x.org>\nSubject: Grüße",
    "no from": "To: b@x.org",
    "sender": "From: a@x.org\nSender: S <s@x.org>\nReply-To: r@x.org, q@x.org",
    "empty sender": "From: a@x.org\nSender:\nReply-To:",
    "empty to": "From: a@x.org\nTo:\nCc: ",
    "bcc": "From: a@x.org\nBcc: b@x.org, C <c@x.org>",
    "semicolon": "From: a@x.org; b@x.org",
    "trailing comma": "From: a@x.org\nTo: b@x.org,",
    "two commas": "From: a@x.org\nTo: b@x.org,, c@x.org",
    "only a name": "From: Anna Berg",
    "name without host": "From: Anna <anna>",
    "two ats": "From: a@b@x.org",
    "unclosed angle": "From: Anna <a@x.org",
    "unclosed quote": 'From: "Anna <a@x.org>',
    "two angles": "From: Anna <a@x.org> <b@x.org>",
    "words after": "From: Anna <a@x.org> (work) extra",
    "brackets in a name": "From: Anna [work] <a@x.org>",
    "mailto": "From: Anna <mailto:a@x.org>",
    "many": "To: " + ", ".join(f"user{n}@x.org" for n in range(60)),
    "long name": f"From: {'n' * 300} <a@x.org>",
}

_OTHER_FIELDS: Final = {
    "subject": "Subject: hello",
    "empty subject": "Subject:",
    "subject of spaces": "Subject:    ",
    "folded subject": "Subject: one\n two\n\tthree",
    "subject with a tab": "Subject: one\ttwo",
    "subject with trailing space": "Subject: one  \nTo: a@x.org",
    "encoded subject": "Subject: =?utf-8?b?R3LDvMOfZQ==?=",
    "encoded subject in pieces": "Subject: =?utf-8?q?Gr=C3=BC?=\n =?utf-8?q?=C3=9Fe_an_alle?=",
    "encoded in another charset": "Subject: =?koi8-r?B?8NLJ18XU?=",
    "encoded in ISO-2022-JP": "Subject: =?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=",
    "encoded with a language": "Subject: =?us-ascii*en?q?hello?=",
    "unknown charset": "Subject: =?x-nope?q?hello?=",
    "not quite encoded": "Subject: =?utf-8?q?hello",
    "encoded words side by side": "Subject: =?utf-8?q?a?= =?utf-8?q?b?= c =?utf-8?q?d?=",
    "quotes": 'Subject: a "quoted" word and a \\ too',
    "reply": "Subject: Re: hello",
    "forward": "Subject: Fwd: Re: [list] hello (fwd)",
    "blob": "Subject: [list] [other] hello",
    "fwd in brackets": "Subject: [Fwd: hello]",
    "message ids": "Message-ID: <a.b@x.org>\nIn-Reply-To: <c@x.org>\n"
    "References: <d@x.org> <c@x.org>",
    "message id with spaces": "Message-ID:   <a b@x.org>  ",
    "message id without brackets": "Message-ID: a@x.org",
    "several replied to": "In-Reply-To: <a@x.org>\n <b@x.org>",
    "date": "Date: Tue, 3 Feb 2026 04:05:06 +0100",
    "date with zone name": "Date: Tue, 3 Feb 2026 04:05:06 EST",
    "date with comment": "Date: Tue, 3 Feb 2026 04:05:06 +0000 (UTC)",
    "date of two digits": "Date: Tue, 3 Feb 99 04:05:06 GMT",
    "date without weekday": "Date: 3 Feb 2026 04:05 +0000",
    "date without zone": "Date: Tue, 3 Feb 2026 04:05:06",
    "date long ago": "Date: Mon, 1 Jan 1900 00:00:00 +0000",
    "date far ahead": "Date: Fri, 1 Jan 2100 00:00:00 +0000",
    "date at the edge": "Date: Tue, 3 Feb 2026 23:30:00 -0800",
    "date that is none": "Date: 31 Foo 2026",
    "empty date": "Date:",
    "small letters": "date: tue, 3 feb 2026 04:05:06 +0100\nsubject: small\nfrom: a@x.org",
    "two subjects": "Subject: first\nSubject: second",
    "two tos": "To: a@x.org\nTo: b@x.org",
    "two dates": "Date: Tue, 3 Feb 2026 04:05:06 +0100\nDate: Wed, 4 Feb 2026 04:05:06 +0100",
    "two message ids": "Message-ID: <a@x.org>\nMessage-ID: <b@x.org>",
    "8 bits": "Subject: \u00e4\u00f6\u00fc",
    "long subject": "Subject: " + "word " * 300,
    "long references": "References: " + "\n ".join(f"<{n}@x.org>" for n in range(300)),
    "field without colon": "Subject: x\nno colon here\nTo: a@x.org",
    "space before the colon": "Subject : x\nTo : a@x.org",
    "no space after the colon": "Subject:x\nTo:a@x.org",
    "list fields": "List-Id: <list.x.org>\nList-Unsubscribe: <mailto:u@x.org>\nX-Odd: 1\nX-odd: 2",
}

_TYPES: Final = {
    "text": "Content-Type: text/plain",
    "charset": "Content-Type: text/plain; charset=utf-8",
    "quoted charset": 'Content-Type: text/plain; charset="UTF-8"',
    "capitals": "Content-Type: TEXT/HTML; CHARSET=UTF-8\nContent-Transfer-Encoding: 8BIT",
    "parameters": 'Content-Type: text/plain; charset=us-ascii; format=flowed; name="a b.txt"',
    "parameters over lines": 'Content-Type: text/plain;\n charset=us-ascii;\n\tname="a.txt"',
    "comment": "Content-Type: text/plain (plain text); charset=us-ascii (ascii)",
    "escapes in a parameter": 'Content-Type: text/plain; name="a\\"b\\\\c"',
    "spaces around =": "Content-Type: text/plain; charset = utf-8",
    "semicolon at the end": "Content-Type: text/plain; charset=utf-8;",
    "no value": "Content-Type: text/plain; charset=",
    "empty quoted value": 'Content-Type: text/plain; name=""',
    "no parameter name": "Content-Type: text/plain; =x; a=b",
    "no semicolon": "Content-Type: text/plain charset=utf-8",
    "without a slash": "Content-Type: text",
    "without a subtype": "Content-Type: text/",
    "without a type": "Content-Type: /plain",
    "empty": "Content-Type:",
    "strange": "Content-Type: ???",
    "application": "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64",
    "image": "Content-Type: image/png; name=x.png\nContent-Transfer-Encoding: BASE64\n"
    "Content-Disposition: attachment; filename=x.png",
    "disposition": 'Content-Disposition: inline; filename="a b.txt"; size=12',
    "disposition alone": "Content-Disposition: attachment",
    "disposition quoted": 'Content-Disposition: "attachment"; filename=x',
    "empty disposition": "Content-Disposition:",
    "languages": "Content-Language: de, en-GB",
    "a language": "Content-Language: de",
    "location": "Content-Location: http://x.org/a",
    "md5": "Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==",
    "id and description": "Content-ID: <a@x.org>\nContent-Description: some text",
    "encoded description": "Content-Description: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
    "folded description": "Content-Description: one\n two",
    "encoding with comment": "Content-Transfer-Encoding: 7bit (really)",
    "unknown encoding": "Content-Transfer-Encoding: x-odd",
    "quoted-printable": "Content-Transfer-Encoding: quoted-printable",
    "no version": "Content-Type: text/html; charset=utf-8\nContent-Language: fr",
    "extended parameter": "Content-Type: text/plain; name*=utf-8''%C3%A4.txt",
    "parameter in pieces": 'Content-Type: text/plain; name*0="a"; name*1="b.txt"',
    "extended parameter in pieces": "Content-Type: text/plain; name*0*=utf-8''%C3%A4; name*1=b",
    "encoded word as parameter": 'Content-Type: text/plain; name="=?utf-8?q?=C3=A4?="',
    "8 bits in a parameter": 'Content-Type: text/plain; name="\u00e4.txt"',
    "same parameter twice": "Content-Type: text/plain; name=a; name=b",
}


def _multipart(kind: str, inner: str, boundary: str = "b") -> str:
    return f"MIME-Version: 1.0\nContent-Type: multipart/{kind}; boundary={boundary}\n\n{inner}"


_MULTIPARTS: Final = {
    "mixed": _multipart("mixed", "--b\n\none\n--b\nContent-Type: text/html\n\n<p>two</p>\n--b--\n"),
    "preamble and epilogue": _multipart("mixed", "before\n--b\n\none\n--b--\nafter\n"),
    "without end": _multipart("mixed", "--b\n\none\n--b\n\ntwo\n"),
    "without last line end": _multipart("mixed", "--b\n\none\n--b--"),
    "space after the boundary": _multipart("mixed", "--b  \n\none\n--b\t\n\ntwo\n--b-- \n"),
    "boundary that begins another": _multipart("mixed", "--b\n\none\n--bb\n\ntwo\n--b--\n"),
    "boundary inside a line": _multipart("mixed", "--b\n\none --b\n two\n--b--\n"),
    "quoted boundary": 'Content-Type: multipart/mixed; boundary="a b:c"\n\n--a b:c\n\n'
    "x\n--a b:c--\n",
    "part without header": _multipart("mixed", "--b\n\n\n--b--\n"),
    "part that is empty": _multipart("mixed", "--b\nContent-Type: text/plain\n\n--b--\n"),
    "part of a header alone": _multipart(
        "mixed", "--b\nContent-Type: text/html\n--b\n\nx\n--b--\n"
    ),
    "no part": _multipart("mixed", "nothing\n"),
    "only an end": _multipart("mixed", "--b--\n"),
    "after the end": _multipart("mixed", "--b\n\none\n--b--\n--b\n\ntwo\n--b--\n"),
    "alternative": _multipart(
        "alternative; type=x",
        "--b\nContent-Type: text/plain\n\none\n--b\nContent-Type: text/html\n\ntwo\n--b--\n",
    ),
    "digest": _multipart(
        "digest", "--b\n\nSubject: one\n\nfirst\n--b\n\nSubject: two\n\n2\n--b--\n"
    ),
    "digest of text": _multipart("digest", "--b\nContent-Type: text/plain\n\nfirst\n--b--\n"),
    "related": _multipart(
        'related; type="text/html"',
        "--b\nContent-Type: text/html\n\n<img src=cid:a@x>\n--b\nContent-Type: image/png\n"
        "Content-ID: <a@x>\nContent-Transfer-Encoding: base64\n\niVBORw0KGgo=\n--b--\n",
    ),
    "signed": _multipart(
        "signed; micalg=pgp-sha256; protocol=application/pgp-signature",
        "--b\n\nsigned\n--b\nContent-Type: application/pgp-signature\n\nx\n--b--\n",
    ),
    "report": _multipart(
        "report; report-type=delivery-status",
        "--b\n\nIt failed.\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x\n"
        "\n--b\nContent-Type: text/rfc822-headers\n\nSubject: lost\n\n--b--\n",
    ),
    "nested": _multipart(
        "mixed",
        "--b\n"
        + _multipart("alternative", "--c\n\none\n--c\n\ntwo\n--c--\n", "c")
        + "--b\n\nthree\n--b--\n",
    ),
    "nested without its end": _multipart(
        "mixed",
        "--b\n" + _multipart("alternative", "--c\n\none\n", "c") + "--b\n\nthree\n--b--\n",
    ),
    "message": "Content-Type: message/rfc822\n\nFrom: a@x.org\nSubject: inner\n\ninside\n",
    "message in a part": _multipart(
        "mixed",
        "--b\n\nsee\n--b\nContent-Type: message/rfc822\nContent-Disposition: attachment\n\n"
        "From: a@x.org\nSubject: inner\n\ninside\n--b--\n",
    ),
    "message of parts in a part": _multipart(
        "mixed",
        "--b\nContent-Type: message/rfc822\n\nSubject: inner\n"
        + _multipart("mixed", "--c\n\none\n--c\n\ntwo\n--c--\n", "c")
        + "--b--\n",
    ),
    "message in message": "Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n"
    "Subject: middle\n\nSubject: innermost\n\nx\n",
    "message that is empty": _multipart("mixed", "--b\nContent-Type: message/rfc822\n\n--b--\n"),
    "message of a header": _multipart(
        "mixed", "--b\nContent-Type: message/rfc822\n\nSubject: x\n--b--\n"
    ),
    "message that is encoded": "Content-Type: message/rfc822\n"
    "Content-Transfer-Encoding: base64\n\nU3ViamVjdDogeA0KDQp4\n",
    "partial message": "Content-Type: message/partial; id=x; number=1; total=2\n\n"
    "Subject: x\n\nx\n",
    "external body": "Content-Type: message/external-body; access-type=x\n\n"
    "Content-Type: text/plain\n\nx\n",
    "multipart in capitals": "Content-Type: MULTIPART/MIXED; BOUNDARY=b\n\n--b\n\none\n--b--\n",
    "multipart without subtype": "Content-Type: multipart; boundary=b\n\n--b\n\none\n--b--\n",
    "encoded multipart": "Content-Type: multipart/mixed; boundary=b\n"
    "Content-Transfer-Encoding: base64\n\n--b\n\none\n--b--\n",
    "two types": "Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=b\n\n"
    "--b\n\none\n--b--\n",
}

_TEXTS: Final = {
    "quoted-printable": ("utf-8", "quoted-printable", "Gr=C3=BC=C3=9Fe, two =\nwords=20\nend=3D\n"),
    "soft breaks": ("us-ascii", "quoted-printable", "long=\nword and two=\n words\n"),
    "broken quoted-printable": ("us-ascii", "quoted-printable", "a=ZZb =4 = c\n=\n"),
    "base64": ("utf-8", "base64", "R3LDvMOfZQ0KaGVsbG8gd29ybGQ=\n"),
    "base64 over lines": ("utf-8", "base64", "R3LD\nvMOf\nZQ==\n"),
    "base64 with rubbish": ("utf-8", "base64", "aGVs!bG8g\nd29y*bGQ=\n"),
    "base64 cut off": ("utf-8", "base64", "aGVsbG8gd29ybG\n"),
    "base64 twice": ("utf-8", "base64", "aGVsbG8=\nd29ybGQ=\n"),
    "empty base64": ("utf-8", "base64", "\n"),
    "latin 1": ("iso-8859-1", "quoted-printable", "Gr=FC=DFe\n"),
    "koi8": ("koi8-r", "base64", "8NLJ18XU\n"),
    "iso-2022-jp": ("iso-2022-jp", "7bit", "\x1b$BF|K\\\x1b(B\n"),
    "utf-16": ("utf-16", "base64", "/v8ARwByAPwA3wBl\n"),
    "unknown charset": ("x-nope", "7bit", "hello world\n"),
    "wrong charset": ("us-ascii", "8bit", "Gr\u00fc\u00dfe\n"),
    "unknown encoding": ("us-ascii", "x-uuencode", "begin 644 x\n#86)C\n`\nend\n"),
    "binary": ("utf-8", "binary", "hello world\n"),
    "dots": ("us-ascii", "7bit", ".\n..\n.x\n"),
    "no last line end": ("us-ascii", "7bit", "hello world"),
    "empty": ("us-ascii", "7bit", ""),
    "long lines": ("us-ascii", "7bit", "word " * 2000 + "\n"),
    "many lines": ("us-ascii", "7bit", "line\n" * 2000),
}


def by_hand() -> Iterator[tuple[str, bytes]]:
    """Names and messages."""
    for name, header in _ADDRESSES.items():
        yield f"address: {name}", mail(header + f"\nSubject: {name}")
    for name, header in _OTHER_FIELDS.items():
        yield f"field: {name}", mail(header)
    for name, header in _TYPES.items():
        yield f"type: {name}", mail(f"Subject: {name}\nMIME-Version: 1.0\n{header}")
    for name, text in _MULTIPARTS.items():
        whole = f"From: a@x.org\nSubject: {name}\n{text}"
        yield f"parts: {name}", whole.replace("\n", "\r\n").encode()
    for name, (charset, encoding, text) in _TEXTS.items():
        header = (
            f"Subject: {name}\nMIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\n"
            f"Content-Transfer-Encoding: {encoding}"
        )
        yield f"text: {name}", mail(header, text)
    for name, message in ODD.items():
        if mended(message):
            yield f"odd: {name}", mended(message)


_LETTERS: Final = [
    "alpha",
    "beta",
    "Gr\u00fc\u00dfe",
    "\u65e5\u672c",
    "gamma delta",
    "na\u00efve",
    "x" * 70,
]
_CHARSETS: Final = ["us-ascii", "utf-8", "iso-8859-1", "windows-1252", "koi8-r", "iso-2022-jp"]


class MailMaker:
    """Messages as mail programs make them, by chance."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._boundaries = 0

    def message(self, depth: int = 0) -> bytes:
        fields = [
            f"From: {self._address()}",
            f"To: {', '.join(self._address() for _ in range(self._random.randint(1, 4)))}",
            f"Subject: {self._subject()}",
            f"Date: {self._date()}",
            f"Message-ID: <{self._random.randrange(1 << 40):x}@x.example>",
            "MIME-Version: 1.0",
        ]
        if self._chance(0.3):
            fields.append(f"Cc: {self._address()}")
        if self._chance(0.2):
            fields.append(f"Reply-To: {self._address()}")
        if self._chance(0.3):
            fields.append(f"In-Reply-To: <{self._random.randrange(9)}@x.example>")
        if self._chance(0.3):
            fields.append(
                "X-Mailer: none\r\nReceived: from a by b;\r\n\tTue, 3 Feb 2026 00:00:00 +0000"
            )
        self._random.shuffle(fields)
        return "\r\n".join(fields).encode() + b"\r\n" + self._entity(depth)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _word(self) -> str:
        return self._random.choice(_LETTERS)

    def _encoded(self, text: str) -> str:
        if text.isascii() and self._chance(0.8):
            return text
        octets = text.encode()
        if self._chance(0.5):
            return f"=?utf-8?B?{base64.b64encode(octets).decode()}?="
        quoted = "".join(
            chr(one) if chr(one).isalnum() and one < 128 else f"={one:02X}" for one in octets
        )
        return f"=?UTF-8?Q?{quoted}?="

    def _address(self) -> str:
        address = f"user{self._random.randrange(50)}@{self._random.choice(['x', 'y', 'z'])}.example"
        kind = self._random.randrange(4)
        if kind == 0:
            return address
        if kind == 1:
            return f"<{address}>"
        name = self._encoded(self._word())
        return f'"{name}" <{address}>' if kind == 2 and "=?" not in name else f"{name} <{address}>"

    def _subject(self) -> str:
        words = [self._encoded(self._word()) for _ in range(self._random.randint(1, 3))]
        prefix = self._random.choice(["", "", "Re: ", "Fwd: ", "[list] "])
        return prefix + self._random.choice([" ", "\r\n "]).join(words)

    def _date(self) -> str:
        zone = self._random.choice(["+0000", "-0800", "+0530", "+1400"])
        return (
            f"{self._random.randint(1, 28)} Feb {self._random.randint(2020, 2026)} "
            f"{self._random.randrange(24):02d}:{self._random.randrange(60):02d}:07 {zone}"
        )

    def _entity(self, depth: int) -> bytes:
        kind = self._random.random()
        if depth < 4 and kind < 0.4:
            return self._parts(depth)
        if depth < 4 and kind < 0.5:
            return b"Content-Type: message/rfc822\r\n\r\n" + self.message(depth + 1)
        return self._leaf()

    def _parts(self, depth: int) -> bytes:
        self._boundaries += 1
        boundary = f"=_{self._boundaries}_{self._random.randrange(1 << 30):x}"
        kind = self._random.choice(["mixed", "alternative", "related", "x-odd"])
        header = f'Content-Type: multipart/{kind};\r\n\tboundary="{boundary}"\r\n'
        if self._chance(0.2):
            header += "Content-Language: en\r\n"
        out = header.encode() + b"\r\n"
        if self._chance(0.3):
            out += b"This is a message of parts.\r\n"
        for _ in range(self._random.randint(1, 3)):
            out += f"--{boundary}\r\n".encode() + self._entity(depth + 1) + b"\r\n"
        out += f"--{boundary}--\r\n".encode()
        return out + (b"after\r\n" if self._chance(0.2) else b"")

    def _leaf(self) -> bytes:
        if self._chance(0.3):
            octets = self._random.randbytes(self._random.randrange(200))
            body = base64.encodebytes(octets).replace(b"\n", b"\r\n")
            header = (
                "Content-Type: application/pdf; name=x.pdf\r\nContent-Transfer-Encoding: base64\r\n"
                'Content-Disposition: attachment;\r\n filename="x y.pdf"\r\n'
            )
            return header.encode() + b"\r\n" + body
        text = "\r\n".join(self._word() for _ in range(self._random.randint(0, 6))) + "\r\n"
        charset = self._random.choice(_CHARSETS)
        octets = text.encode(charset, "replace")
        encoding = self._random.choice(["quoted-printable", "base64", "8bit"])
        if charset == "iso-2022-jp" and encoding == "8bit":
            encoding = "7bit"
        if encoding == "base64":
            octets = base64.encodebytes(octets).replace(b"\n", b"\r\n")
        elif encoding == "quoted-printable":
            octets = quopri.encodestring(octets.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
        subtype = self._random.choice(["plain", "html", "x-odd"])
        header = f"Content-Type: text/{subtype}; charset={charset}\r\n"
        header += f"Content-Transfer-Encoding: {encoding}\r\n"
        if self._chance(0.2):
            header += f"Content-ID: <{self._random.randrange(100)}@x.example>\r\n"
        if self._chance(0.2):
            header += f"Content-Description: {self._encoded(self._word())}\r\n"
        return header.encode() + b"\r\n" + octets


def by_chance(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Names and messages that are right."""
    for number in range(count):
        yield f"made: {number}", MailMaker(seed * 100_000 + number).message()


def broken_by_chance(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Names and messages that were damaged."""
    for number, message in enumerate(damaged(count, seed)):
        if mended(message).strip():
            yield f"damaged: {number}", mended(message)
