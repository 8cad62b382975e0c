"""Base subjects, by the examples and the rules of RFC 5256 section 2.1."""

from __future__ import annotations

import pytest
from hypothesis import given

from raftmail.frontends.imap.subjects import base_subject
from tests.frontends.imap.odd_messages import odd_bytes
from tests.fuzzing import bounded


@pytest.mark.parametrize(
    ("subject", "base", "reply"),
    [
        (b"", "", False),
        (b"aa", "aa", False),
        (b" AA\r\n\t bb ", "aa bb", False),
        (b"Re: aa", "aa", True),
        (b"re [2]: bb", "bb", True),
        (b"RE[2] :bb", "bb", True),
        (b"[Fwd: aa]", "aa", True),
        (b"Fw [x]: cc", "cc", True),
        (b"FWD: Re: fw: cc", "cc", True),
        (b"=?utf-8?q?AA?= (fwd)", "aa", True),
        (b"aa (FWD)(fwd) ", "aa", True),
        (b"[list] Re: aa", "aa", True),
        (b"Re: [list] aa", "aa", True),
        (b"[list] aa", "aa", False),
        (b"[a] [b] aa", "aa", False),
        (b"[list]", "[list]", False),
        (b"[a][b]", "[b]", False),
        (b"Re: [a]", "[a]", True),
        (b"[a] Re: [b] Re: c", "c", True),
        (b"[x] [fwd: [y] re: z (fwd)]", "z", True),
        (b"[fwd: [fwd: a]]", "a", True),
        (b"[fwd: a] b", "b", False),
        (b"[fwd:]", "", True),
        (b"Re:", "", True),
        (b"Re: re", "re", True),
        (b"Regarding: x", "regarding: x", False),
        (b"Aw: x", "aw: x", False),
        (b"re: [a[b]] c", "[a[b]] c", True),
        ("Re: GRÜSSE".encode(), "grüsse", True),
    ],
)
def test_the_base_is_what_is_left_of_a_subject(subject: bytes, base: str, reply: bool) -> None:
    assert base_subject(subject) == (base, reply)


@pytest.mark.parametrize("piece", [b"re:", b"[a]", b"(fwd)", b"[fwd:", b"[", b"]", b" ", b"re[a]"])
def test_long_subjects_are_taken_apart_in_the_time_that_their_length_allows(piece: bytes) -> None:
    """If they were read again after each piece, this would not end for a long time."""
    base_subject(piece * 300_000)
    base_subject(piece * 300_000 + b"x" + b"]" * 300_000)


@bounded
@given(odd_bytes)
def test_a_base_subject_is_its_own_base(subject: bytes) -> None:
    base, _ = base_subject(subject)
    assert base_subject(base.encode()).text == base
