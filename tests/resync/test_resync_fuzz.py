"""Messages of a resync that are nearly right, in frames whose checksums fit: the session fails by
name, or what came is what was sent."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from dataclasses import replace
from zlib import crc32

import pytest
import zstandard

from raftmail.resync.frames import HEAD, Encoder, Link
from raftmail.resync.limits import ResyncError
from raftmail.resync.requests import ANSWER, RequestKind, decode_accepted, encode_accepted
from raftmail.resync.sink import SinkPhase
from tests.fuzzing import altered, bounded_memory
from tests.resync.ends import CLUSTER, Pipe, assert_equal, resync
from tests.resync.test_resync_resume import frames_needed, pair

_TURNS_MAX = 3000


def _sealed(frame: bytes, seed: int) -> bytes:
    """The frame with its payload altered, and length and checksum as they should be then."""
    version, kind, _, identity, session, message, _, offset, _, _ = HEAD.unpack_from(frame)
    part, flags = frame[HEAD.size :], HEAD.unpack_from(frame)[2]
    if flags:
        part = zstandard.ZstdDecompressor().decompress(part)
    part = altered(part, seed)[: 64 << 10]
    length = len(part)
    head = HEAD.pack(
        version, kind, 0, identity, session, message, length + offset, offset, length, 0
    )[:-4]
    return head + crc32(part, crc32(head)).to_bytes(4, "big") + part


@pytest.mark.parametrize("empty", [False, True])
def test_an_answer_that_was_altered_ends_the_session_or_changes_nothing(empty: bool) -> None:
    last = frames_needed(empty)
    rng = random.Random(last)
    failed = 0
    for seed in range(40):
        giver, target, _ = pair(empty)
        applied = target.index.applied_index
        at = rng.randint(1, last)

        def change(number: int, frame: bytes, at: int = at, seed: int = seed) -> Iterable[bytes]:
            return (_sealed(frame, seed) if number == at else frame,)

        with bounded_memory():
            pipe = Pipe(target, giver, alter=change)
            for _ in range(_TURNS_MAX):
                if not target.sink.active or not pipe.turn():
                    break
        pipe.close()
        if target.sink.active:  # it waits for what will not come any more
            target.sink.lost(pipe.now, "the link is gone")
        if target.sink.error is not None:
            failed += 1
            assert "giver" in str(target.sink.error)
            assert target.sink.phase == SinkPhase.WAITING
        resync(target, giver, 2, records=target.index.applied_index == applied or target.sink.holds)
        assert_equal(target, giver)
    assert failed > 10


def test_a_request_that_was_altered_is_answered_or_refused_and_never_more() -> None:
    refused = 0
    for seed in range(60):
        giver, target, _ = pair(seed % 2 == 0)
        rows = giver.rows()
        pipe = Pipe(target, giver)
        with bounded_memory():
            for number in range(12):
                target.sink.step(0.0)
                for frame in target.sink.take_frames():
                    sent = _sealed(frame, seed) if number == seed % 6 else frame
                    with contextlib.suppress(ResyncError):
                        pipe.source.receive(0.0, sent)
                with contextlib.suppress(ResyncError):
                    pipe.source.step(0.0, 1 << 20)
                for frame in pipe.source.take_frames():
                    target.sink.receive(0.0, frame)
        pipe.close()
        refused += target.sink.error is not None
        assert giver.rows() == rows, "a source is only read"
    assert refused > 10


@pytest.mark.parametrize("behind", [0, 1, 5])
def test_a_source_that_stands_behind_its_sink_or_no_further_is_none(behind: int) -> None:
    """The source refuses by itself; one of another release, or one that is broken, may not."""
    giver, target, _ = pair()
    applied, rows = target.index.applied_index, target.rows()

    def change(number: int, frame: bytes) -> Iterable[bytes]:
        if number != 1:
            return (frame,)
        part = frame[HEAD.size :]
        if HEAD.unpack_from(frame)[2]:
            part = zstandard.ZstdDecompressor().decompress(part)
        accepted = replace(decode_accepted(part), applied_index=applied - behind)
        return Encoder(Link(CLUSTER, 7, "giver"), 1).frames(
            ANSWER + RequestKind.HELLO, encode_accepted(accepted)
        )

    pipe = Pipe(target, giver, alter=change)
    for _ in range(50):
        if target.sink.active:
            pipe.turn()
    pipe.close()
    assert "not ahead" in str(target.sink.error)
    assert target.rows() == rows and not target.sink.holds
