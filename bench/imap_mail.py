"""Messages of several shapes and lengths, the same for every server."""

from __future__ import annotations

import random

_TEXT = """the of and to in is that for it with as was on be at by this had from are which report
meeting invoice schedule question answer number holiday project budget letter"""
WORDS = _TEXT.split()


def make_message(number: int) -> bytes:
    """Message `number`: text, or text and HTML, or with an attachment; 1 to 30 KB."""
    rng = random.Random(number)
    text = _text(rng, rng.choice((40, 200, 800)))
    head = (
        f"From: Sender {number % 97} <sender{number % 97}@example.net>\r\n"
        f"To: Ann Example <ann@example.org>, Bob <bob{number % 13}@example.org>\r\n"
        f"Subject: {' '.join(rng.sample(WORDS, 4))} {number}\r\n"
        f"Date: Tue, {1 + number % 28} Nov 2023 22:13:{number % 60:02} +0000\r\n"
        f"Message-ID: <{number}.{rng.randrange(10**9)}@example.net>\r\n"
        f"References: <{number - 1}@example.net>\r\nMIME-Version: 1.0\r\n"
    )
    shape = number % 4
    if shape < 2:
        return f"{head}Content-Type: text/plain; charset=utf-8\r\n\r\n{text}".encode()
    parts = [f"Content-Type: text/plain; charset=utf-8\r\n\r\n{text}"]
    if shape == 2:
        parts.append(f"Content-Type: text/html; charset=utf-8\r\n\r\n<p>{text}</p>")
        kind = "alternative"
    else:
        octets = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh0123456789", k=57))
        name = f"Content-Disposition: attachment; filename=file{number}.bin"
        encoded = f"{octets}\r\n" * rng.choice((40, 300))
        kind = "mixed"
        parts.append(
            "Content-Type: application/octet-stream\r\n"
            f"{name}\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}"
        )
    inner = "".join(f"--b{number}\r\n{part}\r\n" for part in parts)
    head += f"Content-Type: multipart/{kind}; boundary=b{number}\r\n\r\n"
    return f"{head}{inner}--b{number}--\r\n".encode()


def _text(rng: random.Random, words: int) -> str:
    chosen = rng.choices(WORDS, k=words)
    lines = [" ".join(chosen[at : at + 12]) for at in range(0, words, 12)]
    return "\r\n".join(lines) + "\r\n"
