"""The end of a message and its dots, against a twin that splits lines."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from raftmail.frontends.lmtp.text import MessageText, TextDecoder

PIECES = st.lists(
    st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"..", b"\r\n.", b"\r\n.\r\n", b"\0"]),
    max_size=30,
).map(b"".join)


def twin(data: bytes) -> tuple[bytes, bytes] | None:
    """The message and what follows it, by the letter of RFC 5321 section 4.5.2."""
    lines = data.split(b"\r\n")
    for index, line in enumerate(lines[:-1]):
        if line == b".":
            message = [line.removeprefix(b".") + b"\r\n" for line in lines[:index]]
            return b"".join(message), b"\r\n".join(lines[index + 1 :])
    return None


def decode(chunks: list[bytes]) -> tuple[bytes, bytes] | None:
    decoder = TextDecoder(1000)
    for index, chunk in enumerate(chunks):
        end = decoder.feed(b"skipped" + chunk, 7)
        if end >= 0:
            return decoder.body.take(), (b"skipped" + chunk)[end:] + b"".join(chunks[index + 1 :])
    return None


@given(data=PIECES, cuts=st.lists(st.integers(0, 60)))
@example(data=b".\r\nrest", cuts=[1])
@example(data=b"..\r\n.\r\n", cuts=[])
@example(data=b"\r\n.\r\n", cuts=[2])
@example(data=b"a\r\r\n.\r\n", cuts=[2, 4])
def test_text_is_what_the_lines_say(data: bytes, cuts: list[int]) -> None:
    at = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in itertools.pairwise(at)]
    assert decode(chunks) == twin(data)


@given(message=PIECES)
def test_stuffed_text_comes_back(message: bytes) -> None:
    message += b"\r\n"
    stuffed = b"".join(
        (b"." if line.startswith(b".") else b"") + line + b"\r\n"
        for line in message.split(b"\r\n")[:-1]
    )
    assert decode([stuffed + b".\r\n"]) == (message, b"")


def test_a_body_over_its_limit_holds_nothing() -> None:
    body = MessageText(10)
    body.add(b"12345")
    body.add(b"67890")
    assert (body.held_bytes, body.is_over) == (10, False)
    body.add(b"1")
    body.add(b"2" * 1000)
    assert (body.held_bytes, body.is_over, body.size_bytes) == (0, True, 1011)


def test_a_body_in_one_piece_is_not_copied() -> None:
    body = MessageText(10)
    piece = b"12345"
    body.add(piece)
    assert body.take() is piece
