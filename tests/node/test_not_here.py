"""A node answers a sink for whose shard it has no open replica: it shall not wait for anything from
here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from raftmail.node.node import Node
from raftmail.resync.frames import Encoder, Link
from raftmail.resync.requests import RequestKind, ResyncHello, encode_hello
from raftmail.resync.sink import Sink
from raftmail.shard.frames import FrameKind
from tests.resync.ends import Node as Replica

CLUSTER = "cluster of tests"


def _node(sent: list[tuple[str, int, str, Any]]) -> Any:
    return SimpleNamespace(
        _runners={},
        config=SimpleNamespace(cluster=SimpleNamespace(id=CLUSTER)),
        send=lambda *frame: sent.append(frame),
    )


def test_a_sink_that_asks_where_no_replica_is_open_is_refused_and_may_ask_elsewhere() -> None:
    sink: Sink = Replica("n2").sink
    sink.start(0.0, "n1", 5, records=True, full=False)
    sink.step(0.0)
    sent: list[tuple[str, int, str, Any]] = []
    for frame in sink.take_frames():
        Node._on_frame(_node(sent), "n2", 7, FrameKind.SYNC, frame)
    ((to, shard, kind, (answer,)),) = sent
    assert (to, shard, kind) == ("n2", 7, FrameKind.SYNC)
    sink.receive(0.0, answer)
    assert not sink.active
    assert sink.error is not None and sink.error.elsewhere
    assert "shard 7 with n1: it has no replica that is open" in str(sink.error)


def test_a_sink_in_the_middle_of_a_session_hears_it_at_once() -> None:
    sink: Sink = Replica("n2").sink
    sink.start(0.0, "n1", 5, records=True, full=False)
    sink.step(0.0)
    sink.take_frames()
    sent: list[tuple[str, int, str, Any]] = []
    encoder = Encoder(Link(CLUSTER, 7, "n2"), 5)
    for frame in encoder.frames(RequestKind.CUT, encode_hello(ResyncHello(1, True, True, False))):
        Node._on_frame(_node(sent), "n2", 7, FrameKind.SYNC, frame)
    ((*_, (answer,)),) = sent
    sink.receive(3.0, answer)
    assert not sink.active and sink.error is not None
