"""The lines in which SASL messages travel."""

from __future__ import annotations

import pytest

from raftmail.frontends.sasl.base64_lines import (
    LINE_BYTES_MAX,
    SaslCancelled,
    SaslSyntaxError,
    decode_answer,
    decode_initial,
    encode,
)


def test_what_is_encoded_is_decoded() -> None:
    for size in range(20):
        data = bytes(range(200, 200 + size))
        assert decode_answer(encode(data)) == data
        assert not size or decode_initial(encode(data)) == data


def test_an_empty_answer_is_an_empty_line_or_with_the_command_an_equals_sign() -> None:
    assert decode_answer(b"") == b""
    assert decode_initial(b"=") == b""
    for bad in (b"=", b"=="):
        with pytest.raises(SaslSyntaxError):
            decode_answer(bad)
    with pytest.raises(SaslSyntaxError):
        decode_initial(b"")


def test_an_asterisk_gives_up_and_only_as_an_answer() -> None:
    with pytest.raises(SaslCancelled):
        decode_answer(b"*")
    with pytest.raises(SaslSyntaxError):
        decode_initial(b"*")


@pytest.mark.parametrize(
    "line",
    [
        b"A",
        b"AA",
        b"AAA",
        b"AAAA=",
        b"AA==AA==",
        b"AA ==",
        b" AAAA",
        b"AAAA ",
        b"AA-_",
        b"\xff\xff\xff\xff",
        b"AAAA\x00",
        b"AB==",
        b"AAB=",
        b"secret",
        b"A" * (LINE_BYTES_MAX + 4),
    ],
)
def test_what_is_no_strict_base64_is_refused_without_being_repeated(line: bytes) -> None:
    for decode in (decode_answer, decode_initial):
        with pytest.raises(SaslSyntaxError) as caught:
            decode(line)
        assert "secret" not in str(caught.value)
