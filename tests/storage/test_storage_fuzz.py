"""Whatever bytes lie on the disk: a decoder of the storage gives the declared error, or a value
that can be used, and never takes a length at its word."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmail.storage import blobformat as bf
from raftmail.storage.blobs import BlobDamaged, BlobError, BlobLimits, BlobMissing, BlobStore
from raftmail.storage.clients import Clients
from raftmail.storage.config_table import check_row
from raftmail.storage.index import TABLES, Index
from raftmail.storage.kv import LmdbEngine
from raftmail.storage.lmdbcheck import FILE, check_pages
from raftmail.storage.mailboxes import read_mailbox, read_text
from raftmail.storage.records import (
    MESSAGE_KEY,
    NUMBER,
    ClientRecord,
    IndexDamaged,
    MailboxRecord,
    seal,
    seal_packed,
    unpack_message,
    unseal_packed,
)
from tests.fuzzing import altered, bounded, bounded_memory
from tests.simulation.disk import SimDisk
from tests.simulation.kv import MemoryEngine

SEEDS = st.integers(0, 1 << 32)
KEY = NUMBER.pack(7)
MAILBOX = MailboxRecord(7, "ann@x.org", "INBOX", b"g" * 16, 3, "")
MAILBOX.add_keywords(("$Later",))
CLIENT = ClientRecord()
CLIENT.results = {4: (3, "BAD", "no"), 5: (1, (2, 3))}
CLIENT.heavy = {5: 2}

_scalars = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=9)
)
_values = st.recursive(
    _scalars | st.text(max_size=5), lambda inner: st.lists(inner, max_size=6), max_leaves=12
)


def _use_mailbox(key: bytes, record: bytes) -> None:
    mailbox = read_mailbox(key, record)
    mailbox.packed()
    mailbox.add_keywords(("$New",))
    assert mailbox.number + mailbox.uidnext + mailbox.highestmodseq + mailbox.messages >= 0
    mailbox.user.lower()
    mailbox.name.lower()


def _use_client(key: bytes, record: bytes) -> None:
    table = MemoryEngine(("clients",)).table("clients")
    table.put(key, record)
    clients = Clients(table)
    client = clients.use(key)
    clients.keep(client, 1 << 40, (1, 2), 0)
    if client.floor < 1 << 40:
        clients.forget(client, 1 << 40)
    clients.flush()


def _use_message(key: bytes, record: bytes) -> None:
    unpack_message(MESSAGE_KEY.pack(7, 9), record)


READERS: dict[str, tuple[bytes, bytes, Callable[[bytes, bytes], Any]]] = {
    "mailboxes": (KEY, seal_packed(KEY, MAILBOX.packed()), _use_mailbox),
    "clients": (b"c" * 16, seal_packed(b"c" * 16, CLIENT.packed()), _use_client),
    "users": (b"ann", seal(b"ann", b"hash"), lambda key, record: read_text("users", key, record)),
    "config": (b"ka", seal_packed(b"ka", (3, 0, b"value")), check_row),
    "messages": (KEY, bytes(100), _use_message),
}


@pytest.mark.parametrize("name", READERS)
@bounded
@given(seed=SEEDS)
def test_a_record_that_was_altered_is_damaged(name: str, seed: int) -> None:
    key, good, read = READERS[name]
    record = altered(good, seed)
    if record != good or name == "messages":
        with pytest.raises(IndexDamaged):
            read(key, record)


@pytest.mark.parametrize("name", ["mailboxes", "clients", "users", "config"])
@bounded
@given(data=st.data())
def test_a_record_with_a_good_checksum_and_other_fields_is_damaged_or_can_be_used(
    name: str, data: st.DataObject
) -> None:
    """As a peer of another release, or one that is broken, may have written it."""
    key, good, read = READERS[name]
    fields: list[Any] = list(
        {"mailboxes": MAILBOX.packed(), "clients": CLIENT.packed()}.get(name, (1, 2, 3))
    )
    for _ in range(data.draw(st.integers(1, 2))):
        fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(_values)
    packed = (
        seal_packed(key, fields)
        if data.draw(st.booleans())
        else seal(key, altered(good[:-4], data.draw(SEEDS)))
    )
    try:
        read(key, packed)
    except IndexDamaged as e:
        assert e.table == name


@bounded
@given(value=_values)
def test_any_value_with_a_good_checksum_is_read_as_it_was_written(value: Any) -> None:
    def plain(x: Any) -> Any:
        return tuple(map(plain, x)) if isinstance(x, list) else x

    assert unseal_packed("local", KEY, seal_packed(KEY, value)) == plain(value)


# -- bodies


def _segment() -> tuple[SimDisk, dict[bytes, bytes]]:
    """A store of a few bodies, short, long and compressed, in some segments."""
    disk = SimDisk(1)
    index = Index(MemoryEngine(TABLES))
    store = BlobStore.open(disk, "b", index, LIMITS)
    rng = random.Random(5)
    bodies = {}
    for size in (0, 1, 500, 3000, 40_000, 900):
        body = (b"compress me " * size)[:size] if size == 40_000 else rng.randbytes(size)
        bodies[sha256(body).digest()] = body
        store.append(sha256(body).digest(), body)
    store.place_pending()
    store.close()
    return disk, bodies


LIMITS = BlobLimits(segment_bytes_max=4000, free_bytes_min=0, alloc_bytes_min=512)


@bounded
@given(data=st.binary(max_size=80), seed=SEEDS)
def test_a_header_of_a_body_is_one_or_none(data: bytes, seed: int) -> None:
    good = bf.encode_header(b"d" * 32, 5, 5, 1, 0, bf.seed_of(3) + 32)
    assert bf.decode_header(data, 3, 32) is None
    changed = altered(good, seed)
    found = bf.decode_header(changed, 3, 32)
    assert (found is None) == (changed[: bf.HEADER_BYTES] != good)


@bounded
@given(
    stored=st.binary(max_size=60), raw=st.sampled_from([0, 5, (1 << 32) - 1]), zstd=st.booleans()
)
def test_a_body_that_does_not_have_its_hash_is_none_and_no_length_is_believed(
    stored: bytes, raw: int, zstd: bool
) -> None:
    from zlib import crc32

    import zstandard

    huge = zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1 << 20))
    # A frame that says of itself that it has 2^60 bytes (RFC 8878, section 3.1.1.1).
    lying = b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little") + b"\x01\x00\x00"
    for body in (stored, huge, lying, altered(huge, len(stored))):
        place = bf.BlobPlace(3, 32, len(body))
        header = bf.BlobHeader(place, b"d" * 32, raw, crc32(body), bf.ZSTD if zstd else 0)
        with bounded_memory():
            assert bf.decode_body(header, body) is None


@bounded
@given(seed=SEEDS)
def test_a_store_with_altered_segments_gives_each_body_or_says_that_it_is_damaged(
    seed: int,
) -> None:
    disk, bodies = _segment()
    rng = random.Random(seed)
    name = f"b/{rng.choice(disk.listdir('b'))}"
    disk.put(name, altered(disk.content(name), seed))
    index = Index(MemoryEngine(TABLES))
    with bounded_memory():
        store = BlobStore.open(
            disk, "b", index, LIMITS, without_missing=True, by_headers=rng.random() < 0.5
        )
        for digest, body in bodies.items():
            try:
                assert store.get(digest) == body
            except (BlobDamaged, BlobMissing):
                store.replace(digest, body)
                assert store.get(digest) == body
        store.close()


@bounded
@given(place=st.binary(max_size=30))
def test_a_place_is_what_was_packed_or_no_place(place: bytes) -> None:
    try:
        assert bf.pack_place(bf.unpack_place(place)) == place
    except ValueError:
        assert len(place) != 16
    assert issubclass(BlobDamaged, BlobError)


# -- pages


def test_no_altered_environment_ends_the_check_of_its_pages_with_another_error(
    tmp_path: Path,
) -> None:
    engine = LmdbEngine(tmp_path, ("a", "b"))
    for at in range(400):
        engine.table("a").put(b"%04d" % at, bytes(at * 20 % 9000))
    engine.commit()
    engine.close()
    good = (tmp_path / FILE).read_bytes()
    with bounded_memory():
        for seed in range(60):
            (tmp_path / FILE).write_bytes(altered(good, seed))
            said = check_pages(tmp_path)
            assert said == "" or FILE in said
