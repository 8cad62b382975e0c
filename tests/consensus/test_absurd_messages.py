"""What a peer may say of terms and indexes: nothing that it says ends a replica, or is stored where
it cannot be gone on from."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmail.consensus import heartbeats
from raftmail.consensus import messages as m
from raftmail.consensus.records import HARD_STATE, encode_vote
from tests.consensus.cluster import Cluster

ABSURD = [2**64 - 1, 2**63, m.NUMBER_MAX + 1, m.NUMBER_MAX, m.TERM_LEAP_MAX + 1000]


def _cluster() -> Cluster:
    cluster = Cluster(3)
    cluster.elect(1)
    cluster.propose(1, b"a", b"b")
    cluster.settle()
    return cluster


_FIELDS: dict[m.Kind, list[object]] = {
    m.Kind.APPEND: [0, 1, 1, 0, [1], [b"\0x"]],
    m.Kind.ACK: [1, 1],
    m.Kind.PREVOTE: [9, 1, 0],
    m.Kind.VOTE: [9, 1, 1],
    m.Kind.TICKET: [9],
    m.Kind.ROUND: [1],
    m.Kind.ASK: [2**64 - 1, 1, 1],
    m.Kind.TELL: [2**64 - 1, 1, 1, 1, 1, 1],
}


@pytest.mark.parametrize("term", ABSURD)
@pytest.mark.parametrize("kind", list(m.Kind))
def test_an_absurd_term_is_refused_without_effect(kind: m.Kind, term: int) -> None:
    cluster = _cluster()
    group = cluster.group(2)
    before = group.term
    data = m.header(kind, group.group, 1, 2, term) + m.encode_fields(_FIELDS.get(kind, []))
    with pytest.raises(m.BadMessage):
        group.receive(cluster.now, data, group.node_of(1) or "")
    assert group.term == before
    assert not group.journal.dirty


@pytest.mark.parametrize("number", ABSURD[:3])
def test_an_absurd_beat_is_refused_without_effect(number: int) -> None:
    cluster = _cluster()
    group = cluster.group(2)
    node = group.node_of(1) or ""
    good = (heartbeats.BEAT, 0, group.group, 1, 2, group.term, 3, group.term, 3, 0)
    for at in (5, 6, 7, 8):
        beat = (*good[:at], number, *good[at + 1 :])
        with pytest.raises(m.BadMessage):
            group.receive_beat(cluster.now, beat, node)  # type: ignore[arg-type]
    assert not group.journal.dirty


_number = st.one_of(st.integers(0, 5), st.sampled_from(ABSURD), st.integers(-(2**63), 2**64 - 1))
_field = st.one_of(
    _number,
    st.binary(max_size=8),
    st.none(),
    st.text(max_size=3),
    st.lists(st.one_of(_number, st.binary(max_size=40)), max_size=3),
)


@settings(max_examples=300)
@given(
    st.integers(0, 255) | st.sampled_from([int(kind) for kind in m.Kind]),
    st.integers(0, 4),
    st.one_of(st.integers(0, 4), st.integers(0, 2**64 - 1)),
    st.lists(_field, max_size=7) | st.sampled_from(list(_FIELDS.values())),
    st.data(),
)
def test_no_message_raises_anything_but_that_it_is_bad(
    kind: int, sender: int, term: int, fields: list[object], data: st.DataObject
) -> None:
    cluster = _shared()
    receiver = data.draw(st.sampled_from([1, 2, 3]))
    group = cluster.group(receiver)
    body = bytearray(m.encode_fields(fields))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, max(0, len(body) - 1)))
        body[at : at + 1] = data.draw(st.binary(max_size=2))
    whole = m._HEADER.pack(m.VERSION, kind, group.group, sender, receiver, term) + bytes(body)
    node = group.node_of(sender) or "n9"
    with suppress(m.BadMessage):
        group.receive(cluster.now, whole, node)
    with suppress(m.BadMessage):
        beat = tuple(data.draw(st.integers(0, 2**64 - 1)) for _ in range(5))
        record = (kind, data.draw(st.integers(0, 255)), group.group, sender, receiver, *beat)
        group.receive_beat(cluster.now, record, node)  # type: ignore[arg-type]
    group.tick(cluster.now)
    group.take_messages()
    group.take_beats()
    assert group.term <= m.NUMBER_MAX


_kept: list[Cluster] = []


def _shared() -> Cluster:
    """One cluster for many messages: nothing that was said before may make the next one worse."""
    if not _kept:
        _kept.append(_cluster())
    return _kept[0]


@pytest.mark.parametrize("term", [2**64 - 1, 2**63])
def test_a_disk_that_took_an_absurd_term_starts_and_leads_again(term: int) -> None:
    cluster = _cluster()
    voted = cluster.group(2).term
    for replica in (1, 2, 3):
        journal = cluster.group(replica).journal
        journal._files.append(HARD_STATE, 0, term, encode_vote(None))  # as an earlier release did
        journal._dirty = True
        cluster.sync(replica)
        cluster[replica].persist()
    for replica in (1, 2, 3):
        cluster[replica].power_loss()
    for replica in (1, 2, 3):
        cluster[replica].start()
        assert voted < cluster.group(replica).term < m.TERM_LEAP_MAX
    for a, b in ((1, 2), (1, 3), (2, 3)):
        cluster.cut(a, b)
        cluster.connect(a, b)
    cluster.elect(2)
    cluster.propose(2, b"c")
    cluster.run(1.0)
    assert cluster.converged()
    for replica in (1, 2, 3):
        cluster[replica].persist()
        cluster[replica].power_loss()
        cluster[replica].start()
        assert cluster.group(replica).term < m.TERM_LEAP_MAX
