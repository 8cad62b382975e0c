"""Words of commands, in whatever pieces they come."""

from __future__ import annotations

import pytest

from raftmail.mail.sieve_words import (
    SieveReader,
    SieveWord,
    SieveWordsEndless,
    SieveWordsWrong,
)

WHOLE = (
    b'PUTSCRIPT "a\\"b\\\\c" {9+}\r\nkeep;\r\n"}\r\nnoop\r\nHAVESPACE {1}\r\nx 17\r\n"" \r\n\r\n'
)
WORDS = [
    [(False, b"PUTSCRIPT"), (True, b'a"b\\c'), (True, b'keep;\r\n"}')],
    [(False, b"noop")],
    [(False, b"HAVESPACE"), (True, b"x"), (False, b"17")],
    [(True, b"")],
    [],
]


def reader(string_bytes_max: int = 2000) -> SieveReader:
    return SieveReader(500, string_bytes_max, 10_000)


def taken(found: SieveReader) -> list[list[tuple[bool, bytes]]]:
    every = []
    while (words := found.take()) is not None:
        every.append([(word.is_string, word.data) for word in words])
    return every


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_commands_are_the_same_in_pieces_of_any_size(size: int) -> None:
    found, every = reader(), []
    for at in range(0, len(WHOLE), size):
        found.feed(WHOLE[at : at + size])
        every += taken(found)
    assert every == WORDS
    assert not found.unread_bytes


@pytest.mark.parametrize("size", [1, 100, 100_000])
def test_a_string_that_is_too_long_is_read_past_and_told(size: int) -> None:
    found, every = reader(string_bytes_max=50), []
    whole = b"CHECKSCRIPT {9000+}\r\n" + b"x" * 9000 + b"\r\nNOOP\r\n"
    for at in range(0, len(whole), size):
        found.feed(whole[at : at + size])
        while (words := found.take()) is not None:
            every.append(words)
        assert found.unread_bytes < 200 or size > 200
    assert every == [
        [SieveWord(False, b"CHECKSCRIPT"), SieveWord(True, b"", 9000)],
        [SieveWord(False, b"NOOP")],
    ]


@pytest.mark.parametrize(
    "line",
    [
        b'PUTSCRIPT "a\\x"',
        b'"never ends',
        b"{x+}",
        b"{5",
        b"(a)",
        b"\xff",
        b"a b c d e f g h i",
        b"\0",
    ],
)
def test_a_line_that_is_no_command_is_refused_and_the_next_is_read(line: bytes) -> None:
    found = reader()
    found.feed(line + b"\r\nNOOP\r\n")
    with pytest.raises(SieveWordsWrong):
        found.take()
    assert taken(found) == [[(False, b"NOOP")]]


@pytest.mark.parametrize(
    "data",
    [
        b"{4294967296+}\r\n",
        b" " * 3000,
        b'"' + b"x" * 9000,
        b"x" * 9000,
        b"{10001+}\r\n",
        b"(" * 3000,
    ],
)
def test_what_has_no_end_is_given_up(data: bytes) -> None:
    found = reader()
    with pytest.raises(SieveWordsEndless):
        for at in range(0, len(data), 100):
            found.feed(data[at : at + 100])
            assert found.take() is None
