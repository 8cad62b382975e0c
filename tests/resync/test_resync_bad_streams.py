"""A stream that is not as it should be is refused, by name, and nothing of it is applied (P8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.mail.packing import CodecError, pack, unpack
from raftmail.resync import requests as r
from raftmail.resync.frames import HEAD, Decoder, Encoder, Link
from raftmail.resync.limits import ResyncError
from raftmail.resync.requests import ANSWER, RequestKind
from raftmail.resync.sink import SinkPhase
from tests.resync.ends import CLUSTER, Node, Pipe, assert_equal, resync
from tests.resync.test_resync_resume import frames_needed, pair

LINK = Link(CLUSTER, 7, "giver")
FIELDS = (
    *("version", "kind", "flags", "identity", "session"),
    *("message", "total", "offset", "length", "crc"),
)
Alter = Callable[[bytes], Iterable[bytes]]


def sealed(frame: bytes, **fields: int | bytes) -> bytes:
    """The frame with some fields of its head changed, and its checksum right."""
    values = dict(zip(FIELDS, HEAD.unpack_from(frame), strict=True)) | fields
    part = frame[HEAD.size :]
    head = HEAD.pack(*values.values())[:-4]
    return head + crc32(part, crc32(head)).to_bytes(4, "big") + part


def grown(frame: bytes) -> bytes:
    length, flags = HEAD.unpack_from(frame)[8], HEAD.unpack_from(frame)[2]
    if flags:
        return sealed(frame, length=length - 1, total=length - 1)
    return sealed(frame + b"more", length=length + 4)


BAD: dict[str, tuple[Alter, str]] = {
    "cut short": (lambda f: [f[: HEAD.size - 3]], "cut short"),
    "truncated": (lambda f: [f[:-1]], "checksum"),
    "a flipped bit": (lambda f: [f[:-1] + bytes([f[-1] ^ 1])], "checksum"),
    "a flipped head": (lambda f: [f[:30] + bytes([f[30] ^ 4]) + f[31:]], "checksum"),
    "another version": (lambda f: [sealed(f, version=9)], "version 9"),
    "another shard": (
        lambda f: [sealed(f, identity=Link(CLUSTER, 8, "giver").identity())],
        "another cluster or shard",
    ),
    "another cluster": (
        lambda f: [sealed(f, identity=Link("foreign", 7, "giver").identity())],
        "another cluster or shard",
    ),
    "another session": (lambda f: [sealed(f, session=77)], "session"),
    "replayed": (lambda f: [f, f], "again|was not asked|not as it"),
    "out of order": (
        lambda f: [sealed(f, message=HEAD.unpack_from(f)[5] + 1)],
        "comes after",
    ),
    "more than announced": (lambda f: [grown(f)], "announced|decompress|longer"),
    "huge": (lambda f: [sealed(f, total=2**32 - 1)], "more than"),
    "unknown flags": (lambda f: [sealed(f, flags=2)], "flags"),
    "another kind": (lambda f: [sealed(f, kind=ANSWER + RequestKind.BODIES + 40)], "not asked"),
    "not asked for": (lambda f: [sealed(f, kind=ANSWER + RequestKind.SUMMARIES)], "kind"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_ends_the_session_and_nothing_is_applied(name: str) -> None:
    alter, says = BAD[name]
    last = frames_needed(empty=False)
    for at in (2, 6, last // 2):
        giver, target, _ = pair()
        before, applied = target.rows(), target.index.applied_index

        def altered(number: int, frame: bytes, at: int = at) -> Iterable[bytes]:
            if number < at:
                return (frame,)
            return alter(frame) if number == at else ()

        pipe = Pipe(target, giver, alter=altered)
        for _ in range(2000):
            if not target.sink.active:
                break
            pipe.turn()
        pipe.close()
        error = target.sink.error
        assert error is not None, f"at {at}"
        assert "shard 7" in str(error) and "giver" in str(error)
        assert any(part in str(error) for part in says.split("|")), str(error)
        assert target.sink.phase == SinkPhase.WAITING
        if target.sink.mark is None and target.index.applied_index == applied:
            assert target.rows() == before
        resync(target, giver, 2, records=target.index.applied_index == applied)
        assert_equal(target, giver)


def _rows(change: Callable[[list[tuple[bytes, bytes]]], object]) -> Callable[[bytes], bytes | None]:
    def altered(payload: bytes) -> bytes | None:
        answer = r.decode_rows(payload)
        rows = list(answer.rows)
        if not rows:
            return None
        change(rows)
        return pack((rows, answer.whole, answer.at))

    return altered


def _changed(change: Callable[[r.Changed], r.Changed]) -> Callable[[bytes], bytes | None]:
    def altered(payload: bytes) -> bytes | None:
        answer = r.decode_changed(payload)
        if len(answer.bodies) < 300:
            return None
        return r.encode_changed(change(answer))

    return altered


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


LIES: dict[str, tuple[RequestKind, Callable[[bytes], bytes | None]]] = {
    "a damaged row": (
        RequestKind.ROWS,
        _rows(lambda rows: rows.append((rows.pop()[0], b"rotten"))),
    ),
    "a row that was not asked for": (
        RequestKind.ROWS,
        _rows(lambda rows: rows.insert(0, (b"\0", b""))),
    ),
    "rows out of order": (RequestKind.ROWS, _rows(lambda rows: rows.append(rows[0]))),
    "more rows to come where there can be none": (
        RequestKind.ROWS,
        lambda payload: pack((r.decode_rows(payload).rows, 9, b"\xff")),
    ),
    "a changed flag": (
        RequestKind.CHANGES,
        _changed(lambda x: r.Changed(x.more, _flip(x.bodies, 12), x.summaries)),
    ),
    "a changed UID": (
        RequestKind.CHANGES,
        _changed(lambda x: r.Changed(x.more, b"\xff\xff\xff" + x.bodies[3:], x.summaries)),
    ),
    "a change given twice": (
        RequestKind.CHANGES,
        _changed(lambda x: r.Changed(x.more, x.bodies + x.bodies[:93], x.summaries)),
    ),
    "a summary too few": (
        RequestKind.CHANGES,
        _changed(lambda x: r.Changed(x.more, x.bodies, x.summaries[1:] or (b"x",))),
    ),
    "no digests": (RequestKind.CUT, lambda payload: pack(((), 1, b""))),
    "an empty digest": (RequestKind.DIGEST, lambda payload: b""),
    "another digest": (RequestKind.DIGEST, lambda payload: _flip(payload, 3)),
    "another body": (
        RequestKind.BODIES,
        lambda payload: pack([b"another"] * len(r.decode_bodies(payload, 1000))),
    ),
    "more bodies than asked for": (
        RequestKind.BODIES,
        lambda payload: pack([*r.decode_bodies(payload, 1000), *[b""] * 1000]),
    ),
    "an earlier state": (
        RequestKind.HELLO,
        lambda payload: pack((1, *unpack(payload)[1:])),
    ),
    "no msgpack": (RequestKind.EXPUNGES, lambda payload: b"\xc1"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_answer_that_lies_is_refused_and_an_honest_source_puts_it_right(name: str) -> None:
    kind, lie = LIES[name]
    giver, target, _ = pair()
    applied = target.index.applied_index
    target.sink.start(0.0, "giver", 1, records=True, full=False)
    source = giver.source("target", 1, 0.0, None)
    encoder, decoder = Encoder(LINK, 1), Decoder(LINK, 1, 1 << 28)
    lied = False
    for _ in range(5000):
        target.sink.step(0.0)
        for frame in target.sink.take_frames():
            source.receive(0.0, frame)
        source.step(0.0, 1 << 20)
        for frame in source.take_frames():
            message = decoder.feed(frame)
            if message is None:
                continue
            payload = message[1]
            if message[0] == ANSWER + kind and not lied:
                altered = lie(payload)
                if altered is not None:
                    lied, payload = True, altered
            for made in encoder.frames(message[0], payload):
                target.sink.receive(0.0, made)
        if not target.sink.active:
            break
    source.close()
    assert lied
    error = target.sink.error
    if error is None:
        # A flag that was changed on the way does not give the digest: all was compared again.
        assert name == "a changed flag"
    else:
        assert "shard 7" in str(error) and "giver" in str(error)
        if kind != RequestKind.BODIES:
            assert target.index.applied_index == applied
        resync(target, giver, 2, records=target.index.applied_index == applied)
    assert_equal(target, giver)
    assert target.sink.missing.total() == (0, 0)


def test_a_half_replica_is_no_source() -> None:
    giver, target, _ = pair(empty=True)
    pipe = Pipe(target, giver)
    while target.sink.mark is None:
        pipe.turn()
    third = Node("third")
    pipe = Pipe(third, target)
    pipe.run()
    assert third.sink.error is not None and "is no source" in str(third.sink.error)


def test_a_source_that_is_behind_refuses() -> None:
    giver, target, _ = pair()
    pipe = Pipe(giver, target)
    pipe.run()
    assert giver.sink.error is not None and "behind" in str(giver.sink.error)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (RequestKind.HELLO, b""),
        (RequestKind.HELLO, pack((1, True, 1))),
        (99, b""),
        (RequestKind.CUT, pack(("places", 5, ((b"", b""),)))),
        (RequestKind.CUT, pack(("mailboxes", 0, ((b"", b""),)))),
        (RequestKind.ROWS, pack(("meta", ((b"", b""),)))),
        (RequestKind.ROWS, pack(("users", ((b"b", b"a"),)))),
        (RequestKind.ROWS, pack(("users", ()))),
        (RequestKind.CHANGES, pack((2**64 - 1, 0, 0, 0))),
        (RequestKind.SUMMARIES, pack((1, (4000,)))),
        (RequestKind.BODIES, b"short"),
        (RequestKind.EXPUNGES, pack((1, 1, b"x", 0))),
    ],
)
def test_a_bad_request_ends_the_session_of_the_source(kind: int, payload: bytes) -> None:
    giver, _, _ = pair()
    source = giver.source("target", 1, 0.0, None)
    encoder = Encoder(LINK, 1)
    if kind != RequestKind.HELLO:
        hello = r.encode_hello(r.ResyncHello(0, True, False, False))
        for frame in encoder.frames(RequestKind.HELLO, hello):
            source.receive(0.0, frame)
        source.step(0.0, 1 << 20)
    with pytest.raises(ResyncError, match="shard 7"):
        for frame in encoder.frames(kind, payload):
            source.receive(0.0, frame)
        source.step(0.0, 1 << 20)
    assert source.closed


def test_more_requests_than_may_wait_end_the_session() -> None:
    giver, _, _ = pair()
    source = giver.source("target", 1, 0.0, None)
    encoder = Encoder(LINK, 1)
    hello = r.encode_hello(r.ResyncHello(0, True, False, False))
    with pytest.raises(ResyncError, match="requests wait"):
        for kind in [RequestKind.HELLO] + [RequestKind.DIGEST] * 100:
            for frame in encoder.frames(kind, hello if kind == RequestKind.HELLO else b""):
                source.receive(0.0, frame)


DECODERS: list[Callable[[bytes], object]] = [
    r.decode_hello,
    r.decode_accepted,
    r.decode_cut,
    r.decode_pieces,
    r.decode_fetch,
    r.decode_rows,
    r.decode_expunges,
    r.decode_expunge_rows,
    r.decode_changes,
    r.decode_changed,
    r.decode_summaries,
    r.decode_hashes,
    lambda data: r.decode_bodies(data, 5),
]
VALUES = st.recursive(
    st.one_of(
        st.integers(-5, 2**64 - 1),
        st.binary(max_size=40),
        st.booleans(),
        st.none(),
        st.text(max_size=5),
    ),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.one_of(st.binary(max_size=80), st.lists(VALUES, max_size=6).map(pack)))
def test_decoders_give_a_value_or_a_codec_error(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except CodecError:
            pass
    r.decode_refusal(data)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 250), st.binary(max_size=200_000)), max_size=3), st.data())
def test_frames_come_back_as_they_went_or_are_refused(
    messages: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    encoder = Encoder(LINK, 5)
    frames = [frame for kind, payload in messages for frame in encoder.frames(kind, payload)]
    decoder = Decoder(LINK, 5, 1 << 20)
    assert [m for f in frames if (m := decoder.feed(f)) is not None] == messages
    if frames:
        at = data.draw(st.integers(0, len(frames) - 1))
        bit = data.draw(st.integers(0, len(frames[at]) * 8 - 1))
        broken = bytearray(frames[at])
        broken[bit // 8] ^= 1 << bit % 8
        decoder = Decoder(LINK, 5, 1 << 20)
        for frame in frames[:at]:
            decoder.feed(frame)
        with pytest.raises(ResyncError):
            decoder.feed(bytes(broken))
